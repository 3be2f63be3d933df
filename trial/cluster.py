"""Parts of many samples as tasks of a Ray cluster, or of a Ray that is started on this machine for a run.

Ray is imported where a cluster is asked for, and nowhere else.
"""

from __future__ import annotations

import os
import pickle
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from engines.errors import EngineError, RunnerError, SpecError, UnavailableError
from engines.formats import registry
from engines.formats.tensorrt import driver
from engines.model import selection
from engines.progress import live
from engines.sharing import share_cores
from engines.store import Store
from trial.parts import Part, Tally, tally

if TYPE_CHECKING:
    from engines.chain import Chain
    from engines.runner import Runner
    from engines.variant import Variant
    from trial.evidence import Asked

AUTO = "auto"
"""The address that stands for a Ray of one's own, on this machine."""

ANSWERS_S = 5.0
"""How long a cluster's door may take to open."""

IN_FLIGHT = 2
"""How many parts are under way for each that can run at once: the next one waits where the last one ends."""

RETRIES = 3
"""How often a part runs again whose worker died."""

LEFT_OUT = ("/.git", "/build*/", "/docs", "/tests", "/report*/")
"""What of this repository no worker needs; all else is sent to the workers of a cluster that is joined."""


@dataclass(frozen=True)
class Recipe:
    """What a worker makes a chain from: the artifact folder, which all machines share, and the options of the run."""

    root: str
    model: str
    options: bytes
    """The options, pickled, as :func:`engines.model.selection.chains` takes them."""


@dataclass(frozen=True)
class Needs:
    """What a part needs of the machine that runs it; ``accelerator`` is Ray's name of a GPU model, such as H200."""

    cpus: int = 1
    gpus: int = 0
    accelerator: str = ""

    def __str__(self) -> str:
        """Words, such as ``1 CPU, 1 GPU (H200)``."""
        of = f" ({self.accelerator})" if self.accelerator else ""
        return f"{self.cpus} CPU" + (f", {self.gpus} GPU{of}" if self.gpus else "")

    @property
    def options(self) -> dict[str, Any]:
        """The same as options of a task."""
        found: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        return {**found, "accelerator_type": self.accelerator} if self.accelerator else found

    def at_once(self, there: Mapping[str, float]) -> int:
        """How many parts fit at once into a cluster's resources."""
        if self.accelerator and not there.get(f"accelerator_type:{self.accelerator}"):
            return 0
        fits = [int(there.get("CPU", 0)) // self.cpus]
        return min([*fits, int(there.get("GPU", 0)) // self.gpus] if self.gpus else fits)


def needs_of(variant: Variant) -> Needs:
    """What parts of a variant need: a GPU of this machine's model where its engines run on one, else a CPU.

    A plan is built for one model, and here; any GPU will do where Ray has no name for this one.
    """
    if not registry.find(variant.format).on_gpu:
        return Needs()
    from ray.util import accelerators

    words = driver.device()["name"].replace("-", " ").split()
    names = {getattr(accelerators, name) for name in dir(accelerators) if name.startswith("NVIDIA")}
    return Needs(gpus=1, accelerator=next((word for word in words if word in names), ""))


@dataclass
class Cluster(AbstractContextManager["Cluster"]):
    """A connection to a Ray at ``address``: AUTO starts one and ends it, ``ray://HOST:PORT`` is joined and left.

    Raises UnavailableError where Ray is not installed or nobody answers, SpecError for another address.
    """

    address: str
    cpus: int | None = None
    """How many parts run at once where one is started here; all processors for None."""
    _ray: Any = field(default=None, repr=False)

    def __enter__(self) -> Cluster:
        check(self.address)
        try:
            import ray
        except ImportError as error:
            raise UnavailableError(
                f"--cluster={self.address} needs Ray, which is not installed; pip install -r requirements-cluster.txt"
            ) from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if self.address == AUTO:
            # Ray's workers give way to all else on a machine; these do the work that this process would do.
            os.environ.setdefault("RAY_worker_niceness", "0")
            ray.init(address="local", num_cpus=self.cpus or os.cpu_count(), include_dashboard=False, **quiet)
        else:
            _knock(self.address)
            root = Path(__file__).resolve().parent.parent
            try:
                with warnings.catch_warnings():
                    # Ray warns of a door that does not open beside what it raises.
                    warnings.simplefilter("ignore")
                    ray.init(self.address, runtime_env={"working_dir": str(root), "excludes": list(LEFT_OUT)}, **quiet)
            except (ConnectionError, RuntimeError) as error:
                raise UnavailableError(
                    f"--cluster={self.address}: no Ray {ray.__version__} lets this in ({error}); "
                    "allowed: a head of the same versions of Ray and Python"
                ) from error
        self._ray = ray
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()

    def tally(
        self, recipe: Recipe, variant: Variant, parts: Sequence[Part], asked: Asked, needs: Needs | None = None
    ) -> Tally:
        """Tally of a variant on all parts, each of which counts once.

        Raises UnavailableError where no machine has what is needed, RunnerError where workers die again and again, and
        what a part raises.
        """
        ray, needs = self._ray, needs or needs_of(variant)
        there = ray.cluster_resources()
        slots = needs.at_once(there)
        if not slots:
            shown = ", ".join(f"{n} {there[n]:g}" for n in sorted(there) if n in {"CPU", "GPU"} or "accelerator" in n)
            raise UnavailableError(f"--cluster={self.address}: {variant} needs {needs}, and there is {shown}")
        task = ray.remote(max_retries=RETRIES, **needs.options)(_tally)
        merged: Tally | None = None
        with live(f"{recipe.model}-{variant} on the cluster", parts[-1].stop, "samples") as advance:
            for part, found in self._run(task, (recipe, variant), parts, asked, slots * IN_FLIGHT):
                merged = found if merged is None else merged.merged(found)
                advance(part.stop - part.start)
        assert merged is not None
        return merged

    def _run(
        self, task: Any, whose: tuple[Recipe, Variant], parts: Sequence[Part], asked: Asked, most: int
    ) -> Iterator[tuple[Part, Tally]]:
        """Tallies of all parts, as they come, with at most so many under way."""
        ray = self._ray
        waiting = list(reversed(parts))
        running: dict[Any, Part] = {}
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    part = waiting.pop()
                    running[task.remote(*whose, part, asked)] = part
                (done,), _ = ray.wait(list(running), num_returns=1)
                part = running.pop(done)
                try:
                    yield part, ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    # Ray's own error wears the class of what was raised; the message of it alone is for a person.
                    if isinstance(error.cause, EngineError):
                        raise error.cause from None
                    raise
                except ray.exceptions.WorkerCrashedError as error:
                    raise RunnerError(
                        f"{whose[1]}: the worker of samples {part.start} to {part.stop - 1} died {RETRIES + 1} times; "
                        "it may need more memory than its machine has"
                    ) from error
        finally:
            for left in running:
                ray.cancel(left, force=True)


def check(address: str) -> None:
    """Refuse an address that is none: SpecError, which says what is allowed."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address != AUTO and not (address.startswith("ray://") and host and port.isdigit()):
        raise SpecError(f"--cluster={address} is no cluster; allowed: {AUTO}, or ray://HOST:PORT of a Ray head")


def _knock(address: str) -> None:
    """Raise UnavailableError where nobody listens: Ray itself waits for half a minute, and tells of gRPC."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWERS_S).close()
    except OSError as error:
        raise UnavailableError(
            f"--cluster={address}: nobody answers ({error}); start a head there: ray start --head "
            f"--ray-client-server-port={port}"
        ) from error


# What follows runs in workers. Each keeps what it opened, for the next part.


@cache
def _chain(recipe: Recipe) -> Chain:
    return selection.chains(Store(Path(recipe.root)), **pickle.loads(recipe.options))[recipe.model]


@cache
def _runner(recipe: Recipe, variant: Variant) -> Runner:
    share_cores()
    return _chain(recipe).runner(variant)


def _tally(recipe: Recipe, variant: Variant, part: Part, asked: Asked) -> Tally:
    return tally(_chain(recipe), _runner(recipe, variant), part, asked)


def recipe(root: Path, model: str, options: Mapping[str, Any]) -> Recipe:
    """Recipe of a model's chain; paths are made absolute, for workers start elsewhere."""
    found = {name: value.resolve() if isinstance(value, Path) else value for name, value in options.items()}
    found["models"] = [str(Path(m).resolve()) if m.endswith(".toml") else m for m in options.get("models", ())]
    found["engines"] = {name: Path(path).resolve() for name, path in options.get("engines", {}).items()}
    return Recipe(str(root.resolve()), model, pickle.dumps(found))
