"""Reading and changing ONNX graphs: types that ONNX Runtime finds, consumers, constants, a value's replacement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trial.twin.errors import TwinError
from trial.twin.operators import SETTINGS

if TYPE_CHECKING:
    from numpy.typing import NDArray

CPU = "CPUExecutionProvider"

FLOAT = "tensor(float)"

OLDEST = 11
"""The oldest opset whose operators a twin is made of."""


@dataclass
class Graph:
    """ONNX model that is changed in place, and what there is to know of it.

    ``types`` and ``shapes`` are by tensor name: ONNX Runtime's type, and sizes or None where they are dynamic.
    """

    model: Any
    opset: int
    types: Mapping[str, str]
    shapes: Mapping[str, tuple[int | None, ...]]
    constants: dict[str, NDArray[Any]]
    consumers: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any) -> Graph:
        """Copy a model, with functions inlined and constants as initializers; raises TwinError where it cannot run."""
        import onnx
        from onnx import inliner, numpy_helper

        copied = onnx.ModelProto()
        copied.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
        opset = next((o.version for o in copied.opset_import if o.domain in {"", "ai.onnx"}), 0)
        if opset < OLDEST:
            raise TwinError(f"the model is of opset {opset}; a twin takes {OLDEST} and later")
        _constants_as_initializers(copied.graph)
        types, shapes = _known(copied)
        constants = {t.name: numpy_helper.to_array(t) for t in copied.graph.initializer}
        graph = cls(copied, opset, types, shapes, constants)
        for node in copied.graph.node:
            for name in node.input:
                graph.consumers.setdefault(name, []).append(node)
        return graph

    @property
    def nodes(self) -> Any:
        """Nodes in their order."""
        return self.model.graph.node

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return [o.name for o in self.model.graph.output]

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs, without the weights that some files list among them."""
        return [i.name for i in self.model.graph.input if i.name not in self.constants]

    @property
    def values(self) -> dict[str, NDArray[Any]]:
        """FP32 constants that a precision may round, by name: all but those that say how an operator works."""
        settings = {n for node in self.nodes for n in node.input[SETTINGS.get(node.op_type, len(node.input)) :]}
        floats = {name: a for name, a in self.constants.items() if a.dtype == "float32" and a.size}
        return {name: a for name, a in floats.items() if name not in settings}

    def is_float(self, name: str) -> bool:
        """Whether a tensor holds FP32 numbers."""
        return self.types.get(name) == FLOAT or (name in self.constants and self.constants[name].dtype == "float32")

    def only_consumer(self, name: str) -> Any | None:
        """The one node that takes a tensor; None where there are several or none, or it is an output."""
        found = self.consumers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs else None

    def insert(self, after: Mapping[str, list[Any]]) -> None:
        """Put nodes between tensors and those who take them: each list makes its tensor from ``exact(tensor)``."""
        nodes = [made for name in self.inputs for made in after.get(name, [])]
        fed = {name for name in self.inputs if name in after}
        for node in self.nodes:
            new = type(node)()
            new.CopyFrom(node)
            for place, name in enumerate(new.output):
                if name in after:
                    new.output[place] = exact(name)
            nodes.append(new)
            nodes += [made for name in node.output for made in after.get(name, [])]
        del self.nodes[:]
        self.nodes.extend(nodes)
        for value in self.model.graph.input:
            if value.name in fed:
                value.name = exact(value.name)
        del self.model.graph.value_info[:]

    def feed(self, names: Iterable[str]) -> None:
        """Turn initializers into inputs, which every run is given anew."""
        from onnx import helper

        wanted = set(names)
        kept = [t for t in self.model.graph.initializer if t.name not in wanted]
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(kept)
        listed = {i.name for i in self.model.graph.input}
        for name in sorted(wanted - listed):
            values = self.constants[name]
            self.add_input(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)

    def add_input(self, name: str, dtype: int, shape: Iterable[int]) -> None:
        """Add an input of a type and shape."""
        from onnx import helper

        self.model.graph.input.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def add_constant(self, name: str, values: NDArray[Any]) -> str:
        """Add an initializer; returns its name."""
        from onnx import numpy_helper

        self.model.graph.initializer.append(numpy_helper.from_array(values, name))
        return name


def exact(name: str) -> str:
    """Name of a tensor before it is rounded."""
    return f"{name}/exact"


def session(model: Any, *, optimized: bool = True) -> Any:
    """Open a model in ONNX Runtime; raises TwinError with its first line where that fails."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.use_deterministic_compute = True
    # Between short runs a thread that spins takes a quarter of all processor time, and gives nothing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=[CPU])
    except Exception as error:  # a dozen unrelated types
        raise TwinError(f"ONNX Runtime cannot load the FP32 graph: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """First line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _constants_as_initializers(graph: Any) -> None:
    """Take the tensors of Constant nodes out of them."""
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type != "Constant" or value is None or node.output[0] in {o.name for o in graph.output}:
            kept.append(node)
            continue
        tensor = type(value)()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    if len(kept) < len(graph.node):
        nodes = [type(n)() for n in kept]
        for new, node in zip(nodes, kept, strict=True):
            new.CopyFrom(node)
        del graph.node[:]
        graph.node.extend(nodes)


def _known(model: Any) -> tuple[dict[str, str], dict[str, tuple[int | None, ...]]]:
    """Types and shapes of all that a model takes and computes, as ONNX Runtime finds them."""
    import onnx
    from onnx import helper

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    there = {output.name for output in shown.graph.output}
    computed = [name for node in shown.graph.node for name in node.output if name and name not in there]
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in computed)
    opened = session(shown, optimized=False)
    values = (*opened.get_inputs(), *opened.get_outputs())
    sizes = {v.name: tuple(d if isinstance(d, int) else None for d in v.shape or ()) for v in values}
    return {v.name: v.type for v in values}, sizes
