"""Bounds that few runs tell: what the next value, count or extreme is below with a confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.student import quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE = 0.99
"""Of sound conversions that are like the twin this share is below each bound, before the factor."""

FEWEST = 3
"""Fewer runs tell no spread."""

WIDENING = 1.5
"""As many runs are made as keep the bound within this many times the one that infinitely many would give."""

TAIL = 0.98
"""The quantile whose distance from the median tells how sizes spread upwards."""


def runs_needed(confidence: float = CONFIDENCE) -> int:
    """Fewest runs whose bound is within WIDENING of the one that all runs there are would give; at least FEWEST."""
    known = quantile(confidence, 10**4)
    return next(k for k in range(FEWEST, 10**4) if _student(confidence, k) <= WIDENING * known)


def reached(values: Sequence[float], confidence: float = CONFIDENCE) -> float:
    """Value that the next of positive values as these is below with a confidence; zeros count as the least positive.

    Raises ValueError for fewer than FEWEST values.
    """
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} runs; allowed: {FEWEST} or more, of fewer no spread is told")
    positive = [v for v in values if v > 0]
    if not positive:
        return 0.0
    logs = np.log([max(v, min(positive)) for v in values])
    return float(np.exp(logs.mean() + _student(confidence, len(logs)) * logs.std(ddof=1)))


def reached_count(
    counts: Sequence[float] | NDArray[Any],
    factor: float = 1.0,
    confidence: float = CONFIDENCE,
    *,
    more: float = 1.0,
    known: float | None = None,
) -> float:
    """Count that the next of counts as these is below with a confidence, at ``factor`` times their rate; at least one.

    It is that of ``more`` times as many samples; ``known`` is how many events tell the rate, where not all are
    different ones. Counts of rare events spread by their own number, by how well their rate is known, and by how the
    runs differ; the larger of the first two and the last is taken.
    """
    events = float(sum(counts)) if known is None else known
    rate = (float(sum(counts)) + 0.5) / len(counts) * factor * more
    chance = rate + rate**2 / (events + 0.5)
    between = (factor * more) ** 2 * float(np.var(counts, ddof=1)) * (1 + 1 / len(counts))
    return max(1.0, float(math.floor(rate + _student(confidence, len(counts)) * math.sqrt(max(chance, between)))))


def widest(sizes: NDArray[np.float64], few: int, many: int) -> float:
    """How many times the largest of ``few`` sizes such as these the largest of ``many`` is; at least 1.

    Their upper half is taken for log-normal, with the spread that the distance of its TAIL from the median gives.
    """
    positive = sizes[sizes > 0]
    if not positive.size:
        return 1.0
    normal = NormalDist()
    middle, upper = np.quantile(positive, [0.5, TAIL])
    spread = math.log(upper / middle) / normal.inv_cdf(TAIL)
    return max(1.0, math.exp(spread * (_of_largest(many) - _of_largest(few))))


def _of_largest(count: int) -> float:
    """Where the largest of so many normal numbers lies, in standard deviations: its median."""
    return NormalDist().inv_cdf(0.5 ** (1 / count))


def _student(confidence: float, count: int) -> float:
    """How many standard deviations of ``count`` values the next one is below their mean plus."""
    return quantile(confidence, count - 1) * math.sqrt(1 + 1 / count)
