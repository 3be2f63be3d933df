"""What each plan is made from, and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError
from engines.formats.code import code
from engines.formats.onnx.build import FILE as ONNX
from engines.formats.onnx.recipe import as_named
from engines.formats.tensorrt import build as building
from engines.formats.tensorrt import calibration, packages, versions
from engines.model.samples import content_hash
from engines.store import Recipe
from engines.tools import installed_version

if TYPE_CHECKING:
    from engines.formats.base import Job


def _builder(job: Job) -> str | None:
    """Version of the builder; None where another environment built it."""
    return None if packages.cannot_build(job.variant.format) else packages.version()


def _route(job: Job) -> versions.Route:
    return versions.route(job.variant.precision, _builder(job) or versions.OLDEST)


def recipe(job: Job) -> Recipe:
    """Recipe of a plan: the ONNX, the builder's code, the profile, calibration samples, versions and the GPU.

    Raises ConversionError for a variant without a batch profile.
    """
    variant, builder, route = job.variant, _builder(job), _route(job)
    if variant.profile is None:
        raise ConversionError(f"{variant}: a TensorRT engine needs a batch profile")
    made_from = {f"onnx-{route.source}": job.made.sha256}
    for module in (building, calibration, versions):
        made_from |= code(module.__name__.replace(".formats", ""), Path(str(module.__file__)))
    parameters: dict[str, Any] = {
        "profile": [variant.profile.min, variant.profile.opt, variant.profile.max],
        "workspace": building.WORKSPACE,
    }
    if route.calibrated:
        made_from["calibration"] = content_hash(job.calibration)
        parameters["calibration"] = dict(vars(job.spec.calibration))
    # Where another environment built it, its versions are as good as any.
    tools = {"tensorrt": builder, "polygraphy": installed_version("polygraphy") if builder else None}
    return Recipe(made_from, parameters, tools, packages.device())


def build(job: Job, folder: Path) -> Mapping[str, Any]:
    """Build a plan from the ONNX; raises ConversionError where TensorRT refuses it."""
    samples = job.calibration if _route(job).calibrated else None
    return building.build_engine(
        job.made.file(ONNX),
        job.made.sha256,
        as_named(job.spec, job.made),
        job.variant,
        folder,
        samples=samples,
        samples_sha256=content_hash(samples) if samples is not None else "",
        calibration_caches=[sibling / calibration.CACHE for sibling in job.siblings],
        timing_cache=job.before / building.TIMING_CACHE if job.before else None,
    )
