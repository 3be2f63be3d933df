"""The small constants of an ONNX graph: scales, zero points, flags and ratios; and the types of its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def small_constants(graph: Any) -> dict[str, NDArray[Any]]:
    """Initializers and Constant nodes of one axis at most by name, those whose values are inside the file.

    Raises ConversionError for one that is not of the size that it says.
    """
    found = {tensor.name: _array(tensor) for tensor in graph.initializer if _small(tensor)}
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value" and node.op_type == "Constant"), None)
        if value is not None and _small(value):
            found[node.output[0]] = _array(value)
    return found


def _small(tensor: Any) -> bool:
    return len(tensor.dims) <= 1 and not tensor.external_data


def _array(tensor: Any) -> NDArray[Any]:
    from onnx import numpy_helper

    try:
        array: NDArray[Any] = numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise ConversionError(f"its constant {tensor.name[:100]!r} cannot be read: {error}") from error
    return array


def stored_type(number: int) -> str:
    """NumPy's name of an ONNX type of tensors, or words on it: what is no tensor has the number zero."""
    from onnx import helper

    return str(helper.tensor_dtype_to_np_dtype(number)) if number in helper.get_all_tensor_dtypes() else "no tensor"
