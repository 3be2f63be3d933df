"""TODO engines.formats.savedmodel.runner."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.savedmodel.signature import _check_names, serving_default
from engines.runner import Runner, check_signature
from engines.variant import REFERENCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec


class SavedModelRunner(Runner):
    """Runs a SavedModel folder on the CPU with TensorFlow, through ``serving_default``.

    Raises RunnerError where the folder is no SavedModel or its tensors are not the spec's, SpecError where it lacks
    the signature or the spec calls inputs or outputs otherwise.
    """

    def __init__(self, spec: ModelSpec, path: Path, batch_size: int | None = None) -> None:
        super().__init__(spec, REFERENCE, batch_size)
        tf = tensorflow()
        self._tf = tf
        if not tf.saved_model.contains_saved_model(str(path)):
            raise RunnerError(f"{path}: not a SavedModel; expected a folder with saved_model.pb and variables/")
        # The loaded object owns the variables that the signature only refers to.
        self._loaded = tf.saved_model.load(str(path))
        self._function = serving_default(self._loaded, str(path))
        _check_names(self._function, spec)
        specs = self._function.structured_input_signature[1]
        check_signature(
            str(path),
            spec,
            {name: tuple(s.shape) for name, s in specs.items()},
            {name: tuple(s.shape) for name, s in self._function.structured_outputs.items()},
        )
        self._device = "/CPU:0"
        self.settings = {"device": self._device, "signature": "serving_default"}

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        tf = self._tf
        with tf.device(self._device):
            outputs = self._function(**{i.signature_name: tf.constant(inputs[i.name]) for i in self.spec.inputs})
        return {o.name: np.asarray(outputs[o.signature_name]) for o in self.spec.outputs}

    def _release(self) -> None:
        del self._function, self._loaded
