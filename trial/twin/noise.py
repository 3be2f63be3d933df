"""Random relative errors, in place of floating-point roundings, as nodes of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trial.twin.graph import exact
from trial.twin.plan import MASK, lengths_of_sums, masked, products, rounded, stored
from trial.twin.precision import NEAREST, PER_SUM

if TYPE_CHECKING:
    from trial.twin.graph import Graph
    from trial.twin.precision import Precision

WIDTH = 3.0**0.5
"""Half the width of a uniform distribution of unit variance."""


def add_noise(graph: Graph, precision: Precision) -> None:
    """Let every rounded tensor be off by a random error, anew in each run; of no unit at all nothing is added."""
    after: dict[str, list[Any]] = {}
    lengths, masks = lengths_of_sums(graph), masked(graph)
    for name, node in rounded(graph).items():
        of_sum = precision.sums * PER_SUM * lengths.get(name, 0) ** 0.5
        relative, absolute = precision.operators.get(node.op_type, (0.0, 0.0))
        relative = float(np.hypot(precision.values * NEAREST, relative / WIDTH))
        most = MASK if name in masks else 0.0
        after[name] = _noisy(graph, name, relative, of_sum, precision, absolute / WIDTH, most)
    if precision.operands:
        for node in products(graph):
            for name in node.input[:2]:
                if graph.is_float(name) and name not in graph.constants:
                    after[name] = _noisy(graph, name, precision.operands * NEAREST, 0.0, precision)
    if precision.moved:
        after |= {name: _stored(graph, name, precision) for name in stored(graph)}
    graph.insert({name: nodes for name, nodes in after.items() if nodes})


def _noisy(
    graph: Graph,
    name: str,
    relative: float,
    of_sum: float,
    precision: Precision,
    absolute: float = 0.0,
    most: float = 0.0,
) -> list[Any]:
    """Nodes that make a tensor x from its exact form: x + u · (relative · |x| + of_sum · its row's size + absolute).

    u is uniform, of unit variance, and a row's size its root mean square. What is below the smallest normal number is
    as coarse as that, and what is above ``most``, where it is given, no coarser.
    """
    from onnx import helper

    if not (relative or of_sum):
        return []
    raw, unit = exact(name), max(relative, of_sum)
    scale = [helper.make_node("Abs", [raw], [f"{name}/size"])]
    size = f"{name}/size"
    if most:
        limit = graph.add_constant(f"{name}/most", np.float32(most))
        scale.append(helper.make_node("Min", [size, limit], [f"{name}/limited"]))
        size = f"{name}/limited"
    if relative != unit:
        share = graph.add_constant(f"{name}/share", np.float32(relative / unit))
        scale.append(helper.make_node("Mul", [size, share], [f"{name}/part"]))
        size = f"{name}/part"
    if of_sum:
        scale += _row_size(graph, name, raw, of_sum / unit)
        scale.append(helper.make_node("Add", [size, f"{name}/row"], [f"{name}/scale"]))
        size = f"{name}/scale"
    if absolute:
        constant = graph.add_constant(f"{name}/absolute", np.float32(absolute / unit))
        scale.append(helper.make_node("Add", [size, constant], [f"{name}/whole"]))
        size = f"{name}/whole"
    if precision.smallest > 1e-30:
        least = graph.add_constant(f"{name}/least", np.float32(precision.smallest))
        scale.append(helper.make_node("Max", [size, least], [f"{name}/floored"]))
        size = f"{name}/floored"
    ends = {"low": -WIDTH * unit, "high": WIDTH * unit}
    return [
        *scale,
        helper.make_node("RandomUniformLike", [raw], [f"{name}/draw"], seed=0.0, **ends),
        helper.make_node("Mul", [f"{name}/draw", size], [f"{name}/error"]),
        helper.make_node("Add", [raw, f"{name}/error"], [name]),
    ]


def _stored(graph: Graph, name: str, precision: Precision) -> list[Any]:
    """Nodes that make a tensor from its exact form with errors of storing it; numbers that FP16 holds stay.

    They are found by splitting each in two (T. J. Dekker, A floating-point technique for extending the available
    precision, Numer. Math. 18, 1971): its first bits are all of it then.
    """
    from onnx import helper

    raw = exact(name)
    noisy = _noisy(graph, name, precision.moved * NEAREST, 0.0, precision)
    # FP32 has 24 bits: what is multiplied by 2^13 + 1 leaves 11 of them.
    splitter = graph.add_constant(f"{name}/splitter", np.float32(2**24 * precision.moved + 1))
    zero = graph.add_constant(f"{name}/zero", np.float32(0))
    noisy[-1] = helper.make_node("Add", [raw, f"{name}/error"], [f"{name}/stored"])
    return [
        *noisy,
        helper.make_node("Mul", [raw, splitter], [f"{name}/split"]),
        helper.make_node("Sub", [f"{name}/split", raw], [f"{name}/last"]),
        helper.make_node("Sub", [f"{name}/split", f"{name}/last"], [f"{name}/first"]),
        helper.make_node("Sub", [raw, f"{name}/first"], [f"{name}/rest"]),
        helper.make_node("Abs", [f"{name}/rest"], [f"{name}/lost"]),
        # Infinity has no rest, but NaN, which is not above zero.
        helper.make_node("Greater", [f"{name}/lost", zero], [f"{name}/rounded"]),
        helper.make_node("Where", [f"{name}/rounded", f"{name}/stored", raw], [name]),
    ]


def _row_size(graph: Graph, name: str, raw: str, share: float) -> list[Any]:
    """Nodes for ``share`` of the root mean square of every row, so that no answer hangs on others of its batch."""
    from onnx import helper

    rank = len(graph.shapes.get(name, ()))
    axes = list(range(1, rank)) if rank > 1 else None
    inputs = [f"{name}/square"]
    attributes: dict[str, Any] = {"keepdims": 1}
    if axes and graph.opset >= 18:
        inputs.append(graph.add_constant(f"{name}/axes", np.asarray(axes, np.int64)))
    elif axes:
        attributes["axes"] = axes
    constant = graph.add_constant(f"{name}/of_row", np.float32(share))
    return [
        helper.make_node("Mul", [raw, raw], [f"{name}/square"]),
        helper.make_node("ReduceMean", inputs, [f"{name}/mean_square"], **attributes),
        helper.make_node("Sqrt", [f"{name}/mean_square"], [f"{name}/rms"]),
        helper.make_node("Mul", [f"{name}/rms", constant], [f"{name}/row"]),
    ]


def seeded(model: Any, seed: Sequence[int]) -> None:
    """Set the seeds of all draws of a twin's graph, each another, from those of a run."""
    generator = np.random.default_rng([*seed, 1])
    for node in model.graph.node:
        if node.op_type == "RandomUniformLike":
            attribute = next(a for a in node.attribute if a.name == "seed")
            # Whole numbers that FP32 holds; ONNX Runtime's generator starts alike for small ones.
            attribute.f = float(generator.integers(2**20, 2**24))
