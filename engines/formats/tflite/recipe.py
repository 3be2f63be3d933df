"""What each TFLite file is made from, and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.code import code
from engines.formats.savedmodel import packages as tensorflow
from engines.formats.savedmodel.build import FILE as SAVED_MODEL
from engines.formats.tflite import apart
from engines.formats.tflite import build as building
from engines.model.samples import content_hash
from engines.model.spec import SIGNATURE
from engines.store import Recipe

if TYPE_CHECKING:
    from engines.formats.base import Job


def recipe(job: Job) -> Recipe:
    """Recipe of a TFLite file: the SavedModel, the converter's version, and what INT8 is calibrated with."""
    made_from = {"savedmodel": job.made.sha256} | code("engines.tflite", Path(str(building.__file__)))
    # What was converted before signatures could be chosen says nothing of it.
    parameters: dict[str, Any] = {} if job.spec.signature == SIGNATURE else {"signature": job.spec.signature}
    if job.variant.precision == "int8":
        made_from["calibration"] = content_hash(job.calibration)
        parameters |= vars(job.spec.calibration)
    return Recipe(made_from, parameters, {"tensorflow": tensorflow.version()})


def build(job: Job, folder: Path) -> Mapping[str, Any]:
    """Convert the SavedModel; raises ConversionError where that fails."""
    spec, precision = job.spec, job.variant.precision
    samples = job.calibration if precision == "int8" else None
    path = job.made.folder / SAVED_MODEL
    crashed = (
        f"{spec.name}: TFLite's converter crashed while it made {precision}; INT8 does so where a value inside is "
        f"infinite or NaN on a calibration sample: see what tflite-fp32 answers, or leave {precision} out of this "
        "model's precisions (docs/models.md)"
    )
    return dict(
        apart.call(
            building.build_tflite,
            path,
            spec,
            precision,
            folder,
            samples=samples,
            calibration=spec.calibration,
            crashed=crashed,
        )
    )
