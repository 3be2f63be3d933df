"""Which TensorRT is installed, and what differs between 8.6, 10 and 11; nothing else here asks for a version.

8.6 was run on a GPU. For 10.16 and 11.4 every name used here was looked up in their Python bindings, those of the lean
and dispatch runtimes too.

The lean and dispatch runtimes are packages of their own: they build nothing, and run version-compatible plans only.
A plan of that kind carries the lean runtime of the version that built it, which the newer runtimes load.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import util
from types import MappingProxyType
from typing import Any

from engines.errors import ConversionError, UnavailableError
from engines.tools import installed_version

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "tensorrt": "full",
        "tensorrt_lean": "lean",
        "tensorrt_lean_bindings": "lean",
        "tensorrt_dispatch": "dispatch",
        "tensorrt_dispatch_bindings": "dispatch",
    }
)
"""The modules that hold TensorRT's bindings, in the order they are looked for, and the runtime that each one is."""

CHOICE = "CONFORMANCE_TENSORRT"
"""The environment variable that chooses one of them, where several are installed."""

VERSION_COMPATIBLE = "tensorrt-vc"
"""The format of plans that newer runtimes can run too."""

OLDEST = "8.6.0"
"""The TensorRT that builds version-compatible plans: the newer ones run what it built."""

NEWEST_MAJOR = 10
"""The last major version that runs those plans: 11.4 refuses them, "forward compatibility supported starting 10.0"."""

CALIBRATED = ("int8", "int8+fp16")
"""The precisions whose scales TensorRT's own calibration finds."""

DRIVER_CUDA = {12: 12000, 13: 13000}
"""The oldest driver, as the CUDA version it supports (1000 * major + 10 * minor), by the CUDA that a wheel is made for.

The wheels of 8.6.0, and those of 10 and 11 named -cu12, are built with CUDA 12. That needs a driver of 12.0 or later
(CUDA's minor version compatibility); driver 525.60 is the first. Those named -cu13, which the plain name stands for in
10.16, need a driver of 13.0 or later.
"""


@dataclass(frozen=True)
class Route:
    """How a precision is built: the precision of the ONNX it starts from, and what the builder is told."""

    source: str
    fp16: bool = False
    int8: bool = False
    calibrated: bool = False
    strongly_typed: bool = False


def problem() -> str | None:
    """Why there are no TensorRT bindings to use; None where there are. Nothing is imported."""
    chosen = os.environ.get(CHOICE)
    if chosen and chosen not in MODULES:
        return f"{CHOICE} is {chosen!r}; allowed: {', '.join(MODULES)}"
    if chosen and util.find_spec(chosen) is None:
        return f"{CHOICE} is {chosen}, which is not installed"
    if module() is None:
        return "TensorRT is not installed (pip install -r requirements-gpu.txt)"
    return None


def module() -> str | None:
    """Name of the module of the bindings to use: the chosen one, or the first that is installed; None without any."""
    if chosen := os.environ.get(CHOICE):
        return chosen if chosen in MODULES and util.find_spec(chosen) else None
    return next((name for name in MODULES if util.find_spec(name) is not None), None)


@cache
def bindings() -> Any:
    """Import TensorRT's bindings; raises UnavailableError where there are none, or their libraries cannot be loaded."""
    if reason := problem():
        raise UnavailableError(reason)
    name = str(module())
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise UnavailableError(f"{name} is installed, but cannot be imported: {error}") from error


def kind() -> str | None:
    """Runtime that is installed: ``full``, ``lean`` or ``dispatch``; None without any."""
    return MODULES.get(module() or "")


def installed() -> str | None:
    """TensorRT's version, without importing it; None where it is not installed."""
    name = module()
    return installed_version(name, *(_wheel(name, cuda) for cuda in DRIVER_CUDA)) if name else None


def wheel_cuda() -> int:
    """Major version of CUDA that the installed wheel is made for: 12, unless its name says otherwise."""
    return 13 if installed_version(_wheel(module() or "tensorrt", 13)) else 12


def _wheel(name: str, cuda: int) -> str:
    """Name of the distribution of a module that is made for a version of CUDA: ``tensorrt_lean_cu12_bindings``."""
    base = name.removesuffix("_bindings")
    return f"{base}_cu{cuda}{name.removeprefix(base)}"


def runtime_id() -> str:
    """Runtime that is installed, as results name it: ``trt8.6.0``, ``lean10.16.1``, ``dispatch10.16.1``."""
    version = ".".join(str(installed()).split(".")[:3])
    return f"{'trt' if kind() == 'full' else kind()}{version}"


def major(version: str) -> int:
    """Major number of a version such as ``8.6.0``; 0 for an empty one."""
    return int(version.split(".", maxsplit=1)[0]) if version else 0


def driver_needed(cuda: int) -> int:
    """Oldest driver, as the CUDA version it supports, for wheels made for a major version of CUDA."""
    return DRIVER_CUDA[cuda]


def unsupported(precision: str, version: str) -> str | None:
    """Why a version cannot build a precision; None where it can."""
    if major(version) >= 11 and precision in CALIBRATED:
        return f"TensorRT {version} has no INT8 calibration (removed in 11): int8-qdq is its INT8"
    return None


def route(precision: str, version: str) -> Route:
    """How a version builds a precision; raises ConversionError where it cannot.

    TensorRT 11 knows only strongly typed networks: the ONNX itself says which tensor is FP16 or quantized. Before,
    FP16 is a permission that the builder uses where it pays (deprecated in 10.12, and still there in 10.16).
    """
    if reason := unsupported(precision, version):
        raise ConversionError(reason)
    if major(version) >= 11:
        return Route({"fp32": "fp32", "fp16": "fp16", "int8-qdq": "int8"}[precision], strongly_typed=True)
    return {
        "fp32": Route("fp32"),
        "fp16": Route("fp32", fp16=True),
        "int8": Route("fp32", int8=True, calibrated=True),
        "int8+fp16": Route("fp32", fp16=True, int8=True, calibrated=True),
        "int8-qdq": Route("int8", int8=True),
    }[precision]


def too_new(version: str) -> str | None:
    """Why a version cannot run the version-compatible plans of :data:`OLDEST`; None where it can."""
    if major(version) > NEWEST_MAJOR:
        return f"TensorRT {version} refuses plans of TensorRT {OLDEST}: it runs those of 10 and later"
    return None


def deserialize(trt: Any, logger: Any, content: bytes, allow_host_code: bool) -> Any:
    """Load a plan; None where TensorRT refuses it. Version-compatible plans carry code that runs on the host."""
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = allow_host_code
    return runtime.deserialize_cuda_engine(content)


def refusal_hint(said: str) -> str:
    """What to do about a plan that TensorRT refused with these words; empty where they say it themselves."""
    if "EngineHostCodeAllowed" in said:
        return (
            "\nit is version-compatible, and carries code that runs on the host: TensorRTRunner(..., "
            "allow_host_code=True), or --allow-host-code of the C++ program, allows it"
        )
    if "forward compatibility supported starting" in said.lower():
        return f"\nplans that TensorRT {OLDEST} built run in TensorRT 8.6 to {NEWEST_MAJOR}, no later ones"
    return ""


def preview_features(trt: Any) -> list[Any] | None:
    """Preview features to ask for; None leaves TensorRT's own choice.

    In 8.6 one optimization profile serves one execution context at a time, unless PROFILE_SHARING_0806 is on; later
    versions share always. Naming one feature switches the unnamed off, DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805
    with them, so all are named.
    """
    return list(trt.PreviewFeature.__members__.values()) if major(trt.__version__) < 10 else None


def scratch_bytes(engine: Any) -> int:
    """Device memory that each execution context of an engine takes, in bytes."""
    # TensorRT 11 dropped the older name, 8.6 does not have the newer one.
    size = getattr(engine, "device_memory_size_v2", None)
    return int(engine.device_memory_size if size is None else size)


def progress_monitor(trt: Any, show: Any) -> Any:
    """Make a progress monitor that calls ``show(phase, done, steps)``; None before TensorRT 10, which has none."""
    if major(trt.__version__) < 10:
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Counts the steps of each phase of a build."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Take note of a phase."""
            self._steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            """Show a phase as done."""
            steps = self._steps.pop(phase_name, 1)
            show(phase_name, steps, steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Show a step; True lets the build go on."""
            show(phase_name, step + 1, self._steps.get(phase_name, step + 1))
            return True

    return Monitor()
