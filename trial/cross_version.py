"""Answers of every runtime on the same plans, kept in the store.

Each environment (TensorRT 8.6; the lean and the dispatch runtime of 10; the C++ programs) runs ``pytest -m
cross_version`` on the shared artifact folder. It stores its answers and compares them with those that are there.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.timing import durations, latency
from engines.formats import registry
from engines.formats.native.runner import NativeRunner
from engines.formats.tensorrt import packages as tensorrt_packages
from engines.formats.tensorrt import versions as tensorrt_versions
from engines.hashing import file_hash
from engines.model.samples import content_hash
from engines.store import Recipe, Store
from engines.variant import Variant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from engines.runner import Arrays, Runner

ROUNDS = 21
FILE = "outputs.npz"


@dataclass(frozen=True)
class Answers:
    """What one runtime answered on one plan; ``details`` are its figures, ``inputs`` the hash of the samples."""

    runtime: str
    outputs: Mapping[str, NDArray[Any]]
    details: Mapping[str, Any]
    inputs: str


@dataclass(frozen=True)
class Difference:
    """How the answers of two runtimes differ: samples, largest difference, and samples with another class."""

    samples: int
    largest: float
    classes: int


def runtime_of(runner: Runner) -> str:
    """What ran a runner's last call: ``trt8.6.0``, ``lean10.16.1``, ``dispatch10.16.1`` or ``cpp-lean10.16.1``."""
    return runner.runtime if isinstance(runner, NativeRunner) else tensorrt_versions.runtime_id()


def difference(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> Difference:
    """Compare answers bit by bit; ``samples`` is zero where they are equal, NaN in the same places included."""
    wrong, largest, classes = np.zeros(1, bool), 0.0, 0
    for name, array in expected.items():
        other = found[name]
        if other.shape != array.shape:
            return Difference(len(array), np.inf, len(array))
        both = np.isnan(other) & np.isnan(array)  # CSV cannot tell one NaN from another
        unequal = ((other.view(np.uint32) != array.view(np.uint32)) & ~both).reshape(len(array), -1).any(axis=1)
        wrong = wrong | unequal
        # Infinities that are equal have no difference of numbers.
        with np.errstate(invalid="ignore"):
            apart = np.where(both | (other == array), 0.0, np.abs(other.astype(np.float64) - array))
        largest = max(largest, float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max()))
        if array.ndim == 2:
            classes = max(classes, int((other.argmax(axis=1) != array.argmax(axis=1)).sum()))
    return Difference(int(wrong.sum()), largest, classes)


def measure(chain: Chain, variant: Variant, runner: Runner, inputs: Arrays) -> dict[str, Any]:
    """Time the runner on all inputs, and loading the plan; gives ``samples_per_second`` and ``load_seconds``."""
    if isinstance(runner, NativeRunner):
        report = runner.timed(inputs, ROUNDS)
        return {"samples_per_second": statistics.median(report["passes"]), "load_seconds": report["load_seconds"]}
    runner(inputs)
    timed = latency(durations(runner, [inputs], least=ROUNDS), len(next(iter(inputs.values()))))
    start = time.perf_counter()
    with chain.runner(variant):
        load = time.perf_counter() - start
    return {"samples_per_second": timed.samples_per_second, "load_seconds": load}


def stored(store: Store, model: str, variant: Variant, made_from: Mapping[str, str]) -> list[Answers]:
    """Answers on a variant's plan that are in the store, by the names of the runtimes.

    ``made_from`` are the hashes of the ``plan`` and, where only answers on the same samples count, of the ``inputs``.
    """
    prefix, found = f"outputs-{registry.find(variant.format).artifact(variant)}-", []
    for name in store.names(model):
        artifact = store.recorded(model, name) if name.startswith(prefix) else None
        if artifact and made_from.items() <= artifact.record["recipe"]["inputs"].items():
            with np.load(artifact.file(FILE)) as archive:
                inputs = str(artifact.record["recipe"]["inputs"].get("inputs"))
                found.append(Answers(name.removeprefix(prefix), dict(archive), artifact.details, inputs))
    return found


def hashes(chain: Chain, variant: Variant, inputs: Arrays) -> dict[str, str]:
    """What answers are made from: the hashes of the variant's plan and of the inputs."""
    return {"plan": file_hash(chain.file(variant)), "inputs": content_hash(inputs)}


def keep(
    chain: Chain,
    variant: Variant,
    runtime: str,
    made_from: Mapping[str, str],
    outputs: Mapping[str, NDArray[Any]],
    details: Mapping[str, Any],
) -> None:
    """Store the answers of a runtime on the variant's plan, in the place of earlier ones.

    ``details`` are what :func:`measure` gave; empty where nothing can be timed, as in one of several processes.
    """
    plan = chain.file(variant)
    made_from = {**made_from, "outputs": content_hash(outputs)}

    def build(folder: Path) -> Mapping[str, Any]:
        arrays: dict[str, Any] = dict(outputs)
        np.savez(folder / FILE, **arrays)
        return {
            **details,
            "plan_bytes": plan.stat().st_size,
            "samples": len(next(iter(outputs.values()))),
            "device": tensorrt_packages.device(),
        }

    chain.store.get(
        chain.spec.name,
        f"outputs-{registry.find(variant.format).artifact(variant)}-{runtime}",
        Recipe(made_from, details),
        build,
    )
