"""ONNX: converted from the SavedModel with tf2onnx, in FP32, FP16 and INT8 (Q/DQ), and run with ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError, RunnerError
from engines.formats.onnx.constants import stored_type
from engines.formats.onnx.layers import layers
from engines.formats.onnx.left_in_fp32 import left_in_fp32
from engines.formats.savedmodel import forked
from engines.runner import check_signature
from engines.tools import last_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.model.spec import Calibration, ModelSpec


FILE = "model.onnx"

CONVERTER = Path(__file__).with_name("tf2onnx_command.py")
"""What runs tf2onnx, with the operators that it lacks."""

OPSET = 17
"""The newest opset that the oldest consumer takes: TensorRT 8.6's parser knows 17, ONNX Runtime 1.23 and later 23."""

QUANTIZED_OPERATORS = ("Conv", "Gemm", "MatMul")
"""Only where INT8 pays: pooling and activations follow their neighbours, and a quantized softmax only loses digits."""


def build_fp32(saved_model: Path, spec: ModelSpec, folder: Path) -> dict[str, Any]:
    """Convert a SavedModel to ``folder/model.onnx``: FP32, dynamic batch, NHWC inputs as the SavedModel has them.

    tf2onnx runs in a process of its own, so that its crash is an error here. Raises ConversionError with the
    converter's last lines where it fails, or where the result fails onnx.checker or is not the spec's signature.
    """
    target = (folder / FILE).resolve()
    words = ["--saved-model", str(saved_model.resolve()), "--output", str(target), "--opset", str(OPSET)]
    words += ["--tag", "serve", "--signature_def", spec.signature]
    done = forked.program(f"{__package__}.{CONVERTER.stem}", words, {"CUDA_VISIBLE_DEVICES": "-1"})
    # tf2onnx goes on without them, and writes a file that is none.
    if unknown := sorted(set(re.findall(r"Tensorflow op \[(.+): (\w+)\] is not supported", done.printed))):
        listed = ", ".join(f"{operator} of layer {layer!r}" for layer, operator in unknown)
        raise ConversionError(
            f"{saved_model}: tf2onnx does not know {listed}; write the layer with other operators, or leave onnx and "
            "tensorrt out of this model's precisions (docs/models.md)"
        )
    if stopped := re.search(r"Failed to convert node .+?OP=(\w+)\\nName=(.+?)\\n", done.printed, re.S):
        raise ConversionError(
            f"{saved_model}: tf2onnx does not convert {stopped[1]} of layer {stopped[2]!r}: "
            f"{done.printed.strip().splitlines()[-1]}; write the layer with other operators, or leave onnx and "
            "tensorrt out of this model's precisions (docs/models.md)"
        )
    if done.code != 0 or not target.is_file():
        raise ConversionError(
            f"tf2onnx failed on {saved_model} (exit code {done.code}); its last lines:\n{last_lines(done.printed)}"
        )
    return check_model(target, spec)


def build_int8(
    fp32: Path, spec: ModelSpec, samples: Mapping[str, NDArray[Any]], calibration: Calibration, folder: Path
) -> dict[str, Any]:
    """Quantize an FP32 ONNX to INT8 with explicit Q/DQ nodes, statically, from calibration samples.

    ``samples`` holds exactly ``calibration.samples`` rows by input name. Per-channel weights, symmetric weights and
    activations, and biases left in FP32, because that is the only form that TensorRT's parser also builds. The first
    layer stays in FP32, unless there is no other. Symmetric INT8 has 127 steps for pixels in [0, 1], half of what an
    8-bit image has. On the bundled classifier that alone made the flips 2.5 times as many. Raises ConversionError where
    no weights were quantized.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batches(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Calibration samples, batch by batch; counts what was taken."""

        def __init__(self) -> None:
            self.taken = 0

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            start, stop = self.taken, self.taken + calibration.batch
            if start >= calibration.samples:
                return None
            self.taken = stop
            return {i.signature_name: samples[i.name][start:stop] for i in spec.inputs}

    reader = Batches()
    prepared = folder / "prepared.onnx"
    with _quiet_root_logger():
        # tf2onnx' shapes are complete; the symbolic pass would only add a dependency.
        quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
        _name_nodes(prepared)
        left = left_in_fp32(prepared, QUANTIZED_OPERATORS)
        quantization.quantize_static(
            str(prepared),
            str(folder / FILE),
            reader,
            nodes_to_exclude=list(left),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPERATORS),
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )
    prepared.unlink()
    if reader.taken != calibration.samples:
        raise ConversionError(
            f"{spec.name}: the quantizer took {reader.taken} calibration samples; expected {calibration.samples}"
        )
    described = check_model(folder / FILE, spec)
    # Products of activations alone are no INT8 of a model whose weights all stay as they were.
    if not any(layer.precision == "int8" for layer in layers(folder / FILE)):
        raise ConversionError(
            f"{spec.name}: the quantizer found nothing to quantize: layers with weights are, by "
            f"{', '.join(QUANTIZED_OPERATORS)} of one matrix, outside of loops and branches; leave int8 out of this "
            "model's precisions for onnx (docs/models.md)"
        )
    return {**described, "calibration_samples": reader.taken, "left_in_fp32": left}


def _name_nodes(path: Path) -> None:
    """Add a name to each node of a file that has none, as the quantizer is told of nodes by name."""
    import onnx

    model = onnx.load(str(path))
    if unnamed := [node for node in model.graph.node if not node.name]:
        for number, node in enumerate(unnamed):
            node.name = f"unnamed_{node.op_type}_{number}"
        onnx.save(model, str(path))


@contextlib.contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep the quantizer's advice, logged on the root logger, out of the test output."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)


def check_model(path: Path, spec: ModelSpec) -> dict[str, Any]:
    """Check an ONNX file with onnx.checker, strict shape inference and against the spec's signature.

    Returns its opset, IR version, producer and operator counts; raises ConversionError that says what is wrong.
    """
    import onnx

    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ConversionError(f"{path}: not a sound ONNX file: {last_lines(str(error))}") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    # Older files name their weights among the inputs; an output that is one is a constant that is given out.
    inputs = [value for value in model.graph.input if value.name not in weights]

    def shapes(values: Any) -> dict[str, tuple[Any, ...]]:
        return {
            v.name: tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in v.type.tensor_type.shape.dim)
            for v in values
        }

    try:
        names = check_signature(str(path), spec, shapes(inputs), shapes(model.graph.output))
    except RunnerError as error:
        raise ConversionError(str(error)) from error
    dtypes = {names.inputs[i.name]: i.dtype for i in spec.inputs}
    dtypes |= {names.outputs[o.name]: o.dtype for o in spec.outputs}
    for value in (*model.graph.input, *model.graph.output):
        if value.name not in dtypes:
            continue
        found = stored_type(value.type.tensor_type.elem_type)
        if found != dtypes[value.name]:
            raise ConversionError(f"{path}: {value.name!r} is {found}; expected {dtypes[value.name]}")
    operators: dict[str, int] = {}
    for node in model.graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)
    return {
        "opset": opset,
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "operators": dict(sorted(operators.items())),
        "inputs": names.inputs,
    }


def import_model(path: Path, spec: ModelSpec, folder: Path) -> dict[str, Any]:
    """Copy an ONNX file that was made elsewhere to ``folder/model.onnx``, with any external data inside it."""
    import onnx

    onnx.save(onnx.load(str(path)), str(folder / FILE))
    return check_model(folder / FILE, spec)
