"""The graph of a model in the plainest form: which operator makes a tensor, of which others. Functions are inlined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class Tensor(NamedTuple):
    """One output of a node, by the node's name and the number of the output."""

    node: str
    number: int


@dataclass(frozen=True)
class Node:
    """An operator and the tensors that it takes; ``inside`` names the operators in the bodies of a loop or branch."""

    op: str
    inputs: tuple[Tensor, ...]
    inside: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Graph:
    """Nodes by name, the model's outputs by name, and the names of the nodes that are its inputs."""

    nodes: Mapping[str, Node]
    outputs: Mapping[str, Tensor]
    inputs: frozenset[str]

    def reached(self, tensor: Tensor) -> set[str]:
        """Names of all nodes that a tensor hangs on."""
        seen, waiting = {tensor.node}, [tensor.node]
        while waiting:
            for other in self.nodes[waiting.pop()].inputs:
                if other.node not in seen:
                    seen.add(other.node)
                    waiting.append(other.node)
        return seen


def function_graph(function: Any) -> Graph:
    """Graph of a concrete function of TensorFlow, such as a SavedModel's signature: its outputs by their own names."""
    content = function.graph.as_graph_def()
    library = {f.signature.name: f for f in content.library.function}
    top = _Scope("", {node.name: node for node in content.node}, {}, library)
    nodes = {}
    for scope in top.all():
        for name, node in scope.nodes.items():
            if not scope.called(node):
                taken = tuple(scope.tensor(ref) for ref in node.input if not ref.startswith("^"))
                nodes[scope.prefix + name] = Node(node.op, taken, _inside(node, library))
    captured = {tensor.name for tensor in function.graph.internal_captures}
    inputs = frozenset(tensor.op.name for tensor in function.inputs if tensor.name not in captured)
    # TensorFlow flattens a dictionary by its sorted keys.
    flat = zip(sorted(function.structured_outputs), function.outputs, strict=True)
    return Graph(nodes, {name: top.tensor(tensor.name) for name, tensor in flat}, inputs)


@dataclass
class _Scope:
    """A graph or the body of a function that is called: its nodes, and what its arguments stand for."""

    prefix: str
    nodes: Mapping[str, Any]
    arguments: Mapping[str, Tensor]
    library: Mapping[str, Any]
    _bodies: dict[str, _Scope] = field(default_factory=dict)

    def called(self, node: Any) -> bool:
        """Whether a node is a call of a function that is known."""
        return node.op in CALLS and node.attr["f"].func.name in self.library

    def all(self) -> Iterator[_Scope]:
        """The scope itself, and all bodies that are called in it."""
        yield self
        for name, node in self.nodes.items():
            if self.called(node):
                yield from self.body(name).all()

    def body(self, name: str) -> _Scope:
        """Body of the function that a node calls."""
        if name not in self._bodies:
            node = self.nodes[name]
            function = self.library[node.attr["f"].func.name]
            given = [self.tensor(ref) for ref in node.input if not ref.startswith("^")]
            arguments = {a.name: t for a, t in zip(function.signature.input_arg, given, strict=True)}
            nodes = {n.name: n for n in function.node_def}
            self._bodies[name] = _Scope(f"{self.prefix}{name}/", nodes, arguments, self.library)
        return self._bodies[name]

    def tensor(self, reference: str) -> Tensor:
        """What a reference such as ``call:output:1`` stands for, through all calls."""
        name, *parts = reference.split(":")
        index = int(parts[-1]) if parts else 0
        if name in self.arguments:
            return self.arguments[name]
        node = self.nodes[name]
        if not self.called(node):
            # Of several outputs of other names only the first of each name has the number 0.
            return Tensor(self.prefix + name, OUTPUTS.get((node.op, parts[0]), index) if len(parts) == 2 else index)
        function = self.library[node.attr["f"].func.name]
        return self.body(name).tensor(function.ret[function.signature.output_arg[index].name])


OUTPUTS: Mapping[tuple[str, str], int] = {
    ("TopKV2", "indices"): 1,
    ("CombinedNonMaxSuppression", "nmsed_scores"): 1,
    ("CombinedNonMaxSuppression", "nmsed_classes"): 2,
    ("CombinedNonMaxSuppression", "valid_detections"): 3,
    ("NonMaxSuppressionV4", "valid_outputs"): 1,
    ("NonMaxSuppressionV5", "selected_scores"): 1,
    ("NonMaxSuppressionV5", "valid_outputs"): 2,
}
"""Numbers of outputs that the bodies of functions call by name."""


def _inside(node: Any, library: Mapping[str, Any], known: frozenset[str] = frozenset()) -> frozenset[str]:
    """Operators in the functions that an operator runs, such as a loop's body, and in those that they call."""
    found: set[str] = set()
    for attribute in node.attr.values():
        name = attribute.func.name
        if name in library and name not in known:
            for inner in library[name].node_def:
                found |= {inner.op} | _inside(inner, library, known | {name})
    return frozenset(found)


def onnx_graph(model: Any) -> Graph:
    """Graph of an ONNX model (a ModelProto)."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    made = {name: Tensor(_name(node), i) for node in graph.node for i, name in enumerate(node.output)}
    inputs = frozenset(value.name for value in graph.input if value.name not in constants)

    def tensor(name: str) -> Tensor:
        return made.get(name, Tensor(name, 0))

    nodes = {_name(node): Node(node.op_type, tuple(tensor(name) for name in node.input if name)) for node in graph.node}
    leaves = {t.node for node in nodes.values() for t in node.inputs} | {tensor(o.name).node for o in graph.output}
    nodes |= {name: Node("Input" if name in inputs else "Constant", ()) for name in leaves - nodes.keys()}
    return Graph(nodes, {o.name: tensor(o.name) for o in graph.output}, inputs)


def _name(node: Any) -> str:
    """Name of a node that no other has: names of nodes may be empty, those of tensors may not."""
    return f"{node.op_type} of {next(name for name in node.output if name)}"
