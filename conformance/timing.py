"""Time engines: the figures of one, and the ratio of two measured side by side."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

Inputs = TypeVar("Inputs")

UNSTABLE = 0.2
"""A measurement whose interquartile range is more than this share of its median is reported as unstable."""


@dataclass(frozen=True)
class Latency:
    """Latencies of one call for ``batch`` samples, in seconds: median, 99th percentile and spread.

    ``spread`` is the interquartile range over the median. Throughput is that of the median call.
    """

    batch: int
    rounds: int
    p50: float
    p99: float
    spread: float

    @property
    def samples_per_second(self) -> float:
        """How many samples a second the median call processes."""
        return self.batch / self.p50

    @property
    def stable(self) -> bool:
        """Whether the spread is small enough for the figures to mean something."""
        return self.spread <= UNSTABLE


def latency(seconds: Sequence[float], batch: int) -> Latency:
    """Summarize the durations of single calls, in seconds, for ``batch`` samples each; ValueError for none."""
    if not len(seconds):
        raise ValueError("no durations to summarize")
    low, p50, high, p99 = (float(q) for q in np.quantile(np.asarray(seconds), [0.25, 0.5, 0.75, 0.99]))
    return Latency(batch, len(seconds), p50, p99, (high - low) / p50)


def durations(
    call: Callable[[Inputs], object],
    inputs: Sequence[Inputs],
    *,
    least: int,
    most: float = math.inf,
    seconds: float = 0.0,
) -> list[float]:
    """Time single calls, each on the next of ``inputs``, round and round; gives the duration of each, in seconds.

    They go on for about ``seconds``, but there are ``least`` at least and ``most`` at most. All of them count: what
    only a first call does, it has to have done before.
    """
    found: list[float] = []
    turns, begun = itertools.cycle(inputs), time.perf_counter()
    while len(found) < least or (len(found) < most and time.perf_counter() - begun < seconds):
        given = next(turns)
        start = time.perf_counter()
        call(given)
        found.append(time.perf_counter() - start)
    return found


@dataclass(frozen=True)
class Ratio:
    """How many times as many samples a second one engine processes as another, with its quartiles over the rounds."""

    value: float
    low: float
    high: float
    rounds: int


def side_by_side(
    fast: Callable[[], object],
    slow: Callable[[], object],
    *,
    fast_batch: int,
    slow_batch: int,
    seconds: float,
    least_rounds: int = 5,
) -> Ratio:
    """Measure two calls in turn for about ``seconds`` and give the ratio of their throughputs.

    The turns are what makes the ratio hold on a busy machine: whatever else runs slows both sides of a round. Each
    round has as many calls of the shorter side as last as long as one of the longer: both see the same load. The value
    is the median over the rounds. A turn starts with an unmeasured call: the threads of the other runtime still spin
    for a while, and its data is in the caches.
    """
    one_fast, one_slow = _timed(fast, 1), _timed(slow, 1)
    calls_fast = max(1, round(one_slow / one_fast))
    calls_slow = max(1, round(one_fast / one_slow))
    ratios: list[float] = []
    start = time.perf_counter()
    while len(ratios) < least_rounds or time.perf_counter() - start < seconds:
        slow_time = _timed(slow, calls_slow) / (calls_slow * slow_batch)
        fast_time = _timed(fast, calls_fast) / (calls_fast * fast_batch)
        ratios.append(slow_time / fast_time)
    low, value, high = (float(q) for q in np.quantile(ratios, [0.25, 0.5, 0.75]))
    return Ratio(value, low, high, len(ratios))


LEAST_WATCHED = 0.15
"""Seconds that others have to be watched for: the system counts in ticks of 10 ms."""

PROCESSOR_TIMES = Path("/proc/stat")


def watch_others() -> Callable[[], float | None]:
    """Start watching; the function that this gives says how many cores others kept busy since, on average.

    Others are all other processes and, in a virtual machine, other machines (steal), on the cores that this process may
    use. Linux counts their ticks (man 5 proc). None where there is no such count, or after less than
    :data:`LEAST_WATCHED` seconds.
    """
    first, start = _others_seconds(), time.perf_counter()

    def busy() -> float | None:
        last, seconds = _others_seconds(), time.perf_counter() - start
        return None if first is None or last is None or seconds < LEAST_WATCHED else max(0.0, (last - first) / seconds)

    return busy


def _others_seconds() -> float | None:
    """Processor time that others have used so far on this process' cores, in seconds; None where it is not counted."""
    try:
        lines = [line.split() for line in PROCESSOR_TIMES.read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    # user, nice, system, (idle, iowait,) irq, softirq, steal
    ticks = sum(int(words[i]) for words in lines if words[0] in cores for i in (1, 2, 3, 6, 7, 8))
    own = os.times()
    return ticks / os.sysconf("SC_CLK_TCK") - own.user - own.system


def _timed(call: Callable[[], object], calls: int) -> float:
    """Duration of ``calls`` calls after one that does not count, in seconds."""
    call()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start
