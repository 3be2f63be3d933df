"""Slots and groups of them: an execution context with its stream, buffers and CUDA graphs, for one batch each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.copiers import Pieces
from engines.errors import DeviceError, RunnerError
from engines.formats.tensorrt.cuda import driver
from engines.formats.tensorrt.messages import Said
from engines.model.spec import InputSpec, OutputSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING of CUDA's driver interface, for which PyCUDA has no name."""

POISON = 0xFF
"""Filled into buffers byte by byte, it makes every float a NaN."""


DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}
"""NumPy's names of TensorRT's data types."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of the engine: its name there, the spec's item, dtype, and the most bytes of one sample.

    ``shape`` is that of one sample, further dynamic dimensions at their first size.
    """

    name: str
    item: InputSpec | OutputSpec
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    sample_bytes: int


@dataclass(frozen=True)
class Loaded:
    """A deserialized engine as its slots need it: ``what`` names it in errors.

    ``execution`` makes an execution context, ``said`` begins to listen to what its TensorRT says. ``moved`` counts all
    slots' transfers, where they are made: to the device, to the host.
    """

    execution: Callable[[], Any]
    said: Callable[[], Said]
    tensors: tuple[Tensor, ...]
    what: str
    moved: list[int]


@dataclass(frozen=True)
class Graph:
    """A captured CUDA graph, ready to launch on its stream, and the transfers in it: to the device, to the host."""

    executable: Any
    moves: tuple[int, int]
    start: Callable[[Any, Any], Any]
    handle: Any
    moved: list[int]

    def launch(self) -> None:
        """Run it; returns at once."""
        status = self.start(self.executable, self.handle)
        if status[0]:
            checked(status)
        self.moved[0] += self.moves[0]
        self.moved[1] += self.moves[1]

    def free(self) -> None:
        """Return it to the driver."""
        from cuda.bindings import driver as binding

        checked(binding.cuGraphExecDestroy(self.executable))


def captured(stream: Any, work: Callable[[], None], moved: list[int]) -> Graph:
    """Capture what ``work`` puts onto a stream as a CUDA graph; ``moved`` counts its transfers whenever it runs."""
    from cuda.bindings import driver as binding

    before = tuple(moved)
    # Enqueued once before: TensorRT then has done what it defers to the first use of a shape.
    work()
    stream.synchronize()
    # Only calls of this thread may not interfere: another runner may allocate meanwhile.
    mode = binding.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    handle = binding.CUstream(stream.handle)
    checked(binding.cuStreamBeginCapture(handle, mode))
    start = tuple(moved)
    try:
        work()
    finally:
        ended = binding.cuStreamEndCapture(handle)
    moves = (moved[0] - start[0], moved[1] - start[1])
    moved[:] = before
    graph = checked(ended)
    try:
        executable = checked(binding.cuGraphInstantiate(graph, 0))
    finally:
        checked(binding.cuGraphDestroy(graph))
    try:
        checked(binding.cuGraphUpload(executable, handle))
        stream.synchronize()
    except BaseException:
        binding.cuGraphExecDestroy(executable)
        raise
    # The call is found once: at a single sample's latency the import statement alone would show.
    return Graph(executable, moves, binding.cuGraphLaunch, handle, moved)


class Slot:
    """One execution context with its stream, device memory, and views of page-locked memory, for one batch."""

    def __init__(self, loaded: Loaded, hosts: dict[str, NDArray[Any]], batch: int) -> None:
        cuda = driver()

        self.tensors, self.hosts, self.what, self.moved = loaded.tensors, hosts, loaded.what, loaded.moved
        self.said = loaded.said
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.graph: Graph | None = None
        self.graph_without_inputs: Graph | None = None
        self.context: Any = None
        self.device: dict[str, Any] = {}
        # Non-blocking: what another thread does on the default stream must not end up in a capture on this one.
        self.stream = cuda.Stream(NON_BLOCKING)
        try:
            for t in loaded.tensors:
                self.device[t.name] = cuda.mem_alloc(batch * t.sample_bytes)
            self._prepare(loaded.execution)
        except BaseException:
            self.free()
            raise

    def _prepare(self, execution: Callable[[], Any]) -> None:
        said = self.said()
        self.context = execution()
        if self.context is None:
            raise DeviceError(f"{self.what}: TensorRT gives no execution context:\n{said.errors()}")
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
        said = self.said()
        for name, shape in shapes.items():
            if not self.context.set_input_shape(name, shape):
                self.shapes = {}
                raise RunnerError(f"{self.what}: TensorRT refuses the shape {shape} of {name!r}:\n{said.errors()}")
        self.shapes = dict(shapes)

    def send(self, tensor: Tensor, low: int, high: int) -> None:
        """Put the transfer of some samples of an input to the device onto the stream; returns at once."""
        cuda = driver()

        part = self.hosts[tensor.name][low:high]
        cuda.memcpy_htod_async(int(self.device[tensor.name]) + low * (part.nbytes // (high - low)), part, self.stream)
        self.moved[0] += 1

    def enqueue(self, count: int, *, inputs: bool = True, outputs: bool = True) -> None:
        """Put ``count`` samples' way onto the stream: inputs' transfer, engine, outputs' transfer; returns at once."""
        cuda = driver()

        for t in self.tensors if inputs else ():
            if isinstance(t.item, InputSpec):
                self.send(t, 0, count)
        said = self.said()
        if not self.context.execute_async_v3(self.stream.handle):
            raise DeviceError(f"{self.what}: TensorRT did not take a batch of {count}:\n{said.errors()}")
        for t in self.tensors if outputs else ():
            if isinstance(t.item, OutputSpec):
                cuda.memcpy_dtoh_async(self.hosts[t.name][:count], self.device[t.name], self.stream)
                self.moved[1] += 1

    def capture(self, count: int, *, inputs: bool = True, outputs: bool = True) -> Graph:
        """Capture what :meth:`enqueue` does as a CUDA graph, ready to launch."""
        return captured(self.stream, lambda: self.enqueue(count, inputs=inputs, outputs=outputs), self.moved)

    def run(self, count: int, *, inputs: bool = True) -> None:
        """Run a full batch, by graph where there is one; without ``inputs`` they were sent before; returns at once."""
        graph = self.graph if inputs else self.graph_without_inputs
        if graph is not None:
            graph.launch()
        else:
            self.enqueue(count, inputs=inputs)

    def free(self) -> None:
        """Free graphs, execution context and device memory."""
        for graph in (self.graph, self.graph_without_inputs):
            if graph is not None:
                graph.free()
        self.graph = self.graph_without_inputs = None
        self.context = None
        while self.device:
            self.device.popitem()[1].free()
        self.hosts = {}


class Group:
    """``size`` slots of ``batch`` samples each, whose page-locked memory is one piece for each tensor.

    Full batches on all of its slots are one CUDA graph, in which they run side by side. ``running`` are the slots whose
    streams have what was put there last. ``pieces`` tell what copiers have put there; ``write_combined``: memory of
    inputs is written past the caches.
    """

    def __init__(self, loaded: Loaded, size: int, batch: int, *, write_combined: bool) -> None:
        cuda = driver()

        self.tensors, self.batch = loaded.tensors, batch
        self.pinned: dict[str, NDArray[Any]] = {}
        self.hosts: dict[str, NDArray[Any]] = {}
        self.slots: list[Slot] = []
        self.pieces: Pieces[Tensor] = Pieces()
        self.graph: Graph | None = None
        self.running: list[Slot] = []
        try:
            for t in loaded.tensors:
                # Outputs are read by the host, which is slow past the caches.
                combined = write_combined and isinstance(t.item, InputSpec)
                flags = cuda.host_alloc_flags.WRITECOMBINED if combined else 0
                self.pinned[t.name] = cuda.pagelocked_empty(size * batch * t.sample_bytes, np.uint8, mem_flags=flags)
                self.hosts[t.name] = _shaped(t, self.pinned[t.name])
            for s in range(size):
                part = slice(s * batch, (s + 1) * batch)
                self.slots.append(Slot(loaded, {name: host[part] for name, host in self.hosts.items()}, batch))
        except BaseException:
            self.free()
            raise

    def prepare(self, shapes: dict[str, tuple[int, ...]], *, graphs: bool, in_pieces: bool = False) -> None:
        """Set the shapes of full batches and capture their ``graphs``; ``in_pieces`` those without inputs too.

        A launch takes the interpreter's lock for as long whatever is in the graph, so the whole group has one.
        """
        for slot in self.slots:
            slot.set_shapes(shapes)
            if graphs:
                slot.graph = slot.capture(self.batch)
                slot.graph_without_inputs = slot.capture(self.batch, inputs=False) if in_pieces else None
        if graphs and len(self.slots) > 1:
            self.graph = captured(self.slots[0].stream, self._enqueue_all, self.slots[0].moved)

    def _enqueue_all(self) -> None:
        """Put a full batch of every slot onto its stream, between what the first one's was given and will be."""
        cuda = driver()

        first, *others = (slot.stream for slot in self.slots)
        begin = cuda.Event()
        begin.record(first)
        for stream in others:
            stream.wait_for_event(begin)
        for slot in self.slots:
            slot.enqueue(self.batch)
        for stream in others:
            end = cuda.Event()
            end.record(stream)
            first.wait_for_event(end)

    def run(self, count: int, *, inputs: bool = True) -> None:
        """Run a full batch on each of the first ``count`` slots; without ``inputs`` they were sent before."""
        if self.graph is not None and inputs and count == len(self.slots):
            self.running = self.slots[:1]
            self.graph.launch()
            return
        self.running = self.slots[:count]
        for slot in self.running:
            slot.run(self.batch, inputs=inputs)

    def is_done(self) -> bool:
        """Whether the outputs of what runs have arrived; asks only, and waits for nothing."""
        return all(slot.stream.is_done() for slot in self.running)

    def synchronize(self) -> None:
        """Wait until the outputs of what runs have arrived."""
        for slot in self.running:
            slot.stream.synchronize()

    def poison(self) -> None:
        """Fill the memory of every output, on host and device, with NaN."""
        cuda = driver()

        for t in self.tensors:
            if isinstance(t.item, OutputSpec):
                self.pinned[t.name][:] = POISON
                for slot in self.slots:
                    cuda.memset_d8(slot.device[t.name], POISON, self.batch * t.sample_bytes)

    def free(self) -> None:
        """Free the slots and the page-locked memory."""
        if self.graph is not None:
            self.graph.free()
        self.graph, self.running = None, []
        for slot in self.slots:
            slot.free()
        self.slots.clear()
        self.hosts.clear()
        while self.pinned:
            memory: Any = self.pinned.popitem()[1]
            memory.base.free()


def _shaped(tensor: Tensor, memory: NDArray[Any]) -> NDArray[Any]:
    """View page-locked bytes as samples of a tensor."""
    size = int(np.prod(tensor.shape, dtype=np.int64)) * tensor.dtype.itemsize
    count = memory.size // tensor.sample_bytes
    view: NDArray[Any] = memory[: count * size].view(tensor.dtype).reshape(count, *tensor.shape)
    return view


def checked(result: Any) -> Any:
    """What a call of cuda-python returned beside its status; raises DeviceError where the status is an error."""
    status, *rest = result
    if int(status) != 0:
        raise DeviceError(f"CUDA failed: {status.name} ({int(status)})")
    return rest[0] if rest else None
