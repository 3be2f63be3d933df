"""Threads that copy rows of arrays while the thread that asks goes on: samples, into page-locked memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from engines.far import FarArray, copy

CHUNK_BYTES = 3 << 18
"""What one copier copies at a time, about; what is more than that for each is shared out evenly among all."""

Source = NDArray[Any] | FarArray
"""What is copied: an array of this process, or of another one."""

Key = TypeVar("Key")


class Pieces(Generic[Key]):
    """The pieces of copies as they arrive: the key that a copy was asked for with, and which rows, from and to.

    Iterating waits for each, and raises what the copy of one failed with. Only one thread at a time may ask or iterate.
    """

    def __init__(self) -> None:
        self.expected = 0
        self.arrived: queue.SimpleQueue[tuple[BaseException | None, Key, int, int]] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[tuple[Key, int, int]]:
        while self.expected:
            failure, key, low, high = self.arrived.get()
            self.expected -= 1
            if failure is not None:
                try:
                    raise failure
                finally:
                    # The error knows this frame, and the caller's with its arrays: they would wait for the collector.
                    del failure
            yield key, low, high


class Copiers:
    """``count`` threads that copy what is asked for, the first first; where it is 0, the thread that asks copies.

    The first copy starts them, as does the first one after :meth:`stop`. Only one thread at a time may ask or stop.
    """

    def __init__(self, count: int, name: str) -> None:
        self.count, self.name = count, name
        self._threads: list[threading.Thread] = []
        # None while no thread is there to take a task.
        self._tasks: queue.SimpleQueue[Any] | None = None

    def copy(self, target: NDArray[Any], source: Source, start: int, rows: int, key: Key, pieces: Pieces[Key]) -> None:
        """Have ``rows`` rows of ``source`` from ``start`` on copied to the first ones of ``target``; returns at once.

        They arrive at ``pieces``, under ``key`` and by their place in ``target``. Until then, or until the threads were
        stopped, neither array may be freed or changed.
        """
        if self.count == 0:
            copy(target[:rows], source[start : start + rows])
            pieces.arrived.put((None, key, 0, rows))
            pieces.expected += 1
            return
        tasks = self._start() if self._tasks is None else self._tasks
        shares = max(1, min(self.count, target[:rows].nbytes // CHUNK_BYTES))
        chunk = max(1, -(-rows // shares))
        for low in range(0, rows, chunk):
            high = min(low + chunk, rows)
            tasks.put((target[low:high], source[start + low : start + high], pieces.arrived, (key, low, high)))
            pieces.expected += 1

    def stop(self) -> None:
        """Wait until all that was asked for is copied, and end the threads."""
        if self._tasks is not None:
            for _ in self._threads:
                self._tasks.put(None)
            self._tasks = None
        while self._threads:
            # Joined before it is forgotten: where this is interrupted, the next stop or start waits for it.
            self._threads[-1].join()
            self._threads.pop()

    def _start(self) -> queue.SimpleQueue[Any]:
        self.stop()
        tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks = tasks
        try:
            for i in range(self.count):
                thread = threading.Thread(target=_work, args=(tasks,), name=f"{self.name} copier {i}", daemon=True)
                thread.start()
                self._threads.append(thread)
        except BaseException:
            self.stop()
            raise
        return tasks


def _work(tasks: queue.SimpleQueue[Any]) -> None:
    """Copy what is asked for until None comes."""
    while (task := tasks.get()) is not None:
        target, source, arrived, which = task
        failure: BaseException | None = None
        try:
            copy(target, source)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
            failure = error
        # Nothing of the caller's may be kept alive until the next task comes, an error with its frames neither.
        del task, target, source
        arrived.put((failure, *which))
        del failure
