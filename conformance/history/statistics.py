"""The tests that tell a change from noise: ranks of rounds, discordant answers, and many claims at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.accuracy import binomial_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = Sequence[float] | NDArray[Any]

EFFECTIVE_ROUNDS = 20
"""Rounds of one measurement follow each other within a second and are not independent: they count as this many."""

CONFIDENCE = 0.95
"""Of the upper bound of a share that was seen on few samples."""


@cache
def _rank_sum_counts(first: int, second: int) -> NDArray[Any]:
    """Count of the orders of ``first`` and ``second`` values with U = 0, 1, …, first · second (float64).

    They are the coefficients of the Gaussian binomial ∏ (1 − q^(second + i)) / (1 − q^i), i = 1 … first. Each factor is
    a multiplication, and a division that always leaves a polynomial.
    """
    counts = np.zeros(first * second + 1)
    counts[0] = 1
    for i in range(1, first + 1):
        shift = second + i
        if shift < len(counts):
            counts[shift:] -= counts[:-shift].copy()
        for start in range(i):
            counts[start::i] = np.cumsum(counts[start::i])
    return counts


@cache
def _tails(first: int, second: int) -> NDArray[Any]:
    """P(U ≥ u) for u = 0, 1, …, first · second, where all orders are as likely (float64)."""
    counts = _rank_sum_counts(first, second)
    tails: NDArray[Any] = np.cumsum(counts[::-1])[::-1] / counts.sum()
    return tails


def thinned(values: Values) -> NDArray[Any]:
    """Sorted values, (n,) float64; of more than :data:`EFFECTIVE_ROUNDS` as many quantiles, evenly spread."""
    array = np.sort(np.asarray(values, dtype=np.float64))
    if len(array) <= EFFECTIVE_ROUNDS:
        return array
    return np.quantile(array, (np.arange(EFFECTIVE_ROUNDS) + 0.5) / EFFECTIVE_ROUNDS)


def rank_test(larger: Values, smaller: Values, margin: float = 1.0) -> float:
    """Exact one-sided p-value of ``larger`` being at most ``margin`` times ``smaller``: low where it is more.

    The U test of Mann and Whitney (Annals of Mathematical Statistics 18, 1947, 50-60) on thinned values, after
    ``smaller`` was multiplied by ``margin``. A tie counts against. Assumes nothing about the shape of the noise.
    Without values on one side nothing is shown: 1.
    """
    if not len(larger) or not len(smaller):
        return 1.0
    high, low = thinned(larger), thinned(smaller) * margin
    wins = int(np.searchsorted(low, high, side="left").sum())
    return float(_tails(len(high), len(low))[wins])


def least_p(larger: int, smaller: int) -> float:
    """Smallest p-value that :func:`rank_test` can come to with so many values on each side."""
    larger, smaller = min(larger, EFFECTIVE_ROUNDS), min(smaller, EFFECTIVE_ROUNDS)
    return 1 / math.comb(larger + smaller, smaller)


def share_bound(found: int, samples: int) -> float:
    """Largest share that ``found`` of ``samples`` bear, with :data:`CONFIDENCE`: Clopper and Pearson's bound.

    Biometrika 26, 1934, 404-413; by bisection of the exact binomial tail.
    """
    if found >= samples:
        return 1.0
    low, high = found / samples, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        # P(X ≤ found) at this share: of the complement, P(X ≥ samples − found).
        if binomial_tail(samples - found, samples, 1 - middle) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def sign_test(lost: int, discordant: int) -> float:
    """One-sided p-value of losing ``lost`` more than gaining, of ``discordant`` answers that changed.

    McNemar's test for paired answers (Psychometrika 12, 1947, 153-157), exact: where nothing got worse, each changed
    answer is as likely lost as gained. More discordant answers make it weaker: a bound from above is on the safe side.
    """
    discordant = max(discordant, lost)
    if lost <= 0:
        return 1.0
    return binomial_tail((discordant + lost + 1) // 2, discordant, 0.5)


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Whether each of several claims holds, so that any false one is among them with probability ``alpha`` at most.

    Holm's step-down procedure (Scandinavian Journal of Statistics 6, 1979, 65-70): valid however they depend on
    each other.
    """
    holds = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        holds[index] = True
    return holds
