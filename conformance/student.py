"""Quantiles of Student's distribution: how far the next value may be from few that were seen."""

from __future__ import annotations

import math
from functools import cache

CLOSE = 1e-9
"""Relative error of a quantile."""


def tail(value: float, freedom: int) -> float:
    """P(T > value) for value ≥ 0 and ``freedom`` degrees of freedom, by the finite series of integer degrees."""
    angle = math.atan(value / math.sqrt(freedom))
    square, odd = math.cos(angle) ** 2, freedom % 2 == 1
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for step in range(1 if odd else 0, freedom - 1, 2):
        total += term
        term *= square * (step + 1) / (step + 2)
    within = (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total
    return max(0.0, (1 - within) / 2)


@cache
def quantile(confidence: float, freedom: int) -> float:
    """Value that T is below with ``confidence`` in (0.5, 1)."""
    low, high = 0.0, 1.0
    while tail(high, freedom) > 1 - confidence:
        high *= 2
    while high - low > CLOSE * high:
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, freedom) > 1 - confidence else (low, middle)
    return high
