"""The parts of an ONNX file: its operators, with their attributes and constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engines.formats.onnx.layers import QUANTIZERS, bodies
from engines.parts import Part

LONGEST = 200
"""Attributes of more letters are told by their beginning."""


def parts(path: Path) -> list[Part]:
    """Operators of a file in the order of its graph, of loops and branches too; a constant belongs to who takes it."""
    import onnx

    return list(_of_graph(onnx.load(str(path)).graph, {}, {}))


def _of_graph(graph: Any, outside: Mapping[str, Any], made_outside: Mapping[str, str]) -> Iterator[Part]:
    from onnx import AttributeProto, helper, numpy_helper

    known = {**outside, **{t.name: numpy_helper.to_array(t) for t in graph.initializer}}
    made = {**made_outside, **{i.name: i.name for i in graph.input}}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            continue
        for body in bodies(node):
            yield from _of_graph(body, known, made)
        graphs = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
        options = {a.name: _words(helper.get_attribute_value(a)) for a in node.attribute if a.type not in graphs}
        constants = tuple(np.asarray(known[name]) for name in node.input if name in known)
        scale = node.op_type in QUANTIZERS and all(array.ndim < 2 for array in constants)
        name = node.name or node.output[0]
        made |= dict.fromkeys(node.output, name)
        takes = tuple(made[given] for given in node.input if given not in known and given in made)
        yield Part(node.op_type, name, options, constants, scale, takes)


def _words(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")[:LONGEST]
    return (f"{value:.6g}" if isinstance(value, float) else str(value))[:LONGEST]
