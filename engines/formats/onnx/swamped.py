"""Operators of a quantized ONNX file one of whose inputs is less than a step of INT8 in the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.formats.onnx.constants import small_constants
from engines.swamped import STEPS, Held, Swamped, swamped

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOGETHER = frozenset({"Add", "Sub", "Max", "Min", "Where"})
"""The operators whose result has the values of all inputs, or their sums."""


def swamped_by(path: Path) -> list[Swamped]:
    """Such operators between Q/DQ nodes, in the order of the file."""
    import onnx

    return list(_of_graph(onnx.load(str(path), load_external_data=False).graph))


def _of_graph(graph: Any) -> Iterator[Swamped]:
    constants = small_constants(graph)
    stored = {t.name for t in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    quantizers = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        if node.op_type not in TOGETHER or node.output[0] not in quantizers:
            continue
        made = _held(quantizers[node.output[0]], node.output[0], constants)
        held = []
        for name in node.input:
            maker = makers.get(name)
            if maker is not None and maker.op_type == "DequantizeLinear":
                source = makers.get(maker.input[0])
                before = source.input[0] if source is not None and source.op_type == "QuantizeLinear" else name
                held.append(_held(maker, before, constants, constant=bool({maker.input[0], before} & stored)))
        if made is not None:
            step = (made.most - made.least) / STEPS
            yield from swamped(node.op_type, node.name or made.name, step, [h for h in held if h is not None])


def _held(node: Any, name: str, constants: Mapping[str, NDArray[Any]], *, constant: bool = False) -> Held | None:
    """What a Q/DQ node can hold; None where it is not of 8 bits with one scale."""
    scale = constants.get(node.input[1])
    zero = constants.get(node.input[2]) if len(node.input) > 2 else np.zeros(1, np.uint8)
    if scale is None or zero is None or scale.size != 1 or zero.dtype not in {np.dtype(np.int8), np.dtype(np.uint8)}:
        return None
    low, point, step = int(np.iinfo(zero.dtype).min), int(zero.reshape(-1)[0]), float(scale.reshape(-1)[0])
    return Held(name, (low - point) * step, (low + STEPS - point) * step, constant)
