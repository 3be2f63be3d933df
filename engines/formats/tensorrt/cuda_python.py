"""The part of PyCUDA's driver interface that the runner uses, on cuda-python, which comes as a wheel.

Names and behaviour are PyCUDA's. Nothing here needs a compiler or CUDA's toolkit; NVIDIA's driver is loaded when it is
first called.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from cuda.bindings import driver

if TYPE_CHECKING:
    from numpy.typing import NDArray

host_alloc_flags = SimpleNamespace(WRITECOMBINED=4)
"""CU_MEMHOSTALLOC_WRITECOMBINED of CUDA's driver interface."""

_OUT_OF_MEMORY, _NOT_READY = 2, 600  # CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_NOT_READY


class Error(Exception):
    """A call of CUDA's driver failed."""


class MemoryError(Error):
    """Device or page-locked memory ran out."""


def _asked(function: Any, *arguments: Any) -> Any:
    """Result of a driver's call; raises Error, with its name and CUDA's, where it failed."""
    status, *found = function(*arguments)
    _check(function.__name__, status)
    return found[0] if len(found) == 1 else tuple(found)


def _check(called: str, status: Any) -> None:
    if int(status) != 0:
        raise (MemoryError if int(status) == _OUT_OF_MEMORY else Error)(f"{called} failed: {status.name}")


def init() -> None:
    """Initialize the driver."""
    _asked(driver.cuInit, 0)


class Context:
    """A device's primary context."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def push(self) -> None:
        """Make it current on this thread."""
        _asked(driver.cuCtxPushCurrent, self._handle)

    @staticmethod
    def pop() -> None:
        """Take back the last one that was pushed on this thread."""
        _asked(driver.cuCtxPopCurrent)

    @staticmethod
    def synchronize() -> None:
        """Wait for all that the current one was given."""
        _asked(driver.cuCtxSynchronize)


class Device:
    """A device by its number."""

    def __init__(self, number: int) -> None:
        self._handle = _asked(driver.cuDeviceGet, number)

    def retain_primary_context(self) -> Context:
        """Its primary context, kept for as long as the process lives."""
        return Context(_asked(driver.cuDevicePrimaryCtxRetain, self._handle))


def mem_get_info() -> tuple[int, int]:
    """Free and total device memory, in bytes."""
    free, total = _asked(driver.cuMemGetInfo)
    return int(free), int(total)


class Stream:
    """A stream; ``flags`` as CUDA's driver takes them."""

    def __init__(self, flags: int = 0) -> None:
        self._stream = _asked(driver.cuStreamCreate, flags)
        self.handle = int(self._stream)

    def synchronize(self) -> None:
        """Wait for all that was put onto it."""
        _asked(driver.cuStreamSynchronize, self._stream)

    def wait_for_event(self, event: Event) -> None:
        """Have what is put onto it from now on wait for what an event was recorded behind."""
        _asked(driver.cuStreamWaitEvent, self._stream, event.handle, 0)

    def is_done(self) -> bool:
        """Whether all that was put onto it is done."""
        (status,) = driver.cuStreamQuery(self._stream)
        if int(status) != _NOT_READY:
            _check("cuStreamQuery", status)
        return int(status) == 0

    def __del__(self) -> None:
        """Return it to the driver; a process that ends has nothing to give back any more."""
        if stream := getattr(self, "_stream", None):
            driver.cuStreamDestroy(stream)


class Event:
    """An event, which marks a place on a stream."""

    def __init__(self) -> None:
        self.handle = _asked(driver.cuEventCreate, 0)

    def record(self, stream: Stream) -> None:
        """Put it onto a stream."""
        _asked(driver.cuEventRecord, self.handle, stream.handle)

    def __del__(self) -> None:
        """Return it to the driver, as a stream is."""
        if event := getattr(self, "handle", None):
            driver.cuEventDestroy(event)


class DeviceMemory:
    """Device memory; ``int()`` of it is its address."""

    def __init__(self, size: int) -> None:
        self._address = _asked(driver.cuMemAlloc, size)

    def __int__(self) -> int:
        return int(self._address)

    def free(self) -> None:
        """Return it to the driver."""
        _asked(driver.cuMemFree, self._address)


def mem_alloc(size: int) -> DeviceMemory:
    """Device memory of a size in bytes."""
    return DeviceMemory(size)


class HostMemory:
    """Page-locked memory: the base of the array that :func:`pagelocked_empty` makes of it."""

    def __init__(self, size: int, flags: int) -> None:
        self._address = _asked(driver.cuMemHostAlloc, size, flags)
        self.__array_interface__ = {
            "data": (int(self._address), False),
            "shape": (size,),
            "typestr": "|u1",
            "version": 3,
        }

    def free(self) -> None:
        """Return it to the driver; no array on it may be used any more."""
        _asked(driver.cuMemFreeHost, self._address)


def pagelocked_empty(size: int, dtype: Any, mem_flags: int = 0) -> NDArray[Any]:
    """Array of bytes in page-locked memory, which its ``base`` gives back."""
    if np.dtype(dtype) != np.uint8:
        raise TypeError(f"pagelocked_empty was asked for {np.dtype(dtype)}; allowed: uint8")
    return np.asarray(HostMemory(size, mem_flags))


def memcpy_htod_async(target: int, source: NDArray[Any], stream: Stream) -> None:
    """Put a copy from the host, of a contiguous array, to the device onto a stream."""
    _asked(driver.cuMemcpyHtoDAsync, int(target), source.ctypes.data, source.nbytes, stream.handle)


def memcpy_dtoh_async(target: NDArray[Any], source: DeviceMemory | int, stream: Stream) -> None:
    """Put a copy from the device to the host, into a contiguous array, onto a stream."""
    _asked(driver.cuMemcpyDtoHAsync, target.ctypes.data, int(source), target.nbytes, stream.handle)


def memset_d8(target: DeviceMemory | int, value: int, count: int) -> None:
    """Fill device memory with a byte."""
    _asked(driver.cuMemsetD8, int(target), value, count)
