"""What made-up inputs of a model may hold: nothing that is far from what its samples hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.model.brought import BroughtData
from engines.model.shards import ShardedData

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.samples import Dataset
    from engines.model.spec import InputSpec, ModelSpec

    Ranges = Mapping[str, "Ends"]

NARROW = 0.5
"""A channel that reaches over less than this share of what all channels do has a range of its own."""

BYTES = (0, 255)
"""The range of pixels, whose samples need not have all values."""


class Ends(tuple["NDArray[Any]", "NDArray[Any]"]):
    """The least and the largest value of an input, float64; ``whole`` says where it has to be a whole number.

    All three broadcast to a sample.
    """

    whole: NDArray[np.bool_]

    def __new__(cls, low: Any, high: Any, whole: Any) -> Ends:
        """Keep two arrays, or numbers, as a pair, and the third beside them."""
        made = super().__new__(cls, (np.asarray(low, np.float64), np.asarray(high, np.float64)))
        made.whole = np.asarray(whole)
        return made


def ranges(spec: ModelSpec, data: Dataset | BroughtData | ShardedData) -> Ranges:
    """The least and the largest value that made-up inputs may have, by input name; both broadcast to a sample.

    Without samples of the user's own, they are those of the description.
    """
    if not isinstance(data, (BroughtData, ShardedData)) or data.test_count < 2:
        return {item.name: _declared(item) for item in spec.inputs}
    arrays = (data.test() if isinstance(data, BroughtData) else data.some).inputs
    return {item.name: _reached(item, arrays[item.name]) for item in spec.inputs}


def _declared(item: InputSpec) -> Ends:
    return Ends(*item.range, item.dtype != "float32")


def _reached(item: InputSpec, samples: NDArray[Any]) -> Ends:
    """What samples of one input reach: column by column of a table, channel by channel where those differ much.

    Where all of them are whole numbers, made-up ones are. A range that was declared for others holds for all channels
    alike.
    """
    if len(item.shape) == 2 and isinstance(item.shape[1], int):
        return _ends(samples, (0,), item)
    if len(item.shape) > 2 and _differ(samples):
        return _ends(samples, tuple(range(samples.ndim - 1)), item)
    found = _ends(samples, None, item)
    if not found.whole:
        return _declared(item)
    pixels = tuple(item.range) == BYTES and found[1] > BYTES[1] // 2
    return Ends(*item.range, found.whole) if pixels else found


def _ends(samples: NDArray[Any], axes: tuple[int, ...] | None, item: InputSpec) -> Ends:
    """Ends of samples over these axes, or over all."""
    whole = item.dtype != "float32" or (np.rint(samples) == samples).all(axis=axes)
    low, high = samples.min(axis=axes), samples.max(axis=axes)
    return Ends(low, high, np.broadcast_to(whole, low.shape))


def _differ(samples: NDArray[Any]) -> bool:
    """Whether one of the channels, on the last axis, reaches over much less than all of them together."""
    axes = tuple(range(samples.ndim - 1))
    low, high = samples.min(axis=axes).astype(np.float64), samples.max(axis=axes).astype(np.float64)
    return bool((high - low < NARROW * (high.max() - low.min())).any())
