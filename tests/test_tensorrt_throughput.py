"""Many samples through a TensorRT runner: how close to the device's own limit, and whether it keeps its floors."""

from __future__ import annotations

import pytest

from conformance.compare import compare
from conformance.device_floors import floors_for
from conformance.timing import durations, latency
from engines.formats.tensorrt import devices, yardsticks
from engines.formats.tensorrt import packages as tensorrt_packages
from engines.formats.tensorrt import tuning as tensorrt_tuning
from fixtures.records import FloorFound, ManySamples
from trial.many import batches_of, first, limit_batches, timed_inputs
from trial.rows import row

pytestmark = [pytest.mark.benchmark, pytest.mark.tensorrt, pytest.mark.formats("tensorrt")]

ROUNDS = 9
SECONDS = 1.0
"""Calls are timed until there are this many or this time is over, three at least."""

LIMIT_SECONDS = 0.1
FEW = 2048
"""Samples of the synchronous yardstick, four batches at least."""

ATTEMPTS = 3
"""How often a floor that is missed is measured again: a slow engine misses it every time, a disturbed one does not."""


def test_many_samples_keep_their_floors(chain, samples, reference, variant, benchmark, record, watch_throttling):
    """The variant agrees with the reference, and is then as fast as its floors say, at every batch it is made for."""
    if benchmark.disabled:
        pytest.skip("benchmarks are off: by --benchmark-disable")
    if devices.several(chain.spec):
        pytest.skip(f"floors are of one GPU: run without --{devices.OPTION.name}, or name one")
    spec, device, results, failures = chain.spec, tensorrt_packages.device()["GPU"], {}, []
    tolerance = row(variant.row_name, "samples", spec.tolerances, str(spec.path)).tolerance
    # Alone, samples have nothing to overlap with.
    batches = [b for b in batches_of(spec, variant) if b > 1] or [1]
    for batch in batches:
        inputs = timed_inputs(samples.inputs, batch)
        floors = [f for f in floors_for(spec.name, str(variant), batch, device) if applies(f, chain, batch)]
        with chain.runner(variant, batch) as runner:
            comparison = compare(runner(samples.inputs), reference, tolerance, {o.name: o.kind for o in spec.outputs})
            assert comparison.passed, comparison.describe()
            throttling = watch_throttling()
            best = attempt(runner, inputs, floors, {})
            if missed(floors, best):
                # What was chosen for it once may have been chosen on a busy machine.
                results[f"tuned again at {batch}"] = tensorrt_tuning.tune(runner)
                best = attempt(runner, inputs, floors, best)
            throttled = throttling()
            if batch == batches[-1]:
                benchmark.pedantic(runner, args=(inputs,), rounds=3, iterations=1)
        rates = {"runner": best["samples_per_s"]}
        for name, ratio in (("limit", "share_of_limit"), ("synchronous", "over_synchronous")):
            rates[name] = best["samples_per_s"] / best[ratio]
        record(ManySamples(batch, len(next(iter(inputs.values()))), rates, throttled))
        for f in floors:
            record(FloorFound(str(f), best[f.figure], f.least, f.seen, best[f.figure] >= f.least, None, throttled))
        results[batch] = {name: round(value, 3) for name, value in best.items()}
        named = f", throttled: {'; '.join(throttled)}" if throttled else ""
        failures += [
            f"{f}: {best[f.figure]:,.2f}{named}; floor {f.least:,.2f} ({f.source})" for f in missed(floors, best)
        ]
    benchmark.extra_info.update(model=spec.name, variant=str(variant), device=device, results=results)
    if failures:
        pytest.fail(
            f"{spec.name} misses floors on {device}, the best of {2 * ATTEMPTS} measurements, tuned again:\n  "
            + "\n  ".join(failures),
            pytrace=False,
        )


def applies(floor, chain, batch):
    """Whether a floor holds: what was seen, for the bundled model only; the rule, where batches can overlap."""
    if floor.device is not None:
        return chain.spec.bundled and not chain.brought
    return batch > 1 and not chain.spec.dimensions


def missed(floors, best):
    """Floors that the best of the figures measured so far misses."""
    return [f for f in floors if best[f.figure] < f.least]


def attempt(runner, inputs, floors, best):
    """Measure until no floor is missed, a few times at most; gives the best of each figure, ``best`` included."""
    for _ in range(ATTEMPTS):
        measured = measure(runner, inputs)
        best = {name: max(value, best.get(name, value)) for name, value in measured.items()}
        if not missed(floors, best):
            break
    return best


def measure(runner, inputs):
    """Measure samples/s of the runner, and its ratios to its yardsticks, one right after the other."""
    count, batch = len(next(iter(inputs.values()))), runner.batch_size
    runner(inputs)
    rate = latency(durations(runner, [inputs], least=3, most=ROUNDS, seconds=SECONDS), count).samples_per_second
    limit = yardsticks.device_limit(runner, inputs, limit_batches(runner, rate, LIMIT_SECONDS))
    synchronous = yardsticks.synchronous(runner, first(inputs, max(FEW, 4 * batch)))
    return {
        "samples_per_s": rate,
        "over_synchronous": rate / synchronous.samples_per_second,
        "share_of_limit": rate / limit.samples_per_second,
    }
