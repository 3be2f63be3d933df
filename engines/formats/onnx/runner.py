"""Run ONNX files with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.onnx import kernels, providers
from engines.formats.onnx.reference import said
from engines.runner import Grid, Runner, check_signature, grid
from engines.sharing import cores_are_shared
from engines.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec
    from engines.runner import Arrays


CPU, CUDA = providers.CPU, providers.CUDA
"""ONNX Runtime's names of its own execution providers."""


def output_grids(path: Path) -> dict[str, Grid]:
    """Grids of an ONNX file's outputs that are dequantized integers, by name; quantizers treat a softmax so, too."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {t.name: t for t in graph.initializer}
    found = {}
    for node in graph.node:
        known = node.op_type == "DequantizeLinear" and all(name in constants for name in node.input[1:])
        if known and node.output[0] in {o.name for o in graph.output}:
            scale, *points = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[1:])
            point = points[0] if points else np.zeros((), np.uint8)  # ONNX's default
            if scale.size == 1 and point.dtype.kind in "iu":
                found[node.output[0]] = grid(point.dtype, float(scale.item()), int(point.item()))
    return found


def opened(
    path: Path,
    variant: Variant,
    provider: str = CPU,
    chosen: Mapping[str, str] | None = None,
    int8_kernels: str = kernels.EXACT,
) -> Any:
    """Session of a file as a deployment has it: all optimizations, deterministic; raises RunnerError."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.use_deterministic_compute = True
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    content = None
    if variant.precision.startswith("int8") and provider == CPU:
        entries = kernels.entries(int8_kernels)
        for name, value in entries.items():
            options.add_session_config_entry(name, value)
        content = kernels.unshared(path) if entries else None
    if cores_are_shared():
        # A thread that spins while it waits keeps a core from the process that has work; answers do not hang on it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return providers.session(path, provider, dict(chosen or {}), options, str(variant), content)


class OnnxRunner(Runner):
    """Runs an ONNX file with ONNX Runtime.

    ``settings`` states the execution provider asked for, with its ``provider_options``, and no other: ONNX Runtime
    would fall back to the CPU without a word. Compute is deterministic, and all graph optimizations are on, as a
    deployment would have them. ``int8_kernels`` are those of :mod:`engines.formats.onnx.kernels`. Raises RunnerError
    where the file cannot be loaded, is not the spec's model, or another provider is in use.
    """

    def __init__(
        self,
        spec: ModelSpec,
        variant: Variant,
        path: Path,
        batch_size: int | None = None,
        provider: str = CPU,
        provider_options: Mapping[str, str] | None = None,
        int8_kernels: str = kernels.EXACT,
    ) -> None:
        super().__init__(spec, variant, batch_size)
        chosen = dict(provider_options or {})
        session = opened(path, variant, provider, chosen, int8_kernels)
        names = check_signature(
            str(path),
            spec,
            {i.name: tuple(i.shape) for i in session.get_inputs()},
            {o.name: tuple(o.shape) for o in session.get_outputs()},
        )
        self._session = session
        self._names = names
        if variant.precision.startswith("int8"):
            inside = output_grids(path)
            self.grids = {name: inside[called] for name, called in names.outputs.items() if called in inside}
        self.settings = {"provider": provider, "deterministic": "yes", "graph optimizations": "all", **chosen}
        if variant.precision.startswith("int8") and provider == CPU:
            self.settings["INT8 kernels"] = int8_kernels

    @property
    def input_names(self) -> dict[str, str]:
        """Names that the file has for the model's inputs, by the model's."""
        return dict(self._names.inputs)

    @property
    def output_names(self) -> dict[str, str]:
        """Names that the file has for the model's outputs, by the model's."""
        return dict(self._names.outputs)

    def feeds(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Inputs by the names that the file has for them."""
        return {self._names.inputs[name]: array for name, array in inputs.items()}

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            outputs = self._session.run(list(self._names.outputs.values()), self.feeds(inputs))
        except Exception as error:  # as at loading: a dozen unrelated types
            count = len(next(iter(inputs.values())))
            raise RunnerError(f"{self.variant}: ONNX Runtime fails on a batch of {count}: {said(error)}") from error
        return {name: np.asarray(array) for name, array in zip(self._names.outputs, outputs, strict=True)}

    def _release(self) -> None:
        del self._session
