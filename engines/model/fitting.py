"""Whether samples fit a model, before anything is built from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.errors import DataError

if TYPE_CHECKING:
    from engines.model.samples import Samples
    from engines.model.spec import ModelSpec


def fitting(spec: ModelSpec, samples: Samples, source: str) -> Samples:
    """The samples themselves, of a ``source``; DataError where they lack an input, or have another shape or dtype."""
    if missing := sorted({i.name for i in spec.inputs} - set(samples.inputs)):
        names = ", ".join(i.name for i in spec.inputs)
        raise DataError(
            f"{spec.source}: the data ({source}) have no input {missing[0]!r}; "
            f"allowed: --samples=FILE.npz with an array for each of {names}"
        )
    for item in spec.inputs:
        expected, found = spec.concrete_shape(item, len(samples)), samples.inputs[item.name]
        if found.shape != expected:
            raise DataError(
                f"{spec.source}: input {item.name!r} has shape {expected}, {source} have {found.shape}; "
                "allowed: a data.dataset of that shape, or --samples=FILE.npz"
            )
        if found.dtype != item.dtype:
            raise DataError(
                f"{spec.source}: input {item.name!r} is {item.dtype}, {source} have {found.dtype}; "
                "allowed: --samples=FILE.npz with an array of that dtype"
            )
    return samples
