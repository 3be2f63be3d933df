"""Run a TensorRT engine: several execution contexts and streams, host copies, transfers and kernels all at once.

How samples travel, for each batch: a copier thread copies them into page-locked memory; the batch's stream copies
them to the device, runs the engine and copies the outputs back; the calling thread collects them. The slots (one
execution context, stream and set of buffers each) are bound into groups, whose page-locked memory is one piece, so
that one copy fills a group. While some groups are filled, others run.

A full batch is one CUDA graph (both transfers and the engine), captured once a slot; the remainder is enqueued
plainly on a slot of its own, for a context whose graph is to stay valid must not see another shape. It goes last, so
that the host enqueues its kernels one by one while the device is busy with the others.

The first batch of a call, where it is large, is sent to the device piece by piece as the copiers fill it, followed by
a graph without the inputs' transfer: until that batch has arrived, the device has nothing to do.
"""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.model import InputSpec, ModelSpec, OutputSpec
from engines.runner import Arrays, Runner, check_signature
from engines.tensorrt import context, versions
from engines.tensorrt.messages import Said, logger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.variant import Variant

STREAMS = 8
"""The execution contexts and streams of a runner for which nothing was measured."""

COPIERS = max(1, min(4, (os.cpu_count() or 2) // 2))
"""The copier threads of a runner for which nothing was measured."""

GROUP_BYTES = 2 << 20
"""A group of slots is filled by one go of about this size: long against the hand-over to a thread (some 20 µs)."""

CHUNK_BYTES = 1 << 20
"""The least that one copier copies at a time; a larger group is shared out evenly among all."""

INLINE_BYTES = 1 << 19
"""Up to this much in all the calling thread copies itself: that is done before another thread would have started."""

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING of CUDA's driver interface, for which PyCUDA has no name."""

POISON = 0xFF
"""Filled into buffers byte by byte, it makes every float a NaN."""

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}


@dataclass(frozen=True)
class Copies:
    """The transfers of one call: each moves one batch of one tensor, or one piece of a large first batch."""

    host_to_device: int
    device_to_host: int


@dataclass(frozen=True)
class Tensor:
    """An input or output of the engine: its name there, the spec's item, dtype, and the most bytes of one sample."""

    name: str
    item: InputSpec | OutputSpec
    dtype: np.dtype[Any]
    sample_bytes: int


@dataclass(frozen=True)
class Graph:
    """A captured CUDA graph, ready to launch, and the transfers in it: to the device, to the host."""

    executable: Any
    moves: tuple[int, int]


class Slot:
    """One execution context with its stream, device memory, and views of page-locked memory, for one batch."""

    def __init__(self, runner: TensorRTRunner, hosts: dict[str, NDArray[Any]], batch: int) -> None:
        import pycuda.driver as cuda

        self.tensors, self.hosts, self.spec = runner.tensors, hosts, runner.spec
        self.what, self.moved = str(runner.variant), runner.moved
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.graph: Graph | None = None
        self.graph_without_inputs: Graph | None = None
        self.handle: Any = None
        self._cu_graph_launch: Any = None
        self.context: Any = None
        self.device: dict[str, Any] = {}
        # Non-blocking: what another thread does on the default stream must not end up in a capture on this one.
        self.stream = cuda.Stream(NON_BLOCKING)
        try:
            for t in runner.tensors:
                self.device[t.name] = cuda.mem_alloc(batch * t.sample_bytes)
            self._prepare(runner.engine)
        except BaseException:
            self.free()
            raise

    def _prepare(self, engine: Any) -> None:
        said = Said()
        self.context = engine.create_execution_context()
        if self.context is None:
            raise RunnerError(f"{self.what}: TensorRT gives no execution context:\n{said.errors()}")
        if self.context.active_optimization_profile < 0 and not self.context.set_optimization_profile_async(
            0, self.stream.handle
        ):
            raise RunnerError(f"{self.what}: TensorRT refuses the optimization profile:\n{said.errors()}")
        for name, memory in self.device.items():
            if not self.context.set_tensor_address(name, int(memory)):
                raise RunnerError(f"{self.what}: TensorRT refuses the address of {name!r}:\n{said.errors()}")
        self.stream.synchronize()

    def set_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Set the shapes of the inputs, by the engine's names; raises RunnerError where TensorRT refuses one.

        It refuses what lies outside the profile, no samples at all among it.
        """
        if shapes == self.shapes:
            return
        said = Said()
        for name, shape in shapes.items():
            if not self.context.set_input_shape(name, shape):
                self.shapes = {}
                raise RunnerError(f"{self.what}: TensorRT refuses the shape {shape} of {name!r}:\n{said.errors()}")
        self.shapes = dict(shapes)

    def send(self, tensor: Tensor, low: int, high: int) -> None:
        """Put the transfer of some samples of an input to the device onto the stream; returns at once."""
        import pycuda.driver as cuda

        part = self.hosts[tensor.name][low:high]
        cuda.memcpy_htod_async(int(self.device[tensor.name]) + low * (part.nbytes // (high - low)), part, self.stream)
        self.moved[0] += 1

    def enqueue(self, count: int, *, inputs: bool = True, outputs: bool = True) -> None:
        """Put ``count`` samples' way onto the stream: inputs' transfer, engine, outputs' transfer; returns at once."""
        import pycuda.driver as cuda

        for t in self.tensors if inputs else ():
            if isinstance(t.item, InputSpec):
                self.send(t, 0, count)
        said = Said()
        if not self.context.execute_async_v3(self.stream.handle):
            raise RunnerError(f"{self.what}: TensorRT did not take a batch of {count}:\n{said.errors()}")
        for t in self.tensors if outputs else ():
            if isinstance(t.item, OutputSpec):
                cuda.memcpy_dtoh_async(self.hosts[t.name][:count], self.device[t.name], self.stream)
                self.moved[1] += 1

    def capture(self, count: int, *, inputs: bool = True, outputs: bool = True) -> Graph:
        """Capture what :meth:`enqueue` does as a CUDA graph, ready to launch."""
        from cuda.bindings import driver

        before = tuple(self.moved)
        # Enqueued once before: TensorRT then has done what it defers to the first use of a shape.
        self.enqueue(count, inputs=inputs, outputs=outputs)
        self.stream.synchronize()
        # Only calls of this thread may not interfere: another runner may allocate meanwhile.
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        handle = driver.CUstream(self.stream.handle)
        checked(driver.cuStreamBeginCapture(handle, mode))
        captured = tuple(self.moved)
        try:
            self.enqueue(count, inputs=inputs, outputs=outputs)
        finally:
            ended = driver.cuStreamEndCapture(handle)
        moves = (self.moved[0] - captured[0], self.moved[1] - captured[1])
        self.moved[:] = before
        graph = checked(ended)
        executable = checked(driver.cuGraphInstantiate(graph, 0))
        checked(driver.cuGraphDestroy(graph))
        checked(driver.cuGraphUpload(executable, handle))
        self.stream.synchronize()
        # Found once: at a single sample's latency the import statement alone would show.
        self.handle, self._cu_graph_launch = handle, driver.cuGraphLaunch
        return Graph(executable, moves)

    def launch(self, graph: Graph) -> None:
        """Run a captured graph; returns at once."""
        status = self._cu_graph_launch(graph.executable, self.handle)
        if status[0]:
            checked(status)
        self.moved[0] += graph.moves[0]
        self.moved[1] += graph.moves[1]

    def run(self, count: int, *, inputs: bool = True) -> None:
        """Run a full batch, by graph where there is one; without ``inputs`` they were sent before; returns at once."""
        graph = self.graph if inputs else self.graph_without_inputs
        if graph is not None:
            self.launch(graph)
        else:
            self.enqueue(count, inputs=inputs)

    def free(self) -> None:
        """Free graph, execution context and device memory."""
        for graph in (self.graph, self.graph_without_inputs):
            if graph is not None:
                from cuda.bindings import driver

                checked(driver.cuGraphExecDestroy(graph.executable))
        self.graph = self.graph_without_inputs = None
        self.context = None
        while self.device:
            self.device.popitem()[1].free()
        self.hosts = {}


class Group:
    """Slots of ``batch`` samples each, whose page-locked memory is one piece for each tensor."""

    def __init__(self, runner: TensorRTRunner, size: int, batch: int) -> None:
        import pycuda.driver as cuda

        self.pinned: dict[str, NDArray[Any]] = {}
        self.hosts: dict[str, NDArray[Any]] = {}
        self.slots: list[Slot] = []
        self.done: queue.SimpleQueue[tuple[BaseException | None, Tensor, int, int]] = queue.SimpleQueue()
        self.batch = batch
        try:
            for t in runner.tensors:
                # Written once and read by the device only: write-combined memory spares reading each line before, which
                # pays (5 % on an H200) where several threads copy at once, and costs a single one as much.
                combined = isinstance(t.item, InputSpec) and runner.in_pieces
                flags = cuda.host_alloc_flags.WRITECOMBINED if combined else 0
                self.pinned[t.name] = cuda.pagelocked_empty(size * batch * t.sample_bytes, np.uint8, mem_flags=flags)
                self.hosts[t.name] = runner.shaped(t, self.pinned[t.name])
            for s in range(size):
                part = slice(s * batch, (s + 1) * batch)
                self.slots.append(Slot(runner, {name: host[part] for name, host in self.hosts.items()}, batch))
        except BaseException:
            self.free()
            raise

    def prepare(self, runner: TensorRTRunner, *, in_pieces: bool = False) -> None:
        """Set the shapes of full batches and capture their graphs; ``in_pieces`` those without inputs too."""
        for slot in self.slots:
            slot.set_shapes(runner.batch_shapes(self.batch))
            if runner.graphs:
                slot.graph = slot.capture(self.batch)
                slot.graph_without_inputs = slot.capture(self.batch, inputs=False) if in_pieces else None

    def free(self) -> None:
        """Free the slots and the page-locked memory."""
        for slot in self.slots:
            slot.free()
        self.slots.clear()
        self.hosts.clear()
        while self.pinned:
            memory: Any = self.pinned.popitem()[1]
            memory.base.free()


class TensorRTRunner(Runner):
    """Runs a TensorRT plan on device 0.

    ``streams`` is how many batches may be on the device at once, ``graphs`` whether full batches are CUDA graphs,
    ``copiers`` how many threads copy samples into page-locked memory. ``copies`` tells the transfers of the last call.
    ``allow_host_code`` lets version-compatible plans run the host code that they carry: code of whoever made the plan.
    Raises RunnerError, with TensorRT's own message, where the plan cannot be loaded or is not the spec's model, for a
    batch outside the plan's profile, and where the device is out of memory.
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
    ) -> None:
        super().__init__(spec, variant, batch_size)
        self.moved = [0, 0]
        self._lock = threading.Lock()
        self._groups: list[Group] = []
        self._tail: Group | None = None
        self._single: Group | None = None
        self._copiers: list[threading.Thread] = []
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._fixed = not spec.dimensions
        self._context, self._cuda_error = context.primary(), context.cuda_error()
        with context.current():
            self.engine = _load(path, allow_host_code)
            self.tensors = self._signature(path)
            self._check_profile(path)
        self._inputs = [t for t in self.tensors if isinstance(t.item, InputSpec)]
        self._outputs = [t for t in self.tensors if isinstance(t.item, OutputSpec)]
        self._batch_shapes = {t.name: (self.batch_size, *spec.concrete_shape(t.item, 1)[1:]) for t in self._inputs}
        self._output_shapes = [(t.item.name, self.spec.concrete_shape(t.item, 1)[1:], t.dtype) for t in self._outputs]
        self.batch_bytes = self.batch_size * sum(t.sample_bytes for t in self._inputs)
        self.in_pieces = self.batch_bytes > CHUNK_BYTES
        self.configure(streams=streams, graphs=graphs, copiers=copiers)

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
            # Batches that are sent in pieces have a group each: the pieces say which samples, not which slot.
            largest = 1 if self.in_pieces else GROUP_BYTES // max(self.batch_bytes, 1)
            self._group_size = max(1, min(streams // 4, largest))
            self._group_count = max(1, streams // self._group_size)
        self.settings = {
            "streams": str(streams),
            "CUDA graphs": "yes" if self.graphs else "no",
            "copier threads": str(copiers),
        }

    def batch_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Give the shapes of the inputs for a batch, by the engine's names."""
        return {name: (batch, *shape[1:]) for name, shape in self._batch_shapes.items()}

    def shaped(self, tensor: Tensor, memory: NDArray[Any]) -> NDArray[Any]:
        """View page-locked bytes as samples of a tensor."""
        shape = self.spec.concrete_shape(tensor.item, 1)[1:]
        size = int(np.prod(shape, dtype=np.int64)) * tensor.dtype.itemsize
        count = memory.size // tensor.sample_bytes
        view: NDArray[Any] = memory[: count * size].view(tensor.dtype).reshape(count, *shape)
        return view

    def _signature(self, path: Path) -> tuple[Tensor, ...]:
        """Check names, shapes and dtypes against the spec."""
        trt, engine = versions.bindings(), self.engine
        found: dict[str, dict[str, tuple[int, ...]]] = {"INPUT": {}, "OUTPUT": {}}
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            found[engine.get_tensor_mode(name).name][name] = tuple(engine.get_tensor_shape(name))
        names = check_signature(str(path), self.spec, found["INPUT"], found["OUTPUT"])
        tensors = []
        items: list[InputSpec | OutputSpec] = [*self.spec.inputs, *self.spec.outputs]
        for item in items:
            name, sizes = (
                names.get(item.name, item.signature_name),
                {n: max(s) for n, s in self.spec.dimensions.items()},
            )
            kind = engine.get_tensor_dtype(name).name
            if _DTYPES.get(kind) != item.dtype:
                raise RunnerError(f"{path}: {name!r} is {_DTYPES.get(kind, kind)}; expected {item.dtype}")
            if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
                raise RunnerError(f"{path}: {name!r} is a tensor in host memory; expected it on the device")
            dtype = np.dtype(item.dtype)
            shape = [sizes[d] if isinstance(d, str) else d for d in item.shape[1:]]
            tensors.append(Tensor(name, item, dtype, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize))
        return tuple(tensors)

    def profile_shapes(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        """Give the smallest, tuned-for and largest shape of each input, by the spec's names, as the plan has them."""
        return {
            i.name: tuple(tuple(shape) for shape in self.engine.get_tensor_profile_shape(i.signature_name, 0))
            for i in self.spec.inputs
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
        count = self._count(inputs)
        with self._lock:
            if self._closed:
                raise RunnerError(
                    f"{self.variant} of {self.spec.name}: the runner was closed meanwhile; make a new one"
                )
            self._context.push()
            try:
                return self._execute(inputs, count)
            except self._cuda_error as error:
                raise RunnerError(f"{self.variant} of {self.spec.name}: {context.explained(error)}") from error
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
                and array.shape[1:] == self._batch_shapes[t.name][1:]
                and len(array) > 0
                and count in (0, len(array))
            )
            count = len(array) if good and array is not None else 0
        if not good:
            count = self._check(inputs)
        rest = count % self.batch_size
        if 0 < rest < self._least:
            raise RunnerError(
                f"{self.variant} of {self.spec.name}: {count} samples in batches of {self.batch_size} leave {rest}; "
                f"allowed by the profile: {self._least} or more"
            )
        return count

    def _execute(self, inputs: Arrays, count: int) -> dict[str, NDArray[Any]]:
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

    def _run_many(self, inputs: Arrays, count: int) -> dict[str, NDArray[Any]]:
        outputs: dict[str, NDArray[Any]] = {
            name: np.empty((count, *shape), dtype) for name, shape, dtype in self._output_shapes
        }
        self._pipeline(inputs, outputs, *divmod(count, self.batch_size))
        return outputs

    def _rest_group(self) -> Group:
        if self._tail is None:
            self._tail = Group(self, 1, self.batch_size)
        return self._tail

    def _rest_slot(self) -> Slot:
        return self._rest_group().slots[0]

    def _single_group(self) -> Group:
        """Give the slot of calls with one sample, with a graph of its own: for those latency is all that counts."""
        if self._single is None:
            self._single = Group(self, 1, 1)
            self._single.prepare(self)
        return self._single

    def _run_one(self, group: Group, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run a single batch of just the group's size, with as little around it as can be: here latency counts."""
        slot, rows = group.slots[0], group.batch
        if rows * self.batch_bytes <= INLINE_BYTES * self.batch_size:
            for t in self._inputs:
                slot.hosts[t.name][...] = inputs[t.item.name]
            slot.run(rows)
        else:
            self._await_staged(group, self._stage(group, inputs, 0, rows), send=self.in_pieces)
            slot.run(rows, inputs=not self.in_pieces)
        slot.stream.synchronize()
        return {t.item.name: slot.hosts[t.name].copy() for t in self._outputs}

    def _pipeline(self, inputs: Arrays, outputs: dict[str, NDArray[Any]], full: int, rest: int) -> None:
        """Run ``full`` batches and the remainder: while copiers fill groups, the device works on those filled before.

        Waves of batches are staged, launched and collected in order. Staging goes as far ahead as there are groups,
        and a wave that is done is collected only when its group is wanted again: nothing that is ready waits for it.
        """
        size, batch = self._group_size, self.batch_size
        waves = [(first, min(size, full - first)) for first in range(0, full, size)]
        groups = min(self._group_count, len(waves))
        staged, tasks, launched, collected = 0, [0] * len(waves), 0, 0
        rest_tasks: int | None = None
        while launched < len(waves):
            # At first only two: no copier gets to run until this thread waits.
            while (
                staged < len(waves)
                and (launched > 0 or staged < 2)
                and (staged - collected < groups or (collected < launched and self._is_done(waves, collected, groups)))
            ):
                if staged - collected == groups:
                    self._collect(self._group(collected % groups), *waves[collected], outputs)
                    collected += 1
                first, count = waves[staged]
                tasks[staged] = self._stage(self._group(staged % groups), inputs, first * batch, count * batch)
                staged += 1
            if rest * self.batch_bytes > INLINE_BYTES * batch and staged == len(waves) and rest_tasks is None:
                rest_tasks = self._stage(self._rest_group(), inputs, full * batch, rest)
            if launched == staged:
                self._collect(self._group(collected % groups), *waves[collected], outputs)
                collected += 1
                continue
            group = self._group(launched % groups)
            send = self.in_pieces and launched == 0
            self._await_staged(group, tasks[launched], send=send)
            for slot in group.slots[: waves[launched][1]]:
                slot.run(batch, inputs=not send)
            launched += 1
        if rest:
            self._enqueue_rest(inputs, full * batch, rest, rest_tasks)
        for wave in range(collected, len(waves)):
            self._collect(self._group(wave % groups), *waves[wave], outputs)
        if rest:
            self._rest_slot().stream.synchronize()
            for t in self._outputs:
                outputs[t.item.name][full * batch :] = self._rest_slot().hosts[t.name][:rest]

    def _enqueue_rest(self, inputs: Arrays, start: int, rest: int, tasks: int | None) -> None:
        """Enqueue the remainder; ``tasks`` is None where it is so small that no copier was asked."""
        group, slot = self._rest_group(), self._rest_slot()
        if tasks is None and rest * self.batch_bytes > INLINE_BYTES * self.batch_size:
            tasks = self._stage(group, inputs, start, rest)
        if tasks is None:
            for t in self._inputs:
                np.copyto(slot.hosts[t.name][:rest], inputs[t.item.name][start:])
        else:
            self._await_staged(group, tasks)
        slot.set_shapes(self.batch_shapes(rest))
        slot.enqueue(rest)

    def _is_done(self, waves: list[tuple[int, int]], wave: int, groups: int) -> bool:
        """Say whether a launched wave's outputs have arrived; asks only, and waits for nothing."""
        return all(slot.stream.is_done() for slot in self._group(wave % groups).slots[: waves[wave][1]])

    def _group(self, index: int) -> Group:
        """Give a group of slots, set up (contexts made, graphs captured) when it is first needed."""
        while index >= len(self._groups):
            group = Group(self, self._group_size, self.batch_size)
            # Kept first, so that closing frees it whatever happens now.
            self._groups.append(group)
            group.prepare(self, in_pieces=self.in_pieces and index == 0)
        return self._groups[index]

    def _stage(self, group: Group, inputs: Arrays, start: int, rows: int) -> int:
        """Have ``rows`` samples from ``start`` on copied to the group's memory; gives the copies to await."""
        tasks = 0
        for t in self._inputs:
            source, target = inputs[t.item.name], group.hosts[t.name]
            if self.copier_count == 0:
                np.copyto(target[:rows], source[start : start + rows])
                group.done.put((None, t, 0, rows))
                tasks += 1
                continue
            chunk = max(1, CHUNK_BYTES // t.sample_bytes, -(-rows // self.copier_count))
            for low in range(0, rows, chunk):
                high = min(low + chunk, rows)
                self._tasks.put((target[low:high], source[start + low : start + high], group.done, (t, low, high)))
                tasks += 1
        if tasks and self.copier_count and not self._copiers:
            for i in range(self.copier_count):
                thread = threading.Thread(
                    target=_copy, args=(self._tasks,), name=f"{self.variant} copier {i}", daemon=True
                )
                thread.start()
                self._copiers.append(thread)
        return tasks

    def _await_staged(self, group: Group, tasks: int, *, send: bool = False) -> None:
        """Wait until samples are in the group's memory, and ``send`` them on piece by piece."""
        for _ in range(tasks):
            failure, tensor, low, high = group.done.get()
            if failure is not None:
                raise failure
            if send:
                group.slots[0].send(tensor, low, high)

    def _collect(self, group: Group, first: int, count: int, outputs: dict[str, NDArray[Any]]) -> None:
        for slot in group.slots[:count]:
            slot.stream.synchronize()
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
                        f"{name} is {size}; allowed by {self.spec.path}: {low} to {high}"
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
        import pycuda.driver as cuda

        with self._lock, context.current():
            for group in (*self._groups, *(g for g in (self._tail, self._single) if g)):
                for t in self._outputs:
                    group.pinned[t.name][:] = POISON
                    for slot in group.slots:
                        cuda.memset_d8(slot.device[t.name], POISON, group.batch * t.sample_bytes)
            cuda.Context.synchronize()

    def raw(self) -> Slot:
        """Give the slot of the remainders, for what only a bare context shows; use it inside ``context.current()``."""
        return self._rest_slot()

    def _drain(self) -> None:
        """After a failure: wait until no thread and no stream uses the buffers any more; they are set up anew."""
        import pycuda.driver as cuda

        self._stop_copiers()
        cuda.Context.synchronize()
        self._free_groups()

    def _stop_copiers(self) -> None:
        for _ in self._copiers:
            self._tasks.put(None)
        for thread in self._copiers:
            thread.join()
        self._copiers = []

    def _free_groups(self) -> None:
        for group in (*self._groups, *(g for g in (self._tail, self._single) if g)):
            group.free()
        self._groups, self._tail, self._single = [], None, None

    def _teardown(self) -> None:
        self._stop_copiers()
        with context.current():
            self._free_groups()

    def _release(self) -> None:
        with self._lock:
            self._teardown()
            with context.current():
                self.engine = None


def _copy(tasks: queue.SimpleQueue[Any]) -> None:
    """Copy what is asked for until None comes; NumPy lets other threads run meanwhile."""
    while (task := tasks.get()) is not None:
        target, source, done, which = task
        failure: BaseException | None = None
        try:
            np.copyto(target, source)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
            failure = error
        # Nothing of the caller's may be kept alive until the next task comes.
        del task, target, source
        done.put((failure, *which))


def _load(path: Path, allow_host_code: bool) -> Any:
    """Deserialize a plan; raises RunnerError with what TensorRT says of it."""
    trt = versions.bindings()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunnerError(f"{path}: the plan cannot be read: {error.strerror}; expected a TensorRT plan") from error
    if not content:
        raise RunnerError(f"{path}: the plan is empty; expected a TensorRT {trt.__version__} plan")
    said = Said()
    engine = versions.deserialize(trt, logger(), content, allow_host_code)
    if engine is None:
        hint = versions.refusal_hint(said.errors())
        what = f"TensorRT {trt.__version__} ({versions.kind()} runtime)"
        raise RunnerError(f"{path}: {what} cannot load it as a plan:\n{said.errors()}{hint}")
    return engine


def checked(result: Any) -> Any:
    """Give what a call of cuda-python returned beside its status; raises RunnerError where the status is an error."""
    status, *rest = result
    if int(status) != 0:
        raise RunnerError(f"CUDA failed: {status.name} ({int(status)})")
    return rest[0] if rest else None
