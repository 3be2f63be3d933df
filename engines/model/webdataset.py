"""Samples in tar archives as WebDataset lays them out: files of one sample stand together, and share their key.

``KEY.INPUT.npy`` is one sample of an input, ``KEY.npy`` of a model's only one, and ``KEY.cls`` its label, in digits. No
file is written to a disk, and no other kind of file is read: what WebDataset pickles is refused by its name.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import DataError
from engines.model.brought import LABELLED, LABELS
from engines.model.npz import UNNAMED, Header, array_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMED = re.compile(r"(?P<key>(?:.*/)?[^./]+)\.(?P<field>[^/]+)")
"""WebDataset's own rule: the key ends at the first dot behind the last slash."""

DIGITS = 20
"""Bytes that a label in digits may have."""

EXPECTED = "expected KEY.INPUT.npy, or KEY.npy for the only input, and KEY.cls for labels"


def tar_headers(path: Path, what: str) -> dict[str, Header]:
    """Headers of the arrays that a tar's samples make up, by input name, as its first sample has them.

    Every sample is seen to have the same files. Raises DataError where one has not, and for other files; one of DAMAGED
    or TarError for what is no whole tar.
    """
    count, first = 0, {}
    with _opened(path) as archive:
        for key, files in _samples(archive, what):
            if not count:
                first = {field: _header(archive, info) for field, info in files.items()}
                if UNNAMED in first and len(first.keys() - {LABELS}) > 1:
                    raise DataError(f"{what}: sample {key!r} has {_shown(first)}; {EXPECTED}")
            elif files.keys() != first.keys():
                raise DataError(f"{what}: sample {key!r} has {_shown(files)}; expected {_shown(first)}, as the first")
            count += 1
        # tarfile takes an end without the empty block that each writer ends with for one that has it.
        if path.stat().st_size < archive.offset + tarfile.BLOCKSIZE:
            raise EOFError("it ends in the middle, without the empty block behind the last file")
    return {name: Header(header.dtype, (count, *header.shape)) for name, header in first.items()}


def tar_arrays(path: Path, headers: Mapping[str, Header], what: str) -> dict[str, NDArray[Any]]:
    """Arrays of a tar by input name, of the given headers, among which an unnamed array is that of the only input.

    Raises DataError for another number, dtype or shape, and what :func:`tar_headers` raises.
    """
    only = next((name for name in headers if name != LABELS), UNNAMED)
    arrays = {name: np.empty(header.shape, header.dtype) for name, header in headers.items()}
    number = 0
    with _opened(path) as archive:
        for number, (_, files) in enumerate(_samples(archive, what), 1):
            for field, info in files.items():
                name = field or only
                if name not in arrays or number > len(arrays[name]):
                    raise DataError(f"{what}: holds {info.name!r} now; expected what was there at the start")
                value, rows = _value(archive, info), arrays[name]
                if (value.dtype, value.shape) != (rows.dtype, rows.shape[1:]):
                    raise DataError(
                        f"{what}: {info.name!r} is {value.dtype} of shape {value.shape}; expected {rows.dtype} of "
                        f"{rows.shape[1:]}, as the first sample has"
                    )
                rows[number - 1] = value
    return {name: rows[:number] for name, rows in arrays.items()}


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """A tar that is not packed: whoever looks into a packed one reads all of it."""
    with tarfile.open(path, "r:") as archive:
        yield archive


def _samples(archive: tarfile.TarFile, what: str) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Key and files of each sample, by input name: what stands together and shares its key."""
    key, files = "", dict[str, tarfile.TarInfo]()
    while (info := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined] # tarfile keeps what it has seen: 1 kB of each file
        if info.isdir():
            continue
        named = NAMED.fullmatch(info.name)
        field = None if named is None else _field(named["field"])
        if named is None or field is None or not info.isreg() or info.issparse():
            kind = "" if info.isreg() and not info.issparse() else ", which is no plain file"
            raise DataError(f"{what}: holds {info.name!r}{kind}; {EXPECTED}")
        if named["key"] != key and files:
            yield key, files
            files = {}
        key = named["key"]
        if field in files:
            raise DataError(f"{what}: sample {key!r} has {files[field].name!r} and {info.name!r}; expected one of them")
        files[field] = info
    if files:
        yield key, files


def _field(extension: str) -> str | None:
    """Input that a file holds, by what stands behind its key; None for a file of another kind."""
    if extension == "npy":
        return UNNAMED
    name = extension.removesuffix(".npy")
    if name in LABELLED:
        return LABELS
    return name if name != extension else None


def _shown(fields: Iterable[str]) -> str:
    """Files of a sample in words, by what they hold."""
    names = {UNNAMED: "KEY.npy", LABELS: "KEY.cls"}
    return ", ".join(sorted(names.get(field, f"KEY.{field}.npy") for field in fields))


def _header(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Header:
    """Header of one sample's array; ValueError where the file is shorter than it says, or pickled."""
    return _header_of(info, _file(archive, info)) if info.name.endswith(".npy") else Header(np.dtype(np.int64), ())


def _header_of(info: tarfile.TarInfo, content: io.BytesIO) -> Header:
    header = array_header(content)
    if header.dtype.hasobject:
        raise ValueError(f"{info.name} holds pickled objects, which can run code")
    if header.bytes > info.size:
        raise ValueError(f"{info.name} has {info.size} bytes, and its array {header.bytes}")
    return header


def _value(archive: tarfile.TarFile, info: tarfile.TarInfo) -> NDArray[Any]:
    """Array of one sample, or its label: an int64 without a shape."""
    content = _file(archive, info)
    if info.name.endswith(".npy"):
        _header_of(info, content)  # before so many bytes are asked for
        content.seek(0)
        return np.asarray(np.lib.format.read_array(content, allow_pickle=False))
    text = content.read(DIGITS + 1).strip()
    if not text.isdigit() or len(text) > DIGITS - 2:
        raise ValueError(f"{info.name} holds {text!r}; expected a label in digits")
    return np.array(int(text), np.int64)


def _file(archive: tarfile.TarFile, info: tarfile.TarInfo) -> io.BytesIO:
    """A file's bytes: NumPy cannot read what tarfile gives, which has no file number (numpy/numpy#7989)."""
    found = archive.extractfile(info)
    assert found is not None
    return io.BytesIO(found.read())
