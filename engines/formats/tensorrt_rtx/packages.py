"""The packages that build and run plans of TensorRT for RTX, and what speaks against it on this machine.

Nothing here imports them before a function needs it.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib import util
from typing import Any

from engines.errors import UnavailableError
from engines.formats.tensorrt import cuda, driver
from engines.formats.tensorrt.header import GPUS
from engines.tools import installed_version

PACKAGES = {"tensorrt-rtx": ("tensorrt_rtx_cu13_bindings",), "cuda-python": ("cuda-python",)}

LIBRARIES, BINDINGS = "tensorrt_rtx_libs", "tensorrt_rtx_bindings"
"""The modules; the first loads the shared libraries that the second is linked with."""

DRIVER = 13000
"""The oldest driver, as the CUDA version it supports (1000 * major + 10 * minor): the wheels are made for CUDA 13."""

NO_DRIVER = "CUDA driver version is insufficient for CUDA runtime version"
"""What TensorRT itself says without a driver, or with one that is too old (CUDA's error 35)."""

NO_SUCH_GPU = "TensorRT-RTX does not support this compute capability"
"""What TensorRT itself says on a GPU that it has no code for, as on an H200."""


def cannot_build() -> str | None:
    """Why plans cannot be built here; None where they can. Neither GPU nor driver is needed."""
    for module in (LIBRARIES, BINDINGS):
        if util.find_spec(module) is None:
            return f"TensorRT for RTX is not installed: there is no {module} (pip install -r requirements.txt)"
    return None


def unavailable() -> str | None:
    """Why plans cannot be run here; None where they can."""
    return cannot_build() or no_gpu() or cuda.missing()


def no_gpu() -> str | None:
    """Why no GPU here runs plans, in TensorRT's words; None where one does."""
    if reason := driver.problem(DRIVER):
        return f"{NO_DRIVER} ({reason})"
    return unsupported(driver.device())


def unsupported(device: dict[str, str]) -> str | None:
    """Why plans do not run on a device, described as by :func:`driver.device`; None where they do."""
    capability = device["compute capability"]
    if capability in GPUS:
        return None
    return f"{NO_SUCH_GPU}: {device['GPU']} has {capability}, plans are for {', '.join(GPUS)}"


@cache
def bindings() -> Any:
    """TensorRT for RTX's module; raises UnavailableError where it is not installed, or its libraries do not load."""
    if reason := cannot_build():
        raise UnavailableError(reason)
    try:
        importlib.import_module(LIBRARIES)
        return importlib.import_module(BINDINGS)
    except (ImportError, OSError) as error:
        raise UnavailableError(f"TensorRT for RTX is installed, but cannot be imported: {error}") from error


def version() -> str | None:
    """Version of TensorRT for RTX, without importing it; None where it is not installed."""
    return installed_version(*PACKAGES["tensorrt-rtx"])
