"""Samples that never end, run as they come: a bounded queue between who makes them and the engine."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.runner import Arrays, Runner

AHEAD = 2
"""How many batches may wait for the engine."""

LOOK_S = 0.1
"""How often a producer that waits looks whether anybody still wants its samples."""


@dataclass(frozen=True)
class _End:
    """What stands behind the last sample: what ended them, None where there were no more."""

    error: BaseException | None


Waiting = queue.Queue["Arrays | _End"]


def answers(
    runner: Runner, samples: Iterable[Arrays], *, batch: int | None = None, ahead: int = AHEAD
) -> Iterator[dict[str, NDArray[Any]]]:
    """Outputs of one sample after the other, in the order in which they came, for as long as they come.

    A sample is one array for each input, and an answer one for each output, without the batch axis; a ``constant``
    output is as it is. ``samples`` is read in a thread of its own, at most ``ahead`` batches of ``batch`` samples
    before the engine: who makes them faster waits. Samples that are there at once are run together, and none waits for
    a batch to be full. A runner with requests in flight has as many batches at once.

    What ends the samples, or the engine, is raised behind the answers of all samples before it. Closing the iterator
    ends the reading. Raises ValueError for a ``batch`` or ``ahead`` below 1.
    """
    size = runner.batch_size if batch is None else batch
    if size < 1 or ahead < 1:
        raise ValueError(f"batch is {size}, ahead is {ahead}; allowed: 1 or more")
    return _answers(runner, samples, size, ahead)


def _answers(runner: Runner, samples: Iterable[Arrays], size: int, ahead: int) -> Iterator[dict[str, NDArray[Any]]]:
    waiting: Waiting = queue.Queue(size * ahead)
    stop = threading.Event()
    reader = threading.Thread(target=_read, args=(samples, waiting, stop), name="samples", daemon=True)
    reader.start()
    try:
        with ThreadPoolExecutor(runner.in_flight, thread_name_prefix="stream") as pool:
            yield from _in_order(runner, waiting, size, pool)
    finally:
        stop.set()
        # One that is waiting for its own source may never come back; it ends when it does.
        reader.join(timeout=2 * LOOK_S)


def _read(samples: Iterable[Arrays], waiting: Waiting, stop: threading.Event) -> None:
    """Put samples into the queue until they end, or nobody wants them."""
    error: BaseException | None = None
    try:
        with contextlib.closing(_closable(samples)) as source:
            for sample in source:
                if not _put(sample, waiting, stop):
                    return
    except BaseException as found:  # noqa: BLE001 - it is raised where the answers are read
        error = found
    _put(_End(error), waiting, stop)


def _closable(samples: Iterable[Arrays]) -> Any:
    """The samples' iterator, with something to close where it has nothing."""
    source = iter(samples)
    return source if hasattr(source, "close") else (sample for sample in source)


def _put(item: Arrays | _End, waiting: Waiting, stop: threading.Event) -> bool:
    """Whether there was room before anybody said to stop."""
    while not stop.is_set():
        with contextlib.suppress(queue.Full):
            waiting.put(item, timeout=LOOK_S)
            return True
    return False


def _in_order(
    runner: Runner, waiting: Waiting, size: int, pool: ThreadPoolExecutor
) -> Iterator[dict[str, NDArray[Any]]]:
    """Answers of what is in the queue, as many batches at once as the runner has in flight."""
    running: deque[tuple[int, Future[dict[str, NDArray[Any]]]]] = deque()
    end: _End | None = None
    try:
        while end is None or running:
            # With answers on their way, take what is there; without, wait for a sample.
            if end is None and len(running) < runner.in_flight:
                batch, end = _batch(waiting, size, wait=not running)
                if batch:
                    running.append((len(batch), pool.submit(_run, runner, batch)))
                    continue
                if end is not None:
                    continue
            count, future = running.popleft()
            yield from _apart(runner, future.result(), count)
    finally:
        for _, future in running:
            future.cancel()
    if end is not None and end.error is not None:
        raise end.error


def _batch(waiting: Waiting, size: int, *, wait: bool) -> tuple[list[Arrays], _End | None]:
    """Up to so many samples that are there, and the end where it is behind them."""
    found: list[Arrays] = []
    while len(found) < size:
        try:
            item = waiting.get(block=wait and not found)
        except queue.Empty:
            break
        if isinstance(item, _End):
            return found, item
        found.append(item)
    return found, None


def _run(runner: Runner, batch: list[Arrays]) -> dict[str, NDArray[Any]]:
    """Outputs of samples that are run together."""
    names = [i.name for i in runner.spec.inputs]
    for sample in batch:
        if set(sample) != set(names):
            raise RunnerError(
                f"{runner.variant} of {runner.spec.name}: a sample has {sorted(sample)}; expected {names}"
            )
    try:
        inputs = {name: np.stack([sample[name] for sample in batch]) for name in names}
    except ValueError as error:
        raise RunnerError(f"{runner.variant} of {runner.spec.name}: samples of one batch differ: {error}") from error
    return runner(inputs)


def _apart(runner: Runner, outputs: Arrays, count: int) -> Iterator[dict[str, NDArray[Any]]]:
    """Outputs of each sample of a batch."""
    for place in range(count):
        yield {
            name: array if name in runner.spec.constants else np.asarray(array[place])
            for name, array in outputs.items()
        }
