"""The windows of an ONNX file: its convolutions and poolings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines.formats.onnx.layers import bodies
from engines.windows import Window

OPERATORS = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"})
"""The operators that move a window, which they say the size of."""


def windows(path: Path) -> list[Window]:
    """Windows of a file, in the order of its graph, inside of loops and branches too."""
    import onnx

    return list(_of_graph(onnx.load(str(path), load_external_data=False).graph))


def _of_graph(graph: Any) -> Iterator[Window]:
    from onnx import helper

    for node in graph.node:
        for body in bodies(node):
            yield from _of_graph(body)
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in OPERATORS and "kernel_shape" in given:
            size = list(given["kernel_shape"])
            steps, gaps = (list(given.get(name, [1] * len(size))) for name in ("strides", "dilations"))
            words = _by(size)
            words += f" in steps of {_by(steps)}" if set(steps) != {1} else ""
            words += f" with gaps of {_by(gaps)}" if set(gaps) != {1} else ""
            pads = list(given.get("pads", []))
            padding, implied = (str(pads) if any(pads) else ""), False
            if (by_name := given.get("auto_pad", b"").decode()) not in {"", "NOTSET", "VALID"}:
                padding, implied = by_name, True
            yield Window(node.op_type, words, padding, implied)


def _by(numbers: list[int]) -> str:
    return "x".join(map(str, numbers))
