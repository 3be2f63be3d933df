"""What an INT8 file has in FP32, in words: a file that is INT8 in name alone agrees the better for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engines.formats import registry
from engines.inside import operation

if TYPE_CHECKING:
    from engines.chain import Chain
    from engines.precision import Layer
    from engines.variant import Variant

SHOWN = 3
"""How many layers are named of those that are left for one reason."""

USUAL = 3
"""One layer in FP32 of as many is nothing to be told: the first one is left so, and the others are INT8."""

UNKNOWN = "not quantized by the converter, as what is inside of loops"


def left_in_fp32(chain: Chain, variant: Variant) -> list[str]:
    """Sentence on the layers with weights that a variant in INT8 has in FP32; none where that is one of many.

    They are read off the file itself. Why they are so is what the record of its conversion says.
    """
    if not variant.precision.startswith("int8"):
        return []
    key = "left in FP32", variant
    if key not in chain.known:
        found = list(registry.find(variant.format).layers(chain.file(variant)))
        reasons = {} if chain.from_brought(variant) else chain.artifact(variant).details.get("left_in_fp32", {})
        chain.known[key] = told(str(variant), found, reasons)
    sentences: list[str] = chain.known[key]
    return sentences


def told(variant: str, layers: Sequence[Layer], reasons: dict[str, str]) -> list[str]:
    """The same of layers, with the reasons of those by their names."""
    wide = [layer for layer in layers if layer.precision == "fp32"]
    if not wide or (len(wide) == 1 and len(layers) >= USUAL and 2 * wide[0].weights < sum(x.weights for x in layers)):
        return []
    why: dict[str, list[str]] = {}
    for layer in wide:
        why.setdefault(reasons.get(layer.name, UNKNOWN), []).append(operation(layer.name))
    parts = [f"{reason}: {_listed(names)}" for reason, names in why.items()]
    return [f"{variant} has {len(wide)} of {len(layers)} layers with weights in FP32 ({'; '.join(parts)})"]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
