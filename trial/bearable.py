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
    ``coarse`` are the numbers of those whose answers hang on less than FP16's steps, which it answers in FP32 only.
    """

    names: tuple[str, ...]
    inputs: Arrays
    reference: Arrays
    left_out: tuple[str, ...]
    coarse: tuple[int, ...] = ()

    def within(self, spec: ModelSpec, precision: str) -> Bearable:
        """Those that a variant of a precision can be judged by: in FP16 without those that its steps do not tell.

        Where it tells none, FP16 is not for this model, and all are judged.
        """
        if precision != "fp16" or len(self.coarse) in {0, len(self.names)}:
            return self
        kept = [at for at in range(len(self.names)) if at not in self.coarse]
        left_out = tuple(
            f"{self.names[at]} (FP16 only): its answer hangs on less than FP16's steps" for at in self.coarse
        )
        names = tuple(self.names[at] for at in kept)
        return Bearable(names, _rows(self.inputs, kept), taken(spec, self.reference, kept), left_out)


def bearable(chain: Chain, kind: str, names: Sequence[str], inputs: Arrays) -> Bearable:
    """Those of the made-up inputs of a ``kind`` that the reference answers; its answers are stored.

    Raises DataError where it answers none.
    """
    outputs, stopped = chain.tried(kind, inputs)
    wrong = {**_by_rounding(chain, kind, inputs, outputs), **_not_finite(chain, outputs), **stopped}
    left_out = tuple(f"{names[at]}: {said}" for at, said in sorted(wrong.items()))
    if len(left_out) == len(names):
        raise DataError(f"{chain.spec.source}: of {len(names)} {kind} inputs none can be used; {left_out[0]}")
    coarse = _coarse(chain, kind, inputs, outputs)
    if not left_out:
        return Bearable(tuple(names), inputs, outputs, (), tuple(np.flatnonzero(coarse).tolist()))
    kept = [at for at in range(len(names)) if at not in wrong]
    reference = taken(chain.spec, outputs, kept)
    still = tuple(np.flatnonzero(coarse[kept]).tolist())
    return Bearable(tuple(names[at] for at in kept), _rows(inputs, kept), reference, left_out, still)


def answered(runner: Runner, inputs: Arrays, ranges: Ranges, precision: str) -> tuple[Arrays, Arrays]:
    """Inputs that Hypothesis draws now and the reference's answers to them, without those that it does not stand by.

    Nor are those among them that a variant of the precision cannot tell. Where none is left, the example is no example.
    """
    beside = [nudged(ranges, inputs)]
    if precision == "fp16":
        beside += [nudged(ranges, inputs, FP16, seed) for seed in range(FP16_NUDGES)]
    try:
        outputs, *others = [runner(given) for given in (inputs, *beside)]
    except RunnerError:
        reject()
    finite = [_finite(array) for name, array in outputs.items() if name not in runner.spec.constants]
    count = len(next(iter(inputs.values())))
    kept = np.flatnonzero(np.logical_and.reduce([*finite, *(~_moved(runner.spec, outputs, o, count) for o in others)]))
    if not len(kept):
        reject()
    return _rows(inputs, kept), taken(runner.spec, outputs, kept)


@dataclass(frozen=True)
class Steps:
    """By how much numbers are nudged: a share of each, and at least so much of those that are not zero."""

    share: float
    least: float = 0.0


FP32 = Steps(2.0**-20)
"""A few of FP32's steps."""

FP16 = Steps(2.0**-10, 2.0**-24)
"""A step of FP16, which is no smaller for the smallest numbers: products with weights below one become zero there."""

FP16_NUDGES = 2
"""FP16's steps are tried so often: where two answers are as likely, one nudge misses half of them."""

SPECK = 2.0**-58
"""What is added of the range, which only a zero feels: far less than a number that divisors are kept from zero by."""

MOVED = 0.05
"""The share of its largest answer by which the reference may be moved by that; FP32's rounding moves it by as much."""


def nudged(ranges: Ranges, inputs: Arrays, steps: Steps = FP32, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Inputs a few steps beside these, each number by another part; what is to be whole stays as it is."""
    generator = np.random.default_rng(seed)

    def one(ends: Ends, array: NDArray[Any]) -> NDArray[Any]:
        part = generator.random(array.shape)
        # Zero is exact in every precision.
        least = steps.least * (array != 0) + SPECK * (ends[1] - ends[0])
        moved = array * (1 - steps.share * part) + least * part
        return np.where(ends.whole, array, moved).astype(array.dtype)

    return {name: one(ranges[name], array) for name, array in inputs.items()}


def _coarse(chain: Chain, kind: str, inputs: Arrays, outputs: Arrays) -> NDArray[np.bool_]:
    """Which inputs the reference answers otherwise within FP16's steps, (N,); none where nothing is made in FP16."""
    count = len(next(iter(inputs.values())))
    found = np.zeros(count, bool)
    if all(variant.precision != "fp16" for variant in chain.variants):
        return found
    for seed in range(FP16_NUDGES):
        others, _ = chain.tried(f"{kind}-nudged-fp16-{seed}", nudged(chain.ranges, inputs, FP16, seed))
        found |= _moved(chain.spec, outputs, others, count)
    return found


def _by_rounding(chain: Chain, kind: str, inputs: Arrays, outputs: Arrays) -> dict[int, str]:
    """Inputs that the reference answers otherwise where they are nudged, by their number."""
    others, _ = chain.tried(f"{kind}-nudged", nudged(chain.ranges, inputs))
    itself = _itself(chain.spec)
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
        # Two infinities have no difference: where it is NaN it is no less.
        with np.errstate(invalid="ignore"):
            moved |= ~(np.abs(np.subtract(first, second)).max(axis=1, initial=0.0) < MOVED * largest)
    return moved


def _not_finite(chain: Chain, outputs: Arrays) -> dict[int, str]:
    """What is wrong with the reference's answers, by the number of the input."""
    itself = _itself(chain.spec)
    found: dict[int, str] = {}
    for array in (a for name, a in outputs.items() if name not in chain.spec.constants):
        for at in np.flatnonzero(~_finite(array)):
            gives = "NaN" if np.isnan(array[at]).any() else "an infinity"
            found.setdefault(int(at), f"{itself} gives {gives}")
    return found


def _itself(spec: ModelSpec) -> str:
    """What messages call a model's reference."""
    format_ = registry.reference(spec)
    return REFERENCES.get(format_.name, f"{format_.label} itself")


def _finite(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows of an output (N, …) hold numbers alone, (N,)."""
    finite: NDArray[np.bool_] = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    return finite


def _rows(arrays: Arrays, kept: Sequence[int] | NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    return {name: array[kept] for name, array in arrays.items()}
