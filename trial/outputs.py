"""What an engine answered on inputs, beside the reference's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Outputs:
    """What an engine answered on inputs, and what the reference did; all by name, (N, …)."""

    inputs: Arrays
    actual: Arrays
    reference: Arrays

    def part(self, few: slice | NDArray[np.intp]) -> Outputs:
        """Some of the samples, of outputs that all have a batch axis."""
        return Outputs(
            *({n: a[few] for n, a in arrays.items()} for arrays in (self.inputs, self.actual, self.reference))
        )

    def spared(self, samples: NDArray[np.intp]) -> Outputs:
        """The same with the reference's answers to some samples in place of the engine's: nothing differs there."""
        actual = {}
        for name, array in self.actual.items():
            actual[name] = array.copy()
            if array.ndim and len(array) == len(next(iter(self.inputs.values()))):
                actual[name][samples] = self.reference[name][samples]
        return Outputs(self.inputs, actual, self.reference)

    def without(self, names: frozenset[str]) -> Outputs:
        """The same without some outputs, such as those that have no batch axis."""
        return Outputs(self.inputs, *(without(arrays, names) for arrays in (self.actual, self.reference)))


def without(outputs: Arrays, names: frozenset[str]) -> dict[str, NDArray[Any]]:
    """Outputs but for some, by name."""
    return {name: array for name, array in outputs.items() if name not in names}
