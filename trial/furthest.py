"""The samples that a model's twin is asked again for: those where an engine is furthest off, found part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.paired import OF_CLASSES, comparable, figures_of
from conformance.pairs import pulls

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.compare import Comparison
    from trial.outputs import Outputs

    Arrays = Mapping[str, NDArray[Any]]
    Ranked = tuple[tuple[float, int], ...]

FURTHEST = 24
"""How many samples are looked at where an engine is furthest off."""


@dataclass(frozen=True, eq=False)
class Furthest:
    """Samples where an engine is furthest off, FURTHEST of each output.

    ``apart`` has their numbers by their distance; ``pulling``, of outputs of classes, by what each adds to the slope,
    which hangs on logarithms of shares that no difference shows. ``reference`` is what the reference answered to each
    of them, by its number.
    """

    apart: Mapping[str, Ranked]
    pulling: Mapping[str, Ranked]
    reference: Mapping[int, Arrays]

    @classmethod
    def of(cls, actual: Arrays, reference: Arrays, kinds: Mapping[str, str], *, start: int = 0) -> Furthest:
        """Those of answers (N, …) to samples from the number ``start`` on, which differ by nothing but their values.

        ``kinds`` says what each output holds.
        """
        apart, pulling = {}, {}
        for name, array in reference.items():
            far = np.abs(actual[name].astype(np.float64) - array).reshape(len(array), -1).max(axis=1)
            apart[name] = _first(far, start)
            if figures_of(kinds[name], array.ndim) is OF_CLASSES:
                pulling[name] = _first(pulls(*(comparable(a, kinds[name]) for a in (actual[name], array))), start)
        rows = _numbers(apart, pulling)
        return cls(apart, pulling, {n: {k: a[n - start : n - start + 1] for k, a in reference.items()} for n in rows})

    def merged(self, other: Furthest) -> Furthest:
        """Those of both parts, in any order; of samples that are as far off the first ones count."""
        apart, pulling = _merged(self.apart, other.apart), _merged(self.pulling, other.pulling)
        rows = _numbers(apart, pulling)
        return Furthest(apart, pulling, {n: r for n, r in {**self.reference, **other.reference}.items() if n in rows})

    def samples(self, *, of_slope: bool = False) -> NDArray[np.intp]:
        """Numbers of the samples, in their order: by distance, and ``of_slope`` by what each adds to that, too."""
        return np.array(sorted(_numbers(self.apart, self.pulling if of_slope else {})), np.intp)

    def answers(self, samples: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """What the reference answered to some of them, in their order."""
        rows = [self.reference[int(n)] for n in samples]
        return {name: np.concatenate([row[name] for row in rows]) for name in self.apart}


def furthest(given: Outputs, kinds: Mapping[str, str], *, of_slope: bool = False) -> NDArray[np.intp]:
    """Samples, in their order, where any output that has a batch axis is furthest off; at most FURTHEST of each output.

    ``kinds`` says what each output holds. With ``of_slope`` there are those, too, that add most to the slope.
    """
    count = len(next(iter(given.inputs.values())))
    batched = {name: array for name, array in given.reference.items() if array.ndim and len(array) == count}
    return Furthest.of(given.actual, batched, kinds).samples(of_slope=of_slope)


def slope_alone(comparison: Comparison) -> bool:
    """Whether the slope is all that is beyond what is allowed."""
    return {f.name for output in comparison.outputs for f in output.figures if not f.passed} == {"slope"}


def _first(sizes: NDArray[np.float64], start: int) -> Ranked:
    """The largest sizes (N,), the first of equals first, each with its sample's number."""
    order = np.argsort(-sizes, kind="stable")[:FURTHEST]
    return tuple((float(sizes[i]), int(i) + start) for i in order)


def _merged(one: Mapping[str, Ranked], two: Mapping[str, Ranked]) -> dict[str, Ranked]:
    """The largest of both by output."""
    return {n: tuple(sorted((*r, *two[n]), key=lambda found: (-found[0], found[1]))[:FURTHEST]) for n, r in one.items()}


def _numbers(*ranked: Mapping[str, Ranked]) -> set[int]:
    return {number for by_output in ranked for found in by_output.values() for _, number in found}
