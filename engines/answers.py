"""Asking the reference: of samples it has to run every one, of made-up inputs those that it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import DataError, RunnerError
from engines.model.samples import reach
from engines.outputs import joined, taken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec

    Arrays = Mapping[str, NDArray[Any]]
    Ask = Callable[[Arrays], dict[str, NDArray[Any]]]
    Answers = tuple[Arrays, dict[int, str]]
    """Outputs (N, …) by name, and what was said of inputs that were not run, by their number."""


STOPPED = "stopped at"
"""What says in an artifact's details which made-up inputs the reference does not run, by number, and why."""


def written(folder: Path, outputs: Arrays, stopped: Mapping[int, str]) -> Mapping[str, Any] | None:
    """Details of an artifact whose ``outputs.npz`` is written here."""
    np.savez(folder / "outputs.npz", **dict[str, Any](outputs))
    return {STOPPED: {str(number): said for number, said in stopped.items()}} if stopped else None


def all_of(source: str, ask: Ask, inputs: Arrays) -> Answers:
    """Answers to all inputs, arrays (N, …) by name; DataError, which says what they hold, where one is not run."""
    try:
        return ask(inputs), {}
    except RunnerError as error:
        raise DataError(f"{source}: {error}, on samples of {reach(inputs)}; give samples that it runs") from error


def what_it_runs(spec: ModelSpec, ask: Ask, inputs: Arrays) -> Answers:
    """Answers to those inputs that are run, zeros in place of others; DataError where none is."""
    try:
        return ask(inputs), {}
    except RunnerError:
        parts, stopped = _by_halves(ask, inputs)
    if not parts:
        raise DataError(f"{spec.source}: {stopped[0]}, on all {len(stopped)} made-up inputs of {reach(inputs)}")
    first = taken(spec, next(iter(parts.values())), slice(1))
    blank = {name: array if name in spec.constants else np.zeros_like(array) for name, array in first.items()}
    parts |= dict.fromkeys(stopped, blank)
    return joined(spec, [parts[at] for at in sorted(parts)], "the reference"), stopped


def _by_halves(ask: Ask, inputs: Arrays) -> tuple[dict[int, dict[str, NDArray[Any]]], dict[int, str]]:
    """Outputs of the parts that are run, by their start, and what was said of the inputs that are not."""
    parts, stopped = {}, {}
    todo = [(0, len(next(iter(inputs.values()))))]
    while todo:
        start, stop = todo.pop()
        try:
            parts[start] = ask({name: array[start:stop] for name, array in inputs.items()})
        except RunnerError as error:
            if stop - start > 1:
                middle = (start + stop) // 2
                todo += [(start, middle), (middle, stop)]
            else:
                stopped[start] = str(error)
    return parts, dict(sorted(stopped.items()))
