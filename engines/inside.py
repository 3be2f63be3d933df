"""What an engine shows of the tensors between its layers, whatever format it is in."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

CALLS = re.compile(r"(Stateful)?PartitionedCall(_\d+)?")
"""A call of a function in the name of an operation: converters write out what is inside, or do not."""


@dataclass(frozen=True)
class Tensor:
    """Tensor that an engine computes: its name in the file, and in words what makes it there.

    ``operations`` are those of the source model whose results it may be, as :func:`operation` writes them. Of several
    that were made one it is the result of the last. ``output`` is the name of the model's output that it is, if any.
    """

    name: str
    maker: str
    operations: tuple[str, ...]
    output: str = ""


class Inside(AbstractContextManager["Inside"], abc.ABC):
    """An engine that gives the tensors between its layers, too.

    ``tensors`` are those of floating-point numbers, or of integers that stand for such, in the order in which they are
    computed. ``arithmetic`` is how it computes where they are shown, one of ``Format.arithmetics``; empty where that is
    how the engine computes anyway. ``way`` says in words how it differs from the engine that is judged.
    """

    tensors: Sequence[Tensor]
    arithmetic: str = ""
    way: str = "the engine whose tensors are outputs"

    @abc.abstractmethod
    def __call__(
        self, inputs: Arrays, wanted: Sequence[str]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Answers by output name, and the wanted tensors as float32 by their names, of one batch of inputs (N, …).

        Raises RunnerError where the engine fails.
        """


WRITTEN_OUT = re.compile(r"__\d+$")
"""What tf2onnx puts behind the name of an operation that it writes with several: the last one has its result."""


def operation(name: str) -> str:
    """Name of the source model's operation in that of a tensor or node, without calls of functions around it.

    ``StatefulPartitionedCall/functional_1/dense_1/MatMul:0`` gives ``functional_1/dense_1/MatMul``.
    """
    parts = WRITTEN_OUT.sub("", name.removesuffix(":0")).split("/")
    return "/".join(part for part in parts if part and not CALLS.fullmatch(part))
