"""Weights as a precision stores them, each with another rounding in every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trial.twin.graph import Graph
    from trial.twin.precision import Precision

STEPS = 127
"""Steps of 8-bit weights to each side of zero."""


def stored_in_float(graph: Graph, precision: Precision) -> list[str]:
    """Names of the FP32 constants that a floating-point precision rounds.

    One that reaches beyond its range is left as it is: a sound conversion keeps it in FP32, or cannot be made.
    """
    if not precision.weights:
        return []
    return [n for n, a in graph.values.items() if fits(a, precision) and np.any(nearest(a, precision) != a)]


def beyond(graph: Graph, precision: Precision) -> tuple[str, ...]:
    """Sentences on the constants that do not fit the precision."""
    return tuple(
        f"constant {name!r} reaches beyond {precision.largest:g}, and stays in FP32"
        for name, a in graph.values.items()
        if precision.weights and not fits(a, precision)
    )


def fits(values: NDArray[Any], precision: Precision) -> bool:
    """Whether all finite values are within the range of a precision."""
    return bool(np.abs(values[np.isfinite(values)]).max(initial=0.0) <= precision.largest)


def nearest(values: NDArray[Any], precision: Precision) -> NDArray[np.float64]:
    """Values rounded to nearest, in float64; infinities stay."""
    wide = values.astype(np.float64)
    step = _step(wide, precision)
    return np.where(np.isfinite(values), np.round(wide / step) * step, values)


def drawn_in_float(values: NDArray[Any], precision: Precision, generator: np.random.Generator) -> NDArray[np.float32]:
    """Values with a random rounding error of the precision, of half a step at most; those that it holds stay."""
    held = nearest(values, precision)
    wide = values.astype(np.float64)
    error = generator.uniform(-0.5, 0.5, values.shape) * _step(wide, precision)
    return np.where(held == values, values, np.where(np.isfinite(values), wide + error, values)).astype(np.float32)


def _step(values: NDArray[np.float64], precision: Precision) -> NDArray[np.float64]:
    """Distance to the next number of the precision, at least that of the smallest normal one."""
    size = np.maximum(np.abs(np.where(np.isfinite(values), values, 1.0)), precision.smallest)
    return np.asarray(np.exp2(np.floor(np.log2(size))) * 2 * precision.weights, np.float64)


def drawn_on_grid(
    values: NDArray[Any], axes: tuple[int, ...] | None, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Weights with a random error of half a step at most, in steps of the largest of each channel; zeros stay.

    ``axes`` are those of one channel, None where all weights share one step.
    """
    step = np.abs(values).max(axis=axes, keepdims=True) / STEPS
    error = generator.uniform(-0.5, 0.5, values.shape) * step
    return np.where(values == 0, 0.0, values + error).astype(np.float32)


def axes_of_channel(operator: str, rank: int, *, transposed: bool = False) -> tuple[int, ...] | None:
    """Axes of the weights of one output channel: all but the first of Conv, all but the last of a matrix product."""
    if operator == "Conv" or transposed:
        return tuple(range(1, rank))
    if operator == "ConvTranspose":
        return (0, *range(2, rank))
    return tuple(range(rank - 1)) if rank > 1 else None


Channels = Mapping[str, tuple[int, ...] | None]
"""Axes of a channel by the name of the weights."""
