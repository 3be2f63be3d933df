"""What TensorRT for RTX refuses, in one line: the nodes of the ONNX, their operators, the target, what can be done."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engines.formats.tensorrt_rtx import packages

FOR_A_TARGET = re.compile(r"Cannot compile operation '(?P<node>.+?)' for \w+ \(SM(?P<gpu>\d+)\): (?P<why>[^.]+)\.")
"""What it says of an operator that it has for other GPUs only."""

LEAVE_OUT = "leave tensorrt-rtx out of this model's precisions (docs/rtx.md)"


def explained(told: Mapping[str, Any], what: str, onnx: Path, targets: Sequence[str]) -> str:
    """Error for what a failed build told: refused nodes, an operator that a target lacks, or TensorRT's own words."""
    version, error = packages.version(), str(told["error"])
    if refused := told.get("refused"):
        nodes = ", ".join(f"{node['operator']} {node['node']!r} ({node['why']})" for node in refused)
        return (
            f"{what}: the parser of TensorRT for RTX {version} does not take {nodes}; write the layer with other "
            f"operators, or {LEAVE_OUT}"
        )
    if found := FOR_A_TARGET.search(error):
        gpu = f"{found['gpu'][:-1]}.{found['gpu'][-1]}"
        others = [target for target in targets if target != gpu]
        narrower = f"name other targets ({' '.join(f'--rtx-target={t}' for t in others)})" if others else ""
        return (
            f"{what}: TensorRT for RTX {version} cannot build it for {gpu}: {operator(onnx, found['node'])}: "
            f"{found['why']}; {narrower or 'name another --rtx-target'}, or check fp16 alone there"
        )
    return f"{what}: TensorRT for RTX {version} cannot build {onnx} for {', '.join(targets)}:\n{error}"


def operator(onnx: Path, node: str) -> str:
    """Operator and name of a node of an ONNX; the name alone where there is none of that name."""
    import onnx as package

    graph = package.load(str(onnx), load_external_data=False).graph
    kind = next((found.op_type for found in graph.node if found.name == node), "the operation")
    return f"{kind} {node!r}"
