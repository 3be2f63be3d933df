"""Faults in a folder of shards, and of engines that are judged on one; samples in shards that are sound pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from faults import graph
from faults.change import PASSES, Change
from faults.files import each_but_labels, with_nan
from faults.graph_edits import NUMBERS, noise
from faults.made import Made
from faults.programs import plant as program
from faults.sound_changes import as_converted

KIND = "samples in shards"
SHARDS = 4

Arrays = dict[str, Any]


def _unchanged(folder: Path) -> None:
    """Leave the shards as they are."""


def shards(made: Made, folder: Path, each: Callable[[int, Arrays], Arrays] = lambda _, found: found) -> Path:
    """Folder of a model's samples in SHARDS files, each changed by its number."""
    target = folder / "shards"
    target.mkdir()
    with np.load(made.samples) as archive:
        found = {name: archive[name] for name in archive.files}
    parts = {name: np.array_split(array, SHARDS) for name, array in found.items()}
    for number in range(SHARDS):
        np.savez(target / f"part-{number}.npz", **each(number, {name: part[number] for name, part in parts.items()}))
    return target


def sharded(
    bring: Callable[[Made, Path], list[str]],
    after: Callable[[Path], None] = _unchanged,
    each: Callable[[int, Arrays], Arrays] = lambda _, found: found,
) -> Callable[[Made, Path], list[str]]:
    """What brings a file, and the samples in shards, which ``each`` and ``after`` may change."""

    def plant(made: Made, folder: Path) -> list[str]:
        target = shards(made, folder, each)
        after(target)
        return [*bring(made, folder), f"--samples={target}"]

    return plant


def wrong_runner(made: Made, folder: Path) -> list[str]:
    """Words that bring the sound ONNX file and a program that gives the rows of each batch in reverse."""
    return program(made, folder, "onnx-fp32")


def _cut(folder: Path) -> None:
    last = folder / f"part-{SHARDS - 1}.npz"
    last.write_bytes(last.read_bytes()[:-1000])


def _in_one(number: int, change: Callable[[Any], Any]) -> Callable[[int, Arrays], Arrays]:
    """Changes the arrays of one shard, but for its labels."""
    return lambda n, found: each_but_labels(change)(found) if n == number else found


SOUND = as_converted("onnx-fp32")

PLANTED: tuple[tuple[str, str, Callable[[Made, Path], list[str]], tuple[str, ...]], ...] = (
    ("a shard missing", "digits", sharded(SOUND, lambda f: (f / "part-1.npz").unlink()), ("part-1", "missing")),
    ("the last shard cut short", "digits", sharded(SOUND, _cut), ("part-3.npz",)),
    ("a shard in float64", "price", sharded(SOUND, each=_in_one(2, lambda a: a.astype(np.float64))), ("float64",)),
    ("a shard of another shape", "price", sharded(SOUND, each=_in_one(2, lambda a: a[:, :-1])), ("of 7 a sample",)),
    ("a shard with a NaN", "price", sharded(SOUND, each=_in_one(2, with_nan)), ("NaN or infinite",)),
    (
        "noise of 1 % on a layer's weights, on shards",
        "two_heads",
        sharded(graph.edited("onnx-fp32", noise(0.01, -1))),
        NUMBERS,
    ),
    ("rows of a batch reversed", "two_heads", sharded(wrong_runner), ("order",)),
)

CHANGES: tuple[Change, ...] = (
    *(
        Change(name, KIND, model, "onnx-fp32", plant, right, alone=True, data=True)
        for name, model, plant, right in PLANTED
    ),
    *(
        Change("samples in shards", "sound", model, "onnx-fp32", sharded(SOUND), expected=PASSES, alone=True)
        for model in ("digits", "price", "marks")
    ),
)
