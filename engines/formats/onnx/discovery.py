"""What an ONNX file without a description takes, and what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ConversionError, RunnerError, SpecError
from engines.formats.onnx import packages
from engines.formats.onnx.constants import stored_type
from engines.formats.onnx.inference import check_inference
from engines.formats.onnx.layers import layers
from engines.formats.onnx.reference import plain_session, said
from engines.model.found import Found, Tensor
from engines.model.paths import is_file
from engines.precision import precision_of
from engines.tools import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def discover(path: Path, what: str) -> Found:
    """Inputs of an ONNX file in FP32, and what asks it; ``what`` errors call it.

    Raises SpecError where the file is missing or damaged, or its weights are not FP32: it is what others are made from.
    """
    if not is_file(path):
        raise SpecError(f"{what}: no such file; expected the path of an onnx file")
    if reason := packages.unavailable():
        raise SpecError(f"{what}: {reason}")
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(str(path), load_external_data=False)
        session = plain_session(path)
    except Exception as error:  # onnx and ONNX Runtime raise a dozen unrelated types for a damaged file
        raise SpecError(f"{what}: not a sound ONNX file: {one_line(str(error))}") from error
    try:
        check_inference(path)
    except ConversionError as error:
        raise SpecError(f"{what}: {str(error).removeprefix(f'{path}: ')}") from error
    if (precision := precision_of(layers(path))) != "fp32":
        raise SpecError(
            f"{what}: its weights are {precision}; expected fp32, which the others are made from and compared with: "
            "give the file that this one was made from, or the SavedModel beside it by --saved-model"
        )
    weights = {tensor.name for tensor in model.graph.initializer}

    def ask(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        names = [output.name for output in session.get_outputs()]
        try:
            outputs = session.run(names, dict(inputs))
        except Exception as error:  # as at loading
            raise RunnerError(said(error)) from error
        return {name: np.asarray(array) for name, array in zip(names, outputs, strict=True)}

    return Found(what, tuple(_tensor(value) for value in model.graph.input if value.name not in weights), ask, model)


def _tensor(value: Any) -> Tensor:
    from onnx import TensorProto

    kind = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)
    if kind.elem_type == TensorProto.STRING:
        return Tensor(value.name, shape, "string")
    return Tensor(value.name, shape, stored_type(kind.elem_type))
