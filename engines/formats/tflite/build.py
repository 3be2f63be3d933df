"""TFLite: converted from the SavedModel in FP32, FP16 and INT8, and run with LiteRT's interpreter."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.tflite.layers import clamped, unset
from engines.formats.tflite.messages import met
from engines.tools import last_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.model.spec import Calibration, ModelSpec


FILE = "model.tflite"

READ = "(READ_VARIABLE) failed"
"""What the INT8 converter says of a variable that it cannot read, as it calibrates."""

UNSET = (
    "{}: TFLite's converter leaves variables without their values (READ_VARIABLE): the SavedModel does not list them "
    "as its own, as where a module holds a Keras model; export it by model.export(), or let the module hold the "
    "variables, too: module.kept = [v.value for v in model.variables]"
)
"""Why a file is refused that LiteRT would run, and answer with memory that nobody wrote."""


def build_tflite(
    saved_model: Path,
    spec: ModelSpec,
    precision: str,
    folder: Path,
    *,
    samples: Mapping[str, NDArray[Any]] | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Convert a SavedModel to ``folder/model.tflite``.

    ``fp16`` stores the weights in FP16. ``int8`` is integer throughout, inputs and outputs included, as integer-only
    accelerators need it, and takes ``calibration.samples`` rows of calibration ``samples`` by input name.
    Raises ConversionError with the converter's own message where it fails, and where weights do not fit FP16.
    """
    tf = tensorflow()
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[spec.signature])
    taken = 0

    def representative() -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
        # One sample a step: TFLite's calibrator runs at the batch that the converted graph carries, which is one.
        nonlocal taken
        if samples is None or calibration is None:
            raise ConversionError(f"{spec.name}: TFLite INT8 needs calibration samples")
        for row in range(calibration.samples):
            taken += 1
            yield spec.signature, {i.signature_name: samples[i.name][row : row + 1] for i in spec.inputs}

    if precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    elif precision == "int8":
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    try:
        with warnings.catch_warnings():
            # The converter calibrates with tf.lite's interpreter and warns of it itself.
            warnings.filterwarnings(
                "ignore", message="[\\s\\S]*tf.lite.Interpreter is deprecated", category=UserWarning
            )
            content = converter.convert()
    except Exception as error:
        if READ in str(error):
            raise ConversionError(UNSET.format(saved_model)) from error
        if operators := met(error):
            raise ConversionError(
                f"{saved_model}: TFLite's converter does not convert {operators}; write the layer with other "
                "operators, or leave tflite out of this model's precisions (docs/models.md)"
            ) from error
        raise ConversionError(
            f"TFLite's converter failed on {saved_model}; its last lines:\n{last_lines(str(error))}\n"
            "    where it cannot convert a layer, leave tflite out of this model's precisions (docs/models.md)"
        ) from error
    if unset(content):
        raise ConversionError(UNSET.format(saved_model))
    if precision == "int8" and calibration is not None and taken < calibration.samples:
        raise ConversionError(f"{spec.name}: TFLite took {taken} calibration samples; expected {calibration.samples}")
    if precision == "fp16" and (names := clamped(content)):
        raise ConversionError(
            f"{saved_model}: constants {', '.join(names)} reach beyond FP16's largest value 65504, and were moved "
            "there; leave fp16 out of this model's precisions, or rescale them"
        )
    (folder / FILE).write_bytes(content)
    return {"calibration_samples": taken} if precision == "int8" else {}
