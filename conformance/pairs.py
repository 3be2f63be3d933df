"""What the figures of :mod:`conformance.paired` need of answers, as sums that are merged in any order (see exact.py).

Means, slopes and correlations over samples are fractions of whole numbers here, rounded once, at the end: the same for
all samples at once and for parts of them, bit for bit. Of the first samples, which a model's twin has answered too, the
answers themselves are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance import exact
from conformance.measures import KL_FLOOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

COLUMNS = 4096
"""Of outputs with more numbers a sample, the means over all but the last axis are looked at."""

SHARES = 0.05
"""Rows that sum to one within this are shares, those of eight bits among them."""

ALIKE = 1e-12
"""The spread of a place is no less than this share of the largest magnitude: less is not in FP32."""

SAME = 50
"""A variance of no more than 2^-SAME of the mean square is what rounding squares leaves of none."""


def columns(values: Array) -> NDArray[np.float64]:
    """Numbers of each sample, (N, …) as (N, columns) in float64."""
    flat = values.reshape(len(values), -1)
    if flat.shape[1] > COLUMNS:
        flat = values.reshape(len(values), -1, values.shape[-1]).astype(np.float64).mean(axis=1)
    return np.asarray(flat, np.float64)


def shares(flat: NDArray[np.float64]) -> bool:
    """Whether all rows (N, columns) are shares of one."""
    return bool(flat.shape[1] > 1 and flat.min() >= 0 and np.allclose(flat.sum(axis=1), 1, atol=SHARES))


def log_shares(flat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of shares (N, columns), each row around its own mean."""
    logs = np.log(np.maximum(flat, KL_FLOOR))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True), np.float64)


def pulls(actual: Array, reference: Array) -> NDArray[np.float64]:
    """What each sample of shares (N, classes) adds to :attr:`Pairs.slope`, up to a factor: its size, (N,)."""
    base = log_shares(columns(reference))
    return np.asarray(np.abs(((log_shares(columns(actual)) - base) * base).sum(axis=1)), np.float64)


PARTS = 720_720
"""Parts of a sample that are counted for its classes: as many for each of up to 16 classes that are equal."""


def classes_of(answers: Array) -> NDArray[np.int64]:
    """:data:`PARTS` of the samples of each class by answers (N, classes); one whose classes are equal has some in each.

    Answers in integer steps are often equal, and an argmax would give all of those to the first class.
    """
    first = answers == answers.max(axis=1, keepdims=True)
    return np.asarray((first * (PARTS // np.maximum(first.sum(axis=1, keepdims=True), 1))).sum(axis=0), np.int64)


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the samples of two sets of numbers (N, columns), ours and the reference's, and of their products."""

    ours: exact.Columns
    theirs: exact.Columns
    own: int
    other: int
    cross: int

    @classmethod
    def of(cls, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Moments:
        """Sums of some samples."""
        return cls(
            exact.columns(ours),
            exact.columns(theirs),
            exact.total(ours * ours),
            exact.total(theirs * theirs),
            exact.total(ours * theirs),
        )

    def merged(self, more: Moments) -> Moments:
        """Sums of both parts."""
        return Moments(
            exact.added(self.ours, more.ours),
            exact.added(self.theirs, more.theirs),
            self.own + more.own,
            self.other + more.other,
            self.cross + more.cross,
        )

    def centred(self, samples: int, width: int) -> tuple[int, int, int]:
        """Sums of squares and of products around the mean of each of ``width`` columns, as whole multiples of a unit.

        Ours, the reference's, and those of both; the unit is the same for all of them.
        """
        ours, theirs = (exact.whole(sums, width) for sums in (self.ours, self.theirs))
        about = ((self.own, ours, ours), (self.other, theirs, theirs), (self.cross, ours, theirs))
        own, other, cross = (
            (samples * products << -exact.LEAST) - sum(a * b for a, b in zip(one, two, strict=True))
            for products, one, two in about
        )
        return own, other, cross


@dataclass(frozen=True, eq=False)
class Kept:
    """Answers to the samples from ``start`` on, an engine's and the reference's, (n, …)."""

    start: int
    actual: Array
    reference: Array


@dataclass(frozen=True, eq=False)
class Pairs:
    """Sums of an engine's answers to samples beside the reference's; ``shape`` is that of a sample.

    ``shares`` says whether all of the reference's rows are shares; ``logs`` are then sums of products of their
    logarithms, the reference's with itself and with ours. ``classes`` counts parts of samples by class, ours and as
    expected, for answers (N, classes). ``first`` are answers to samples before the number that a part was told.
    """

    samples: int
    shape: tuple[int, ...]
    width: int
    largest: float
    moments: Moments
    shares: bool
    logs: tuple[int, int]
    classes: NDArray[np.int64]
    expected_classes: NDArray[np.int64]
    first: tuple[Kept, ...]

    @classmethod
    def of(cls, actual: Array, reference: Array, *, first: int | None = None, start: int = 0) -> Pairs:
        """Sums of answers (N, …) to samples from the number ``start`` on.

        Those to samples before the number ``first`` are kept; all of them for None.
        """
        ours, theirs = columns(np.ascontiguousarray(actual)), columns(np.ascontiguousarray(reference))
        few = len(actual) if first is None else max(0, min(first - start, len(actual)))
        of_one = shares(theirs)
        logs = (0, 0)
        if of_one:
            mine, base = log_shares(ours), log_shares(theirs)
            logs = exact.total(base * base), exact.total(mine * base)
        # Only of one decision a sample there are classes.
        decided = reference.ndim == 2
        return cls(
            samples=len(actual),
            shape=actual.shape[1:],
            width=theirs.shape[1],
            largest=float(np.abs(theirs).max()),
            moments=Moments.of(ours, theirs),
            shares=of_one,
            logs=logs,
            classes=classes_of(actual) if decided else np.zeros(0, np.int64),
            expected_classes=classes_of(reference) if decided else np.zeros(0, np.int64),
            first=(Kept(start, actual[:few], reference[:few]),) if few else (),
        )

    def merged(self, other: Pairs) -> Pairs:
        """Sums of both parts, in any order."""
        of_one = self.shares and other.shares
        return replace(
            self,
            samples=self.samples + other.samples,
            largest=max(self.largest, other.largest),
            moments=self.moments.merged(other.moments),
            shares=of_one,
            logs=(self.logs[0] + other.logs[0], self.logs[1] + other.logs[1]) if of_one else (0, 0),
            classes=self.classes + other.classes,
            expected_classes=self.expected_classes + other.expected_classes,
            first=tuple(sorted((*self.first, *other.first), key=lambda kept: kept.start)),
        )

    @property
    def kept(self) -> tuple[Array, Array]:
        """Answers to the first samples, ours and the reference's, in the samples' order."""
        ours, theirs = ([getattr(kept, whose) for kept in self.first] for whose in ("actual", "reference"))
        return np.concatenate(ours), np.concatenate(theirs)

    @cached_property
    def mean_change(self) -> NDArray[np.float64]:
        """Mean of what each column differs by, (columns,)."""
        ours, theirs = (exact.whole(sums, self.width) for sums in (self.moments.ours, self.moments.theirs))
        return np.array([exact.mean(a - b, self.samples) for a, b in zip(ours, theirs, strict=True)])

    @cached_property
    def _centred(self) -> tuple[int, int, int]:
        return self.moments.centred(self.samples, self.width)

    def _constant(self, about: int, squares: int) -> bool:
        """Whether squares around a middle are what rounding leaves of none, of ``squares`` around zero."""
        return about << SAME <= self.samples * squares << -exact.LEAST

    @cached_property
    def slope(self) -> tuple[float, float]:
        """Slope of the answers' change over the reference's, both around their middle; and the latter's squares' sum.

        Both are 0 where the reference has no more spread than rounding.
        """
        if self.shares:
            other, cross = self.logs
            return ((cross - other) / other, exact.mean(other, 1)) if other else (0.0, 0.0)
        _, other, cross = self._centred
        if self._constant(other, self.moments.other):
            return 0.0, 0.0
        return (cross - other) / other, exact.mean(other, self.samples << -exact.LEAST)

    @cached_property
    def unrelated(self) -> float | None:
        """Share of the variance over the samples that the answers do not follow; see :func:`paired.unrelated`."""
        own, other, cross = self._centred
        size = exact.mean(other, self.samples << -exact.LEAST)
        if self.samples < 2 or size <= ALIKE * self.largest**2 * self.samples * self.width:
            return None
        if cross <= 0 or self._constant(own, self.moments.own):
            return 1.0
        return max((own * other - cross**2) / (own * other), 0.0)
