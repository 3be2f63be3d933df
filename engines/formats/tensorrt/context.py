"""A device's primary context, which TensorRT, PyCUDA and cuda-python share; pushed only while it is used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any

from engines.errors import DeviceError
from engines.formats.tensorrt.cuda import driver


@cache
def primary(device: int) -> Any:
    """Retain a device's primary context, once in this process and for as long as it lives.

    It is the context that CUDA's runtime, and so TensorRT, uses; another one would be another address space.
    Raises DeviceError where CUDA makes none, as on a device whose memory others hold.
    """
    cuda = driver()

    cuda.init()
    try:
        return cuda.Device(device).retain_primary_context()
    except cuda.Error as error:
        # How much is free only a context could tell.
        raise DeviceError(f"CUDA opens no context on GPU {device}, whose memory may be in use: {error}") from error


def cuda_error() -> type[Exception]:
    """Class of PyCUDA's errors."""
    cuda = driver()

    error: type[Exception] = cuda.Error
    return error


def explained(error: Exception) -> str:
    """What an error of PyCUDA means; the context has to be current."""
    cuda = driver()

    if isinstance(error, cuda.MemoryError):
        free, total = cuda.mem_get_info()
        return f"the device is out of memory ({free / 1e6:.0f} MB of {total / 1e6:.0f} MB free): {error}"
    return f"CUDA failed: {error}"


@contextlib.contextmanager
def current(device: int = 0) -> Iterator[None]:
    """Make a device's primary context current on this thread, and pop it at the end.

    PyCUDA aborts a process that exits with a context still pushed. CUDA's own errors, out of memory among them, come
    out as DeviceError.
    """
    cuda = driver()

    context = primary(device)
    context.push()
    try:
        yield
    except cuda.Error as error:
        raise DeviceError(explained(error)) from error
    finally:
        cuda.Context.pop()
