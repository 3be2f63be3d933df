"""The layers of a TFLite file that have weights, and the precision of those: what its precision is read off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engines.precision import Layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTED_OPERATORS = ("CONV", "FULLY_CONNECTED", "MATMUL", "LSTM", "RNN", "GRU", "SVDF")
"""Parts of the names of the operators that take weights: DEPTHWISE_CONV_2D, BATCH_MATMUL, … are among them."""

PASSED_ON_BY = frozenset({"DEQUANTIZE", "QUANTIZE", "CAST", "RESHAPE", "TRANSPOSE"})
"""The operators through which weights reach the operator that takes them: FP16 weights are dequantized to FP32."""

STORED = {
    "FLOAT32": "fp32",
    "FLOAT16": "fp16",
    "BFLOAT16": "fp16",
    "INT8": "int8",
    "UINT8": "int8",
    "INT4": "int8",
    "INT2": "int8",
}
"""The precision of weights by the type that they are stored in; other constants are no weights."""


def layers(path: Path) -> list[Layer]:
    """Layers that have weights: the largest constant input of two dimensions or more of their operator.

    Weights that an FP32 graph takes from 8 bits (TFLite's dynamic range) or FP16 are INT8 or FP16.
    """
    return [weights.layer for weights in _all(path.read_bytes())]


def clamped(content: bytes) -> list[str]:
    """Names of the FP16 weights with values at FP16's ends: TFLite's converter moves what is beyond 65504 there."""
    limit = np.finfo(np.float16).max
    return [
        weights.name
        for weights in _all(content)
        if weights.layer.precision == "fp16" and (np.abs(weights.data.view(np.float16)) >= limit).any()
    ]


class _Weights(NamedTuple):
    """A constant that an operator takes as its weights: what is known of it, its name, and its bytes."""

    layer: Layer
    name: str
    data: NDArray[np.uint8]


def _all(content: bytes) -> Iterator[_Weights]:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    operators, types = _names(schema.BuiltinOperator), _names(schema.TensorType)
    for number in range(model.SubgraphsLength()):
        yield from _of_graph(model, model.Subgraphs(number), operators, types)


def _names(numbers: type) -> dict[int, str]:
    """Names of the values of one of the schema's enumerations."""
    return {value: name for name, value in vars(numbers).items() if isinstance(value, int)}


def _of_graph(model: Any, graph: Any, operators: Mapping[int, str], types: Mapping[int, str]) -> Iterator[_Weights]:
    """Go through one graph, whose operators are in the order in which they run."""
    constants: dict[int, _Weights] = {}
    for number in range(graph.TensorsLength()):
        tensor = graph.Tensors(number)
        buffer = model.Buffers(tensor.Buffer())
        stored = STORED.get(types[tensor.Type()])
        # Data that is stored behind the tables has an offset instead.
        if stored and tensor.ShapeLength() >= 2 and (buffer.DataLength() or buffer.Offset() > 1):
            layer = Layer(stored, math.prod(tensor.Shape(i) for i in range(tensor.ShapeLength())))
            data = buffer.DataAsNumpy() if buffer.DataLength() else np.empty(0, np.uint8)
            constants[number] = _Weights(layer, tensor.Name().decode(), data)
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        # Files from before there were 128 operators have the older field only.
        name = operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = [operator.Inputs(i) for i in range(operator.InputsLength())]
        weights = [constants[i] for i in inputs if i in constants]
        if name in PASSED_ON_BY and inputs[0] in constants:
            constants[operator.Outputs(0)] = constants[inputs[0]]
        if weights and any(part in name for part in WEIGHTED_OPERATORS):
            yield max(weights, key=lambda one: one.layer.weights)
