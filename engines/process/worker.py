"""The process that a runner lives in: makes it, answers calls, and ends with the process that started it."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import select
import socket
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines import progress
from engines.errors import EngineError
from engines.process.channel import Channel
from engines.process.memory import Layout, Memory
from engines.process.messages import Answer, Call, Crashed, Failed, Logged, Open, Opened, Probe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.runner import Runner


class _Forward(logging.handlers.QueueHandler):
    """Sends what is logged to the process that shows it."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.send(Logged(record))  # type: ignore[attr-defined]


KEPT_BYTES = 64 << 20
"""Outputs up to this size share memory that is kept: writing to new memory takes ten times as long."""


def main(end: int, samples: int, outputs: int) -> None:
    """Serve one runner over a socket until told to close; by the descriptors of it and of the shared memories."""
    # Whatever this process is doing when the other one dies, it may not outlive it.
    threading.Thread(target=_end_with, args=(end,), daemon=True).start()
    # Nor has it anything to say of that.
    with socket.socket(fileno=end) as connection, contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _live(Channel(connection), Memory(samples, writer=False), Memory(outputs, writer=True))


def _live(channel: Channel, samples: Memory, outputs: Memory) -> None:
    opening: Open = channel.receive()
    logger = logging.getLogger("engines")
    logger.setLevel(opening.level)
    logger.addHandler(_Forward(channel))  # type: ignore[arg-type]
    logger.propagate = False
    try:
        # The terminal is the other process's.
        with Path(os.devnull).open("w") as nowhere, progress.shown_on(nowhere, lambda: 0):
            runner = opening.opener()
    except Exception as error:  # noqa: BLE001 - passed on, to be raised there
        channel.send(_failure(0, error))
        channel.receive()  # what it says now is read before this process is gone
        return
    with runner:
        told = runner.batch_size, runner.settings, runner.grids, runner.steps
        channel.send(Opened(*told, _reads(opening.probe)))
        _serve(runner, channel, samples, outputs)


def _reads(probe: Probe) -> bool:
    """Whether this process may read the one that asks."""
    try:
        return probe.there.here().tobytes() == probe.holds
    except OSError:
        return False


def _serve(runner: Runner, channel: Channel, given: Memory, found: Memory) -> None:
    while isinstance(message := channel.receive(), Call):
        number, samples = message
        try:
            outputs = runner(samples.views(given)) if isinstance(samples, Layout) else runner.run_far(samples)
            answer: Any = Answer(number, _shared(outputs, found))
        except Exception as error:  # noqa: BLE001 - passed on, to be raised there
            answer = _failure(number, error)
        channel.send(answer)


def _shared(outputs: Mapping[str, NDArray[Any]], memory: Memory) -> Layout | Mapping[str, NDArray[Any]]:
    """Outputs in the shared memory, or as they are."""
    layout = Layout.of(outputs)
    if layout.size > KEPT_BYTES:
        return outputs
    for name, view in layout.views(memory).items():
        np.copyto(view, outputs[name])
    return layout


def _failure(number: int, error: Exception) -> Failed | Crashed:
    if isinstance(error, EngineError):
        return Failed(number, error)
    return Crashed(number, "".join(traceback.format_exception(type(error), error, error.__traceback__)))


def _end_with(end: int) -> None:
    """End this process once the other end of the socket is closed."""
    closed = select.poll()
    closed.register(end, 0)
    closed.poll()
    os._exit(1)
