"""TODO engines.formats.savedmodel.reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.formats.savedmodel.packages import tensorflow
from engines.formats.savedmodel.signature import _check_names, serving_default
from engines.progress import live

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec


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
    outputs = {o.name: [np.asarray(part[o.signature_name]) for part in parts] for o in spec.outputs}
    # An output without a batch axis is one array, whatever the batch.
    return {name: found[0] if name in spec.constants else np.concatenate(found) for name, found in outputs.items()}
