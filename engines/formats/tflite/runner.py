"""Runs TFLite files with LiteRT."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.tflite.layers import dequantized
from engines.runner import Runner, check_signature, grid
from engines.tools import one_line
from engines.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec


PROBABILITIES = grid(np.dtype(np.int8), 1 / 256, -128)
"""What an INT8 softmax or logistic can say: TFLite's specification of 8-bit quantization fixes scale and zero point."""


BUILT_IN = "LiteRT's built-in kernels"
"""The way to run a file that a device without XNNPACK has."""


class TFLiteRunner(Runner):
    """Runs a TFLite file with LiteRT's interpreter, one allocation per batch size.

    The kernels are XNNPACK's, or LiteRT's ``built_in`` ones, which a device without XNNPACK runs: in INT8 they round
    otherwise. An interpreter that ``keeps`` has every tensor of its last batch; XNNPACK leaves none of those between.

    Where an input or output is integer, its scale and zero point are applied, so that callers see the spec's floats.
    Raises RunnerError where the file cannot be loaded or is not the spec's model.
    """

    def __init__(
        self,
        spec: ModelSpec,
        variant: Variant,
        path: Path,
        batch_size: int | None = None,
        threads: int | None = None,
        *,
        built_in: bool = False,
        keeps: bool = False,
    ) -> None:
        super().__init__(spec, variant, batch_size)
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if built_in else OpResolverType.AUTO
        self.way = BUILT_IN if built_in else ""
        self._path, self._threads, self._built_in, self._keeps = path, threads, built_in, keeps

        self._made = partial(
            Interpreter,
            model_path=str(path),
            num_threads=threads,
            experimental_op_resolver_type=kernels,
            experimental_preserve_all_tensors=keeps,
        )
        try:
            self._interpreter = self._made()
            signatures = self._interpreter.get_signature_list()
            if spec.signature not in signatures:
                raise RunnerError(
                    f"{path}: its signatures are {sorted(signatures)}; expected {spec.signature!r} among them"
                )
            signature = self._interpreter.get_signature_runner(spec.signature)
            self._inputs = {name: _Tensor(d) for name, d in signature.get_input_details().items()}
            self._outputs = {name: _Tensor(d) for name, d in signature.get_output_details().items()}
        except (ValueError, RuntimeError) as error:
            raise RunnerError(f"{path}: LiteRT cannot load it: {one_line(str(error))}") from error
        self._names = check_signature(
            str(path),
            spec,
            {name: t.signature for name, t in self._inputs.items()},
            {name: t.signature for name, t in self._outputs.items()},
        )
        tensors = {i: self._inputs[self._names.inputs[i.name]] for i in spec.inputs}
        for item, tensor in (tensors | {o: self._outputs[self._names.outputs[o.name]] for o in spec.outputs}).items():
            # What stands for floats may be integers with a scale; ids may not: a scale would make others of them.
            scaled = np.dtype(item.dtype).kind == "f"
            if tensor.dtype != np.dtype(item.dtype) and not (tensor.integer and scaled):
                more = ", or quantized integers" if scaled else ""
                raise RunnerError(f"{path}: {item.name!r} is {tensor.dtype}; expected {item.dtype}{more}")
        inside = {name: self._outputs[called] for name, called in self._names.outputs.items()}
        behind = dequantized(path)
        self.grids = {n: grid(t.dtype, float(t.scale), t.zero_point) for n, t in inside.items() if t.integer}
        for name, tensor in inside.items():
            stored, scale, point = behind.get(tensor.index, ("", 0.0, 0))
            if stored in {"int8", "uint8"}:
                self.grids[name] = grid(np.dtype(stored), scale, point)
        self._whole = {self._names.inputs[i.name] for i in spec.inputs if np.dtype(i.dtype).kind != "f"}
        stepped = {item: t for item, t in tensors.items() if t.integer and np.dtype(item.dtype).kind == "f"}
        self.steps = {item.name: float(tensor.scale) for item, tensor in stepped.items()}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.settings = {"threads": str(threads or "LiteRT's choice"), "kernels": "built in" if built_in else "XNNPACK"}

    def copied(self) -> TFLiteRunner | None:
        """Another interpreter of the file, where this one runs on one thread."""
        if self._threads not in {None, 1}:
            return None
        made = self._path, self.batch_size, self._threads
        return TFLiteRunner(self.spec, self.variant, *made, built_in=self._built_in, keeps=self._keeps)

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        feeds = {self._names.inputs[name]: array for name, array in inputs.items()}
        shapes = {name: array.shape for name, array in feeds.items()}
        try:
            if shapes != self._shapes:
                for name, shape in shapes.items():
                    self._interpreter.resize_tensor_input(self._inputs[name].index, shape, strict=True)
                self._interpreter.allocate_tensors()
                self._shapes = shapes
            for name, array in feeds.items():
                fed = array if name in self._whole else self._inputs[name].quantize(array)
                self._interpreter.set_tensor(self._inputs[name].index, fed)
            self._interpreter.invoke()
            tensors = {n: self._interpreter.get_tensor(self._outputs[i].index) for n, i in self._names.outputs.items()}
        except (ValueError, RuntimeError) as error:
            count = len(next(iter(inputs.values())))
            # One that has failed at a variable without a value answers the next time, with memory that nobody wrote.
            self._interpreter, self._shapes = self._made(), {}
            raise RunnerError(f"{self.variant}: LiteRT fails on a batch of {count}: {one_line(str(error))}") from error
        return {name: self._outputs[self._names.outputs[name]].dequantize(array) for name, array in tensors.items()}

    @property
    def output_numbers(self) -> dict[str, int]:
        """Numbers of the tensors that are the model's outputs, by the model's names."""
        return {name: self._outputs[called].index for name, called in self._names.outputs.items()}

    def kept(self, numbers: Sequence[int]) -> dict[int, NDArray[Any]]:
        """Tensors of the last batch by their numbers, integers as the floats that they stand for."""
        details = {int(d["index"]): d for d in self._interpreter.get_tensor_details()}
        return {n: _Tensor(details[n]).dequantize(self._interpreter.get_tensor(n)) for n in numbers}

    def _release(self) -> None:
        del self._interpreter


class _Tensor:
    """What LiteRT says of an input or output: index, shape signature, dtype and quantization parameters."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.index = int(details["index"])
        self.signature = tuple(int(d) for d in details["shape_signature"])
        self.dtype = np.dtype(details["dtype"])
        scale, zero_point = details["quantization"]
        self.scale, self.zero_point = np.float32(scale), int(zero_point)
        self.integer = self.dtype.kind in "iu" and self.scale != 0

    def quantize(self, values: NDArray[Any]) -> NDArray[Any]:
        """Apply q = round(x / scale) + zero point, saturating (LiteRT's quantization specification)."""
        if not self.integer:
            return values
        limits = np.iinfo(self.dtype)
        quantized: NDArray[Any] = np.clip(np.rint(values / self.scale) + self.zero_point, limits.min, limits.max)
        return quantized.astype(self.dtype)

    def dequantize(self, values: NDArray[Any]) -> NDArray[Any]:
        """Apply x = (q - zero point) * scale, as float32."""
        if not self.integer:
            return values
        floats: NDArray[Any] = (values.astype(np.float32) - self.zero_point) * self.scale
        return floats
