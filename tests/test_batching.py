"""The answer for a sample does not depend on what it is batched with."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.outputs import joined, taken
from trial.draws import partitions

pytestmark = pytest.mark.batching

BEYOND = 129
"""A batch of one sample more than the largest that is timed, and that there are test samples."""

FEW = 12
"""Samples of the drawn tests: enough for partitions of every kind, few enough for many examples."""


@given(data=st.data())
def test_any_partition_gives_the_same_outputs(data, spec, samples, ways, batched):
    """However the samples are cut into batches, every one has the answer that it has alone."""
    count = min(FEW, len(samples))
    cuts = data.draw(partitions(count))
    for way in ways:
        outputs = [way.runner(samples.take(start, stop).inputs) for start, stop in cuts]
        batched(joined(spec, outputs), taken(spec, way.singles, slice(count)), f"partition {cuts}", way.runner.way)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 16, 31, 32, 33, 100])
def test_a_batch_gives_what_single_samples_give(chain, variant, runner, samples, ways, batched, batch):
    """Each of the samples, run in batches of this many, has the answer that it has alone."""
    with contextlib.ExitStack() as opened:
        if variant.profile is None and batch > runner.batch_size:
            # The runner of the other tests would cut them: it runs batches as large as the model's first profile.
            runner = opened.enter_context(chain.runner(variant, batch_size=batch))
        for one, way in zip((runner, *runner.beside), ways, strict=True):
            batched(one.in_batches(samples.inputs, batch), way.singles, f"batches of {batch}", one.way)


def test_a_batch_larger_than_any_other_gives_what_single_samples_give(
    chain, variant, runner, spec, samples, ways, batched
):
    """What is wrong only in large batches is wrong: each of many samples, some of them twice, has its own answer."""
    order = np.random.default_rng(0).integers(0, len(samples), BEYOND)
    inputs = {name: array[order] for name, array in samples.inputs.items()}
    with contextlib.ExitStack() as opened:
        if variant.profile is None:
            # As above: the runner of the other tests would cut them.
            runner = opened.enter_context(chain.runner(variant, batch_size=BEYOND))
        for one, way in zip((runner, *runner.beside), ways, strict=True):
            batched(one(inputs), taken(spec, way.singles, order), f"a batch of {BEYOND}", one.way)


@given(data=st.data())
def test_permuting_the_batch_permutes_the_outputs(data, spec, samples, ways, batched):
    """The answers follow the samples when the batch is reordered."""
    order = np.array(data.draw(st.permutations(range(min(FEW, len(samples))))))
    for way in ways:
        outputs = way.runner({name: array[order] for name, array in samples.inputs.items()})
        batched(outputs, taken(spec, way.singles, order), f"order {order.tolist()}", way.runner.way)


@given(data=st.data())
def test_repeated_samples_agree_within_a_batch(data, spec, samples, ways, batched):
    """The same sample at several places of one batch has the same answer at each."""
    places = st.lists(st.integers(0, min(FEW, len(samples)) - 1), min_size=2, max_size=33)
    chosen = np.array(data.draw(places))
    for way in ways:
        outputs = way.runner({name: array[chosen] for name, array in samples.inputs.items()})
        batched(outputs, taken(spec, way.singles, chosen), f"samples {chosen.tolist()}", way.runner.way)


def test_repeated_runs_are_identical(ways, samples):
    """The same inputs give bit for bit the same outputs, run after run."""
    for number, way in enumerate(ways):
        expected = way.runner(samples.inputs)
        for _ in range(1 if number else 3):
            for name, array in way.runner(samples.inputs).items():
                np.testing.assert_array_equal(array, expected[name])


def test_a_non_contiguous_view_equals_its_copy(runner, samples):
    """Strided and reversed views are read by their strides, not as the memory behind them."""
    for view in (slice(None, None, 2), slice(None, None, -1)):
        views = {name: array[view] for name, array in samples.inputs.items()}
        copies = {name: array.copy() for name, array in views.items()}
        expected = runner(copies)
        for name, array in runner(views).items():
            np.testing.assert_array_equal(array, expected[name])
    fortran = {name: np.asfortranarray(array) for name, array in samples.inputs.items()}
    expected = runner(samples.inputs)
    for name, array in runner(fortran).items():
        np.testing.assert_array_equal(array, expected[name])


def test_inputs_are_not_modified(runner, samples):
    """The caller's arrays hold the same bytes afterwards, and read-only ones are taken."""
    copies = {name: array.copy() for name, array in samples.inputs.items()}
    for array in copies.values():
        array.setflags(write=False)
    runner(copies)
    for name, array in copies.items():
        np.testing.assert_array_equal(array, samples.inputs[name])


def test_the_last_sample_is_processed(spec, ways, samples, batched):
    """The remainder of the last batch is not dropped: as many answers as samples, the last one its own."""
    for way in ways:
        outputs = way.runner(samples.inputs)
        counts = {name: len(array) for name, array in outputs.items() if name not in spec.constants}
        assert counts == dict.fromkeys(counts, len(samples))
        last = slice(-1, None)
        batched(taken(spec, outputs, last), taken(spec, way.singles, last), "the last sample", way.runner.way)
