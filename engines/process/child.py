"""A process of Python for one runner, and the memories that are shared with it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import DeviceError
from engines.far import FarArray, let_children_read
from engines.process.channel import Channel
from engines.process.memory import Memory, anonymous
from engines.process.messages import Close, Logged, Open, Probe

if TYPE_CHECKING:
    from engines.runner import Runner

START = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = json.loads(sys.argv[1])
from engines.process.worker import main
main(*map(int, sys.argv[2:]))
"""
"""What the process runs. Control-C is for the process that asks, which ends this one; a fork would inherit CUDA."""

PROBE_BYTES = 16
"""A process has to tell so much of another one's memory to be taken for one that can read it."""

PATIENCE_S = 30.0
"""How long a process that was told to end may take to free its device, before it is killed."""


class Child:
    """A started process, which opens its runner by ``opener``, a function that can be pickled.

    Every method raises DeviceError, which says how the process ended, where it is there no more.
    """

    def __init__(self, opener: Callable[[], Runner]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = Channel(ours)
        self.samples = Memory(anonymous("samples"), writer=True)
        self.outputs = Memory(anonymous("outputs"), writer=False)
        with theirs:
            passed = (theirs.fileno(), self.samples.descriptor, self.outputs.descriptor)
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, json.dumps(sys.path), *map(str, passed)],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
            )
        self._closed = False
        let_children_read()
        self._probe = np.frombuffer(os.urandom(PROBE_BYTES), np.uint8)
        probe = Probe(FarArray.of(self._probe), self._probe.tobytes())
        self.send(Open(opener, logging.getLogger("engines").getEffectiveLevel(), probe))

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def send(self, message: Any) -> None:
        """Send a message."""
        try:
            self._channel.send(message)
        except OSError as error:
            raise DeviceError(self._end()) from error

    def receive(self) -> Any:
        """The next message; waits for it. What was logged there is logged here."""
        try:
            message = self._channel.receive()
        except (EOFError, OSError) as error:
            raise DeviceError(self._end()) from error
        if isinstance(message, Logged):
            logger = logging.getLogger(message.record.name)
            if logger.isEnabledFor(message.record.levelno):
                logger.handle(message.record)
        return message

    def waiting(self) -> bool:
        """Whether a message is there, or the process has ended; waits for nothing."""
        return self._closed or self._channel.waiting()

    def _end(self) -> str:
        """How the process ended."""
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return "its process does not answer any more"
        if code < 0:
            return f"its process was killed by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"

    def close(self, patience: float = PATIENCE_S) -> None:
        """Have the process free its device and end; kill it where that takes longer. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            with contextlib.suppress(OSError):
                self._channel.send(Close())
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        finally:
            self._process.kill()
            self._process.wait()
            self._channel.close()
            self.samples.close()
            self.outputs.close()
