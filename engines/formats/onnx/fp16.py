"""What becomes of an ONNX graph's answers where it keeps values in FP16 that do not fit there.

Running it on a CPU does not tell: ONNX Runtime computes most of FP16 in FP32 there and leaves out the casts in between.
So a value beyond FP16's range, infinite on a GPU, goes through as it is. Here the graph is widened to FP32, which every
machine computes alike. Then it is limited: infinity takes the place of each value that FP16 could not have kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.onnx.fp32_parts import FP16_LARGEST
from engines.formats.onnx.layers import bodies
from engines.formats.onnx.runner import CPU, OnnxRunner

if TYPE_CHECKING:
    from engines.model.spec import ModelSpec
    from engines.runner import Arrays
    from engines.variant import Variant

INFINITE = 65520.0
"""The smallest magnitude that becomes infinite in FP16: halfway from the largest value to the next power of two."""

TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
"""The attributes by which an operator is told the type of what it gives."""


@dataclass(frozen=True)
class Overflow:
    """A tensor that does not fit FP16: its name, the operator that gives it, and its largest finite magnitude."""

    tensor: str
    operator: str
    largest: float


def kept_in_fp16(path: Path) -> list[str]:
    """Names of the tensors that a graph computes and keeps in FP16, in its order, but for those in loops and branches.

    Which type an operator gives is ONNX Runtime's word: onnx itself knows the standard operators only.
    """
    model = load_inlined(path)
    computed = (node for node in model.graph.node if node.op_type != "Constant")
    expose(model, (name for node in computed for name in node.output if name))
    return [output.name for output in _session(model).get_outputs() if output.type == "tensor(float16)"]


def widened(path: Path) -> Any:
    """Model with FP32 wherever it has FP16, and the same weights."""
    from onnx import TensorProto, numpy_helper

    model = load_inlined(path)
    for graph in _graphs(model.graph):
        attributes = [a for node in graph.node for a in node.attribute]
        for tensor in (*graph.initializer, *(a.t for a in attributes if a.HasField("t"))):
            if tensor.data_type == TensorProto.FLOAT16:
                wide = numpy_helper.to_array(tensor).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
        for attribute in attributes:
            if attribute.name in TYPE_ATTRIBUTES and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        # The bodies of loops declare the types of what they are given, too.
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        # They only repeat what follows from the rest, and are wrong now.
        del graph.value_info[:]
    return model


def limited(model: Any, tensors: Collection[str]) -> Any:
    """The widened model with infinity, of its sign, in place of each value of ``tensors`` that FP16 cannot hold."""
    import onnx
    from onnx import helper, numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    limit = "the magnitude that is infinite in FP16"
    result.graph.initializer.append(numpy_helper.from_array(np.float32(INFINITE), limit))
    nodes = []
    for node in result.graph.node:
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in tensors:
                # Divided by one where it fits, and by zero where it does not: in operators that every opset has.
                value, size, fits, divisor = (f"{name}, {part}" for part in ("in FP32", "size", "fits", "divisor"))
                node.output[place] = value
                nodes += [
                    helper.make_node("Abs", [value], [size]),
                    helper.make_node("Less", [size, limit], [fits]),
                    helper.make_node("Cast", [fits], [divisor], to=onnx.TensorProto.FLOAT),
                    helper.make_node("Div", [value, divisor], [name]),
                ]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


class InFp16(AbstractContextManager["InFp16"]):
    """An ONNX file in FP32, run as it is by ``plain``, and without what FP16 cannot hold of ``tensors`` by ``limited``.

    Raises RunnerError where ONNX Runtime cannot run it in FP32.
    """

    def __init__(self, spec: ModelSpec, variant: Variant, path: Path, tensors: list[str]) -> None:
        import onnx

        self.tensors = tensors
        self._widened = widened(path)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
            runners: list[OnnxRunner] = []
            for name, model in (("plain", self._widened), ("limited", limited(self._widened, tensors))):
                file = Path(folder) / f"{name}.onnx"
                onnx.save(model, str(file))
                try:
                    runners.append(OnnxRunner(spec, variant, file))
                except RunnerError as error:
                    raise RunnerError(f"{path}: cannot be run in FP32, to see what FP16 does to it: {error}") from error
                opened.enter_context(runners[-1])
            self.plain, self.limited = runners
            self._opened = opened.pop_all()

    def overflows(self, inputs: Arrays) -> list[Overflow]:
        """Tensors that do not fit FP16 on ``inputs``, in the order of the graph.

        All of them are kept at once, so that the inputs are best a single sample. Values that are infinite in FP32
        too, such as a mask, are none that FP16 made so.
        """
        import onnx

        shown = onnx.ModelProto()
        shown.CopyFrom(self._widened)
        expose(shown, self.tensors)
        makers = {name: node.op_type for node in shown.graph.node for name in node.output}
        found = []
        for name, values in zip(self.tensors, _session(shown).run(self.tensors, self.plain.feeds(inputs)), strict=True):
            largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
            if largest > FP16_LARGEST:
                found.append(Overflow(name, makers[name], largest))
        return found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def load_inlined(path: Path) -> Any:
    """Model of a file, its functions inlined."""
    import onnx
    from onnx import inliner

    return inliner.inline_local_functions(onnx.load(str(path)))


def expose(model: Any, tensors: Iterable[str]) -> None:
    """Make tensors outputs of a model; ONNX Runtime finds out their types."""
    from onnx import helper

    there = {output.name for output in model.graph.output}
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors if name not in there)


def _session(model: Any) -> Any:
    """Open a model that is only looked into, without any optimization."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=[CPU])


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph, and all that are inside of its nodes."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from _graphs(body)
