"""Runs SavedModels with TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.savedmodel.signature import _check_names, signature_of, spoken
from engines.runner import Runner, check_signature
from engines.variant import REFERENCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec


class SavedModelRunner(Runner):
    """Runs a SavedModel folder on the CPU with TensorFlow, through the signature under test.

    Raises RunnerError where the folder is no SavedModel or its tensors are not the spec's. Raises SpecError where it
    lacks the signature or the spec calls inputs or outputs otherwise.
    """

    def __init__(self, spec: ModelSpec, path: Path, batch_size: int | None = None) -> None:
        super().__init__(spec, REFERENCE, batch_size)
        tf = tensorflow()
        self._tf = tf
        if not tf.saved_model.contains_saved_model(str(path)):
            raise RunnerError(f"{path}: not a SavedModel; expected a folder with saved_model.pb and variables/")
        # The loaded object owns the variables that the signature only refers to.
        self._loaded = tf.saved_model.load(str(path))
        self._function = signature_of(self._loaded, spec.signature, str(path))
        _check_names(self._function, spec)
        specs = self._function.structured_input_signature[1]
        check_signature(
            str(path),
            spec,
            {name: tuple(s.shape) for name, s in specs.items()},
            {name: tuple(s.shape) for name, s in self._function.structured_outputs.items()},
        )
        self._device = "/CPU:0"
        self.settings = {"device": self._device, "signature": spec.signature}

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        tf = self._tf
        feeds = {i.signature_name: tf.constant(inputs[i.name]) for i in self.spec.inputs}
        try:
            with tf.device(self._device):
                outputs = self._function(**feeds)
        except tf.errors.OpError as error:
            count = len(next(iter(inputs.values())))
            raise RunnerError(f"{self.variant}: TensorFlow fails on a batch of {count}: {spoken(error)}") from error
        return {o.name: np.asarray(outputs[o.signature_name]) for o in self.spec.outputs}

    def _release(self) -> None:
        del self._function, self._loaded
