"""What an engine answered on inputs, beside the reference's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

FURTHEST = 24
"""How many samples are looked at where an engine is furthest off."""


@dataclass(frozen=True)
class Outputs:
    """What an engine answered on inputs, and what the reference did; all by name, (N, …)."""

    inputs: Arrays
    actual: Arrays
    reference: Arrays

    def part(self, few: slice | NDArray[np.intp]) -> Outputs:
        """Some of the samples, of outputs that all have a batch axis."""
        return Outputs(
            *({n: a[few] for n, a in arrays.items()} for arrays in (self.inputs, self.actual, self.reference))
        )

    def spared(self, samples: NDArray[np.intp]) -> Outputs:
        """The same with the reference's answers to some samples in place of the engine's: nothing differs there."""
        actual = {}
        for name, array in self.actual.items():
            actual[name] = array.copy()
            if array.ndim and len(array) == len(next(iter(self.inputs.values()))):
                actual[name][samples] = self.reference[name][samples]
        return Outputs(self.inputs, actual, self.reference)

    def without(self, names: frozenset[str]) -> Outputs:
        """The same without some outputs, such as those that have no batch axis."""
        return Outputs(self.inputs, *(without(arrays, names) for arrays in (self.actual, self.reference)))


def without(outputs: Arrays, names: frozenset[str]) -> dict[str, NDArray[Any]]:
    """Outputs but for some, by name."""
    return {name: array for name, array in outputs.items() if name not in names}


@dataclass(frozen=True, eq=False)
class Furthest:
    """Samples where an engine is furthest off, FURTHEST of each output: ``apart`` has their numbers by their distance.

    ``reference`` is what the reference answered to each of them, by its number.
    """

    apart: Mapping[str, tuple[tuple[float, int], ...]]
    reference: Mapping[int, Arrays]

    @classmethod
    def of(cls, actual: Arrays, reference: Arrays, *, start: int = 0) -> Furthest:
        """Those of answers (N, …) to samples from the number ``start`` on, which differ by nothing but their values."""
        apart = {}
        for name, array in reference.items():
            far = np.abs(actual[name].astype(np.float64) - array).reshape(len(array), -1).max(axis=1)
            order = np.argsort(-far, kind="stable")[:FURTHEST]
            apart[name] = tuple((float(far[i]), int(i) + start) for i in order)
        rows = {number for found in apart.values() for _, number in found}
        return cls(apart, {n: {name: a[n - start : n - start + 1] for name, a in reference.items()} for n in rows})

    def merged(self, other: Furthest) -> Furthest:
        """Those of both parts, in any order; of samples that are as far off the first ones count."""
        apart = {
            name: tuple(sorted((*found, *other.apart[name]), key=lambda one: (-one[0], one[1]))[:FURTHEST])
            for name, found in self.apart.items()
        }
        rows = {number for found in apart.values() for _, number in found}
        return Furthest(apart, {n: row for n, row in {**self.reference, **other.reference}.items() if n in rows})

    @property
    def samples(self) -> NDArray[np.intp]:
        """Numbers of the samples, in their order."""
        return np.array(sorted(self.reference), np.intp)

    @property
    def answers(self) -> dict[str, NDArray[Any]]:
        """What the reference answered to them, in that order."""
        rows = [self.reference[int(n)] for n in self.samples]
        return {name: np.concatenate([row[name] for row in rows]) for name in self.apart}


def furthest(given: Outputs) -> NDArray[np.intp]:
    """Samples, in their order, where any output that has a batch axis differs most; at most FURTHEST of each output."""
    count = len(next(iter(given.inputs.values())))
    batched = {name: array for name, array in given.reference.items() if array.ndim and len(array) == count}
    return Furthest.of(given.actual, batched).samples
