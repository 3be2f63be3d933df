"""Parts of a graph between tensors: each is given what it takes, so that its own error is seen, and no other's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from engines.formats.onnx.layers import bodies


def own(name: str) -> str:
    """Name of a tensor as a part computes it, where the parts behind are given another one in its place."""
    return f"{name}/own"


def output(name: str, given: Collection[str]) -> str:
    """Name of the output of a part that is a target: its own where the tensor is given as well."""
    return own(name) if name in given else name


def cut(model: Any, targets: Iterable[str], given: Collection[str]) -> Any:
    """Model that computes ``targets`` from tensors that are ``given``, and whose outputs are named by :func:`output`.

    Targets may be given as well: then it takes one by its name, and computes the other. What is no target's is left
    out; inputs that remain are those that are needed.
    """
    import onnx
    from onnx import TensorProto, helper

    chosen = list(dict.fromkeys(targets))
    wanted, nodes = set(chosen), []
    for node in reversed(model.graph.node):
        if wanted.isdisjoint(node.output):
            continue
        nodes.append(node)
        wanted.difference_update(node.output)
        wanted.update(name for name in taken(node) if name not in given)
    # Of what is computed nothing is wanted any more, but for a target that is an input of the model itself.
    used = {name for node in nodes for name in taken(node)}
    result = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    result.graph.name = model.graph.name
    for node in reversed(nodes):
        kept = result.graph.node.add()
        kept.CopyFrom(node)
        for place, name in enumerate(kept.output):
            if name in given:
                kept.output[place] = own(name)
    result.graph.initializer.extend(t for t in model.graph.initializer if t.name in used)
    result.graph.input.extend(i for i in model.graph.input if i.name in used)
    there = {i.name for i in result.graph.input} | {t.name for t in result.graph.initializer}
    for name in sorted(used.intersection(given) - there):
        result.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    result.graph.output.extend(helper.make_empty_tensor_value_info(output(name, given)) for name in chosen)
    return result


def taken(node: Any) -> Iterator[str]:
    """Names of all tensors that a node takes, those that the graphs inside of it see among them."""
    yield from (name for name in node.input if name)
    for body in bodies(node):
        for inner in body.node:
            yield from taken(inner)
