"""Builds one plan, in a process of its own: ``python -m engines.formats.tensorrt_rtx.build_command < job.json``.

A build that fails changes the next plan of the same process (other bytes, another size), so none gets to see another.
The job: ``onnx`` and ``plan`` (paths), ``shapes`` (by input: smallest, tuned for, largest), ``targets`` (names of
ComputeCapability). What comes of it is one JSON object on standard output: ``error``, or what the network is.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engines.formats.tensorrt.messages import Said, logger
from engines.formats.tensorrt_rtx import packages

WEIGHTED = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM")
"""The layers that multiply: what they take decides what a plan computes in."""


PRECISIONS = {"FLOAT": "FP32", "HALF": "FP16"}
"""TensorRT's names of types, as precisions are called here."""


def build(job: Mapping[str, Any]) -> dict[str, Any]:
    """Build a job's plan; returns what the network is, or the ``error`` and the ``refused`` nodes."""
    trt = packages.bindings()
    said = Said(trt)
    builder = trt.Builder(logger(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger(trt))
    if not parser.parse_from_file(job["onnx"]):
        refused = [_refused(parser.get_error(i)) for i in range(parser.num_errors)]
        return {"error": said.errors(), "refused": refused}
    config = builder.create_builder_config()
    # On by default; strong typing says nothing of it.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.num_compute_capabilities = len(job["targets"])
    for index, target in enumerate(job["targets"]):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, target), index):
            return {"error": said.errors()}
    profile = builder.create_optimization_profile()
    for name, shapes in job["shapes"].items():
        profile.set_shape(name, *map(tuple, shapes))
    if config.add_optimization_profile(profile) < 0:
        return {"error": said.errors()}
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return {"error": said.errors()}
    Path(job["plan"]).write_bytes(plan)
    return {**described(network), "warnings": said.warnings()[:20]}


def _refused(error: Any) -> dict[str, str]:
    """Node that the parser refuses, its operator, and why."""
    return {"node": error.node_name(), "operator": error.node_operator(), "why": f"{error.code().name}: {error.desc()}"}


def described(network: Any) -> dict[str, Any]:
    """Inputs and outputs of a network with dtype and shape, and its multiplying layers counted by precision."""
    tensors = {
        "inputs": [network.get_input(i) for i in range(network.num_inputs)],
        "outputs": [network.get_output(i) for i in range(network.num_outputs)],
    }
    found = {side: {t.name: [t.dtype.name, list(t.shape)] for t in items} for side, items in tensors.items()}
    return {**found, "layers": dict(sorted(Counter(_multiplied(network)).items()))}


def _multiplied(network: Any) -> Iterator[str]:
    """Precision of each multiplying layer: that of its first input, INT8 where a dequantization gives it."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    dequantized = {_output(layer) for layer in layers if layer.type.name == "DEQUANTIZE"}
    for layer in layers:
        if layer.type.name in WEIGHTED:
            first = layer.get_input(0)
            yield "INT8" if first.name in dequantized else PRECISIONS.get(first.dtype.name, first.dtype.name)


def _output(layer: Any) -> str:
    return str(layer.get_output(0).name)


if __name__ == "__main__":
    json.dump(build(json.load(sys.stdin)), sys.stdout)
