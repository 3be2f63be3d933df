"""Samples in memory, and data sets that are read when samples are asked for."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import DataError
from engines.model.spec import INPUT_DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples in memory: ``inputs`` by input name (the first axis is the sample) and their labels.

    Inputs are float32, integers or truth values (:data:`engines.model.spec.INPUT_DTYPES`).
    ``labels`` is int64 of shape (N,), or None where there are none; ``origin`` is what error messages call these
    samples (a plural). Raises DataError where the dtypes or the numbers of samples differ from that.
    """

    inputs: Mapping[str, NDArray[Any]] = field(repr=False)
    labels: NDArray[np.int64] | None = field(repr=False)
    origin: str = "the arrays"

    def __post_init__(self) -> None:
        arrays: dict[str, tuple[NDArray[Any], Collection[str]]] = {n: (a, INPUT_DTYPES) for n, a in self.inputs.items()}
        if not arrays:
            raise DataError("samples need at least one input, there is none")
        if self.labels is not None:
            arrays["labels"] = (self.labels, ("int64",))
        for name, (array, dtypes) in arrays.items():
            if array.dtype.name not in dtypes or array.ndim == 0:
                allowed = " or ".join(dtypes)
                raise DataError(f"{name} is {_described(array)}, expected {allowed} with the sample as its first axis")
        if len({len(array) for array, _ in arrays.values()}) > 1:
            found = ", ".join(f"{name}: {len(array)}" for name, (array, _) in arrays.items())
            raise DataError(f"the numbers of samples differ ({found})")

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def hashes(self, prefix: str = "") -> dict[str, str]:
        """Content hashes of the inputs, and of the labels where there are any, by names that start with ``prefix``."""
        found = {f"{prefix}samples": content_hash(self.inputs)}
        if self.labels is not None:
            found[f"{prefix}labels"] = content_hash({"labels": self.labels})
        return found

    def take(self, start: int, stop: int) -> Samples:
        """Return the samples [start, stop) as views; raises DataError for an empty range or where fewer are there."""
        if not 0 <= start < stop:
            raise DataError(f"asked for samples {start} up to {stop}, expected 0 ≤ start < stop")
        if stop > len(self):
            asked = f"{stop} samples" if start == 0 else f"samples {start} up to {stop}"
            raise DataError(f"asked for {asked}, {self.origin} have {len(self)}")
        return Samples(
            {name: array[start:stop] for name, array in self.inputs.items()},
            None if self.labels is None else self.labels[start:stop],
            self.origin,
        )


@dataclass(frozen=True)
class _Block:
    """What one file holds: uint8 pixels as (N, height, width, channels) and int64 labels (N,), if any."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None


@dataclass(frozen=True)
class _Split:
    """Samples in blocks of ``block_rows`` each, read when they are needed; ``white`` is the pixel value of 1.0."""

    block_rows: int
    blocks: tuple[Callable[[], _Block], ...]
    white: int = 255

    def __len__(self) -> int:
        return self.block_rows * len(self.blocks)

    def read(self, start: int, stop: int, input_name: str, origin: str) -> Samples:
        """Read the samples [start, stop), and no block before or beyond them."""
        first = start // self.block_rows
        blocks = [read() for read in self.blocks[first : math.ceil(stop / self.block_rows)]]
        images = np.empty((stop - start, *blocks[0].pixels.shape[1:]), np.float32)
        labels, done = [], 0
        for index, block in enumerate(blocks, first):
            before = index * self.block_rows
            rows = slice(max(start - before, 0), stop - before)
            pixels = block.pixels[rows]
            np.divide(pixels, self.white, out=images[done : done + len(pixels)], dtype=np.float32)
            labels += [] if block.labels is None else [block.labels[rows]]
            done += len(pixels)
        return Samples({input_name: images}, np.concatenate(labels) if labels else None, origin)


@dataclass(frozen=True)
class Dataset:
    """A dataset that was found; its samples are read when they are first asked for.

    ``name`` is one of :data:`DATASETS` and ``source`` says for a person where the samples come from.
    ``unlabelled_reason`` says why there are no labels and is None where there are. Images are float32 in
    ``value_range`` of shape (N, height, width, channels): 32x32x3 for CIFAR-10 and the photographs, 10x8x1 for the
    digits. Every method raises DataError for a count below 1 or above what is there, and for files that turn out to be
    damaged.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    labelled: bool
    unlabelled_reason: str | None
    _input_name: str = field(repr=False)
    _origin: str = field(repr=False)
    _held_out: _Split = field(repr=False, compare=False)
    _training: _Split = field(repr=False, compare=False)
    folder: Path | None = None
    """Where the files are; None for data that comes with a package."""
    value_range: tuple[float, float] = (0.0, 1.0)
    """What black and white are scaled to."""

    @property
    def test_count(self) -> int:
        """How many test samples there are, without reading them."""
        return len(self._held_out)

    def test(self, count: int | None = None) -> Samples:
        """Return the first ``count`` held-out samples, all of them for None."""
        return self._read(self._held_out, "test", count)

    def part(self, start: int, stop: int) -> Samples:
        """Return the held-out samples [start, stop), and read no others."""
        return self._read(self._held_out, "test", stop, start)

    def train(self) -> Samples:
        """Return all training samples; raises DataError where there are no labels."""
        if not self.labelled:
            raise DataError(
                f"{self._origin} have no labels to train on; name a CIFAR-10 folder by CIFAR10_DIR or --cifar10-dir, "
                "or get it by --download"
            )
        return self._read(self._training, "training", None)

    def calibration(self, count: int) -> Samples:
        """Return the first ``count`` training samples (of the photographs: those kept for calibration).

        None of them is among those that :meth:`test` returns.
        """
        return self._read(self._training, "calibration", count)

    def _read(self, split: _Split, purpose: str, count: int | None, start: int = 0) -> Samples:
        count = len(split) if count is None else count
        if count <= start:
            raise DataError(f"asked for {count - start} {purpose} samples, expected at least 1")
        if count > len(split):
            raise DataError(f"asked for {count} {purpose} samples, {self._origin} have {len(split)}")
        samples = split.read(start, count, self._input_name, self._origin)
        low, high = self.value_range
        if (low, high) != (0.0, 1.0):
            scaled = {name: (low + (high - low) * array).astype(np.float32) for name, array in samples.inputs.items()}
            return Samples(scaled, samples.labels, samples.origin)
        return samples


def pack(dataset: Dataset, calibration: int) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Members from which :func:`unpack` makes the dataset again elsewhere.

    That is arrays (uint8 pixels, int64 labels) and a JSON-able rest: all test samples, and the first ``calibration``
    training samples without their labels.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, split, count in (("test", dataset._held_out, None), ("calibration", dataset._training, calibration)):
        blocks = [read() for read in split.blocks[: math.ceil((count or len(split)) / split.block_rows)]]
        arrays[name] = np.ascontiguousarray(np.concatenate([block.pixels for block in blocks])[:count])
        labels = [block.labels for block in blocks if block.labels is not None]
        if labels and name == "test":
            arrays["labels"] = np.concatenate(labels)
    rest = {
        "name": dataset.name,
        "source": dataset.source,
        "class_names": list(dataset.class_names),
        "unlabelled_reason": dataset.unlabelled_reason,
        "white": dataset._held_out.white,
        "rows": {name: len(arrays[name]) for name in ("test", "calibration")},
    }
    return arrays, rest


def unpack(
    path: Path, rest: Mapping[str, Any], input_name: str, value_range: tuple[float, float] = (0.0, 1.0)
) -> Dataset:
    """Dataset that :func:`pack` packed; its arrays are in the .npz file ``path``, read when asked for."""

    @functools.cache
    def arrays() -> dict[str, NDArray[Any]]:
        with np.load(path) as archive:
            return dict(archive)

    return Dataset(
        name=rest["name"],
        source=f"{rest['source']} (as stored in {path})",
        class_names=tuple(rest["class_names"]),
        labelled=rest["unlabelled_reason"] is None,
        unlabelled_reason=rest["unlabelled_reason"],
        value_range=value_range,
        _input_name=input_name,
        _origin="the stored samples",
        _held_out=_Split(
            rest["rows"]["test"], (lambda: _Block(arrays()["test"], arrays().get("labels")),), rest["white"]
        ),
        _training=_Split(rest["rows"]["calibration"], (lambda: _Block(arrays()["calibration"], None),), rest["white"]),
    )


def content_hash(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 (hex) of the arrays' names, dtypes, shapes and bytes, whatever the order of the mapping.

    Raises DataError for an array of Python objects, whose bytes say nothing.
    """
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        if array.dtype.hasobject:
            raise DataError(f"{name} is {_described(array)}, expected numbers")
        # The header tells how many bytes follow it, so no two mappings run together into the same stream.
        digest.update(json.dumps([name, str(array.dtype), array.shape]).encode() + b"\n")
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def reach(inputs: Mapping[str, NDArray[Any]]) -> str:
    """What each input holds, in words: ``'tokens' (int32, from 0 to 999)``, of arrays (N, …) by input name."""
    return " and ".join(f"{n!r} ({a.dtype}, from {a.min():g} to {a.max():g})" for n, a in inputs.items())


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, (list, tuple, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"
