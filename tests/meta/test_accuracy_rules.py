"""The rules of accuracy: chance never passes, whatever it is compared with, and losses are limited by precision."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import accuracy
from conformance.accuracy import (
    SIGNIFICANCE,
    Found,
    accuracy_of,
    binomial_tail,
    chance_level,
    counted,
    label_mistake,
    least_correct,
    measure_accuracy,
)
from engines.chain import Chain
from engines.model import datasets
from engines.model.brought import BroughtData
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.variant import Variant
from fixtures.chain import CHAINS

CLASSES = 10


def exact_tail(successes, trials, probability):
    """Sum the binomial distribution in whole numbers."""
    # The decimal fraction that is meant: the float's own is 55 bits long, and its powers take seconds.
    p = Fraction(probability).limit_denominator(100_000)
    terms = (math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(max(successes, 0), trials + 1))
    return float(sum(terms, Fraction(0)))


def balanced(count=1000):
    """Labels that have every class equally often."""
    return np.arange(count) % CLASSES


def answering(labels, correct, classes=CLASSES):
    """Outputs whose top class is right for exactly the first ``correct`` samples."""
    classes_answered = np.where(np.arange(len(labels)) < correct, labels, (labels + 1) % classes)
    return np.eye(classes, dtype=np.float32)[classes_answered]


def constant(count, answer, classes=CLASSES):
    """Outputs of a classifier that always answers the same."""
    return np.eye(classes, dtype=np.float32)[np.full(count, answer)]


def judged(correct, reference_correct, precision="fp32", count=1000):
    """Judge so many right answers of a variant and of the reference, on balanced labels."""
    labels = balanced(count)
    return measure_accuracy(answering(labels, correct), answering(labels, reference_correct), labels, precision)


@given(st.integers(-2, 60), st.integers(1, 60), st.integers(1, 99))
def test_the_tail_is_that_of_the_exact_sum(successes, trials, percent):
    """For any handful of trials the tail is what whole-number arithmetic gives."""
    probability = percent / 100
    expected = exact_tail(successes, trials, probability)
    assert binomial_tail(successes, trials, probability) == pytest.approx(expected, rel=1e-9, abs=1e-300)


TAILS = {
    "none needed is certain": (0, 10, 0.1),
    "fewer than none as well": (-1, 10, 0.1),
    "one of one": (1, 1, 0.1),
    "all of ten": (10, 10, 0.1),
    "a hundred samples": (20, 100, 0.1),
    "a thousand samples at chance": (100, 1000, 0.1),
    "a thousand samples above chance": (131, 1000, 0.1),
    "more than there are": (11, 10, 0.5),
}


@pytest.mark.parametrize("tail", TAILS)
def test_the_tail_is_exact_for(tail):
    """Single values agree with whole-number arithmetic, the ends included."""
    assert binomial_tail(*TAILS[tail]) == pytest.approx(exact_tail(*TAILS[tail]), rel=1e-9)


def test_the_tail_is_a_probability():
    """What rounding adds or takes of it is none: at least none are certain, and at least one is no more than that."""
    for trials in range(1, 60):
        for probability in (0.01, 0.1, 0.25, 0.5, 0.9, 0.99):
            assert binomial_tail(0, trials, probability) == 1.0
            assert 0 < binomial_tail(trials, trials, probability) <= binomial_tail(1, trials, probability) <= 1.0


def test_the_chance_is_that_of_the_answers_dealt_out_anyhow():
    """It is worked out by hand, at least half a sample's share, and all of it for labels of one class."""
    assert chance_level([3, 1], [2, 2]) == 8 / 16
    assert chance_level([3, 1], [4, 0]) == 12 / 16
    assert chance_level([2, 2, 0], [0, 0, 4]) == 0.5 / 4
    assert chance_level([0, 4], [4, 0]) == 1.0
    with pytest.raises(ValueError, match="shorter"):
        chance_level([2, 2], [4])


def test_what_guessing_reaches_as_often_as_the_significance_is_not_better(monkeypatch):
    """Only less often counts, for the fewest right samples and for labels of one class."""
    often = binomial_tail(4, 4, chance_level([2, 2], [2, 2]))
    monkeypatch.setattr(accuracy, "SIGNIFICANCE", often)
    assert least_correct([2, 2], [2, 2]) is None
    monkeypatch.setattr(accuracy, "SIGNIFICANCE", math.nextafter(often, 1))
    assert least_correct([2, 2], [2, 2]) == 4
    # Three labels of one class of two: by chance a model finds all with 1/8, and at least two with 1/2.
    for significance, found, strange in (
        (0.125, 0, False),
        (math.nextafter(0.125, 1), 0, True),
        (binomial_tail(2, 3, 0.5), 2, True),
        (math.nextafter(binomial_tail(2, 3, 0.5), 1), 2, False),
    ):
        monkeypatch.setattr(accuracy, "SIGNIFICANCE", significance)
        answered = Found(found, (found, 3 - found))
        assert accuracy_of([3, 0], answered, answered, "fp32").strange is strange


def test_the_tail_holds_for_ten_thousand_samples():
    """No factorial overflows at the size of CIFAR-10's test set, and the tail still falls."""
    tails = [binomial_tail(k, 10_000, 0.1) for k in (1000, 1050, 1100, 1500)]
    assert 0.49 < tails[0] < 0.51
    assert tails == sorted(tails, reverse=True)
    assert 0 < tails[3] < 1e-50


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.data())
def test_the_bound_is_the_first_that_guessing_hardly_reaches(labels, data):
    """Guessing reaches the bound less often than the significance, and one right answer less more often."""
    array = np.array(labels)
    answered = counted(np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(array), max_size=len(array)))), 4)
    counts = counted(array, 4)
    least, chance = least_correct(counts, answered), chance_level(counts, answered)
    if least is None:
        assert chance == 1 or exact_tail(len(array), len(array), chance) >= SIGNIFICANCE * (1 - 1e-9)
    else:
        assert exact_tail(least, len(array), chance) < SIGNIFICANCE * (1 + 1e-9)
        assert exact_tail(least - 1, len(array), chance) >= SIGNIFICANCE * (1 - 1e-9)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("count", [1000, 10_000])
def test_chance_fails_even_where_the_reference_is_no_better(precision, count):
    """An accuracy of 0.1000 everywhere, as broken weights give it, is no agreement: both are named."""
    result = judged(count // 10, count // 10, precision, count)
    assert len(result.problems) == 2
    assert result.problems[0].startswith(f"the variant has {count // 10} of {count} right (0.1000), not better than")
    assert result.problems[1].startswith(f"the reference itself has {count // 10} of {count} right (0.1000)")


def test_a_reference_at_chance_fails_a_variant_that_is_right():
    """The reference's own accuracy is judged too: a variant better than it proves nothing."""
    (problem,) = judged(760, 100).problems
    assert problem.startswith("the reference itself")


def test_a_constant_classifier_fails_on_unbalanced_labels():
    """Always answering the commonest class is chance, however common that class is."""
    labels = np.where(np.arange(1000) < 800, 3, np.arange(1000) % CLASSES)
    outputs = constant(1000, 3)
    assert chance_level(counted(labels, CLASSES), counted(outputs.argmax(1), CLASSES)) > 0.8
    result = measure_accuracy(outputs, outputs, labels, "fp32")
    assert result.correct / 1000 > 0.8
    assert len(result.problems) == 2


def test_a_model_that_looks_for_rare_classes_may_have_fewer_right_than_a_constant():
    """Trained with class weights it answers the commonest class less often: it is measured by what it answers."""
    draw = np.random.default_rng(0)
    labels = draw.choice(CLASSES, 1000, p=[0.75, 0.2, 0.05] + [0] * (CLASSES - 3))
    answers = np.where(draw.random(1000) < 0.65, labels, (labels + draw.integers(1, 3, 1000)) % 3)
    outputs = np.eye(CLASSES, dtype=np.float32)[answers]
    result = measure_accuracy(outputs, outputs, labels, "fp32")
    assert result.correct < 750
    assert result.problems == ()
    mixed = measure_accuracy(outputs, outputs, draw.permutation(labels), "fp32")
    assert len(mixed.problems) == 2
    # What answers one class alone is no better than chance, however good the reference is.
    assert len(measure_accuracy(constant(1000, 0), outputs, labels, "fp32").chance_problems) == 1


def test_a_constant_classifier_fails_on_balanced_labels():
    """On CIFAR-10's own labels, each class equally often, a constant answer is right one time in ten."""
    labels, outputs = balanced(), constant(1000, 3)
    assert len(measure_accuracy(outputs, outputs, labels, "int8").problems) == 2


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_broken_variant_of_a_sound_reference_fails_twice(precision):
    """8.3 % against 76 % is no better than chance, and a loss beyond every limit; both are said."""
    problems = judged(83, 760, precision).problems
    assert problems[0] == (
        "the variant has 83 of 1000 right (0.0830), not better than chance: guessing reaches 131 less often than "
        "0.001 of the times"
    )
    assert problems[1].startswith("83 of 1000 right (0.0830), by the reference 760 (0.7600): 677 lost, ")
    assert len(problems) == 2


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_sound_variant_passes(precision):
    """75.8 % against 76 % is neither chance nor a loss that matters, and gaining is no fault."""
    assert judged(758, 760, precision).problems == ()
    assert judged(790, 760, precision).problems == ()


LIMITS = {
    "FP32 loses half a point": ("fp32", 50),
    "FP16 loses half a point": ("fp16", 50),
    "INT8 loses one and a half": ("int8", 150),
    "INT8 with FP16 is judged as INT8": ("int8+fp16", 150),
    "INT8 of Q/DQ is judged as INT8": ("int8-qdq", 150),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_the_drop_is_limited_by_precision(limit):
    """On 10,000 samples the limit itself passes and one sample more fails, with what was lost and allowed."""
    precision, allowed = LIMITS[limit]
    assert judged(7600 - allowed, 7600, precision, 10_000).problems == ()
    (problem,) = judged(7600 - allowed - 1, 7600, precision, 10_000).problems
    assert problem.endswith(f"{allowed + 1} lost, {allowed} allowed")
    assert "by the reference 7600 (0.7600)" in problem


def test_two_samples_of_a_hundred_may_always_be_lost():
    """Half a point of a hundred samples is half a sample: two are allowed and three are not."""
    assert judged(74, 76, count=100).problems == ()
    assert judged(73, 76, count=100).problems == (
        "73 of 100 right (0.7300), by the reference 76 (0.7600): 3 lost, 2 allowed",
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_labels_never_pass(count):
    """Three right of three are reached by guessing once in a thousand times, so that they tell nothing."""
    labels = np.zeros(count, np.int64) if count == 1 else np.arange(count)
    result = measure_accuracy(answering(labels, count), answering(labels, count), labels, "fp32")
    assert result.least is None
    assert result.problems == (f"{count} labelled samples are too few to tell any accuracy from chance",)


def test_labels_of_one_class_only_tell_nothing():
    """Where every label is the same, no number of right answers is better than a constant."""
    labels = np.full(1000, 4)
    assert least_correct(counted(labels, CLASSES), counted(labels, CLASSES)) is None


def test_a_loss_shows_where_chance_cannot_be_told():
    """Labels of one class only hide guessing, but not that a variant lost what the reference has right."""
    labels = np.full(1000, 4)
    result = measure_accuracy(constant(1000, 5), constant(1000, 4), labels, "fp32")
    assert result.least is None
    (problem,) = result.drop_problems
    assert problem.endswith("1000 lost, 5 allowed")
    assert measure_accuracy(constant(1000, 4), constant(1000, 4), labels, "fp32").drop_problems == ()


# The test's own check, on labels that cannot tell chance.

ACCURACY = Path(__file__).resolve().parents[1] / "test_accuracy.py"


class Shifted:
    """A runner whose classes are off by one."""

    def __init__(self, runner):
        self.runner, self.spec, self.variant, self.batch_size = runner, runner.spec, runner.variant, runner.batch_size

    def __call__(self, inputs):
        """Run, and move every class by one."""
        return {name: np.roll(array, 1, axis=1) for name, array in self.runner(inputs).items()}


@pytest.mark.parametrize(
    ("count", "found", "classes", "strange"),
    [
        (400, 40, 10, True),
        (400, 55, 10, True),
        (400, 70, 10, False),
        (30, 28, 10, False),
        (30, 0, 10, True),
        (2, 0, 10, False),
        (9, 0, 2, False),
        (12, 5, 2, True),
    ],
)
def test_labels_of_one_class_that_the_reference_does_not_find_are_strange(count, found, classes, strange):
    """Labels of one class tell no accuracy, but that they are of other samples, where there are enough of them."""
    answered = Found(found, (found, count - found, *[0] * (classes - 2)))
    result = accuracy_of([count, *[0] * (classes - 1)], answered, answered, "fp32")
    assert result.strange == strange
    said = (
        f"all {count} labels are of one class, and the reference itself has {found} right, no more than by chance: "
        "they seem to be of other samples"
    )
    assert (said in result.problems) == strange
    mixed = accuracy_of([count - 1, 1, *[0] * (classes - 2)], answered, answered, "fp32")
    assert not mixed.strange


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (lambda y: (y + 1) % 5, "labels count classes from 1: counted from 0, the reference has 90 of 100 right"),
        (lambda y: (y - 1) % 5, "labels count classes from -1: counted from 0, the reference has 90 of 100 right"),
        (lambda y: y[::-1].copy(), "the labels are not those of these samples, or in another order than the samples"),
        (np.zeros_like, "the labels are not those of these samples, or in another order than the samples"),
    ],
)
def test_labels_that_the_reference_does_not_find_have_a_likely_mistake(mistake, told):
    """Labels that count from another number are told so; of others it is said that they are of other samples."""
    labels = np.repeat(np.arange(5), 20)
    reference = np.eye(5, dtype=np.float32)[np.where(np.arange(100) % 10 == 0, (labels + 2) % 5, labels)]
    # Reversed, the middle class alone would be right.
    shown = mistake(labels)
    found = Found.of(reference, shown)
    result = accuracy_of(counted(shown, 5), Found(0, found.classes), found, "fp32")
    assert result.doubtful
    assert label_mistake(reference, shown) == told
    right = accuracy_of([20] * 5, Found(90, (20,) * 5), Found(90, (20,) * 5), "fp32")
    assert not right.doubtful


def test_a_likely_mistake_is_told_from_as_many_as_guessing_does_not_reach():
    """As many right answers as count as better than chance are enough, and one less is not."""
    labels, least = np.repeat(np.arange(5), 20), least_correct([20] * 5, [20] * 5)
    for right, told in ((least, f"the reference has {least} of 100 right"), (least - 1, "not those of these samples")):
        answers = np.where(np.arange(100) < right, labels, (labels + 3) % 5)
        assert told in label_mistake(np.eye(5)[answers], (labels + 1) % 5)


def accepted(*_, **__):
    """Compare nothing but accuracy."""


@pytest.mark.slow
def test_a_total_loss_fails_on_labels_of_one_class(pytestconfig):
    """A variant that has all wrong fails although its labels are of one class; a sound one is skipped, and says why."""
    found = importlib.util.spec_from_file_location("accuracy_under_test", ACCURACY)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    spec = load_model(find_model("digits_vgg"))
    store = next(iter(pytestconfig.stash[CHAINS].values())).store
    everything = datasets.locate(spec.dataset, input_name=spec.inputs[0].name)
    samples = everything.test()
    fours = np.flatnonzero(samples.labels == 4)[:30]
    inputs = {name: array[fours] for name, array in samples.inputs.items()}
    data = BroughtData("fours", "fours", (), replace(samples, inputs=inputs, labels=samples.labels[fours]))
    whole, recorded = Chain(spec, everything, store), []
    chain = SimpleNamespace(spec=spec, dataset=data, reference=whole.reference)
    # Both are caught each time: a skip that is not expected would end this test as one.
    ended = (pytest.fail.Exception, pytest.skip.Exception)
    with whole.runner(Variant("onnx", "fp32")) as runner:
        for one, message in (
            (Shifted(runner), r"0 of 30 right .*: 30 lost, 2 allowed"),
            (runner, "30 labelled samples cannot tell"),
        ):
            test = data.test()
            answers = test, one(test.inputs), whole.reference("accuracy-30", test.inputs)
            with pytest.raises(ended, match=message):
                module.check(chain, one, 30, {30: answers}.__getitem__, accepted, recorded.append, lambda _: None)
    assert recorded[-1].correct >= 28


ERRORS = {
    "no samples": (0, 0, np.zeros(0, np.int64), "0 outputs, 0 reference outputs and 0 labels"),
    "fewer outputs": (9, 10, balanced(10), "9 outputs, 10 reference outputs and 10 labels"),
    "fewer reference outputs": (10, 9, balanced(10), "10 outputs, 9 reference outputs and 10 labels"),
    "more labels": (10, 10, balanced(11), "10 outputs, 10 reference outputs and 11 labels"),
    "a negative label": (10, 10, balanced(10) - 1, "labels from -1 to 8; allowed: 0 to 9"),
    "a label beyond the classes": (10, 10, balanced(10) + 1, "labels from 1 to 10; allowed: 0 to 9"),
}


@pytest.mark.parametrize("error", ERRORS)
def test_what_cannot_be_judged_is_an_error(error):
    """Lengths that differ and labels outside the classes are refused with what was found."""
    actual, reference, labels, message = ERRORS[error]
    with pytest.raises(ValueError, match=f"^{message}$"):
        measure_accuracy(constant(actual, 0), constant(reference, 0), labels, "fp32")
