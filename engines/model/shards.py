"""Samples in a folder of shards, which are read as they are asked for: a million of them are never in memory at once.

A shard is an ``.npz`` as ``--samples`` takes it, or, for a model of one input, an ``.npy``; a ``.tar`` in WebDataset's
layout, or a ``.parquet``. The order of their names is the samples' order. What each holds is read off its header at the
start, its values where they are used.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from tarfile import TarError
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import DataError
from engines.model.brought import LABELS, TESTED, checked
from engines.model.npz import DAMAGED, UNNAMED, Header, load_npz, npy_header, npz_headers, refuse_too_large
from engines.model.parquet import parquet_arrays, parquet_headers
from engines.model.samples import Samples
from engines.model.webdataset import tar_arrays, tar_headers
from engines.tools import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec

SUFFIXES = (".npz", ".npy", ".tar", ".parquet")
"""What a shard may be; all of a folder are the same."""

SMALLER = "cut it into smaller shards"
"""What to do with a shard that is too large."""

HELD = 1 << 26
"""Bytes of samples that may be held at once where any number would do."""

NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<of>-of-(?P<count>\d+))?")
"""A name that ends in the shard's number, and may say how many there are."""


@dataclass(frozen=True)
class Shard:
    """One file: its arrays by name, as its header tells of them, and how many samples it has."""

    path: Path
    headers: Mapping[str, Header]
    count: int


@dataclass(frozen=True)
class ShardedData:
    """Samples that a user brought as a folder of shards; see BroughtData, whose samples are in memory."""

    name: str
    source: str
    class_names: tuple[str, ...]
    folder: Path
    _spec: ModelSpec = field(repr=False, compare=False)
    _shards: Sequence[Shard] = field(repr=False)
    _held: dict[Path, Samples] = field(default_factory=dict, repr=False, compare=False)
    """The shard that was read last."""
    assumption: str | None = None

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return LABELS in self._shards[0].headers

    @property
    def unlabelled_reason(self) -> str | None:
        """Why there are no labels; None where there are."""
        return None if self.labelled else f"the shards of {self.folder} hold no array {LABELS!r}"

    @property
    def test_count(self) -> int:
        """How many test samples there are."""
        return self._stops[-1]

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's inputs."""
        headers = (self._shards[0].headers[item.name] for item in self._spec.inputs)
        return sum(h.dtype.itemsize * int(np.prod(h.shape[1:])) for h in headers)

    @property
    def some(self) -> Samples:
        """First samples, as many as may be held at once."""
        return self.part(0, min(self.test_count, max(TESTED, HELD // self.sample_bytes)))

    @property
    def _stops(self) -> list[int]:
        return list(accumulate(shard.count for shard in self._shards))

    def test(self, count: int | None = None) -> Samples:
        """Return the first ``count`` samples, all of them for None; DataError where there are fewer."""
        return self.part(0, self.test_count if count is None else count)

    def part(self, start: int, stop: int) -> Samples:
        """Return the samples [start, stop), and read no other shards than theirs.

        Raises DataError where there are fewer, and where a shard is gone, damaged, or has values that are not allowed.
        """
        stops = self._stops
        if not 0 <= start < stop <= stops[-1]:
            raise DataError(f"asked for samples {start} up to {stop}, the shards of {self.folder} have {stops[-1]}")
        found = []
        for at in range(bisect.bisect_right(stops, start), bisect.bisect_left(stops, stop) + 1):
            shard = self._shards[at]
            before = stops[at] - shard.count
            found.append(self._read(shard).take(max(start - before, 0), min(stop - before, shard.count)))
        if len(found) == 1 and len(found[0]) == shard.count:
            return found[0]
        # Copied, where it is one as well: who keeps a sample would keep its shard.
        inputs = {name: np.concatenate([part.inputs[name] for part in found]) for name in found[0].inputs}
        labels = [part.labels for part in found if part.labels is not None]
        return Samples(inputs, np.concatenate(labels) if labels else None, found[0].origin)

    def _read(self, shard: Shard) -> Samples:
        """Samples of a shard, checked as those of one file are."""
        if shard.path not in self._held:
            what = f"--samples {shard.path}"
            self._held.clear()
            samples = checked(_loaded(shard, what), self._spec, what, f"the samples of {self.folder}")
            if len(samples) != shard.count:
                raise DataError(f"{what}: has {len(samples)} samples; expected {shard.count}, as at the start")
            self._held[shard.path] = samples
        return self._held[shard.path]

    def train(self) -> Samples:
        """Refuse: brought samples are for checking."""
        raise DataError(f"the samples of {self.folder} are for checking, not for training")

    def calibration(self, count: int) -> Samples:
        """Return ``count`` samples behind the tested ones; where there are too few, all samples, repeated in turn."""
        if self.test_count >= TESTED + count:
            return self.part(TESTED, TESTED + count)
        samples, chosen = self.test(), np.arange(count) % self.test_count
        return Samples({n: a[chosen] for n, a in samples.inputs.items()}, None, samples.origin)


def read_shards(folder: Path, spec: ModelSpec) -> ShardedData:
    """Read the headers of ``--samples FOLDER``.

    Raises DataError for a folder without shards or with other files, a shard that is missing by its number, truncated,
    or holds other arrays than the first one, and for a model whose outputs are matched by all samples.
    """
    if ranked := [output.name for output in spec.outputs if output.kind == "ranked"]:
        raise DataError(
            f"--samples {folder}: the output {ranked[0]!r} of {spec.name} is ranked, which is matched by all samples "
            "at once; expected them in one .npz"
        )
    shards = [_headed(path, spec) for path in paths(folder)]
    first = shards[0]
    for shard in shards[1:]:
        what = f"--samples {folder}: {shard.path.name}"
        if set(shard.headers) != set(first.headers):
            raise DataError(
                f"{what}: holds {sorted(shard.headers)}; expected {sorted(first.headers)}, as the first has"
            )
        for name, header in shard.headers.items():
            expected = first.headers[name]
            if header.dtype != expected.dtype or header.shape[1:] != expected.shape[1:]:
                raise DataError(
                    f"{what}: {name!r} is {header.dtype} of {_sample(header)} a sample; "
                    f"expected {expected.dtype} of {_sample(expected)}, as in {first.path.name}"
                )
    count = sum(shard.count for shard in shards)
    source = f"{count} samples in {len(shards)} shards of {folder}" + (", labelled" if LABELS in first.headers else "")
    classes = int(spec.probabilities.shape[1]) if spec.probabilities else 0
    found = ShardedData("brought", source, tuple(f"class {i}" for i in range(classes)), folder, spec, shards)
    found.part(0, 1)  # refuses another dtype or shape of all shards, by the first one
    return found


def first_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """Arrays of the first shard by name, where a model is described by them: DataError for one without names."""
    first = paths(folder)[0]
    what = f"--samples {first}"
    if first.suffix == ".npz":
        return load_npz(first, what, SMALLER)
    if first.suffix == ".npy" or UNNAMED in (headers := _headers(first, what)):
        kind = "an .npy of one unnamed array" if first.suffix == ".npy" else "a .tar of unnamed arrays, KEY.npy"
        named = "" if first.suffix == ".npy" else "KEY.INPUT.npy, "
        raise DataError(f"{what}: is {kind}; expected .npz shards, {named}or --model FILE.toml")
    return _loaded(Shard(first, headers, _count(headers, what)), what)


def paths(folder: Path) -> list[Path]:
    """Shards of a folder, in the order of their names; raises DataError where some are missing, or of two kinds."""
    found = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    suffixes = {path.suffix for path in found}
    if len(suffixes) != 1 or not suffixes <= set(SUFFIXES):
        held = ", ".join(sorted(suffixes)) or "nothing"
        raise DataError(f"--samples {folder}: holds {held}; expected shards, either {' or '.join(SUFFIXES)}")
    names = [NUMBERED.fullmatch(path.stem) for path in found]
    if not all(names):
        return found
    numbers = sorted(int(name["number"]) for name in names if name)
    said = {int(name["count"]) for name in names if name and name["of"]}
    expected = range(numbers[0], numbers[0] + (max(said) if said else numbers[-1] - numbers[0] + 1))
    if missing := sorted(set(expected) - set(numbers)):
        raise DataError(
            f"--samples {folder}: the shard with the number {missing[0]} is missing, of {len(expected)}; "
            f"there are {len(found)}, from {found[0].name} to {found[-1].name}"
        )
    return sorted(found, key=lambda path: (int(NUMBERED.fullmatch(path.stem)["number"]), path.name))  # type: ignore[index]


def _sample(header: Header) -> str:
    return "×".join(map(str, header.shape[1:])) or "one number"


def _headed(path: Path, spec: ModelSpec) -> Shard:
    """A shard by its header."""
    what = f"--samples {path}"
    headers = _headers(path, what)
    if UNNAMED in headers:
        headers = {_only_input(path, spec) if name == UNNAMED else name: h for name, h in headers.items()}
    return Shard(path, headers, _count(headers, what))


def _count(headers: Mapping[str, Header], what: str) -> int:
    """How many samples a file's arrays have; DataError where they have none, or another number each."""
    counts = {name: header.shape[0] if header.shape else 0 for name, header in headers.items()}
    if len(set(counts.values())) != 1 or not min(counts.values()):
        raise DataError(f"{what}: has so many samples: {counts}; expected one or more, as many in each array")
    return next(iter(counts.values()))


def _headers(path: Path, what: str) -> Mapping[str, Header]:
    """Headers of a file's arrays, by name."""
    if path.suffix == ".parquet":
        return parquet_headers(path, what)
    try:
        if path.suffix == ".tar":
            return tar_headers(path, what)
        return npz_headers(path) if path.suffix == ".npz" else {UNNAMED: npy_header(path)}
    except (*DAMAGED, TarError) as error:
        whole = "" if path.suffix == ".tar" else " made by NumPy"
        raise DataError(
            f"{what}: cannot be read: {one_line(str(error))}; expected a whole {path.suffix}{whole}"
        ) from error


def _loaded(shard: Shard, what: str) -> dict[str, NDArray[Any]]:
    """Arrays of a shard, by name; DataError where it is not any more what its header said."""
    path, headers = shard.path, shard.headers
    if path.suffix == ".npz":
        return load_npz(path, what, SMALLER)
    refuse_too_large({name: header.bytes for name, header in headers.items()}, what, SMALLER)
    if path.suffix == ".parquet":
        return parquet_arrays(path, headers, what)
    try:
        if path.suffix == ".tar":
            return tar_arrays(path, headers, what)
        return {name: np.load(path, allow_pickle=False) for name in headers}
    except (*DAMAGED, TarError) as error:
        raise DataError(
            f"{what}: cannot be read: {one_line(str(error))}; expected what was there at the start"
        ) from error


def _only_input(path: Path, spec: ModelSpec) -> str:
    if len(spec.inputs) != 1:
        names = ", ".join(item.name for item in spec.inputs)
        holds = "is an .npy" if path.suffix == ".npy" else "holds KEY.npy"
        expected = ".npz shards" if path.suffix == ".npy" else "KEY.INPUT.npy"
        raise DataError(f"--samples {path}: {holds}, and {spec.name} has the inputs {names}; expected {expected}")
    return spec.inputs[0].name
