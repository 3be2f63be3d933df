"""The tensors between the layers of an ONNX file: all of them made outputs of its graph."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.onnx import kernels
from engines.formats.onnx.fp16 import expose, load_inlined
from engines.formats.onnx.reference import plain_session, said
from engines.formats.onnx.runner import CPU, OnnxRunner, opened
from engines.inside import Inside, Tensor, operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec
    from engines.runner import Arrays
    from engines.variant import Variant

FLOATS = ("tensor(float)", "tensor(float16)", "tensor(bfloat16)", "tensor(double)")
"""ONNX Runtime's names of the types of tensors that are compared."""

DEQUANTIZES = "DequantizeLinear"
"""The operator whose results are what a quantization left of a tensor, which itself is shown before."""


class OnnxInside(Inside):
    """ONNX file whose tensors are outputs, run as :class:`OnnxRunner` runs the file.

    A tensor that is quantized is shown as it is before that. Raises RunnerError as the runner does.
    """

    def __init__(
        self, spec: ModelSpec, variant: Variant, path: Path, provider: str = CPU, int8_kernels: str = kernels.EXACT
    ) -> None:
        import onnx

        runner = OnnxRunner(spec, variant, path, provider=provider, int8_kernels=int8_kernels)
        with runner:
            self._inputs, self._outputs = runner.input_names, runner.output_names
        model = load_inlined(path)
        floats = _floats(model)
        nodes = [n for n in model.graph.node if n.op_type not in {DEQUANTIZES, "Constant"}]
        expose(model, [name for node in nodes for name in node.output if name in floats])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "shown.onnx"
            onnx.save(model, str(file))
            self._session = opened(file, variant, provider, int8_kernels=int8_kernels)
        outputs = {called: name for name, called in self._outputs.items()}
        self.tensors = [
            Tensor(name, f"ONNX node {node.name or name}", _operations(node, name), outputs.get(name, ""))
            for node in nodes
            for name in node.output
            if name in floats
        ]
        if "tensor(float16)" in floats.values():
            # What is shown has been rounded to FP16, though ONNX Runtime computes in FP32 in between.
            self.arithmetic = "fp16"

    def __call__(
        self, inputs: Arrays, wanted: Sequence[str]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Answers, and the wanted tensors by name."""
        names = list(dict.fromkeys([*self._outputs.values(), *wanted]))
        feeds = {self._inputs[name]: array for name, array in inputs.items()}
        try:
            found = dict(zip(names, self._session.run(names, feeds), strict=True))
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise RunnerError(f"ONNX Runtime fails where tensors are outputs: {said(error)}") from error
        answers = {name: np.asarray(found[called]) for name, called in self._outputs.items()}
        return answers, {name: np.asarray(found[name], np.float32) for name in wanted}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session


def _operations(node: Any, name: str) -> tuple[str, ...]:
    """Operations that a tensor may be the result of: that of its name, and of its node's where it is the only one."""
    names = (name, node.name) if len(node.output) == 1 else (name,)
    return tuple(dict.fromkeys(operation(n) for n in names if n))


def _floats(model: Any) -> Mapping[str, str]:
    """Types of the floating-point tensors that a model computes, by name, as ONNX Runtime finds them."""
    import onnx

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    expose(shown, (name for node in shown.graph.node for name in node.output if name))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "types.onnx"
        onnx.save(shown, str(file))
        opened = plain_session(file)
    return {output.name: output.type for output in opened.get_outputs() if output.type in FLOATS}
