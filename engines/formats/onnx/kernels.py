"""The INT8 kernels of ONNX Runtime on a CPU: the option ``--onnx-int8-kernels``, and processors where they matter.

On x86-64 without VNNI the usual kernels add two products of 8 bits in 16, which saturate (ONNX Runtime's documentation
of quantization, "U8U8 and U8S8"). There the same file answers otherwise than on any other processor. The exact kernels
add as those do. Where there is VNNI, both are the same.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.option import Option
from engines.machine import CPUINFO, told

if TYPE_CHECKING:
    from engines.model.spec import ModelSpec

EXACT, USUAL = "exact", "usual"

ENTRY = "session.x64quantprecision"
"""ONNX Runtime's name of the session's setting: 1 has sums as they are without saturation."""

WITH_VNNI = frozenset({"avx512_vnni", "avx_vnni"})
"""Linux's names of what a processor has that adds four products of 8 bits in 32."""

WAYS: Mapping[str, str] = {EXACT: "ONNX Runtime's exact INT8 kernels", USUAL: "ONNX Runtime's usual INT8 kernels"}
"""Names for people."""


def _refuse(value: str) -> str | None:
    """Why a value names no kernels; None where it does."""
    return None if value in WAYS else f"there are no such kernels; allowed: {EXACT}, {USUAL}"


OPTION = Option(
    name="onnx-int8-kernels",
    metavar=f"{EXACT}|{USUAL}",
    help="judge ONNX INT8 by ONNX Runtime's exact kernels, which add as every processor with VNNI does, or by its "
    "usual ones, whose sums saturate on x86-64 without VNNI; the summary tells how the others differ "
    f"(default: {EXACT})",
    default=(EXACT,),
    refuse=_refuse,
)


def chosen(spec: ModelSpec) -> str:
    """The kernels that ONNX INT8 is judged by."""
    (value,) = OPTION.values(spec)
    return value


def other(kernels: str) -> str:
    """The kernels that it is not judged by."""
    return USUAL if kernels == EXACT else EXACT


@cache
def differ(info: Path = CPUINFO) -> bool:
    """Whether this processor's usual kernels saturate: x86-64 without VNNI, as far as Linux tells."""
    flags = told("flags", info).split()
    return platform.machine() == "x86_64" and bool(flags) and WITH_VNNI.isdisjoint(flags)


def entries(kernels: str) -> Mapping[str, str]:
    """Entries of a session's configuration that choose kernels, where there is a choice."""
    return {ENTRY: "1"} if kernels == EXACT and differ() else {}


def unshared(path: Path) -> bytes | None:
    """A file whose signed 8-bit constants each have one node that takes them; None where it has no others.

    ONNX Runtime 1.31.1 refuses to load a file for its exact kernels in which two nodes share one: "Attempt to replace
    the existing tensor". A dequantization of a constant counts as often as its result is taken.
    """
    import onnx

    shown = onnx.load(str(path), load_external_data=False)
    if not _unshare(shown.graph):
        return None
    whole = onnx.load(str(path))
    _unshare(whole.graph)
    return bytes(whole.SerializeToString())


def _unshare(graph: Any) -> bool:
    """Whether there was anything to copy: each node gets its own of what it takes of such constants."""
    import onnx

    constants = {t.name: t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8}
    outputs = {output.name for output in graph.output}
    taken: dict[str, int] = {}
    nodes, copies = [], []
    dequantized = {n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants}
    for node in graph.node:
        nodes.append(node)
        for place, name in enumerate(node.input):
            if name in dequantized and name not in outputs and (number := _again(taken, name)):
                copy = onnx.NodeProto()
                copy.CopyFrom(dequantized[name])
                copy.name, copy.output[0] = f"{copy.name}.{number}", f"{name}.{number}"
                node.input[place] = copy.output[0]
                nodes.insert(-1, copy)
    for node in nodes:
        weights = node.op_type == "DequantizeLinear" and node.input[0] in constants
        for place, name in enumerate(node.input):
            # Two quantized tensors may share a zero point; that of weights changes with them.
            if name in constants and (weights or place != 2) and (number := _again(taken, name)):
                copies.append(onnx.TensorProto())
                copies[-1].CopyFrom(constants[name])
                node.input[place] = copies[-1].name = f"{name}.{number}"
    if copies:
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(copies)
    return bool(copies)


def _again(taken: dict[str, int], name: str) -> int:
    """How often a name was taken before; counts it."""
    taken[name] = taken.get(name, -1) + 1
    return taken[name]


def advice(kernels: str) -> str:
    """What it means that this processor's other kernels answer otherwise, and what to do; the judged ones are given."""
    if kernels == USUAL:
        return f"a session with {ENTRY} set to 1 has these"
    return (
        f"this processor has no VNNI, so that their sums saturate; a deployment on such a processor sets {ENTRY} to 1, "
        f"and --{OPTION.name}={USUAL} judges them"
    )
