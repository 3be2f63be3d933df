"""What differs between TensorRT 8.6, 10 and 11; nothing else in this package asks for a version.

8.6 was run on a GPU. For 10.16 and 11.4 every name used here was looked up in their Python bindings; they were not
run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engines.errors import ConversionError

CALIBRATED = ("int8", "int8+fp16")
"""The precisions whose scales TensorRT's own calibration finds."""

DRIVER_CUDA = {12: 12000, 13: 13000}
"""The oldest driver, as the CUDA version it supports (1000 * major + 10 * minor), by the CUDA that a wheel is made for.

The wheels of 8.6.0, and those of 10 and 11 named -cu12, are built with CUDA 12, which needs a driver of 12.0 or later
(CUDA's minor version compatibility); driver 525.60 is the first. Those named -cu13, which the plain name stands for
in 10.16, need a driver of 13.0 or later.
"""


@dataclass(frozen=True)
class Route:
    """How a precision is built: the precision of the ONNX it starts from, and what the builder is told."""

    source: str
    fp16: bool = False
    int8: bool = False
    calibrated: bool = False
    strongly_typed: bool = False


def major(version: str) -> int:
    """Give the major number of a version such as ``8.6.0``; 0 for an empty one."""
    return int(version.split(".", maxsplit=1)[0]) if version else 0


def driver_needed(cuda: int) -> int:
    """Give the oldest driver, as the CUDA version it supports, for wheels made for a major version of CUDA."""
    return DRIVER_CUDA[cuda]


def unsupported(precision: str, version: str) -> str | None:
    """Say why a version cannot build a precision; None where it can."""
    if major(version) >= 11 and precision in CALIBRATED:
        return f"TensorRT {version} has no INT8 calibration (removed in 11): int8-qdq is its INT8"
    return None


def route(precision: str, version: str) -> Route:
    """Say how a version builds a precision; raises ConversionError where it cannot.

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


def preview_features(trt: Any) -> list[Any] | None:
    """Give the preview features to ask for; None leaves TensorRT's own choice.

    In 8.6 one optimization profile serves one execution context at a time, unless PROFILE_SHARING_0806 is on; later
    versions share always. Naming one feature switches the unnamed off, DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805
    with them, so all are named.
    """
    return list(trt.PreviewFeature.__members__.values()) if major(trt.__version__) < 10 else None


def scratch_bytes(engine: Any) -> int:
    """Give the device memory that each execution context of an engine takes, in bytes."""
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
