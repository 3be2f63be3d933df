"""What a comparison measures of arrays: differences, distributions, decisions, spread. Nothing here allows anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

KL_FLOOR = 1e-6
"""Probabilities below this count as this in the divergence: integer outputs have zeros, with infinite logarithms."""

MEAN_OF_ROWS = 0.1
"""The mean of ten probabilities, which the rows of tolerances.toml were measured on; see ``mean`` in compare.py."""

COARSEST = 1 / 100
"""Probabilities in larger steps than this are not rounded but lost: eight bits over [0, 1] have steps of 1/255."""

FEWEST = 8
"""Of fewer samples no spread is told: of one or two anything may be so."""

LEAST_SPREAD = 1e-4
"""A reference whose answers spread by less than this share of their largest hardly depends on its inputs."""


@dataclass(frozen=True)
class Scale:
    """The largest and the mean magnitude of logits or values."""

    largest: float
    mean: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Scale:
        """Measure an output."""
        magnitudes = np.abs(values.astype(np.float64))
        return cls(float(magnitudes.max()), float(magnitudes.mean()))

    def or_larger(self, other: Scale | None) -> Scale:
        """Larger of each."""
        return Scale(max(self.largest, other.largest), max(self.mean, other.mean)) if other else self


@dataclass(frozen=True)
class Grid:
    """The values that an output can take which is integer inside the engine: multiples of a step within two ends."""

    step: float
    low: float
    high: float

    def nearest(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Round values to what the output can say."""
        steps = np.round((values.astype(np.float64) - self.low) / self.step)
        return np.clip(self.low + steps * self.step, self.low, self.high)


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Turn logits (N, classes) into probabilities, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float64)


def kl_divergence(actual: NDArray[Any], reference: NDArray[Any], floor: float = KL_FLOOR) -> NDArray[np.float64]:
    """Divergence KL(reference ‖ actual) per sample, in nats, for probabilities (N, classes).

    Both are clipped at ``floor`` from below and normalized again, so that it is finite and never negative.
    """
    p = np.clip(reference.astype(np.float64), floor, None)
    q = np.clip(actual.astype(np.float64), floor, None)
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return np.asarray((p * np.log(p / q)).sum(axis=1), np.float64)


def margins(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Lead of the first class over the second per sample, (N,) float64, for probabilities (N, classes ≥ 2)."""
    top = np.partition(probabilities.astype(np.float64), -2, axis=1)
    return np.asarray(top[:, -1] - top[:, -2], np.float64)


def top(probabilities: NDArray[Any], count: int = 3) -> list[tuple[int, float]]:
    """First classes of one sample with their values, the highest first."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(int(i), float(probabilities[i])) for i in order]


def differences(actual: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float64]:
    """Absolute differences of two arrays of one shape, in float64."""
    return np.abs(actual.astype(np.float64) - reference.astype(np.float64))


def fine(grid: Grid | None) -> Grid | None:
    """Grid that probabilities are rounded to; None where there is none, or one that is too coarse."""
    return grid if grid and grid.step <= COARSEST else None


def rounded_to(probabilities: NDArray[Any], grid: Grid | None) -> NDArray[np.float64]:
    """Probabilities as near as an output can say them, which is integer inside the engine; as they are without grid."""
    return grid.nearest(probabilities) if grid else probabilities.astype(np.float64)


def smallest_said(grid: Grid | None) -> float:
    """The floor of the divergence: an integer output has nothing to say below half a step."""
    return max(KL_FLOOR, grid.step / 2) if grid else KL_FLOOR


def off_one(actual: NDArray[Any], rounded: NDArray[np.float64] | None, step: float = 0.0) -> NDArray[np.float64]:
    """How far probabilities (N, classes) are from summing to one, or to what the ``rounded`` reference sums to, (N,).

    Of an integer output either sum may be off by a ``step`` for each class.
    """
    expected = 1.0 if rounded is None else rounded.sum(axis=1)
    off = np.abs(actual.astype(np.float64).sum(axis=1) - expected)
    return np.asarray(np.maximum(off - actual.shape[1] * step, 0.0), np.float64)
