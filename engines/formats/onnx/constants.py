"""The small constants of an ONNX graph: scales, zero points, flags and ratios."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def small_constants(graph: Any) -> dict[str, NDArray[Any]]:
    """Initializers and Constant nodes of one axis at most by name, those whose values are inside the file."""
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if _small(tensor)}
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value" and node.op_type == "Constant"), None)
        if value is not None and _small(value):
            found[node.output[0]] = numpy_helper.to_array(value)
    return found


def _small(tensor: Any) -> bool:
    return len(tensor.dims) <= 1 and not tensor.external_data
