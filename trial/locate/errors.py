"""Errors of tensors, in figures that do not hang on their size, and what is allowed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.bounds import reached
from conformance.noise import FACTORS, ULP
from trial.twin.plan import MASK

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEAN, LARGEST = "mean", "largest"
"""The figures: the root mean square of an error over that of the tensor, and the largest over its largest."""

STORED: Mapping[str, float] = {"fp32": 4 * ULP, "fp16": 2.0**-10, "bf16": 2.0**-7, "int8-asymmetric": 2.0**-8}
"""What is allowed whatever the runs show, by the precision that tensors are shown in.

In FP32 engines have exponentials and the like by polynomials, which are off by some steps. In FP16 what is shown is
rounded once more than what the engine goes on with: by up to half a step at either end of a layer. Where all is in
8 bits, constants are that are only moved: half a step of 255 over both signs.
"""


GAP = 1e3
"""What is MASK below zero, and so many times as large as all else in its tensor, masks: it is for minus infinity."""


def figures(actual: NDArray[Any], expected: NDArray[Any], size: NDArray[Any]) -> dict[str, float]:
    """Figures of an error, as shares of a tensor of this ``size``; infinite where it is not finite and should be.

    What masks is no part of a size, beside which no other error would be any.
    """
    actual, size, wide = np.atleast_1d(actual), np.atleast_1d(size), np.atleast_1d(expected).astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(actual.astype(np.float64) - wide)
    # What is infinite on both sides is the same: a mask.
    apart[(actual == wide) | (np.isnan(actual) & np.isnan(wide))] = 0.0
    apart[_masking(wide) & (actual <= -MASK)] = 0.0
    apart, size = np.nan_to_num(apart, nan=np.inf, posinf=np.inf), size[~_masking(size)]
    finite = size[np.isfinite(size)].astype(np.float64)
    mean = float(np.sqrt(np.square(finite).mean())) if finite.size else 0.0
    found = {MEAN: float(np.sqrt(np.square(apart).mean())), LARGEST: float(apart.max(initial=0.0))}
    return {MEAN: _share(found[MEAN], mean), LARGEST: _share(found[LARGEST], largest(size))}


def _masking(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which numbers of a tensor mask others."""
    masks = np.asarray(values <= -MASK, np.bool_)
    rest = largest(values[~masks])
    return masks & bool(rest and masks.any() and values[masks].max() < -GAP * rest)


def largest(values: NDArray[Any]) -> float:
    """Largest finite magnitude of an array; 0 where there is none."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def added(values: NDArray[Any], actual: NDArray[Any], made: NDArray[Any]) -> NDArray[np.float32]:
    """Values with the error of ``actual`` over ``made`` in them: where these two are the values, just the actual ones.

    Of numbers as large as a mask's a sum would leave nothing.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        summed = values + (actual - made)
    return np.asarray(np.where(made == values, actual, summed), np.float32)


def _share(error: float, size: float) -> float:
    return error / size if size else (np.inf if error else 0.0)


def allowed(seen: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """What is allowed of each figure, by what runs of the twin had in each of its precisions.

    An engine has the noise of all of them: INT8 where it is quantized, and FP32 everywhere.
    """
    step = max(STORED.get(precision, 0.0) for precision in seen)
    return {figure: _bound(figure, seen, step) for figure in (MEAN, LARGEST)}


def _bound(figure: str, seen: Mapping[str, Sequence[Mapping[str, float]]], step: float) -> float:
    several = [(FACTORS[precision], [run[figure] for run in runs]) for precision, runs in seen.items()]
    # Where the runs themselves are infinite, as a mask's are in FP16, anything is.
    if not np.isfinite([value for _, values in several for value in values]).all():
        return np.inf
    return step + sum(factor * reached(values) for factor, values in several)
