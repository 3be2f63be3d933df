"""Where a graph rounds, and by which operator; what a twin does not know is declared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.formats.onnx.fp32_parts import ARITHMETIC, MOVES
from trial.twin.errors import TwinError
from trial.twin.operators import (
    ACTIVATIONS,
    BODIES,
    FOLDED,
    MASKING,
    MOVING,
    PRODUCTS,
    RANDOM,
    RECURRENT,
    ROUNDING,
    SOFTMAX,
    STORED,
    SUMS,
)
from trial.twin.precision import LONGEST

if TYPE_CHECKING:
    from trial.twin.graph import Graph

MASK = 6e4
"""What is as large before a softmax masks: a number added to it is lost, and all that are masked are the same.

Were each off by a share of its own, a row that is masked as a whole would have one winner, another in each run.
"""


def rounded(graph: Graph) -> dict[str, Any]:
    """Every FP32 tensor that an operator computes and rounds, with its node, in the graph's order."""
    return {
        name: node
        for node in graph.nodes
        if node.op_type not in MOVING
        for name in node.output
        if name and graph.is_float(name)
    }


def stored(graph: Graph) -> list[str]:
    """FP32 results that an FP16 graph has in FP16 where ONNX Runtime's CPU computes all else in FP32; in order.

    It runs operators in FP16 that only move values, where one of them follows another. So it does with a single one
    behind what a converter leaves in FP32, the inputs and arithmetic on them, or in front of an output: a Cast is the
    other. Values are rounded where they come into such a row, in the result of its first operator.
    """
    makers = {name: node for node in graph.nodes for name in node.output}
    raw = {n for n in graph.inputs if graph.is_float(n)}
    found = []
    for node in graph.nodes:
        floats = [n for n in node.input if graph.is_float(n) and n not in graph.constants]
        before = [makers[n] for n in floats if n in makers]
        after = [reader for n in node.output for reader in graph.consumers.get(n, [])]
        if node.op_type in STORED and floats and not any(other.op_type in STORED for other in before):
            ends = any(n in graph.outputs for n in node.output)
            if ends or raw.intersection(floats) or any(other.op_type in STORED for other in after):
                found += [n for n in node.output if graph.is_float(n)]
        elif node.op_type in MOVES | ARITHMETIC and floats and raw.issuperset(floats):
            raw.update(n for n in node.output if graph.is_float(n))
    return found


def masked(graph: Graph) -> set[str]:
    """Tensors that a softmax is made of by sums, choices and moves alone, where a constant among them masks."""
    makers = {name: node for node in graph.nodes for name in node.output}
    masked: set[str] = set()
    for softmax in (node for node in graph.nodes if node.op_type in SOFTMAX):
        left, found, masks = [softmax.input[0]], set(), False
        while left:
            name = left.pop()
            masks |= graph.is_float(name) and bool((np.abs(graph.constants.get(name, 0.0)) >= MASK).any())
            if name in makers and name not in found:
                found.add(name)
                left += makers[name].input if makers[name].op_type in MASKING | MOVING else []
        masked |= found if masks else set()
    return masked


def declared(graph: Graph) -> tuple[str, ...]:
    """Sentences on operators that are rounded once at their end, since a twin does not see inside; sorted.

    Raises TwinError for a model that draws random numbers.
    """
    kinds = {node.op_type for node in _everything(graph.model.graph)}
    if drawing := sorted(kinds & RANDOM):
        raise TwinError(
            f"the model draws random numbers ({', '.join(drawing)}): its answers are no reference for noise"
        )
    here = {node.op_type for node in graph.nodes}
    inside = [f"{name}: its body is not looked into, its results are rounded once" for name in here & BODIES]
    loops = [f"{name}: rounded once, after its last step" for name in here & RECURRENT]
    unknown = [f"{name}: not known, rounded once" for name in here - MOVING - ROUNDING - BODIES - RANDOM]
    return tuple(sorted(inside + loops + unknown))


def _everything(graph: Any) -> Iterator[Any]:
    """Nodes of a graph and of all graphs inside them."""
    from engines.formats.onnx.layers import bodies

    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from _everything(body)


def length_of_sum(graph: Graph, node: Any, most: int | None = LONGEST) -> int:
    """How many terms each result of a summing operator has, LONGEST where the graph does not tell; at most ``most``."""
    first, *others = node.input
    weights = graph.constants.get(others[0]) if others else None
    shape = graph.shapes.get(first, ())
    if node.op_type == "Conv" and weights is not None:
        terms: int | None = int(np.prod(weights.shape[1:]))
    elif node.op_type == "ConvTranspose" and weights is not None:
        terms = int(weights.size // weights.shape[1])
    elif node.op_type == "MatMul" and shape:
        terms = shape[-1]
    elif node.op_type == "Gemm" and len(shape) == 2:
        terms = shape[0] if any(a.name == "transA" and a.i for a in node.attribute) else shape[1]
    else:
        terms = None
    found = terms or LONGEST
    return found if most is None else min(found, most)


def lengths_of_sums(graph: Graph) -> dict[str, int]:
    """Terms of every sum by the name of its result.

    A constant that is added or multiplied behind a sum belongs to it: engines start a sum with its bias, so that each
    of its terms is rounded at the size of the whole.
    """
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node.op_type in SUMS:
            found |= dict.fromkeys(node.output, length_of_sum(graph, node))
        elif node.op_type in FOLDED and any(name in graph.constants for name in node.input):
            found |= dict.fromkeys(node.output[:1], max(found.get(name, 0) for name in node.input))
    return found


def end_of_layer(graph: Graph, name: str, *, activation: bool) -> str:
    """The tensor that ends what engines compute as one: a product with its bias, and its activation where asked.

    ``name`` is the product's own result; returns it where it is read by several or is an output.
    """
    while (node := graph.only_consumer(name)) is not None:
        bias = node.op_type == "Add" and any(i in graph.constants for i in node.input)
        if not (bias or (activation and node.op_type in ACTIVATIONS and node.input[0] == name)):
            break
        name = node.output[0]
        if not bias:
            break
    return name


def products(graph: Graph) -> list[Any]:
    """Nodes that multiply and add, in the graph's order."""
    return [node for node in graph.nodes if node.op_type in PRODUCTS]
