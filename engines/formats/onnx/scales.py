"""The scales of a quantized ONNX file: what is quantized by one is to be dequantized by the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.formats.onnx.constants import small_constants
from engines.formats.onnx.layers import bodies

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOVING = {"Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather"}
"""The operators that move integers from place to place."""

PASSED_ON_BY = MOVING | {"MaxPool", "DepthToSpace", "SpaceToDepth"}
"""The operators that pass integers on as they are."""

WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
"""The operators whose weights a quantizer gives scales of their own."""


def mismatched(path: Path) -> list[str]:
    """Sentences on every tensor that is quantized by one scale or zero point and dequantized by another.

    Each is off by the ratio of the two, whatever else is right. Only constants are compared.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return [sentence for graph in _graphs(model.graph) for sentence in _of_graph(graph)]


def symmetric_by_channel(path: Path) -> bool:
    """Whether a Q/DQ file is quantized as :mod:`engines.formats.onnx.build` does it.

    Integers of activations have their zero at zero, and weights a scale for each of several channels. Another scheme
    has other noise.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = small_constants(graph)
    makers = {name: node for node in graph.node for name in node.output}
    quantized = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    centred = all(
        len(node.input) > 2 and node.input[2] in constants and _zero_at_zero(constants[node.input[2]])
        for node in quantized
    )
    weights = [
        makers[node.input[1]]
        for node in graph.node
        if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in makers
    ]
    scales = [constants.get(node.input[1]) for node in weights if node.op_type == "DequantizeLinear"]
    return bool(quantized) and centred and any(scale is not None and scale.size > 1 for scale in scales)


def _zero_at_zero(points: NDArray[Any]) -> bool:
    return points.dtype == np.int8 and not points.any()


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and all inside of it."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from _graphs(body)


def _of_graph(graph: Any) -> Iterator[str]:
    constants = small_constants(graph)
    consumers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input[:1]:
            consumers.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            for other in _dequantized(node.output[0], consumers):
                if different := _difference(node, other, constants):
                    yield f"{node.input[0]!r} is quantized with {different} ({other.name or other.output[0]!r})"


def _dequantized(name: str, consumers: Mapping[str, list[Any]]) -> Iterator[Any]:
    """The nodes that dequantize what a tensor holds, behind those that pass it on."""
    for node in consumers.get(name, []):
        if node.op_type == "DequantizeLinear":
            yield node
        elif node.op_type in PASSED_ON_BY:
            yield from _dequantized(node.output[0], consumers)


def _difference(one: Any, other: Any, constants: Mapping[str, NDArray[Any]]) -> str:
    """What differs of two nodes' scale and zero point, in words; empty where they agree or are computed."""
    for place, what in ((1, "scale"), (2, "zero point")):
        names = [node.input[place] if len(node.input) > place else "" for node in (one, other)]
        if all(name in constants for name in names):
            first, second = (constants[name].astype(np.float64).reshape(-1) for name in names)
            if first.shape != second.shape or (first != second).any():
                at = int(np.flatnonzero(first != second)[0]) if first.shape == second.shape else 0
                return f"{what} {first[at]:.6g} and dequantized with {second[at]:.6g}"
    return ""
