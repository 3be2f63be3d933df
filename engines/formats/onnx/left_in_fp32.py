"""What the INT8 of an ONNX model leaves in FP32, and why.

A layer that takes the inputs as they came loses their digits: symmetric INT8 has 127 steps for pixels in [0, 1]. It is
told by what its values are made of. An input that only meets a layer's results, as a residual or a mask does, makes no
first layer of what follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engines.formats.onnx.layers import weights_of

FIRST = "takes the inputs before any layer with weights"
BATCHED = "multiplies by several matrices, of which ONNX Runtime quantizes none"
"""Why a layer is left in FP32."""

FIXED, RAW, MADE = range(3)
"""What a tensor is made of: constants and shapes alone, inputs as well, or what a layer or a table has made of them."""

OF_FIRST = (
    *("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "Expand", "Tile", "Split"),
    *("Slice", "Gather", "GatherND", "GatherElements", "Pad", "Resize", "DepthToSpace", "SpaceToDepth"),
)
"""Operators whose values are those of their first input; the others say where they go, and how many there are."""

SHAPES = ("Shape", "Size")
"""Operators that give no value of their input."""


def left_in_fp32(path: Path, operators: Sequence[str]) -> dict[str, str]:
    """Names of the nodes of these operators that stay in FP32, and why.

    They are those of several matrices of weights, and the first ones. The first are quantized where no other layer with
    weights is.
    """
    import onnx

    graph = onnx.load(str(path)).graph
    # ONNX Runtime's kernel takes a scale for each column of one matrix, and raises at a batch of matrices.
    batched = {t.name for t in graph.initializer if len(t.dims) > 2}
    apart = [n.name for n in graph.node if n.op_type == "MatMul" and batched.intersection(n.input)]
    first = first_layers(graph, [n for n in graph.node if n.op_type in operators and n.name not in apart])
    return dict.fromkeys(apart, BATCHED) | {node.name: FIRST for node in first}


def first_layers(graph: Any, layers: Sequence[Any]) -> list[Any]:
    """Those of a graph's nodes that inputs reach as they came; none where no other has weights."""
    origins = {t.name: FIXED for t in graph.initializer}
    origins |= {value.name: RAW for value in graph.input if value.name not in origins}
    those = {node.output[0] for node in layers}
    first = []
    # The nodes of an ONNX graph are sorted topologically.
    for node in graph.node:
        layer = bool(node.output) and node.output[0] in those
        if layer and any(origins.get(name) == RAW for name in node.input):
            first.append(node)
        made = MADE if layer else _origin(node, origins)
        origins |= dict.fromkeys(node.output, made)
    rest = those - {node.output[0] for node in first}
    return first if rest & weights_of(graph).keys() else []


def _origin(node: Any, origins: Mapping[str, int]) -> int:
    """What a node that is no layer gives, by what its inputs are made of."""
    if node.op_type in SHAPES:
        return FIXED
    found = [origins.get(name, FIXED) for name in node.input if name]
    if node.op_type in OF_FIRST and found:
        # A table's rows are weights, whichever of them the inputs choose.
        chosen = node.op_type.startswith("Gather") and found[0] == FIXED and RAW in found[1:]
        return MADE if chosen else found[0]
    if node.op_type == "Where":
        found = found[1:]
    # One step for all holds the inputs as badly beside other values as alone.
    if node.op_type == "Concat" and RAW in found:
        return RAW
    return max(found, default=FIXED)
