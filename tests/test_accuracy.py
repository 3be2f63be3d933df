"""Every variant is as accurate against labels as the SavedModel, which itself is better than chance."""

from __future__ import annotations

import pytest

from conformance.accuracy import measure_accuracy
from fixtures.live import run_shown

pytestmark = pytest.mark.accuracy

QUICK = 1000
"""Labelled samples of the quick test; all of them are for the slow one."""


def check(runner, chain, count, record, draw):
    """Judge the accuracy of a runner on the first ``count`` labelled samples, and record it."""
    spec, name = chain.spec, chain.spec.probabilities.name
    samples = chain.dataset.test(count)
    reference = chain.reference(f"accuracy-{count}", samples.inputs)[name]
    actual = run_shown(runner, samples.inputs)
    result = measure_accuracy(actual[name], reference, samples.labels, runner.variant.precision)
    figures = {"samples": count, "correct": result.correct, "reference": result.reference_correct}
    figures |= {"allowed_drop": result.allowed_drop, "least": result.least, "passed": not result.problems}
    record("accuracy", figures)
    draw(samples.inputs, actual, {name: reference}, samples.labels)
    # What was lost shows on any labels; only whether it is better than guessing may be more than they can tell.
    if problems := result.drop_problems if result.least is None else result.problems:
        pytest.fail(f"{runner.variant} of {spec.name}: " + "; ".join(problems), pytrace=False)
    if result.least is None:
        pytest.skip(f"{count} labelled samples cannot tell any accuracy from chance")


@pytest.fixture(scope="session")
def label_count(chain):
    """Give how many labelled samples there are; skips where there are none, or nothing that they label."""
    if chain.spec.probabilities is None:
        pytest.skip(f"{chain.spec.name} has no output of class scores")
    if not chain.dataset.labelled:
        pytest.skip(chain.dataset.unlabelled_reason)
    return chain.dataset.test_count


def test_the_model_is_as_accurate_as_it_was_trained_to_be(model, label_count, chain):
    """The SavedModel of a bundled architecture reaches the accuracy that its training asked for."""
    if chain.spec.training is None:
        pytest.skip(f"{model} was trained elsewhere: nothing says what to expect")
    samples = chain.dataset.test(min(QUICK, label_count))
    reference = chain.reference(f"accuracy-{len(samples)}", samples.inputs)[chain.spec.probabilities.name]
    assert (reference.argmax(axis=1) == samples.labels).mean() >= chain.spec.training.accuracy


def test_accuracy_is_kept_and_better_than_chance(label_count, runner, chain, record_property, draw):
    """On up to 1,000 labelled samples the variant loses no more than its precision may, and does not merely guess."""
    check(runner, chain, min(QUICK, label_count), record_property, draw)


@pytest.mark.slow
def test_accuracy_is_kept_on_all_labelled_samples(label_count, runner, chain, record_property, draw):
    """The same on every labelled sample there is, such as the 10,000 test images of CIFAR-10."""
    if label_count <= QUICK:
        pytest.skip("the quick test has all labelled samples already")
    check(runner, chain, label_count, record_property, draw)
