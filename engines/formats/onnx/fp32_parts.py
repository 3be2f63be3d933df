"""What of an ONNX model stays in FP32 where the rest is converted to FP16, and what its constants are clamped to.

It is found from the graph alone. In FP32 stay operators that ONNX defines for FP32 only, and what ends in integers, as
ids and shapes do. So do arithmetic on the inputs before the first weights, and norms, whose squares leave FP16's range
first.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ConversionError
from engines.formats.onnx.layers import bodies

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FP16_LARGEST = 65504.0
"""The largest finite float16 (IEEE 754 binary16)."""

SMALLEST_NORMAL = 2.0**-14
"""Below it float16 loses digits: factors of this size are multiplied in FP32."""

PUSH = 30000.0
"""What a mask is clamped to: two of them, and the scores that they are added to, still are finite in FP16."""

GAP = 1000.0
"""How far a clamped mask must still push a softmax's input: e^-1000 is zero in FP32, too."""

MOVES = _words(
    "Identity Cast Reshape Squeeze Unsqueeze Transpose Flatten Slice Gather GatherND GatherElements Concat Expand Tile "
    "Split Pad DepthToSpace SpaceToDepth ReverseSequence Compress Relu LeakyRelu"
)
"""Operators that pass values on as they are, or leave some out."""

ARITHMETIC = _words(
    "Add Sub Mul Div Neg Abs Sqrt Pow Exp Log Reciprocal Floor Ceil Round Sign Min Max Clip Mod Sum Mean Sin Cos Tan "
    "Where CumSum Range ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
    "ReduceLogSum ReduceLogSumExp"
)
"""Operators that compute values, element by element or of a few, without weights."""

DECISIONS = _words("Equal Greater GreaterOrEqual Less LessOrEqual IsInf IsNaN NonZero ArgMax ArgMin OneHot Cast")
"""Operators that make integers or booleans of floats."""

KEPT = _words(
    "NonMaxSuppression TopK CumSum Range RoiAlign DFT STFT EyeLike RandomNormalLike RandomUniformLike Bernoulli "
    "Multinomial"
)
"""Operators that stay in FP32 though ONNX has some in FP16: they rank, add up long rows, or draw."""

SUMS = _words("ReduceSum ReduceMean GlobalAveragePool")
"""Operators that sum up squares where a norm is written out."""

CONTROL = ("If", "Loop", "Scan")

SATURATES = ("Softmax", "Hardmax", "ArgMax", "Exp", "Sigmoid")
"""Operators of which nothing is left to see how far away an input was pushed."""

CONSTANT, RAW, STATE, MADE = range(4)
"""What a float is made of by moves and arithmetic alone: constants, inputs, a loop's state; or by anything else."""

HALF, WIDE = 10, 1
"""TensorProto's FLOAT16 and FLOAT."""


def graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and all that are inside of its nodes."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from graphs(body)


def fits(values: NDArray[Any]) -> bool:
    """Whether all values are within FP16's finite range, or NaN."""
    return not bool((np.abs(values) > FP16_LARGEST).any())


def of(node: Any, operators: Any) -> bool:
    """Whether a node is one of ONNX's own operators of these names."""
    return node.domain in {"", "ai.onnx"} and node.op_type in operators


class View:
    """A prepared model seen as one: all nodes by name, inner ones too, and which of them make and read a tensor."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.model = model
        self.types: dict[str, int | None] = {}
        self.constants: dict[str, NDArray[Any]] = {}
        self.nodes: dict[str, Any] = {}
        self.inside: dict[str, list[str]] = {}
        self.makers: dict[str, str] = {}
        self.entering: dict[str, str] = {}
        self.readers: dict[str, list[tuple[Any, int]]] = {}
        self.inputs = {v.name for v in model.graph.input}
        self.outputs = {v.name for graph in graphs(model.graph) for v in graph.output}
        for graph in graphs(model.graph):
            stored = [t for t in graph.initializer if t.name not in self.inputs]
            self.types |= {t.name: t.data_type for t in graph.initializer}
            self.constants |= {t.name: numpy_helper.to_array(t) for t in stored if t.data_type == WIDE}
            for value in (*graph.value_info, *graph.input, *graph.output):
                if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type:
                    self.types[value.name] = value.type.tensor_type.elem_type
                elif value.type.WhichOneof("value") not in {None, "tensor_type"}:
                    self.types[value.name] = None
            for node in graph.node:
                self._add(node)
        self._origins: dict[str, int] = {}

    def _add(self, node: Any) -> None:
        self.nodes[node.name] = node
        self.makers |= {name: node.name for name in node.output if name}
        for place, name in enumerate(node.input):
            self.readers.setdefault(name, []).append((node, place))
        for body in bodies(node):
            self.entering |= {value.name: node.name for value in body.input}
            self.inside.setdefault(node.name, []).extend(n.name for n in body.node)

    def maker(self, tensor: str) -> Any:
        """Return the node that makes a tensor; None where none does."""
        return self.nodes.get(self.makers.get(tensor, ""))

    def floats(self, names: Any) -> list[str]:
        """Those of these tensors that are FP32."""
        return [name for name in names if self.types.get(name) == WIDE]

    def known(self, node: Any) -> bool:
        """Whether all that a node takes and makes, and what passes its bodies, is tensors of a known type."""
        names = [n for n in (*node.input, *node.output) if n]
        return all(self.types.get(n) is not None for n in names)

    def origin(self, tensor: str) -> int:
        """Return what a float tensor is made of."""
        if tensor not in self._origins:
            # Deep graphs are gone through with a list, for Python's stack is short.
            todo = [tensor]
            while todo:
                needed = [n for n in self._sources(todo[-1]) if n not in self._origins]
                if needed:
                    todo += needed
                else:
                    name = todo.pop()
                    self._origins[name] = self._origin(name)
        return self._origins[tensor]

    def _sources(self, tensor: str) -> list[str]:
        node = self.maker(tensor)
        return self.floats(node.input) if node is not None and of(node, MOVES | ARITHMETIC) else []

    def _origin(self, tensor: str) -> int:
        node = self.maker(tensor)
        if node is None:
            return CONSTANT if tensor in self.constants else STATE if tensor in self.entering else RAW
        if not of(node, MOVES | ARITHMETIC):
            return MADE
        if node.op_type == "Cast" and not self._sources(tensor):
            # Zero and one are as exact in FP16 as any constant; what was FP16 already is so.
            return {9: CONSTANT, HALF: MADE}.get(self.types.get(node.input[0]) or 0, RAW)
        least = RAW if node.op_type in {"Range", "CumSum"} else CONSTANT
        return max([least, *(self._origins[name] for name in self._sources(tensor))])

    @cached_property
    def opsets(self) -> dict[str, int]:
        """The version of each domain's operators."""
        return {o.domain if o.domain != "ai.onnx" else "": o.version for o in self.model.opset_import}

    def schema(self, node: Any) -> Any:
        """Return ONNX's definition of an operator; None where it has none."""
        from onnx import defs

        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain not in self.opsets or not defs.has(node.op_type, domain):
            return None
        try:
            return defs.get_schema(node.op_type, self.opsets[domain], domain)
        except defs.SchemaError:
            return None


def formal(formals: Any, place: int) -> str:
    """Return the type that a definition gives to an input or output: a variable, or ``tensor(float)``."""
    return str(formals[min(place, len(formals) - 1)].type_str)


# What stays in FP32


def kept_wide(view: View) -> set[str]:
    """Return the names of the nodes that stay in FP32."""
    return _Wide(view).found()


class _Wide:
    """Finds the nodes that stay in FP32."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.names: set[str] = set()

    def found(self) -> set[str]:
        """Return the names of the nodes that stay in FP32."""
        for node in self.view.nodes.values():
            floats = self.view.floats([*node.input, *node.output])
            if self._only_in_fp32(node) or (floats and (self._exact(node) or self._small(node))):
                self.mark(node)
            elif floats and not of(node, CONTROL):
                self._exact_inputs(node)
            if of(node, {"Cast"}) and self._to_integer(node):
                self._back(node.input[0], every=True)
            self._norm(node)
        return self.names

    def mark(self, node: Any) -> None:
        """Keep a node in FP32, with what is inside of it, and with what only moves and computes inputs for it."""
        todo = [node.name]
        while todo:
            name = todo.pop()
            if name not in self.names:
                self.names.add(name)
                todo += self.view.inside.get(name, [])
                for tensor in self.view.floats(self.view.nodes[name].input):
                    self._back(tensor)

    def _back(self, tensor: str, every: bool = False) -> None:
        """Keep in FP32 what a tensor is computed from, as far as moves and arithmetic go.

        Unless ``every``, only what is computed of inputs alone: of anything else the digits are lost already.
        """
        todo, seen = [tensor], {tensor}
        while todo:
            name = todo.pop()
            if not every and self.view.origin(name) not in {RAW, STATE}:
                continue
            node = self.view.maker(name)
            owner = node if node is not None else self.view.nodes.get(self.view.entering.get(name, ""))
            if owner is not None and (node is None or of(node, MOVES | ARITHMETIC | set(CONTROL))):
                if owner.name not in self.names:
                    self.mark(owner)
                sources = [n for n in self.view.floats(owner.input) if n not in seen]
                seen.update(sources)
                todo += sources if node is not None and of(node, MOVES | ARITHMETIC) else []

    def _only_in_fp32(self, node: Any) -> bool:
        """Whether an operator has no FP16, or takes or makes what is not known to be a tensor."""
        view = self.view
        if of(node, CONTROL):
            ends = [v.name for body in bodies(node) for v in (*body.input, *body.output)]
            # Sequences may pass a loop, but what has no type at all may not.
            return any(name not in view.types for name in (*ends, *node.output) if name)
        schema = view.schema(node)
        if schema is None or not view.known(node) or of(node, KEPT):
            return True
        allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
        kinds = [formal(schema.inputs, i) for i, name in enumerate(node.input) if view.types.get(name) == WIDE]
        return any(kind in allowed and "tensor(float16)" not in allowed[kind] for kind in kinds) or (
            bool(kinds) and all(kind not in allowed for kind in kinds)
        )

    def _exact(self, node: Any) -> bool:
        """Whether a node computes with inputs as they came, or decides by them or by what does not fit FP16."""
        view = self.view
        floats = view.floats(node.input)
        if of(node, {"Cast"}):
            whole = view.types.get(node.input[0]) not in {WIDE, HALF, 9}
            return self._to_integer(node) or (whole and bool(view.floats(node.output)))
        if of(node, DECISIONS) and floats:
            origins = [view.origin(name) for name in floats]
            beyond = any(not fits(view.constants[name]) for name in floats if name in view.constants)
            return beyond or max(origins) in {RAW, STATE}
        if not of(node, ARITHMETIC):
            return False
        made = [view.origin(name) for name in node.output if name]
        divisor = node.op_type == "Div" and view.origin(node.input[1]) == RAW
        return divisor or max(made) == RAW

    def _to_integer(self, node: Any) -> bool:
        """Whether a Cast makes integers of FP32, or booleans of inputs as they came."""
        view, to = self.view, next(a.i for a in node.attribute if a.name == "to")
        if view.types.get(node.input[0]) != WIDE or to in {WIDE, HALF, 11, 16}:
            return False
        return to != 9 or view.origin(node.input[0]) in {RAW, STATE}

    def _small(self, node: Any) -> bool:
        """Whether a node multiplies or divides by constants that are too small for FP16 to have their digits."""
        factors = [self.view.constants[n] for n in node.input if n in self.view.constants]
        sizes = [float(np.abs(c).max(initial=0.0)) for c in factors]
        return of(node, {"Mul", "Div"}) and any(0 < size < SMALLEST_NORMAL for size in sizes)

    def _exact_inputs(self, node: Any) -> None:
        """Keep in FP32 what is computed for an input that always is, such as the scales of a Resize."""
        schema = self.view.schema(node)
        for place, name in enumerate(node.input):
            if self.view.types.get(name) == WIDE and formal(schema.inputs, place) == "tensor(float)":
                self._back(name)

    def _norm(self, node: Any) -> None:
        """Keep a norm in FP32: a sum of squares, its root, what is divided or multiplied by that, and a sum with it."""
        if not self._squares(node):
            return
        self.mark(node)
        todo, seen = list(node.output), set(node.output)
        while todo:
            for reader, _ in self.view.readers.get(todo.pop(), []):
                others = [n for n in self.view.floats(reader.input) if n not in seen]
                alone = all(self.view.origin(n) == CONSTANT for n in others)
                if alone and of(reader, MOVES | ARITHMETIC | SUMS) and not of(reader, {"Relu", "LeakyRelu"}):
                    self.mark(reader)
                    todo += [n for n in reader.output if n not in seen]
                    seen.update(reader.output)
                elif of(reader, {"Mul", "Div"}):
                    self.mark(reader)
                    for last, _ in self.view.readers.get(reader.output[0], []):
                        if of(last, {"Add", "Sub"}):
                            self.mark(last)

    def _squares(self, node: Any) -> bool:
        """Whether a node computes squares that are summed up next, or the sum itself."""
        if of(node, {"ReduceSumSquare", "ReduceL2"}):
            return True
        power = self.view.constants.get(node.input[1]) if of(node, {"Pow"}) else None
        square = of(node, {"Mul"}) and node.input[0] == node.input[1]
        if not square and (power is None or power.size != 1 or float(power.item()) != 2):
            return False
        readers = self.view.readers.get(node.output[0], [])
        return bool(readers) and all(of(reader, SUMS) for reader, _ in readers)


# Constants beyond FP16


def clamps(view: View, wide: set[str]) -> dict[tuple[str, int], float]:
    """Return what a constant beyond FP16 is clamped to, by the node and the place of the input that it is.

    Raises ConversionError where one matters as it is.
    """
    found = {}
    for name, values in view.constants.items():
        for node, place in view.readers.get(name, []) if not fits(values) else []:
            limit = _Push(view).limit(name, node, place)
            if limit is None and node.name not in wide:
                limit = _bound(node, place, values)
            if limit is not None:
                found[node.name, place] = limit
            elif node.name not in wide:
                _refuse_beyond(name, values, node)
    return found


def _refuse_beyond(name: str, values: NDArray[Any], node: Any) -> None:
    """Raise ConversionError where a constant has finite values beyond FP16; infinity is one of FP16's values."""
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if largest > FP16_LARGEST:
        raise ConversionError(
            f"{node.op_type} {node.name!r}: constant {name!r} reaches {largest:.3g}, beyond FP16's largest value "
            f"{FP16_LARGEST:.0f}; leave fp16 out of this model's precisions, or rescale the constant (only one that "
            "pushes the input of a softmax away is clamped)"
        )


def _bound(node: Any, place: int, values: NDArray[Any]) -> float | None:
    """Return FP16's largest value where a constant is a bound beyond it, and so none for values in FP16."""
    beyond = values[np.abs(values) > FP16_LARGEST]
    sides = {"Min": 1, "Max": -1, "Clip": {1: -1, 2: 1}.get(place, 0)}
    side = sides.get(node.op_type, 0) if of(node, sides) else 0
    return FP16_LARGEST if side and bool((beyond * side > 0).all()) else None


class _Push:
    """Finds out whether all that a constant does is to push the input of a softmax away, as masks do."""

    def __init__(self, view: View) -> None:
        self.view = view

    def limit(self, name: str, node: Any, place: int) -> float | None:
        """Return what a constant can be clamped to where ``node`` takes it; None where it matters as it is."""
        factors = self._enters(name, node, place)
        if not factors:
            return None
        limit = PUSH / max(1.0, *factors)
        return limit if limit * min(factors) >= GAP else None

    def _enters(self, name: str, node: Any, place: int) -> list[float] | None:
        """Follow a constant through a node that may make a mask of it; list the factors it meets to the softmaxes."""
        values = self.view.constants.get(name)
        other = [n for i, n in enumerate(node.input) if i != place]
        mixed = values is not None and self._mask(values)
        if (
            (of(node, {"Where"}) and place > 0)
            or (of(node, {"Mul"}) and self._flags(other[0]))
            or (of(node, {"Add"}) and mixed)
        ):
            return self._pushed(node.output[0], 1.0)
        if of(node, MOVES) and place == 0 and values is not None and values.size == 1:
            ways = [self._enters(node.output[0], *reader) for reader in self.view.readers.get(node.output[0], [])]
            return None if None in ways or self._seen(node.output[0]) else [f for way in ways for f in way or []]
        return None

    def _mask(self, values: NDArray[Any]) -> bool:
        """Whether a stored tensor leaves some elements alone and pushes the others down."""
        beyond = np.abs(values) > FP16_LARGEST
        return not bool(beyond.all()) and bool((values[beyond] < 0).all())

    def _seen(self, tensor: str) -> bool:
        return tensor in self.view.outputs

    def _pushed(self, tensor: str, factor: float) -> list[float] | None:
        """Factors by which a pushed tensor reaches softmaxes; None where it reaches anything else."""
        if self._seen(tensor):
            return None
        factors: list[float] = []
        for node, place in self.view.readers.get(tensor, []):
            other = [n for i, n in enumerate(node.input) if i != place]
            if of(node, SATURATES):
                found: list[float] | None = [factor]
            elif of(node, {"Mul", "Div"}):
                scale = self._scale(node, place, other[0])
                found = None if scale is None else self._pushed(node.output[0], factor * scale)
            elif of(node, {"Add", "Sub", "Neg", "Min", "Max", "ReduceMax", "ReduceMin", "Where"} | MOVES - {"Relu"}):
                found = self._pushed(node.output[0], factor) if self.view.floats(node.output) else None
            else:
                found = None
            if found is None:
                return None
            factors += found
        return factors

    def _scale(self, node: Any, place: int, other: str) -> float | None:
        """Return the least factor by which a Mul or Div scales an input; None where that is not known."""
        if other in self.view.constants:
            sizes = np.abs(self.view.constants[other]).astype(np.float64)
            if sizes.size and float(sizes.min()) > 0:
                return float(sizes.min()) if node.op_type == "Mul" else 1 / float(sizes.max()) if place == 0 else None
        return 1.0 if node.op_type == "Mul" and self._flags(other) else None

    def _flags(self, tensor: str) -> bool:
        """Whether a tensor is whole numbers, or an input of the model, as a mask is: nothing computed finely."""
        node = self.view.maker(tensor)
        if node is None:
            return tensor not in self.view.entering and tensor not in self.view.constants
        if of(node, {"Sign", "Floor", "Ceil", "Round"}) or (of(node, {"Cast"}) and not self.view.floats(node.input)):
            return True
        through = MOVES | {"Add", "Sub", "Mul", "Neg", "Abs", "Min", "Max", "Clip", "Where", "ReduceMax", "ReduceMin"}
        computed = [n for n in self.view.floats(node.input) if n not in self.view.constants]
        return of(node, through) and bool(computed) and all(self._flags(n) for n in computed)
