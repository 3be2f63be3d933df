"""A runner in a process of its own, fed through a ring in shared memory: one interpreter's lock feeds one device.

The samples of a call are copied into the ring piece by piece. The runner there works on those that have arrived, and
tells which places are free again. So the device waits for the first piece only, and the ring is small.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.copiers import CHUNK_BYTES, Copiers, Pieces
from engines.errors import RunnerError
from engines.process.arriving import Layout
from engines.process.messages import Answer, Call, Crashed, Failed, Opened, Rows
from engines.runner import Arrays, Runner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec
    from engines.process.child import Child
    from engines.variant import Variant

RING_BYTES = 64 << 20
"""The ring holds so much at least: 8 ms of work where a device takes 8 GB/s, against a hand-over of some 0.05 ms."""

PIECE_BYTES = 4 << 20
"""The ring is filled by so much at a time: 0.4 ms of copying, against a hand-over of some 0.02 ms."""

COPIERS = 2
"""The threads that fill a ring: one copies some 10 GB/s, hardly more than a device may take."""


class ProcessRunner(Runner):
    """Runs the runner of a started process; one call at a time, from any thread.

    Raises what the runner there raises, RuntimeError with its traceback where that is no EngineError. DeviceError says
    how the process ended, where it did: from then on every call raises it.
    """

    def __init__(self, spec: ModelSpec, variant: Variant, child: Child) -> None:
        opened = None
        while not isinstance(opened, Opened):
            opened = child.receive()
            if isinstance(opened, Failed | Crashed):
                raise _error(opened)
        super().__init__(spec, variant, opened.batch_size)
        self.settings, self.grids, self.steps = opened.settings, opened.grids, opened.steps
        self.child = child
        self._stride, self._number = opened.stride, 0
        self._lock = threading.Lock()
        self._copiers = Copiers(COPIERS, f"{variant} feeder")

    @property
    def stride(self) -> int:
        """That of the runner there."""
        return self._stride

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run all samples, as every runner does."""
        with self._lock:
            if self._closed:
                raise RunnerError(f"{self.variant} of {self.spec.name}: the runner is closed; make a new one")
            count = self._check(inputs)
            self._number += 1
            try:
                return self._answer(inputs, count, self._number)
            except BaseException:
                # The inputs are the caller's again.
                self._copiers.stop()
                raise

    def _answer(self, inputs: Arrays, count: int, number: int) -> dict[str, NDArray[Any]]:
        """Feed a call, and wait for its answer; what belongs to a former one, which was interrupted, is passed over."""
        sample_bytes = max(1, sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in inputs.values()))
        # A runner reads a stride at once, which has to lie in one piece; two, so that one is filled meanwhile.
        rows = max(2, RING_BYTES // sample_bytes // self._stride) * self._stride
        rows = min(rows, -(-count // self._stride) * self._stride)
        layout = Layout.of(inputs, rows)
        ring = layout.views(self.child.samples)
        # No more than a quarter: with what is not yet told of, and what is waited for, more might never be free.
        most = max(1, min(PIECE_BYTES // sample_bytes, rows // 4))
        self.child.send(Call(number, count, rows, layout))
        sent, done = 0, 0
        while True:
            while sent < count:
                # Ever larger ones: the first is no more than what the runner reads first.
                piece = min(most, max(self._stride, sent), count - sent, rows - sent % rows)
                if sent + piece - done > rows or self.child.waiting():
                    break
                self._copy(ring, sent % rows, inputs, sent, piece)
                sent += piece
                self.child.send(Rows(number, sent))
            message = self.child.receive()
            if isinstance(message, Rows) and message.number == number:
                done = message.samples
            elif isinstance(message, Answer) and message.number == number:
                if isinstance(message.outputs, Layout):
                    # The next call writes there.
                    return {name: view.copy() for name, view in message.outputs.views(self.child.outputs).items()}
                return dict(message.outputs)
            elif isinstance(message, Failed | Crashed) and message.number == number:
                raise _error(message)

    def _copy(self, ring: Arrays, place: int, inputs: Arrays, start: int, count: int) -> None:
        """Copy samples to their place in the ring."""
        pieces: Pieces[str] = Pieces()
        for name, array in inputs.items():
            target = ring[name][place : place + count]
            if target.nbytes <= CHUNK_BYTES:
                np.copyto(target, array[start : start + count])
            else:
                self._copiers.copy(target, array, start, count, name, pieces)
        for _ in pieces:
            pass

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self(inputs)

    def _release(self) -> None:
        with self._lock:
            self._copiers.stop()
            self.child.close()


def _error(message: Failed | Crashed) -> Exception:
    if isinstance(message, Failed):
        return message.error
    return RuntimeError(f"a runner's process failed:\n{message.trace}")
