"""Which made-up inputs a model can be judged by: those that its reference answers with numbers that it stands by.

What the reference cannot run, or answers with NaN, is no engine's fault: it is left out, and named. So is what it
answers by rounding alone: a picture of one grey divided by its own spread, which is nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import reject

from engines.errors import DataError, RunnerError
from engines.formats import registry
from engines.outputs import taken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from engines.model.ranges import Ends, Ranges
    from engines.model.spec import ModelSpec
    from engines.runner import Runner

    Arrays = Mapping[str, NDArray[Any]]

REFERENCES = {"savedmodel": "the SavedModel itself", "onnx": "the ONNX itself"}
"""What messages call the reference, by its format."""


@dataclass(frozen=True)
class Bearable:
    """Made-up inputs (N, …) by input name, the name of each, and what the reference answers to them.

    ``left_out`` has a sentence for each of those that it does not: ``black: the SavedModel itself gives NaN``.
    """

    names: tuple[str, ...]
    inputs: Arrays
    reference: Arrays
    left_out: tuple[str, ...]


def bearable(chain: Chain, kind: str, names: Sequence[str], inputs: Arrays) -> Bearable:
    """Those of the made-up inputs of a ``kind`` that the reference answers; its answers are stored.

    Raises DataError where it answers none.
    """
    outputs, stopped = chain.tried(kind, inputs)
    wrong = {**_by_rounding(chain, kind, inputs, outputs), **_not_finite(chain, outputs), **stopped}
    left_out = tuple(f"{names[at]}: {said}" for at, said in sorted(wrong.items()))
    if len(left_out) == len(names):
        raise DataError(f"{chain.spec.source}: of {len(names)} {kind} inputs none can be used; {left_out[0]}")
    if not left_out:
        return Bearable(tuple(names), inputs, outputs, ())
    kept = [at for at in range(len(names)) if at not in wrong]
    return Bearable(tuple(names[at] for at in kept), _rows(inputs, kept), taken(chain.spec, outputs, kept), left_out)


def answered(runner: Runner, inputs: Arrays, ranges: Ranges) -> tuple[Arrays, Arrays]:
    """Inputs that Hypothesis draws now and the reference's answers to them, without those that it does not stand by.

    Where none is left, the example is no example.
    """
    try:
        outputs = runner(inputs)
        others = runner(nudged(ranges, inputs))
    except RunnerError:
        reject()
    finite = [_finite(array) for name, array in outputs.items() if name not in runner.spec.constants]
    count = len(next(iter(inputs.values())))
    kept = np.flatnonzero(np.logical_and.reduce([*finite, ~_moved(runner.spec, outputs, others, count)]))
    if not len(kept):
        reject()
    return _rows(inputs, kept), taken(runner.spec, outputs, kept)


NUDGE = 2.0**-20
"""By how much of itself a number is nudged: a few of FP32's steps."""

SPECK = 2.0**-58
"""What is added of the range, which only a zero feels: far less than a number that divisors are kept from zero by."""

MOVED = 0.05
"""The share of its largest answer by which the reference may be moved by that; FP32's rounding moves it by as much."""


def nudged(ranges: Ranges, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Inputs a few of FP32's steps beside these, each number by another part; what is to be whole stays as it is."""
    generator = np.random.default_rng(0)

    def one(ends: Ends, array: NDArray[Any]) -> NDArray[Any]:
        part = generator.random(array.shape)
        moved = array * (1 - NUDGE * part) + SPECK * part * (ends[1] - ends[0])
        return np.where(ends.whole, array, moved).astype(array.dtype)

    return {name: one(ranges[name], array) for name, array in inputs.items()}


def _by_rounding(chain: Chain, kind: str, inputs: Arrays, outputs: Arrays) -> dict[int, str]:
    """Inputs that the reference answers otherwise where they are nudged, by their number."""
    others, _ = chain.tried(f"{kind}-nudged", nudged(chain.ranges, inputs))
    itself = REFERENCES.get(registry.reference(chain.spec).name, "the reference itself")
    count = len(next(iter(inputs.values())))
    moved = np.flatnonzero(_moved(chain.spec, outputs, others, count))
    return {int(at): f"{itself} answers otherwise at a few of FP32's steps beside it" for at in moved}


def _moved(spec: ModelSpec, outputs: Arrays, others: Arrays, count: int) -> NDArray[np.bool_]:
    """Which of so many answers are others, or no numbers; lists in an order are left out, as ties change places."""
    moved = np.zeros(count, bool)
    for item in spec.outputs:
        if item.kind in {"constant", "ranked"} or outputs[item.name].shape != others[item.name].shape:
            continue
        first, second = (array[item.name].reshape(count, -1).astype(np.float64) for array in (outputs, others))
        largest = float(np.abs(first[np.isfinite(first)]).max(initial=0.0)) or 1.0
        # Where one is NaN it is no less.
        moved |= ~(np.abs(np.subtract(first, second)).max(axis=1, initial=0.0) < MOVED * largest)
    return moved


def _not_finite(chain: Chain, outputs: Arrays) -> dict[int, str]:
    """What is wrong with the reference's answers, by the number of the input."""
    format_ = registry.reference(chain.spec)
    itself = REFERENCES.get(format_.name, f"{format_.label} itself")
    found: dict[int, str] = {}
    for array in (a for name, a in outputs.items() if name not in chain.spec.constants):
        for at in np.flatnonzero(~_finite(array)):
            gives = "NaN" if np.isnan(array[at]).any() else "an infinity"
            found.setdefault(int(at), f"{itself} gives {gives}")
    return found


def _finite(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows of an output (N, …) hold numbers alone, (N,)."""
    finite: NDArray[np.bool_] = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    return finite


def _rows(arrays: Arrays, kept: Sequence[int] | NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    return {name: array[kept] for name, array in arrays.items()}
