"""Many samples through a runner: the batches that a variant is measured at, and the samples that are timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from engines.formats.tensorrt.runner import TensorRTRunner
    from engines.model.spec import ModelSpec
    from engines.runner import Arrays
    from engines.variant import Variant

BATCHES = (1, 32, 128, 1024)

SAMPLES = 10_000
"""Run in one call: as many as CIFAR-10 has for tests, and no multiple of the batches."""

SAMPLES_BYTES = 1 << 28
"""Fewer where they would take more memory than this, but four batches at least."""


def batches_of(spec: ModelSpec, variant: Variant) -> list[int]:
    """Batches that a variant is measured at: those that its profile was made for and no smaller one was.

    Its largest, where it holds none of :data:`BATCHES` but single samples.
    """
    largest = [0, *sorted(p.max for p in spec.profiles)]
    high = variant.profile.max if variant.profile else largest[-1]
    low = largest[largest.index(high) - 1]
    batches = [b for b in BATCHES if low < b <= high]
    return batches if max(batches, default=0) > 1 or high == 1 else [*batches, high]


def timed_inputs(inputs: Arrays, batch: int) -> Arrays:
    """Samples that are timed: :data:`SAMPLES`, the given ones over and over where they are fewer."""
    given = len(next(iter(inputs.values())))
    sample_bytes = sum(array[0].nbytes for array in inputs.values())
    count = min(SAMPLES, SAMPLES_BYTES // sample_bytes)
    count = max(count, 4 * batch)
    return {name: np.concatenate([array] * -(-count // given))[:count] for name, array in inputs.items()}


def first(inputs: Arrays, count: int) -> Arrays:
    """The first ``count`` samples of inputs, all where there are fewer."""
    return {name: array[:count] for name, array in inputs.items()}


def limit_batches(runner: TensorRTRunner, samples_per_s: float, seconds: float) -> int:
    """How many batches the device's limit is measured with: about so many seconds, and four rounds of streams."""
    return max(4 * runner.streams, min(4096, round(seconds * samples_per_s / runner.batch_size)))
