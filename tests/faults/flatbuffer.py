"""Small edits of a TFLite file, made in its flatbuffer: operators, constants, scales and options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from faults.made import Made

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def load(path: Path) -> Any:
    """Model of a file, as objects that can be changed."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)


def save(model: Any, path: Path) -> None:
    """Write a model to a file."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def kinds() -> dict[str, int]:
    """Numbers of the built-in operators by their names."""
    from ai_edge_litert import schema_py_generated as schema

    return {k: v for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}


def kind(model: Any, operator: Any) -> str:
    """Name of an operator's kind."""
    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return next(name for name, value in kinds().items() if value == number)


def operators(model: Any, *names: str) -> list[Any]:
    """Operators of the kinds, in order."""
    return [o for o in model.subgraphs[0].operators if kind(model, o) in names]


def as_kind(model: Any, operator: Any, name: str) -> None:
    """Make an operator one of another kind, whose options are the same."""
    import copy

    code = copy.copy(model.operatorCodes[operator.opcodeIndex])
    code.builtinCode = kinds()[name]
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    operator.opcodeIndex = len(model.operatorCodes)
    model.operatorCodes.append(code)


def values(model: Any, number: int) -> Any:
    """Array of a constant tensor; ValueError where it is none."""
    tensor = model.subgraphs[0].tensors[number]
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data):
        raise ValueError(f"tensor {number} is no constant")
    return np.frombuffer(bytes(data), _dtype(tensor)).reshape(tensor.shape).copy()


def _dtype(tensor: Any) -> Any:
    from ai_edge_litert.schema_py_generated import TensorType as T

    found = {T.FLOAT32: np.float32, T.FLOAT16: np.float16, T.INT8: np.int8, T.INT32: np.int32, T.INT64: np.int64}
    return found[tensor.type]


def change(model: Any, number: int, function: Callable[[Any], Any]) -> None:
    """Replace a constant by what the function makes of its array, in its own type; ValueError where nothing changes."""
    from ai_edge_litert.schema_py_generated import BufferT

    before = values(model, number)
    after = np.asarray(function(before.copy()))
    if after.dtype.kind == "f" and before.dtype.kind == "i":
        after = np.clip(np.rint(after), np.iinfo(before.dtype).min, np.iinfo(before.dtype).max)
    after = np.ascontiguousarray(after.astype(before.dtype))
    if (after == before).all():
        raise ValueError(f"tensor {number}: nothing was changed")
    own = BufferT()
    own.data = np.frombuffer(after.tobytes(), np.uint8)
    model.subgraphs[0].tensors[number].buffer = len(model.buffers)
    model.buffers.append(own)


def weights(model: Any, which: int = 0) -> int:
    """Number of the constant that the weights of a layer are, by its place among all."""
    found = []
    makers = {made: o for o in model.subgraphs[0].operators for made in o.outputs}
    for operator in operators(model, *WEIGHTED):
        number = operator.inputs[1]
        while number in makers:
            number = makers[number].inputs[0]
        found.append(number)
    return int(found[which])


def scales(model: Any, number: int, function: Callable[[Any], Any]) -> None:
    """Change the scales of a tensor; ValueError where it has none, or they stay the same."""
    quantization = model.subgraphs[0].tensors[number].quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        raise ValueError(f"tensor {number} has no scale")
    before = np.asarray(quantization.scale, np.float32)
    quantization.scale = np.asarray(function(before.copy()), np.float32)
    if (quantization.scale == before).all():
        raise ValueError(f"tensor {number}: no scale was changed")


def zero_points(model: Any, number: int, by: int) -> None:
    """Move the zero points of a tensor."""
    quantization = model.subgraphs[0].tensors[number].quantization
    quantization.zeroPoint = np.asarray(quantization.zeroPoint, np.int64) + by


def edited(variant: str, edit: Callable[[Any], None]) -> Callable[[Made, Path], list[str]]:
    """What writes a variant's sound file with an edit of it, and returns the option that brings it."""

    def plant(made: Made, folder: Path) -> list[str]:
        model = load(made.file(variant))
        edit(model)
        path = folder / "planted.tflite"
        save(model, path)
        return [f"--tflite={path}"]

    return plant
