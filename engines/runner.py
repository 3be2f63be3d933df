"""What every runner does the same way: check what it is given, split it into batches, put the outputs together."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engines.errors import RunnerError
from engines.model.spec import BATCH, InputSpec, ModelSpec, OutputSpec
from engines.outputs import joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.far import FarArray
    from engines.variant import Variant

Arrays = Mapping[str, "NDArray[Any]"]


class Grid(NamedTuple):
    """The values of an output that is integer inside the engine: multiples of a step from ``low`` to ``high``."""

    step: float
    low: float
    high: float


def grid(dtype: np.dtype[Any], scale: float, zero_point: int) -> Grid:
    """Values (q - zero point) · scale that integers q of a dtype stand for."""
    limits = np.iinfo(dtype)
    return Grid(scale, (int(limits.min) - zero_point) * scale, (int(limits.max) - zero_point) * scale)


class Runner(AbstractContextManager["Runner"], abc.ABC):
    """Runs one engine: ``runner(inputs) -> outputs``, both by the spec's names, for any number of samples.

    A runner splits the samples into batches of at most ``batch_size``, the remainder included, and never changes its
    inputs. It refuses what it cannot run with a RunnerError that tells what it takes. ``settings`` states what was
    chosen for it (provider, threads, …), for reports. ``grids`` holds those of the outputs that are integers inside the
    engine, ``steps`` the steps of the inputs that are. ``beside`` are runners of the same engine in other ways, each of
    which names its ``way``. What is promised of the engine holds for all of them. Of those that are ``unjudged`` it
    does not: how they differ is told, with their ``advice``. ``in_flight`` is how many batches it takes at once, from
    as many threads. ``lost`` are devices that failed in the midst of a call, which others finished, and why.
    """

    def __init__(self, spec: ModelSpec, variant: Variant, batch_size: int | None = None) -> None:
        # A model's further profiles are for engines that are built for large batches.
        largest = (variant.profile or spec.profiles[0]).max
        if batch_size is not None and batch_size < 1:
            raise RunnerError(f"{variant}: batch_size is {batch_size}; allowed: 1 or more")
        self.spec, self.variant = spec, variant
        self.batch_size = batch_size or largest
        self.settings: dict[str, str] = {}
        self.grids: dict[str, Grid] = {}
        self.steps: dict[str, float] = {}
        self.beside: tuple[Runner, ...] = ()
        self.unjudged: tuple[Runner, ...] = ()
        self.way = self.advice = ""
        self.in_flight = 1
        self.lost: dict[str, str] = {}
        self._closed = False

    @abc.abstractmethod
    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one batch (contiguous arrays, checked, at most ``batch_size`` samples); outputs may be any arrays."""

    @abc.abstractmethod
    def _release(self) -> None:
        """Free what the engine holds; called once."""

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run all samples: arrays (N, …) by input name in, arrays (N, …) by output name out.

        An output of kind ``constant`` has no batch axis, and is given as it is. Raises RunnerError for a missing or
        unknown input, a wrong dtype, rank or size, inputs that disagree on N, and no samples at all. So it does for a
        constant that is not the same in every batch, and for a closed runner.
        """
        if self._closed:
            raise RunnerError(f"{self.variant} of {self.spec.name}: the runner is closed; make a new one")
        count = self._check(inputs)
        parts = self._run_all(self._batches(inputs, count))
        return joined(self.spec, parts, f"{self.variant} of {self.spec.name}")

    @property
    def anew(self) -> Runner:
        """Runner of the same engine that runs it in every call; this one, unless it remembers answers."""
        return self

    def lent(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs as a call gives them, in memory that the next call may overwrite."""
        return self(inputs)

    def copied(self) -> Runner | None:
        """Another runner of the same engine, for another thread; None where one alone uses all cores."""
        return None

    def _run_all(self, batches: Iterator[dict[str, NDArray[Any]]]) -> list[dict[str, NDArray[Any]]]:
        """Outputs of each batch, in order: one after the other, unless an engine takes several at once."""
        return [self._run(batch) for batch in batches]

    def in_batches(self, inputs: Arrays, size: int) -> dict[str, NDArray[Any]]:
        """Run the samples in calls of ``size`` samples each, the last one with the rest; raises as a call does."""
        starts = range(0, self._check(inputs), size)
        parts = [self({name: array[i : i + size] for name, array in inputs.items()}) for i in starts]
        return joined(self.spec, parts, f"{self.variant} of {self.spec.name}")

    def run_far(self, inputs: Mapping[str, FarArray]) -> dict[str, NDArray[Any]]:
        """Run samples that lie in another process, as a call runs others; who has them has checked them.

        Raises OSError where they cannot be read, and what a call raises.
        """
        return self({name: array.here() for name, array in inputs.items()})

    def _batches(self, inputs: Arrays, count: int) -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, count, self.batch_size):
            yield {n: np.ascontiguousarray(a[start : start + self.batch_size]) for n, a in inputs.items()}

    def _check(self, inputs: Arrays) -> int:
        """Check the inputs against the spec; returns the number of samples."""
        takes = "takes " + ", ".join(f"{i.name}: {i.dtype} {_shape_text(i)}" for i in self.spec.inputs)
        prefix = f"{self.variant} of {self.spec.name}:"
        if set(inputs) != {i.name for i in self.spec.inputs}:
            raise RunnerError(f"{prefix} given inputs named {sorted(inputs)}; {takes}")
        for item in self.spec.inputs:
            array = inputs[item.name]
            if not isinstance(array, np.ndarray) or array.dtype != np.dtype(item.dtype):
                found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise RunnerError(f"{prefix} input {item.name!r} is {found}; {takes}")
            wrong = array.ndim != len(item.shape) or any(
                isinstance(d, int) and d != size for d, size in zip(item.shape, array.shape, strict=False)
            )
            if wrong:
                raise RunnerError(f"{prefix} input {item.name!r} has shape {array.shape}; {takes}")
        counts = {item.name: inputs[item.name].shape[0] for item in self.spec.inputs}
        if len(set(counts.values())) > 1:
            raise RunnerError(f"{prefix} inputs disagree on the number of samples: {counts}; {takes}")
        count = next(iter(counts.values()))
        if count == 0:
            raise RunnerError(f"{prefix} given no samples; {takes}, one sample or more")
        return int(count)

    def close(self) -> None:
        """Free what the engine holds; a second call does nothing, and a call afterwards is refused."""
        if not self._closed:
            self._closed = True
            self._release()
        for other in (*self.beside, *self.unjudged):
            other.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shape_text(item: InputSpec | OutputSpec) -> str:
    return "(" + ", ".join("N" if d == BATCH else str(d) for d in item.shape) + ")"


def probe(runner: Runner) -> None:
    """Run a batch of two samples, so that an engine with a batch size built into its graph is refused at once.

    Raises RunnerError where the engine fails, or gives outputs for another number of samples.
    """
    spec = runner.spec
    inputs = {i.name: np.full(spec.concrete_shape(i, 2), np.mean(i.range), i.dtype) for i in spec.inputs}
    for name, array in runner(inputs).items():
        if name not in spec.constants and len(array) != 2:
            raise RunnerError(f"{runner.variant}: output {name!r} has {len(array)} rows for a batch of 2; expected 2")


class Names(NamedTuple):
    """What an engine calls the inputs and outputs of a model, by the spec's names."""

    inputs: dict[str, str]
    outputs: dict[str, str]


def _named(items: Sequence[InputSpec | OutputSpec], found: Mapping[str, tuple[Any, ...]]) -> dict[str, str]:
    if len(items) == len(found) == 1:
        return {items[0].name: next(iter(found))}
    return {item.name: item.signature_name for item in items}


def check_signature(
    what: str, spec: ModelSpec, inputs: Mapping[str, tuple[Any, ...]], outputs: Mapping[str, tuple[Any, ...]]
) -> Names:
    """Refuse an engine whose own signature is not the spec's; gives what the engine calls inputs and outputs.

    A single input or output may have any name: converters rename them, and there is nothing to confuse.

    ``inputs`` and ``outputs`` map the engine's names to shapes in which anything but a fixed size (None, -1, a name)
    stands for a dynamic dimension. Raises RunnerError that names the tensor, what was found and what is expected.
    """
    names = Names(_named(spec.inputs, inputs), _named(spec.outputs, outputs))
    sides: tuple[tuple[str, Mapping[str, tuple[Any, ...]], dict[str, InputSpec | OutputSpec]], ...] = (
        ("inputs", inputs, {names.inputs[i.name]: i for i in spec.inputs}),
        ("outputs", outputs, {names.outputs[o.name]: o for o in spec.outputs}),
    )
    for side, found, expected in sides:
        if set(found) != set(expected):
            raise RunnerError(
                f"{what}: its {side} are named {sorted(found)}; {spec.name} has {sorted(expected)} ({spec.source})"
            )
        for name, item in expected.items():
            shape = found[name]
            if len(shape) != len(item.shape):
                raise RunnerError(
                    f"{what}: {side} {name!r} has rank {len(shape)} {_dims(shape)}; expected {_shape_text(item)}"
                )
            for axis, (size, wanted) in enumerate(zip(shape, item.shape, strict=True)):
                fixed = isinstance(size, int) and size >= 0
                if isinstance(wanted, int) and fixed and size != wanted:
                    raise RunnerError(f"{what}: {side} {name!r} has shape {_dims(shape)}; expected {_shape_text(item)}")
                if isinstance(wanted, str) and fixed and not (side == "outputs" and axis > 0):
                    raise RunnerError(
                        f"{what}: {side} {name!r} has shape {_dims(shape)}, {wanted} (axis {axis}) fixed to {size}; "
                        f"expected it dynamic: {_shape_text(item)}"
                    )
    return names


def _dims(shape: tuple[Any, ...]) -> str:
    return (
        "("
        + ", ".join(str(d) if isinstance(d, int) and d >= 0 else "N" if i == 0 else "?" for i, d in enumerate(shape))
        + ")"
    )
