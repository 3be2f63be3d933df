"""One thread that reads all meters every half second, and tells what throttled between two moments."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engines.meters.meter import Brake, Count, Meter, MeterError, Quantity
from engines.meters.series import Series

PERIOD_S = 0.5
"""How often meters are read. A benchmark takes about as long: what throttles is looked at as one begins and ends."""


@dataclass(frozen=True)
class Span:
    """A measurement within the run: its test, begin and end in seconds since the run began, and what throttled it."""

    test: str
    start: float
    end: float
    throttled: Sequence[str]


class Sampler:
    """Keeps the readings of all meters over the time of a run.

    A meter that cannot be read any more is given up, and ``problems`` says why; its later values are None. ``clock`` is
    in seconds; times are told since ``origin`` on it.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        brakes: Sequence[Brake],
        *,
        clock: Callable[[], float] = time.perf_counter,
        origin: float | None = None,
    ) -> None:
        self.quantities: Sequence[Quantity] = [quantity for meter in meters for quantity in meter.quantities]
        self.series = Series()
        self.spans: list[Span] = []
        self.problems: list[str] = []
        self.latest: Mapping[Quantity, float] = {}
        """The last value of each quantity that has one."""
        self.counted: dict[str, Count] = {}
        """How often each brake has throttled so far, by its name."""
        self._meters = list(meters)
        self._brakes = list(brakes)
        self._lost: set[int] = set()
        self._clock = clock
        self._origin = clock() if origin is None else origin
        self._before = self.seconds()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._known = dict(self._counts())

    def seconds(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._origin

    def start(self) -> None:
        """Start to read, in a thread of its own."""
        self._thread = threading.Thread(target=self._keep_reading, name="meters", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop to read, and close all meters; a second call changes nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for meter in self._meters:
            try:
                meter.close()
            except MeterError as error:
                self.problems.append(str(error))
        self._meters, self._brakes = [], []

    def sample(self) -> None:
        """Read everything once, and add it to the series."""
        with self._lock:
            values: list[float | None] = []
            for meter in self._meters:
                values += self._read(meter)
            counts, now = self._counts(), self.seconds()
            throttled = {name for name, count in counts.items() if count.since(self._known.get(name)).seen}
            self.latest = {q: v for q, v in zip(self.quantities, values, strict=True) if v is not None}
            self.series.add(self._before, now, values, throttled)
            self._before, self._known = now, dict(counts)

    def watch(self, test: str) -> Callable[[], Sequence[str]]:
        """Start to watch a measurement of a test; the function that this gives ends it, and names what throttled it."""
        with self._lock:
            first = dict(self._counts())
        start = self.seconds()

        def ended() -> Sequence[str]:
            end = self.seconds()
            with self._lock:
                last = {name: count.since(first.get(name)) for name, count in self._counts().items()}
            found = tuple(f"{name}, {count}" for name, count in sorted(last.items()) if count.seen)
            self.spans.append(Span(test, start, end, found))
            return found

        return ended

    def _keep_reading(self) -> None:
        # Rates over a moment are noise: the system counts processor time in ticks of 10 ms.
        due = self._clock() + PERIOD_S
        while not self._stop.wait(max(0.0, due - self._clock())):
            self.sample()
            due = max(due, self._clock() - PERIOD_S) + PERIOD_S

    def _read(self, meter: Meter) -> Sequence[float | None]:
        if id(meter) not in self._lost:
            try:
                return meter.read()
            except MeterError as error:
                self._lose(meter, error)
        return [None] * len(meter.quantities)

    def _counts(self) -> Mapping[str, Count]:
        for brake in self._brakes:
            if id(brake) not in self._lost:
                try:
                    self.counted.update(brake.counts())
                except MeterError as error:
                    self._lose(brake, error)
        return self.counted

    def _lose(self, what: object, error: MeterError) -> None:
        """Drop a meter or brake, or what is both, and tell it once."""
        self._lost.add(id(what))
        self.problems.append(f"{error} (not read any more after {self.seconds():.0f} s)")
