"""The layers of an ONNX file that have weights, and the precision of those: what its precision is read off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines.precision import REDUCED, Layer

WEIGHTED_OPERATORS = ("Conv", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN", "Attention")
"""Parts of the names of the operators that take weights: QLinearConv, MatMulInteger, FusedGemm, … are among them."""

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")

PASSED_ON_BY = (*QUANTIZERS, "Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
"""The operators through which weights reach the operator that takes them."""


def layers(path: Path) -> list[Layer]:
    """Layers that have weights, those inside of loops, branches and functions among them.

    The weights of an operator are its largest constant input of two dimensions or more. An operator without any, such
    as the product of two activations, is no such layer. Weights are INT8 where they are stored in 8 bits or less or
    pass a quantization. They are FP16 where they are stored in 16 bits, as BF16 is, or cast to them.
    """
    import onnx
    from onnx import inliner

    model = inliner.inline_local_functions(onnx.load(str(path), load_external_data=False))
    return list(_layers(model.graph, {}))


def bodies(node: Any) -> list[Any]:
    """Graphs inside a node: the branches of an If, the body of a Loop or Scan."""
    return [graph for a in node.attribute for graph in ([a.g] if a.HasField("g") else a.graphs)]


def weights_of(graph: Any) -> dict[str, Layer]:
    """The layers of a graph itself that have weights, by the name of what each gives."""
    return {node.output[0]: layer for node, layer in _found(graph, _known(graph, {}))}


def _known(graph: Any, outside: Mapping[str, Any]) -> dict[str, Any]:
    """Nodes and stored tensors that a graph sees, by name: its own, and those ``outside`` of it."""
    known = {**outside, **{t.name: t for t in graph.initializer}}
    return known | {name: node for node in graph.node for name in node.output}


def _found(graph: Any, known: Mapping[str, Any]) -> Iterator[tuple[Any, Layer]]:
    for node in graph.node:
        if any(part in node.op_type for part in WEIGHTED_OPERATORS):
            found = [weights for name in node.input if (weights := _weights(name, known))]
            if found:
                yield node, replace(max(found, key=lambda layer: layer.weights), name=node.name or node.output[0])


def _layers(graph: Any, outside: Mapping[str, Any]) -> Iterator[Layer]:
    known = _known(graph, outside)
    yield from (layer for _, layer in _found(graph, known))
    for node in graph.node:
        for body in bodies(node):
            yield from _layers(body, known)


def _weights(name: str, known: Mapping[str, Any]) -> Layer | None:
    """Follow an input to the constant of two dimensions or more that it comes from; None where there is none."""
    from onnx import NodeProto, TensorProto, helper

    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    precisions = {"fp32"}
    source = known.get(name)
    while isinstance(source, NodeProto) and source.op_type in PASSED_ON_BY:
        if source.op_type in QUANTIZERS:
            precisions.add("int8")
        if any(a.name == "to" and a.i in halves for a in source.attribute):
            precisions.add("fp16")
        source = known.get(source.input[0])
    if isinstance(source, NodeProto) and source.op_type == "Constant":
        source = next((a.t for a in source.attribute if a.name == "value"), None)
    if not isinstance(source, TensorProto) or len(source.dims) < 2:
        return None
    size = helper.tensor_dtype_to_np_dtype(source.data_type).itemsize
    precisions.add({1: "int8", 2: "fp16"}.get(size, "fp32"))
    return Layer(min(precisions, key=(*REDUCED, "fp32").index), math.prod(source.dims))
