"""How much memory this process can still take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
"""Where Linux says what the machine has free, and what a container may take."""


def available() -> int:
    """Bytes that this process can take: what the machine has free, or its container where that is less.

    Where the system does not say what is free, that is all the memory there is.
    """
    return min(_said(), default=_all())


def _said() -> Iterator[int]:
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="ascii").splitlines())
        yield int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        # The limit is the word "max" where there is none.
        limit = int((CGROUP / "memory.max").read_text(encoding="ascii"))
        yield max(limit - int((CGROUP / "memory.current").read_text(encoding="ascii")), 0)
    except (OSError, ValueError):
        pass


def _all() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
