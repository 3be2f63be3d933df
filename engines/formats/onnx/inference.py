"""What makes an ONNX file no model for inference: operators that draw at random, or run as in training.

ONNX Runtime's optimizer deletes an active Dropout between other operators, so that no answer tells of it (seen with
1.31.1); without the optimizer, or in another runtime, it is obeyed. See the operators' training_mode at https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError
from engines.formats.onnx.constants import small_constants
from engines.formats.onnx.layers import bodies

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators whose answers are drawn."""


def check_inference(path: Path) -> None:
    """Refuse an ONNX file that answers at random or as in training.

    Raises ConversionError that names the first such node, its operator and what to do.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    for node, constants in _nodes(graph, {}):
        if wrong := _wrong(node, constants):
            name = (
                f"the node {node.name!r} ({node.op_type})" if node.name else f"a node without a name ({node.op_type})"
            )
            raise ConversionError(
                f"{path}: {name} {wrong}; allowed: what answers the same in every call and runtime. Export the model "
                "for inference: training=False, model.eval() or TrainingMode.EVAL"
            )


def _nodes(
    graph: GraphProto, outer: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[NodeProto, Mapping[str, NDArray[Any]]]]:
    """Nodes of a graph and of what is inside its loops and branches, each with the constants that it can see."""
    constants = {**outer, **small_constants(graph)}
    for node in graph.node:
        yield node, constants
        for body in bodies(node):
            yield from _nodes(body, constants)


def _wrong(node: NodeProto, constants: Mapping[str, NDArray[Any]]) -> str | None:
    """What is wrong with a node, as a verb with its object; None where nothing is."""
    flags = {attribute.name: attribute.i for attribute in node.attribute}
    if node.domain not in {"", "ai.onnx"}:
        return None
    if node.op_type in RANDOM:
        return "draws its answer at random"
    if node.op_type == "BatchNormalization" and flags.get("training_mode"):
        return "normalizes by the mean and variance of the batch, as in training"
    if node.op_type == "Dropout" and len(node.input) > 2:
        # Half of the values are dropped unless the node says otherwise, or may say so as it runs.
        ratio, active = _scalar(constants, node.input[1], 0.5), _scalar(constants, node.input[2], 0.0)
        return "drops values at random, as in training" if ratio and active else None
    return None


def _scalar(constants: Mapping[str, NDArray[Any]], name: str, otherwise: float) -> float:
    """Constant of a name as one number; ``otherwise`` where it is none."""
    found = constants.get(name)
    return float(found.item()) if found is not None and found.size == 1 else otherwise
