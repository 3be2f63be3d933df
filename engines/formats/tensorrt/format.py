"""The formats ``tensorrt`` and ``tensorrt-vc``, whose plans newer versions run too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.base import Format
from engines.formats.tensorrt import build, devices, packages, recipe, versions
from engines.variant import Variant

if TYPE_CHECKING:
    from engines.formats.base import Job, Keep
    from engines.model.spec import ModelSpec
    from engines.runner import Runner
    from engines.store import Recipe


class TensorRTFormat(Format):
    """TensorRT plans, built for a batch profile and for the GPU that they are built on.

    ``int8`` is calibrated, its layers without INT8 kernels in FP32; ``int8+fp16`` may use FP16 for those. ``int8-qdq``
    takes its scales from the Q/DQ nodes of the ONNX INT8 artifact.
    """

    name = "tensorrt"
    label = "TensorRT"
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8", "int8+fp16", "int8-qdq")
    arithmetics: Mapping[str, str] = {
        "fp32": "fp32-device",
        "fp16": "fp16",
        "int8": "int8-calibrated",
        "int8+fp16": "int8-calibrated",
        "int8-qdq": "int8-symmetric",
    }
    stored_between: Collection[str] = ("fp16", "int8+fp16")
    every_profile: Collection[str] = ("fp32", "fp16", "int8")
    file = build.PLAN
    packages = packages.PACKAGES
    profiled = True
    device_bound = True
    on_gpu = True
    apart = True
    local = True
    options = (devices.OPTION,)

    def unavailable(self, precision: str | None = None) -> str | None:
        """Why TensorRT cannot be used here, or cannot build a precision; None where it can."""
        return packages.unavailable() or (packages.unsupported(precision) if precision else None)

    def unbuildable(self, variant: Variant, spec: ModelSpec) -> str | None:
        """Why a plan cannot be built here; None where it can."""
        return packages.cannot_build(self.name)

    def version(self) -> str | None:
        """Version of TensorRT."""
        return packages.version()

    def made_by(self, spec: ModelSpec) -> str:
        """What to do where a plan cannot be built here."""
        return (
            f"run `python -m engines build {spec.argument} --format {self.name}` where TensorRT "
            f"{versions.OLDEST} is installed, on the same artifact folder"
        )

    def source(self, precision: str) -> Variant | None:
        """The ONNX of the precision that the installed version, or the oldest, builds this one from."""
        built_here = None if packages.cannot_build(self.name) else packages.version()
        return Variant("onnx", versions.route(precision, built_here or versions.OLDEST).source)

    def comes_from(self, precision: str, brought: Variant) -> bool:
        """Whether the installed version builds a precision, from a brought ONNX of its own precision."""
        return packages.unsupported(precision) is None and super().comes_from(precision, brought)

    def recipe(self, job: Job) -> Recipe | None:
        """ONNX, builder, profile, calibration samples and GPU."""
        return recipe.recipe(job)

    def build(self, job: Job, folder: Path) -> Mapping[str, Any] | None:
        """Build the plan; see :mod:`engines.formats.tensorrt.build`."""
        return recipe.build(job, folder)

    def open(
        self, spec: ModelSpec, variant: Variant, path: Path, batch_size: int | None = None, keep: Keep | None = None
    ) -> Runner:
        """Runner on the GPU, with the streams and graphs that were measured best for this plan."""
        from engines.formats.tensorrt.opening import open_plan

        return open_plan(spec, variant, path, batch_size, keep, compatible=self.name == versions.VERSION_COMPATIBLE)


class VersionCompatibleFormat(TensorRTFormat):
    """Version-compatible plans: built by TensorRT 8.6, and run by it and by newer runtimes."""

    name = versions.VERSION_COMPATIBLE
    precisions = ("fp32", "fp16", "int8-qdq")
    every_profile = ()
    label = "version-compatible TensorRT"
    rows = "tensorrt"
    local = False

    def unavailable(self, precision: str | None = None) -> str | None:
        """Why no runtime here runs them; None where one does, whatever built them."""
        return packages.cannot_run()

    def version(self) -> str | None:
        """Version and kind of the runtime."""
        found = versions.installed()
        return f"{found} ({versions.kind()} runtime)" if found else None


FORMAT = TensorRTFormat()
COMPATIBLE = VersionCompatibleFormat()
