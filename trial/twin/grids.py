"""INT8: integer grids in place of roundings, with ranges that some of the calibration samples give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.formats.onnx.left_in_fp32 import first_layers
from trial.twin.errors import TwinError
from trial.twin.graph import exact, first_line, session
from trial.twin.operators import MOVING
from trial.twin.plan import end_of_layer, products, rounded
from trial.twin.weights import axes_of_channel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trial.twin.graph import Graph
    from trial.twin.precision import Precision
    from trial.twin.weights import Channels

PARTS = 20
"""Calibration samples are looked at in this many parts, and each run's ranges are those of half of them."""

FIXED = {"Softmax": (0.0, 1.0), "Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
"""The ranges that TFLite's specification fixes, by operator."""

PORTS = ("low", "high", "step")
"""What a run is told of each grid."""


@dataclass(frozen=True)
class Grids:
    """Tensors on integer grids: what each spanned in every part of the calibration samples, (parts, 2) by name.

    ``fixed`` are those whose range the format fixes, ``weights`` those on grids of their own. ``span`` is what share of
    a range a grid may reach, so that it differs where the range never does.
    """

    ranges: Mapping[str, NDArray[np.float64]]
    fixed: Mapping[str, tuple[float, float]]
    symmetric: bool
    weights: Channels
    span: tuple[float, float]

    def drawn(self, generator: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        """One sound calibration: ends and step of every grid, by the names of the inputs that take them."""
        fed: dict[str, NDArray[np.float32]] = {}
        for name, parts in self.ranges.items():
            half = generator.permutation(len(parts))[: max(1, len(parts) // 2)]
            low, high = float(parts[half, 0].min()), float(parts[half, 1].max())
            share = generator.uniform(*self.span)
            grid = self._grid(name, low * share, high * share)
            fed |= {port(name, p): np.asarray(value, np.float32) for p, value in zip(PORTS, grid, strict=True)}
        return fed

    def _grid(self, name: str, low: float, high: float) -> tuple[float, float, float]:
        """Ends and step of a grid of eight bits that holds zero."""
        if name in self.fixed:
            low, high = self.fixed[name]
            step = (high - low) / 256
            return low, high - step, step
        if self.symmetric:
            step = max(abs(low), abs(high), 1e-30) / 127
            return -127 * step, 127 * step, step
        low, high = min(low, 0.0), max(high, 0.0)
        step = max(high - low, 1e-30) / 255
        zero = round(-low / step)
        return -zero * step, (255 - zero) * step, step


def port(name: str, part: str) -> str:
    """Name of the input that takes a grid's end or step."""
    return f"{name}/{part}"


def add_grids(graph: Graph, precision: Precision, calibration: Mapping[str, NDArray[Any]], batch: int) -> Grids:
    """Put integer grids into the graph; raises TwinError where the calibration samples do not fit it."""
    from onnx import TensorProto, helper

    places = _throughout(graph) if precision.throughout else _around_products(graph, precision)
    if not places:
        raise TwinError("INT8 finds nothing to quantize in the model: no Conv, Gemm or MatMul with weights")
    ranges = _ranges(graph, places, calibration, batch)
    if precision.throughout:
        _join(graph, ranges)
    makers = {name: node.op_type for node in graph.nodes for name in node.output}
    fixed = {n: FIXED[makers[n]] for n in places if precision.throughout and makers.get(n) in FIXED}
    weights = _weights(graph, precision)
    after = {}
    for name in places:
        low, high, step = (port(name, part) for part in PORTS)
        after[name] = [
            helper.make_node("Clip", [exact(name), low, high], [f"{name}/within"]),
            helper.make_node("Div", [f"{name}/within", step], [f"{name}/steps"]),
            helper.make_node("Round", [f"{name}/steps"], [f"{name}/whole"]),
            helper.make_node("Mul", [f"{name}/whole", step], [name]),
        ]
        for part in PORTS:
            graph.add_input(port(name, part), TensorProto.FLOAT, ())
    graph.insert(after)
    return Grids(ranges, fixed, not precision.throughout, weights, precision.span)


def _throughout(graph: Graph) -> list[str]:
    """Every input and every result, those of a layer once, at its end."""
    made = rounded(graph)
    ends = [end_of_layer(graph, n, activation=True) for n, node in made.items() if node.op_type in _LAYERS]
    inside = {n for n, node in made.items() if node.op_type in _LAYERS} - set(ends)
    for name, node in made.items():
        # The sum of a bias, where a layer goes on behind it.
        if node.op_type == "Add" and _follows(graph, node, inside) and name not in ends:
            inside.add(name)
    inputs = [n for n in graph.inputs if graph.is_float(n)]
    return list(dict.fromkeys([*inputs, *(n for n in made if n not in inside), *ends]))


_LAYERS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Sub", "Mul"})
"""What TFLite computes in one with the activation behind it."""


def _follows(graph: Graph, node: Any, inside: Iterable[str]) -> bool:
    return any(name in set(inside) for name in node.input)


def _join(graph: Graph, ranges: dict[str, NDArray[np.float64]]) -> None:
    """Let what is concatenated share one grid, as TFLite asks for it: that of all of it together."""
    makers = {name: node for node in graph.nodes for name in node.output}
    for node in graph.nodes:
        if node.op_type == "Concat":
            parts = [p for name in node.input if (p := _place(name, ranges, makers))]
            if parts:
                low = np.min([ranges[p][:, 0] for p in parts], axis=0)
                high = np.max([ranges[p][:, 1] for p in parts], axis=0)
                ranges |= dict.fromkeys(parts, np.stack([low, high], axis=1))


def _place(name: str, ranges: Mapping[str, Any], makers: Mapping[str, Any]) -> str | None:
    """The tensor on a grid that a value is moved from; None where there is none."""
    while name not in ranges:
        node = makers.get(name)
        if node is None or node.op_type not in MOVING or not node.input:
            return None
        name = node.input[0]
    return name


def _around_products(graph: Graph, precision: Precision) -> list[str]:
    """What quantized operators take and give; first ones that stay in FP32 are left out, unless there are no others."""
    first = set() if precision.first else _first_products(graph)
    found: list[str] = []
    for node in products(graph):
        if node.op_type == "ConvTranspose" or node.output[0] in first:
            continue
        found += [name for name in node.input[:2] if graph.is_float(name) and name not in graph.constants]
        found.append(end_of_layer(graph, node.output[0], activation=False))
    return list(dict.fromkeys(found))


def _first_products(graph: Graph) -> set[str]:
    """Results of the products that stay in FP32 where ONNX is quantized; empty where there are no others."""
    quantized = [node for node in products(graph) if node.op_type != "ConvTranspose"]
    return {node.output[0] for node in first_layers(graph.model.graph, quantized)}


def _weights(graph: Graph, precision: Precision) -> Channels:
    """Weights of quantized products, and where all is quantized the constants of other operators, with their axes."""
    first, everywhere = set() if precision.first else _first_products(graph), precision.throughout
    found: dict[str, tuple[int, ...] | None] = {}
    biases = set()
    for node in products(graph):
        name = node.input[1] if len(node.input) > 1 else ""
        biases.update(node.input[2:])
        if follower := graph.only_consumer(node.output[0]):
            biases.update(follower.input if follower.op_type == "Add" else ())
        if name in graph.constants and node.output[0] not in first and (everywhere or node.op_type != "ConvTranspose"):
            transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
            found[name] = axes_of_channel(node.op_type, graph.constants[name].ndim, transposed=transposed)
    values = graph.values
    if everywhere:
        read = (name for node in rounded(graph).values() for name in node.input if name not in biases)
        found |= {name: None for name in read if name in values and values[name].size > 1 and name not in found}
    return {name: axes for name, axes in found.items() if name in values}


def _ranges(
    graph: Graph, places: list[str], calibration: Mapping[str, NDArray[Any]], batch: int
) -> dict[str, NDArray[np.float64]]:
    """Least and largest finite value of tensors in every part of the calibration samples, (parts, 2) by name."""
    import onnx
    from onnx import helper

    shown = onnx.ModelProto()
    shown.CopyFrom(graph.model)
    del shown.graph.output[:]
    for name in places:
        for operator, end in (("ReduceMin", "least"), ("ReduceMax", "most")):
            shown.graph.node.append(helper.make_node(operator, [name], [f"{name}/{end}"], keepdims=0))
            shown.graph.output.append(helper.make_tensor_value_info(f"{name}/{end}", onnx.TensorProto.FLOAT, []))
    opened = session(shown)
    count = len(next(iter(calibration.values())))
    size = min(batch, max(1, count // PARTS))
    spans = []
    for start in range(0, count - size + 1, size):
        try:
            found = opened.run(None, {n: calibration[n][start : start + size] for n in graph.inputs})
        except Exception as error:  # as at loading
            raise TwinError(f"ONNX Runtime cannot run the calibration samples: {first_line(error)}") from error
        spans.append(np.asarray(found, np.float64).reshape(len(places), 2))
    stacked = np.clip(np.stack(spans, axis=1), -3e38, 3e38)
    return {name: stacked[i] for i, name in enumerate(places)}
