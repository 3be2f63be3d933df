"""Processor time and memory of this process and of those that it started: workers of pytest-xdist, C++ programs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engines.errors import UnavailableError
from engines.meters.meter import Quantity

if TYPE_CHECKING:
    import psutil

LOOKING = 1 / 500
"""Share of the time that may go into looking for started processes: it reads a file of every process of the machine."""

CORES = Quantity("processor", "cores")
MEMORY = Quantity("memory", "bytes")


class ProcessMeter:
    """Reads how many cores these processes keep busy, and their resident memory, in bytes.

    Memory that processes share counts for each of them. Raises UnavailableError where psutil is not installed.
    """

    quantities: Sequence[Quantity] = (CORES, MEMORY)

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        try:
            import psutil
        except ModuleNotFoundError as error:
            raise UnavailableError("psutil is not installed (pip install -r requirements.txt)") from error
        self._gone = psutil.Error
        self._clock = clock
        self._own = psutil.Process()
        self._children: list[psutil.Process] = []
        self._look_at = -math.inf
        self._used: dict[psutil.Process, float] = {self._own: self._seconds(self._own)}
        self._before = clock()
        self.processor_seconds = 0.0
        """Processor time since the meter was opened, in seconds; what a process used after its last reading is lost."""

    def read(self) -> Sequence[float | None]:
        """Cores that were busy since the reading before, on average, and bytes of resident memory now."""
        if (start := self._clock()) >= self._look_at:
            self._children = self._own.children(recursive=True)
            self._look_at = start + (self._clock() - start) / LOOKING
        used, memory = {}, 0
        for process in (self._own, *self._children):
            try:
                used[process] = self._seconds(process)
                memory += process.memory_info().rss
            except self._gone:
                continue  # it has ended meanwhile, or is another user's
        # Of one that was not known before nothing is known of when it used what it has.
        spent = sum(max(0.0, seconds - self._used[p]) for p, seconds in used.items() if p in self._used)
        now = self._clock()
        took, self._before, self._used = now - self._before, now, used
        self.processor_seconds += spent
        return (spent / took if took > 0 else None), float(memory)

    def close(self) -> None:
        """Nothing is held."""

    @staticmethod
    def _seconds(process: psutil.Process) -> float:
        times = process.cpu_times()
        return float(times.user + times.system)
