"""NVIDIA's driver, asked through ctypes: whether there is one, how old it is, which device it has.

This runs while tests are only collected, on machines with and without a GPU, so it imports nothing.
"""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from engines.errors import UnavailableError

LIBRARY = "libcuda.so.1"

_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def problem(needed: int, load: Callable[[str], Any] = ctypes.CDLL) -> str | None:  # noqa: PLR0911 - one a reason
    """Why there is no GPU to use, or None where there is one.

    ``needed`` is the oldest driver, as the CUDA version it supports (1000 * major + 10 * minor).
    """
    try:
        cuda = load(LIBRARY)
    except OSError as error:
        return f"there is no NVIDIA driver on this machine ({error})"
    status = cuda.cuInit(0)
    if status == _NO_DEVICE:
        return "NVIDIA's driver finds no device"
    if status != 0:
        return f"NVIDIA's driver cannot be initialized (cuInit: {_error(cuda, status)})"
    value = ctypes.c_int()
    if (status := cuda.cuDriverGetVersion(ctypes.byref(value))) != 0:
        return f"NVIDIA's driver does not tell its version (cuDriverGetVersion: {_error(cuda, status)})"
    if value.value < needed:
        return (
            f"NVIDIA's driver is too old: it supports CUDA {_cuda_text(value.value)}, "
            f"this TensorRT needs {_cuda_text(needed)} or later"
        )
    if (status := cuda.cuDeviceGetCount(ctypes.byref(value))) != 0:
        return f"NVIDIA's driver does not count its devices (cuDeviceGetCount: {_error(cuda, status)})"
    return None if value.value > 0 else "NVIDIA's driver finds no device"


@cache
def device() -> dict[str, str]:
    """Name of device 0, and its compute capability; raises UnavailableError where there is none."""
    if reason := problem(0):
        raise UnavailableError(reason)
    cuda = ctypes.CDLL(LIBRARY)
    handle, value, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    _ask(cuda, "cuDeviceGet", ctypes.byref(handle), 0)
    _ask(cuda, "cuDeviceGetName", name, len(name), handle)
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        _ask(cuda, "cuDeviceGetAttribute", ctypes.byref(value), attribute, handle)
        capability.append(str(value.value))
    return {"GPU": name.value.decode(), "compute capability": ".".join(capability)}


@dataclass(frozen=True)
class Device:
    """A device that CUDA shows to this process; ``uuid`` as CUDA_VISIBLE_DEVICES takes it, such as ``GPU-5ab3…``."""

    uuid: str
    name: str


def devices(load: Callable[[str], Any] = ctypes.CDLL) -> tuple[Device, ...]:
    """Devices that CUDA shows to this process, in its own order.

    What CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER hold, whatever it is, is thereby read as CUDA reads it.
    Raises UnavailableError where there is none.
    """
    if reason := problem(0, load):
        raise UnavailableError(reason)
    cuda, count = load(LIBRARY), ctypes.c_int()
    _ask(cuda, "cuDeviceGetCount", ctypes.byref(count))
    found = []
    for ordinal in range(count.value):
        handle, name, identity = ctypes.c_int(), ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)()
        _ask(cuda, "cuDeviceGet", ctypes.byref(handle), ordinal)
        _ask(cuda, "cuDeviceGetName", name, len(name), handle)
        _ask(cuda, "cuDeviceGetUuid", ctypes.byref(identity), handle)
        found.append(Device(f"GPU-{uuid.UUID(bytes=bytes(identity))}", name.value.decode()))
    return tuple(found)


def pci_bus_id() -> str:
    """Where device 0 is on the PCI bus, such as ``0000:19:00.0``: other tools may number devices in another order.

    Raises UnavailableError where there is none.
    """
    if reason := problem(0):
        raise UnavailableError(reason)
    cuda, handle, text = ctypes.CDLL(LIBRARY), ctypes.c_int(), ctypes.create_string_buffer(32)
    _ask(cuda, "cuDeviceGet", ctypes.byref(handle), 0)
    _ask(cuda, "cuDeviceGetPCIBusId", text, len(text), handle)
    return text.value.decode()


def _ask(cuda: Any, function: str, *arguments: Any) -> None:
    if (status := getattr(cuda, function)(*arguments)) != 0:
        raise UnavailableError(f"NVIDIA's driver does not describe its device ({function}: {_error(cuda, status)})")


def _error(cuda: Any, status: int) -> str:
    text = ctypes.c_char_p()
    if cuda.cuGetErrorName(status, ctypes.byref(text)) != 0 or text.value is None:
        return f"error {status}"
    return f"error {status}, {text.value.decode()}"


def _cuda_text(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
