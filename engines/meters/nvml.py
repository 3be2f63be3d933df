"""NVIDIA's management library (NVML), opened in one place, and what it tells of the GPU that CUDA runs on."""

from __future__ import annotations

from typing import Any

from engines.errors import UnavailableError
from engines.formats.tensorrt import driver

FAILS = "NVIDIA's management library fails"


def opened() -> Any:
    """NVML's Python module, with the library started: its nvmlShutdown lets go of it again.

    Raises UnavailableError where nvidia-ml-py, the library or a driver is missing, or the library does not start.
    """
    try:
        import pynvml
    except ModuleNotFoundError as error:
        raise UnavailableError("nvidia-ml-py is not installed (pip install -r requirements-gpu.txt)") from error
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
        raise UnavailableError(f"NVIDIA's management library is missing: {error}") from error
    except pynvml.NVMLError as error:
        raise UnavailableError(f"{FAILS}: {error}") from error
    return pynvml


def described() -> tuple[Any, Any, str, int]:
    """NVML, its handle of CUDA's device 0, the driver's version, and the device's memory in bytes.

    Raises UnavailableError where NVML is missing or fails.
    """
    nvml = opened()
    try:
        # By its place on the bus: NVML's numbers are not CUDA's where CUDA_VISIBLE_DEVICES or another order is set.
        handle = nvml.nvmlDeviceGetHandleByPciBusId(driver.pci_bus_id())
        version, memory = str(nvml.nvmlSystemGetDriverVersion()), int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError as error:
        raise UnavailableError(f"{FAILS}: {error}") from error
    return nvml, handle, version, memory
