"""Choose a runner's streams, graphs and copier threads by a short measurement on the device."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.copiers import CHUNK_BYTES
from engines.far import FarArray
from engines.formats.tensorrt import context, versions
from engines.formats.tensorrt.cuda import driver

if TYPE_CHECKING:
    from engines.formats.tensorrt.runner import TensorRTRunner

SAMPLES_BYTES = 96 << 20
"""The inputs of a measurement: more than processors cache, as those of a real run are."""

MOST_BATCHES = 256
REPEATS = 3


def tune(runner: TensorRTRunner, *, far: bool = False) -> dict[str, Any]:
    """Measure candidates with a runner's own call, and leave it with the fastest one.

    Samples are given as arrays, or, where they will be ``far`` ones, as such. Returns the choice (``streams``,
    ``graphs``, ``copiers``) and ``samples_per_s`` of every candidate.
    """
    sample_bytes = sum(t.sample_bytes for t in runner.tensors)
    count = min(MOST_BATCHES, max(8, SAMPLES_BYTES // (sample_bytes * runner.batch_size))) * runner.batch_size
    generator = np.random.default_rng(0)
    inputs = {
        i.name: generator.uniform(*i.range, runner.spec.concrete_shape(i, count)).astype(i.dtype)
        for i in runner.spec.inputs
    }
    far_inputs = {name: FarArray.of(array) for name, array in inputs.items()} if far else {}
    run = partial(runner.run_far, far_inputs) if far else partial(runner, inputs)
    measured: list[dict[str, Any]] = []
    for candidate in _candidates(runner):
        runner.configure(**candidate)
        run()
        best = min(_timed(run) for _ in range(REPEATS))
        measured.append({**candidate, "samples_per_s": round(count / best)})
    fastest = max(measured, key=lambda m: int(m["samples_per_s"]))
    choice = {name: fastest[name] for name in ("streams", "graphs", "copiers")}
    runner.configure(**choice)
    return {**choice, "measured": measured}


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _candidates(runner: TensorRTRunner) -> Iterator[dict[str, Any]]:
    """What is tried: with fewer contexts where the device's free memory would not bear more."""
    cuda = driver()

    with context.current(runner.device):
        free, _ = cuda.mem_get_info()
    # Half of what is free: other runners want some too.
    bearable = max(1, free // 2 // max(versions.scratch_bytes(runner.engine), 1) - 1)
    large = runner.batch_bytes > CHUNK_BYTES
    # A large batch needs several threads to copy it in time; small ones only make them wait for each other.
    streams = sorted({min(n, bearable) for n in ((4, 8, 16) if large else (8, 16, 24, 32))})
    processors = os.cpu_count() or 1
    copiers = sorted({max(1, min(n, processors - 1)) for n in ((4, 6, 8) if large else (1, 2, 4))})
    for count in streams:
        for threads in copiers:
            yield {"streams": count, "graphs": True, "copiers": threads}
    yield {"streams": streams[-1], "graphs": False, "copiers": copiers[len(copiers) // 2]}
