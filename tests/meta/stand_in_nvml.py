"""Stand-in for nvidia-ml-py: one GPU whose readings a test sets, for heat, brakes and losses that nobody can order."""

from __future__ import annotations

from types import SimpleNamespace


class NVMLError(Exception):
    """What NVML refuses."""


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 - NVML's name
    """What this GPU does not have."""


class NVMLError_FunctionNotFound(NVMLError):  # noqa: N801, N818
    """What this driver does not have."""


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818
    """No libnvidia-ml.so."""


class NVMLError_DriverNotLoaded(NVMLError):  # noqa: N801, N818
    """No driver."""


UUID = "GPU-5ab3"
CLOCK, CELSIUS = 1, 0


class Library:
    """The functions that meters ask, under NVML's names; ``broken`` holds an error by the name of what raises it."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_FunctionNotFound = NVMLError_FunctionNotFound
    NVMLError_LibraryNotFound = NVMLError_LibraryNotFound
    NVMLError_DriverNotLoaded = NVMLError_DriverNotLoaded
    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = CLOCK, CELSIUS

    def __init__(self):
        self.reasons = 0
        self.opened = 0
        self.broken = {}

    def _ask(self, name, value):
        if name in self.broken:
            raise self.broken[name]
        return value

    def nvmlInit(self):  # noqa: N802, D102
        self._ask("init", None)
        self.opened += 1

    def nvmlShutdown(self):  # noqa: N802, D102
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802, D102
        if uuid != UUID:
            raise NVMLError("Not Found")
        return "handle"

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802, D102
        return self._ask("load", SimpleNamespace(gpu=93, memory=40))

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802, D102
        return self._ask("memory", SimpleNamespace(used=3 * 10**9, total=150 * 10**9))

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802, D102
        return self._ask("power", 512_345)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):  # noqa: N802, D102
        return self._ask("limit", 700_000)

    def nvmlDeviceGetClockInfo(self, handle, which):  # noqa: N802, D102
        assert which == CLOCK
        return self._ask("clock", 1980)

    def nvmlDeviceGetTemperature(self, handle, which):  # noqa: N802, D102
        assert which == CELSIUS
        return self._ask("temperature", 61)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):  # noqa: N802, D102
        return self._ask("reasons", self.reasons)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):  # noqa: N802, D102
        return self._ask("old reasons", self.reasons)
