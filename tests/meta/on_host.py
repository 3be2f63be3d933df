"""TensorRT's runner with the device left out: its groups, copiers and pipeline on memory of the host."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np

from engines.copiers import Copiers, Pieces
from engines.errors import DeviceError
from engines.formats.tensorrt import slots
from engines.formats.tensorrt.runner import PIECES_BYTES, TensorRTRunner
from engines.formats.tensorrt.slots import Tensor
from engines.model.spec import InputSpec, OutputSpec
from engines.runner import Runner
from engines.variant import Variant


class GoneError(Exception):
    """An error of CUDA."""


class Slot:
    """A slot whose device is done only when it is waited for, or asked a second time."""

    def __init__(self, runner, hosts):
        self.runner, self.hosts, self.asked, self.work = runner, hosts, 0, None
        self.stream = SimpleNamespace(synchronize=self.synchronize, is_done=self.is_done)

    def run(self, count, *, inputs=True):
        """Put a batch onto the stream."""
        assert self.work is None, "the slot is in use"
        self.runner.runs += 1
        if self.runner.runs == self.runner.fails_at:
            raise GoneError("it is gone")
        self.work = count

    def set_shapes(self, shapes):
        """Nothing depends on them here."""

    enqueue = run

    def send(self, tensor, low, high):
        """Count what arrives piece by piece."""
        self.runner.sent += high - low

    def is_done(self):
        """Every second time."""
        self.asked += 1
        if self.asked % 2 == 0:
            self.synchronize()
        return self.work is None

    def synchronize(self):
        """Answer each sample with its first value."""
        if self.work is not None:
            given = self.hosts["in"][: self.work]
            self.hosts["out"][: self.work] = given.reshape(len(given), -1)[:, :1]
            # Whoever reads these samples once more reads something else.
            given[:] = -1
        self.work = None


class Group(slots.Group):
    """Slots and the memory that copiers fill."""

    def __init__(self, runner, size, batch):
        self.batch, self.pieces = batch, Pieces()
        self.hosts = {t.name: np.full((size * batch, *t.shape), np.nan, t.dtype) for t in runner.tensors}
        parts = [slice(i * batch, (i + 1) * batch) for i in range(size)]
        self.slots = [Slot(runner, {name: host[part] for name, host in self.hosts.items()}) for part in parts]
        self.graph, self.running = None, []

    def prepare(self, shapes, *, graphs, in_pieces=False):
        """Nothing is captured here."""

    def free(self):
        """Nothing is held here."""


class OnHost(TensorRTRunner):
    """Answers each sample with its first value; the batch of the number ``fails_at`` fails."""

    def __init__(self, spec, batch, streams, copiers, fails_at=0):
        Runner.__init__(self, spec, Variant("tensorrt", "fp32", spec.profiles[0]), batch)
        self.runs, self.sent, self.fails_at, self.device, self.moved = 0, 0, fails_at, 0, [0, 0]
        self._lock = threading.Lock()
        self._groups, self._tail, self._single, self._fixed, self._least = [], None, None, True, 1
        self._copiers = Copiers(0, "on host")
        self._context = SimpleNamespace(push=lambda: None, pop=lambda: None)
        # Of CUDA nothing is asked what it means.
        self._cuda_error = ()
        ((given,), (found,)) = spec.inputs, spec.outputs
        self.tensors = tuple(
            Tensor(name, item, np.dtype(item.dtype), spec.concrete_shape(item, 1)[1:], size)
            for name, item, size in (("in", given, 320), ("out", found, 40))
        )
        self._inputs = [t for t in self.tensors if isinstance(t.item, InputSpec)]
        self._outputs = [t for t in self.tensors if isinstance(t.item, OutputSpec)]
        self.batch_bytes = batch * 320
        self.in_pieces = self.batch_bytes > PIECES_BYTES
        self.configure(streams=streams, graphs=False, copiers=copiers)

    def new_group(self, size, batch):
        """Slots on the host."""
        return Group(self, size, batch)

    def _in_context(self, inputs, count):
        try:
            return super()._in_context(inputs, count)
        except GoneError as error:
            raise DeviceError(f"CUDA failed: {error}") from error

    def _drain(self):
        self._copiers.stop()
        self._free_groups()

    def _teardown(self):
        self._drain()

    def _release(self):
        self._teardown()
