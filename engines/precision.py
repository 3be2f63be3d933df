"""The precision of an engine that was made elsewhere: that of most of the layers, or of most of the weights, it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

REDUCED = ("int8", "fp16")
"""The precisions below fp32, the coarsest first."""


@dataclass(frozen=True)
class Layer:
    """What is known of a layer that has weights: their precision, how many there are, and its name in the file."""

    precision: str
    weights: int
    name: str = field(default="", compare=False)


def precision_of(layers: Sequence[Layer]) -> str:
    """Coarsest precision that half of the layers or half of the weights have, or a coarser one; else fp32.

    Either half is enough, for sound converters leave layers alone. The suite's own INT8 leaves out the first one, which
    may be one of two; TFLite's dynamic range all small ones, which may be most.
    """
    for place, precision in enumerate(REDUCED):
        those = [layer for layer in layers if layer.precision in REDUCED[: place + 1]]
        half_of_layers = 2 * len(those) >= len(layers)
        half_of_weights = 2 * sum(layer.weights for layer in those) >= sum(layer.weights for layer in layers)
        if those and (half_of_layers or half_of_weights):
            return precision
    return "fp32"


def described(layers: Sequence[Layer]) -> str:
    """How many layers have which precision: ``layers with weights: 8 INT8, 1 FP32``."""
    counts = [(sum(layer.precision == p for layer in layers), p.upper()) for p in (*REDUCED, "fp32")]
    return f"layers with weights: {', '.join(f'{count} {name}' for count, name in counts if count) or 'none'}"
