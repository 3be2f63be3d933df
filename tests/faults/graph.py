"""Small edits of an ONNX graph: nodes are found by their operator, constants replaced, nodes put in or taken out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from faults.made import Made

SAME = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "DequantizeLinear", "QuantizeLinear")
"""Operators that only hand on what they are given."""


class UnchangedError(ValueError):
    """A change that leaves a constant what it is, as one that rounding takes away."""


def nodes(model: Any, *operators: str) -> list[Any]:
    """Nodes of the operators, in the order of the graph."""
    return [n for n in model.graph.node if n.op_type in operators]


def node(model: Any, operator: str, which: int = 0) -> Any:
    """One node of an operator: the first, unless ``which`` says otherwise; IndexError where there is none."""
    return nodes(model, operator)[which]


def array(model: Any, name: str) -> Any:
    """Values of a constant; KeyError where the name is none."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor).copy()
    raise KeyError(name)


def constants(model: Any) -> set[str]:
    """Names of the constants."""
    return {tensor.name for tensor in model.graph.initializer}


def add_constant(model: Any, name: str, values: Any) -> str:
    """Add a constant; returns its name."""
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
    return name


def change(model: Any, name: str, function: Callable[[Any], Any]) -> None:
    """Replace a constant by what the function makes of its array, in its own type; UnchangedError where it is that."""
    from onnx import numpy_helper

    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    before = numpy_helper.to_array(tensor)
    values = np.asarray(function(before.copy()), order="C")
    values = values.astype(before.dtype) if values.dtype.kind == before.dtype.kind else values
    if values.shape == before.shape and (values == before).all():
        raise UnchangedError(f"{name}: nothing was changed")
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def stored(model: Any, name: str) -> str:
    """Name of the constant that a tensor is, or is dequantized from."""
    while name not in constants(model):
        (maker,) = (n for n in model.graph.node if name in n.output)
        name = maker.input[0]
    return name


def weights(model: Any, which: int = 0) -> tuple[Any, str]:
    """A layer of weights, by its place among all, and the name of them."""
    found = []
    for candidate in nodes(model, "Conv", "ConvTranspose", "MatMul", "Gemm"):
        try:
            found.append((candidate, stored(model, candidate.input[1])))
        except ValueError:
            continue  # both sides of the product are computed
    found = [(layer, name) for layer, name in found if array(model, name).ndim > 1]
    return found[which]


def bias(model: Any, which: int = -1) -> str:
    """Name of a bias: a vector that is added, or a layer's third input; by its place among all."""
    known = constants(model)
    found = [
        i
        for n in nodes(model, "Add", "Conv", "Gemm")
        for i in (n.input if n.op_type == "Add" else n.input[2:])
        if i in known and array(model, i).ndim == 1
    ]
    return found[which]


def set_attribute(layer: Any, **values: Any) -> None:
    """Set attributes of a node, in place of those of the names."""
    from onnx import helper

    kept = [a for a in layer.attribute if a.name not in values]
    del layer.attribute[:]
    layer.attribute.extend([*kept, *(helper.make_attribute(n, v) for n, v in values.items() if v is not None)])


def attribute(layer: Any, name: str) -> Any:
    """Value of an attribute of a node; None where it has none."""
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in layer.attribute if a.name == name), None)


def place(model: Any, layer: Any) -> int:
    """Number of a node in the graph."""
    return next(i for i, n in enumerate(model.graph.node) if n is layer or n == layer)


def operator(layer: Any, kind: str, **values: Any) -> None:
    """Make a node one of another operator, with attributes of its own."""
    layer.op_type = kind
    del layer.attribute[:]
    set_attribute(layer, **values)


def behind(model: Any, layer: Any, kind: str, more: tuple[str, ...] = (), **values: Any) -> Any:
    """Put a node behind the first output of another: whoever read that, reads the new node; returns it."""
    from onnx import helper

    output = layer.output[0]
    inner = f"{output}/before_{kind}"
    layer.output[0] = inner
    added = helper.make_node(kind, [inner, *more], [output], name=f"planted_{kind}_{len(model.graph.node)}", **values)
    model.graph.node.insert(place(model, layer) + 1, added)
    return added


def in_front(model: Any, kind: str, more: tuple[str, ...] = (), which: int = 0, **values: Any) -> Any:
    """Put a node between an input of the model and everything that reads it; returns it."""
    from onnx import helper

    given = model.graph.input[which].name
    changed = f"{given}/after_{kind}_{len(model.graph.node)}"
    for reader in model.graph.node:
        reader.input[:] = [changed if i == given else i for i in reader.input]
    added = helper.make_node(kind, [given, *more], [changed], name=f"planted_{kind}_{len(model.graph.node)}", **values)
    model.graph.node.insert(0, added)
    return added


def take_out(model: Any, layer: Any) -> None:
    """Take a node out: whoever read it reads what it read; an output of the model keeps its name."""
    output, before = layer.output[0], layer.input[0]
    model.graph.node.remove(layer)
    if output in {o.name for o in model.graph.output}:
        for other in model.graph.node:
            other.output[:] = [output if o == before else o for o in other.output]
            other.input[:] = [output if i == before else i for i in other.input]
        return
    for other in model.graph.node:
        other.input[:] = [before if i == output else i for i in other.input]


def sort(model: Any) -> None:
    """Put each node behind those that it reads, as ONNX asks for."""
    left, sorted_ = list(model.graph.node), []
    known = constants(model) | {value.name for value in model.graph.input} | {""}
    while left:
        ready = [n for n in left if known.issuperset(n.input)]
        if not ready:
            raise ValueError(f"{left[0].name}: reads what nothing makes, or itself")
        sorted_ += ready
        known.update(o for n in ready for o in n.output)
        left = [n for n in left if not any(n is one for one in ready)]
    del model.graph.node[:]
    model.graph.node.extend(sorted_)


def rename_outputs(model: Any, names: dict[str, str]) -> None:
    """Exchange the names of outputs, wherever they are read."""
    for other in model.graph.node:
        other.output[:] = [names.get(o, o) for o in other.output]
        other.input[:] = [names.get(i, i) for i in other.input]


def write(sound: Path, edit: Callable[[Any], None], path: Path) -> Path:
    """Write a sound file with an edit of its graph, which ONNX's checker still takes; returns the path."""
    import onnx

    model = onnx.load(str(sound))
    edit(model)
    # Shapes between were inferred of the graph as it was.
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def edited(variant: str, edit: Callable[[Any], None]) -> Callable[[Made, Path], list[str]]:
    """What writes a variant's sound file with an edit of its graph, and returns the option that brings it."""
    return lambda made, folder: [f"--onnx={write(made.file(variant), edit, folder / 'planted.onnx')}"]
