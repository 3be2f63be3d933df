"""One SavedModel, called again and again: what it keeps from call to call shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.savedmodel.signature import _check_names, signature_of, spoken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec
    from engines.runner import Arrays


def loaded_calls(spec: ModelSpec, path: Path) -> Callable[[Arrays], dict[str, NDArray[Any]]]:
    """Function that calls the signature of a SavedModel, loaded now, on all inputs (N, …) at once.

    Outputs are as the signature gives them, whatever their axes. Raises RunnerError where TensorFlow fails on a call.
    """
    tf = tensorflow()
    loaded = tf.saved_model.load(str(path))
    function = signature_of(loaded, spec.signature, str(path))
    _check_names(function, spec)

    def call(inputs: Arrays) -> dict[str, NDArray[Any]]:
        # The loaded object owns the variables that the signature only refers to.
        _ = loaded
        try:
            with tf.device("/CPU:0"):
                outputs = function(**{i.signature_name: tf.constant(inputs[i.name]) for i in spec.inputs})
        except tf.errors.OpError as error:
            raise RunnerError(spoken(error)) from error
        return {o.name: np.asarray(outputs[o.signature_name]) for o in spec.outputs}

    return call
