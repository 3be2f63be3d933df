"""The format ``savedmodel``: the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.base import Format
from engines.formats.savedmodel import apart, packages, recipe
from engines.formats.savedmodel.build import FILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.formats.base import Job, Keep
    from engines.model.spec import ModelSpec
    from engines.runner import Arrays, Runner
    from engines.store import Recipe
    from engines.variant import Variant


class SavedModelFormat(Format):
    """SavedModels: trained or copied here, and run with TensorFlow through a signature."""

    name = "savedmodel"
    label = "TensorFlow"
    precisions = ("fp32",)
    arithmetics: Mapping[str, str] = {"fp32": "fp32"}
    file = FILE
    packages = packages.PACKAGES

    def unavailable(self, precision: str | None = None) -> str | None:
        """Why TensorFlow cannot be used here; None where it can."""
        return packages.unavailable()

    def unbuildable(self, variant: Variant, spec: ModelSpec) -> str | None:
        """Why it cannot be exported here; None where it can, or is a user's own folder, which is copied."""
        return packages.unavailable() if spec.saved_model is None else None

    def source(self, precision: str) -> Variant | None:
        """None: all others come from it."""
        return None

    def yardstick(self, variant: Variant) -> Variant | None:
        """None: it is one itself."""
        return None

    def recipe(self, job: Job) -> Recipe | None:
        """The user's folder, the weights, or the training; see :mod:`engines.formats.savedmodel.recipe`."""
        return recipe.recipe(job)

    def build(self, job: Job, folder: Path) -> Mapping[str, Any] | None:
        """Copy, load or train it."""
        return recipe.build(job, folder)

    def open(
        self, spec: ModelSpec, variant: Variant, path: Path, batch_size: int | None = None, keep: Keep | None = None
    ) -> Runner:
        """Runner with TensorFlow on the CPU."""
        from engines.formats.savedmodel.runner import SavedModelRunner

        if apart.kept_apart():
            return apart.ApartRunner(SavedModelRunner, spec, path, batch_size)
        return SavedModelRunner(spec, path, batch_size)

    def late(self) -> type[Runner]:
        """Class of its runner: TensorFlow takes seconds to import."""
        from engines.formats.savedmodel.runner import SavedModelRunner

        return SavedModelRunner

    def stores_answers(self, spec: ModelSpec) -> bool:
        """True: TensorFlow chooses its kernels by the processor and by variables alone."""
        return True

    def reference(self, spec: ModelSpec, path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs of the signature, called without any runner."""
        from engines.formats.savedmodel.reference import reference_outputs

        outputs: dict[str, NDArray[Any]] = apart.ask(reference_outputs, spec, path, inputs)
        return outputs

    def layer_names(self, path: Path) -> Mapping[str, str]:
        """Names of Keras' layers, as their variables have them."""
        from engines.formats.savedmodel.layer_names import layer_names

        return layer_names(path)

    def calls(self, spec: ModelSpec, path: Path) -> Callable[[Arrays], dict[str, NDArray[Any]]]:
        """The signature of a SavedModel that is loaded now."""
        from engines.formats.savedmodel.calls import loaded_calls

        return apart.asks(loaded_calls, spec, path)


FORMAT = SavedModelFormat()
