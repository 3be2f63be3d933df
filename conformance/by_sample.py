"""Figures of every sample by itself, all samples at once: what ``compare`` says of each where anything is allowed.

The runs of a twin are compared sample by sample, many thousand times; see noise.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.compare import UNDECIDED
from conformance.measures import (
    MEAN_OF_ROWS,
    Grid,
    Scale,
    differences,
    fine,
    kl_divergence,
    off_one,
    rounded_to,
    smallest_said,
    softmax,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Each = dict[str, NDArray[np.float64]]


def figures_by_sample(
    kind: str,
    actual: NDArray[Any],
    reference: NDArray[Any],
    *,
    scale: Scale | None = None,
    grid: Grid | None = None,
    threshold: float,
) -> Each:
    """Figures (N,) by name of an output (N, …): ``max``, ``mean``, and what else its kind has but leads and spread.

    Integers have ``flips`` alone. Raises ValueError for a kind that has no noise: ``ranked`` and ``constant``.
    """
    if kind == "integers":
        return {"flips": _mean(actual != reference)}
    apart = differences(actual, reference)
    if kind == "probabilities":
        return {"max": _largest(apart), **_of_probabilities(actual, reference, fine(grid))}
    if kind == "scores":
        ours, theirs = (array.astype(np.float64) > threshold for array in (actual, reference))
        wrong = (ours != theirs) & (np.abs(reference.astype(np.float64) - threshold) > UNDECIDED)
        return {"max": _largest(apart), "mean": _mean(apart) * 2 * MEAN_OF_ROWS, "flips": _mean(wrong)}
    if kind not in {"logits", "values"}:
        allowed = "probabilities, scores, logits, values, integers"
        raise ValueError(f"{kind!r} has no figures of single samples; allowed: {allowed}")
    magnitudes = np.abs(reference.astype(np.float64))
    largest, mean = (
        np.maximum(found, known) if known else found
        for found, known in ((_largest(magnitudes), scale and scale.largest), (_mean(magnitudes), scale and scale.mean))
    )
    found = {
        "max": _largest(apart) / np.where(largest, largest, 1.0),
        "mean": _mean(apart) / np.where(mean, mean, 1.0) * MEAN_OF_ROWS,
    }
    if kind == "logits":
        p, q = (softmax(array.reshape(-1, array.shape[-1])) for array in (reference, actual))
        found["kl"] = _rows(kl_divergence(q, p), actual).mean(axis=1)
        found["flips"] = _flips(q, p, actual)
    return found


def _of_probabilities(actual: NDArray[Any], reference: NDArray[Any], grid: Grid | None) -> Each:
    q, p = (array.reshape(-1, array.shape[-1]) for array in (actual, reference))
    near = rounded_to(p, grid)
    off = off_one(q, near, grid.step) if grid else off_one(q, None)
    return {
        "mean": _mean(differences(q, near).reshape(actual.shape)) * q.shape[1] * MEAN_OF_ROWS,
        "kl": _rows(kl_divergence(q, near, smallest_said(grid)), actual).mean(axis=1),
        "flips": _flips(q, p, actual),
        "sum": _rows(off, actual).max(axis=1),
    }


def _flips(q: NDArray[Any], p: NDArray[Any], samples: NDArray[Any]) -> NDArray[np.float64]:
    return _mean(_rows(q.argmax(axis=1) != p.argmax(axis=1), samples))


def _rows(found: NDArray[Any], samples: NDArray[Any]) -> NDArray[Any]:
    """What was found of every row of classes, by sample: (N, rows)."""
    return found.reshape(len(samples), -1)


def _largest(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values.reshape(len(values), -1).max(axis=1), np.float64)


def _mean(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(values.reshape(len(values), -1).mean(axis=1), np.float64)
