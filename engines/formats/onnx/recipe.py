"""What each ONNX file is made from, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.code import code
from engines.formats.onnx import build as building
from engines.formats.onnx import build_fp16, fp32_parts, left_in_fp32, packages, to_fp16
from engines.formats.savedmodel import packages as tensorflow
from engines.formats.savedmodel.build import FILE as SAVED_MODEL
from engines.model.samples import content_hash
from engines.model.spec import SIGNATURE
from engines.store import Recipe
from engines.tools import installed_version

if TYPE_CHECKING:
    from engines.formats.base import Job
    from engines.model.spec import ModelSpec
    from engines.store import Artifact


def recipe(job: Job) -> Recipe:
    """Recipe of an ONNX file: the artifact it is made from, the converter's code and versions."""
    made_by = code("engines.onnx", Path(str(building.__file__)))
    if job.variant.precision == "fp32":
        made_from = {"savedmodel": job.made.sha256, **made_by} | code("converter", building.CONVERTER)
        tools = {"tf2onnx": installed_version("tf2onnx"), "tensorflow": tensorflow.version()}
        # What was converted before signatures could be chosen says nothing of it.
        chosen = {} if job.spec.signature == SIGNATURE else {"signature": job.spec.signature}
        return Recipe(made_from, {"opset": building.OPSET, **chosen}, _onnx(tools))
    made_from = {"onnx-fp32": job.made.sha256, **made_by}
    if job.variant.precision == "fp16":
        for module in (build_fp16, to_fp16, fp32_parts):
            made_from |= code(module.__name__.replace(".formats", ""), Path(str(module.__file__)))
        return Recipe(made_from, {}, _onnx({}))
    made_from |= code("engines.onnx.left_in_fp32", Path(str(left_in_fp32.__file__)))
    made_from["calibration"] = content_hash(job.calibration)
    parameters = {**vars(job.spec.calibration), "operators": list(building.QUANTIZED_OPERATORS)}
    return Recipe(made_from, parameters, _onnx({"onnxruntime": packages.version()}))


def _onnx(tools: Mapping[str, str | None]) -> Mapping[str, str | None]:
    return {**tools, "onnx": installed_version("onnx")}


def build(job: Job, folder: Path) -> Mapping[str, Any]:
    """Convert from the SavedModel, or from the FP32 file; raises ConversionError where that fails."""
    spec = job.spec
    if job.variant.precision == "fp32":
        return building.build_fp32(job.made.folder / SAVED_MODEL, spec, folder)
    path = job.made.file(building.FILE)
    if job.variant.precision == "fp16":
        return build_fp16.build_fp16(path, spec, folder)
    return building.build_int8(path, as_named(spec, job.made), job.calibration, spec.calibration, folder)


def as_named(spec: ModelSpec, source: Artifact) -> ModelSpec:
    """Description with what an ONNX calls its inputs in place of the SavedModel's names, for what is made from it."""
    called = source.details["inputs"]
    return replace(spec, inputs=tuple(replace(i, signature_name=called[i.name]) for i in spec.inputs))
