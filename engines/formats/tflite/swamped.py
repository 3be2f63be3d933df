"""Operators of a TFLite file one of whose inputs is less than a step of INT8 in the result."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engines.formats.tflite.layers import graphs_of
from engines.swamped import STEPS, Held, Swamped, swamped

if TYPE_CHECKING:
    from engines.formats.tflite.layers import Graph

TOGETHER = frozenset({"ADD", "SUB", "MAXIMUM", "MINIMUM", "SELECT", "SELECT_V2"})
"""The operators whose result has the values of all inputs, or their sums."""


MOVES = frozenset({"RESHAPE", "TRANSPOSE", "QUANTIZE", "STRIDED_SLICE", "BROADCAST_TO"})
"""The operators that give what they are given."""


def swamped_by(path: Path) -> list[Swamped]:
    """Such operators, in the order of the file."""
    return [found for graph in graphs_of(path.read_bytes()) for found in _of_graph(graph)]


def _of_graph(graph: Graph) -> Iterator[Swamped]:
    constants = {number for number, _ in graph.stored()}
    # The converter gives both operands of a sum one range: what they can hold is told by what they are made of.
    known: dict[int, Held] = {}
    for operator, inputs, outputs in graph.operators:
        given = [known.get(number) or _held(graph, number, constants) for number in inputs if number >= 0]
        held = [one for one in given if one is not None]
        made = _held(graph, outputs[0], constants)
        if made is None:
            continue
        if operator in TOGETHER:
            yield from swamped(operator, made.name, (made.most - made.least) / STEPS, held)
        largest = _largest(graph, operator, inputs, held)
        known[outputs[0]] = replace(made, least=max(made.least, -largest), most=min(made.most, largest))


def _largest(graph: Graph, operator: str, inputs: list[int], held: list[Held]) -> float:
    """The largest number that an operator can give of what its inputs hold; infinite where that is not known."""
    ends = [abs(one.furthest) for one in held]
    if operator in MOVES and ends:
        return ends[0]
    if operator not in {"MUL", "BATCH_MATMUL"} or len(ends) != len(inputs):
        return math.inf
    tensor = graph.graph.Tensors(inputs[0])
    # Which of the two axes is summed over depends on an option.
    terms = max(tensor.Shape(i) for i in range(tensor.ShapeLength())[-2:]) if operator == "BATCH_MATMUL" else 1
    return math.prod(ends) * terms


def _held(graph: Graph, number: int, constants: set[int]) -> Held | None:
    """What a tensor can hold; None where it is not of 8 bits with one scale."""
    tensor = graph.graph.Tensors(number)
    quantized, low = tensor.Quantization(), {"INT8": -128, "UINT8": 0}.get(graph.types[tensor.Type()])
    if low is None or quantized is None or quantized.ScaleLength() != 1:
        return None
    scale, zero = float(quantized.Scale(0)), int(quantized.ZeroPoint(0)) if quantized.ZeroPointLength() else 0
    name = tensor.Name().decode(errors="replace").partition(";")[0]
    return Held(name, (low - zero) * scale, (low + STEPS - zero) * scale, number in constants)
