"""The format ``tflite``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.base import Format
from engines.formats.savedmodel import packages as tensorflow
from engines.formats.tflite import build, packages, recipe
from engines.variant import REFERENCE

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
    from engines.variant import Variant
    from engines.windows import Window


class TFLiteFormat(Format):
    """TFLite files, converted by TensorFlow from the SavedModel; LiteRT on the CPU."""

    name = "tflite"
    label = "LiteRT"
    precisions = ("fp32", "fp16", "int8")
    arithmetics: Mapping[str, str] = {"fp32": "fp32", "fp16": "fp16-weights", "int8": "int8-asymmetric"}
    file = build.FILE
    suffix = ".tflite"
    packages = packages.PACKAGES

    def unavailable(self, precision: str | None = None) -> str | None:
        """Why LiteRT cannot be used here; None where it can."""
        return packages.unavailable()

    def unbuildable(self, variant: Variant, spec: ModelSpec) -> str | None:
        """Why TensorFlow, which converts, cannot be used here; None where it can."""
        return tensorflow.unavailable()

    def source(self, precision: str) -> Variant | None:
        """The SavedModel."""
        return REFERENCE

    def recipe(self, job: Job) -> Recipe | None:
        """SavedModel, converter and its version; calibration samples for INT8."""
        return recipe.recipe(job)

    def build(self, job: Job, folder: Path) -> Mapping[str, Any] | None:
        """Convert; see :mod:`engines.formats.tflite.build`."""
        return recipe.build(job, folder)

    def windows(self, path: Path) -> Sequence[Window]:
        """Windows of its convolutions and poolings."""
        from engines.formats.tflite.windows import windows

        return windows(path)

    def parts(self, path: Path) -> Sequence[Part]:
        """Its operators with their constants."""
        from engines.formats.tflite.parts import parts

        return parts(path)

    def swamped(self, path: Path) -> Sequence[Swamped]:
        """Operators with an input that is less than a step of INT8 in the result."""
        from engines.formats.tflite.swamped import swamped_by

        return swamped_by(path)

    def layers(self, path: Path) -> Sequence[Layer]:
        """Layers that have weights."""
        from engines.formats.tflite.layers import layers

        return layers(path)

    def inspect(self, path: Path, spec: ModelSpec) -> str:
        """Precision of a brought file, once it has been run."""
        from engines.formats.tflite.tried import tried

        return tried(path, spec)

    def bring(self, path: Path, spec: ModelSpec, folder: Path, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, Any]:
        """Copy a brought file, once it has been run on samples in a process of its own."""
        recipe.check_a_brought_one_runs(path, spec, inputs)
        return super().bring(path, spec, folder, inputs)

    def open(
        self, spec: ModelSpec, variant: Variant, path: Path, batch_size: int | None = None, keep: Keep | None = None
    ) -> Runner:
        """Runner with LiteRT's interpreter and its default delegate; beside it, one without that delegate."""
        from engines.formats.tflite.runner import TFLiteRunner

        runner = TFLiteRunner(spec, variant, path, batch_size)
        runner.beside = (TFLiteRunner(spec, variant, path, batch_size, built_in=True),)
        return runner

    def stores_answers(self, spec: ModelSpec) -> bool:
        """True: LiteRT chooses its kernels by the processor alone."""
        return True

    def inside(self, spec: ModelSpec, variant: Variant, path: Path) -> Inside | None:
        """The file as LiteRT's built-in kernels run it, which keep every tensor."""
        from engines.formats.tflite.inside import TFLiteInside

        return TFLiteInside(spec, variant, path)


FORMAT = TFLiteFormat()
