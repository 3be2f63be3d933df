"""The tensors between the layers of a TFLite file, as LiteRT's built-in kernels leave them."""

from __future__ import annotations

import re
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.formats.tflite.layers import computed
from engines.formats.tflite.runner import BUILT_IN, TFLiteRunner
from engines.inside import Inside, Tensor, operation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec
    from engines.runner import Arrays
    from engines.variant import Variant


NUMBERED = re.compile(r"(?<=[A-Za-z])\d+$")
"""What TFLite's converter puts behind a name that is in use."""

MOST = 64
"""The most samples of the one batch that is looked into."""


class TFLiteInside(Inside):
    """TFLite file that keeps every tensor.

    XNNPACK keeps none of what it computes, so that it is left out. Integers are shown as the floats that they stand
    for. Raises RunnerError as :class:`TFLiteRunner` does.
    """

    way = BUILT_IN

    def __init__(self, spec: ModelSpec, variant: Variant, path: Path) -> None:
        # What is looked into is one batch, whatever the model's first profile holds.
        self._runner = TFLiteRunner(spec, variant, path, MOST, built_in=True, keeps=True)
        outputs = {number: name for name, number in self._runner.output_numbers.items()}
        self._numbers: dict[str, int] = {}
        found: dict[str, Tensor] = {}
        for number, name, operator in computed(path):
            # Names need not be their own: the number tells them apart.
            own = f"{name}#{number}" if name in found else name
            found[own] = Tensor(
                own,
                f"TFLite {operator} {own.rstrip(';').rpartition(';')[2]}",
                _operations(name),
                outputs.get(number, ""),
            )
            self._numbers[own] = number
        self.tensors = tuple(found.values())

    def __call__(
        self, inputs: Arrays, wanted: Sequence[str]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Answers, and the wanted tensors by name."""
        answers = self._runner(inputs)
        shown = self._runner.kept([self._numbers[name] for name in wanted])
        return answers, {name: shown[self._numbers[name]].astype(np.float32) for name in wanted}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.close()


def _operations(name: str) -> tuple[str, ...]:
    """Operations that a tensor is made of, as its name lists them; the converter may have put a number behind them."""
    return tuple(dict.fromkeys(operation(piece) for piece in [*name.split(";"), *NUMBERED.sub("", name).split(";")]))
