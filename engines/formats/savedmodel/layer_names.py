"""What the layers of a SavedModel are called by who built it: the names of its operations are TensorFlow's own.

Keras calls a variable by its layer's name. An operation's name has the scopes that TensorFlow made of the layers', with
a number behind where one was in use. So each operation that reads a variable tells which scope is which layer's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NUMBER = re.compile(r"_\d+$")

INNER = 3
"""An operation with more parts in its name is inside of a layer of the model: ``model/layer/Cast/ReadVariableOp``."""


def layer_names(folder: Path) -> dict[str, str]:
    """Names of layers by the scope of their operations: ``functional_1/conv2d_1`` is ``conv2d``.

    Layers without variables have the same number more in their scopes as all others, where all others agree.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    found: dict[str, str] = {}
    scopes: set[str] = set()
    for graph in model.meta_graphs:
        functions = {f.signature.name: f for f in graph.graph_def.library.function}
        for name, concrete in graph.object_graph_def.concrete_functions.items():
            if function := functions.get(name):
                found |= dict(_read(function, _variables(graph.object_graph_def, concrete)))
                scopes |= {node.name.rpartition("/")[0] for node in function.node_def}
    return found | dict(_others(found, scopes))


def _variables(objects: Any, concrete: Any) -> list[str]:
    """Names of the variables that a function captures, in their order; empty for what is none."""
    nodes = [objects.nodes[number] for number in concrete.bound_inputs]
    return [node.variable.name if node.WhichOneof("kind") == "variable" else "" for node in nodes]


def _read(function: Any, variables: list[str]) -> Iterator[tuple[str, str]]:
    """Scopes and layers of the operations of a function that read variables."""
    arguments = [a.name for a in function.signature.input_arg]
    captured = dict(zip(arguments[len(arguments) - len(variables) :], variables, strict=True)) if variables else {}
    # Keras calls all variables by the model that is made of layers as it is first called: those have one name then.
    shared = {name.rpartition("/")[0] for name, count in Counter(variables).items() if count > 1}
    for node in function.node_def:
        layer = captured.get(node.input[0], "").rpartition("/")[0] if node.input else ""
        if layer in shared and len(parts := node.name.split("/")) > INNER:
            yield "/".join(parts[:-2]), NUMBER.sub("", parts[-3])
        elif layer and (scope := _scope(node.name, layer.rpartition("/")[2])):
            yield scope, layer


def _scope(operation: str, layer: str) -> str:
    """Scope of an operation that is the layer's: it ends with the layer's name, maybe with numbers behind."""
    parts = operation.split("/")
    own = re.compile(re.escape(layer) + r"(_\d+)*")
    places = [place for place, part in enumerate(parts) if own.fullmatch(part)]
    return "/".join(parts[: places[-1] + 1]) if places else ""


def _others(found: Mapping[str, str], scopes: set[str]) -> Iterator[tuple[str, str]]:
    """Scopes and layers of those that have no variables, next to those that have."""
    # What a layer or a model that has a name itself computes between its layers is its own.
    beside = Counter(parent for scope in found if (parent := scope.rpartition("/")[0]) not in found)
    numbered = all(
        NUMBER.sub("", scope.rpartition("/")[2]) == layer.rpartition("/")[2] for scope, layer in found.items()
    )
    for inner in scopes if numbered else ():
        for parent in beside:
            if inner.startswith(f"{parent}/"):
                scope = f"{parent}/{inner.removeprefix(f'{parent}/').partition('/')[0]}"
                name = scope.rpartition("/")[2]
                if scope not in found and NUMBER.search(name):
                    yield scope, NUMBER.sub("", name)
