"""Runs a command and ends with its code, once all it has started has ended: ``python waited.py COMMAND WORD …``.

Who waits for this process is told the CPU time of all of them. A server that others were forked from outlives the
command, and its time would count nowhere: on Linux it becomes a child of this process. It needs nothing but Python.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of Linux' prctl, for which Python has no name."""


def main(command: list[str]) -> int:
    """Exit code of the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    code = subprocess.call(command)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
