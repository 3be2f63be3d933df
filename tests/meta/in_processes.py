"""Runners that tests put into processes of their own, each by a function that can be named there."""

from __future__ import annotations

import logging
import os
import signal
import time

import numpy as np

from engines.errors import DeviceError, RunnerError
from engines.runner import Runner
from engines.variant import Variant

BATCH = 4
_log = logging.getLogger("engines.in_processes")


class First(Runner):
    """Answers each sample with the first value of each of its inputs, summed, in every place of every output.

    What the first value of the first sample of a call says in :data:`TRICKS` is done before.
    """

    def __init__(self, spec, variant=None, batch=BATCH):
        super().__init__(spec, variant or Variant("tensorrt", "fp32", spec.profiles[0]), batch)
        self.settings = {"pid": str(os.getpid())}
        self.steps = {spec.inputs[0].name: 0.5}

    def __call__(self, inputs):
        """Answer, or do a trick."""
        count = self._check(inputs)
        values = sum(a.reshape(count, -1)[:, 0].astype(np.float64) for a in inputs.values())
        for value in values[values < 0]:
            TRICKS[int(value)]()
        found = {}
        for item in self.spec.outputs:
            shape = [64 if isinstance(size, str) else size for size in item.shape]
            if item.name in self.spec.constants:
                found[item.name] = np.arange(np.prod(shape)).reshape(shape).astype(item.dtype)
                continue
            answers = values.reshape(count, *[1] * (len(shape) - 1))
            found[item.name] = np.broadcast_to(answers, (count, *shape[1:])).astype(item.dtype)
        return found

    def _run(self, inputs):
        return self(inputs)

    def _release(self):
        pass


def _raise(error):
    raise error


TRICKS = {
    -1: lambda: _raise(RunnerError("refuses the shape")),
    -2: lambda: _raise(DeviceError("CUDA failed: it is gone")),
    -3: lambda: _raise(ZeroDivisionError("nobody foresaw this")),
    -4: lambda: os.kill(os.getpid(), signal.SIGKILL),
    -5: lambda: os._exit(3),
    -6: lambda: _log.warning("said in %s", "there"),
    -7: lambda: time.sleep(0.2),
    -8: lambda: time.sleep(600),
}
"""What a sample can have done in the midst of a call, by its first value."""

REFUSED, GONE, UNFORESEEN, KILLED, ENDED, SAYS, SLOW, HANGS = -1, -2, -3, -4, -5, -6, -7, -8


def first(spec, batch=BATCH):
    """The ordinary one."""
    return First(spec, batch=batch)


def tricky(trick, spec):
    """One that does a trick before it is there."""
    TRICKS[trick]()
    return First(spec)


def on_device(spec, faulty, number, *, far):
    """One for a device by its number, which is full where it is the faulty one."""
    if number == faulty:
        raise DeviceError("the device is out of memory (0 MB of 150,000 MB free)")
    return First(spec)
