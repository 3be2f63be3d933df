"""What an ONNX file made elsewhere is: whether it is the model's, and the precision that it is judged as."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from engines.formats.onnx.build import FILE, check_model, import_model
from engines.formats.onnx.inference import check_inference
from engines.formats.onnx.layers import layers
from engines.formats.onnx.runner import OnnxRunner
from engines.precision import precision_of
from engines.runner import probe
from engines.variant import Variant

if TYPE_CHECKING:
    from engines.model.spec import ModelSpec


def inspect(path: Path, spec: ModelSpec) -> str:
    """Check an ONNX file that was made elsewhere; gives the precision that it is judged as: int8, fp16 or fp32.

    Raises ConversionError where it is not sound ONNX, its signature is not the spec's, or it is none for inference.
    """
    check_model(path, spec)
    check_inference(path)
    with tempfile.TemporaryDirectory() as folder:
        # The copy is what will be run: ONNX Runtime takes less from external data than ONNX allows.
        import_model(path, spec, Path(folder))
        with OnnxRunner(spec, Variant("onnx", "fp32"), Path(folder) / FILE) as runner:
            probe(runner)
    return precision_of(layers(path))
