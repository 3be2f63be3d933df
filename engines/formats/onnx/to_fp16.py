"""An FP32 ONNX converted to FP16 inside: its inputs and outputs stay FP32, and so does what FP16 would make wrong.

Each node computes either in FP16 or in FP32, and a Cast stands where a tensor passes from one to the other.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.formats.onnx.fp32_parts import CONTROL, HALF, WIDE, View, clamps, fits, formal, graphs, kept_wide, of
from engines.formats.onnx.layers import bodies

if TYPE_CHECKING:
    from numpy.typing import NDArray

FP16_SMALLEST = 2.0**-24
"""The smallest positive float16 (subnormal): smaller constants are moved up to it instead of to zero."""


@dataclass(frozen=True)
class Converted:
    """An ONNX model in FP16, and what was done beyond rounding: constants clamped or moved, nodes left in FP32."""

    model: Any
    clamped: tuple[str, ...]
    kept_in_fp32: tuple[str, ...]
    moved: tuple[str, ...]


def to_fp16(model: Any) -> Converted:
    """Return an FP32 ONNX model (onnx.ModelProto, not changed) in FP16 inside, with FP32 inputs and outputs.

    Integers stay integers. Raises ConversionError where a constant does not fit FP16 and does more than push the input
    of a softmax away or bound a value. It names the node, the operator and the constant.
    """
    view = View(_prepared(model))
    wide = kept_wide(view)
    return _Writer(view, wide, clamps(view, wide)).written()


# Preparation


def _prepared(model: Any) -> Any:
    """Return a copy without functions, with names that are unique in all of it, and with the types of its tensors."""
    from onnx import inliner, shape_inference

    copy = inliner.inline_local_functions(model)
    _rename(copy.graph, {}, set(), set())
    for graph in graphs(copy.graph):
        _store_constants(graph)
    return shape_inference.infer_shapes(copy)


def _fresh(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, and take it."""
    number, found = 1, name
    while found in taken:
        number, found = number + 1, f"{name}__{number}"
    taken.add(found)
    return found


def _rename(graph: Any, outside: Mapping[str, str], tensors: set[str], nodes: set[str]) -> None:
    """Make names unique across a graph and those inside: branches of an If may use the same ones."""
    own = [v.name for v in graph.input] + [
        t.name for t in graph.initializer if t.name not in {v.name for v in graph.input}
    ]
    own += [name for node in graph.node for name in node.output if name]
    names = {**outside, **{name: _fresh(name, tensors) for name in own}}
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.name = _fresh(node.name or node.op_type, nodes)
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for body in bodies(node):
            _rename(body, names, tensors, nodes)


def _store_constants(graph: Any) -> None:
    """Turn float Constant nodes into stored tensors, and a fill with a float into an Expand of one."""
    from onnx import helper, numpy_helper

    kept = []
    for node in graph.node:
        value = _float_value(node)
        if value is not None and node.op_type == "Constant":
            graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
            continue
        if value is not None and not fits(value):
            fill = f"{node.output[0]}__value"
            graph.initializer.append(numpy_helper.from_array(value.reshape(()), fill))
            node = helper.make_node("Expand", [fill, node.input[0]], list(node.output), name=node.name)  # noqa: PLW2901
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _float_value(node: Any) -> NDArray[np.float32] | None:
    """Return the floats of a Constant or ConstantOfShape; None where there are none."""
    from onnx import numpy_helper

    if node.op_type not in {"Constant", "ConstantOfShape"}:
        return None
    for attribute in node.attribute:
        if attribute.name == "value" and attribute.t.data_type == WIDE:
            return np.asarray(numpy_helper.to_array(attribute.t))
        if attribute.name == "value_float":
            return np.asarray(attribute.f, np.float32)
        if attribute.name == "value_floats":
            return np.asarray(attribute.floats, np.float32)
    return None


# Writing


Have = MutableMapping[str, dict[int, str]]
"""The names under which each float tensor is there, in FP16 or FP32."""


@dataclass
class _Writer:
    """Writes the FP16 form of a prepared model, in place."""

    view: View
    wide: set[str]
    clamps: Mapping[tuple[str, int], float]
    clamped: dict[str, None] = field(default_factory=dict)
    moved: dict[str, None] = field(default_factory=dict)

    def written(self) -> Converted:
        """Write it all."""
        view, model = self.view, self.view.model
        self.taken = {*view.types, *view.readers, *view.makers}
        self.stored: dict[str, list[Any]] = {}
        self.shown = {v.name for v in model.graph.output}
        self._write(model.graph, {name: {WIDE: name} for name in view.floats(view.inputs)}, None)
        self._store()
        floats = (node for node in view.nodes.values() if view.floats([*node.input, *node.output]))
        kept = tuple(f"{node.op_type} {node.name!r}" for node in floats if node.name in self.wide)
        return Converted(model, tuple(self.clamped), kept, tuple(self.moved))

    def _write(self, graph: Any, have: Have, kind: int | None) -> None:
        """Write a graph; ``kind`` is what a node computes in that it is inside of, None for the model's own graph."""
        nodes: list[Any] = []
        if kind is not None:
            have.update(self._taken_in(graph, kind))
        for node in graph.node:
            before = list(self._read(node, have, nodes))
            nodes.append(node)
            nodes += self._made(node, before, have)
        for value in graph.output:
            if self.view.types.get(value.name) == WIDE:
                value.name = self._get(value.name, kind or WIDE, have, nodes)
                value.type.tensor_type.elem_type = kind or WIDE
        # They only repeat what follows from the rest, and are wrong now.
        del graph.value_info[:]
        _replace(graph.node, nodes)

    def _taken_in(self, graph: Any, kind: int) -> dict[str, dict[int, str]]:
        """Declare the floats that an inner graph is given as of this kind; return what is there of them."""
        values = [value for value in graph.input if value.type.tensor_type.elem_type == WIDE]
        for value in values:
            value.type.tensor_type.elem_type = kind
        return {value.name: {kind: value.name} for value in values}

    def _computes(self, node: Any) -> int:
        return WIDE if node.name in self.wide else HALF

    def _read(self, node: Any, have: Have, nodes: list[Any]) -> Iterator[str]:
        """Point a node at its inputs in the types that it takes; yield the type variables that are FP16."""
        computes, schema = self._computes(node), self.view.schema(node)
        for place, name in enumerate(node.input):
            if self.view.types.get(name) == WIDE:
                variable = "" if schema is None else formal(schema.inputs, place)
                kind = WIDE if variable == "tensor(float)" else computes
                node.input[place] = self._get(name, kind, have, nodes, node, place)
                if kind == HALF:
                    yield variable
        for body in bodies(node):
            self._write(body, ChainMap({}, have), computes)

    def _made(self, node: Any, variables: list[str], have: Have) -> list[Any]:
        """Note what a node makes, and in which type; return the Casts of what the model itself gives out."""
        casts = []
        schema = self.view.schema(node)
        for place, name in enumerate(node.output):
            if self.view.types.get(name) != WIDE:
                continue
            # The type of anything else is set by an attribute, and stays.
            half = of(node, {*CONTROL, "Cast"}) or (schema is not None and formal(schema.outputs, place) in variables)
            kind = HALF if half and self._computes(node) == HALF else WIDE
            if of(node, {"Cast"}) and kind == HALF:
                next(a for a in node.attribute if a.name == "to").i = HALF
            have[name] = {kind: name}
            if kind == HALF and name in self.shown:
                node.output[place] = have[name][HALF] = _fresh(f"{name}__fp16", self.taken)
                have[name][WIDE] = name
                casts.append(self._cast(node.output[place], name, WIDE))
        return casts

    def _get(self, name: str, kind: int, have: Have, nodes: list[Any], node: Any = None, place: int = 0) -> str:
        """Return the name of a tensor in FP16 or FP32; write the Cast, or store the constant, where it is not there."""
        if name in self.view.constants:
            return self._constant(name, kind, node, place)
        there = have[name]
        if kind not in there:
            source = there[HALF if kind == WIDE else WIDE]
            there = have[name] = {**there, kind: _fresh(f"{name}__fp{16 if kind == HALF else 32}", self.taken)}
            nodes.append(self._cast(source, there[kind], kind))
        return there[kind]

    def _cast(self, source: str, target: str, kind: int) -> Any:
        from onnx import helper

        return helper.make_node("Cast", [source], [target], name=f"{target}__cast", to=kind)

    def _constant(self, name: str, kind: int, node: Any, place: int) -> str:
        """Return the name of a stored tensor in FP16 or FP32, clamped where that node takes it clamped."""
        from onnx import numpy_helper

        values = self._clamped(name, node, place)
        if kind == HALF:
            values = self._narrow(name, values)
        versions = self.stored.setdefault(name, [])
        for version in versions:
            if version.data_type == kind and np.array_equal(numpy_helper.to_array(version), values, equal_nan=True):
                return str(version.name)
        title = _fresh(f"{name}__{len(versions)}", self.taken) if versions else name
        versions.append(numpy_helper.from_array(values, title))
        return title

    def _clamped(self, name: str, node: Any, place: int) -> NDArray[Any]:
        """Return a stored tensor as a node takes it, and note where that is clamped."""
        values = self.view.constants[name]
        limit = self.clamps.get((node.name, place)) if node is not None else None
        if limit is None:
            return values
        worst = values.flat[int(np.nanargmax(np.abs(values)))]
        change = f"{worst:.3g} to {np.sign(worst) * limit:.5g}"
        self.clamped[f"constant {name!r} of {node.op_type} {node.name!r}: {change}"] = None
        return np.asarray(np.clip(values, -limit, limit))

    def _narrow(self, name: str, values: NDArray[Any]) -> NDArray[np.float16]:
        """Round to FP16, but nothing to zero."""
        small = (np.abs(values) < FP16_SMALLEST) & (values != 0)
        if small.any():
            least = float(np.abs(values[small]).min())
            self.moved[f"constant {name!r}: {least:.3g} to FP16's smallest value {FP16_SMALLEST:.3g}"] = None
        return np.where(small, np.copysign(np.float32(FP16_SMALLEST), values), values).astype(np.float16)

    def _store(self) -> None:
        """Store the constants anew, each where it was; those that nothing reads are left out."""
        for graph in graphs(self.view.model.graph):
            stored = list(graph.initializer)
            new = [v for t in stored for v in (self.stored.get(t.name, []) if t.name in self.view.constants else [t])]
            _replace(graph.initializer, new)


def _replace(field_: Any, messages: list[Any]) -> None:
    """Put these messages, some of which are there already, in place of a repeated field's."""
    kept = [message.SerializeToString() for message in messages]
    del field_[:]
    for message in kept:
        field_.add().ParseFromString(message)
