"""The line ``python -m conformance``: hands over to ``python -m commands diff`` and ``merge``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from commands import command, diff, merge


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    return command.main(
        [diff.COMMAND, merge.COMMAND], "python -m conformance", "Compare the results of runs of the suite.", words
    )


if __name__ == "__main__":
    sys.exit(main())
