"""ONNX in FP16: converted from the FP32 file, without any converter of somebody else's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError
from engines.formats.onnx.build import FILE, check_model
from engines.formats.onnx.to_fp16 import to_fp16

if TYPE_CHECKING:
    from engines.model.spec import ModelSpec


def build_fp16(fp32: Path, spec: ModelSpec, folder: Path) -> dict[str, Any]:
    """Convert an FP32 ONNX to FP16 inside; its inputs and outputs stay FP32.

    Returns what check_model does, and what was done beyond rounding: constants clamped and moved, nodes kept in FP32.
    Raises ConversionError where a constant does not fit FP16 and matters as it is.
    """
    import onnx

    try:
        converted = to_fp16(onnx.load(str(fp32)))
    except ConversionError as error:
        raise ConversionError(f"{fp32}: {error}") from error
    onnx.save(converted.model, str(folder / FILE))
    return {
        **check_model(folder / FILE, spec),
        "clamped": list(converted.clamped),
        "kept_in_fp32": list(converted.kept_in_fp32),
        "constants_moved": list(converted.moved),
    }
