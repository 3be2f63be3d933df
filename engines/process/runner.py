"""A runner in a process of its own, which reads the samples out of this one: one interpreter's lock feeds one device.

This process only tells where the samples are, and waits. Where the system lets no process read another one's memory,
as some containers do, they are copied into memory that both share.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.far import FarArray
from engines.outputs import Gathered
from engines.process.memory import Layout
from engines.process.messages import Answer, Call, Crashed, Failed, Opened
from engines.runner import Arrays, Runner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec
    from engines.process.child import Child
    from engines.variant import Variant

COPIED_BYTES = 256 << 20
"""Samples that have to be copied for the other process go there by so much at a time."""


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
        self.settings, self.grids, self.steps = dict(opened.settings), opened.grids, opened.steps
        self.child, self._reads, self._number = child, opened.reads, 0
        self._lock = threading.Lock()
        if not opened.reads:
            self.settings["samples"] = "copied twice: this system lets no process read another one's memory"

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run all samples, as every runner does."""
        with self._lock:
            # The next call writes where these are.
            return {name: array.copy() for name, array in self._answers(inputs).items()}

    def lent(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs in the memory that is shared with the other process, which the next call overwrites."""
        with self._lock:
            return self._answers(inputs)

    def _answers(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        if self._closed:
            raise RunnerError(f"{self.variant} of {self.spec.name}: the runner is closed; make a new one")
        count = self._check(inputs)
        if not self._reads:
            return self._copied(inputs, count)
        # Kept until they are answered: the other process reads them meanwhile.
        given = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        return self._answer({name: FarArray.of(array) for name, array in given.items()})

    def _copied(self, inputs: Arrays, count: int) -> dict[str, NDArray[Any]]:
        """Answers to samples that go through shared memory, as many at a time as it may hold."""
        size = sum(array.nbytes for array in inputs.values()) // count * self.batch_size
        rows = max(1, COPIED_BYTES // max(1, size)) * self.batch_size
        found = Gathered(self.spec, count, f"{self.variant} of {self.spec.name}")
        for start in range(0, count, rows):
            some = {name: array[start : start + rows] for name, array in inputs.items()}
            layout = Layout.of(some)
            for name, view in layout.views(self.child.samples).items():
                np.copyto(view, some[name])
            found.add(start, self._answer(layout))
        return found.outputs()

    def _answer(self, samples: Mapping[str, FarArray] | Layout) -> dict[str, NDArray[Any]]:
        """The answer to a call, where the next one will be; what belongs to a former one is passed over."""
        self._number += 1
        self.child.send(Call(self._number, samples))
        while True:
            message = self.child.receive()
            if isinstance(message, Answer) and message.number == self._number:
                found = message.outputs
                return dict(found.views(self.child.outputs) if isinstance(found, Layout) else found)
            if isinstance(message, Failed | Crashed) and message.number == self._number:
                raise _error(message)

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self(inputs)

    def _release(self) -> None:
        with self._lock:
            self.child.close()


def _error(message: Failed | Crashed) -> Exception:
    if isinstance(message, Failed):
        return message.error
    return RuntimeError(f"a runner's process failed:\n{message.trace}")
