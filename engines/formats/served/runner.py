"""Run a model that a server has: requests in flight, each answer checked, a server that comes back asked again."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.served.client import BINARY, DTYPES, Answer, Connection, GoneError, Metadata, UnsupportedError
from engines.formats.served.dtypes import PROTOCOL
from engines.formats.served.memory import EXTENSION, Region
from engines.model.spec import BATCH
from engines.runner import Runner, check_signature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.formats.served.address import Address
    from engines.formats.served.client import Statistics, Tensor
    from engines.model.spec import InputSpec, ModelSpec, OutputSpec
    from engines.variant import Variant

IN_FLIGHT = 8
"""The requests of one call that are on their way at once."""

RESTART_S = 30.0
"""How long a server that is gone may take to come back before a call fails."""

PAUSE_S = 0.2
"""Between two looks whether it is back."""

SHARED = "tensors in system shared memory"
"""What the other way to ask a server is called."""

_log = logging.getLogger(__name__)


def opened(spec: ModelSpec, variant: Variant, address: Address, batch_size: int | None = None) -> Runner:
    """Runner of a served model, with one beside it over shared memory where the server is here and takes it.

    Raises RunnerError where the server cannot be reached, or the model is not ready, or not the one described.
    """
    runner = ServedRunner(spec, variant, address, batch_size)
    if not address.local or EXTENSION not in runner.extensions:
        return runner
    try:
        beside = ServedRunner(spec, variant, address, batch_size, shared_memory=True)
    except BaseException:
        runner.close()
        raise
    if reason := beside.unshared():
        # A port may lead into a container, which has a memory of its own.
        beside.close()
        runner.settings["shared memory"] = f"not taken: {reason}"
        return runner
    runner.beside = (beside,)
    return runner


class ServedRunner(Runner):
    """Asks a served model, with up to ``in_flight`` requests of one call at once; safe to call from several threads.

    Every answer is checked: its request, the version that gave it, names, dtypes and shapes. A server that is gone is
    asked again for :data:`RESTART_S` seconds, each request as a whole, and only if it is back with the same model.
    ``retried`` counts those requests. Raises RunnerError, one line with URL and model, for all else.
    """

    def __init__(
        self,
        spec: ModelSpec,
        variant: Variant,
        address: Address,
        batch_size: int | None = None,
        *,
        in_flight: int = IN_FLIGHT,
        shared_memory: bool = False,
    ) -> None:
        super().__init__(spec, variant, batch_size)
        self.address, self.in_flight, self.shared_memory = address, in_flight, shared_memory
        self.way = SHARED if shared_memory else ""
        self.retried = 0
        self.binary = True
        self._own = threading.local()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="served")
        try:
            self._pool.submit(self._open).result()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        connection = self._link.connection
        server = connection.server()
        if not connection.ready():
            raise RunnerError(f"{self.address}: it is not ready; expected it served by {server.name} {server.version}")
        self.extensions = server.extensions
        self.binary = connection.binary = self.address.protocol == "grpc" or BINARY in server.extensions
        self.metadata = connection.metadata()
        self.names = _checked(self.spec, self.address, self.metadata)
        if self.metadata.largest:
            self.batch_size = min(self.batch_size, self.metadata.largest)
        self._version: str | None = self.address.version or None
        self.settings = {
            "server": f"{server.name} {server.version}",
            "versions": ", ".join(self.metadata.versions) or "not told",
            "platform": self.metadata.platform or "not told",
            "over": f"{self.address.protocol}, {SHARED if self.shared_memory else 'binary' if self.binary else 'JSON'}",
            "in flight": str(self.in_flight),
        }

    def statistics(self) -> Statistics | None:
        """What the server counted so far; None where it counts nothing."""
        return self._pool.submit(self._counted).result()

    def _counted(self) -> Statistics | None:
        try:
            return self._link.connection.statistics()
        except UnsupportedError:
            return None

    def unshared(self) -> str | None:
        """Why the server does not take shared memory from here; None where it does."""
        try:
            self._pool.submit(lambda: self._link.inputs.fit(1)).result()
        except (RunnerError, OSError) as error:
            return str(error)
        return None

    # One call.

    def _run_all(self, batches: Iterable[dict[str, NDArray[Any]]]) -> list[dict[str, NDArray[Any]]]:
        """Answers to all batches, in their order, whichever comes first."""
        parts: list[dict[str, NDArray[Any]]] = []
        waiting: deque[Future[dict[str, NDArray[Any]]]] = deque()
        try:
            for batch in batches:
                if len(waiting) == self.in_flight:
                    parts.append(waiting.popleft().result())
                waiting.append(self._pool.submit(self._run, batch))
            parts += [future.result() for future in waiting]
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
        return parts

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        until: float | None = None
        while True:
            try:
                if until is not None:
                    self._back()
                return self._answer(inputs)
            except GoneError as error:
                if self._closed:
                    raise
                if until is None:
                    until = time.monotonic() + RESTART_S
                    with self._lock:
                        self.retried += 1
                    _log.warning("%s; asked again for up to %.0f s", error, RESTART_S)
                self._drop()
                if time.monotonic() > until:
                    raise RunnerError(f"{error}; it was not back within {RESTART_S:.0f} s") from error
                time.sleep(PAUSE_S)

    def _back(self) -> None:
        """Look whether the server is back, with the model that it had; raises GoneError where it is not there yet."""
        connection = self._link.connection
        if not connection.ready():
            raise GoneError(f"{self.address}: it is not ready")
        if (found := connection.metadata()) != self.metadata:
            raise RunnerError(f"{self.address}: it came back as another model: {found}; was {self.metadata}")

    def _answer(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Answer to one request, which is sent once."""
        request = str(next(self._numbers))
        answer = self._link.ask(request, inputs)
        if answer.request not in {"", request}:
            raise RunnerError(f"{self.address}: answers request {answer.request!r}; asked was {request!r}")
        with self._lock:
            self._version = self._version or answer.version or None
        if answer.version and answer.version != self._version:
            raise RunnerError(
                f"{self.address}: version {answer.version} answers, {self._version} before; name one: "
                f"/{self.address.model}:{self._version}"
            )
        return self._outputs(answer, len(next(iter(inputs.values()))))

    def _outputs(self, answer: Answer, count: int) -> dict[str, NDArray[Any]]:
        """Outputs of an answer by the description's names, once they are what was asked for."""
        outputs = {}
        for item in self.spec.outputs:
            name = self.names.outputs[item.name]
            if name not in answer.outputs:
                found = ", ".join(sorted(answer.outputs)) or "none"
                raise RunnerError(f"{self.address}: the answer lacks output {name!r}; it has {found}")
            shape, array = answer.shapes[name], answer.outputs[name]
            expected = _sizes(item, count)
            fits = len(shape) == len(expected) and all(
                isinstance(d, str) or d == size for d, size in zip(expected, shape, strict=True)
            )
            if not fits:
                raise RunnerError(
                    f"{self.address}: output {name!r} has shape {shape} for a batch of {count}; expected {expected}"
                )
            if array is None:
                raise RunnerError(f"{self.address}: output {name!r} has no data for its shape {shape}")
            if array.dtype != np.dtype(item.dtype) or array.shape != shape:
                raise RunnerError(
                    f"{self.address}: output {name!r} is {array.dtype} {array.shape}; expected {item.dtype} {shape}"
                )
            outputs[item.name] = array
        return outputs

    # What each thread has.

    @property
    def _link(self) -> _Link:
        """Connection of this thread of the pool, opened where it has none."""
        link: _Link | None = getattr(self._own, "link", None)
        if link is None:
            link = self._own.link = _Link(self)
        return link

    def _drop(self) -> None:
        """End the connection of this thread: the next one is a new one."""
        link: _Link | None = getattr(self._own, "link", None)
        self._own.link = None
        if link is not None:
            link.close()

    def _release(self) -> None:
        # A client over HTTP can only be closed by its own thread: each of the pool's takes one of these.
        together = threading.Barrier(self.in_flight)

        def end() -> None:
            together.wait()
            self._drop()

        for future in [self._pool.submit(end) for _ in range(self.in_flight)]:
            future.result()
        self._pool.shutdown()


class _Link:
    """What one thread asks with: a connection, and the memory that it shares."""

    def __init__(self, runner: ServedRunner) -> None:
        self._runner = runner
        self.connection = Connection(runner.address, binary=runner.binary)
        self.inputs, self.outputs = Region(self.connection), Region(self.connection)

    def ask(self, request: str, inputs: Mapping[str, NDArray[Any]]) -> Answer:
        """Answer to a request of inputs by the description's names."""
        names = self._runner.names
        feeds = {names.inputs[name]: array for name, array in inputs.items()}
        wanted = [self.connection.wanted(name) for name in names.outputs.values()]
        if not self._runner.shared_memory:
            tensors = [self.connection.tensor(name, array) for name, array in feeds.items()]
            return self.connection.infer(tensors, wanted, request)
        return self._ask_shared(request, feeds, len(next(iter(inputs.values()))))

    def _ask_shared(self, request: str, feeds: Mapping[str, NDArray[Any]], count: int) -> Answer:
        """The same with inputs in shared memory, and with outputs of which the size is known."""
        self.inputs.fit(sum(array.nbytes for array in feeds.values()))
        tensors, offset = [], 0
        for name, array in feeds.items():
            self.inputs.write(array, offset)
            tensor = self.connection.described(name, array)
            tensor.set_shared_memory(self.inputs.name, array.nbytes, offset)
            tensors.append(tensor)
            offset += array.nbytes
        spec, names = self._runner.spec, self._runner.names.outputs
        sizes = {o.name: _bytes(o, count) for o in spec.outputs}
        self.outputs.fit(sum(size or 0 for size in sizes.values()))
        wanted, places, offset = [], {}, 0
        for item in spec.outputs:
            output = self.connection.wanted(names[item.name])
            if size := sizes[item.name]:
                output.set_shared_memory(self.outputs.name, size, offset)
                places[names[item.name]] = (item.dtype, size, offset)
                offset += size
            wanted.append(output)
        answer = self.connection.infer(tensors, wanted, request, places)
        outputs = dict(answer.outputs)
        for name, (dtype, size, at) in places.items():
            shape = answer.shapes.get(name, ())
            if name in outputs and int(np.prod(shape)) * np.dtype(dtype).itemsize == size:
                outputs[name] = self.outputs.read(dtype, shape, at)
        return Answer(outputs, answer.shapes, answer.version, answer.request)

    def close(self) -> None:
        """End the connection, and give back what it shared."""
        self.inputs.close()
        self.outputs.close()
        self.connection.close()


def _sizes(item: OutputSpec, count: int) -> tuple[int | str, ...]:
    """Shape of an output for ``count`` samples; other dynamic dimensions stay names."""
    return tuple(count if place == 0 and d == BATCH else d for place, d in enumerate(item.shape))


def _bytes(item: OutputSpec, count: int) -> int | None:
    """Bytes of an output for ``count`` samples; None where another dimension is dynamic."""
    sizes = [d for d in _sizes(item, count) if isinstance(d, int)]
    if len(sizes) < len(item.shape):
        return None
    return int(np.prod(sizes)) * np.dtype(item.dtype).itemsize


def _checked(spec: ModelSpec, address: Address, metadata: Metadata) -> Any:
    """Names that a server has for the inputs and outputs; RunnerError where it serves another model than described."""
    if address.version and metadata.versions and address.version not in metadata.versions:
        raise RunnerError(f"{address}: the server has versions {', '.join(metadata.versions)}")
    shapes = [{name: t.shape for name, t in side.items()} for side in (metadata.inputs, metadata.outputs)]
    names = check_signature(str(address), spec, *shapes)
    sides: tuple[tuple[str, Mapping[str, Tensor], dict[str, InputSpec | OutputSpec]], ...] = (
        ("inputs", metadata.inputs, {names.inputs[i.name]: i for i in spec.inputs}),
        ("outputs", metadata.outputs, {names.outputs[o.name]: o for o in spec.outputs}),
    )
    for side, found, expected in sides:
        for name, item in expected.items():
            if DTYPES.get(found[name].dtype) != item.dtype:
                raise RunnerError(
                    f"{address}: {side} {name!r} is {found[name].dtype}; expected {PROTOCOL[item.dtype]} "
                    f"({spec.source})"
                )
    if metadata.largest is not None and metadata.largest < spec.profiles[0].max:
        raise RunnerError(
            f"{address}: it takes batches of at most {metadata.largest}; expected {spec.profiles[0].max} or more "
            f"(batch.profiles of {spec.source})"
        )
    return names
