"""Arrays in ``.npz`` and ``.npy`` files: what they declare is looked at before it is read, and no code is run."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engines.errors import DataError
from engines.model.memory import available
from engines.model.paths import is_file
from engines.tools import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    MemoryError,
    OverflowError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
"""What NumPy and zipfile raise for a damaged ``.npz``, depending on where the damage is."""

SHARE = 0.5
"""The share of the memory that is free which a file's arrays may take: checks and runs need some as well."""

MAGIC = b"\x93NUMPY"
"""What an ``.npy`` starts with."""

UNNAMED = ""
"""Stands for the name of an array that has none: the samples of a model's only input."""

IN_PARTS = "give them in parts, --samples=FOLDER of smaller .npz files"
"""What to do with samples that are too many for one file."""


class Header(NamedTuple):
    """What an array is, without its values."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes of its values."""
        return self.dtype.itemsize * math.prod(self.shape)


def load_npz(path: Path, what: str, instead: str = IN_PARTS) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz`` by name; ``what`` is what messages call it, ``instead`` what to do where it is too large.

    Raises DataError for anything else, for pickled objects, and for more than SHARE of the memory that is free.
    """
    if not is_file(path):
        raise DataError(f"{what}: no such file; expected an .npz made by numpy.savez")
    try:
        # NumPy leaves a damaged file open where it opens it by itself.
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
            if start == MAGIC:
                raise DataError(f"{what}: is an .npy of one unnamed array; expected an .npz made by numpy.savez")
            # NumPy would take anything else for a pickle.
            if not start.startswith(b"PK"):
                raise DataError(f"{what}: is no .npz, it starts with {start!r}; expected an .npz made by numpy.savez")
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                refuse_too_large(_declared(archive), what, instead)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays_of:
                arrays = dict(arrays_of)
    except DAMAGED as error:
        if "pickle" in str(error).lower():
            raise DataError(f"{what}: holds pickled objects, which can run code; expected plain arrays") from error
        raise DataError(
            f"{what}: cannot be read: {one_line(str(error))}; expected an .npz made by numpy.savez"
        ) from error
    if foreign := sorted(name for name, array in arrays.items() if not isinstance(array, np.ndarray)):
        raise DataError(f"{what}: its member {foreign[0]!r} is no array; expected an .npz made by numpy.savez")
    return arrays


def refuse_too_large(sizes: Mapping[str, int], what: str, instead: str) -> None:
    """Raise DataError where arrays of so many bytes, by member, are more than may be held at once."""
    limit, total = int(SHARE * available()), sum(sizes.values())
    if total > limit:
        largest = max(sizes, key=lambda name: sizes[name])
        raise DataError(
            f"{what}: unpacks to {spoken(total)}, its member {largest!r} to {spoken(sizes[largest])}; allowed: "
            f"{spoken(limit)}, half of the memory that is free; {instead}"
        )


def npz_headers(path: Path) -> dict[str, Header]:
    """Headers of the arrays of an ``.npz``, by name; raises one of DAMAGED for anything else."""
    with zipfile.ZipFile(path) as archive:
        found = {}
        for name in archive.namelist():
            with archive.open(name) as member:
                found[name.removesuffix(".npy")] = array_header(member)
        return found


def npy_header(path: Path) -> Header:
    """Header of an ``.npy``; raises one of DAMAGED for a file that is shorter than it says, and for a pickle."""
    # Mapped, not read: NumPy refuses a file that is shorter than its header says.
    with path.open("rb") as file:
        if (start := file.read(len(MAGIC))) != MAGIC:
            # NumPy would give what any other file holds.
            raise ValueError(f"it starts with {start!r}, not as an .npy does")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return Header(array.dtype, array.shape)


def _declared(archive: zipfile.ZipFile) -> dict[str, int]:
    """Bytes that each member unpacks to: as the zip's directory says, or the array's own header where that says more.

    A header is read only where the directory's size is small enough to hold: a long one would be read whole.
    """
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    if sum(sizes.values()) > SHARE * available():
        return sizes
    for name, size in sizes.items():
        with archive.open(name) as member:
            # NumPy gives the bytes of a member that is no array.
            if member.read(len(MAGIC)) == MAGIC:
                member.seek(0)
                sizes[name] = max(size, array_header(member).bytes)
    return sizes


def array_header(file: Any) -> Header:
    """Header at the start of a file of one array; raises one of DAMAGED for anything else."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return Header(dtype, shape)


def spoken(count: int) -> str:
    """A number of bytes in words: ``4.3 GB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
