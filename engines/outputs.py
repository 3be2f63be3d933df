"""Outputs of several runs put together, and the outputs of some samples: those without a batch axis stay whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec

    Arrays = Mapping[str, NDArray[Any]]


def joined(spec: ModelSpec, parts: Sequence[Arrays], who: str = "the engine") -> dict[str, NDArray[Any]]:
    """Outputs of all batches by the spec's names: arrays (N, …), and as they are those without a batch axis.

    Raises RunnerError where such a one is not the same in every batch, bit for bit; ``who`` begins the sentence.
    """
    constants = spec.constants
    for name in constants:
        first = np.asarray(parts[0][name])
        for number, part in enumerate(parts):
            if not np.array_equal(first, part[name], equal_nan=first.dtype.kind == "f"):
                raise RunnerError(
                    f"{who}: output {name!r} has no batch axis, and is another one in batch {number + 1} of "
                    f"{len(parts)}; allowed: the same in every batch"
                )
    return {
        o.name: np.asarray(parts[0][o.name])
        if o.name in constants
        else np.concatenate([part[o.name] for part in parts])
        for o in spec.outputs
    }


def taken(spec: ModelSpec, outputs: Arrays, which: slice | NDArray[np.intp] | Sequence[int]) -> dict[str, NDArray[Any]]:
    """Outputs of some samples, by name; those without a batch axis as they are."""
    return {name: array if name in spec.constants else array[which] for name, array in outputs.items()}
