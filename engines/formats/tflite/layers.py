"""The layers of a TFLite file that have weights, and the precision of those: what its precision is read off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    return [layer for graph in graphs_of(path.read_bytes()) for layer in _weighted(graph)]


def dequantized(path: Path) -> dict[int, tuple[str, float, int]]:
    """Outputs of a file that are dequantized from integers: the integers' type, scale and zero point by their number.

    So the converter makes them where it is not told to make the outputs integers, too. What only moves values behind
    is looked through.
    """
    main = next(iter(graphs_of(path.read_bytes())))
    makers = {made: (name, inputs) for name, inputs, outputs in main.operators for made in outputs}
    found = {}
    for output in main.outputs:
        number, kind = output, ""
        while number in makers and makers[number][0] in {"RESHAPE", "TRANSPOSE", "DEQUANTIZE"} and kind != "DEQUANTIZE":
            kind, inputs = makers[number]
            number = inputs[0]
        quantized = main.graph.Tensors(number).Quantization() if kind == "DEQUANTIZE" else None
        if quantized is not None and quantized.ScaleLength() == 1:
            point = int(quantized.ZeroPoint(0)) if quantized.ZeroPointLength() else 0
            stored = main.types[main.graph.Tensors(number).Type()].lower()
            found[output] = (stored, float(quantized.Scale(0)), point)
    return found


def computed(path: Path) -> list[tuple[int, str, str]]:
    """Tensors of floats, or of integers with one scale, that the main graph computes: number, name and operator.

    They are in the order in which they are computed, without those that are made of constants alone.
    """
    main = next(iter(graphs_of(path.read_bytes())))
    known = {number for number, _ in main.stored()}
    found = []
    for operator, inputs, outputs in main.operators:
        if known.issuperset(i for i in inputs if i >= 0):
            known.update(outputs)
            continue
        for number in outputs:
            tensor = main.graph.Tensors(number)
            stored, quantized = main.types[tensor.Type()], tensor.Quantization()
            scaled = quantized is not None and quantized.ScaleLength() == 1
            if stored == "FLOAT32" or (scaled and stored in {"INT8", "UINT8", "INT16"}):
                found.append((number, tensor.Name().decode(), operator))
    return found


PUSHED_BY = PASSED_ON_BY | {"ADD", "SUB", "MUL", "NEG", "SELECT", "SELECT_V2", "BROADCAST_TO", "TILE", "EXPAND_DIMS"}
"""The operators by which a mask reaches the softmax whose input it pushes away."""

BIAS = 2
"""The place of the bias among the inputs of a layer."""

TAKE_CLAMPED = frozenset({"SOFTMAX", "MINIMUM", "MAXIMUM"})
"""The operators to which a mask or a bound at FP16's end is as good as one beyond it."""


def unset(content: bytes) -> bool:
    """Whether a file reads variables that nothing in it gives a value: LiteRT then answers with memory of anybody."""
    operators = {operator for graph in graphs_of(content) for operator, _, _ in graph.operators}
    return "READ_VARIABLE" in operators and "ASSIGN_VARIABLE" not in operators


def clamped(content: bytes) -> list[str]:
    """Names of the FP16 constants at FP16's ends, where TFLite's converter moves what is beyond; not masks and bounds.

    Each comes with the operator that takes it: ``'head/kernel' of FULLY_CONNECTED``.
    """
    return [f"{name!r} of {operator}" for graph in graphs_of(content) for name, operator in _of_clamped(graph)]


def _of_clamped(graph: Graph) -> Iterator[tuple[str, str]]:
    """Clamped constants of one graph, each with the first operator to which it matters that they are."""
    limit = np.finfo(np.float16).max
    for number, tensor in graph.stored():
        if graph.types[tensor.Type()] != "FLOAT16":
            continue
        values = graph.data(tensor).view(np.float16)
        if (np.abs(values) >= limit).any() and _matters(graph, number):
            yield tensor.Name().decode(), next(iter(_reached(graph, number, PASSED_ON_BY)[0]), "the graph itself")


def _matters(graph: Graph, constant: int) -> bool:
    """Whether anything takes a constant otherwise than as a mask or a bound."""
    operators, tensors = _reached(graph, constant, PUSHED_BY, biases=True)
    return bool(operators - TAKE_CLAMPED) or not graph.outputs.isdisjoint(tensors)


def _reached(graph: Graph, constant: int, through: frozenset[str], biases: bool = False) -> tuple[set[str], list[int]]:
    """Operators that a constant reaches through others, those not among them, and the tensors on the way.

    ``biases`` says whether it goes through those that add it to what they compute, too.
    """
    operators, tensors = set(), [constant]
    for number in tensors:
        for name, inputs, made in graph.operators:
            added = biases and number in inputs[BIAS : BIAS + 1] and any(part in name for part in WEIGHTED_OPERATORS)
            if number in inputs and (name in through or added):
                tensors += [m for m in made if m not in tensors]
            elif number in inputs:
                operators.add(name)
    return operators, tensors


class Graph:
    """One graph of a file: its tensors, and its operators in the order in which they run."""

    def __init__(self, model: Any, graph: Any, names: Mapping[int, str], types: Mapping[int, str]) -> None:
        self.model, self.graph, self.types = model, graph, types
        self.outputs = {graph.Outputs(i) for i in range(graph.OutputsLength())}
        self.operators: list[tuple[str, list[int], list[int]]] = []
        for number in range(graph.OperatorsLength()):
            operator = graph.Operators(number)
            code = model.OperatorCodes(operator.OpcodeIndex())
            # Files from before there were 128 operators have the older field only.
            name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            inputs = [operator.Inputs(i) for i in range(operator.InputsLength())]
            self.operators.append((name, inputs, [operator.Outputs(i) for i in range(operator.OutputsLength())]))

    def stored(self) -> Iterator[tuple[int, Any]]:
        """Constants, by their number."""
        for number in range(self.graph.TensorsLength()):
            tensor = self.graph.Tensors(number)
            buffer = self.model.Buffers(tensor.Buffer())
            # Data that is stored behind the tables has an offset instead.
            if buffer.DataLength() or buffer.Offset() > 1:
                yield number, tensor

    def data(self, tensor: Any) -> NDArray[np.uint8]:
        """Bytes of a constant; none where they are stored behind the tables."""
        buffer = self.model.Buffers(tensor.Buffer())
        return buffer.DataAsNumpy() if buffer.DataLength() else np.empty(0, np.uint8)


def graphs_of(content: bytes) -> Iterator[Graph]:
    """The graphs of a file, the main one first."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    operators, types = names_of(schema.BuiltinOperator), names_of(schema.TensorType)
    for number in range(model.SubgraphsLength()):
        yield Graph(model, model.Subgraphs(number), operators, types)


def names_of(numbers: type) -> dict[int, str]:
    """Names of the values of an enumeration of the schema."""
    return {value: name for name, value in vars(numbers).items() if isinstance(value, int)}


def _weighted(graph: Graph) -> Iterator[Layer]:
    """Layers of one graph that have weights."""
    constants: dict[int, Layer] = {}
    for number, tensor in graph.stored():
        stored = STORED.get(graph.types[tensor.Type()])
        if stored and tensor.ShapeLength() >= 2:
            constants[number] = Layer(stored, math.prod(tensor.Shape(i) for i in range(tensor.ShapeLength())))
    for name, inputs, outputs in graph.operators:
        weights = [constants[i] for i in inputs if i in constants]
        if name in PASSED_ON_BY and inputs[0] in constants:
            constants[outputs[0]] = constants[inputs[0]]
        if weights and any(part in name for part in WEIGHTED_OPERATORS):
            made = graph.graph.Tensors(outputs[0]).Name().decode(errors="replace")
            yield replace(max(weights, key=lambda one: one.weights), name=made.partition(";")[0])
