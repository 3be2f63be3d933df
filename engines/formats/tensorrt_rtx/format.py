"""The format ``tensorrt-rtx``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.base import Format
from engines.formats.tensorrt import devices
from engines.formats.tensorrt.build import PLAN
from engines.formats.tensorrt.format import TensorRTFormat
from engines.formats.tensorrt_rtx import packages, recipe, targets
from engines.variant import Variant

if TYPE_CHECKING:
    from engines.formats.base import Job, Keep
    from engines.model.spec import ModelSpec
    from engines.runner import Runner
    from engines.store import Recipe


class RTXFormat(Format):
    """Plans of TensorRT for RTX, built for a batch profile and for the GPUs that ``--rtx-target`` names.

    They are built where neither GPU nor driver is, and run where one of those GPUs is. Networks are strongly typed:
    each precision is that of the ONNX it is made from.
    """

    name = "tensorrt-rtx"
    label = "TensorRT for RTX"
    precisions = tuple(recipe.SOURCES)
    arithmetics = TensorRTFormat.arithmetics
    stored_between = TensorRTFormat.stored_between
    every_profile = tuple(recipe.SOURCES)
    file = PLAN
    packages = packages.PACKAGES
    profiled = True
    on_gpu = True
    apart = True
    rows = "tensorrt"
    options = (targets.OPTION, devices.OPTION)

    def unavailable(self, precision: str | None = None) -> str | None:
        """Why plans cannot run here, in TensorRT's words; None where they can."""
        return packages.unavailable()

    def unbuildable(self, variant: Variant, spec: ModelSpec) -> str | None:
        """Why a plan cannot be built here; None where it can: only one for "here" needs a GPU."""
        here = targets.HERE in targets.OPTION.values(spec)
        return packages.cannot_build() or (packages.no_gpu() if here else None)

    def source(self, precision: str) -> Variant | None:
        """The ONNX of the same precision."""
        return Variant("onnx", recipe.SOURCES[precision])

    def recipe(self, job: Job) -> Recipe | None:
        """ONNX, builder, profile and targets."""
        return recipe.recipe(job)

    def build(self, job: Job, folder: Path) -> Mapping[str, Any] | None:
        """Build the plan; see :mod:`engines.formats.tensorrt_rtx.recipe`."""
        return recipe.build(job, folder)

    def open(
        self, spec: ModelSpec, variant: Variant, path: Path, batch_size: int | None = None, keep: Keep | None = None
    ) -> Runner:
        """Runner on the GPU, with the kernels that were compiled for it kept in the store."""
        from engines.formats.tensorrt_rtx.runner import open_plan

        return open_plan(spec, variant, path, batch_size, keep)


FORMAT = RTXFormat()
