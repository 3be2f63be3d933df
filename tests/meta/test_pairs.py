"""Figures in a model's own noise, summed up over parts that are merged in any order, are those of all samples."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.compare import ANYTHING, Comparison, Figure, Grid, OutputComparison, Tolerance, compare, judge
from conformance.noise import Noise, noise_of, pairs_of
from conformance.paired import (
    OF_CLASSES,
    OF_NUMBERS,
    Known,
    comparable,
    figures_of,
    shift,
    slope,
    spreads,
    unrelated,
    worst,
)
from conformance.pairs import COLUMNS, PARTS, Pairs, classes_of, columns, log_shares, pulls, shares
from conformance.summing import measure
from trial.evidence import Asked, Evidence, asked_of
from trial.furthest import FURTHEST, Furthest, furthest, slope_alone
from trial.outputs import Outputs
from trial.rules import Rule, compare_by

KINDS = {"p": "probabilities", "l": "logits", "v": "values", "w": "values", "m": "logits"}
FEW = 12


def answers(rng, count, size, wide=3):
    """Outputs of all kinds that a twin tells of, around a middle that hangs on the sample."""
    logits = rng.normal(0, 2, (count, 5)) + rng.normal(0, size, (count, 5))
    values = 3e5 + 25e3 * rng.normal(size=(count, 2, wide)) * (1 + size)
    return {
        "p": (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32),
        "l": logits.astype(np.float32),
        "v": values.astype(np.float32),
        # More than COLUMNS numbers a sample: their means are looked at.
        "w": rng.normal(0, 1, (count, COLUMNS // 2 + 1, 2)).astype(np.float32),
        "m": rng.normal(0, 2, (count, 3, 4)).astype(np.float32),
    }


def nudged(rng, outputs, size):
    """Outputs that are off by noise."""
    return {
        name: array * (1 + size * rng.normal(size=array.shape)).astype(np.float32) for name, array in outputs.items()
    }


def noise(rng, reference):
    """Limits that eight runs give on the first samples."""
    few = {name: array[:FEW] for name, array in reference.items()}
    return noise_of(few, [nudged(rng, few, 0.01) for _ in range(8)], KINDS, "fp16")


@pytest.fixture(scope="module")
def known():
    rng = np.random.default_rng(0)
    reference = answers(rng, 40, 0.1)
    return reference, noise(rng, reference), noise(rng, {name: array[20:] for name, array in reference.items()})


def part(outputs, start, stop):
    """Outputs of some samples."""
    return {name: array[start:stop] for name, array in outputs.items()}


@settings(max_examples=40)
@given(st.data())
def test_limits_of_the_twin_judge_merged_parts_as_the_whole(known, data):
    """However samples are cut and merged, the verdict in the model's own noise is that of all at once, bit for bit."""
    reference, alone, others = known
    count = data.draw(st.integers(1, 40))
    told: Noise = data.draw(st.sampled_from([alone, Noise(**{**vars(alone), "others": others})]))
    aligned = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    reference = part(reference, 0, count)
    actual = nudged(rng, reference, data.draw(st.sampled_from([0.0, 0.001, 0.05])))
    if data.draw(st.booleans()):
        actual["v"][rng.integers(count)] = -actual["v"][rng.integers(count)]
        # A row that is no share of one makes none of all the others.
        reference["p"] = reference["p"] * np.float32([1.2] + [1] * (count - 1))[:, None]
    cuts = sorted({0, count, *data.draw(st.lists(st.integers(0, count), max_size=8))})
    parts = []
    for start, stop in pairwise(cuts):
        ours, theirs = part(actual, start, stop), part(reference, start, stop)
        sums = measure(ours, theirs, KINDS, start=start)
        pairs = pairs_of(ours, theirs, told.paired_kinds, told.samples, start)
        parts.append((sums, pairs, Furthest.of(ours, theirs, KINDS, start=start)))
    while len(parts) > 1:
        one, two = (parts.pop(data.draw(st.integers(0, len(parts) - 1))) for _ in range(2))
        merged = {name: pairs.merged(two[1][name]) for name, pairs in one[1].items()}
        parts.append((one[0].merged(two[0]), merged, one[2].merged(two[2])))
    sums, pairs, far = parts[0]
    tolerances = {name: told.tolerance(name, count, ANYTHING) for name in KINDS}
    whole = told.judged(judge(measure(actual, reference, KINDS), tolerances), actual, reference, aligned=aligned)
    assert told.judged_by(judge(sums, tolerances), pairs, aligned=aligned) == whole
    assert {n: found.largest for n, found in pairs.items()} == {
        n: found.largest for n, found in pairs_of(actual, reference, told.paired_kinds, told.samples).items()
    }
    if count >= FEW:
        assert {f.name for o in whole.outputs for f in o.figures} >= {"shift", "slope", "net", "unrelated"}
    same = Outputs({"x": np.zeros(count)}, actual, reference)
    for of_slope in (False, True):
        at = far.samples(of_slope=of_slope)
        assert at.tolist() == furthest(same, KINDS, of_slope=of_slope).tolist()
        assert all(np.array_equal(far.answers(at)[name], array[at]) for name, array in reference.items())


def test_the_furthest_samples_are_kept_by_number():
    """Of many samples those that differ most are kept, of equals the first ones, in whatever order parts come."""
    count = 5 * FURTHEST
    expected = np.zeros((count, 2), np.float32)
    actual = expected.copy()
    actual[3 * FURTHEST :] = 1
    parts = [
        Furthest.of({"v": actual[i : i + 7]}, {"v": expected[i : i + 7]}, {"v": "values"}, start=i)
        for i in range(0, count, 7)
    ]
    for order in (parts, parts[::-1]):
        merged = reduce(lambda one, two: one.merged(two), order)
        assert merged.samples().tolist() == list(range(3 * FURTHEST, 4 * FURTHEST))
        assert set(merged.reference) == set(merged.samples().tolist())


def test_samples_that_make_the_slope_are_found_where_no_difference_shows_them():
    """Shares smaller than any difference of others count by their logarithms: the slope asks for those samples."""
    rng = np.random.default_rng(0)
    sure = np.tile(np.float32([1, 0, 0]), (3 * FURTHEST, 1))
    few = np.arange(FURTHEST, FURTHEST + 3)
    sure[few, 1] = 1e-5
    actual = sure.copy()
    actual[few, 1] *= 1.01
    actual[:, 0] -= rng.uniform(1e-4, 2e-4, len(actual)).astype(np.float32)
    actual[few, 0] = 1
    told = Outputs({"x": np.zeros(len(sure))}, {"p": actual}, {"p": sure})
    assert not set(few) & set(furthest(told, {"p": "probabilities"}))
    assert set(few) <= set(furthest(told, {"p": "probabilities"}, of_slope=True))


def test_sums_are_the_formulas_that_they_stand_for():
    """Change of means, slope and correlation by sums are those of the numbers themselves."""
    rng = np.random.default_rng(1)
    reference = answers(rng, 30, 0.1)
    actual = nudged(rng, reference, 0.02)
    for name in ("v", "w", "p"):
        ours, theirs = columns(actual[name]), columns(reference[name])
        pairs = Pairs.of(actual[name], reference[name])
        np.testing.assert_allclose(pairs.mean_change, (ours - theirs).mean(axis=0), rtol=1e-9, atol=1e-12)
        mine, base = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
        correlation = (mine * base).sum() / np.sqrt((mine**2).sum() * (base**2).sum())
        assert pairs.unrelated == pytest.approx(1 - correlation**2, rel=1e-6)
        if name == "p":
            mine, base = log_shares(ours), log_shares(theirs)
        found, size = pairs.slope
        assert found == pytest.approx(((mine - base) * base).sum() / (base**2).sum(), rel=1e-8)
        assert size == pytest.approx((base**2).sum())


def test_what_does_not_hang_on_the_sample_has_no_slope():
    """Answers that are the same for all samples have neither slope nor correlation, whatever rounding leaves."""
    constant = np.full((64, 2 * COLUMNS + 2), 0.1, np.float32)
    assert Pairs.of(constant * np.float32(1.1), constant).slope == (0.0, 0.0)
    assert unrelated(constant, constant) is None
    # A spread of single steps of FP32 is one.
    steps = np.float32(3e5) + np.arange(64, dtype=np.float32)[:, None] / 32
    found, _ = Pairs.of(2 * steps, steps).slope
    assert found == pytest.approx(1)


def test_engines_whose_shares_do_not_sum_to_one_are_judged_as_shares():
    """Whether answers are shares is the reference's to say: an engine that rounds them is compared by logarithms."""
    rng = np.random.default_rng(2)
    reference = answers(rng, 50, 0.1)["p"]
    runs = Known(np.stack([nudged(rng, {"p": reference}, 0.01)["p"] for _ in range(8)]), reference)
    rounded = reference.copy()
    rounded[0] *= np.float32(0.9)
    mine, base = log_shares(columns(rounded)), log_shares(columns(reference))
    expected = ((mine - base) * base).sum() / (base**2).sum()
    assert Pairs.of(rounded, reference).slope[0] == pytest.approx(expected, rel=1e-8)
    assert slope(rounded, reference, runs) < 4
    assert shift(rounded, reference, runs) < 4
    assert all(figure(reference, reference, runs) == 0 for figure in OF_CLASSES.values())


def test_logarithms_of_shares_lie_around_the_mean_of_their_own_row():
    """Rows are centred one by one: what one sample answers moves no other's."""
    found = log_shares(np.array([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]]))
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-15)
    np.testing.assert_allclose(found[:, 0] - found[:, 1], np.log([2, 8]))
    assert found.dtype == np.float64


def test_what_a_sample_adds_to_the_slope_is_its_product():
    """Logarithms around their mean, changed by one factor of two each way, times the reference's, in any sign."""
    reference, actual = np.array([[0.5, 0.25, 0.25]] * 2), np.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
    np.testing.assert_allclose(pulls(actual, reference), [np.log(2) ** 2, 0], atol=1e-15)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 0.7])
def test_what_rounding_squares_leaves_of_a_constant_is_no_spread(value):
    """Numbers of 53 bits have squares that are rounded: of equal ones no slope is left, and of zeros none either."""
    constant = np.full((48, 3), value)
    assert Pairs.of(constant + np.arange(48)[:, None], constant).slope == (0.0, 0.0)
    assert Pairs.of(constant + np.arange(48)[:, None], constant).unrelated is None


def test_many_numbers_of_a_sample_are_means_over_all_but_the_last_axis():
    """Up to COLUMNS numbers count one by one; of more, those at the same place of the last axis are one."""
    few = np.arange(2 * COLUMNS, dtype=np.float32).reshape(2, COLUMNS // 2, 2)
    np.testing.assert_array_equal(columns(few), few.reshape(2, -1))
    many = np.stack([np.ones((COLUMNS, 2)), np.tile([1.0, 5.0], (COLUMNS, 1))]).astype(np.float32)
    many[1, 0, 0] = 1 + COLUMNS
    assert columns(many).tolist() == [[1.0, 1.0], [2.0, 5.0]]
    assert columns(many).dtype == columns(few).dtype == np.float64


@pytest.mark.parametrize(
    "rows, whether",
    [
        ([[0.5, 0.54]], True),
        ([[0.5, 0.56]], False),
        ([[0.5, 0.44]], False),
        ([[0.5, 0.5], [0.5, 0.7]], False),
        ([[1.0, 0.0]], True),
        ([[1.01, -0.01]], False),
        ([[1.0]], False),
    ],
)
def test_shares_are_rows_of_several_numbers_that_sum_to_one(rows, whether):
    """Within five hundredths, none below zero; a single number is no share."""
    assert shares(np.array(rows)) is whether


def test_a_sample_of_equal_classes_counts_for_each_of_them():
    """Its parts are split evenly among the classes that are equal, so that none gains by standing first."""
    found = classes_of(np.array([[0.5, 0.5, 0.0], [0.2, 0.2, 0.2], [0.1, 0.0, 0.9]], np.float32))
    assert found.tolist() == [PARTS // 2 + PARTS // 3, PARTS // 2 + PARTS // 3, PARTS // 3 + PARTS]
    assert found.dtype == np.int64
    # Parts are whole, so that they add up to the same however samples are cut.
    assert classes_of(np.ones((4, 17))).tolist() == [4 * (PARTS // 17)] * 17


def test_pairs_are_the_sums_of_what_they_are_told():
    """All that is kept of three samples of two classes, worked by hand, also of those from a number on."""
    reference = np.array([[0.5, 0.5], [0.75, 0.25], [0.125, 0.875]], np.float32)
    actual = np.array([[0.25, 0.75], [0.5, 0.5], [0.125, 0.875]], np.float32)
    pairs = Pairs.of(actual, reference, first=12, start=10)
    assert (pairs.samples, pairs.shape, pairs.width, pairs.largest, pairs.shares) == (3, (2,), 2, 0.875, True)
    assert pairs.classes.tolist() == [PARTS // 2, PARTS // 2 + 2 * PARTS]
    assert pairs.expected_classes.tolist() == [PARTS // 2 + PARTS, PARTS // 2 + PARTS]
    assert [kept.start for kept in pairs.first] == [10]
    assert [array.tolist() for array in pairs.kept] == [actual[:2].tolist(), reference[:2].tolist()]
    assert pairs.mean_change.tolist() == [-0.5 / 3, 0.5 / 3]
    assert [len(array) for array in Pairs.of(actual, reference).kept] == [3, 3]
    for first, start in ((10, 10), (9, 10), (0, 0)):
        assert Pairs.of(actual, reference, first=first, start=start).first == ()
    assert Pairs.of(actual, reference, first=1).kept[0].tolist() == actual[:1].tolist()
    assert [len(array) for array in Pairs.of(actual, reference, first=99, start=10).kept] == [3, 3]
    # Of two halves, in whatever order, the same.
    halves = [Pairs.of(actual[s], reference[s], first=12, start=10 + s.start) for s in (slice(0, 1), slice(1, 3))]
    for one, other in (halves, halves[::-1]):
        both = one.merged(other)
        assert (both.samples, both.largest, both.shares, both.logs) == (3, 0.875, True, pairs.logs)
        assert both.classes.tolist() == pairs.classes.tolist()
        assert both.expected_classes.tolist() == pairs.expected_classes.tolist()
        assert (both.slope, both.unrelated) == (pairs.slope, pairs.unrelated)
        assert [array.tolist() for array in both.kept] == [actual[:2].tolist(), reference[:2].tolist()]
    # What is no share has no logarithms, and several decisions in a sample no class.
    none = Pairs.of(actual[:, None] * 2, reference[:, None] * 2)
    assert (none.shares, none.logs, none.shape, none.width) == (False, (0, 0), (1, 2), 2)
    for classes in (none.classes, none.expected_classes):
        assert (classes.tolist(), classes.dtype) == ([], np.int64)
    whole, twice = halves[1], Pairs.of(actual * 2, reference * 2)
    for both in (whole.merged(twice), twice.merged(whole)):
        assert (both.shares, both.logs) == (False, (0, 0))


def test_slope_and_unrelated_share_are_those_of_straight_lines():
    """Twice the values is a slope of one, and what is turned round or constant is wholly unrelated."""
    reference = np.array([[1.0], [2.0], [4.0], [5.0]])
    for actual, slope_, share in (
        (2 * reference + 7, 1.0, 0.0),
        (reference / 2, -0.5, 0.0),
        (6 - reference, -2.0, 1.0),
        (np.full((4, 1), 3.0), -1.0, 1.0),
        # Half of its variance follows: 10 of its own, 10 of the reference, and a product of sums of 50 ** 0.5.
        (np.array([[2.0], [1.0], [3.0], [6.0]]), 0.0, 1 - 10.0**2 / (14 * 10)),
    ):
        pairs = Pairs.of(actual, reference)
        assert pairs.slope == (pytest.approx(slope_), 10.0)
        assert pairs.unrelated == pytest.approx(share)
    assert Pairs.of(reference[:1], reference[:1]).unrelated is None
    assert Pairs.of(reference[:2], reference[:2]).unrelated == 0.0


def test_figures_are_those_of_the_kind_and_of_one_decision_a_sample():
    """Classes have all where a sample is of one class, and is unless said; other numbers have those of numbers."""
    for kind in ("probabilities", "logits"):
        assert figures_of(kind) is figures_of(kind, 2) is OF_CLASSES
        assert figures_of(kind, 3) is OF_NUMBERS
    assert figures_of("scores") is figures_of("values", 3) is OF_NUMBERS
    assert [figures_of(kind) for kind in ("integers", "ranked", "constant")] == [{}] * 3


def test_logits_are_compared_as_shares_of_each_row():
    """Logits of several rows a sample are turned into shares over their last axis, and keep their shape."""
    shares = np.array([[[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]]] * 4)
    found = comparable(np.log(shares), "logits")
    assert found.shape == (4, 2, 3)
    np.testing.assert_allclose(found, shares, rtol=1e-6)
    assert comparable(shares, "probabilities") is shares


def test_a_spread_is_drawn_to_that_of_all_places():
    """The mean of all places counts as four runs do: of two runs each place is a third its own."""
    found = spreads(np.array([[1.0, -3.0], [-1.0, 3.0]]))
    np.testing.assert_allclose(found**2, [(2 * 1 + 4 * 5) / 6, (2 * 9 + 4 * 5) / 6])


def runs_of(reference, *errors):
    """Runs that are off by these."""
    base = np.array(reference, float)
    return Known(np.stack([base + np.array(error) for error in errors]), base)


def test_a_shift_is_in_spreads_of_means():
    """A mean's own spread, what few samples leave of a sample's, and what other samples add, worked by hand."""
    reference = np.array([[1.0], [3.0]])
    runs = runs_of(reference, [[0.5], [0.5]], [[-0.5], [0.5]])
    # Means of 1/2 and 0, so 1/8; a quarter by sample, of which two samples leave an eighth.
    assert shift(reference + 1, reference, runs) == pytest.approx(2.0)
    others = runs_of([[7.0], [8.0]], [[1.0], [2.0]])
    assert shift(reference - 1, reference, runs, others) == pytest.approx((1 / 4 + 3**2 / 4) ** -0.5)


def test_a_slope_is_in_spreads_of_slopes():
    """Runs of slopes of a half and none have a variance of an eighth; other samples add theirs by their own size."""
    reference = np.array([[1.0, 10.0], [3.0, 10.0]])
    runs = runs_of(reference, [[0.5, 0], [1.5, 0]], [[0, 0], [0, 0]])
    assert slope(2 * reference, reference, runs) == pytest.approx(8**0.5)
    # A variance of a quarter of the first samples', and a slope of two.
    others = runs_of([[0.0, 10.0], [1.0, 10.0]], [[0, 0], [2, 0]])
    assert slope(2 * reference, reference, runs, others) == pytest.approx((1 / 8 + 1 / 4) ** -0.5)


def test_the_worst_sample_is_that_in_its_own_spread():
    """Root mean squares of 1 and √2, in spreads of √½ and √¾: each sample in its own."""
    reference = np.array([[0.0, 0.0], [4.0, 0.0]])
    runs = runs_of(reference, [[0.5, 0.5], [1, 1]], [[-0.5, -0.5], [-1, -1]])
    assert worst(reference + np.array([[1, 1], [0, 2]]), reference, runs) == pytest.approx((8 / 3) ** 0.5)


def test_runs_that_do_not_move_allow_a_trillionth_of_the_largest():
    """What no run moves is no zero to divide by: what is off there is off by shares of the largest magnitude."""
    reference = np.array([[1.0], [4.0]])
    still = runs_of(reference, [[0], [0]], [[0], [0]])
    assert worst(reference + np.array([[0], [2.0**-20]]), reference, still) == pytest.approx(2.0**-20 / 4e-12)
    zero = runs_of(reference * 0, [[0], [0]])
    assert shift(reference * 0, reference * 0, zero) == worst(reference * 0, reference * 0, zero) == 0


SMALL = np.zeros((4, 2), np.float32)
OFF = SMALL + np.float32([[1, 0], [0, -3], [0, 0], [2, 2]])


def test_samples_are_ranked_by_their_distance():
    """By the largest difference of each, the first of equals first, with their numbers and the reference's answers."""
    found = Furthest.of({"v": OFF}, {"v": SMALL}, {"v": "values"}, start=10)
    assert found.apart == {"v": ((3.0, 11), (2.0, 13), (1.0, 10), (0.0, 12))}
    assert found.pulling == {}
    assert sorted(found.reference) == [10, 11, 12, 13]
    assert found.samples(of_slope=True).tolist() == [10, 11, 12, 13]
    reference = {"v": np.arange(8.0).reshape(4, 2), "w": np.arange(4.0)}
    found = Furthest.of(reference, reference, {"v": "values", "w": "values"}, start=10)
    told = found.answers(np.array([13, 11]))
    assert {name: array.tolist() for name, array in told.items()} == {"v": [[6, 7], [2, 3]], "w": [3, 1]}


def test_shares_are_ranked_by_what_they_add_to_the_slope_too():
    """Outputs of classes have both orders, logits by their shares; several decisions in a sample have one."""
    logits = np.log(np.float32([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]))
    moved = logits + np.float32([[np.log(2), 0, 0], [0, 0, 5]])
    found = Furthest.of({"l": moved}, {"l": logits}, {"l": "logits"})
    assert [number for _, number in found.apart["l"]] == [1, 0]
    # Around their mean the logarithms are (2, -1, -1) · ln 2 / 3: a step of the first counts twice that of the last.
    sizes = {number: size for size, number in found.pulling["l"]}
    assert sizes == {
        0: pytest.approx(np.log(2) * 2 / 3 * np.log(2), rel=1e-5),
        1: pytest.approx(5 * np.log(2) / 3, rel=1e-5),
    }
    several = Furthest.of({"l": moved[:, None]}, {"l": logits[:, None]}, {"l": "logits"})
    assert several.pulling == {}


def test_outputs_without_samples_are_not_looked_at():
    """A constant and a number have no sample that is furthest off; at most FURTHEST of each output are."""
    count = 3 * FURTHEST
    reference = {"v": np.zeros((count, 1)), "w": np.zeros(count), "c": np.zeros(5), "n": np.zeros(())}
    actual = {name: array.copy() for name, array in reference.items()}
    actual["v"][-FURTHEST:] = 1
    actual["w"][:FURTHEST] = 1
    given_ = Outputs({"x": np.zeros(count)}, actual, reference)
    assert furthest(given_, dict.fromkeys(reference, "values")).tolist() == [
        *range(FURTHEST),
        *range(2 * FURTHEST, count),
    ]
    nothing = furthest(replace(given_, reference={"c": reference["c"]}), {"c": "values"})
    assert nothing.tolist() == []
    assert nothing.dtype == np.intp


def test_of_samples_that_are_as_far_off_the_first_ones_are_kept():
    """Whatever order sorting leaves equal ones in, where they are many."""
    actual = np.tile(np.float32([0, 1, 2, 1]), 5 * FURTHEST)[:, None]
    found = Furthest.of({"v": actual}, {"v": np.zeros_like(actual)}, {"v": "values"})
    assert [number for _, number in found.apart["v"]] == list(range(2, 4 * FURTHEST, 4))


def test_samples_that_make_the_slope_keep_their_answers_when_parts_are_merged():
    """Those that are no further off than others are told with the reference's answers, of either part."""
    sure = np.tile(np.float32([[0.98, 0.01, 0.01]]), (3 * FURTHEST, 1))
    few = np.arange(FURTHEST)
    sure[few] = np.float32([1, 1e-6, 0])
    actual = sure.copy()
    actual[few, 1] *= 2
    actual[FURTHEST:] += np.float32([1e-3, -1e-3, 0])
    kinds = {"p": "probabilities"}
    whole = Furthest.of({"p": actual}, {"p": sure}, kinds)
    assert not set(few) & set(whole.samples())
    assert set(few) <= set(whole.samples(of_slope=True))
    halves = [slice(0, FURTHEST // 2), slice(FURTHEST // 2, None)]
    one, two = (Furthest.of({"p": actual[h]}, {"p": sure[h]}, kinds, start=h.start) for h in halves)
    for merged in (whole, one.merged(two), two.merged(one)):
        assert merged.pulling == whole.pulling
        assert merged.samples(of_slope=True).tolist() == whole.samples(of_slope=True).tolist()
        np.testing.assert_array_equal(merged.answers(few)["p"], sure[few])


def test_what_is_spared_is_the_reference_of_outputs_with_a_batch_axis():
    """A constant and a number stay the engine's, and so do other samples; what was given is not changed."""
    reference = {"p": np.zeros((4, 2)), "c": np.zeros(5), "n": np.zeros(())}
    actual = {name: array + 1 for name, array in reference.items()}
    found = Outputs({"x": np.zeros(4)}, actual, reference).spared(np.array([1, 3]))
    assert {name: array.tolist() for name, array in found.actual.items()} == {
        "p": [[1, 1], [0, 0], [1, 1], [0, 0]],
        "c": [1, 1, 1, 1, 1],
        "n": 1,
    }
    assert all(array.all() for array in actual.values())


def test_the_slope_alone_is_told_from_more():
    """It is alone where nothing else is beyond what is allowed, in any output."""

    def comparison(*figures):
        return Comparison((OutputComparison("p", "values", 1, figures, (0,), 0.0, 0.0, (), 1.0),), (), 1)

    slope_, more, fine = Figure("slope", 2.0, 1.0), Figure("max", 2.0, 1.0), Figure("max", 1.0, 1.0)
    assert slope_alone(comparison(slope_, fine))
    assert not slope_alone(comparison(slope_, more))
    assert not slope_alone(comparison(fine))


def test_evidence_of_parts_is_that_of_all():
    """Kinds, thresholds, grids, what is undecided and the twin's samples go into sums that merge to one verdict."""
    rng = np.random.default_rng(7)
    shares = rng.dirichlet(np.ones(4), 40).astype(np.float32)
    reference = {"p": shares, "s": rng.random((40, 2)).astype(np.float32), "r": -np.sort(-rng.random((40, 3)), axis=1)}
    actual = {name: (array + rng.normal(0, 1e-3, array.shape)).astype(array.dtype) for name, array in reference.items()}
    kinds = {"p": "probabilities", "s": "scores", "r": "ranked"}
    spec = SimpleNamespace(
        outputs=tuple(SimpleNamespace(name=n, kind=k, threshold=0.3) for n, k in kinds.items()), constants=frozenset()
    )
    few = {name: array[:FEW] for name, array in reference.items() if name != "r"}
    runs = [{n: (a + rng.normal(0, 1e-3, a.shape)).astype(a.dtype) for n, a in few.items()} for _ in range(8)]
    told = noise_of(few, runs, {n: kinds[n] for n in few}, "fp16")
    tolerance = Tolerance(max=0.01, mean=0.01, kl=0.01, margin=0.01, flips=0.1, sum=0.01)
    rule = Rule(tolerance, {}, noise=told, first={"x": np.zeros(FEW)})
    asked = asked_of(spec, rule, 40)
    allowed = told.tolerance("s", 40, tolerance).max
    assert asked == Asked({"r": 0.01}, {"s": allowed}, {"p": "probabilities", "s": "scores"}, FEW)
    assert asked_of(spec, replace(rule, noise=None), 40) == Asked({"r": 0.01}, {"s": 0.01}, {}, 0)
    grids = {"p": Grid(1 / 256, 0.0, 1.0)}
    whole = Evidence.of(spec, actual, reference, asked, grids)
    expected = compare(
        actual,
        reference,
        {name: told.tolerance(name, 40, tolerance) if name in few else tolerance for name in kinds},
        kinds,
        grids=grids,
        thresholds=dict.fromkeys(kinds, 0.3),
    )
    assert whole.judged(spec, replace(rule, noise=None), aligned=True).figure("max") is not None
    judged = told.judged(expected, actual, reference, aligned=True)
    assert whole.judged(spec, rule, aligned=True) == judged
    assert whole.judged(spec, rule, aligned=False) != judged
    assert compare_by(spec, Outputs({"x": np.zeros(40)}, actual, reference), rule, grids) == judged
    # Ranked rows are matched by all samples: the others in parts.
    del actual["r"], reference["r"]
    spec = SimpleNamespace(outputs=spec.outputs[:2], constants=frozenset())
    whole = Evidence.of(spec, actual, reference, asked, grids).judged(spec, rule, aligned=True)
    parts = [
        Evidence.of(spec, part(actual, *cut), part(reference, *cut), asked, grids, cut[0])
        for cut in ((0, 5), (5, 30), (30, 40))
    ]
    assert parts[2].merged(parts[0]).merged(parts[1]).judged(spec, rule, aligned=True) == whole
