"""The usual mistakes with an engine's inputs, each undone: what it would have been fed without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.cause import Cause
from conformance.output_mistakes import FEWEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


def input_mistakes(inputs: Arrays) -> Iterator[tuple[str, Arrays]]:
    """Each mistake, in words, with the inputs that undo it."""

    def each(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Arrays:
        return {name: np.ascontiguousarray(change(array), array.dtype) for name, array in inputs.items()}

    images = all(array.ndim == 4 for array in inputs.values())
    if images and all(array.shape[3] > 1 for array in inputs.values()):
        colours = all(array.shape[3] == 3 for array in inputs.values())
        what = "red and blue are swapped in the input" if colours else "the input channels are in reverse order"
        yield f"{what}: with the channels reversed", each(lambda a: a[..., ::-1])
    for sentence, change in _scalings(inputs):
        yield sentence, each(change)
    if images and all(array.shape[1] == array.shape[2] for array in inputs.values()):
        yield "height and width are swapped: with the images transposed", each(lambda a: a.swapaxes(1, 2))
    if images:
        yield "images are mirrored: with left and right exchanged", each(lambda a: a[:, :, ::-1])
        yield "images are upside down: with top and bottom exchanged", each(lambda a: a[:, ::-1])
        yield "images are turned by half: with both of their axes reversed", each(lambda a: a[:, ::-1, ::-1])
        yield (
            "channels are expected first (NCHW bytes in an NHWC shape): with the inputs reordered so",
            each(lambda a: a.transpose(0, 3, 1, 2).reshape(a.shape)),
        )
        yield (
            "channels are fed first (NCHW) to an engine that takes NHWC: with that undone",
            each(lambda a: a.reshape(len(a), a.shape[3], *a.shape[1:3]).transpose(0, 2, 3, 1)),
        )
    if all(array.ndim > 1 for array in inputs.values()):
        for by, where in ((-1, "late"), (1, "early")):
            what = f"the values of a sample are fed one place too {where}"
            yield f"{what}: with them moved back", {n: _rolled(a, by) for n, a in inputs.items()}
    for one, other in combinations(inputs, 2):
        if inputs[one].shape == inputs[other].shape and inputs[one].dtype == inputs[other].dtype:
            exchanged = {**inputs, one: inputs[other], other: inputs[one]}
            yield f"the inputs {one!r} and {other!r} are exchanged: with them put back", exchanged


def _rolled(array: NDArray[Any], by: int) -> NDArray[Any]:
    """Samples with their values moved on by so many places; what falls off at one end comes in at the other."""
    return np.roll(array.reshape(len(array), -1), by, axis=1).reshape(array.shape)


Range = tuple[float, float]

RANGES: tuple[Range, ...] = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
"""The usual ranges of inputs; they have the first one that holds all of them."""


def _scalings(inputs: Arrays) -> Iterator[tuple[str, Callable[[NDArray[Any]], NDArray[Any]]]]:
    """Each usual mistake in the scale of floats, in words, with the function of inputs that undoes it.

    The engine brings inputs to one usual range where the model brings them to another one; or either leaves them as
    they are.
    """
    if not all(array.dtype.kind == "f" for array in inputs.values()):
        return
    low, high = min(a.min() for a in inputs.values()), max(a.max() for a in inputs.values())
    own = next((r for r in RANGES if r[0] <= low and high <= r[1]), None)
    if own is None:
        yield "inputs are expected 255 times as large: with inputs scaled so", _linear(255, 0)
        yield "inputs are expected 255 times as small: with inputs scaled so", _linear(1 / 255, 0)
        return
    for engines, models in product(RANGES, RANGES):
        if engines != models:
            (slope, rest), (back, constant) = _between(own, models), _between(engines, own)
            yield _scale_sentence(own, engines, models), _linear(slope * back, rest * back + constant)


def _linear(factor: float, constant: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda values: values.astype(np.float64) * factor + constant


def _between(one: Range, other: Range) -> tuple[float, float]:
    """Factor and constant that bring values of one range to another."""
    factor = (other[1] - other[0]) / (one[1] - one[0])
    return factor, other[0] - one[0] * factor


def _scale_sentence(own: Range, engines: Range, models: Range) -> str:
    """Sentence that the engine brings inputs of ``own`` range to one range and the model to another one."""
    mine, its, right = (f"[{low:g}, {high:g}]" for low, high in (own, engines, models))
    if engines == own:
        factor, constant = _between(own, models)
        times = f"{max(factor, 1 / factor):g} times as {'large' if factor > 1 else 'small'}, in {right}"
        return f"inputs are expected {f'in {right} instead of {mine}' if constant else times}: with inputs scaled so"
    if models == own:
        return f"the engine scales inputs from {mine} to {its} once too often: with that undone"
    return f"the engine scales inputs to {its} instead of {right}: with that undone"


def by_steps(
    inputs: Arrays,
    steps: Mapping[str, float],
    ask: Callable[[Arrays], Arrays | None] | None,
    agrees: Callable[[Arrays], bool],
) -> Cause | None:
    """Columns of an integer input that vanish in its step, where the reference fails on them rounded so.

    Rounding is all that is done to the reference's inputs, and to these columns only, so that it is cause enough.
    """
    for name, step in steps.items():
        array = inputs[name]
        if ask is None or array.ndim < 2 or array.shape[-1] < 2 or len(array) < FEWEST:
            continue
        columns = array.reshape(-1, array.shape[-1])
        spread = np.ptp(columns, axis=0)
        # A column that is the same in all samples has nothing to lose.
        lost = (spread > 0) & (spread < step)
        rounded = np.where(lost, np.rint(array / step) * step, array).astype(array.dtype)
        if not lost.any() or (outputs := ask({**inputs, name: rounded})) is None or agrees(outputs):
            continue
        what = "columns" if array.ndim == 2 else "channels"
        return Cause(
            f"the integer input {name!r} has one step for all {what} ({step:.3g}), and {int(lost.sum())} of "
            f"{len(lost)} {what} differ by less: they vanish, and the SavedModel fails too with these rounded so; "
            "normalize before the model, or leave int8 out",
            proved=True,
        )
    return None
