"""The inputs and outputs of a plan, checked against the model's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.tensorrt.slots import DTYPES, Tensor
from engines.model.spec import InputSpec, OutputSpec
from engines.runner import check_signature

if TYPE_CHECKING:
    from engines.model.spec import ModelSpec


def tensors(engine: Any, library: Any, spec: ModelSpec, path: Path) -> tuple[Tensor, ...]:
    """The tensors of an engine, which ``library``'s TensorRT loaded from ``path``, in the spec's order.

    Raises RunnerError where names, shapes or dtypes are not the spec's, or one lies in host memory.
    """
    found: dict[str, dict[str, tuple[int, ...]]] = {"INPUT": {}, "OUTPUT": {}}
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        found[engine.get_tensor_mode(name).name][name] = tuple(engine.get_tensor_shape(name))
    names = check_signature(str(path), spec, found["INPUT"], found["OUTPUT"])
    checked = []
    items: list[InputSpec | OutputSpec] = [*spec.inputs, *spec.outputs]
    for item in items:
        name = (names.inputs if isinstance(item, InputSpec) else names.outputs)[item.name]
        sizes = {n: max(s) for n, s in spec.dimensions.items()}
        kind = engine.get_tensor_dtype(name).name
        if DTYPES.get(kind) != item.dtype:
            raise RunnerError(f"{path}: {name!r} is {DTYPES.get(kind, kind)}; expected {item.dtype}")
        if engine.get_tensor_location(name) != library.TensorLocation.DEVICE:
            raise RunnerError(f"{path}: {name!r} is a tensor in host memory; expected it on the device")
        dtype = np.dtype(item.dtype)
        largest = [sizes[d] if isinstance(d, str) else d for d in item.shape[1:]]
        sample_bytes = int(np.prod(largest, dtype=np.int64)) * dtype.itemsize
        checked.append(Tensor(name, item, dtype, spec.concrete_shape(item, 1)[1:], sample_bytes))
    return tuple(checked)
