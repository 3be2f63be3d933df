"""What a comparison needs of outputs, as sums that are merged in any order: counts, maxima, exact sums, worst samples.

Samples may be compared in parts, on several machines, and the parts be merged: the sums are those of all samples at
once, bit for bit. So nothing is rounded before it is summed up (see exact.py), and of equals the first sample counts.
Nothing here allows anything; compare.py judges.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance import exact
from conformance.measures import FEWEST, LEAST_SPREAD, Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.ranked import Matching

KEPT = 100
"""Of samples whose classes differ, the worst are kept by number, and all are counted."""


@dataclass(frozen=True)
class Flip:
    """A sample whose top-1 class differs, and the reference's lead of its first class over its second there.

    Where a sample has several decisions or integers it is the worst of them, at ``place`` in the sample; the margin of
    scores is the reference's distance from the threshold, and that of integers 0. ``size`` is what makes it worse than
    others.
    """

    sample: int
    expected: int
    actual: int
    margin: float
    place: tuple[int, ...] = ()
    size: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Worst:
    """The element that differs most, of several the first: its difference, its place, and both values there."""

    difference: float
    index: tuple[int, ...]
    actual: float
    expected: float

    def merged(self, other: Worst) -> Worst:
        """The worse of two."""
        return min(self, other, key=lambda worst: (-worst.difference, worst.index))


@dataclass(frozen=True)
class Spread:
    """What the variance over the samples is made of, for values whose every element is centred by itself.

    ``columns`` and ``apart`` are the sums of the reference and of the differences by element, ``squares`` and
    ``squares_apart`` those of their squares over all elements.
    """

    columns: exact.Columns
    apart: exact.Columns
    squares: int
    squares_apart: int
    elements: int

    @classmethod
    def of(cls, actual: NDArray[Any], reference: NDArray[Any]) -> Spread:
        """Sums of values (N, …)."""
        theirs = reference.reshape(len(reference), -1).astype(np.float64)
        apart = actual.reshape(theirs.shape).astype(np.float64) - theirs
        return cls(
            exact.columns(theirs),
            exact.columns(apart),
            exact.total(theirs * theirs),
            exact.total(apart * apart),
            theirs.shape[1],
        )

    def merged(self, other: Spread) -> Spread:
        """Sums of both parts."""
        return Spread(
            exact.added(self.columns, other.columns),
            exact.added(self.apart, other.apart),
            self.squares + other.squares,
            self.squares_apart + other.squares_apart,
            self.elements,
        )

    def lost(self, samples: int, largest: float) -> float | None:
        """Share of the reference's variance over the samples that the answers lack: 0 for its own, 1 for a constant.

        A constant that is added to all answers is none. None where there are fewer than FEWEST samples, or the
        reference, of this ``largest`` magnitude, hardly depends on them, so that nothing is to be kept.
        """
        variance = self._variance(self.columns, self.squares, samples)
        if samples < FEWEST or variance <= (LEAST_SPREAD * largest) ** 2:
            return None
        return self._variance(self.apart, self.squares_apart, samples) / variance

    def _variance(self, sums: exact.Columns, squares: int, samples: int) -> float:
        centre = exact.rounded(sums, self.elements) / samples
        return max(exact.mean(squares, samples * self.elements) - float(np.square(centre).mean()), 0.0)


@dataclass(frozen=True)
class OutputSums:
    """Sums of one output over samples; ``difference``, ``magnitude`` and ``divergence`` are exact (see exact.py).

    ``decisions`` are what has a class, a decision or an integer, ``wrong`` those that differ, and ``flipped`` the
    samples with any. ``digest`` is that of a constant's answer. ``matching`` says which rows of a ranked output belong
    together, which hangs on all samples: such sums are not merged.
    """

    samples: int
    elements: int
    worst: Worst
    difference: int
    magnitude: int
    largest: float
    decisions: int = 0
    wrong: int = 0
    flipped: int = 0
    flips: tuple[Flip, ...] = ()
    divergence: int = 0
    off_one: float = 0.0
    spread: Spread | None = None
    digest: str = ""
    matching: Matching | None = None
    whole: bool = False
    """Whether it holds integers or truth values."""

    @property
    def scale(self) -> Scale:
        """Largest and mean magnitude of the reference."""
        return Scale(self.largest, exact.mean(self.magnitude, self.elements))

    def merged(self, other: OutputSums) -> OutputSums:
        """Sums of both parts; a constant, which every part has whole, is that of one.

        Raises ValueError for ranked outputs.
        """
        if self.matching or other.matching:
            raise ValueError("ranked outputs are matched by all samples, and have no sums of parts")
        if self.digest:
            return self
        return OutputSums(
            self.samples + other.samples,
            self.elements + other.elements,
            self.worst.merged(other.worst),
            self.difference + other.difference,
            self.magnitude + other.magnitude,
            max(self.largest, other.largest),
            self.decisions + other.decisions,
            self.wrong + other.wrong,
            self.flipped + other.flipped,
            worst_flips([*self.flips, *other.flips]),
            self.divergence + other.divergence,
            max(self.off_one, other.off_one),
            self.spread.merged(other.spread) if self.spread and other.spread else None,
        )


def worst_flips(flips: Sequence[Flip]) -> tuple[Flip, ...]:
    """The worst of flips, KEPT at most; of equals the first samples."""
    return tuple(heapq.nsmallest(KEPT, flips, key=lambda flip: (-flip.size, flip.sample)))


@dataclass(frozen=True)
class Form:
    """What outputs are by themselves: dtypes, shapes, how many elements are NaN or infinite, and where the first is.

    ``shape`` and ``expected`` are those of all samples together. What is no array has its type for ``dtype`` and no
    ``shape``.
    """

    dtype: str
    shape: tuple[int, ...] | None
    expected_dtype: str
    expected: tuple[int, ...]
    bad: int = 0
    first: tuple[int, ...] = ()
    expected_bad: int = 0
    expected_first: tuple[int, ...] = ()

    @classmethod
    def of(cls, actual: NDArray[Any], reference: NDArray[Any], *, constant: bool = False, start: int = 0) -> Form:
        """Look at an output and the reference's, whose first sample has the number ``start``; a constant has none."""
        expected = str(reference.dtype), reference.shape
        if not isinstance(actual, np.ndarray):
            return cls(type(actual).__name__, None, *expected)
        ours, theirs = (_bad(array, 0 if constant else start) for array in (actual, reference))
        return cls(str(actual.dtype), actual.shape, *expected, *ours, *theirs)

    def merged(self, other: Form) -> Form:
        """Form of both parts; what is wrong with one of them is wrong with both."""
        if self.shape is None or other.shape is None or self.dtype != other.dtype:
            return min(self, other, key=lambda form: (form.problem("") is None, repr(form)))
        return Form(
            self.dtype,
            _together(self.shape, other.shape),
            self.expected_dtype,
            _together(self.expected, other.expected),
            self.bad + other.bad,
            min(filter(None, (self.first, other.first)), default=()),
            self.expected_bad + other.expected_bad,
            min(filter(None, (self.expected_first, other.expected_first)), default=()),
        )

    def problem(self, name: str, *, constant: bool = False) -> str | None:
        """Sentence on what is wrong with an output whatever the tolerance; None where nothing is.

        That is shape, dtype, emptiness, NaN and infinity. A ``constant`` may be a single number; anything else has a
        first axis of samples.
        """
        if self.shape is None:
            return f"{name}: is {self.dtype}; expected an array"
        if self.dtype != self.expected_dtype:
            return f"{name}: dtype {self.dtype}; expected {self.expected_dtype}"
        if self.shape != self.expected:
            return f"{name}: shape {self.shape}; expected {self.expected}"
        size = int(np.prod(self.shape))
        if size == 0 or not (self.shape or constant):
            return f"{name}: no samples, shape {self.shape}; nothing was compared"
        for who, bad, first in (
            ("output", self.bad, self.first),
            ("reference", self.expected_bad, self.expected_first),
        ):
            if bad:
                return f"{name}: {bad} of {size} elements of the {who} are NaN or infinite, the first at {first}"
        return None


def _bad(array: NDArray[Any], start: int) -> tuple[int, tuple[int, ...]]:
    """How many elements are not finite, and the place of the first."""
    bad = ~np.isfinite(array)
    if not bad.any():
        return 0, ()
    first = [int(i) for i in np.argwhere(bad)[0]]
    return int(bad.sum()), tuple([first[0] + start, *first[1:]] if first else first)


def _together(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of arrays joined along the first axis; that of one of them where they cannot be, which nobody expected."""
    return (one[0] + other[0], *one[1:]) if one and other and one[1:] == other[1:] else min(one, other)


@dataclass(frozen=True)
class Sums:
    """Sums of all outputs over the samples from ``start`` on.

    ``kinds`` are those of the reference's outputs. ``forms`` are of those that the engine has, ``outputs`` the sums of
    those that nothing is wrong with. ``flipped`` counts samples by the outputs that change class in them. ``torn`` are
    constants that are not the same in all parts.
    """

    start: int
    samples: int
    kinds: Mapping[str, str]
    forms: Mapping[str, Form]
    outputs: Mapping[str, OutputSums]
    flipped: Mapping[tuple[str, ...], int]
    missing: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()
    torn: frozenset[str] = frozenset()

    def merged(self, other: Sums) -> Sums:
        """Sums of both parts, whatever their order, and whatever samples lie between them."""
        first, second = sorted((self, other), key=lambda sums: sums.start)
        both = [name for name in first.forms if name in second.forms]
        sums = [name for name in first.outputs if name in second.outputs]
        torn = {name for name in sums if first.outputs[name].digest != second.outputs[name].digest}
        constant = {name for name, kind in first.kinds.items() if kind == "constant"}
        return Sums(
            first.start,
            first.samples + second.samples,
            first.kinds,
            {n: first.forms[n] if n in constant else first.forms[n].merged(second.forms[n]) for n in both},
            {n: first.outputs[n].merged(second.outputs[n]) for n in sums},
            dict(Counter(first.flipped) + Counter(second.flipped)),
            first.missing | second.missing,
            first.extra | second.extra,
            first.torn | second.torn | torn,
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences on what is wrong whatever the tolerance."""
        found = [] if self.kinds else ["the reference has no outputs"]
        found += [f"missing outputs: {', '.join(sorted(self.missing))}"] if self.missing else []
        found += [f"extra outputs: {', '.join(sorted(self.extra))}"] if self.extra else []
        for name, form in self.forms.items():
            if problem := form.problem(name, constant=self.kinds[name] == "constant"):
                found.append(problem)
            elif name in self.torn:
                found.append(f"{name}: has no batch axis, and is another one in another part; allowed: the same in all")
            elif name not in self.outputs:
                found.append(f"{name}: is as it should be as a whole, and not in each part of the samples")
        return tuple(found)

    @property
    def sound(self) -> dict[str, OutputSums]:
        """Sums of the outputs whose values are all that can be wrong with them."""
        kinds = self.kinds
        return {
            name: sums
            for name, sums in self.outputs.items()
            if self.forms[name].problem(name, constant=kinds[name] == "constant") is None and name not in self.torn
        }
