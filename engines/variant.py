"""Variants: the engines under test of one model, each named by an id that is its name everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engines.model import BatchProfile, ModelSpec


@dataclass(frozen=True)
class Variant:
    """One engine under test: format and precision (and, where a format has them, a batch profile).

    ``str(variant)`` is the id, such as ``onnx-int8`` or ``tensorrt-fp16-b1.16.32``, that tests, store and options use.
    """

    format: str
    precision: str
    profile: BatchProfile | None = None

    def __str__(self) -> str:
        """Give the id."""
        return f"{self.row_name}-{self.profile}" if self.profile else self.row_name

    @property
    def row_name(self) -> str:
        """The key of the variant's row in the tolerance table, which knows no batch profiles: ``tensorrt-fp16``."""
        return f"{self.format}-{self.precision}"


REFERENCE = Variant("savedmodel", "fp32")
"""The variant that all others are compared with."""


PROFILED = ("tensorrt", "tensorrt-vc", "cpp8", "cpp10")
"""The formats whose engines are built for a batch profile."""

PLANS: Mapping[str, str] = MappingProxyType({"cpp8": "tensorrt", "cpp10": "tensorrt-vc"})
"""The formats that are C++ programs, and the format of the plans that each one runs."""

EVERY_PROFILE = ("fp32", "fp16", "int8")
"""The precisions that are built for every batch profile of a model; others only for its first.

What a further profile can change (kernels chosen for another batch) these three show; an engine takes up to half a
minute to build.
"""


def variants(spec: ModelSpec) -> tuple[Variant, ...]:
    """List the variants of a model, in the order of the chain; the reference's own variant comes first."""
    result: list[Variant] = []
    for format_, chosen in spec.precisions.items():
        if format_ in PLANS and not spec.exchangeable:
            continue
        if format_ not in PROFILED:
            result += [Variant(format_, precision) for precision in chosen]
            continue
        for profile in spec.profiles:
            every = profile == spec.profiles[0]
            further = EVERY_PROFILE if format_ == "tensorrt" else ()
            result += [Variant(format_, p, profile) for p in chosen if every or p in further]
    return tuple(result)


def plan_of(variant: Variant) -> Variant:
    """Give the variant whose plan a C++ program runs; any other variant is its own."""
    return Variant(PLANS.get(variant.format, variant.format), variant.precision, variant.profile)
