"""The parts of a TFLite file: its operators, with their options and constants."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.formats.tflite.layers import names_of
from engines.parts import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray


HELD = frozenset({"FLOAT32", "FLOAT16", "INT64", "INT32", "INT16", "INT8", "UINT8", "BOOL"})
"""The types of constants that NumPy has by the same name."""


def parts(path: Path) -> list[Part]:
    """Operators of a file's first graph, in its order; the scales of a tensor are a part of their own."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    names = names_of(schema.BuiltinOperator)
    named = {"fusedActivationFunction": names_of(schema.ActivationFunctionType), "padding": names_of(schema.Padding)}
    dtypes = {number: name.lower() for number, name in names_of(schema.TensorType).items() if name in HELD}
    graph, found = model.subgraphs[0], []
    made = {number: _text(graph.tensors[number].name) for number in graph.inputs}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        operator_name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "an unknown operator")
        options = vars(operator.builtinOptions) if operator.builtinOptions else {}
        given = [graph.tensors[i] for i in operator.inputs if i >= 0]
        constants = tuple(a for t in given if (a := _constant(model, t, dtypes)) is not None)
        place = _text(graph.tensors[operator.outputs[0]].name) if len(operator.outputs) else ""
        words = {name: named.get(name, {}).get(value, str(value)) for name, value in options.items()}
        place = place.partition(";")[0]
        takes = tuple(made[i] for i in operator.inputs if i in made)
        made |= dict.fromkeys(operator.outputs, place)
        found.append(Part(operator_name, place, words, constants, takes=takes))
    for tensor in graph.tensors:
        if (quantized := tensor.quantization) is not None and quantized.scale is not None and len(quantized.scale):
            zero = quantized.zeroPoint if quantized.zeroPoint is not None else []
            scales = (np.asarray(quantized.scale, np.float64), np.asarray(zero, np.float64))
            found.append(Part("scale of", _text(tensor.name).partition(";")[0], {}, scales, scale=True))
    return found


def _constant(model: Any, tensor: Any, dtypes: Mapping[int, str]) -> NDArray[Any] | None:
    """Values of a tensor that a file holds; None where it is computed, or of a dtype that NumPy has not."""
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or tensor.type not in dtypes:
        return None
    values = np.frombuffer(bytes(data), dtypes[tensor.type])
    shape = tuple(tensor.shape) if tensor.shape is not None else ()
    return values.reshape(shape) if values.size == int(np.prod(shape, dtype=np.int64)) else None


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name or "")
