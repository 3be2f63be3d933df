"""What a plan on several GPUs of one host promises beyond the reference's answers: ``--devices=all`` on such a host.

Every consistency and batching test runs over the same GPUs there, since each uses the same runner.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from statistics import median

import numpy as np
import pytest

from conformance.timing import durations
from engines.dealing import DealingRunner
from engines.errors import DeviceError
from engines.formats.tensorrt import context, cuda, devices
from fixtures.records import SameBits
from trial.many import first, timed_inputs

PLANS = pytest.mark.formats("tensorrt", "tensorrt-vc", "tensorrt-rtx")

BATCH = 32
SAMPLES = 100_000
FASTER = 1.9
"""The least that two GPUs give of one's samples/s, all copies counted."""

MEMORY = 1.1
"""The most that the second GPU's start takes of the memory that the first one's does."""

ROUNDS = 5
"""Calls of each, in turns, the middle one of which counts."""


@pytest.fixture
def on_several(runner):
    """Runner on several GPUs; skips where there is one, or one was asked for."""
    if reason := devices.too_few():
        pytest.skip(reason)
    if not isinstance(runner, DealingRunner):
        pytest.skip(f"needs two GPUs, and one is under test: --{devices.OPTION.name}=all takes every one")
    return runner


@PLANS
@pytest.mark.consistency
def test_every_gpu_gives_the_same_bits(on_several, samples, record):
    """GPUs of one model give on one plan the same answers, bit for bit, each alone."""
    answers = {}
    for name, one in on_several.devices.items():
        try:
            answers[name] = one(samples.inputs)
        except DeviceError as error:
            pytest.fail(f"{on_several.variant}: {name}: {error}", pytrace=False)
    found = SameBits.of(len(samples), answers)
    record(found)
    assert found.differing == 0, f"{on_several.variant}: {found} ({', '.join(found.devices)})"


@PLANS
@pytest.mark.batching
def test_all_together_give_what_each_gives_alone(on_several, samples):
    """Samples that are dealt to all GPUs come back in their order: as many answers, and those that one GPU gives."""
    most = next(iter(timed_inputs(samples.inputs, on_several.batch_size).values()))
    count = min(len(most), 64 * on_several.batch_size + 1)
    inputs = {name: np.resize(array, (count, *array.shape[1:])) for name, array in samples.inputs.items()}
    expected = next(iter(on_several.devices.values()))(inputs)
    for name, array in on_several(inputs).items():
        np.testing.assert_array_equal(array, expected[name])
    assert sum(on_several.dealt.values()) == count


@pytest.mark.benchmark
@pytest.mark.formats("tensorrt", precisions=("fp16", "int8"), first_profile=True)
def test_two_gpus_are_twice_as_fast(on_several, chain, variant, samples, benchmark, watch_throttling):
    """Two GPUs run 100,000 samples at 1.9 times the samples/s of one; the second starts with as little memory."""
    # The one is what a user without a second GPU has: a runner in this process. A start is all that a GPU's memory
    # holds for a runner once it has answered: the context of its process, the plan and the buffers.
    if benchmark.disabled:
        pytest.skip("benchmarks are off: by --benchmark-disable")
    if chain.spec.name != "cifar10_vgg":
        pytest.skip("the limit is of cifar10_vgg: a smaller model is done before a second GPU has begun")
    few = timed_inputs(samples.inputs, BATCH)
    inputs = {name: np.resize(array, (SAMPLES, *array.shape[1:])) for name, array in few.items()}
    numbers = list(devices.chosen(chain.spec))[:2]
    before = [free(number) for number in numbers]
    with ExitStack() as opened:
        both = opened.enter_context(on(chain, numbers).runner(variant, BATCH))
        for one in both.devices.values():
            one(first(inputs, 64 * BATCH))
        taken = [held - free(number) for held, number in zip(before, numbers, strict=True)]
        alone = opened.enter_context(on(chain, numbers[:1]).runner(variant, BATCH))
        both(inputs)
        alone(inputs)
        rates, throttling = [[], []], watch_throttling()
        for _ in range(ROUNDS):
            for which, runner in enumerate((alone, both)):
                rates[which] += [SAMPLES / s for s in durations(runner, [inputs], least=1, most=1, seconds=0)]
        throttled = throttling()
        benchmark.pedantic(both, args=(inputs,), rounds=1, iterations=1)
    ratio = median(rates[1]) / median(rates[0])
    benchmark.extra_info.update(
        model=chain.spec.name,
        variant=str(variant),
        devices=list(both.devices),
        one_samples_per_s=round(median(rates[0])),
        two_samples_per_s=round(median(rates[1])),
        ratio=round(ratio, 3),
        memory_bytes=taken,
        throttled=list(throttled),
    )
    named = f" (throttled: {'; '.join(throttled)})" if throttled else ""
    assert ratio >= FASTER, f"two GPUs give {ratio:.2f} times the samples/s of one{named}; at least {FASTER}"
    assert taken[1] <= MEMORY * taken[0], f"GPUs took {taken} bytes; allowed: {MEMORY} times the first's"


def on(chain, numbers):
    """The chain with runners on these GPUs."""
    chosen = (",".join(map(str, numbers)),)
    return replace(chain, spec=replace(chain.spec, settings={**chain.spec.settings, devices.OPTION.name: chosen}))


def free(number):
    """Free memory of a GPU, in bytes; the context that asks it is there before."""
    with context.current(number):
        return cuda.driver().mem_get_info()[0]
