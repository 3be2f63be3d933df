"""One engine on several devices: the batches of a call are dealt to whichever device is free, outputs are in order.

Each device has a runner of its own, and a thread that asks it. Once their rates are known, each has its share of a call
at once. A device that has become slower holds up one call, and has less of the next. One that fails is not asked again:
what it was given goes to the others, so that a call either has an answer for every sample or raises.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import DeviceError, RunnerError
from engines.outputs import Gathered
from engines.runner import Arrays, Runner

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)


LEAST = 1 / 128
"""The part of a call's batches that is worth dealing by itself."""

RATED = 64
"""Of fewer batches a device's rate is not told: what it takes to begin and to end is too much of it."""

ALIKE = 1.1
"""Devices whose rates are within this ratio are taken for equal: from call to call they differ by chance."""


class Deal:
    """Batches of one call, dealt out by number; from any thread.

    By known ``rates`` each taker has its share in one part: a part begins and ends with nothing to overlap, which is
    2 % of 50,000 small samples. Without them they go in rounds, a part for each taker: four fifths of an even share of
    what is left then. Parts are large at first, and small at last, so that all devices end together. Once they would be
    smaller than :data:`LEAST` of all, the rest goes in even shares: what more rounds would even out, the beginnings and
    ends of their parts cost again.
    """

    def __init__(self, batches: int, takers: int, rates: Mapping[str, float] | None = None) -> None:
        self._kept = _shares(batches, rates or {})
        self._left = [range(batches)] if batches and not self._kept else []
        self._takers, self._out, self._stopped = takers, 0, False
        self._least = int(batches * LEAST)
        self._size, self._round = 0, 0
        self._changed = threading.Condition()

    def take(self, who: str = "") -> range | None:
        """The next batches for a taker; None where all are done, or the deal was stopped.

        Waits while others still work on the last ones, or are to: what one of them gives back has to be taken.
        """
        with self._changed:
            if (own := self._kept.pop(who, None)) and not self._stopped:
                self._out += 1
                return own
            while not self._left and (self._out or self._kept) and not self._stopped:
                self._changed.wait()
            if self._stopped or not self._left:
                return None
            first = self._left.pop(0)
            if self._round == 0:
                left = len(first) + sum(map(len, self._left))
                self._size, self._round = -(-4 * left // (5 * self._takers)), self._takers
                if self._size < self._least:
                    self._size = -(-left // self._takers)
            self._round -= 1
            size = min(len(first), self._size)
            if size < len(first):
                self._left.insert(0, first[size:])
            self._out += 1
            return first[:size]

    def done(self) -> None:
        """Note that a part is done."""
        with self._changed:
            self._out -= 1
            self._changed.notify_all()

    def give_back(self, part: range) -> None:
        """Have others do a part; who had it takes none any more."""
        with self._changed:
            self._left.insert(0, part)
            self._out, self._takers = self._out - 1, max(1, self._takers - 1)
            self._changed.notify_all()

    def stop(self) -> None:
        """Deal out nothing any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Whether all batches are done."""
        with self._changed:
            return not self._left and not self._kept and not self._out and not self._stopped


def _shares(batches: int, rates: Mapping[str, float]) -> dict[str, range]:
    """Batches of each in proportion to its rate, in one piece; without those that get none."""
    if rates and max(rates.values()) <= ALIKE * min(rates.values()):
        rates = dict.fromkeys(rates, 1.0)
    ends = np.rint(np.cumsum([0.0, *rates.values()]) / (sum(rates.values()) or 1.0) * batches).astype(int).tolist()
    parts = (range(low, high) for low, high in pairwise(ends))
    return {name: part for name, part in zip(rates, parts, strict=True) if part}


class DealingRunner(Runner):
    """Runs one engine on several devices: ``devices`` maps a name for each to a runner of the same engine there.

    ``lost`` tells which devices failed, and why; they stay out of all later calls. ``dealt`` counts the samples that
    each device ran in the last call. A call with one batch goes to the devices in turn. One call at a time, from any
    thread. Raises RunnerError where no device is left, DeviceError and all, or where a device gives another number of
    answers than it was given samples.
    """

    def __init__(self, devices: Mapping[str, Runner]) -> None:
        first = next(iter(devices.values()))
        super().__init__(first.spec, first.variant, min(runner.batch_size for runner in devices.values()))
        self.devices, self.dealt = dict(devices), dict.fromkeys(devices, 0)
        self.grids, self.steps = first.grids, first.steps
        self.settings = {**first.settings, "devices": ", ".join(devices)}
        self._turn, self._rates = 0, dict[str, float]()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(len(devices), thread_name_prefix=f"{first.variant} device")

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run all samples, as every runner does."""
        with self._lock:
            if self._closed:
                raise RunnerError(f"{self._what}: the runner is closed; make a new one")
            count = self._check(inputs)
            self.dealt = dict.fromkeys(self.devices, 0)
            return self._deal(inputs, count)

    @property
    def _what(self) -> str:
        return f"{self.variant} of {self.spec.name}"

    def _deal(self, inputs: Arrays, count: int) -> dict[str, NDArray[Any]]:
        """Outputs of all parts, in the order of the samples."""
        batches = -(-count // self.batch_size)
        found = Gathered(self.spec, count, self._what)
        live = [name for name in self.devices if name not in self.lost]
        rated = batches >= RATED * len(live) and self._rates.keys() >= set(live)
        deal = Deal(batches, max(1, len(live)), {name: self._rates[name] for name in live} if rated else None)
        if batches == 1 and live:
            # In this thread: a hand-over to another one would be most of what a small batch takes.
            self._turn += 1
            start = self._turn % len(live)
            for name in (*live[start:], *live[:start]):
                self._work(name, deal, inputs, found)
        else:
            self._together(live, deal, inputs, found)
        if not deal.finished:
            told = "; ".join(f"{name}: {why}" for name, why in self.lost.items())
            raise RunnerError(f"{self._what}: every device has failed: {told}")
        return found.outputs()

    def _together(self, names: list[str], deal: Deal, inputs: Arrays, found: Gathered) -> None:
        """Work on all devices at once, until nothing is left; raises what is no device's failure, once all ended."""
        works: list[Future[None]] = []
        try:
            works += [self._threads.submit(self._work, name, deal, inputs, found) for name in names]
            wait(works)
        except BaseException:
            # Once the caller has its inputs back, nobody may read them any more.
            deal.stop()
            wait(works)
            raise
        for work in works:
            work.result()

    def _work(self, name: str, deal: Deal, inputs: Arrays, found: Gathered) -> None:
        """Run parts on a device until there are none, or it fails."""
        ran, seconds = 0, 0.0
        while (part := deal.take(name)) is not None:
            rows = slice(part.start * self.batch_size, part.stop * self.batch_size)
            given = {key: array[rows] for key, array in inputs.items()}
            start = time.perf_counter()
            try:
                answered = self.devices[name].lent(given)
                count = self._complete(name, given, answered)
                found.add(rows.start, answered)
            except DeviceError as error:
                self.lost[name] = str(error)
                _log.warning("%s: %s failed, and is not used any more: %s", self._what, name, error, extra=LOGGED)
                deal.give_back(part)
                return
            except BaseException:
                deal.stop()
                raise
            ran, seconds = ran + len(part), seconds + time.perf_counter() - start
            self.dealt[name] += count
            deal.done()
        if ran >= RATED:
            self._rates[name] = ran / seconds

    def _complete(self, name: str, given: Arrays, answered: Arrays) -> int:
        """Refuse fewer or more answers than samples; returns their number."""
        count = len(next(iter(given.values())))
        for output, array in answered.items():
            if output not in self.spec.constants and len(array) != count:
                raise RunnerError(f"{self._what}: {name} gives {len(array)} rows of {output!r} for {count} samples")
        return count

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self(inputs)

    def _release(self) -> None:
        with self._lock:
            # All at once: each may have a process to end.
            closing = {name: self._threads.submit(runner.close) for name, runner in self.devices.items()}
            self._threads.shutdown()
            for name, closed in closing.items():
                # A device that is gone gives nothing back.
                with contextlib.suppress(*([DeviceError] if name in self.lost else [])):
                    closed.result()


LOGGED = {"progress": True}
"""What a log record carries that a run shows in the midst of its dots."""
