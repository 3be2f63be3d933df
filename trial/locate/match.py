"""Which tensor of a file is which of the model's own graph, and how the one is laid out as the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.inside import Tensor
    from trial.locate.graph import OwnGraph


@dataclass(frozen=True)
class Match:
    """Tensor of a file, and the one of the own graph that it stands for.

    ``last`` says that the file has the channels last, and the own graph behind the samples. ``shapes`` are those of the
    file and of the own graph where they do not fit.
    """

    own: str
    tensor: Tensor
    last: bool = False
    shapes: str = ""
    numbers: int = 0

    def as_own(self, values: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
        """Values of the file laid out as the own graph has them.

        Raises RunnerError where they are not as many: how many there are may hang on the values themselves.
        """
        if values.size != math.prod(shape):
            counts = f"{values.size} values where the model has {math.prod(shape)}"
            raise RunnerError(f"{self.tensor.maker} has {counts}, though as many on a sample alone")
        return np.ascontiguousarray(_laid_out(values, shape, last=self.last), np.float32)


def candidates(tensor: Tensor, graph: OwnGraph) -> list[str]:
    """Tensors of the own graph that one of a file may stand for, the likeliest first.

    That is the model's output, the tensor of the same name, and of the operations that it is made of the last.
    """
    if tensor.output:
        return [graph.outputs[tensor.output]]
    named = [tensor.name] if tensor.name in graph.floats else []
    found = {graph.by_operation[o] for o in tensor.operations if o in graph.by_operation}
    return list(dict.fromkeys([*named, *sorted(found, key=lambda name: -graph.floats[name])]))


def matched(
    tensors: Sequence[Tensor],
    graph: OwnGraph,
    shown: Mapping[str, NDArray[Any]],
    expected: Mapping[str, NDArray[Any]],
) -> list[Match]:
    """Matches of a file's tensors, in the own graph's order, by values of both on the same few samples."""
    found: dict[str, Match] = {}
    for tensor in tensors:
        values = shown[tensor.name]
        # A number by itself is one of all samples, and has no row for each.
        names = [n for n in candidates(tensor, graph) if n in graph.floats and expected[n].ndim]
        names = [n for n in names if not _in_blocks(values, expected[n])]
        fitting = [n for n in names if expected[n].size == values.size]
        if fitting:
            found[fitting[0]] = _laid(fitting[0], tensor, values, expected[fitting[0]])
        elif names and tensor.name == names[0]:
            # Under the same name another shape is a finding; pieces of a name may be those of something else.
            shapes = f"shape {_words(values)} where the model has {_words(expected[names[0]])}"
            found.setdefault(names[0], Match(names[0], tensor, shapes=shapes))
    return sorted(found.values(), key=lambda match: graph.floats[match.own])


def _in_blocks(values: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Whether a file has places of a sample as samples, in another order, as TFLite does around what is dilated."""
    ranks = values.ndim, expected.ndim
    return values.size == expected.size and min(ranks) > 2 and ranks[0] == ranks[1] and len(values) != len(expected)


def _words(values: NDArray[Any]) -> str:
    return "×".join(map(str, values.shape[1:])) or "1"


def _laid(name: str, tensor: Tensor, values: NDArray[Any], expected: NDArray[Any]) -> Match:
    """Match whose layout is that of the two by which values are closer."""
    apart = []
    for last in (False, True) if expected.ndim > 2 else (False,):
        with np.errstate(invalid="ignore"):
            difference = _laid_out(values, expected.shape, last=last).astype(np.float64) - expected
        apart.append(float(np.square(np.nan_to_num(difference, posinf=0.0, neginf=0.0)).sum()))
    return Match(name, tensor, last=len(apart) > 1 and apart[1] < apart[0], numbers=expected.size)


def _laid_out(values: NDArray[Any], shape: Sequence[int], *, last: bool) -> NDArray[Any]:
    if not last:
        return values.reshape(shape)
    first, channels, *rest = shape
    return np.moveaxis(values.reshape(first, *rest, channels), -1, 1)
