"""What a SavedModel answers, asked without any runner."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.savedmodel.signature import _check_names, signature_of, spoken
from engines.progress import live

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec


REFERENCE_BATCH = 32
"""Samples per call of the reference; its stored outputs are those of this batch size."""


@lru_cache(maxsize=1)
def _loaded(path: Path, number: int, written: int) -> Any:
    """Loaded SavedModel, kept until another one is asked for: a run asks one for twenty sets of inputs.

    ``number`` of its folder and when it was ``written`` tell another build of the same path apart.
    """
    return tensorflow().saved_model.load(str(path))


def reference_outputs(spec: ModelSpec, path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Call a SavedModel's signature directly, on arrays (N, …) by input name.

    Deliberately shares nothing with the runners: a fault in what they share would otherwise hide itself.
    Raises RunnerError where TensorFlow stops at what it was given.
    """
    tf = tensorflow()
    written = max(file.stat().st_mtime_ns for file in path.rglob("*"))
    function = signature_of(_loaded(path, path.stat().st_ino, written), spec.signature, str(path))
    _check_names(function, spec)
    count = len(inputs[spec.inputs[0].name])
    parts = []
    with tf.device("/CPU:0"), live(f"reference of {spec.name}", count, "samples") as advance:
        for start in range(0, count, REFERENCE_BATCH):
            stop = min(start + REFERENCE_BATCH, count)
            feeds = {i.signature_name: tf.constant(inputs[i.name][start:stop]) for i in spec.inputs}
            try:
                parts.append(function(**feeds))
            except tf.errors.OpError as error:
                raise RunnerError(f"the SavedModel stops at {spoken(error)}") from error
            advance(stop - start)
    outputs = {o.name: [np.asarray(part[o.signature_name]) for part in parts] for o in spec.outputs}
    # An output without a batch axis is one array, whatever the batch.
    return {name: found[0] if name in spec.constants else np.concatenate(found) for name, found in outputs.items()}
