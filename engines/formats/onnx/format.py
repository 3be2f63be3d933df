"""The format ``onnx``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.base import Format
from engines.formats.code import code
from engines.formats.onnx import build, kernels, packages, providers, recipe
from engines.formats.savedmodel import packages as tensorflow
from engines.tools import missing
from engines.variant import REFERENCE, Variant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.formats.base import Job, Keep
    from engines.inside import Inside
    from engines.model.spec import ModelSpec
    from engines.parts import Part
    from engines.precision import Layer
    from engines.runner import Runner
    from engines.store import Recipe
    from engines.swamped import Swamped
    from engines.windows import Window


class OnnxFormat(Format):
    """ONNX files: FP32 from the SavedModel, FP16 and INT8 (Q/DQ) from FP32; ONNX Runtime, on the CPU by default.

    A model that comes as an FP32 file, without a SavedModel, has that for its reference.
    """

    name = "onnx"
    label = "ONNX Runtime"
    precisions = ("fp32", "fp16", "int8")
    arithmetics: Mapping[str, str] = {"fp32": "fp32", "fp16": "fp16-moved", "int8": "int8-symmetric"}
    stored_between = ("fp16",)
    file = build.FILE
    suffix = ".onnx"
    packages = packages.PACKAGES
    options = (providers.OPTION, kernels.OPTION)

    def unavailable(self, precision: str | None = None) -> str | None:
        """Why ONNX Runtime cannot be used here; None where it can."""
        return packages.unavailable()

    def unbuildable(self, variant: Variant, spec: ModelSpec) -> str | None:
        """Why a precision cannot be converted here: each has a converter of its own."""
        if variant == spec.reference:
            return None
        if variant.precision == "fp32":
            return tensorflow.unavailable() or missing("tf2onnx")
        return missing("onnx") if variant.precision == "fp16" else packages.unavailable()

    def source(self, precision: str) -> Variant | None:
        """The SavedModel for FP32, the FP32 file for the others."""
        return REFERENCE if precision == "fp32" else Variant(self.name, "fp32")

    def recipe(self, job: Job) -> Recipe | None:
        """Source, converter and its version; calibration samples for INT8."""
        return recipe.recipe(job)

    def build(self, job: Job, folder: Path) -> Mapping[str, Any] | None:
        """Convert or quantize; see :mod:`engines.formats.onnx.build`."""
        return recipe.build(job, folder)

    def arithmetic(self, variant: Variant, spec: ModelSpec, brought: Path | None = None) -> str | None:
        """How a variant computes: on a CPU FP16 graphs are computed in FP32, elsewhere as they say."""
        found = super().arithmetic(variant, spec, brought)
        if providers.OPTION.values(spec) != (providers.CPU,):
            return variant.precision if variant.precision != "int8" else None
        if found == "int8-symmetric" and brought is not None:
            from engines.formats.onnx.scales import symmetric_by_channel

            return found if symmetric_by_channel(brought) else None
        return found

    def mismatched_scales(self, path: Path) -> list[str]:
        """Sentences on tensors that are quantized by one scale and dequantized by another."""
        from engines.formats.onnx.scales import mismatched

        return mismatched(path)

    def windows(self, path: Path) -> Sequence[Window]:
        """Windows of its convolutions and poolings."""
        from engines.formats.onnx.windows import windows

        return windows(path)

    def parts(self, path: Path) -> Sequence[Part]:
        """Its operators with their constants."""
        from engines.formats.onnx.parts import parts

        return parts(path)

    def swamped(self, path: Path) -> Sequence[Swamped]:
        """Operators with an input that is less than a step of INT8 in the result."""
        from engines.formats.onnx.swamped import swamped_by

        return swamped_by(path)

    def layers(self, path: Path) -> Sequence[Layer]:
        """Layers that have weights, inside of loops and functions too."""
        from engines.formats.onnx.layers import layers

        return layers(path)

    def inspect(self, path: Path, spec: ModelSpec) -> str:
        """Precision of a brought file, once it has been checked and run."""
        from engines.formats.onnx.inspection import inspect

        return inspect(path, spec)

    def bring(self, path: Path, spec: ModelSpec, folder: Path, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, Any]:
        """Copy a brought file, its external data inside."""
        return build.import_model(path, spec, folder)

    def brought_by(self) -> Mapping[str, str]:
        """Hash of the code that copies it."""
        return code("engines.onnx", Path(str(build.__file__)))

    def open(
        self, spec: ModelSpec, variant: Variant, path: Path, batch_size: int | None = None, keep: Keep | None = None
    ) -> Runner:
        """Runner with ONNX Runtime, on the CPU or with the execution provider that was asked for."""
        from engines.formats.onnx.runner import OnnxRunner
        from engines.late import LateRunner

        (provider,), by = providers.OPTION.values(spec), kernels.chosen(spec)
        runner = OnnxRunner(spec, variant, path, batch_size, provider, int8_kernels=by)
        if variant.precision.startswith("int8") and provider == providers.CPU and kernels.differ():
            others = kernels.other(by)
            # Two tests ask it.
            made = partial(OnnxRunner, spec, variant, path, batch_size, int8_kernels=others)
            unjudged = LateRunner(spec, variant, batch_size, OnnxRunner, made)
            unjudged.way, unjudged.advice, unjudged.grids = kernels.WAYS[others], kernels.advice(by), runner.grids
            runner.unjudged = (unjudged,)
        return runner

    def stores_answers(self, spec: ModelSpec) -> bool:
        """Whether it runs on the CPU: on a GPU kernels are chosen by what takes the shortest time."""
        return providers.OPTION.values(spec) == (providers.CPU,)

    def inside(self, spec: ModelSpec, variant: Variant, path: Path) -> Inside | None:
        """The file with all of its tensors made outputs."""
        from engines.formats.onnx.inside import OnnxInside

        (provider,) = providers.OPTION.values(spec)
        return OnnxInside(spec, variant, path, provider, kernels.chosen(spec))

    def reference(self, spec: ModelSpec, path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs of the file as it is written, run without any runner and without optimizations."""
        from engines.formats.onnx.reference import reference_outputs

        return reference_outputs(spec, path, inputs)


FORMAT = OnnxFormat()
