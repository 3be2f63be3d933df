"""How fast a served model answers so many clients, each of which asks again once it has its answer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.formats.served.client import SPENT

if TYPE_CHECKING:
    from engines.formats.served.runner import ServedRunner
    from engines.runner import Arrays


@dataclass(frozen=True)
class Load:
    """What clients saw: the duration of each request in seconds, and how long all of it took.

    ``server`` is the server's own mean for a request in seconds, by where it went; None where it counts nothing.
    """

    durations: Sequence[float]
    seconds: float
    server: Mapping[str, float] | None

    def samples_per_second(self, batch: int) -> float:
        """Samples of all clients together, where each request has ``batch`` of them."""
        return len(self.durations) * batch / self.seconds


def measure(runner: ServedRunner, requests: Sequence[Arrays], clients: int, seconds: float) -> Load:
    """Load of so many clients for about ``seconds``; they take turns with ``requests``, one batch each.

    ``runner`` has to have as many requests in flight. Each client has one answer before anything counts. Raises
    RunnerError where one of them fails.
    """
    ready, stop = threading.Barrier(clients + 1), threading.Event()

    def client(first: int) -> list[float]:
        turns = itertools.islice(itertools.cycle(requests), first % len(requests), None)
        try:
            runner(next(turns))
        finally:
            ready.wait()
        ready.wait()
        found = []
        while not stop.is_set():
            start = time.perf_counter()
            runner(next(turns))
            found.append(time.perf_counter() - start)
        return found

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(client, number) for number in range(clients)]
        ready.wait()
        failed = [error for future in running if future.done() and (error := future.exception())]
        if failed:
            ready.abort()
            raise failed[0]
        before, start = runner.statistics(), time.perf_counter()
        ready.wait()
        time.sleep(seconds)
        stop.set()
        durations = [duration for future in running for duration in future.result()]
        taken = time.perf_counter() - start
    after = runner.statistics()
    if before is None or after is None or after.requests == before.requests:
        return Load(durations, taken, None)
    count = after.requests - before.requests
    server = {place: (after.nanoseconds[place] - before.nanoseconds[place]) / count / 1e9 for place in SPENT}
    return Load(durations, taken, server)
