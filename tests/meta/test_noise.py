"""The rule: bounds from few runs, limits of every figure, and paired figures that find what the usual ones miss."""

import numpy as np
import pytest

from conformance.compare import compare
from conformance.noise import FACTORS, noise_of, reached, reached_count, runs_needed
from conformance.paired import excess, left_out, net, shift, unrelated, worst
from conformance.student import quantile, tail

SAMPLES, CLASSES, RUNS = 1000, 10, 8

PROBABILITIES = {"p": "probabilities"}


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


class Classifier:
    """Logits of a classifier that is sure of most samples, and sound answers that are off by noise of one size."""

    def __init__(self, seed=0, size=0.2):
        self.generator, self.size = np.random.default_rng(seed), size
        self.logits = self.generator.normal(size=(SAMPLES, CLASSES)) * 2
        self.reference = softmax(self.logits)

    def noisy(self, times=1.0):
        """Logits that are off by noise, ``times`` its size."""
        return self.logits + times * self.size * self.generator.normal(size=self.logits.shape)

    def sound(self):
        """Answers of an engine that is as far off as a run."""
        return softmax(self.noisy())

    def runs(self):
        """Answers of all runs, (RUNS, SAMPLES, CLASSES)."""
        return np.stack([self.sound() for _ in range(RUNS)])

    def noise(self, precision="int8-symmetric"):
        """Limits that runs give."""
        return noise_of({"p": self.reference}, [{"p": r} for r in self.runs()], PROBABILITIES, precision)


def failures(noise, reference, actual, output="p"):
    """Names of the figures that are beyond their limits."""
    kinds = {output: noise.kinds[output]}
    found = compare({output: actual}, {output: reference}, noise.tolerance(output), kinds)
    assert not found.problems
    return {f.name for f in (*found.outputs[0].figures, *noise.paired(output, actual)) if not f.passed}


@pytest.mark.parametrize(
    ("confidence", "freedom", "expected"),
    [(0.975, 1, 12.7062), (0.99, 7, 2.9980), (0.95, 10, 1.8125), (0.99, 8, 2.8965)],
)
def test_quantiles_are_those_of_the_tables(confidence, freedom, expected):
    """Student's quantiles agree with printed tables, for odd and even degrees of freedom."""
    assert quantile(confidence, freedom) == pytest.approx(expected, abs=1e-4)
    assert tail(expected, freedom) == pytest.approx(1 - confidence, rel=1e-3)


def test_the_next_value_is_below_the_bound_as_often_as_stated():
    """Of figures that are drawn alike about one in a hundred is beyond the bound of eight others."""
    draws = np.exp(np.random.default_rng(0).normal(size=(20_000, RUNS + 1)))
    beyond = np.mean([row[-1] > reached(row[:-1]) for row in draws])
    assert 0.007 < beyond < 0.013


def test_bounds_need_a_few_runs_and_bear_zeros():
    """Less than three runs are refused; all zeros bound nothing; runs for a confidence are more for a higher one."""
    with pytest.raises(ValueError, match="2 runs; allowed: 3 or more"):
        reached([1.0, 2.0])
    assert reached([0.0, 0.0, 0.0]) == 0
    assert np.isfinite(reached([0.0, 1.0, 2.0]))
    assert 3 < runs_needed(0.99) <= RUNS < runs_needed(0.9999)


def test_counts_are_bounded_by_their_own_spread():
    """Poisson counts are beyond their bound about once in a hundred times; of none seen one is allowed."""
    draws = np.random.default_rng(0).poisson(7, size=(5000, RUNS + 1))
    beyond = np.mean([row[-1] > reached_count(row[:-1]) for row in draws])
    assert beyond < 0.015
    assert reached_count([0] * RUNS) == 1
    assert reached_count([7] * RUNS) < reached_count([7] * RUNS, factor=2) < 35


def test_sound_answers_pass_with_every_seed():
    """Noise of the runs' own size is beyond no limit, in twenty models."""
    for seed in range(20):
        model = Classifier(seed)
        assert failures(model.noise(), model.reference, model.sound()) == set()


@pytest.mark.parametrize("precision", sorted(FACTORS))
def test_thrice_the_noise_fails_in_every_precision(precision):
    """Answers with three times the noise are beyond the mean difference's limit."""
    model = Classifier()
    assert {"mean", "kl"} <= failures(model.noise(precision), model.reference, softmax(model.noisy(3)))


def test_a_class_bias_is_found_by_its_shift_where_it_flips_few():
    """Bias of half the noise on one class moves that class's share and nothing else beyond a limit."""
    model = Classifier()
    noise, logits = model.noise(), model.noisy()
    logits[:, 3] += 0.5 * model.size
    assert failures(noise, model.reference, softmax(logits)) == {"shift"}


def test_a_temperature_is_found_by_its_slope_where_it_flips_none():
    """Logits that are 3 % larger throughout keep every class, and are found by the slope alone."""
    model = Classifier()
    actual = softmax(model.noisy() * 1.03)
    assert failures(model.noise(), model.reference, actual) == {"slope"}


def test_one_wrong_sample_of_a_thousand_is_found():
    """Sample whose classes were exchanged stands out in its own noise, though its figures of the whole are small."""
    model = Classifier(size=0.02)
    noise, actual = model.noise(), model.sound()
    sure = int(np.sort(model.reference, axis=1)[:, -1].argmax())
    actual[sure] = np.roll(actual[sure], 1)
    assert {"worst", "excess"} <= failures(noise, model.reference, actual)


def test_a_flip_is_judged_by_the_lead_in_its_own_spread():
    """Flip of a lead within the runs' spread counts little, one of twenty times that spread counts that much."""
    reference = np.array([[0.51, 0.49], [0.7, 0.3], [0.9, 0.1]], np.float32)
    generator = np.random.default_rng(0)
    moved = generator.normal(size=(RUNS, 3, 1)) * 0.01
    runs = reference + np.concatenate([moved, -moved], axis=2)
    near, far = reference.copy(), reference.copy()
    near[0], far[1] = [0.49, 0.51], [0.4, 0.6]
    assert excess(reference, reference, runs) == 0
    assert 0.5 < excess(near, reference, runs) < 3
    assert excess(far, reference, runs) > 10


def test_net_flips_to_one_class_are_told_from_flips_both_ways():
    """Thirty flips that cancel count like the runs' own; thirty into one class do not."""
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 3, 1000)
    reference = np.eye(3, dtype=np.float32)[classes]

    def flipped(samples, target=None):
        other = (classes[samples] + generator.integers(1, 3, len(samples))) % 3 if target is None else target
        answers = reference.copy()
        answers[samples] = np.eye(3, dtype=np.float32)[other]
        return answers

    def some():
        return generator.choice(1000, 30, replace=False)

    runs = np.stack([flipped(some()) for _ in range(RUNS)])
    assert net(flipped(some()), reference, runs) < 3
    assert net(flipped(np.flatnonzero(classes != 1)[:30], target=1), reference, runs) > 4


def test_an_answer_that_does_not_depend_on_its_input_fails_whatever_the_noise():
    """Constant fails even where the runs differ as much as samples do, and so does what follows them the wrong way."""
    generator = np.random.default_rng(0)
    reference = (3e5 + 25e3 * generator.normal(size=(400, 1))).astype(np.float32)
    runs = [{"price": reference + 5e4 * generator.normal(size=reference.shape).astype(np.float32)} for _ in range(RUNS)]
    noise = noise_of({"price": reference}, runs, {"price": "values"}, "int8-symmetric")
    constant = np.full_like(reference, 3e5)
    assert "unrelated" in failures(noise, reference, constant, "price")
    assert unrelated(reference, reference) == pytest.approx(0, abs=1e-9)
    assert unrelated(2 * reference + 1, reference) == pytest.approx(0, abs=1e-6)
    assert unrelated(-reference, reference) == 1
    assert unrelated(constant, constant) is None


def test_runs_left_out_are_asked_as_engines_are():
    """Each run's figure is taken among the others only: an odd one stands out by its own."""
    model = Classifier()
    runs = model.runs()
    runs[2] = softmax(model.noisy(5))
    for figure in (worst, shift):
        values = left_out(figure, model.reference, runs)
        assert len(values) == RUNS
        assert int(np.argmax(values)) == 2


def test_a_message_names_the_ratio_to_the_noise():
    """Clause holds what was needed, how many times the noise that is, and of how many runs it was told."""
    limit = Classifier().noise().limits["p"]["mean"]
    text = limit.describe(4 * limit.reached)
    assert text.startswith("mean ")
    assert "4 times what the precision does to this model" in text
    assert f"99 % of {RUNS} runs" in text


def test_runs_that_cannot_be_compared_are_refused():
    """Unknown precision, a run without an output, and one that is not finite are named."""
    model = Classifier()
    with pytest.raises(ValueError, match="allowed: fp32"):
        model.noise("fp7")
    for run, words in (({}, "missing outputs: p"), ({"p": model.reference * np.nan}, "NaN")):
        with pytest.raises(ValueError, match=words):
            noise_of({"p": model.reference}, [run] * RUNS, PROBABILITIES, "fp16")
