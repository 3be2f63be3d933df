"""Every variant is as accurate against labels as the SavedModel, which itself is better than chance."""

from __future__ import annotations

import pytest

from conformance.accuracy import accuracy_of, label_mistake, measure_accuracy
from conformance.cause import Cause
from conformance.compare import structural_problems
from conformance.failure import Failure
from fixtures.chain import QUICK
from fixtures.judge import MORE_SAMPLES
from fixtures.judged import Judged

pytestmark = pytest.mark.accuracy


def check(chain, runner, count, answers, judge_outputs, record, agrees_in_parts):
    """Judge the variant on the first ``count`` labelled samples: its accuracy, and every answer by the reference."""
    name = chain.spec.probabilities.name
    if (tally := agrees_in_parts(count)) is not None and tally.labels:
        result = accuracy_of(tally.labels, tally.found, tally.reference_found, runner.variant.precision)
        record(result)
        conclude(chain, runner, result)
        return
    samples, actual, reference = answers(count)
    result, notes = None, []
    if not structural_problems(name, actual.get(name), reference[name]):
        result = measure_accuracy(actual[name], reference[name], samples.labels, runner.variant.precision)
        record(result)
        notes = [f"  accuracy   {p}" for p in told_by(result)]
    # Wrong answers that cancel out in the count of right ones, NaN and missing ones fail here.
    judge_outputs(runner, samples, actual, reference, MORE_SAMPLES, notes=notes)
    conclude(chain, runner, result, label_mistake(reference[name], samples.labels) if result.doubtful else None)


def told_by(result):
    """Problems that labels can tell: what was lost shows on any, whether it is better than guessing not on few."""
    return result.problems if result.tells or result.strange else result.drop_problems


def conclude(chain, runner, result, likely=None):
    """End the test by the accuracy of answers that agree with the reference's; ``likely`` is why they are wrong."""
    if problems := told_by(result):
        told = f"{runner.variant} of {chain.spec.name}: " + "; ".join(problems)
        if likely:
            told += f"\n  likely     {likely}"
        raise Judged(told, Failure(cause=Cause(likely) if likely else None))
    if not result.tells:
        pytest.skip(f"{result.samples} labelled samples cannot tell any accuracy from chance")


@pytest.fixture(scope="session")
def label_count(chain):
    """How many labelled samples there are; skips where there are none, or nothing that they label."""
    if chain.spec.probabilities is None:
        pytest.skip(f"{chain.spec.name} has no output of class scores")
    if not chain.dataset.labelled:
        pytest.skip(chain.dataset.unlabelled_reason)
    return chain.dataset.test_count


def test_the_model_is_as_accurate_as_it_was_trained_to_be(model, label_count, chain, shared):
    """The SavedModel of a bundled architecture reaches the accuracy that its training asked for."""
    if chain.spec.training is None:
        pytest.skip(f"{model} was trained elsewhere: nothing says what to expect")
    count = min(QUICK, label_count)
    reference = shared.first_reference(count)[chain.spec.probabilities.name]
    assert (reference.argmax(axis=1) == shared.first(count).labels).mean() >= chain.spec.training.accuracy


def test_accuracy_is_kept_and_better_than_chance(
    label_count, chain, asked, answers, judge_outputs, record, agrees_in_parts
):
    """On up to 1,000 labelled samples the variant loses no more than its precision may, and does not merely guess."""
    check(chain, asked, min(QUICK, label_count), answers, judge_outputs, record, agrees_in_parts)


@pytest.mark.slow
def test_accuracy_is_kept_on_all_labelled_samples(
    label_count, chain, asked, answers, judge_outputs, record, agrees_in_parts
):
    """The same on every labelled sample there is, such as the 10,000 test images of CIFAR-10."""
    if label_count <= QUICK:
        pytest.skip("the quick test has all labelled samples already")
    check(chain, asked, label_count, answers, judge_outputs, record, agrees_in_parts)
