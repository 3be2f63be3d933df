"""SHA-256 of files, read once in a process as long as they stay what they are."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

SETTLED_NS = 2_000_000_000
"""A file that was touched within this time is hashed each time: clocks of file systems tick that slowly."""

_hashes: dict[tuple[int, int, int, int, int], str] = {}


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's content.

    Read once in this process as long as the system holds it for the same file, untouched: inode, size, and the times of
    its last change, of which the second (ctime) nobody can set.
    """
    with path.open("rb", buffering=0) as file:
        seen = _state(file.fileno())
        if (known := _hashes.get(seen)) is not None:
            return known
        # hashlib.file_digest would do, from Python 3.11 on.
        digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
        found = digest.hexdigest()
        if _state(file.fileno()) == seen and time.time_ns() - max(seen[3:]) > SETTLED_NS:
            _hashes[seen] = found
    return found


def folder_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of every file of a folder, by its path in it."""
    return {f.relative_to(folder).as_posix(): file_hash(f) for f in sorted(folder.rglob("*")) if f.is_file()}


def _state(descriptor: int) -> tuple[int, int, int, int, int]:
    """What tells an open file from any other, and from itself before a change: the two times are last."""
    stat = os.fstat(descriptor)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
