"""Many samples through a TensorRT runner: how close to the device's own limit, and whether it keeps its floors."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest

from conformance.compare import compare
from conformance.device_floors import device_floors
from conformance.tolerances import row
from engines import tensorrt
from engines.tensorrt import yardsticks
from fixtures.device_results import batches_of

pytestmark = [pytest.mark.benchmark, pytest.mark.tensorrt, pytest.mark.formats("tensorrt")]

SAMPLES = 10_000
"""Run in one call: as many as CIFAR-10 has for tests, and no multiple of the batches."""

ROUNDS = 9
ATTEMPTS = 3
"""How often a floor that is missed is measured again: a slow engine misses it every time, a disturbed one does not."""


def test_many_samples_keep_their_floors(chain, samples, reference, variant, benchmark, record_property):
    """The variant agrees with the reference, and is then as fast as its floors say, at every batch it is made for."""
    copies = -(-SAMPLES // len(samples))
    inputs = {name: np.concatenate([array] * copies)[:SAMPLES] for name, array in samples.inputs.items()}
    spec, device, results, failures = chain.spec, tensorrt.device()["GPU"], {}, []
    tolerance = row(str(variant), "samples", spec.tolerances, str(spec.path)).tolerance
    batches = [b for b in batches_of(spec, variant) if b > 1]
    for batch in batches:
        floors = [
            f
            for f in device_floors()
            if (f.model, f.variant, f.batch) == (spec.name, str(variant), batch) and f.device in {None, device}
        ]
        with chain.runner(variant, batch) as runner:
            comparison = compare(runner(samples.inputs), reference, tolerance, {o.name: o.kind for o in spec.outputs})
            assert comparison.passed, comparison.describe()
            for _ in range(ATTEMPTS):
                measured = measure(runner, inputs, batch)
                found = {f: measured["runner"] / (measured[f.over] if f.over else 1.0) for f in floors}
                missed = [f for f in floors if found[f] < f.least]
                if not missed:
                    break
            if batch == batches[-1]:
                benchmark.pedantic(runner, args=(inputs,), rounds=ROUNDS, iterations=1)
        record_property("many", {"batch": batch, "samples": SAMPLES, "samples_per_second": measured})
        for f in floors:
            record = {"ratio": str(f), "found": found[f], "floor": f.least, "seen": f.seen, "held": f not in missed}
            record_property("floor", {**record, "reason": None})
        results[batch] = {name: round(value) for name, value in measured.items()}
        failures += [f"{f}: measured {found[f]:,.2f}, floor {f.least:,.2f}, seen {f.seen:,.2f}" for f in missed]
    benchmark.extra_info.update(model=spec.name, variant=str(variant), device=device, samples_per_second=results)
    if failures:
        pytest.fail(f"{spec.name} misses floors on {device}:\n  " + "\n  ".join(failures), pytrace=False)


def measure(runner, inputs, batch):
    """Measure samples/s of the runner and of its yardsticks, one right after the other."""
    runner(inputs)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        runner(inputs)
        seconds.append(time.perf_counter() - start)
    few = {name: array[: max(2048, 4 * batch)] for name, array in inputs.items()}
    return {
        "runner": SAMPLES / statistics.median(seconds),
        "limit": yardsticks.device_limit(runner, max(32, min(2048, 300_000 // batch))).samples_per_second,
        "synchronous": yardsticks.synchronous(runner, few).samples_per_second,
    }
