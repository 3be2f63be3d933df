"""Outputs that no input reaches: tf2onnx leaves them out, so they are put into the file as the SavedModel gives them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.formats.savedmodel.reference import reference_outputs

if TYPE_CHECKING:
    from engines.model.spec import ModelSpec


def add_constants(path: Path, saved_model: Path, spec: ModelSpec) -> None:
    """Add the outputs without a batch axis that an ONNX file lacks, in place; needs TensorFlow for their values."""
    if not spec.constants:
        return
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path))
    known = {value.name for value in model.graph.output}
    missing = [o for o in spec.outputs if o.kind == "constant" and o.signature_name not in known]
    inputs = {i.name: np.full(spec.concrete_shape(i, 1), i.range[0], i.dtype) for i in spec.inputs}
    values = reference_outputs(spec, saved_model, inputs) if missing else {}
    for output in missing:
        name, value = output.signature_name, np.ascontiguousarray(values[output.name])
        held = f"{name}, as the SavedModel has it"
        model.graph.initializer.append(numpy_helper.from_array(value, held))
        model.graph.node.append(helper.make_node("Identity", [held], [name]))
        dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.output.append(helper.make_tensor_value_info(name, dtype, value.shape))
    if missing:
        onnx.save(model, str(path))
