"""What the figures of a comparison can reach at most, by the kind of output: a tolerance beyond it fails nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, inf, log

from conformance.measures import KL_FLOOR, MEAN_OF_ROWS
from conformance.tolerances import BATCHING

_ROWS = {"mean": 2 * MEAN_OF_ROWS, "margin": 1.0, "flips": 1.0}
_KL = float(ceil(-log(KL_FLOOR)))

REACH: Mapping[str, Mapping[str, float]] = {
    "probabilities": {"max": 1.0, **_ROWS, "kl": _KL, "sum": 1.0, BATCHING: 1.0},
    "logits": {"max": inf, "mean": inf, "kl": _KL, "margin": 1.0, "flips": 1.0, BATCHING: inf},
    "scores": {"max": 1.0, **_ROWS, BATCHING: 1.0},
    "values": {"max": inf, "mean": inf, BATCHING: inf},
    "integers": {"flips": 1.0, BATCHING: inf},
    "ranked": {"max": inf, "mean": inf, "margin": inf, "flips": 1.0, BATCHING: inf},
    "constant": {"max": inf, "mean": inf, "flips": 1.0, BATCHING: inf},
}
"""The most that answers can need which hold what their kind says, by figure; none where the kind lacks the figure.

Probabilities and scores lie in [0, 1], so that two differ by one at most, and so do their leads. Two distributions
differ by two in all, which is a mean of 0.2. The divergence is bounded by the logarithm of the largest ratio of two
probabilities. Those below KL_FLOOR count as that, and all are normalized again, so it is rounded up.
Rows of zeros are off their sum by one. Other numbers have no end.
"""

DIFFERENCES = ("max", "mean")
"""The figures whose reach of numbers without end is told by how far the reference's own answers are apart."""


def reach(figure: str, kinds: Iterable[str]) -> float | None:
    """The most that a figure can be in any output of these kinds; None where none of them has it."""
    return max((REACH[kind][figure] for kind in kinds if figure in REACH[kind]), default=None)


def times_apart(figure: str, allowed: float, apart: float, largest: float, mean: float) -> float:
    """How many times what the reference's own answers are ``apart`` an allowed ``max``, ``mean`` or batching lets pass.

    From one on, each sample may have the answer of any other. ``apart`` is the largest difference between two samples
    in one number. ``largest`` and ``mean`` are the magnitudes that the figures are relative to. Infinite where all
    samples have the same answer.
    """
    passes = allowed * mean / MEAN_OF_ROWS if figure == "mean" else allowed * largest
    return passes / apart if apart else inf
