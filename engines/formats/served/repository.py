"""A model repository of Triton: the engine of a model, and the configuration that follows from its description.

The configuration is a message of Triton's own protobuf, which ``tritonclient`` ships: what it does not know cannot be
written. Its fields are described in Triton's ``model_config.proto``.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import EngineError, SpecError
from engines.formats.served.dtypes import configured
from engines.model.spec import BATCH
from engines.variant import Variant

if TYPE_CHECKING:
    from engines.chain import Chain
    from engines.model.spec import InputSpec, ModelSpec, OutputSpec

PYTHON = Path(__file__).with_name("python_backend.py")
"""What a server without a back end for ONNX runs in its place."""

QUEUE_DELAY_US = 500
"""How long the server may hold a request back to fill a batch: below what any network adds."""


@dataclass(frozen=True)
class Backend:
    """What runs a model in Triton: its name, the format of the engine, and the file that it looks for."""

    name: str
    format: str
    file: str
    platform: str = ""


BACKENDS: Mapping[str, Backend] = {
    "onnxruntime": Backend("onnxruntime", "onnx", "model.onnx"),
    "tensorrt": Backend("tensorrt", "tensorrt", "model.plan", "tensorrt_plan"),
    "python": Backend("python", "onnx", "model.onnx"),
}
"""The back ends that a repository is written for, the usual one first."""


@dataclass(frozen=True)
class Placed:
    """Where a model runs in the server: ``instances`` copies of it, on the GPUs or on the CPU."""

    instances: int = 1
    gpu: bool = False


def configuration(spec: ModelSpec, backend: Backend, names: Mapping[str, Mapping[str, str]], placed: Placed) -> Any:
    """Configuration of a model (tritonclient's ``ModelConfig``), with dynamic batching up to its first profile.

    ``names`` has what the engine calls the inputs and the outputs, by the description's names. A model with an output
    that has no batch axis is not batched by the server: Triton takes that axis for granted.
    """
    from tritonclient.grpc import model_config_pb2 as protocol

    largest = 0 if spec.constants else spec.profiles[0].max
    config = protocol.ModelConfig(name=spec.name, backend=backend.name, platform=backend.platform)
    config.max_batch_size = largest
    for kind, items, add in (("inputs", spec.inputs, config.input.add), ("outputs", spec.outputs, config.output.add)):
        for item in items:
            dtype = protocol.DataType.Value(configured(item.dtype))
            add(name=names[kind][item.name], data_type=dtype, dims=_dims(item, batched=largest > 0))
    group = protocol.ModelInstanceGroup
    config.instance_group.add(count=placed.instances, kind=group.KIND_GPU if placed.gpu else group.KIND_CPU)
    # Every version that is there, so that a new one can be compared with the one in use.
    config.version_policy.all.SetInParent()
    if largest > 1:
        preferred = sorted({spec.profiles[0].opt, largest})
        config.dynamic_batching.preferred_batch_size.extend(preferred)
        config.dynamic_batching.max_queue_delay_microseconds = QUEUE_DELAY_US
    return config


def _dims(item: InputSpec | OutputSpec, *, batched: bool) -> list[int]:
    """Sizes of a tensor, -1 for dynamic ones; the batch axis is left out where the server adds it."""
    shape = item.shape[1:] if batched and item.shape and item.shape[0] == BATCH else item.shape
    return [size if isinstance(size, int) else -1 for size in shape]


def export(
    chain: Chain,
    folder: Path,
    *,
    backend: Backend,
    precision: str = "fp32",
    version: int = 1,
    placed: Placed | None = None,
) -> Path:
    """Write ``folder/MODEL``: ``config.pbtxt``, and the engine as a version of it; returns that folder.

    Other versions that are there stay, where their configuration is the same. Raises SpecError where the model has no
    such variant, and EngineError where the folder cannot be written or holds another configuration.
    """
    from google.protobuf import text_format

    spec = chain.spec
    variant = next((v for v in chain.variants if (v.format, v.precision) == (backend.format, precision)), None)
    if variant is None:
        known = ", ".join(v.precision for v in chain.variants if v.format == backend.format) or "none"
        raise SpecError(f"{spec.name} has no {Variant(backend.format, precision)}; precisions allowed: {known}")
    file = chain.file(variant)
    config = configuration(spec, backend, _names(chain, variant), placed or Placed())
    model = folder / spec.name
    described, to = model / "config.pbtxt", model / str(version)
    written = text_format.MessageToString(config)
    try:
        if described.is_file() and described.read_text(encoding="utf-8") != written and _others(model, version):
            raise EngineError(
                f"{described}: describes another model than {variant} of {spec.name} would be served as; "
                "allowed: the same in every version, or another folder"
            )
        to.mkdir(parents=True, exist_ok=True)
        described.write_text(written, encoding="utf-8")
        shutil.copyfile(file, to / backend.file)
        if backend.name == "python":
            shutil.copyfile(PYTHON, to / "model.py")
    except OSError as error:
        raise EngineError(f"{model}: cannot be written: {error.strerror}; allowed: a folder") from error
    return model


def _names(chain: Chain, variant: Variant) -> Mapping[str, Mapping[str, str]]:
    """What an engine calls inputs and outputs: what the ONNX does that it is, or is made from."""
    from engines.formats.onnx.runner import OnnxRunner

    onnx = next(needed for needed in chain.needs(variant) if needed.format == "onnx")
    with closing(OnnxRunner(chain.spec, onnx, chain.file(onnx))) as runner:
        return {"inputs": runner.input_names, "outputs": runner.output_names}


def _others(model: Path, version: int) -> list[str]:
    """Versions of a model that are there beside this one."""
    return [entry.name for entry in model.iterdir() if entry.name.isdigit() and entry.name != str(version)]
