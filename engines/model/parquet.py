"""Samples in Parquet files: a column for each input, a row for each sample. PyArrow reads them, where it is there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from packaging.version import Version

from engines.errors import DataError
from engines.model.brought import LABELLED, LABELS
from engines.model.npz import DAMAGED, Header
from engines.tools import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAFE = "14.0.1"
"""The first version of PyArrow that runs no code which a file brings along (CVE-2023-47248)."""

ROWS, BUFFER = 64, 1 << 20
"""Rows that are decoded at once, and bytes that are read ahead of each column."""

EXPECTED = "expected numbers, or lists of them that are as long in each row, or Arrow's fixed_shape_tensor"


def parquet_headers(path: Path, what: str) -> dict[str, Header]:
    """Headers of the arrays of a Parquet file, by input name, as its first row has them.

    Raises DataError where PyArrow is missing or too old, for a damaged file, and for columns of anything but numbers.
    """
    with _opened(path, what) as file:
        names, count = file.schema_arrow.names, file.metadata.num_rows
        if not count:
            return {name: Header(np.dtype(np.float32), (0,)) for name in names}
        first = next(file.iter_batches(batch_size=1, use_threads=False))
        rows = _arrays(first, names, what)
        shapes = [array.shape[1:] for array in rows.values()]
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        # Such columns have one leaf each. A file may hold more numbers than fit: they are counted before they are read.
        for at, (name, shape) in enumerate(zip(names, shapes, strict=True)):
            held = sum(group.column(at).num_values for group in groups)
            if held != count * math.prod(shape):
                raise DataError(
                    f"{what}: its column {name!r} has {held} numbers in {count} rows, and {shape} in the first; "
                    f"{EXPECTED}"
                )
    return {name: Header(array.dtype, (count, *array.shape[1:])) for name, array in rows.items()}


def parquet_arrays(path: Path, headers: Mapping[str, Header], what: str) -> dict[str, NDArray[Any]]:
    """Arrays of a Parquet file by input name, of the given headers; DataError as for :func:`parquet_headers`."""
    arrays = {name: np.empty(header.shape, header.dtype) for name, header in headers.items()}
    done = 0
    with _opened(path, what) as file:
        # A few rows at a time: a whole column is held three times while it is decoded.
        for batch in file.iter_batches(batch_size=ROWS, use_threads=False):
            found = _arrays(batch, file.schema_arrow.names, what)
            for name, header in headers.items():
                rows = found.get(name)
                if rows is None or rows.dtype != header.dtype or rows.shape[1:] != header.shape[1:]:
                    held = "nothing" if rows is None else f"{rows.dtype} of shape {rows.shape[1:]}"
                    raise DataError(
                        f"{what}: its column {name!r} has {held} behind row {done}; expected {header.dtype} of "
                        f"{header.shape[1:]}, as in the first"
                    )
                if done + len(rows) > len(arrays[name]):
                    raise DataError(f"{what}: has more rows than the {len(arrays[name])} that it had at the start")
                arrays[name][done : done + len(rows)] = rows
            done += batch.num_rows
    return {name: array[:done] for name, array in arrays.items()}


@contextmanager
def _opened(path: Path, what: str) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{what}: is read by PyArrow, which is not installed; pip install pyarrow") from error
    if Version(pyarrow.__version__) < Version(SAFE):
        raise DataError(f"{what}: PyArrow {pyarrow.__version__} may run code of a file; expected {SAFE} or newer")
    try:
        with parquet.ParquetFile(path, buffer_size=BUFFER, page_checksum_verification=True) as file:
            yield file
    except (*DAMAGED, pyarrow.ArrowException) as error:
        raise DataError(f"{what}: cannot be read: {one_line(str(error))}; expected a whole .parquet") from error


def _arrays(rows: Any, columns: Sequence[str], what: str) -> dict[str, NDArray[Any]]:
    """Arrays by input name, of a batch of rows."""
    found: dict[str, NDArray[Any]] = {}
    for column in columns:
        name = LABELS if column in LABELLED else column
        if name in found:
            raise DataError(f"{what}: has two columns of {name}: {', '.join(columns)}; expected one")
        found[name] = _numbers(rows.column(column), f"{what}: its column {column!r}")
    return found


def _numbers(array: Any, column: str) -> NDArray[Any]:
    """Array of a column: rows, and an axis for each level of lists; DataError for anything else."""
    import pyarrow as arrow
    from pyarrow import types

    kind, shape = array.type, [len(array)]
    if isinstance(kind, arrow.FixedShapeTensorType) and not array.storage.flatten().null_count + array.null_count:
        return np.asarray(array.to_numpy_ndarray())
    while types.is_nested(array.type) and not array.null_count:
        if types.is_fixed_size_list(array.type):
            shape.append(array.type.list_size)
        elif types.is_list(array.type) or types.is_large_list(array.type):
            lengths = np.unique(np.diff(array.offsets.to_numpy()))
            if len(lengths) != 1:
                raise DataError(f"{column} has lists of {lengths.min()} to {lengths.max()}; {EXPECTED}")
            shape.append(int(lengths[0]))
        else:
            break
        array = array.flatten()
    if array.null_count:
        raise DataError(f"{column} has {array.null_count} rows or numbers that are missing (null); {EXPECTED}")
    if not any(is_one(array.type) for is_one in (types.is_integer, types.is_floating, types.is_boolean)):
        raise DataError(f"{column} is {one_line(str(kind))}; {EXPECTED}")
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)
