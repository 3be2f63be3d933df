"""Made-up inputs of all textures, the same anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trial.draws import TEXTURES, textured

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.ranges import Ranges
    from engines.model.spec import InputSpec, ModelSpec

DRAWN, SEED = 64, 21
"""How many samples are drawn, and from what."""


def drawn(spec: ModelSpec, ranges: Ranges) -> dict[str, NDArray[Any]]:
    """Samples (DRAWN, …) of all textures by input name, the same anywhere.

    Hypothesis draws others where other modules of the project are loaded: it takes the constants in them for likely.
    """
    generator = np.random.default_rng(SEED)

    def one(item: InputSpec, number: int) -> NDArray[Any]:
        texture, (first, second) = TEXTURES[number % len(TEXTURES)], generator.random(2)
        seed, shape = int(generator.integers(2**32)), spec.concrete_shape(item, 1)[1:]
        return textured(ranges[item.name], (first, second), texture, seed, shape)

    return {i.name: np.stack([one(i, n) for n in range(DRAWN)]).astype(i.dtype) for i in spec.inputs}
