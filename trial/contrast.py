"""The contrast set: inputs at the edges of what a model takes, where layouts, ranges and saturation show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from engines.model.ranges import Ends, Ranges
    from engines.model.spec import ModelSpec

SEED = 20

IMAGE = (
    "black",
    "white",
    "mid-grey",
    "checkerboard",
    "inverse checkerboard",
    "coarse checkerboard",
    "single bright pixel",
)
NUMBERS = (
    "all lowest",
    "all highest",
    "all in the middle",
    "lowest and highest by turns",
    "highest and lowest by turns",
    "lowest and highest in fours",
    "one highest",
)
"""What the first patterns are called, of images (height, width, channels) and of other inputs."""


def contrast_set(spec: ModelSpec, ranges: Ranges) -> tuple[tuple[str, ...], dict[str, NDArray[Any]]]:
    """Make the contrast set of a model: a name for each sample, and the arrays (N, …) by input name.

    Every value lies within the input's range in ``ranges``, and is a whole number where samples are; the two ends of it
    are among them. Where inputs have different ranks, the names are those of the input with the most patterns.
    """
    columns = {i.name: list(_patterns(ranges[i.name], spec.concrete_shape(i, 1)[1:], i.dtype)) for i in spec.inputs}
    names = tuple(name for name, _ in max(columns.values(), key=len))
    # There is a ramp for each axis: an input with fewer axes than another repeats its last pattern.
    return names, {
        name: np.stack([column[min(i, len(column) - 1)][1] for i in range(len(names))])
        for name, column in columns.items()
    }


def _patterns(ends: Ends, shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Samples of one input by name, from end to end; ``shape`` is without the batch."""
    generator = np.random.default_rng(SEED)
    low, high = ends

    def filled(values: Any) -> NDArray[Any]:
        spread = low + (high - low) * values
        return np.broadcast_to(np.where(ends.whole, np.rint(spread), spread), shape).astype(dtype)

    # The last axis of an image is its channels: a pixel is bright in all of them, a checkerboard is grey.
    places = shape[:-1] if len(shape) > 1 else shape
    parity = np.indices(places).sum(axis=0) % 2
    extra = (1,) * (len(shape) - len(places))
    coarse = (np.indices(places) // 4).sum(axis=0) % 2
    *names, single = IMAGE if len(shape) == 3 else NUMBERS
    boards = (board.reshape(places + extra) for board in (parity, 1 - parity, coarse))
    yield from zip(names, map(filled, (0.0, 1.0, 0.5, *boards)), strict=True)
    for name, share in (("first", 0.0), ("middle", 0.5), ("last", 1.0)):
        pixel = np.zeros(places)
        pixel.flat[round(share * (pixel.size - 1))] = 1.0
        yield f"{single}, {name}", filled(pixel.reshape(places + extra))
    for i in range(4):
        yield f"uniform noise {i}", filled(generator.random(shape))
    for i in range(2):
        yield f"only ends of the range {i}", filled(generator.integers(0, 2, shape))
    for axis in range(len(places)):
        ramp = np.linspace(0.0, 1.0, places[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        yield f"ramp along axis {axis + 1}", filled(ramp)
