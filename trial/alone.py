"""What is wrong with an engine's outputs by themselves: no numbers, scores beyond [0, 1], shares that make no whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec
    from engines.runner import Runner

    Arrays = Mapping[str, NDArray[Any]]

SCORES = ("probabilities", "scores")
"""The kinds of outputs whose numbers lie between zero and one."""


def no_numbers(spec: ModelSpec, outputs: Arrays, names: Sequence[str] = ()) -> Iterator[str]:
    """Sentence on each output (N, …) that holds NaN or infinity: the first of them, and how many samples have any.

    ``names`` are those of the samples, where they have any.
    """
    for name, array in outputs.items():
        wrong = ~np.isfinite(array)
        if wrong.any():
            first = np.unravel_index(int(wrong.argmax()), wrong.shape)
            rows = "" if name in spec.constants else f" in {_rows(wrong)} of {len(array)} samples"
            yield f"{_at(spec, name, array, first, names)} (NaN or infinite{rows}); expected finite numbers"


def no_scores(runner: Runner, outputs: Arrays, allowed: float, names: Sequence[str] = ()) -> Iterator[str]:
    """Sentence on each output of SCORES that is below zero, or above one by more than ``allowed``.

    Each number of an output that is integers inside may be off by a step.
    """
    for output in (o for o in runner.spec.outputs if o.kind in SCORES):
        array = outputs[output.name]
        most = 1 + max(allowed, _step(runner, output.name))
        for at, wrong, bound in ((array.argmin(), array.min() < 0, 0.0), (array.argmax(), array.max() > most, most)):
            if wrong:
                place = np.unravel_index(int(at), array.shape)
                limit = f"{'at most' if bound else 'no less than'} {bound:.7g}"
                yield f"{_at(runner.spec, output.name, array, place, names)}; {output.kind} are {limit}"


def no_shares(runner: Runner, outputs: Arrays, allowed: float, names: Sequence[str] = ()) -> Iterator[str]:
    """Sentence on each output of probabilities with a row (last axis) whose sum is off one by more than ``allowed``.

    Of integers inside each may be off by a step.
    """
    for output in (o for o in runner.spec.outputs if o.kind == "probabilities"):
        array = outputs[output.name]
        off = np.abs(array.sum(axis=-1, dtype=np.float64) - 1)
        most = max(allowed, array.shape[-1] * _step(runner, output.name))
        if off.max() > most:
            place = np.unravel_index(int(off.argmax()), off.shape)
            where = _where(runner.spec, output.name, place, names)
            total = float(array[place].sum(dtype=np.float64))
            yield f"output {output.name!r} sums to {total:.7g}{where}; probabilities sum to one within {most:.1e}"


def _step(runner: Runner, name: str) -> float:
    """Step of an output that is integers inside; zero of others."""
    return runner.grids[name].step if name in runner.grids else 0.0


def _rows(wrong: NDArray[np.bool_]) -> int:
    """How many samples have any."""
    return int(wrong.reshape(len(wrong), -1).any(axis=1).sum())


def _at(spec: ModelSpec, name: str, array: NDArray[Any], place: Sequence[Any], names: Sequence[str]) -> str:
    """What an output is at a place: ``output 'embedding' is nan at [5] of sample 3 (black)``."""
    return f"output {name!r} is {float(array[tuple(place)]):.7g}{_where(spec, name, place, names)}"


def _where(spec: ModelSpec, name: str, place: Sequence[Any], names: Sequence[str]) -> str:
    """Clause of a place, its sample first: `` at [5] of sample 3 (black)``."""
    index = [int(i) for i in place]
    if name in spec.constants:
        return f" at {index}" if index else ""
    sample, *rest = index
    named = f" ({names[sample]})" if sample < len(names) else ""
    return f"{f' at {rest} of' if rest else ' in'} sample {sample}{named}"
