"""What a SavedModel without a description takes, and what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines import tools
from engines.errors import RunnerError, SpecError
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.savedmodel.signature import signature_of, spoken
from engines.model.found import Found, Tensor
from engines.model.paths import is_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def discover(folder: Path, signature: str, what: str) -> Found:
    """Inputs of a signature of the SavedModel in ``folder``, and what asks it; ``what`` errors call it.

    Raises SpecError for what is no SavedModel, or lacks the signature.
    """
    if not is_folder(folder):
        raise SpecError(f"{what}: no such folder; expected a SavedModel: saved_model.pb and variables/")
    tf = tensorflow()
    if not tf.saved_model.contains_saved_model(str(folder)):
        there = sorted(p.name for p in folder.iterdir())[:8]
        raise SpecError(f"{what}: not a SavedModel, it holds {there}; expected saved_model.pb and variables/")
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow raises many types for a damaged SavedModel, each of them fatal here
        raise SpecError(f"{what}: TensorFlow cannot load it: {tools.last_lines(str(error), 3).strip()}") from error
    function = signature_of(loaded, signature, what)

    def ask(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        # The loaded object owns the variables that the signature only refers to.
        _ = loaded
        try:
            with tf.device("/CPU:0"):
                outputs = function(**{name: tf.constant(array) for name, array in inputs.items()})
        except tf.errors.OpError as error:
            raise RunnerError(spoken(error)) from error
        return {name: np.asarray(array) for name, array in outputs.items()}

    specs: Mapping[str, Any] = function.structured_input_signature[1]
    return Found(what, tuple(_tensor(name, found, what) for name, found in specs.items()), ask, function)


def _tensor(name: str, found: Any, what: str) -> Tensor:
    if getattr(found, "shape", None) is None or found.shape.rank is None:
        raise SpecError(
            f"{what}: its input {name!r} is {found}; expected a tensor of a known rank: export it again with an input "
            "of shape (None, …)"
        )
    return Tensor(name, tuple(found.shape), found.dtype.name)
