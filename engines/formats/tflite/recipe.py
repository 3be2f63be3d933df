"""What each TFLite file is made from, and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError, RunnerError
from engines.formats.code import code
from engines.formats.savedmodel import packages as tensorflow
from engines.formats.savedmodel.build import FILE as SAVED_MODEL
from engines.formats.tflite import apart
from engines.formats.tflite import build as building
from engines.formats.tflite.layers import unset
from engines.formats.tflite.swamped import swamped_by
from engines.formats.tflite.tried import EndedError, tried
from engines.model.samples import content_hash
from engines.model.spec import SIGNATURE
from engines.store import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.formats.base import Job
    from engines.model.spec import ModelSpec


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
    details = dict(
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
    if samples:
        check_it_runs(folder / building.FILE, spec, {name: rows[:TRIED] for name, rows in samples.items()})
    return details


TRIED = 32
"""Calibration samples that an INT8 file is run on once, so that one which ends the process does not end a test's."""


def check_it_runs(path: Path, spec: ModelSpec, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Raise ConversionError where LiteRT ends the process that runs a file on samples that it was calibrated with."""
    try:
        tried(path, spec, inputs)
    except EndedError as error:
        why = _swamped(path) or "see what tflite-fp32 answers"
        raise ConversionError(
            f"{spec.name}: LiteRT ends the process that runs its INT8 file on calibration samples ({error.signal}): "
            f"{why}; or leave int8 out of this model's precisions (docs/models.md)"
        ) from error
    except RunnerError as error:
        raise ConversionError(
            f"{spec.name}: LiteRT cannot run its INT8 file on calibration samples: "
            f"{str(error).removeprefix('tflite-fp32: ')}; leave int8 out of this model's precisions (docs/models.md)"
        ) from error


def check_a_brought_one_runs(path: Path, spec: ModelSpec, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Raise ConversionError where LiteRT ends the process that runs a file made elsewhere on the model's samples.

    What it says of the samples instead, the tests that run it say, too. So it does for variables that it never sets,
    which LiteRT answers with whatever is there.
    """
    if unset(path.read_bytes()):
        raise ConversionError(
            f"{path}: it reads variables that nothing in it gives a value (READ_VARIABLE): the SavedModel that it was "
            "made of does not list them as its own; keep them in an attribute of it, or freeze them (docs/models.md)"
        )
    try:
        tried(path, spec, {name: rows[:TRIED] for name, rows in inputs.items()})
    except EndedError as error:
        why = _swamped(path) or "LiteRT has a fault, or the file is damaged where made-up samples do not reach"
        raise ConversionError(
            f"{path}: LiteRT ends the process that runs it on the model's samples ({error.signal}): {why}"
        ) from error
    except RunnerError:
        return


def _swamped(path: Path) -> str:
    """The first operator of a file in which INT8's steps swamp an input, in words; empty where there is none."""
    return "; ".join(str(one) for one in swamped_by(path)[:1])
