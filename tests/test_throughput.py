"""How fast every variant is, once it agreed with the reference, and whether it keeps its floors."""

from __future__ import annotations

import itertools
import platform
import time

import cpuinfo
import numpy as np
import pytest

from conformance.floors import bundled_floors, parse_floor
from conformance.timing import latency, side_by_side
from fixtures.chain import TIMED_BATCHES

pytestmark = pytest.mark.benchmark

ROTATED = 4
"""Different inputs in turn: the same one again and again would be served from the caches."""

SECONDS = 0.5
"""How long one variant at one batch is timed, and one floor at a time."""

ATTEMPTS = 4
"""How often a floor that is missed is measured again: a slow engine misses it every time, a disturbed one does not."""


def rotating(runner, samples, batch):
    """Give a call of the runner on ``batch`` samples that takes other ones each time."""
    count = len(samples)
    starts = itertools.cycle(range(0, ROTATED * batch, batch))
    sets = {
        start: {n: np.ascontiguousarray(a[(start + np.arange(batch)) % count]) for n, a in samples.inputs.items()}
        for start in range(0, ROTATED * batch, batch)
    }
    return lambda: runner(sets[next(starts)])


@pytest.fixture(scope="session")
def timed_runner(chain, variant):
    """Open a runner that takes 128 samples as one batch, and say how long it took to load."""
    chain.artifact(variant)
    start = time.perf_counter()
    with chain.runner(variant, batch_size=128) as runner:
        yield runner, time.perf_counter() - start


@pytest.fixture(scope="session")
def machine():
    """Describe the machine that is measured on: for messages, and for floors that need a CPU feature."""
    info = cpuinfo.get_cpu_info()
    return {
        "name": f"{info.get('brand_raw', platform.processor())}, {info.get('count', '?')} cores",
        "flags": info.get("flags", []),
    }


# The C++ programs are processes that read files: what they do in a second they tell themselves (test_cross_version.py).
@pytest.mark.formats("savedmodel", "onnx", "tflite", "tensorrt", "tensorrt-vc")
@pytest.mark.parametrize("batch", TIMED_BATCHES)
def test_throughput(chain, timed_runner, samples, reference, judge, machine, benchmark, record_property, batch):
    """The variant agrees with the reference, is then timed on rotating inputs, and keeps its floors at this batch."""
    runner, load_seconds = timed_runner
    judge(samples.inputs, reference, "samples")

    call = rotating(runner, samples, batch)
    for _ in range(3):
        call()
    start = time.perf_counter()
    call()
    estimate = time.perf_counter() - start
    benchmark.pedantic(call, rounds=int(np.clip(SECONDS / estimate, 7, 1000)), iterations=1)

    result = latency(benchmark.stats.stats.data, batch)
    artifact = chain.artifact(runner.variant)
    benchmark.extra_info.update(
        model=chain.spec.name,
        variant=str(runner.variant),
        batch=batch,
        samples_per_second=round(result.samples_per_second, 1),
        p50_ms=round(result.p50 * 1e3, 4),
        p99_ms=round(result.p99 * 1e3, 4),
        spread=round(result.spread, 3),
        stable=result.stable,
        load_seconds=round(load_seconds, 4),
        size_bytes=artifact.size,
        machine=machine["name"],
        floors={},
    )
    figures = {"batch": batch, "samples_per_second": result.samples_per_second, "stable": result.stable}
    record_property("throughput", figures)
    check_floors(chain, runner, samples, batch, machine, benchmark.extra_info["floors"])


def check_floors(chain, runner, samples, batch, machine, record):
    """Measure every floor of this variant at this batch side by side; fails where one is missed."""
    spec = chain.spec
    own = [parse_floor(table, spec.name, str(spec.path)) for table in spec.floors]
    for floor in [*bundled_floors(), *own]:
        if (floor.model, floor.fast, floor.fast_batch) != (spec.name, str(runner.variant), batch):
            continue
        if reason := floor.missing_cpu(machine["flags"]):
            record[str(floor)] = f"not applied: {reason}"
            continue
        other = next(v for v in chain.variants if str(v) == floor.slow)
        with chain.runner(other, batch_size=128) as slow_runner:
            fast, slow = rotating(runner, samples, batch), rotating(slow_runner, samples, floor.slow_batch)
            best = None
            for _ in range(ATTEMPTS):
                ratio = side_by_side(fast, slow, fast_batch=batch, slow_batch=floor.slow_batch, seconds=SECONDS)
                best = ratio if best is None or ratio.value > best.value else best
                if best.value >= floor.ratio:
                    break
        record[str(floor)] = {"ratio": round(best.value, 3), "low": round(best.low, 3), "high": round(best.high, 3)}
        if best.value < floor.ratio:
            pytest.fail(
                f"{spec.name}: {floor} misses its floor\n"
                f"  measured  {best.value:.2f} times the samples/s, the best of {ATTEMPTS} measurements\n"
                f"  spread    {best.low:.2f} to {best.high:.2f} (quartiles of {best.rounds} rounds)\n"
                f"  floor     {floor.ratio:.2f} (60 % of the {floor.seen:.2f} seen): {floor.why}\n"
                f"  machine   {machine['name']}",
                pytrace=False,
            )
