"""GPUs as NVIDIA's management library (NVML) reads them: load, memory, power, clock, heat, and what throttles them.

Constants and units: NVIDIA, NVML API Reference Guide, "NvmlClocksEventReasons" and "Device Queries"
(docs.nvidia.com/deploy/nvml-api).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engines.meters.meter import Count, MeterError, Quantity
from engines.meters.nvml import opened

SOFTWARE_HEAT, HARDWARE_HEAT, POWER_BRAKE, SLOWDOWN = 0x20, 0x40, 0x80, 0x08
"""NVML's names: nvmlClocksEventReason and SwThermalSlowdown, HwThermalSlowdown, HwPowerBrakeSlowdown, HwSlowdown."""

THROTTLED: Mapping[int, str] = {
    SOFTWARE_HEAT: "heat (software slowdown)",
    HARDWARE_HEAT: "heat (hardware slowdown)",
    POWER_BRAKE: "power brake",
    SLOWDOWN: "hardware slowdown",
}
"""The reasons that count as throttling, by their bit in NVML's mask.

Not among them is nvmlClocksEventReasonSwPowerCap (0x04): a large GPU under full load runs at its power limit as it is
meant to, and its figures are those of the device. Nor are clocks that somebody set (0x02, 0x100), an idle GPU (0x01),
and sync boost (0x10).
"""

BECAUSE = HARDWARE_HEAT | POWER_BRAKE
"""With one of these NVML sets SLOWDOWN, too; alone it stands for what draws too much power at once."""

QUANTITIES = (
    ("load", "share"),
    ("memory", "bytes"),
    ("power", "watts"),
    ("clock", "hertz"),
    ("temperature", "celsius"),
)


class GpuMeter:
    """Reads one GPU, given by its UUID as CUDA has it; ``name`` is what it is called, such as ``GPU 0``.

    It is a brake, too: each look at what throttles the GPU counts. Raises UnavailableError where nvidia-ml-py or NVML
    is missing, MeterError where NVML refuses.
    """

    def __init__(self, name: str, uuid: str) -> None:
        self.name, self.uuid = name, uuid
        self._nvml: Any = opened()
        self._handle = self._asked(self._nvml.nvmlDeviceGetHandleByUUID, uuid)
        self.quantities: Sequence[Quantity] = [Quantity(what, unit, name) for what, unit in QUANTITIES]
        self._looks = 0
        self._seen = dict.fromkeys(THROTTLED, 0)
        limit = self._told(lambda: self._nvml.nvmlDeviceGetEnforcedPowerLimit(self._handle))
        self.power_limit_watts = None if limit is None else limit / 1e3
        memory = self._told(lambda: self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total)
        self.memory_bytes = None if memory is None else int(memory)

    def read(self) -> Sequence[float | None]:
        """Share of the last moments that a kernel ran, bytes in use, watts, hertz of the cores, degrees Celsius."""
        nvml, handle = self._nvml, self._handle
        asked: Sequence[tuple[Callable[[], float], float]] = (
            (lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu, 0.01),
            (lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used, 1.0),
            (lambda: nvml.nvmlDeviceGetPowerUsage(handle), 1e-3),
            (lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM), 1e6),
            (lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU), 1.0),
        )
        values = [(self._told(ask), unit) for ask, unit in asked]
        return [None if value is None else value * unit for value, unit in values]

    def counts(self) -> Mapping[str, Count]:
        """Looks so far in which each reason throttled the GPU; nothing where NVML does not tell the reasons."""
        mask = self._told(lambda: self._reasons(self._handle))
        if mask is None:
            return {}
        self._looks += 1
        active = int(mask) & ~(SLOWDOWN if int(mask) & BECAUSE else 0)
        for bit in THROTTLED:
            self._seen[bit] += bool(active & bit)
        return {f"{self.name} {what}": Count(self._seen[bit], self._looks, "looks") for bit, what in THROTTLED.items()}

    def close(self) -> None:
        """Let go of NVML, which counts who uses it."""
        self._asked(self._nvml.nvmlShutdown)

    def _reasons(self, handle: Any) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        except self._nvml.NVMLError_FunctionNotFound:
            # The name that drivers before 535 know.
            return int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))

    def _told(self, ask: Callable[[], float]) -> float | None:
        """What NVML says, None where this GPU does not have it; raises MeterError for anything else."""
        try:
            return ask()
        except self._nvml.NVMLError_NotSupported:
            return None
        except self._nvml.NVMLError as error:
            raise MeterError(f"{self.name} cannot be read: {error}") from error

    def _asked(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._nvml.NVMLError as error:
            raise MeterError(f"{self.name} cannot be read: {error}") from error
