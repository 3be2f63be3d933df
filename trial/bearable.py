"""Which made-up inputs a model can be judged by: those that its reference answers with numbers.

What the reference cannot run, or answers with NaN, is no engine's fault: it is left out, and named.
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
    wrong = {**_not_finite(chain, outputs), **stopped}
    left_out = tuple(f"{names[at]}: {said}" for at, said in sorted(wrong.items()))
    if len(left_out) == len(names):
        raise DataError(f"{chain.spec.source}: of {len(names)} {kind} inputs none can be used; {left_out[0]}")
    if not left_out:
        return Bearable(tuple(names), inputs, outputs, ())
    kept = [at for at in range(len(names)) if at not in wrong]
    return Bearable(tuple(names[at] for at in kept), _rows(inputs, kept), taken(chain.spec, outputs, kept), left_out)


def answered(runner: Runner, inputs: Arrays) -> tuple[Arrays, Arrays]:
    """Inputs that Hypothesis draws now and the reference's answers to them, without those that it does not give.

    Where none is left, the example is no example.
    """
    try:
        outputs = runner(inputs)
    except RunnerError:
        reject()
    finite = [_finite(array) for name, array in outputs.items() if name not in runner.spec.constants]
    kept = np.flatnonzero(np.logical_and.reduce(finite)) if finite else np.arange(len(next(iter(inputs.values()))))
    if not len(kept):
        reject()
    return _rows(inputs, kept), taken(runner.spec, outputs, kept)


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
