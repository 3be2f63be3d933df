"""What a model's outputs hold, found from its graph and from what it answered: see ``kind`` in docs/models.md.

The graph comes first. An output may come from a softmax or sigmoid, a softmax or argmax may follow it, and the top-k or
non-maximum suppression may rank it. The answers decide where the graph does not, and have to agree where it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import SpecError
from engines.model.graphs import Graph, Tensor, function_graph, onnx_graph
from engines.model.spec import BATCH, ModelSpec, OutputSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUM_TOLERANCE = 2e-2
"""Outputs whose rows sum to one within this are probabilities: FP16 and 8-bit softmax stay well within it."""

PASSES = frozenset(
    {
        "Identity",
        "IdentityN",
        "Reshape",
        "Cast",
        "Squeeze",
        "ExpandDims",
        "Unsqueeze",
        "Flatten",
        "StopGradient",
        "PreventGradient",
        "EnsureShape",
        "Snapshot",
        "CheckNumerics",
        "Transpose",
        "QuantizeLinear",
        "DequantizeLinear",
    }
)
"""Operators that leave values as they are, and take them as their first input."""

GATHERS = frozenset({"Gather", "GatherV2", "GatherNd", "GatherND", "GatherElements"})
"""Operators that pick rows, by the indices that are their second input."""

CUTS = frozenset(
    {
        "Pad",
        "PadV2",
        "StridedSlice",
        "Slice",
        "Split",
        "Unpack",
        "TensorListStack",
        "Minimum",
        "Maximum",
        "Min",
        "Max",
        "ClipByValue",
        "Clip",
    }
)
"""Operators that pad, stack and cut rows, which are their first input."""

COUNTS = frozenset(
    {
        "ConcatV2",
        "Concat",
        "Pack",
        "SplitV",
        "Tile",
        "Select",
        "SelectV2",
        "Where",
        "AddV2",
        "Add",
        "Mul",
        "Sub",
        "TensorListFromTensor",
    }
)
"""Operators by which indices of rows are counted on from an offset and put together."""

SUPPRESSES = frozenset(
    {
        "CombinedNonMaxSuppression",
        "NonMaxSuppression",
        "NonMaxSuppressionWithOverlaps",
        "NonMaxSuppressionV2",
        "NonMaxSuppressionV3",
        "NonMaxSuppressionV4",
        "NonMaxSuppressionV5",
    }
)
RANKS = SUPPRESSES | {"TopK", "TopKV2"}
"""Operators that rank rows by a score."""

SAYS_OTHERWISE = '--kind=OUTPUT=KIND, or kind = "…" in its [[outputs]], says otherwise'
"""What to say, or to write in a TOML file, where an output was taken for something else than it is."""


@dataclass(frozen=True)
class Kind:
    """What an output holds, one of OUTPUT_KINDS, and why it is taken for that, in words."""

    kind: str
    why: str


def find_kinds(
    source: Any,
    outputs: Mapping[str, NDArray[Any]],
    labels: NDArray[Any] | None = None,
    *,
    count: int | None = None,
) -> dict[str, Kind]:
    """Kind of each output by name.

    - ``source``: a concrete function of TensorFlow (a SavedModel's signature), an ONNX ModelProto, a Graph, or None
      where only answers are known.
    - ``outputs``: what it answered, by the names that the source has for them: arrays (N, …), any dtype.
    - ``labels``: integers (N,), one class for each sample, where there are any.
    - ``count``: N, the number of samples that were asked; without it the commonest first size of the outputs.

    Raises SpecError for an output that has no batch axis and yet hangs on the inputs.
    """
    graph, count = as_graph(source), count or _count(outputs.values())
    # Of several outputs that labels may be of, none is told by them.
    labelled = [name for name, array in outputs.items() if array.dtype.kind == "f" and _one_of(labels, array)]
    return {
        name: _kind(name, array, graph, count, labels if labelled == [name] else None)
        for name, array in outputs.items()
    }


def as_graph(source: Any) -> Graph | None:
    """Graph of what find_kinds takes."""
    if source is None or isinstance(source, Graph):
        return source
    return function_graph(source) if hasattr(source, "structured_outputs") else onnx_graph(source)


def described(name: str, array: NDArray[Any], kind: Kind) -> dict[str, Any]:
    """What a TOML file says of an output, by what it answered: an array (N, …), or any of kind ``constant``."""
    shape = list(array.shape) if kind.kind == "constant" else [BATCH, *array.shape[1:]]
    return {"name": name, "shape": shape, "dtype": array.dtype.name, "kind": kind.kind, "why": kind.why}


def stated(spec: ModelSpec) -> str | None:
    """Line for the header on what outputs were taken for; None where the user said all of it."""
    found = [f"{o.name} {'is' if o.kind == 'constant' else 'are'} {_worded(o)}" for o in spec.outputs if o.why]
    return f"{'; '.join(found)}; {SAYS_OTHERWISE}" if found else None


def reasons(spec: ModelSpec) -> dict[str, str]:
    """What outputs were taken for, why, and what says otherwise, by name: for the message of a failure."""
    return {o.name: f"{_worded(o)}; {SAYS_OTHERWISE}" for o in spec.outputs if o.why}


def _worded(output: OutputSpec) -> str:
    return f"{output.kind} ({output.why})"


def _count(arrays: Iterable[NDArray[Any]]) -> int:
    sizes = [len(array) for array in arrays if array.ndim]
    return max(sizes, key=sizes.count, default=0)


def _kind(name: str, array: NDArray[Any], graph: Graph | None, count: int, labels: NDArray[Any] | None) -> Kind:
    """Kind of one output."""
    tensor = graph.outputs[name] if graph else None
    if graph and tensor and not graph.reached(tensor) & graph.inputs:
        return Kind("constant", "the inputs do not reach it in the graph")
    if not array.ndim or len(array) != count:
        if graph is None:
            return Kind("constant", f"its shape {array.shape} has no axis of {count} samples")
        raise SpecError(
            f"output {name!r} has the shape {array.shape} for {count} samples, so no batch axis, and yet hangs on the "
            "inputs; allowed: a first axis of samples; leave such an output out of the signature"
        )
    if graph and tensor and array.ndim > 1 and (ranks := _ranked_by(graph, tensor)):
        return Kind("ranked", f"{ranks} in the graph")
    if array.dtype.kind in "iub":
        return Kind("integers", f"they are {array.dtype}")
    return _of_floats(array, _origin(graph, tensor), labels)


@dataclass(frozen=True)
class _Origin:
    """The operator that makes an output, and the operators that turn it into classes elsewhere in the graph."""

    op: str = ""
    followed_by: str = ""


def _of_floats(array: NDArray[Any], origin: _Origin, labels: NDArray[Any] | None) -> Kind:
    """Kind of an output of floats (N, …) that is not ranked."""
    inside = bool(array.size and np.nanmin(array) >= 0 and np.nanmax(array) <= 1)
    score = origin.op == "Sigmoid" and inside
    if array.ndim >= 2 and array.shape[-1] >= 2 and (found := _of_rows(array, origin, labels, score=score)):
        return found
    return Kind("scores", "a sigmoid in the graph") if score else Kind("values", _why_values(origin, array))


def _of_rows(array: NDArray[Any], origin: _Origin, labels: NDArray[Any] | None, *, score: bool) -> Kind | None:
    """Kind of an output (N, …, classes) where it is one of classes."""
    distributions = not score and _distributions(array)
    found = (
        (distributions and origin.op == "Softmax", "probabilities", "a softmax in the graph"),
        (origin.op == "LogSoftmax", "logits", "a log-softmax in the graph"),
        (origin.followed_by, "logits", f"{origin.followed_by} follows in the graph"),
        (distributions, "probabilities", "rows sum to one"),
        (_one_of(labels, array), "logits", "labels say a class for each sample"),
    )
    return next((Kind(kind, why) for holds, kind, why in found if holds), None)


def _why_values(origin: _Origin, array: NDArray[Any]) -> str:
    if origin.op == "Softmax":
        return "a softmax in the graph, but not along the last axis, for rows do not sum to one"
    return "no softmax or sigmoid makes them, and none follows"


def _distributions(array: NDArray[Any]) -> bool:
    """Whether rows (N, …, classes) are probabilities."""
    sums = np.abs(array.sum(axis=-1, dtype=np.float64) - 1)
    return bool(array.size and array.min() >= 0 and sums.max() < SUM_TOLERANCE)


def _one_of(labels: NDArray[Any] | None, array: NDArray[Any]) -> bool:
    """Whether labels (N,) say a class of the output (N, classes) for each sample."""
    if labels is None or labels.ndim != 1 or array.ndim != 2 or labels.dtype.kind not in "iu" or not labels.size:
        return False
    return bool(array.shape[1] > 1 and labels.min() >= 0 and labels.max() < array.shape[1])


def _origin(graph: Graph | None, tensor: Tensor | None) -> _Origin:
    if graph is None or tensor is None:
        return _Origin()
    root = _root(graph, tensor)
    for node in graph.nodes.values():
        for op, words in FOLLOWS.items():
            if node.op == op and node.inputs and _root(graph, node.inputs[0]) == root:
                return _Origin(graph.nodes[root.node].op, words)
    return _Origin(graph.nodes[root.node].op)


FOLLOWS = {"Softmax": "a softmax", "LogSoftmax": "a log-softmax", "ArgMax": "an argmax"}
"""Operators that turn an output into classes, in words."""


def _root(graph: Graph, tensor: Tensor) -> Tensor:
    """Where the values of a tensor are computed: nothing behind it changes them."""
    while (node := graph.nodes[tensor.node]).op in PASSES and node.inputs:
        # IdentityN passes each of its inputs.
        tensor = node.inputs[tensor.number if node.op == "IdentityN" else 0]
    return tensor


def _ranked_by(graph: Graph, tensor: Tensor) -> str:
    """Operator that ranks the rows of an output; empty where none does.

    It is looked for through what only picks, pads and stacks rows. The boxes of a detector are mostly gathered by what
    its suppression gives, in a loop over the samples.
    """
    seen: set[tuple[Tensor, bool]] = set()
    waiting = [(tensor, False)]
    while waiting:
        found, indices = waiting.pop()
        node = graph.nodes[found.node]
        if node.op in RANKS:
            return node.op
        if inside := sorted(node.inside & SUPPRESSES):
            return inside[-1]
        if node.op in GATHERS:
            ahead = [(other, True) for other in node.inputs[1:2]]
        elif indices and node.op in COUNTS:
            ahead = [(other, True) for other in node.inputs]
        else:
            ahead = [(other, indices) for other in node.inputs[:1] if node.op in PASSES | CUTS]
        waiting += [pair for pair in ahead if pair not in seen]
        seen.update(ahead)
    return ""
