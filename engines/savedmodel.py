"""SavedModel: exported with Keras or brought by the user, run through its ``serving_default`` signature.

This is the reference: every other format is compared with what comes out here.
"""

from __future__ import annotations

import os
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ConversionError, RunnerError, SpecError
from engines.progress import live
from engines.runner import Runner, check_signature
from engines.variant import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.model import InputSpec, ModelSpec, OutputSpec

FILE = "saved_model"
"""The folder inside the artifact that is the SavedModel."""


def unavailable() -> str | None:
    """Say why SavedModels cannot be made or run here; None where they can."""
    if util.find_spec("tensorflow") is None:
        return "TensorFlow is not installed (pip install -r requirements.txt)"
    return None


def version() -> str | None:
    """Give TensorFlow's version, without importing it; None where it is not installed."""
    return installed_version("tensorflow-cpu", "tensorflow")


def installed_version(*names: str) -> str | None:
    """Give the version of the first of these distributions that is installed, or None."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def tensorflow() -> Any:
    """Import TensorFlow with its start-up chatter off (a user's own setting of it wins)."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    return tf


def serving_default(loaded: Any, what: str) -> Any:
    """Give the signature that everything relies on, of a loaded SavedModel.

    Raises SpecError, which says how to export it, where there is none; ``what`` names the SavedModel.
    """
    if "serving_default" not in loaded.signatures:
        raise SpecError(
            f"{what}: its signatures are {sorted(loaded.signatures)}; expected 'serving_default' among them: export it "
            "again, by tf.saved_model.save(model, DIR, signatures={'serving_default': FUNCTION}) or Keras' "
            "model.export(DIR)"
        )
    return loaded.signatures["serving_default"]


def _check_names(function: Any, spec: ModelSpec) -> None:
    """Refuse a description whose names are not the signature's: it is called by them."""
    sides: tuple[tuple[str, Sequence[InputSpec | OutputSpec], Mapping[str, Any]], ...] = (
        ("inputs", spec.inputs, function.structured_input_signature[1]),
        ("outputs", spec.outputs, function.structured_outputs),
    )
    for side, items, found in sides:
        if {item.signature_name for item in items} != set(found):
            raise SpecError(
                f"{spec.path}: its {side} are named {sorted(item.signature_name for item in items)}, and those of the "
                f"SavedModel's serving_default {sorted(found)}; allowed: the same, as name or as signature_name"
            )


def build_savedmodel(model: Any, folder: Path) -> dict[str, Any]:
    """Export a Keras model (its outputs a dict by name) to ``folder/saved_model``; returns details for the record.

    Raises ConversionError where the export lacks the ``serving_default`` signature that everything else relies on.
    """
    target = folder / FILE
    model.export(str(target), format="tf_saved_model", verbose=False)
    signatures = list(tensorflow().saved_model.load(str(target)).signatures)
    if "serving_default" not in signatures:
        raise ConversionError(f"Keras exported a SavedModel with the signatures {signatures}; expected serving_default")
    return {"signature": "serving_default", "parameters": int(model.count_params())}


REFERENCE_BATCH = 32
"""Samples per call of the reference; its stored outputs are those of this batch size."""


def reference_outputs(spec: ModelSpec, path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Call a SavedModel's ``serving_default`` directly, on arrays (N, …) by input name.

    Deliberately shares nothing with the runners: a fault in what they share would otherwise hide itself.
    """
    tf = tensorflow()
    loaded = tf.saved_model.load(str(path))
    function = serving_default(loaded, str(path))
    _check_names(function, spec)
    count = len(inputs[spec.inputs[0].name])
    parts = []
    with tf.device("/CPU:0"), live(f"reference of {spec.name}", count, "samples") as advance:
        for start in range(0, count, REFERENCE_BATCH):
            stop = min(start + REFERENCE_BATCH, count)
            parts.append(function(**{i.signature_name: tf.constant(inputs[i.name][start:stop]) for i in spec.inputs}))
            advance(stop - start)
    return {o.name: np.concatenate([np.asarray(part[o.signature_name]) for part in parts]) for o in spec.outputs}


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
