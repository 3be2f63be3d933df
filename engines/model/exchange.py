"""Samples, labels and results as CSV files, for programs in other languages; docs/exchange.md describes the formats.

A number is written with the fewest digits that read back to the same float32, and is read back bit by bit. Reading is
strict: a file that is not exactly as described is refused with the line and column, what is there and what is allowed.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from engines.errors import DataError
from engines.model.paths import is_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES, LABELS, VERIFICATION = "test_samples.csv", "test_labels.csv", "verification_samples.csv"
"""The names of the exported files."""

SAMPLE_ID = "sample_id"
BLOCK_VALUES = 1 << 20
"""How many values are formatted at a time."""

BLOCK_BYTES = 1 << 24
"""How much of a file is parsed at a time, in whole lines."""

SHOWN_VALUES = 4_000_000
"""From this many values on, which take a second or more, progress is shown."""

NUMBER = re.compile(rb"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
"""What a cell of samples may hold: a decimal number, nothing around it."""

ANSWER = re.compile(rb"-?(nan|inf)|" + NUMBER.pattern)
"""What a cell of results may hold: an engine's NaN and infinity are answers too, and wrong ones to be judged."""

_BYTES = {NUMBER: b"0123456789+-.eE,", ANSWER: b"0123456789+-.eE,nanif"}
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Results:
    """What a program answered: for each row the sample's id, its class (N,), confidence (N,), and scores (N, classes).

    Ids and classes are int64, the rest float32.
    """

    ids: NDArray[np.int64]
    classes: NDArray[np.int64]
    confidences: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def sample_columns(size: int) -> list[str]:
    """Names of the columns of a samples file whose samples have ``size`` values."""
    return [SAMPLE_ID, *(f"pixel_{i}" for i in range(size))]


def result_columns(classes: int) -> list[str]:
    """Names of the columns of a results file."""
    return [SAMPLE_ID, "class", "confidence", *(f"p_{i}" for i in range(classes))]


def fed_hash(samples: NDArray[np.float32]) -> str:
    """Return the SHA-256 (hex) of the float32 values in C order, little-endian: what a program that read them has."""
    return hashlib.sha256(np.ascontiguousarray(samples, "<f4").reshape(-1).view(np.uint8).data).hexdigest()


def write_samples(path: Path, samples: NDArray[np.float32]) -> None:
    """Write float32 samples (N, …) as ``sample_id,pixel_0,…``, each in C order, ids from 0 on; shows progress.

    Raises DataError for another dtype, no samples, NaN and infinity: no CSV reader agrees with the next one on those.
    """
    if samples.dtype != np.float32 or samples.ndim < 2 or not samples.size:
        raise DataError(f"{path}: given {samples.dtype} of shape {samples.shape}; expected float32 (N, …) with N ≥ 1")
    flat = np.ascontiguousarray(samples).reshape(len(samples), -1)
    count, size = flat.shape
    rows = max(1, BLOCK_VALUES // size)
    with path.open("w", encoding="ascii", newline="") as file, _progress(path, flat.size) as bar:
        file.write(",".join(sample_columns(size)) + "\n")
        for start in range(0, count, rows):
            block = flat[start : start + rows]
            for i, cells in enumerate(_texts(block, path, start), start):
                file.write(f"{i},{','.join(cells)}\n")
            bar.update(block.size)


def write_labels(path: Path, labels: NDArray[np.int64]) -> None:
    """Write class labels (N,) as ``sample_id,label``, ids from 0 on."""
    lines = [f"{SAMPLE_ID},label", *(f"{i},{label}" for i, label in enumerate(labels.tolist()))]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_verification(path: Path, probabilities: NDArray[np.float32]) -> None:
    """Write what to expect, ``sample_id,class,confidence``: the class with the largest of (N, classes), and that."""
    classes = probabilities.argmax(axis=1)
    confidences = np.take_along_axis(probabilities, classes[:, None], 1).astype(np.float32)
    texts = (cells[0] for cells in _texts(confidences, path, 0))
    lines = [f"{SAMPLE_ID},class,confidence"]
    lines += [f"{i},{c},{text}" for i, (c, text) in enumerate(zip(classes.tolist(), texts, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_results(path: Path, results: Results) -> None:
    """Write results as :func:`read_results` reads them."""
    numbers = np.column_stack([results.confidences, results.probabilities]).astype(np.float32)
    lines = [",".join(result_columns(results.probabilities.shape[1]))]
    rows = zip(results.ids.tolist(), results.classes.tolist(), _texts(numbers, path, 0), strict=True)
    lines += [f"{i},{c},{','.join(cells)}" for i, c, cells in rows]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def read_samples(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read a samples file as float32 (N, *shape), bit by bit what was written.

    Takes CRLF line ends and a last line without one. Raises DataError, with line, column, what was found and what is
    allowed, for anything else that :func:`write_samples` does not write. That is other columns, text, NaN, an empty
    cell, rows of another width, a byte-order mark, and ids that do not count from 0.
    """
    size = int(np.prod(shape, dtype=np.int64))
    numbers, values = _read(path, sample_columns(size), 1, NUMBER)
    wrong = np.flatnonzero(numbers[:, 0] != np.arange(len(numbers)))
    if len(wrong):
        first = int(wrong[0])
        raise _error(path, first + 2, 1, SAMPLE_ID, str(numbers[first, 0]), f"{first}: samples are numbered from 0")
    return values.reshape(len(values), *shape)


def read_results(path: Path, classes: int) -> Results:
    """Read a results file, ``sample_id,class,confidence,p_0,…``, rows in the order they have.

    Scores may be ``nan``, ``inf`` or ``-inf``. Raises DataError as :func:`read_samples` does otherwise, and for a class
    that is none of ``classes``.
    """
    columns = result_columns(classes)
    numbers, values = _read(path, columns, 2, ANSWER)
    wrong = np.flatnonzero(numbers[:, 1] >= classes)
    if len(wrong):
        first = int(wrong[0])
        raise _error(path, first + 2, 2, columns[1], str(numbers[first, 1]), f"0 to {classes - 1}")
    return Results(numbers[:, 0], numbers[:, 1], values[:, 0].copy(), np.ascontiguousarray(values[:, 1:]))


def results_flaw(results: Results, count: int, batch: int) -> str | None:
    """What keeps results from being one row a sample, in order, with their scores' class and confidence.

    None where they are. ``batch`` is how many samples a full batch had: it tells that the last one was dropped.
    """
    ids, scores = results.ids, results.probabilities
    if not np.array_equal(ids, np.arange(count)):
        return _ids_flaw(ids, count, batch)
    # A sample with NaN among its scores has no largest one; that it has NaN is for the comparison to say.
    rows = np.flatnonzero(~np.isnan(scores).any(axis=1))
    own = scores[rows, results.classes[rows]]
    wrong = rows[own != scores[rows].max(axis=1)]
    if len(wrong):
        first = int(wrong[0])
        return (
            f"sample {first} has class {results.classes[first]}; "
            f"expected {int(scores[first].argmax())}, whose score is the largest"
        )
    wrong = rows[results.confidences[rows] != own]
    if len(wrong):
        first = int(wrong[0])
        return (
            f"sample {first} has confidence {results.confidences[first]}; "
            f"expected {scores[first, results.classes[first]]}, the score of its class"
        )
    return None


def _ids_flaw(ids: NDArray[np.int64], count: int, batch: int) -> str:
    """What keeps the ids of results from being 0 to ``count`` - 1."""
    found, times = np.unique(ids, return_counts=True)
    if len(beyond := found[found >= count]):
        return f"it has results for sample {int(beyond[0])}; given were samples 0 to {count - 1}"
    if len(twice := np.flatnonzero(times > 1)):
        return f"sample {int(found[twice[0]])} has {int(times[twice[0]])} rows of results; expected one"
    if len(missing := np.setdiff1d(np.arange(count), found)):
        rest = count % batch
        dropped = rest and np.array_equal(missing, np.arange(count - rest, count))
        why = f": the last batch, of {rest}, was dropped" if dropped else ""
        return (
            f"{len(found)} of {count} samples have results; missing are {len(missing)}, from {int(missing[0])} to "
            f"{int(missing[-1])}{why}"
        )
    first = int(np.flatnonzero(ids != np.arange(count))[0])
    return f"its results are not in the order of the samples: row {first} is sample {int(ids[first])}"


def _progress(path: Path, values: int) -> Any:
    from tqdm import tqdm

    quiet = True if values < SHOWN_VALUES else None
    return tqdm(total=values, desc=path.name, unit=" values", unit_scale=True, leave=False, disable=quiet)


def _texts(block: NDArray[np.float32], path: Path, start: int) -> Iterator[list[str]]:
    """Format a block (rows, columns) of float32, row by row; every different value is formatted once."""
    bad = ~np.isfinite(block)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"{path}: sample {start + row} has {block[row, column]} at value {column}; allowed: finite numbers"
        )
    bits = np.ascontiguousarray(block).view(np.uint32)
    # By bits, for 0.0 and -0.0 are equal numbers. Images have 256 different values, so that this is most of the speed.
    distinct = np.unique(bits)
    texts = np.array([str(value).removesuffix(".0") for value in distinct.view(np.float32)], dtype=object)
    rows: Iterator[list[str]] = iter(texts[np.searchsorted(distinct, bits)].tolist())
    return rows


def _error(path: Path, line: int, column: int, name: str, found: str, allowed: str) -> DataError:
    return DataError(f"{path}: line {line}, column {column} ({name}) is {found}; allowed: {allowed}")


def _read(
    path: Path, columns: Sequence[str], integers: int, number: re.Pattern[bytes]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read a table with just these columns, the first ``integers`` of them counts; gives those and the numbers."""
    if not is_file(path):
        raise DataError(f"{path}: no such file; expected a CSV with the columns {_named(columns)}")
    try:
        opened = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; expected a CSV file") from error
    counts, numbers, line = [], [], 2
    with opened as file:
        _check_header(path, file.readline(), columns)
        while lines := _lines(file):
            block = _parse(path, lines, line, columns, integers, number)
            counts.append(block[:, :integers].astype(np.int64))
            numbers.append(_to_float32(block[:, integers:], lines, integers))
            for row, column in np.argwhere(np.isinf(numbers[-1])):
                where = int(column) + integers
                cell = lines[row].split(b",")[where]
                if NUMBER.fullmatch(cell):
                    allowed = "a number that float32 can hold"
                    raise _error(path, line + int(row), where + 1, columns[where], _shown(cell), allowed)
            line += len(lines)
    if not counts:
        raise DataError(f"{path}: holds a header and no line 2; expected a row for each sample")
    return np.concatenate(counts), np.concatenate(numbers)


def _lines(file: BinaryIO) -> list[bytes]:
    """Next whole lines, without their ends: LF, CRLF, or none on the last line."""
    return [line.removesuffix(b"\n").removesuffix(b"\r") for line in file.readlines(BLOCK_BYTES)]


def _check_header(path: Path, line: bytes, columns: Sequence[str]) -> None:
    if not line:
        raise DataError(
            f"{path}: is empty, without a line 1; expected a header {_named(columns)} and a row for each sample"
        )
    if line.startswith(_BOM):
        raise DataError(
            f"{path}: line 1, column 1 starts with a byte-order mark (EF BB BF); allowed: plain text without one"
        )
    found = line.removesuffix(b"\n").removesuffix(b"\r").split(b",")
    for i, (cell, name) in enumerate(zip(found, columns, strict=False), start=1):
        if cell != name.encode():
            raise DataError(f"{path}: line 1, column {i} is {_shown(cell)}; expected the header {_named(columns)}")
    _check_width(path, 1, found, columns)


def _check_width(path: Path, line: int, found: Sequence[bytes], columns: Sequence[str]) -> None:
    """Refuse a line of another width, by the first column that is missing or one too many."""
    if len(found) != len(columns):
        raise DataError(
            f"{path}: line {line}, column {min(len(found), len(columns)) + 1}: the line has {len(found)} columns; "
            f"expected {len(columns)}: {_named(columns)}"
        )


def _named(columns: Sequence[str]) -> str:
    return ",".join(columns if len(columns) <= 5 else [*columns[:3], "…", columns[-1]])


def _shown(cell: bytes) -> str:
    return repr(cell[:40].decode("ascii", "backslashreplace")) if cell else "empty"


def _parse(
    path: Path, lines: Sequence[bytes], first: int, columns: Sequence[str], integers: int, cells: re.Pattern[bytes]
) -> NDArray[np.float64]:
    """Parse lines as float64; ``first`` is the number of the first one, for errors."""
    text, width = b",".join(lines), len(columns)
    plain = (
        all(line.count(b",") == width - 1 and line[:1].isdigit() and line[-1:] != b"," for line in lines)
        and not text.translate(None, _BYTES[cells])
        and text.count(b"+") == text.count(b"e+") + text.count(b"E+")
        and all(cell.isdigit() and len(cell) < 16 for line in lines for cell in line.split(b",", integers)[:integers])
    )
    if plain:
        with warnings.catch_warnings():
            # What NumPy does where it cannot read a number; it then is named below.
            warnings.simplefilter("error", DeprecationWarning)
            try:
                values = np.fromstring(text, np.float64, sep=",")
                if values.size == len(lines) * width:
                    return values.reshape(len(lines), width)
            except (DeprecationWarning, ValueError):
                pass
    for number, line in enumerate(lines, first):
        _check_line(path, number, line, columns, integers, cells)
    raise DataError(f"{path}: lines {first} to {first + len(lines) - 1} cannot be read as numbers")


def _check_line(
    path: Path, number: int, line: bytes, columns: Sequence[str], integers: int, cells: re.Pattern[bytes]
) -> None:
    found = line.split(b",") if line else []
    _check_width(path, number, found, columns)
    for i, (cell, name) in enumerate(zip(found, columns, strict=True)):
        if i < integers and not (cell.isdigit() and len(cell) < 16):
            raise _error(path, number, i + 1, name, _shown(cell), "a whole number from 0 on, of at most 15 digits")
        if not cells.fullmatch(cell):
            allowed = "a finite decimal number" if cells is NUMBER else "a decimal number, nan, inf or -inf"
            raise _error(path, number, i + 1, name, _shown(cell), allowed)


def _to_float32(values: NDArray[np.float64], lines: Sequence[bytes], integers: int) -> NDArray[np.float32]:
    """Round numbers that were read as float64 to the float32 that is nearest to the text.

    Rounding twice goes wrong only where the first rounding ends just between two float32: those are decided again, by
    the exact decimal.
    """
    with np.errstate(over="ignore", under="ignore"):
        result: NDArray[np.float32] = values.astype(np.float32)
    # Between two normal float32 lie float64 whose 29 lower bits are a one and zeros; below 2^-126 the spacing differs.
    bits = np.ascontiguousarray(values).view(np.uint64)
    between = ((bits & 0x1FFFFFFF) == 0x10000000) | ((np.abs(values) < 2.0**-126) & (values != 0))
    for row, column in np.argwhere(between):
        # By way of Decimal: Python's integers read no more than 4,300 digits.
        exact = Fraction(Decimal(lines[row].split(b",")[column + integers].decode()))
        near = result[row, column]
        steps = [near, *(np.nextafter(near, np.float32(end), dtype=np.float32) for end in (-np.inf, np.inf))]
        # Two equally near: the one whose last bit is zero, as rounding to nearest even has it.
        best = min(steps, key=lambda step: (abs(_exact(step) - exact), int(step.view(np.uint32)) & 1))
        if best != near:
            result[row, column] = best
    return result


def _exact(step: np.float32) -> Fraction:
    """Value of a float32; that of infinity is where the next float32 would be, as rounding to nearest has it."""
    return Fraction(float(step)) if np.isfinite(step) else Fraction(int(np.sign(step)) * 2**128)
