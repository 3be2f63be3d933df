"""What errors of single tensors do to a model's answers, in its own FP32 graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trial.locate.errors import MEAN, figures
from trial.twin.cut import own
from trial.twin.graph import session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trial.locate.graph import OwnGraph

    Arrays = Mapping[str, NDArray[Any]]


class Answers:
    """Own graph that adds errors to tensors; ``names`` are its outputs of FP32 numbers that hang on the inputs."""

    def __init__(self, graph: OwnGraph, feeds: Arrays, tensors: Collection[str]) -> None:
        self.names = tuple(name for name in dict.fromkeys(graph.outputs.values()) if name in graph.floats)
        self._graph, self._feeds, self._tensors = graph, feeds, tuple(tensors)
        self._opened = session(_with_errors(graph, self._tensors, self.names)) if self.names else None
        self.expected = self._run({})

    def moved(self, errors: Arrays) -> dict[str, float]:
        """How far each answer is moved, as the figure MEAN, where tensors have these errors (N, …) added."""
        return self._figures(self._run(errors))

    def moved_by(self, name: str, values: NDArray[Any]) -> dict[str, float]:
        """The same where one tensor has other values: of numbers as large as a mask's a sum would leave nothing."""
        return self._figures(self._graph.part(self.names, {name})({**self._feeds, name: values}))

    def _run(self, errors: Arrays) -> dict[str, NDArray[Any]]:
        if self._opened is None:
            return {}
        none = np.zeros(1, np.float32)
        fed = {_added(name): errors.get(name, none) for name in self._tensors}
        found = self._opened.run(list(self.names), {**self._feeds, **fed})
        return dict(zip(self.names, found, strict=True))

    def _figures(self, found: Arrays) -> dict[str, float]:
        return {n: figures(found[n], self.expected[n], self.expected[n])[MEAN] for n in self.names}


def _added(name: str) -> str:
    return f"{name}/added"


def _with_errors(graph: OwnGraph, tensors: Collection[str], answers: Sequence[str]) -> Any:
    """Own graph that adds an input to each of some tensors."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.ModelProto()
    model.CopyFrom(graph.graph.model)
    nodes = []
    for node in graph.graph.nodes:
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        nodes.append(copied)
        for place, name in enumerate(copied.output):
            if name in tensors:
                copied.output[place] = own(name)
                nodes.append(helper.make_node("Add", [own(name), _added(name)], [name]))
                model.graph.input.append(helper.make_tensor_value_info(_added(name), TensorProto.FLOAT, None))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in answers)
    del model.graph.value_info[:]
    return model
