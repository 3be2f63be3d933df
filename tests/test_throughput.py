"""How fast every variant is, once it agreed with the reference, and whether it keeps its floors."""

from __future__ import annotations

import itertools
import platform
import time

import cpuinfo
import numpy as np
import pytest

from conformance.floors import bundled_floors, parse_floor
from conformance.timing import LEAST_WATCHED, latency, side_by_side, watch_others
from engines.errors import UnavailableError
from engines.formats.tensorrt import packages as tensorrt_packages
from engines.model.samples import Samples
from fixtures.chain import TIMED_BATCHES
from fixtures.judge import SAMPLES, TIMED_SAMPLES
from fixtures.records import FloorFound, Throughput

pytestmark = pytest.mark.benchmark

ROTATED = 4
"""Different inputs in turn: the same one again and again would be served from the caches."""

SECONDS = 0.5
"""How long one variant at one batch is timed, and one floor at a time."""

KEPT_ROUNDS = 200
"""How many rounds' durations go to the report; of more, as many evenly from the sorted ones."""

ATTEMPTS = 4
"""How often a floor that is missed is measured again: a slow engine misses it every time, a disturbed one does not."""


def evenly(values, count):
    """All values as floats, or ``count`` of them evenly from the sorted ones."""
    if len(values) <= count:
        return [float(v) for v in values]
    return [float(v) for v in np.sort(values)[np.linspace(0, len(values) - 1, count).astype(int)]]


def rotating(runner, samples, batch):
    """A call of the runner on ``batch`` samples that takes other ones each time."""
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


def judge_as_timed(runner, samples, reference, judge_outputs, batch):
    """Judge the runner itself that is timed, in just such calls: of this many samples, repeated ones in the last."""
    chosen = np.arange(-(-len(samples) // batch) * batch) % len(samples)
    outputs = runner.in_batches({name: array[chosen] for name, array in samples.inputs.items()}, batch)
    first, repeated = slice(len(samples)), slice(len(samples), None)
    judge_outputs(runner, samples, {n: a[first] for n, a in outputs.items()}, reference, SAMPLES)
    if len(chosen) > len(samples):
        rest = Samples({name: array[chosen[repeated]] for name, array in samples.inputs.items()}, None)
        expected = {name: array[chosen[repeated]] for name, array in reference.items()}
        judge_outputs(runner, rest, {n: a[repeated] for n, a in outputs.items()}, expected, TIMED_SAMPLES)


@pytest.fixture(scope="session")
def machine():
    """Describe the machine that is measured on: for messages, and for floors that need a CPU feature or a GPU."""
    info = cpuinfo.get_cpu_info()
    return {
        "name": f"{info.get('brand_raw', platform.processor())}, {info.get('count', '?')} cores",
        "flags": info.get("flags", []),
        "device": None if tensorrt_packages.unavailable() else tensorrt_packages.device()["GPU"],
    }


# Programs are processes that read files: what they do in a second they tell themselves (test_cross_version.py).
@pytest.mark.formats(timed=True)
@pytest.mark.parametrize("batch", TIMED_BATCHES)
def test_throughput(
    chain, timed_runner, samples, reference, judge_outputs, machine, benchmark, record, watch_throttling, batch
):
    """The variant agrees with the reference, is then timed on rotating inputs, and keeps its floors at this batch."""
    runner, load_seconds = timed_runner
    judge_as_timed(runner, samples, reference, judge_outputs, batch)
    if benchmark.disabled:
        pytest.skip("benchmarks are off: by --benchmark-disable")

    call = rotating(runner, samples, batch)
    for _ in range(3):
        call()
    start = time.perf_counter()
    call()
    estimate = time.perf_counter() - start
    throttling, others, start = watch_throttling(), watch_others(), time.perf_counter()
    benchmark.pedantic(call, rounds=int(np.clip(SECONDS / estimate, 7, 1000)), iterations=1)
    while time.perf_counter() - start < LEAST_WATCHED:
        call()
    busy_elsewhere, throttled = others(), throttling()

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
        throttled=list(throttled),
        floors={},
    )
    figures = Throughput(
        batch=batch,
        samples_per_second=result.samples_per_second,
        samples_per_round=batch,
        rounds=result.rounds,
        rounds_seconds=evenly(benchmark.stats.stats.data, KEPT_ROUNDS),
        spread=result.spread,
        stable=result.stable,
        p50_ms=result.p50 * 1e3,
        p99_ms=result.p99 * 1e3,
        load_seconds=load_seconds,
        bytes=artifact.size,
        busy_elsewhere=busy_elsewhere,
        throttled=throttled,
    )
    record(figures)
    check_floors(chain, runner, samples, batch, machine, benchmark.extra_info["floors"], record, watch_throttling)


def open_slow_side(chain, floor):
    """Open a runner of what a floor is over; gives it and None, or None and the reason why there is none."""
    other = next((v for v in chain.variants if str(v) == floor.slow), None)
    if other is None:
        return None, f"{floor.slow} is not under test"
    try:
        return chain.runner(other, batch_size=128), None
    except UnavailableError as error:
        return None, str(error)


def check_floors(chain, runner, samples, batch, machine, shown, record, watch_throttling):
    """Measure every floor of this variant at this batch side by side; fails where one is missed.

    A floor is recorded as not applied, with the reason, where it needs another CPU or GPU. So it is where its slow side
    is not under test or cannot run here.
    """
    spec = chain.spec
    own = [parse_floor(table, spec.name, str(spec.path)) for table in spec.floors]
    for floor in [*bundled_floors(), *own]:
        if (floor.model, floor.fast, floor.fast_batch) != (spec.name, str(runner.variant), batch):
            continue
        reason = floor.missing_cpu(machine["flags"]) or floor.missing_device(machine["device"])
        if reason is None:
            opened, reason = open_slow_side(chain, floor)
        if reason is not None:
            shown[str(floor)] = f"not applied: {reason}"
            record(FloorFound(str(floor), None, floor.ratio, floor.seen, None, reason, ()))
            continue
        with opened as slow_runner:
            fast, slow = rotating(runner, samples, batch), rotating(slow_runner, samples, floor.slow_batch)
            best, throttling = None, watch_throttling()
            for _ in range(ATTEMPTS):
                ratio = side_by_side(fast, slow, fast_batch=batch, slow_batch=floor.slow_batch, seconds=SECONDS)
                best = ratio if best is None or ratio.value > best.value else best
                if best.value >= floor.ratio:
                    break
        throttled = throttling()
        shown[str(floor)] = {"ratio": round(best.value, 3), "low": round(best.low, 3), "high": round(best.high, 3)}
        held = best.value >= floor.ratio
        record(FloorFound(str(floor), best.value, floor.ratio, floor.seen, held, None, throttled))
        if not held:
            pytest.fail(
                f"{spec.name}: {floor} misses its floor\n"
                f"  measured  {best.value:.2f} times the samples/s, the best of {ATTEMPTS} measurements\n"
                f"  spread    {best.low:.2f} to {best.high:.2f} (quartiles of {best.rounds} rounds)\n"
                f"  floor     {floor.ratio:.2f} (60 % of the {floor.seen:.2f} seen): {floor.why}\n"
                f"  machine   {machine['name']}" + (f"\n  throttled {'; '.join(throttled)}" if throttled else ""),
                pytrace=False,
            )
