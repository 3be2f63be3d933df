"""Models that tell samples apart, in a moment: random layers stay as they are, and the last one is solved for.

A ridge regression needs no steps and no graph, and gives the same weights on every run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MARGIN = 4.0
"""The logit that a class is to have, and its negative for the others: sure, but not saturated."""


def seeded(seed: int) -> np.random.Generator:
    """Seed Keras and start its layers' names anew, so that nothing made before matters; return NumPy's generator."""
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    return np.random.default_rng(seed)


def solve(
    features: NDArray[Any], targets: NDArray[Any], ridge: float = 0.03
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (features, targets) and bias (targets,) of a ridge regression of the targets from the features.

    ``ridge`` is relative to the features' mean square. Features (N, F) and targets (N, T) may be of any number type.
    """
    x, y = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    mean, middle = x.mean(0), y.mean(0)
    centred = x - mean
    square = centred.T @ centred
    square[np.diag_indices_from(square)] += ridge * np.trace(square) / len(square) + 1e-9
    weights = np.linalg.solve(square, centred.T @ (y - middle))
    return weights.astype(np.float32), (middle - mean @ weights).astype(np.float32)


def apart(labels: NDArray[Any], classes: int, margin: float = MARGIN) -> NDArray[np.float32]:
    """Return the logits (N, classes) that a classifier of ``labels`` (N,) is to have."""
    return np.where(labels[:, None] == np.arange(classes), margin, -margin).astype(np.float32)


def features(body: Callable[[Any], Any], inputs: Any, batch: int = 100) -> NDArray[np.float32]:
    """Return what ``body`` computes of inputs, an array or a dictionary of arrays, as one array of (N, F)."""
    count = len(next(iter(inputs.values()))) if isinstance(inputs, dict) else len(inputs)
    parts = []
    for k in range(0, count, batch):
        some = {n: a[k : k + batch] for n, a in inputs.items()} if isinstance(inputs, dict) else inputs[k : k + batch]
        parts.append(np.asarray(body(some)).reshape(min(batch, count - k), -1))
    return np.concatenate(parts)


def fit_head(head: Any, body: Callable[[Any], Any], inputs: Any, targets: NDArray[Any], ridge: float = 0.03) -> None:
    """Set a built Dense layer's weights, so that it gives ``targets`` (N, T) of what ``body`` computes of inputs."""
    head.set_weights(solve(features(body, inputs), targets, ridge))
