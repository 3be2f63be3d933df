"""Samples at other sizes of a model's dynamic dimensions, and whether those that a description asks for can be held."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import SpecError
from engines.model.memory import available
from engines.model.npz import SHARE, spoken
from engines.model.table import SHOWN

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


def refuse_too_large(spec: ModelSpec, count: int, sizes: Sequence[int]) -> None:
    """Raise SpecError where ``count`` samples are more than may be held at once, at one of these numbers of sizes."""
    limit = int(SHARE * available())
    for size in sizes:
        shapes = {i.name: spec.concrete_shape(i, count, size) for i in spec.inputs}
        total = sum(np.dtype(i.dtype).itemsize * math.prod(shapes[i.name]) for i in spec.inputs)
        if total > limit:
            name = max(shapes, key=lambda n: math.prod(shapes[n]))
            raise SpecError(
                f"{spec.source}: {count} samples of it take {spoken(total)}, its input {SHOWN.repr(name)} of shape "
                f"{shapes[name]} most of that; allowed: {spoken(limit)}, half of the memory that is free: smaller "
                "dimensions, or fewer samples by calibration.samples or --samples"
            )
