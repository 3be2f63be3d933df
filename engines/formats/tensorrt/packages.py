"""The packages that build and run TensorRT plans, the driver and the device.

Nothing here imports TensorRT, PyCUDA, Polygraphy or cuda-python before a function needs it.
"""

from __future__ import annotations

from importlib import util

from engines.formats.tensorrt import driver, versions

PACKAGES = {
    "tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    "polygraphy": ("polygraphy",),
    "pycuda": ("pycuda",),
    "cuda-python": ("cuda-python",),
}


def unavailable() -> str | None:
    """Why TensorRT engines cannot be built or run here; None where they can.

    Looked for in this order: the packages, NVIDIA's driver, its age, a device.
    """
    return _packages() or _polygraphy() or driver.problem(versions.driver_needed(versions.wheel_cuda()))


def cannot_run() -> str | None:
    """Why plans from elsewhere cannot be run here, version-compatible ones at least; None where they can."""
    return (
        versions.problem()
        or versions.too_new(version() or "")
        or _libraries()
        or driver.problem(versions.driver_needed(versions.wheel_cuda()))
    )


def cannot_build(format_: str) -> str | None:
    """Why plans of a format cannot be built here; None where they can.

    Version-compatible ones are built by the oldest TensorRT only: all others run what that one built.
    """
    if reason := unavailable():
        return reason
    if format_ == versions.VERSION_COMPATIBLE and versions.major(version() or "") > versions.major(versions.OLDEST):
        return f"TensorRT {version()} runs them, TensorRT {versions.OLDEST} builds them"
    return None


def _packages() -> str | None:
    if reason := versions.problem():
        return reason
    if versions.kind() != "full":
        return (
            f"{versions.module()} {version()} is the {versions.kind()} runtime: it builds nothing, and runs "
            f"version-compatible plans only ({versions.VERSION_COMPATIBLE})"
        )
    return _libraries()


def _libraries() -> str | None:
    for module, package in (("pycuda", "PyCUDA"), ("cuda.bindings", "cuda-python")):
        if not _importable(module):
            return f"{package} is not installed (pip install -r requirements-gpu.txt)"
    return None


def _polygraphy() -> str | None:
    return None if _importable("polygraphy") else "Polygraphy is not installed (pip install -r requirements-gpu.txt)"


def unsupported(precision: str) -> str | None:
    """Why the TensorRT that is installed cannot build a precision; None where it can."""
    return versions.unsupported(precision, version() or "")


def version() -> str | None:
    """TensorRT's version, without importing it; None where it is not installed."""
    return versions.installed()


def device() -> dict[str, str]:
    """GPU that engines are built for and run on, with its compute capability; plans fit no other.

    Raises UnavailableError without a driver or device.
    """
    return driver.device()


def _importable(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
