"""Outputs of several runs put together, and the outputs of some samples: those without a batch axis stay whole."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec

    Arrays = Mapping[str, NDArray[Any]]


def joined(spec: ModelSpec, parts: Sequence[Arrays], who: str = "the engine") -> dict[str, NDArray[Any]]:
    """Outputs of all batches by the spec's names: arrays (N, …), and as they are those without a batch axis.

    Raises RunnerError where such a one is not the same in every batch, bit for bit; ``who`` begins the sentence.
    """
    same = constant(spec, parts, who)
    return {
        o.name: same[o.name] if o.name in same else np.concatenate([part[o.name] for part in parts])
        for o in spec.outputs
    }


def constant(spec: ModelSpec, parts: Sequence[Arrays], who: str) -> dict[str, NDArray[Any]]:
    """Outputs without a batch axis, which are the same in all parts; raises RunnerError where one is not."""
    found = {}
    for name in spec.constants:
        found[name] = first = np.asarray(parts[0][name])
        for number, part in enumerate(parts):
            if not np.array_equal(first, part[name], equal_nan=first.dtype.kind == "f"):
                raise RunnerError(
                    f"{who}: output {name!r} has no batch axis, and is another one in batch {number + 1} of "
                    f"{len(parts)}; allowed: the same in every batch"
                )
    return found


class Gathered:
    """Outputs of ``count`` samples by the spec's names, whose parts are copied to their places as they come.

    From any thread; arrays as :func:`joined` gives them, and ``who`` begins its sentences.
    """

    def __init__(self, spec: ModelSpec, count: int, who: str) -> None:
        self._spec, self._count, self._who = spec, count, who
        self._arrays: dict[str, NDArray[Any]] = {}
        self._constants: dict[int, Arrays] = {}
        self._lock = threading.Lock()

    def add(self, start: int, outputs: Arrays) -> None:
        """Copy the outputs of samples from ``start`` on; nothing of them is kept."""
        constants = {name: np.array(outputs[name]) for name in self._spec.constants}
        rows = {o.name: outputs[o.name] for o in self._spec.outputs if o.name not in constants}
        with self._lock:
            self._constants[start] = constants
            for name, array in rows.items():
                if name not in self._arrays:
                    self._arrays[name] = np.empty((self._count, *array.shape[1:]), array.dtype)
        # Without the lock: parts have places of their own.
        for name, array in rows.items():
            np.copyto(self._arrays[name][start : start + len(array)], array, casting="no")

    def outputs(self) -> dict[str, NDArray[Any]]:
        """All of them, once every part is there; raises RunnerError as :func:`joined` does."""
        same = constant(self._spec, [part for _, part in sorted(self._constants.items())], self._who)
        return {o.name: same[o.name] if o.name in same else self._arrays[o.name] for o in self._spec.outputs}


def taken(spec: ModelSpec, outputs: Arrays, which: slice | NDArray[np.intp] | Sequence[int]) -> dict[str, NDArray[Any]]:
    """Outputs of some samples, by name; those without a batch axis as they are."""
    return {name: array if name in spec.constants else array[which] for name, array in outputs.items()}
