"""Variants: the engines under test of one model, each named by an id that is its name everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from engines.model import ModelSpec


@dataclass(frozen=True)
class Variant:
    """One engine under test: format and precision (and, where a format has them, a batch profile).

    ``str(variant)`` is the id, such as ``onnx-int8``, that tests, store, tolerance table and options use.
    """

    format: str
    precision: str

    def __str__(self) -> str:
        """Give the id."""
        return f"{self.format}-{self.precision}"


REFERENCE = Variant("savedmodel", "fp32")
"""The variant that all others are compared with."""


def variants(spec: ModelSpec) -> tuple[Variant, ...]:
    """List the variants of a model, in the order of the chain; the reference's own variant comes first."""
    return tuple(Variant(format_, precision) for format_, chosen in spec.precisions.items() for precision in chosen)
