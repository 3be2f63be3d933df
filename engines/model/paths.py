"""Whether there is a file or a folder of a name that somebody gives, which may be none that a path can have."""

from __future__ import annotations

import os
from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether there is such a file; none has a name that is too long, for which Path raises until Python 3.14."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; see :func:`is_file`."""
    return os.path.isdir(path)  # noqa: PTH112
