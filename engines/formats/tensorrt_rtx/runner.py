"""Run plans of TensorRT for RTX as those of TensorRT are run, with the kernels that it compiles kept in the store.

A plan holds no kernels that are ready: they are compiled for the GPU at hand when a context first needs them. They go
into a runtime cache, which spares that from the second process on. Not run: see docs/rtx.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.code import code
from engines.formats.tensorrt import context, devices, driver, header
from engines.formats.tensorrt.header import plan_bytes
from engines.formats.tensorrt.messages import Said, logger
from engines.formats.tensorrt.opening import closed_on_error, tune
from engines.formats.tensorrt.runner import TensorRTRunner
from engines.formats.tensorrt_rtx import packages
from engines.hashing import file_hash
from engines.store import Recipe

if TYPE_CHECKING:
    from engines.formats.base import Keep
    from engines.model.spec import ModelSpec
    from engines.runner import Runner
    from engines.variant import Variant

KERNELS = "kernels.cache"


def load(path: Path) -> Any:
    """Engine of a plan; raises RunnerError, which says what is wrong with it, or what TensorRT says of it."""
    trt, content = packages.bindings(), plan_bytes(path)
    if reason := header.no_plan_of_rtx(content):
        raise RunnerError(f"{path}: {reason}; expected a plan of TensorRT for RTX {trt.__version__}")
    said = Said(trt)
    engine = trt.Runtime(logger(trt)).deserialize_cuda_engine(content)
    if engine is None:
        other = header.of_another_version(content, trt.__version__)
        hint = f"\n{other}" if other else ""
        raise RunnerError(f"{path}: TensorRT for RTX {trt.__version__} cannot load it:\n{said.errors()}{hint}")
    return engine


class RTXRunner(TensorRTRunner):
    """Runs a plan of TensorRT for RTX on one device, otherwise as :class:`TensorRTRunner` does.

    No kernel is specialized for a shape: in TensorRT's default one takes another's place while calls go on. A sample's
    answer might then hang on when, and beside how many others, it was asked for. Raises RunnerError where the plan
    cannot be loaded: it says which other TensorRT made it, or what is wrong with it.
    """

    def _library(self) -> Any:
        return packages.bindings()

    def _load(self, path: Path) -> Any:
        trt, engine = self._library(), load(path)
        self._config = engine.create_runtime_config()
        self._config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.NONE
        self._kernels = self._config.create_runtime_cache()
        self._config.set_runtime_cache(self._kernels)
        return engine

    def _execution(self) -> Any:
        return self.engine.create_execution_context(self._config)

    def compiled(self) -> bytes:
        """Kernels for a single sample and for full batches, as TensorRT keeps them; compiled now, by running both."""
        for count in sorted({self._least, self.batch_size}):
            self({i.name: np.zeros(self.spec.concrete_shape(i, count), i.dtype) for i in self.spec.inputs})
        return bytes(self._kernels.serialize())

    def take(self, kernels: bytes) -> bool:
        """Use kernels that another process compiled; False where TensorRT does not take them, and compiles anew."""
        return bool(self._kernels.deserialize(kernels))

    def _release(self) -> None:
        super()._release()
        self._config = self._kernels = None


def open_plan(spec: ModelSpec, variant: Variant, plan: Path, batch_size: int | None, keep: Keep | None) -> Runner:
    """Runner of a plan on the GPUs of ``--devices``, one unless more are asked for.

    Where ``keep`` stores them, with its kernels and the settings that were measured best.
    """
    if batch_size is not None and variant.profile is not None:
        # Callers ask for at most so many, and the plan takes no more.
        batch_size = min(batch_size, variant.profile.max)

    return devices.opened(spec, variant, partial(on_device, spec, variant, plan, batch_size, keep))


def on_device(
    spec: ModelSpec,
    variant: Variant,
    plan: Path,
    batch_size: int | None,
    keep: Keep | None,
    device: int,
    *,
    far: bool = False,
) -> Runner:
    """Runner of a plan on one GPU, by CUDA's number, with what ``keep`` stores of it; for ``far`` samples or others."""
    opened = RTXRunner(spec, variant, plan, batch_size, device=device)
    if keep is not None:
        with closed_on_error(opened):
            _keep_kernels(opened, plan, keep)
            tune(opened, plan, keep, {"tensorrt-rtx": packages.version()}, far=far)
    return opened


def _keep_kernels(opened: RTXRunner, plan: Path, keep: Keep) -> None:
    made_from = {"plan": file_hash(plan), **code("tensorrt-rtx runner", Path(__file__))}

    def compile_(folder: Path) -> Mapping[str, Any]:
        (folder / KERNELS).write_bytes(opened.compiled())
        return {}

    recipe = Recipe(made_from, {"batch": opened.batch_size}, {"tensorrt-rtx": packages.version()}, driver.device())
    kept = keep(f"kernels-{opened.batch_size}", recipe, compile_)
    with context.current(opened.device):
        opened.take(kept.file(KERNELS).read_bytes())
