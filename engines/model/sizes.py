"""Samples at other sizes of a model's dynamic dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec


def resize(array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """The array in another shape of the same rank: its front, repeated where there is not enough of it."""
    for axis, size in enumerate(shape):
        if size != array.shape[axis]:
            array = np.take(array, np.arange(size) % array.shape[axis], axis=axis)
    return np.ascontiguousarray(array)


def at_size(spec: ModelSpec, inputs: Mapping[str, NDArray[Any]], size: int) -> dict[str, NDArray[Any]]:
    """Samples (N, …) by input name, at the size of a number of each dynamic dimension; see ``concrete_shape``."""
    return {i.name: resize(inputs[i.name], spec.concrete_shape(i, len(inputs[i.name]), size)) for i in spec.inputs}
