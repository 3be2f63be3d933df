"""Run a TensorRT engine: several execution contexts and streams, host copies, transfers and kernels all at once.

How the samples of a batch travel: a copier thread (copiers.py) copies them into page-locked memory. The batch's stream
copies them to the device, runs the engine and copies the outputs back. The calling thread collects them. The slots
(slots.py: one execution context, stream and set of buffers each) are bound into groups. A group's page-locked memory is
one piece, so that one copy fills it. While some groups are filled, others run.

A full batch is one CUDA graph (both transfers and the engine), captured once a slot; so are the full batches of a whole
group, side by side. The remainder is enqueued plainly on a slot of its own: a context whose graph is to stay valid must
not see another shape. It goes last, so that the host enqueues its kernels one by one while the device is busy with the
others.

A large first batch of a call is sent to the device piece by piece, as the copiers fill it. A graph without the inputs'
transfer follows. Until that batch has arrived, the device has nothing to do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.copiers import Copiers, Source
from engines.errors import DeviceError, RunnerError
from engines.far import FarArray, copy
from engines.formats.tensorrt import context, header, signature, versions
from engines.formats.tensorrt.cuda import driver
from engines.formats.tensorrt.messages import Said, logger
from engines.formats.tensorrt.slots import Group, Loaded, Slot
from engines.model.spec import InputSpec, ModelSpec, OutputSpec
from engines.runner import Arrays, Runner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.variant import Variant

STREAMS = 8
"""The execution contexts and streams of a runner for which nothing was measured."""

COPIERS = max(1, min(4, (os.cpu_count() or 2) // 2))
"""The copier threads of a runner for which nothing was measured."""

GROUP_BYTES = 3 << 19
"""A group of slots is filled by one go of about this size: long against the hand-over to a thread (some 20 µs).

Of larger ones there are fewer, and on two GPUs they gave less.
"""

LEAST_GROUP = 2
"""Slots of a group, however large a batch is: what a launch costs the interpreter, two of them share."""

PIECES_BYTES = 4 << 20
"""A first batch of more than this is sent piece by piece: its copying takes long against a transfer's start."""

INLINE_BYTES = 1 << 19
"""Up to this much in all the calling thread copies itself: that is done before another thread would have started."""


@dataclass(frozen=True)
class Copies:
    """The transfers of one call: each moves one batch of one tensor, or one piece of a large first batch."""

    host_to_device: int
    device_to_host: int


class TensorRTRunner(Runner):
    """Runs a TensorRT plan on one device, by CUDA's number.

    ``streams`` is how many batches may be on the device at once, ``graphs`` whether full batches are CUDA graphs.
    ``copiers`` is how many threads copy samples into page-locked memory. ``copies`` tells the transfers of the last
    call. ``allow_host_code`` lets version-compatible plans run the host code that they carry: code of whoever made the
    plan. Raises RunnerError, with TensorRT's own message, where the plan cannot be loaded or is not the spec's model.
    So it does for a batch outside the plan's profile; DeviceError where the device fails or is out of memory.
    """

    def __init__(
        self,
        spec: ModelSpec,
        variant: Variant,
        path: Path,
        batch_size: int | None = None,
        *,
        streams: int = STREAMS,
        graphs: bool = True,
        copiers: int = COPIERS,
        allow_host_code: bool = False,
        device: int = 0,
    ) -> None:
        super().__init__(spec, variant, batch_size)
        self.allow_host_code, self.device = allow_host_code, device
        self.moved = [0, 0]
        self._lock = threading.Lock()
        self._groups: list[Group] = []
        self._tail: Group | None = None
        self._single: Group | None = None
        self._copiers = Copiers(0, str(variant))  # those that are asked for come with configure()
        self._fixed = not spec.dimensions
        self._context, self._cuda_error = context.primary(device), context.cuda_error()
        with context.current(self.device):
            self.engine = self._load(path)
            self.tensors = signature.tensors(self.engine, self._library(), spec, path)
            self._check_profile(path)
        self._inputs = [t for t in self.tensors if isinstance(t.item, InputSpec)]
        self._outputs = [t for t in self.tensors if isinstance(t.item, OutputSpec)]
        self.batch_bytes = self.batch_size * sum(t.sample_bytes for t in self._inputs)
        self.in_pieces = self.batch_bytes > PIECES_BYTES
        self.configure(streams=streams, graphs=graphs, copiers=copiers)

    def _library(self) -> Any:
        """The bindings of the TensorRT that runs the plan."""
        return versions.bindings()

    def _said(self) -> Said:
        """What that TensorRT says from now on."""
        return Said(self._library())

    def _execution(self) -> Any:
        """A new execution context; None where TensorRT gives none."""
        return self.engine.create_execution_context()

    def _load(self, path: Path) -> Any:
        """Deserialize a plan; raises RunnerError with what TensorRT says of it."""
        trt, content = self._library(), header.plan_bytes(path)
        if not content:
            raise RunnerError(f"{path}: the plan is empty; expected a TensorRT {trt.__version__} plan")
        said = self._said()
        engine = versions.deserialize(trt, logger(), content, self.allow_host_code)
        if engine is None:
            foreign = header.plan_of_rtx(content)
            hint = f"\n{foreign}" if foreign else versions.refusal_hint(said.errors())
            what = f"TensorRT {trt.__version__} ({versions.kind()} runtime)"
            raise RunnerError(f"{path}: {what} cannot load it as a plan:\n{said.errors()}{hint}")
        return engine

    @property
    def copies(self) -> Copies:
        """The transfers of the last call."""
        return Copies(*self.moved)

    def configure(self, *, streams: int, graphs: bool, copiers: int) -> None:
        """Choose streams, graphs and copier threads anew; what was set up for others is freed.

        Waits for a call that is under way; raises RunnerError for settings outside what the message names.
        """
        if streams < 1 or copiers < 0:
            raise RunnerError(
                f"{self.variant}: streams is {streams} and copiers {copiers}; allowed: streams ≥ 1, copiers ≥ 0"
            )
        with self._lock:
            self._teardown()
            self.streams, self.graphs, self.copier_count = streams, graphs and self._fixed, copiers
            self._copiers = Copiers(copiers, str(self.variant))
            # Batches that are sent in pieces have a group each: the pieces say which samples, not which slot.
            largest = 1 if self.in_pieces else max(LEAST_GROUP, GROUP_BYTES // max(self.batch_bytes, 1))
            self._group_size = max(1, min(streams // 4, largest))
            self._group_count = max(1, streams // self._group_size)
        self.settings = {
            "streams": str(streams),
            "CUDA graphs": "yes" if self.graphs else "no",
            "copier threads": str(copiers),
        }

    def batch_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs for a batch, by the engine's names."""
        return {t.name: (batch, *t.shape) for t in self._inputs}

    def new_group(self, size: int, batch: int) -> Group:
        """Make ``size`` slots for batches of ``batch``, which the caller frees; use it in its device's context."""
        loaded = Loaded(self._execution, self._said, self.tensors, str(self.variant), self.moved)
        # Samples are written once and read by the device only: write-combined memory spares reading each line before,
        # which pays (5 % on an H200) where several threads copy at once, and costs a single one as much.
        return Group(loaded, size, batch, write_combined=self.in_pieces)

    def profile_shapes(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        """Smallest, tuned-for and largest shape of each input, by the spec's names, as the plan has them."""
        return {
            t.item.name: tuple(tuple(shape) for shape in self.engine.get_tensor_profile_shape(t.name, 0))
            for t in self.tensors
            if isinstance(t.item, InputSpec)
        }

    def _check_profile(self, path: Path) -> None:
        low, _, high = next(iter(self.profile_shapes().values()))
        self._least, most = low[0], high[0]
        if not self._least <= self.batch_size <= most:
            raise RunnerError(
                f"{self.variant}: batch_size is {self.batch_size}; allowed by the profile of {path}: "
                f"{self._least} to {most}"
            )

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run all samples, as every runner does; one call at a time, from any thread."""
        if self._closed:
            raise RunnerError(f"{self.variant} of {self.spec.name}: the runner is closed; make a new one")
        return self._in_context(inputs, self._count(inputs))

    def run_far(self, inputs: Mapping[str, FarArray]) -> dict[str, NDArray[Any]]:
        """Run samples of another process; they are copied once, to page-locked memory, as all others are."""
        count = len(next(iter(inputs.values())))
        if not self._fixed or count <= self.batch_size:
            return super().run_far(inputs)
        self._check_rest(count)
        return self._in_context(inputs, count)

    def _in_context(self, inputs: Mapping[str, Any], count: int) -> dict[str, NDArray[Any]]:
        """Run checked samples in the device's context."""
        with self._lock:
            if self._closed:
                raise RunnerError(
                    f"{self.variant} of {self.spec.name}: the runner was closed meanwhile; make a new one"
                )
            self._context.push()
            try:
                return self._execute(inputs, count)
            except self._cuda_error as error:
                raise DeviceError(f"{self.variant} of {self.spec.name}: {context.explained(error)}") from error
            finally:
                self._context.pop()

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self(inputs)

    def _count(self, inputs: Arrays) -> int:
        """Check the inputs; the usual good case in a microsecond, all others as every runner does."""
        good, count = self._fixed and len(inputs) == len(self._inputs), 0
        for t in self._inputs if good else ():
            array = inputs.get(t.item.name)
            good = (
                good
                and type(array) is np.ndarray
                and array.dtype == t.dtype
                and array.shape[1:] == t.shape
                and len(array) > 0
                and count in (0, len(array))
            )
            count = len(array) if good and array is not None else 0
        if not good:
            count = self._check(inputs)
        self._check_rest(count)
        return count

    def _check_rest(self, count: int) -> None:
        """Refuse samples whose last batch is smaller than the profile allows; raises RunnerError."""
        rest = count % self.batch_size
        if 0 < rest < self._least:
            raise RunnerError(
                f"{self.variant} of {self.spec.name}: {count} samples in batches of {self.batch_size} leave {rest}; "
                f"allowed by the profile: {self._least} or more"
            )

    def _execute(self, inputs: Mapping[str, Any], count: int) -> dict[str, NDArray[Any]]:
        """Run checked samples: arrays, or, where they are more than a batch of a model of fixed sizes, far ones."""
        self.moved[:] = 0, 0
        try:
            if not self._fixed:
                return self._execute_dynamic(inputs, count)
            if count == self.batch_size:
                return self._run_one(self._group(0), inputs)
            if count == 1 and self.graphs and self._least == 1:
                return self._run_one(self._single_group(), inputs)
            return self._run_many(inputs, count)
        except BaseException:
            self._drain()
            raise

    def _run_many(self, inputs: Mapping[str, Source], count: int) -> dict[str, NDArray[Any]]:
        outputs: dict[str, NDArray[Any]] = {t.item.name: np.empty((count, *t.shape), t.dtype) for t in self._outputs}
        self._pipeline(inputs, outputs, *divmod(count, self.batch_size))
        return outputs

    def _rest_group(self) -> Group:
        if self._tail is None:
            self._tail = self.new_group(1, self.batch_size)
        return self._tail

    def _rest_slot(self) -> Slot:
        return self._rest_group().slots[0]

    def _single_group(self) -> Group:
        """Slot of calls with one sample, with a graph of its own: for those latency is all that counts."""
        if self._single is None:
            self._single = self.new_group(1, 1)
            self._single.prepare(self.batch_shapes(1), graphs=self.graphs)
        return self._single

    def _run_one(self, group: Group, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run a single batch of just the group's size, with as little around it as can be: here latency counts."""
        slot, rows = group.slots[0], group.batch
        if rows * self.batch_bytes <= INLINE_BYTES * self.batch_size:
            for t in self._inputs:
                slot.hosts[t.name][...] = inputs[t.item.name]
            slot.run(rows)
        else:
            self._stage(group, inputs, 0, rows)
            self._await_staged(group, send=self.in_pieces)
            slot.run(rows, inputs=not self.in_pieces)
        slot.stream.synchronize()
        return {t.item.name: slot.hosts[t.name].copy() for t in self._outputs}

    def _pipeline(self, inputs: Mapping[str, Source], outputs: dict[str, NDArray[Any]], full: int, rest: int) -> None:
        """Run ``full`` batches and the remainder: while copiers fill groups, the device works on those filled before.

        Waves of batches are staged, launched and collected in order. Staging goes as far ahead as there are groups. A
        wave that is done is collected only when its group is wanted again: nothing that is ready waits for it.
        """
        size, batch = self._group_size, self.batch_size
        waves = [(first, min(size, full - first)) for first in range(0, full, size)]
        groups = min(self._group_count, len(waves))
        staged, launched, collected, rest_staged = 0, 0, 0, False
        while launched < len(waves):
            # At first only two: no copier gets to run until this thread waits.
            while (
                staged < len(waves)
                and (launched > 0 or staged < 2)
                and (
                    staged - collected < groups or (collected < launched and self._group(collected % groups).is_done())
                )
            ):
                if staged - collected == groups:
                    self._collect(self._group(collected % groups), *waves[collected], outputs)
                    collected += 1
                first, count = waves[staged]
                self._stage(self._group(staged % groups), inputs, first * batch, count * batch)
                staged += 1
            large = rest * self.batch_bytes > INLINE_BYTES * batch
            if large and staged == len(waves) and not rest_staged:
                self._stage(self._rest_group(), inputs, full * batch, rest)
                rest_staged = True
            if launched == staged:
                self._collect(self._group(collected % groups), *waves[collected], outputs)
                collected += 1
                continue
            group = self._group(launched % groups)
            send = self.in_pieces and launched == 0
            self._await_staged(group, send=send)
            group.run(waves[launched][1], inputs=not send)
            launched += 1
        if rest:
            self._enqueue_rest(inputs, full * batch, rest, staged=rest_staged)
        for wave in range(collected, len(waves)):
            self._collect(self._group(wave % groups), *waves[wave], outputs)
        if rest:
            self._rest_slot().stream.synchronize()
            for t in self._outputs:
                outputs[t.item.name][full * batch :] = self._rest_slot().hosts[t.name][:rest]

    def _enqueue_rest(self, inputs: Mapping[str, Source], start: int, rest: int, *, staged: bool) -> None:
        """Enqueue the remainder, which is ``staged`` already or has to be, unless it is small."""
        group, slot = self._rest_group(), self._rest_slot()
        if rest * self.batch_bytes > INLINE_BYTES * self.batch_size:
            if not staged:
                self._stage(group, inputs, start, rest)
            self._await_staged(group)
        else:
            for t in self._inputs:
                copy(slot.hosts[t.name][:rest], inputs[t.item.name][start : start + rest])
        slot.set_shapes(self.batch_shapes(rest))
        slot.enqueue(rest)

    def _group(self, index: int) -> Group:
        """Group of slots, set up (contexts made, graphs captured) when it is first needed."""
        while index >= len(self._groups):
            group = self.new_group(self._group_size, self.batch_size)
            # Kept first, so that closing frees it whatever happens now.
            self._groups.append(group)
            shapes, in_pieces = self.batch_shapes(self.batch_size), self.in_pieces and index == 0
            group.prepare(shapes, graphs=self.graphs, in_pieces=in_pieces)
        return self._groups[index]

    def _stage(self, group: Group, inputs: Mapping[str, Source], start: int, rows: int) -> None:
        """Have ``rows`` samples from ``start`` on copied to the group's memory; its ``pieces`` tell when they are."""
        for t in self._inputs:
            self._copiers.copy(group.hosts[t.name], inputs[t.item.name], start, rows, t, group.pieces)

    def _await_staged(self, group: Group, *, send: bool = False) -> None:
        """Wait until what was staged is in the group's memory, and ``send`` it on piece by piece."""
        for tensor, low, high in group.pieces:
            if send:
                group.slots[0].send(tensor, low, high)

    def _collect(self, group: Group, first: int, count: int, outputs: dict[str, NDArray[Any]]) -> None:
        group.synchronize()
        start, rows = first * self.batch_size, count * self.batch_size
        for t in self._outputs:
            np.copyto(outputs[t.item.name][start : start + rows], group.hosts[t.name][:rows])

    def _check_sizes(self, inputs: Arrays) -> None:
        """Refuse sizes outside the model's ``dimensions``, for which there is no memory; raises RunnerError."""
        for item in self.spec.inputs:
            for name, size in zip(item.shape[1:], inputs[item.name].shape[1:], strict=True):
                if isinstance(name, str) and not min(self.spec.dimensions[name]) <= size <= max(
                    self.spec.dimensions[name]
                ):
                    low, high = min(self.spec.dimensions[name]), max(self.spec.dimensions[name])
                    raise RunnerError(
                        f"{self.variant} of {self.spec.name}: input {item.name!r} has shape {inputs[item.name].shape}, "
                        f"{name} is {size}; allowed by {self.spec.source}: {low} to {high}"
                    )

    def _execute_dynamic(self, inputs: Arrays, count: int) -> dict[str, NDArray[Any]]:
        """Run samples with further dynamic dimensions: batch by batch, at the sizes that they have."""
        self._check_sizes(inputs)
        slot, pinned, parts = self._rest_slot(), self._rest_group().pinned, []
        for start in range(0, count, self.batch_size):
            shapes, rows = {}, min(self.batch_size, count - start)
            for t in self._inputs:
                array = inputs[t.item.name][start : start + rows]
                shapes[t.name] = tuple(array.shape)
                slot.hosts[t.name] = pinned[t.name][: array.nbytes].view(t.dtype).reshape(array.shape)
                np.copyto(slot.hosts[t.name], array)
            slot.set_shapes(shapes)
            for t in self._outputs:
                shape = tuple(slot.context.get_tensor_shape(t.name))
                size = int(np.prod(shape, dtype=np.int64)) * t.dtype.itemsize
                slot.hosts[t.name] = pinned[t.name][:size].view(t.dtype).reshape(shape)
            slot.enqueue(rows)
            slot.stream.synchronize()
            parts.append({t.item.name: slot.hosts[t.name].copy() for t in self._outputs})
        return {t.item.name: np.concatenate([part[t.item.name] for part in parts]) for t in self._outputs}

    def poison(self) -> None:
        """Fill every output buffer that is set up, on host and device, with NaN: what a call leaves of it shows."""
        cuda = driver()

        with self._lock, context.current(self.device):
            for group in self._made():
                group.poison()
            cuda.Context.synchronize()

    def raw(self) -> Slot:
        """Slot of the remainders, for what only a bare context shows; use it in its device's context."""
        return self._rest_slot()

    def _drain(self) -> None:
        """After a failure: wait until no thread and no stream uses the buffers any more; they are set up anew."""
        cuda = driver()

        self._copiers.stop()
        cuda.Context.synchronize()
        self._free_groups()

    def _made(self) -> list[Group]:
        return [*self._groups, *(g for g in (self._tail, self._single) if g)]

    def _free_groups(self) -> None:
        for group in self._made():
            group.free()
        self._groups, self._tail, self._single = [], None, None

    def _teardown(self) -> None:
        self._copiers.stop()
        with context.current(self.device):
            self._free_groups()

    def _release(self) -> None:
        with self._lock:
            self._teardown()
            with context.current(self.device):
                self.engine = None
