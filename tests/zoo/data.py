"""Made-up data that a small model can learn: spots on noise, sequences with telling tokens, textures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Labelled = tuple[NDArray[Any], NDArray[np.int64]]


def spots(rng: np.random.Generator, count: int, side: int, channels: int = 1, classes: int = 4) -> Labelled:
    """Return images (count, side, side, channels) in [0, 1], float32, of a spot whose place is its class."""
    labels = rng.integers(0, classes, count)
    angle = 2 * np.pi * labels / classes + rng.normal(0, 0.15, count)
    radius = side * rng.uniform(0.22, 0.32, count)
    rows, columns = np.mgrid[:side, :side]
    down = rows - (side / 2 + radius * np.sin(angle))[:, None, None]
    right = columns - (side / 2 + radius * np.cos(angle))[:, None, None]
    spot = np.exp(-(down**2 + right**2) / (side * rng.uniform(0.08, 0.14, (count, 1, 1))) ** 2)
    tints = rng.uniform(0.4, 0.8, (count, 1, 1, channels))
    images = rng.uniform(0, 0.25, (count, side, side, channels)) + spot[..., None] * tints
    return np.clip(images, 0, 1).astype(np.float32), labels


def tokens(
    rng: np.random.Generator, count: int, length: int, vocabulary: int, classes: int, padded: bool = False
) -> Labelled:
    """Return token ids (count, length), int32, among which those of a class's own quarter are frequent.

    Ids are 1 to vocabulary - 1; where ``padded``, rows of random length end in zeros.
    """
    labels = rng.integers(0, classes, count)
    ids = rng.integers(1, vocabulary, (count, length))
    own = 1 + labels[:, None] * (vocabulary // classes) + rng.integers(0, vocabulary // classes - 1, (count, length))
    ids = np.where(rng.random((count, length)) < 0.5, own, ids)
    if padded:
        ids[np.arange(length) >= rng.integers(length // 3, length + 1, count)[:, None]] = 0
    return ids.astype(np.int32), labels


def table(rng: np.random.Generator, vocabulary: int, width: int, classes: int) -> NDArray[np.float32]:
    """Return an embedding (vocabulary, width) as a trained one is: the ids of one class's quarter point one way."""
    quarter = np.minimum(np.maximum(np.arange(vocabulary) - 1, 0) // (vocabulary // classes), classes - 1)
    return (rng.normal(0, 0.5, (classes, width))[quarter] + rng.normal(0, 0.4, (vocabulary, width))).astype(np.float32)


def textures(rng: np.random.Generator, count: int, side: int, classes: int) -> Labelled:
    """Return images (count, side, side, 3) in [0, 255], float32: stripes whose direction and tint are the class's.

    Those of a class are much alike, because deep networks with random weights send pictures far apart.
    """
    labels = rng.integers(0, classes, count)
    angle = (np.pi * labels / classes + rng.normal(0, 0.03, count))[:, None, None]
    rows, columns = np.mgrid[:side, :side]
    phase = rng.uniform(0, 1.5, (count, 1, 1))
    wave = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * rng.uniform(0.7, 0.8, (count, 1, 1)) + phase)
    hue = 2 * np.pi * labels[:, None] / classes + 2 * np.pi * np.arange(3) / 3
    tints = (50 * np.cos(hue) + rng.normal(0, 8, (count, 3)))[:, None, None]
    images = 128 + tints + 50 * wave[..., None] + rng.normal(0, 5, (count, side, side, 3))
    return np.clip(images, 0, 255).astype(np.float32), labels
