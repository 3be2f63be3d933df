"""TensorRT: engines built with Polygraphy from the ONNX artifacts, and run with PyCUDA on an NVIDIA GPU.

Nothing here imports TensorRT, PyCUDA, Polygraphy or cuda-python before a function needs it.
"""

from __future__ import annotations

from importlib import util

from engines.savedmodel import installed_version
from engines.tensorrt import build, calibration, driver, runner, tuning, versions

__all__ = [
    "FILE",
    "build",
    "calibration",
    "device",
    "runner",
    "tuning",
    "unavailable",
    "unsupported",
    "version",
    "versions",
]

FILE = build.PLAN


def unavailable() -> str | None:
    """Say why TensorRT engines cannot be built or run here; None where they can.

    Looked for in this order: the packages, NVIDIA's driver, its age, a device.
    """
    for module, package in (
        ("tensorrt", "TensorRT"),
        ("pycuda", "PyCUDA"),
        ("polygraphy", "Polygraphy"),
        ("cuda.bindings", "cuda-python"),
    ):
        if not _importable(module):
            return f"{package} is not installed (pip install -r requirements-gpu.txt)"
    return driver.problem(versions.driver_needed(13 if installed_version("tensorrt-cu13") else 12))


def unsupported(precision: str) -> str | None:
    """Say why the TensorRT that is installed cannot build a precision; None where it can."""
    return versions.unsupported(precision, version() or "")


def version() -> str | None:
    """Give TensorRT's version, without importing it; None where it is not installed."""
    return installed_version("tensorrt", "tensorrt-cu12", "tensorrt-cu13")


def device() -> dict[str, str]:
    """Name the GPU that engines are built for and run on, and its compute capability; plans fit no other.

    Raises UnavailableError without a driver or device.
    """
    return driver.device()


def _importable(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
