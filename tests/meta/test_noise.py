"""The rule: bounds from few runs, limits of every figure, and paired figures that find what the usual ones miss."""

from dataclasses import replace

import numpy as np
import pytest

from conformance.bounds import reached, reached_count, runs_needed, widest
from conformance.by_sample import figures_by_sample
from conformance.compare import ANYTHING, Grid, Scale, Tolerance, compare
from conformance.noise import FACTORS, FLOORS, MOST_UNRELATED, RARE, SAFE, Limit, leeway, noise_of, pairs_of
from conformance.paired import Known, excess, left_out, net, shift, slope, unrelated, worst
from conformance.student import quantile, tail

SAMPLES, CLASSES, RUNS = 1000, 10, 8

PROBABILITIES = {"p": "probabilities"}


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


def exact(logits):
    """Shares of logits in float64."""
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


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
    kinds, count = {output: noise.kinds[output]}, len(actual)
    ceiling = replace(ANYTHING, sum=1e-5)
    found = compare({output: actual}, {output: reference}, noise.tolerance(output, count, ceiling), kinds)
    assert not found.problems
    judged = noise.judged(found, {output: actual}, {output: reference}, aligned=count == len(noise.reference[output]))
    return {f.name for f in judged.outputs[0].figures if not f.passed}


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


@pytest.mark.slow
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
    known = Known(runs, reference)
    assert excess(reference, reference, known) == 0
    assert 0.5 < excess(near, reference, known) < 3
    assert excess(far, reference, known) > 10


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

    runs = Known(np.stack([flipped(some()) for _ in range(RUNS)]), reference)
    assert net(flipped(some()), reference, runs) < 3
    assert net(flipped(np.flatnonzero(classes != 1)[:30], target=1), reference, runs) > 4


def test_classes_that_an_engine_of_integers_cannot_tell_apart_are_no_net_flips():
    """An argmax takes equal classes for the first of them: six such samples are no finding, and other flips are."""
    reference = np.tile(np.array([[0.4, 0.6]], np.float32), (440, 1))
    reference[:6] = 0.499, 0.501
    runs = Known(np.stack([reference[6:70]] * RUNS), reference[6:70])
    tied, beyond = np.round(reference * 256) / 256, reference.copy()
    assert (tied.argmax(axis=1) == 0).sum() == 6
    beyond[:6] = 129 / 256, 127 / 256
    assert net(tied, reference, runs) < 3
    assert net(beyond, reference, runs) > 4


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
    text = limit.describe(4 * limit.reached, "int8-symmetric")
    assert text.startswith("mean ")
    assert "4 times what INT8 does to this model" in text
    assert f"99 % of {RUNS} runs" in text


def test_a_failure_that_the_noise_would_bear_is_said_to_be_one_of_a_ceiling():
    """Less than the noise is no contradiction: the message says that something else is lower."""
    limit = Classifier().noise().limits["p"]["mean"]
    assert "ceiling" not in limit.beside(1.5 * limit.reached, "int8-symmetric")
    text = limit.beside(0.65 * limit.reached, "int8-symmetric")
    assert text.startswith("only 0.65 times what INT8 does to this model (")
    assert text.endswith(": a fixed ceiling is lower")


def part_of(model, few):
    """Noise of a model that is told on its first samples alone."""
    runs = [{"p": run[:few]} for run in model.runs()]
    return noise_of({"p": model.reference[:few]}, runs, PROBABILITIES, "int8-symmetric")


def test_few_samples_tell_limits_of_many():
    """Sound answers to a thousand samples are within what 64 of them tell, in ten models; thrice the noise is not."""
    for seed in range(10):
        model = Classifier(seed)
        noise = part_of(model, 64)
        assert failures(noise, model.reference, model.sound()) == set()
        assert {"mean", "kl"} <= failures(noise, model.reference, softmax(model.noisy(3)))
    biased = model.noisy()
    biased[:, 3] += model.size
    assert "shift" in failures(noise, model.reference, softmax(biased))


def test_limits_of_more_samples_are_wider_for_extremes_and_counts():
    """The largest of a thousand may be larger than that of 64; of fewer samples a mean may be further off."""
    noise, ceiling = part_of(Classifier(), 64), ANYTHING
    few, same, many = (noise.tolerance("p", count, ceiling) for count in (8, 64, 1000))
    assert few.max == same.max < many.max
    assert few.mean > same.mean
    assert few.kl > same.kl
    assert widest(np.ones(100), 64, 1000) == 1


def test_samples_that_are_not_like_the_others_have_limits_of_their_own():
    """What the first samples do not tell of fails by those alone, and passes beside runs on it; four times it fails."""
    model = Classifier(size=0.02)
    model.logits[:900, 0] += 12  # so sure that noise moves nothing
    model.reference = softmax(model.logits)
    noise, actual = part_of(model, 64), model.sound()
    assert {"mean", "kl"} <= failures(noise, model.reference, actual)
    last = slice(900, 1000)
    runs = [{"p": run[last]} for run in model.runs()]
    others = noise_of({"p": model.reference[last]}, runs, PROBABILITIES, "int8-symmetric")
    both = replace(noise, others=others)
    assert failures(both, model.reference, actual) == set()
    assert {"mean", "kl"} <= failures(both, model.reference, softmax(model.noisy(4)))


def test_nothing_is_allowed_above_the_ceiling():
    """Where a precision moves a model further than anyone bears, the ceiling decides."""
    noise = Classifier(size=3).noise()
    ceiling = Tolerance(max=0.1, mean=1e-2, kl=1e-2, margin=0.1, flips=0.1, sum=1e-5)
    found = noise.tolerance("p", SAMPLES, ceiling)
    assert (found.max, found.mean, found.kl, found.flips) == (0.1, 1e-2, 1e-2, 0.1)


def test_made_up_inputs_are_judged_one_by_one():
    """The limit of a single input is that of the worst of them, and its class may change."""
    model = Classifier(size=0.02)
    runs = [{"p": run[:64]} for run in model.runs()]
    single = noise_of({"p": model.reference[:64]}, runs, PROBABILITIES, "fp16", single=True)
    whole = part_of(model, 64)
    found = single.tolerance("p", 1, ANYTHING)
    assert found.flips == 1
    assert found.mean > 2 * whole.tolerance("p", 64, ANYTHING).mean
    assert failures(single, model.reference[5:6], softmax(model.noisy())[5:6]) == set()
    assert "max" in failures(single, model.reference[:64], np.roll(model.reference[:64], 1, axis=1))


def test_a_made_up_input_that_the_model_itself_cannot_tell_allows_nothing_on_others():
    """One picture of which runs flip the class widens no limit: another class elsewhere fails, by far."""
    model = Classifier(size=0.002)
    reference, runs = model.reference[:64], [{"p": run[:64].copy()} for run in model.runs()]
    for number, run in enumerate(runs):
        run["p"][7] = np.roll(run["p"][7], number % 2)
    single = noise_of({"p": reference}, runs, PROBABILITIES, "fp32", single=True)
    assert np.flatnonzero(single.unsettled).tolist() == [7]
    assert single.limits["p"]["max"].allowed < 0.05
    wrong = reference.copy()
    wrong[20] = np.roll(wrong[20], 1)
    assert "max" in failures(single, reference, wrong)


def test_integers_may_differ_as_often_as_runs_show_and_no_oftener():
    """A count that rounding moves in a tenth of the samples may be so in an engine; one that it never moves may not."""
    draw = np.random.default_rng(0)
    reference = draw.integers(0, 9, 200)
    runs = [reference + (draw.random(200) < 0.1) for _ in range(RUNS)]
    ceiling = replace(ANYTHING, flips=0.02)
    found = noise_of({"n": reference}, [{"n": run} for run in runs], {"n": "integers"}, "int8-symmetric")
    allowed = found.tolerance("n", 200, ceiling).flips
    assert 0.1 < allowed < 0.3
    assert found.tolerance("n", 200, replace(ceiling, integers=0.0)).flips == 0
    steady = noise_of({"n": reference}, [{"n": reference}] * RUNS, {"n": "integers"}, "int8-symmetric")
    assert steady.tolerance("n", 200, ceiling).flips <= 0.02
    shifted = compare(
        {"n": reference + 1}, {"n": reference}, {"n": found.tolerance("n", 200, ceiling)}, {"n": "integers"}
    )
    assert not shifted.passed


def test_an_input_tips_as_far_as_runs_reach_and_not_only_as_far_as_they_went():
    """Of two inputs that no run of 64 moves by a third, one may be by the next: its runs are spread over decades."""
    draw = np.random.default_rng(0)
    reference = np.array([[0.99, 0.01]] * 3)
    sizes = np.stack(
        [np.full(64, 0.2), np.exp(draw.normal(np.log(0.01), 2, 64)).clip(max=0.3), np.full(64, 0.4)], axis=1
    )
    runs = [{"p": reference + row[:, None] * np.array([-1, 1])} for row in sizes * draw.uniform(0.9, 1, sizes.shape)]
    found = noise_of({"p": reference}, runs, PROBABILITIES, "int8-symmetric", single=True)
    assert found.unsettled.tolist() == [False, False, True]
    assert found.tipping.tolist() == [False, True, True]
    settled = replace(found, others=found).where_settled(~found.tipping)
    seen = tuple(found.each["p"]["max"][:, 0])
    assert settled.limits == {"p": {"max": Limit("max", seen, reached(seen), 0.5)}}
    assert settled.others is None
    # Beside an output that moves by as much in every run it tips all the same.
    beside = [{**run, "q": reference + np.array([-0.15, 0.15])} for run in runs]
    both = noise_of(
        {"p": reference, "q": reference},
        beside,
        {"p": "probabilities", "q": "probabilities"},
        "int8-symmetric",
        single=True,
    )
    assert both.tipping.tolist() == [False, True, True]


def test_runs_that_cannot_be_compared_are_refused():
    """Unknown precision, a run without an output, and one that is not finite are named."""
    model = Classifier()
    allowed = (
        "fp32, fp32-device, tf32, fp16-weights, fp16-moved, fp16, bf16, int8-symmetric, int8-calibrated, "
        "int8-asymmetric"
    )
    with pytest.raises(ValueError, match=f"^precision 'fp7'; allowed: {allowed}$"):
        model.noise("fp7")
    for run, words in (({}, "missing outputs: p"), ({"p": model.reference * np.nan}, "p: 10000 of 10000 elements of")):
        said = f"^the twin's runs cannot be compared with the reference: {words}"
        with pytest.raises(ValueError, match=said):
            noise_of({"p": model.reference}, [{"p": model.reference}] * 3 + [run], PROBABILITIES, "fp16")


@pytest.mark.parametrize("kind", ["probabilities", "scores", "logits", "values"])
@pytest.mark.parametrize("shape", [(9, 4), (9, 2, 4)])
def test_figures_of_single_samples_are_those_of_comparisons_of_each(kind, shape):
    """What is told of every sample at once is what a comparison tells of it alone."""
    generator = np.random.default_rng(3)
    logits = generator.normal(size=shape)
    moved = logits + generator.normal(size=shape) * 0.3
    if kind == "probabilities":
        reference, actual = (np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True) for x in (logits, moved))
        actual = np.round(actual * 256) / 256
    elif kind == "scores":
        reference, actual = (1 / (1 + np.exp(-x)) for x in (logits, moved))
    else:
        reference, actual = logits, moved
        reference[4] = 0
    reference, actual = reference.astype(np.float32), actual.astype(np.float32)
    for scale, grid in ((None, None), (Scale(2.5, 0.7), Grid(1 / 256, 0.0, 255 / 256)), (None, Grid(0.1, 0.0, 1.0))):
        found = figures_by_sample(kind, actual, reference, scale=scale, grid=grid, threshold=0.4)
        for at in range(len(reference)):
            one = compare(
                {"o": actual[at : at + 1]},
                {"o": reference[at : at + 1]},
                ANYTHING,
                {"o": kind},
                scales={"o": scale} if scale else None,
                grids={"o": grid} if grid else None,
                thresholds={"o": 0.4},
            )
            expected = {f.name: f.needed for f in one.outputs[0].figures if f.name != "margin"}
            assert {name: values[at] for name, values in found.items()} == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    "needed, said",
    [
        (4e-3, "4 times what INT8 does to this model (1.0e-03, 99 % of 4 runs)"),
        (1.5e-3, "1.5 times what INT8 does to this model (1.0e-03, 99 % of 4 runs)"),
        (0.0124, "12 times what INT8 does to this model (1.0e-03, 99 % of 4 runs)"),
        (12.3456, "12,346 times what INT8 does to this model (1.0e-03, 99 % of 4 runs)"),
        (0.01, "10 times what INT8 does to this model (1.0e-03, 99 % of 4 runs)"),
        (1000.0, "1.0e+06 times what INT8 does to this model (1.0e-03, 99 % of 4 runs)"),
        (1e-3, "only 1 times what INT8 does to this model (1.0e-03, 99 % of 4 runs): a fixed ceiling is lower"),
        (2e-9, "only 2e-06 times what INT8 does to this model (1.0e-03, 99 % of 4 runs): a fixed ceiling is lower"),
    ],
)
def test_a_message_rounds_the_ratio_as_one_reads_it(needed, said):
    """Two digits below ten, whole numbers above, and powers of ten from a million on; what is borne says so."""
    limit = Limit("max", (1e-4, 2e-4, 4e-4, 5e-4), reached=1e-3, allowed=2e-3)
    assert limit.beside(needed, "int8-symmetric") == said
    assert limit.describe(needed, "int8-symmetric") == f"max {needed:.1e}, {said}"
    assert limit.typical == pytest.approx(3e-4)
    still = Limit("kl", (0.0, 0.0, 0.0), reached=0.0, allowed=1e-9)
    assert still.beside(needed, "fp16-weights") == "of which FP16 does nothing to this model (99 % of 3 runs)"
    assert still.beside(needed, "tf32") == "of which TF32 does nothing to this model (99 % of 3 runs)"


@pytest.mark.parametrize(
    "figure, precision, times",
    [
        ("max", "fp16", 2.0),
        ("kl", "fp16", 4.0),
        ("worst", "fp16", 2.5),
        ("spread", "bf16", 5.0),
        ("mean", "int8-asymmetric", 1.55),
        ("kl", "int8-asymmetric", 2.4025),
        ("slope", "int8-symmetric", 2.325),
        ("unrelated", "int8-calibrated", 3.60375),
    ],
)
def test_figures_that_few_runs_tell_and_squares_have_more_leeway(figure, precision, times):
    """The factor of the precision, squared where the figure is, and more for what rests on what few runs spread by."""
    assert leeway(figure, precision) == pytest.approx(times, rel=1e-12)


def numbers(count=40):
    """Values (count, 2) of a model and eight runs that are off by noise."""
    generator = np.random.default_rng(4)
    reference = generator.normal(size=(count, 2)).astype(np.float32)
    runs = [{"v": (reference + 0.01 * generator.normal(size=(count, 2))).astype(np.float32)} for _ in range(RUNS)]
    return {"v": reference}, runs


def test_limits_are_what_runs_reach_times_the_leeway():
    """Each figure's limit is the bound of its runs, allowed so many times, and never less than FP32's rounding."""
    limits = {**Classifier().noise("fp16").limits["p"], **noise_of(*numbers(), {"v": "values"}, "fp16").limits["v"]}
    assert list(Classifier().noise("fp16").limits["p"]) == [
        *("max", "mean", "kl", "flips", "sum", "shift", "slope", "worst", "excess", "net")
    ]
    assert list(noise_of(*numbers(), {"v": "values"}, "fp16").limits["v"]) == [
        *("max", "mean", "spread", "shift", "slope", "worst", "unrelated")
    ]
    for name, limit in limits.items():
        assert (limit.name, len(limit.seen)) == (name, RUNS)
        if name == "flips":
            continue
        bound = quantile(0.995, RUNS) if name == "slope" else reached(limit.seen)
        assert limit.reached == bound
        least = {"net": RARE, "excess": 2 * quantile(SAFE, RUNS)}.get(name, FLOORS.get(name, 0.0))
        assert limit.allowed == max(bound * leeway(name, "fp16"), least)
    # Runs that do nothing leave what rounding does, and those that follow nothing no more than half.
    reference, runs = numbers()
    still = noise_of(reference, [reference] * RUNS, {"v": "values"}, "fp16").limits["v"]
    assert {name: limit.allowed for name, limit in still.items() if name != "slope"} == {
        **{name: FLOORS[name] for name in ("max", "mean", "spread", "unrelated")},
        **dict.fromkeys(("shift", "worst"), 0.0),
    }
    lost = noise_of(reference, [{"v": run["v"] * 0 + 0.3} for run in runs], {"v": "values"}, "fp16").limits["v"]
    assert lost["unrelated"].allowed == MOST_UNRELATED
    # A reference that is the same for all inputs has nothing to follow.
    same = {"v": np.ones_like(reference["v"])}
    assert "unrelated" not in noise_of(same, runs, {"v": "values"}, "fp16").limits["v"]


def test_shares_of_flips_are_bounded_as_counts():
    """Of 40 integers runs move 2 to 5: the next run's count, at one and two times their rate, over all of them."""
    reference, moved = np.arange(40), [2, 3, 5, 2, 4, 3, 3, 2]
    runs = [{"n": reference + (reference < count)} for count in moved]
    noise = noise_of({"n": reference}, runs, {"n": "integers"}, "fp16")
    assert list(noise.limits["n"]) == ["flips"]
    limit = noise.limits["n"]["flips"]
    assert limit.seen == tuple(count / 40 for count in moved)
    assert limit.reached == reached_count(moved) / 40
    assert limit.allowed == reached_count(moved, 2.0) / 40
    # Of other samples what is known hangs on the five that were ever moved.
    for count in (10, 400):
        other = noise.of("n", count)["flips"]
        assert (other.name, other.seen) == ("flips", limit.seen)
        assert other.reached == reached_count(moved, more=count / 40, known=5) / count
        assert other.allowed == reached_count(moved, 2.0, more=count / 40, known=5) / count
    every = noise_of({"n": reference}, [{"n": reference + 1}] * RUNS, {"n": "integers"}, "fp16").limits["n"]["flips"]
    assert every.allowed == 1.0


def test_what_limits_rest_on_is_said():
    """Factor, precision, confidence, runs and inputs stand in every table of tolerances."""
    reference, runs = numbers()
    noise = noise_of(reference, runs, {"v": "values"}, "int8-symmetric")
    assert noise.why == "1.55 times what INT8 does to this model (99 % of 8 runs of its twin, 40 samples)"
    assert noise.tolerance("v", 40, ANYTHING).why == noise.why
    single = noise_of(reference, runs, {"v": "values"}, "fp16-weights", single=True)
    assert single.why == (
        "2 times what FP16 does to this model (99 % of 8 runs of its twin, 40 made-up inputs, each by itself)"
    )


def test_limits_of_other_counts_are_widened_by_what_samples_tell():
    """Extremes widen with the count, averages by three standard errors, and what hangs on the samples is left out."""
    reference, runs = numbers()
    noise = noise_of(reference, runs, {"v": "values"}, "fp16")
    own, each = noise.limits["v"], noise.each["v"]
    assert noise.of("v", 40) == own
    for count in (10, 160):
        found = noise.of("v", count)
        assert list(found) == ["max", "mean", "spread", "unrelated"]
        times = widest(each["max"].reshape(-1), 40, 160) if count > 40 else 1
        assert found["max"] == replace(
            own["max"], reached=own["max"].reached * times, allowed=own["max"].allowed * times
        )
        error = each["mean"].mean(axis=0).std(ddof=1) * abs(1 / 40 - 1 / count) ** 0.5
        assert found["mean"].reached == pytest.approx(own["mean"].reached + 3 * error)
        assert found["mean"].allowed == pytest.approx(2 * found["mean"].reached)
        assert (found["spread"], found["unrelated"]) == (own["spread"], own["unrelated"])
    assert times > 1
    # Two samples have a spread to tell, and one has none.
    two = noise_of({"v": reference["v"][:2]}, [{"v": run["v"][:2]} for run in runs], {"v": "values"}, "fp16")
    error = two.each["v"]["mean"].mean(axis=0).std(ddof=1) * (1 / 2 - 1 / 40) ** 0.5
    assert error > 0
    assert two.of("v", 40)["mean"].reached == pytest.approx(two.limits["v"]["mean"].reached + 3 * error)
    alone = noise_of({"v": reference["v"][:1]}, [{"v": run["v"][:1]} for run in runs], {"v": "values"}, "fp16")
    assert alone.of("v", 40)["mean"] == alone.limits["v"]["mean"]


def test_limits_of_other_samples_are_added_by_their_share_or_the_larger():
    """Of 400 samples 40 are others: a tenth of their averages is added, and their extremes count where larger."""
    reference, runs = numbers()
    worse = [{"v": 3 * run["v"] - 2 * reference["v"]} for run in runs]
    noise, others = (noise_of(reference, found, {"v": "values"}, "fp16") for found in (runs, worse))
    both, own = replace(noise, others=others).of("v", 400), noise.of("v", 400)
    more = others.limits["v"]
    for side in ("reached", "allowed"):
        assert getattr(both["mean"], side) == pytest.approx(
            getattr(own["mean"], side) + getattr(more["mean"], side) / 10
        )
        assert getattr(both["max"], side) == getattr(more["max"], side)
        assert getattr(replace(others, others=noise).of("v", 40)["max"], side) == getattr(more["max"], side)
    # No more than all are others.
    few = replace(noise, others=others).of("v", 10)["mean"]
    assert few.reached == pytest.approx(noise.of("v", 10)["mean"].reached + more["mean"].reached)
    # Others that are all alike tell of no variance: what the first samples tell of it stays.
    alike = [{"v": run["v"] - reference["v"] + 1} for run in runs]
    flat = noise_of({"v": np.ones_like(reference["v"])}, alike, {"v": "values"}, "fp16")
    found = replace(noise, others=flat).of("v", 400)
    assert list(found) == list(own)
    assert (found["spread"], found["unrelated"]) == (own["spread"], own["unrelated"])


def test_sums_are_told_of_outputs_that_are_there_with_their_numbers():
    """Logits count as probabilities; the first samples are kept by their number."""
    logits = np.array([[0.0, np.log(3)], [1.0, 1.0]], np.float32)
    found = pairs_of({"l": logits}, {"l": logits, "v": logits}, {"l": "logits", "v": "values"}, first=6, start=5)
    assert list(found) == ["l"]
    assert [kept.start for kept in found["l"].first] == [5]
    np.testing.assert_allclose(found["l"].kept[0], [[0.25, 0.75]])


def test_tolerances_of_made_up_inputs_leave_classes_and_spread_in_int8():
    """Any of them may change its class; in INT8 their spread is not judged, elsewhere as it is."""
    reference, runs = numbers()
    for precision, spread in (("int8-symmetric", 2.0), ("fp16", 0.5)):
        noise = noise_of(reference, runs, {"v": "values"}, precision, single=True)
        assert noise.tolerance("v", 3, replace(ANYTHING, spread=2.0)).spread == spread
        found = noise.tolerance("v", 3, ANYTHING)
        assert found.spread == ANYTHING.spread == 0.5
        assert (found.flips, found.sum, found.integers) == (1.0, ANYTHING.sum, ANYTHING.integers)
        assert list(noise.limits["v"]) == ["max", "mean"]
        assert noise.paired_kinds == {}
    ceiling = replace(ANYTHING, integers=0.25, sum=0.125)
    plain = noise_of(reference, runs, {"v": "values"}, "fp16")
    found = plain.tolerance("v", 40, ceiling)
    assert (found.spread, found.integers, found.sum) == (plain.limits["v"]["spread"].allowed, 0.25, 0.125)
    assert (found.max, found.mean) == (plain.limits["v"]["max"].allowed, plain.limits["v"]["mean"].allowed)
    assert (found.kl, found.flips, found.margin) == (1e9, 1e9, 1e9)
    assert plain.paired_kinds == {"v": "values"}


@pytest.mark.parametrize(
    "value, freedom, expected",
    [
        (0.0, 5, 0.5),
        (1.0, 1, 0.25),
        (1.0, 2, (1 - 1 / 3**0.5) / 2),
        (3**0.5, 3, (1 / 2 - 1 / np.pi) / 2),
        (2.0, 4, (1 - 0.5**0.5 * 1.25) / 2),
        (5**0.5, 5, (1 / 2 - 4 / (3 * np.pi)) / 2),
        (6**0.5, 6, (1 - 0.5**0.5 * (1 + 1 / 4 + 3 / 32)) / 2),
        (1e12, 4, 0.0),
    ],
)
def test_tails_are_those_of_the_closed_forms(value, freedom, expected):
    """At an angle of 45 degrees the series of each number of degrees of freedom is a sum of few terms."""
    assert tail(value, freedom) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert tail(value, freedom) >= 0


@pytest.mark.parametrize("confidence", [0.51, 0.6, 0.75, 0.9, 0.99, 0.9999])
def test_quantiles_are_those_of_the_closed_forms(confidence):
    """Of one and of two degrees of freedom the quantile is known, to more digits than tables have."""
    part = 2 * confidence - 1
    assert quantile(confidence, 1) == pytest.approx(np.tan(np.pi * part / 2), rel=3e-9)
    assert quantile(confidence, 2) == pytest.approx(part * (2 / (1 - part**2)) ** 0.5, rel=3e-9)


T = 6.964556734 * (4 / 3) ** 0.5
"""How many standard deviations the next of three values stays below, at 99 %."""


def test_bounds_are_those_worked_out_by_hand():
    """Mean and deviation of logarithms, rates of counts and what they spread by, and the largest of more sizes."""
    e = np.e
    assert reached([1.0, e, e**2]) == pytest.approx(np.exp(1 + T))
    assert reached([1.0, 0.0, e]) == pytest.approx(np.exp(1 / 3 + T / 3**0.5))
    assert reached([1.0, e, e**2], 0.9) == pytest.approx(np.exp(1 + 1.885618083 * (4 / 3) ** 0.5))
    assert reached([0.0] * 3) == 0.0
    with pytest.raises(ValueError, match=r"^2 runs; allowed: 3 or more, of fewer no spread is told$"):
        reached([1.0, 2.0])
    # A rate of 9.5 / 3 · 6 = 19; by chance 19 + 19² / 9.5, between the runs 6² · 4 / 3.
    assert reached_count([2, 3, 4], 2.0, more=3.0) == np.floor(19 + T * 57**0.5)
    assert reached_count([2, 3, 4], 2.0, more=3.0, known=4.5) == np.floor(19 + T * (19 + 19**2 / 5) ** 0.5)
    assert reached_count([0, 0, 9]) == np.floor(9.5 / 3 + T * 36**0.5)
    assert reached_count([0, 0, 9], more=2.0) == np.floor(19 / 3 + T * 144**0.5)
    assert reached_count([0] * 100) == 1.0
    sizes = np.exp(np.arange(101) / 10)
    for found in (sizes, np.concatenate([sizes, np.zeros(50)])):
        assert widest(found, 1, 2) == pytest.approx(np.exp(4.8 / 2.053748911 * 0.5449521356))
    assert widest(sizes, 2, 1) == widest(sizes, 2, 2) == widest(np.zeros(3), 1, 2) == 1.0
    # 3.36 times the deviation, of 2.33 where all runs are known; six would need 3.63.
    assert runs_needed() == 7


def test_a_kind_without_figures_of_single_samples_is_refused():
    """Lists and constants are told so, with what is allowed."""
    said = "^'ranked' has no figures of single samples; allowed: probabilities, scores, logits, values, integers$"
    with pytest.raises(ValueError, match=said):
        figures_by_sample("ranked", np.ones((2, 2)), np.ones((2, 2)), threshold=0.5)


def test_decisions_of_single_samples_are_those_beyond_what_is_undecided():
    """Of two scores a sample one is decided otherwise where the reference was further off than what is undecided."""
    reference = np.array([[0.25, 0.75], [0.46, 0.5], [0.5, 0.375]])
    actual = np.array([[0.75, 0.75], [0.54, 0.5], [0.25, 0.625]])
    found = figures_by_sample("scores", actual, reference, threshold=0.5)
    assert found["flips"].tolist() == [0.5, 0.0, 0.5]
    assert found["max"].tolist() == [0.5, pytest.approx(0.08), 0.25]
    np.testing.assert_allclose(found["mean"], [0.05, 0.008, 0.05])
    assert figures_by_sample("integers", actual, reference, threshold=0.5)["flips"].tolist() == [0.5, 0.5, 1.0]
    # At the threshold a score is a no, and at what is undecided from it the reference has not decided.
    reference, actual = np.array([[0.25], [0.75]]), np.array([[0.5], [0.5]])
    assert figures_by_sample("scores", actual, reference, threshold=0.5)["flips"].tolist() == [0.0, 1.0]
    reference, actual = np.array([[0.0], [0.0]]), np.array([[0.5], [0.0]])
    assert figures_by_sample("scores", actual, reference, threshold=0.05)["flips"].tolist() == [0.0, 0.0]
    assert figures_by_sample("scores", actual, reference, threshold=0.0625)["flips"].tolist() == [1.0, 0.0]


def test_shares_of_a_grid_are_off_what_their_reference_rounds_to():
    """Thirds in steps of 1/128 are 43 each: sums are off 129 steps, less one a class; below half a step is nothing."""
    grid, third = Grid(1 / 128, 0.0, 1.0), np.full((2, 3), 1 / 3)
    actual = np.array([[50, 43, 43], [86, 43, 0]]) / 128
    found = figures_by_sample("probabilities", actual, third, grid=grid, threshold=0.5)
    assert found["sum"] == pytest.approx([4 / 128, 0.0])
    assert found["mean"] == pytest.approx([0.1 * 7 / 128, 0.1 * 86 / 128])
    assert found["max"] == pytest.approx([50 / 128 - 1 / 3, 86 / 128 - 1 / 3])
    steps = np.array([[50, 43, 43], [86, 43, 0.5]])
    shares = steps / steps.sum(axis=1, keepdims=True)
    assert found["kl"] == pytest.approx((np.log(1 / 3 / shares) / 3).sum(axis=1))


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize(("kind", "single"), [("values", False), ("values", True), ("integers", False)])
def test_too_few_runs_are_refused(count, kind, single):
    """Fewer than three tell no spread, whatever an output holds; the error says how many there are."""
    reference = {"o": np.arange(9)}
    with pytest.raises(ValueError, match=f"^{count} runs; allowed: 3 or more, of fewer no spread is told$"):
        noise_of(reference, [reference] * count, {"o": kind}, "fp16", single=single)
    assert list(noise_of(reference, [reference] * 3, {"o": kind}, "fp16", single=single).limits) == ["o"]


def test_figures_are_told_beside_what_runs_reach_and_those_of_pairs_added():
    """Each figure with a limit says how many times the noise it is; at the runs' own count all of pairs follow."""
    model = Classifier()
    noise, actual = model.noise(), {"p": model.sound()}
    reference, limits = {"p": model.reference}, noise.limits["p"]
    found = compare(actual, reference, noise.tolerance("p", SAMPLES, ANYTHING), PROBABILITIES)
    judged = noise.judged(found, actual, reference, aligned=True).outputs[0].figures
    (pairs,) = pairs_of(actual, reference, PROBABILITIES, SAMPLES).values()
    assert judged[6:] == noise.paired("p", pairs)
    assert [figure.name for figure in judged] == [
        *("max", "mean", "kl", "margin", "flips", "sum", "shift", "slope", "worst", "excess", "net")
    ]
    for figure in judged:
        beside = limits[figure.name].beside(figure.needed, noise.precision) if figure.name in limits else ""
        assert figure.beside == beside
        assert (beside == "") == (figure.name == "margin")
        assert figure.allowed == {"sum": ANYTHING.sum, "margin": ANYTHING.margin}.get(
            figure.name, limits[figure.name].allowed if figure.name in limits else None
        )
    # Of samples that are not the runs' only those figures are told that hang on all of them.
    assert noise.paired("p", pairs, aligned=False) == tuple(f for f in judged if f.name in {"shift", "slope", "net"})
    few = pairs_of({"p": actual["p"][:-1]}, {"p": model.reference[:-1]}, PROBABILITIES, SAMPLES)["p"]
    assert noise.paired("p", few) == noise.paired("p", few, aligned=False) == ()


def test_figures_of_all_samples_know_what_other_samples_spread_by():
    """Beside runs on samples that move more the same shift, slope and net flips are fewer spreads; others stay."""
    model = Classifier()
    noise, actual, reference = model.noise(), model.sound(), model.reference
    worse = [{"p": softmax(model.noisy(2))[:100]} for _ in range(RUNS)]
    others = noise_of({"p": reference[:100]}, worse, PROBABILITIES, "int8-symmetric")
    pairs = pairs_of({"p": actual}, {"p": reference}, PROBABILITIES, SAMPLES)["p"]
    both = {figure.name: figure.needed for figure in replace(noise, others=others).paired("p", pairs)}
    alone = {figure.name: figure.needed for figure in noise.paired("p", pairs)}
    known, more = noise.known("p"), others.known("p")
    for name, figure in (("shift", shift), ("slope", slope), ("net", net)):
        assert both[name] == figure.of(pairs, known, more) < alone[name] == figure.of(pairs, known, None)
    assert both["worst"] == alone["worst"] == worst.of(pairs, known, None)
    assert both["excess"] == alone["excess"] == excess.of(pairs, known, None)


def test_logits_are_paired_as_their_shares():
    """The figures of pairs, their limits and what they are asked of are those of the softmax, whatever is added."""
    model = Classifier(size=0.1)
    reference = model.logits[:40]
    runs = [model.noisy()[:40] for _ in range(RUNS)]
    moved = reference + np.linspace(-9, 9, 40)[:, None]
    logits = noise_of({"o": moved}, [{"o": run} for run in runs], {"o": "logits"}, "fp16")
    shares = noise_of({"o": exact(reference)}, [{"o": exact(run)} for run in runs], {"o": "probabilities"}, "fp16")
    np.testing.assert_allclose(logits.known("o").runs, shares.known("o").runs, rtol=1e-12)
    np.testing.assert_allclose(logits.known("o").reference, shares.known("o").reference, rtol=1e-12)
    for name in ("shift", "slope", "worst", "excess", "net"):
        assert logits.limits["o"][name].seen == pytest.approx(shares.limits["o"][name].seen, rel=1e-9)
    pairs = pairs_of({"o": runs[0]}, {"o": moved}, {"o": "logits"}, 40)["o"]
    np.testing.assert_allclose(pairs.kept[0], exact(runs[0]), rtol=1e-12)
    np.testing.assert_allclose(pairs.kept[1], exact(reference), rtol=1e-12)


def test_of_several_rows_a_sample_no_flip_is_the_sample_s():
    """Probabilities (N, rows, classes) have no excess and no net flips, neither in limits nor in what is needed."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(40, 2, 4))
    reference, *runs = (
        np.exp(x) / np.exp(x).sum(axis=2, keepdims=True)
        for x in (logits, *(logits + 0.3 * generator.normal(size=logits.shape) for _ in range(RUNS)))
    )
    noise = noise_of({"p": reference}, [{"p": run} for run in runs], PROBABILITIES, "fp16")
    assert list(noise.limits["p"]) == ["max", "mean", "kl", "flips", "sum", "shift", "slope", "worst"]
    pairs = pairs_of({"p": runs[0]}, {"p": reference}, PROBABILITIES, 40)["p"]
    assert [figure.name for figure in noise.paired("p", pairs)] == ["shift", "slope", "worst"]


def test_options_of_comparisons_are_those_of_limits_by_output():
    """Scales, grids and thresholds hold for the output that they name, in every run's figures and in each sample's."""
    values, shares = np.tile([0.5, -0.25], (9, 1)), np.tile([0.3, 0.7], (9, 1))
    reference = {**dict.fromkeys("vw", values), **dict.fromkeys("pqst", shares)}
    kinds = {
        **dict.fromkeys("vw", "values"),
        **dict.fromkeys("pq", "probabilities"),
        **dict.fromkeys("st", "scores"),
    }
    runs = [{name: array + by * np.array([1, -1]) for name, array in reference.items()} for by in (0.25, 0.125, 0.0625)]
    grid = Grid(1 / 128, 0.0, 1.0)
    noise = noise_of(
        reference, runs, kinds, "fp16", scales={"v": Scale(4.0, 2.0)}, grids={"p": grid}, thresholds={"s": 0.4}
    )
    each = {name: {figure: seen[:, 0].tolist() for figure, seen in noise.each[name].items()} for name in reference}
    assert each["w"]["max"] == [0.5, 0.25, 0.125]
    assert each["v"]["max"] == [0.0625, 0.03125, 0.015625]
    assert each["w"]["mean"] == pytest.approx([0.1 * 0.25 / 0.375, 0.1 * 0.125 / 0.375, 0.1 * 0.0625 / 0.375])
    assert each["v"]["mean"] == pytest.approx([0.0125, 0.00625, 0.003125])
    # Of 38.4 and 89.6 steps 38 and 90 are said: each is off by 0.4 of a step more.
    assert each["q"]["mean"] == pytest.approx([0.05, 0.025, 0.0125])
    assert each["p"]["mean"] == pytest.approx([0.050625, 0.025625, 0.013125])
    # At 0.4 a score of 0.3 is decided otherwise in the two runs that add more than 0.1, at 0.5 in the first alone.
    assert each["s"]["flips"] == [0.5, 0.5, 0.0]
    assert each["t"]["flips"] == [1.0, 0.0, 0.0]
    for name in reference:
        for figure, values in each[name].items():
            assert noise.limits[name][figure].seen == pytest.approx(values)


def test_what_runs_of_made_up_inputs_move_settles_which_count():
    """An input is unsettled beyond a share of its largest answer, and not at it; where all are, nothing is limited."""
    reference = {"v": np.array([[1.0, 0.0]] * 3)}
    for precision, share, spared in (("fp16", 0.05, [False, True, False]), ("int8-symmetric", 1 / 3, [False] * 3)):
        moved = np.array([[0, share], [0, 2 * share], [0, share / 2]])
        runs = [{"v": reference["v"] + by * moved} for by in (1.0, 0.5, 0.25)]
        noise = noise_of(reference, runs, {"v": "values"}, precision, single=True, confidence=0.9)
        assert noise.unsettled.tolist() == [False, True, False]
        assert noise.spared.tolist() == spared
        most = share * (1 if any(spared) else 2)
        seen = (most, most / 2, most / 4)
        bound = reached(seen, 0.9)
        assert bound < reached(seen)
        assert noise.limits["v"]["max"] == Limit("max", seen, bound, FACTORS[precision] * bound)
        assert noise.limits["v"]["mean"].name == "mean"
    wild = [{"v": reference["v"] + by} for by in (1.0, 2.0, 3.0)]
    assert noise_of(reference, wild, {"v": "values"}, "fp16", single=True).limits == {"v": {}}
    shares = {"p": np.array([[0.5, 0.5]] * 3)}
    runs = [{"p": shares["p"] + by * np.array([1, -1])} for by in (0.01, 0.02, 0.04)]
    limit = noise_of(shares, runs, PROBABILITIES, "fp16", single=True).limits["p"]["kl"]
    assert (limit.name, limit.allowed) == ("kl", 4 * reached(limit.seen))
