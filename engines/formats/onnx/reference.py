"""What an ONNX file answers where it is the reference, asked without any runner."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError, SpecError
from engines.progress import live

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec


REFERENCE_BATCH = 32
"""Samples per call of the reference; its stored outputs are those of this batch size."""


def plain_session(path: Path) -> Any:
    """A session of ONNX Runtime on the CPU that runs a file as it is written, without any optimization."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def said(error: Exception) -> str:
    """What ONNX Runtime says went wrong when it ran, in one line, without where in its source."""
    text = " ".join(str(error).split())
    return text.rpartition("Status Message: ")[2] or text


def reference_outputs(spec: ModelSpec, path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Run an ONNX file as it is written, on arrays (N, …) by input name.

    Deliberately shares nothing with the runners: a fault in what they share would otherwise hide itself.
    Raises RunnerError where ONNX Runtime stops at what it was given, SpecError where the file has other names.
    """
    session = plain_session(path)
    for side, items, found in (
        ("inputs", spec.inputs, session.get_inputs()),
        ("outputs", spec.outputs, session.get_outputs()),
    ):
        if {item.signature_name for item in items} != {value.name for value in found}:
            raise SpecError(
                f"{spec.source}: its {side} are named {sorted(item.signature_name for item in items)}, and those of "
                f"the ONNX {sorted(value.name for value in found)}; allowed: the same, as name or as signature_name"
            )
    count = len(inputs[spec.inputs[0].name])
    parts = []
    with live(f"reference of {spec.name}", count, "samples") as advance:
        for start in range(0, count, REFERENCE_BATCH):
            stop = min(start + REFERENCE_BATCH, count)
            feeds = {i.signature_name: np.ascontiguousarray(inputs[i.name][start:stop]) for i in spec.inputs}
            try:
                outputs = session.run([o.signature_name for o in spec.outputs], feeds)
            except Exception as error:  # ONNX Runtime raises a dozen unrelated types
                raise RunnerError(f"the ONNX stops at {said(error)}") from error
            parts.append({o.name: np.asarray(array) for o, array in zip(spec.outputs, outputs, strict=True)})
            advance(stop - start)
    # An output without a batch axis is one array, whatever the batch.
    return {n: a if n in spec.constants else np.concatenate([part[n] for part in parts]) for n, a in parts[0].items()}
