"""Comparisons of parts, merged in any order, are that of all samples at once, bit for bit."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from conformance import exact
from conformance.compare import FIGURES, Grid, Scale, Tolerance, compare, judge, undecided
from conformance.measures import COARSEST, KL_FLOOR, fine, off_one, smallest_said, softmax, top
from conformance.summing import measure, measure_output
from conformance.sums import KEPT, Form, Spread

TOLERANCE = Tolerance(**dict.fromkeys(FIGURES, 0.02), spread=0.01)
GRIDS = {"p": Grid(1 / 256, 0.0, 255 / 256)}
THRESHOLDS = {"s": 0.4}
SCALES = {"v": Scale(2.0, 0.5)}

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(arrays.arrays(np.float64, st.integers(0, 40), elements=FINITE))
def test_totals_are_exact(values):
    """The sum of any numbers is exact, from the smallest to the largest that there are."""
    whole = sum((Fraction(v) for v in values.tolist()), Fraction(0))
    assert exact.total(values) == whole / Fraction(math.ulp(0.0))
    if len(values):
        assert exact.mean(exact.total(values), len(values)) == float(whole / len(values))


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.floats(-1e30, 1e30)))
def test_columns_are_those_of_exact_sums(values):
    """Sums by column are exact before they are rounded, whatever parts they are of."""
    found = exact.rounded(exact.columns(values), values.shape[1])
    expected = [float(sum(map(Fraction, column))) for column in values.T.tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    assert exact.whole(exact.columns(values), values.shape[1]) == [exact.total(column) for column in values.T]
    halves = exact.added(exact.columns(values[: len(values) // 2]), exact.columns(values[len(values) // 2 :]))
    assert exact.rounded(halves, values.shape[1]).tobytes() == found.tobytes()


@pytest.mark.parametrize("count", [1, exact.FEW, exact.FEW + 1, exact.BLOCK + 1])
def test_the_smallest_numbers_add_up_however_many_they_are(count):
    """A multiple of the smallest number is a whole one, beside numbers of any size: one by one and in blocks."""
    smallest = math.ulp(0.0)
    assert exact.total(np.full(count, 3 * smallest)) == 3 * count
    values = np.full(count, -smallest)
    values[0] = 1.0
    assert exact.total(values) == 2**-exact.LEAST - (count - 1)


def test_nothing_has_sums_too():
    """Outputs without samples and without columns have sums: zero, and none."""
    assert exact.total(np.zeros((0, 3))) == 0
    assert exact.columns(np.zeros((3, 0))) == exact.columns(np.zeros((0, 3))) == {}
    assert exact.whole({}, 2) == exact.rounded({}, 2).tolist() == [0, 0]


def drawn(seed, count, fault):
    """Outputs of all kinds that can be measured in parts, an engine's and the reference's."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (count, 4, 5)).astype(np.float32)
    scores = np.exp(logits[:, 0]) / np.exp(logits[:, 0]).sum(axis=1, keepdims=True)
    reference = {
        "p": scores,
        "l": logits,
        "s": (1 / (1 + np.exp(-logits[:, 1]))).astype(np.float32),
        "v": (rng.normal(0, 1, (count, 3, 2)) * 10.0 ** rng.integers(-8, 8, (count, 3, 2))).astype(np.float32),
        "i": rng.integers(0, 9, (count, 2)).astype(np.int64),
        "c": np.arange(3, dtype=np.float32),
        "n": np.arange(3, dtype=np.int32),
    }
    actual = {}
    for name, array in reference.items():
        if array.dtype.kind == "f":
            actual[name] = (array + rng.normal(0, 0.03, array.shape)).astype(np.float32) if name != "c" else array + 1
        else:
            actual[name] = np.where(rng.random(array.shape) < 0.1, array + 1, array).astype(array.dtype)
    at = int(rng.integers(count))
    if fault == "nan":
        actual["v"][rng.random(count) < 0.4, 1, 0] = np.nan
        actual["v"][at, 2, 1] = np.inf
    elif fault == "reference nan":
        reference["l"][at, 0, 0] = np.inf
    elif fault == "missing":
        del actual["p"]
    elif fault == "extra":
        actual["x"] = actual["p"]
    elif fault == "dtype":
        actual["s"] = actual["s"].astype(np.float64)
    elif fault == "classes":
        actual["l"] = actual["l"][..., :4]
    elif fault == "type":
        actual["i"] = list(actual["i"])
    elif fault == "ties":
        actual = {n: array + 1 for n, array in reference.items()}
    return actual, reference


FAULTS = ("", "nan", "reference nan", "missing", "extra", "dtype", "classes", "type", "ties")
KINDS = {
    "p": "probabilities",
    "l": "logits",
    "s": "scores",
    "v": "values",
    "i": "integers",
    "c": "constant",
    "n": "constant",
}


def part(outputs, start, stop):
    """Outputs of some samples; what has no batch axis is whole."""
    return {name: array if name in {"c", "n"} else array[start:stop] for name, array in outputs.items()}


@settings(max_examples=60)
@given(st.data())
def test_parts_merged_in_any_order_are_the_whole(data):
    """However samples are cut, and in whatever order parts are merged, the verdict is that of all at once."""
    count = data.draw(st.integers(1, 40))
    actual, reference = drawn(data.draw(st.integers(0, 999)), count, data.draw(st.sampled_from(FAULTS)))
    cuts = sorted({0, count, *data.draw(st.lists(st.integers(0, count), max_size=8))})
    parts = [
        measure(
            part(actual, start, stop),
            part(reference, start, stop),
            KINDS,
            undecided=dict.fromkeys(KINDS, undecided(TOLERANCE)),
            grids=GRIDS,
            thresholds=THRESHOLDS,
            start=start,
        )
        for start, stop in pairwise(cuts)
    ]
    # Any two are merged next: every tree of merging, not only one part after the other.
    while len(parts) > 1:
        first = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        second = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        parts.append(first.merged(second))
    whole = compare(actual, reference, TOLERANCE, KINDS, scales=SCALES, grids=GRIDS, thresholds=THRESHOLDS)
    assert judge(parts[0], TOLERANCE, scales=SCALES, thresholds=THRESHOLDS) == whole


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)])
def test_the_first_nan_is_the_first_of_all(order):
    """Of the NaN of several parts the first one is named, in whatever order they are merged."""
    parts = []
    for number in range(3):
        answers = np.ones((4, 2), np.float32)
        answers[2, 1] = np.nan if number else 1
        parts.append(measure({"v": answers}, {"v": np.ones_like(answers)}, {"v": "values"}, start=4 * number))
    one, two, three = (parts[at] for at in order)
    assert judge(one.merged(two).merged(three), TOLERANCE).problems == (
        "v: 2 of 24 elements of the output are NaN or infinite, the first at (6, 1)",
    )


def test_flips_are_counted_all_and_kept_some():
    """Of many samples that change class the worst are kept by number; every one is counted."""
    count = 3 * KEPT
    reference = np.tile(np.float32([0.9, 0.1]), (count, 1))
    reference[:, 0] -= np.linspace(0, 0.3, count, dtype=np.float32)
    reference[:, 1] = 1 - reference[:, 0]
    parts = [
        measure({"p": array[:, ::-1]}, {"p": array}, {"p": "probabilities"}, start=start)
        for start in range(0, count, 7)
        for array in [reference[start : start + 7]]
    ]
    (output,) = judge(reduce(lambda a, b: a.merged(b), parts), TOLERANCE).outputs
    assert (output.flipped, [flip.sample for flip in output.flips]) == (count, list(range(KEPT)))


def test_a_constant_that_changes_between_parts_is_told():
    """An output without a batch axis that is another one in another part is a problem, not a figure."""
    array = np.ones((4, 2), np.float32)
    constants = [np.float32([1, 2]), np.float32([1, 2.0000002])]
    kinds = {"v": "values", "c": "constant"}
    one, other = (
        measure({"v": array, "c": c}, {"v": array, "c": constants[0]}, kinds, start=4 * number)
        for number, c in enumerate(constants)
    )
    comparison = judge(one.merged(other), TOLERANCE)
    assert not comparison.passed
    assert "c: has no batch axis, and is another one in another part" in comparison.describe()


def test_rows_that_are_too_many_here_and_too_few_there_do_not_make_up_for_each_other():
    """Answers of 3 and of 5 samples to 4 and 4 are no answers to 8."""
    answers, expected = np.ones((8, 2), np.float32), np.ones((4, 2), np.float32)
    kinds, reference = {"v": "values", "w": "values"}, {"v": expected, "w": expected}
    one = measure({"v": answers[:3], "w": expected}, reference, kinds)
    other = measure({"v": answers[:5], "w": expected}, reference, kinds, start=4)
    assert not judge(one.merged(other), TOLERANCE).passed


def test_ranked_outputs_are_refused():
    """Rows are matched by all samples: their sums are not merged, and nobody passes them unseen."""
    rows = np.tile(np.float32([0.9, 0.5, 0.1]), (4, 1))
    sums = measure({"r": rows}, {"r": rows}, {"r": "ranked"})
    plain = measure({"r": rows}, {"r": rows}, {"r": "values"}).outputs["r"]
    said = "^ranked outputs are matched by all samples, and have no sums of parts$"
    for one, other in ((sums, sums), (sums.outputs["r"], plain), (plain, sums.outputs["r"])):
        with pytest.raises(ValueError, match=said):
            one.merged(other)


def test_each_output_is_judged_by_its_own_tolerance():
    """Of two outputs that are as far off, the one that is allowed less fails alone."""
    array = np.ones((4, 2), np.float32)
    kinds = {"a": "values", "b": "values"}
    sums = measure(dict.fromkeys(kinds, array + np.float32(0.1)), dict.fromkeys(kinds, array), kinds)
    wide = Tolerance(**dict.fromkeys(FIGURES, 0.5))
    assert [o.passed for o in judge(sums, {"a": wide, "b": TOLERANCE}).outputs] == [True, False]
    assert [o.passed for o in judge(sums, {"a": TOLERANCE, "b": wide}).outputs] == [False, True]


GOOD = np.ones((4, 3), np.float32)


def with_bad(*places, value=np.nan):
    """The good answers with something else at some places."""
    found = GOOD.copy()
    for place in places:
        found[place] = value
    return found


@pytest.mark.parametrize(
    "actual, reference, said",
    [
        ({}, {}, ("the reference has no outputs",)),
        ({}, {"w": GOOD, "v": GOOD}, ("missing outputs: v, w",)),
        ({"v": GOOD, "z": GOOD, "y": GOOD}, {"v": GOOD}, ("extra outputs: y, z",)),
        ({"v": [1.0]}, {"v": GOOD}, ("v: is list; expected an array",)),
        ({"v": GOOD.astype(np.float64)}, {"v": GOOD}, ("v: dtype float64; expected float32",)),
        ({"v": GOOD[:2]}, {"v": GOOD}, ("v: shape (2, 3); expected (4, 3)",)),
        ({"v": GOOD[:0]}, {"v": GOOD[:0]}, ("v: no samples, shape (0, 3); nothing was compared",)),
        ({"v": np.array(1.0)}, {"v": np.array(1.0)}, ("v: no samples, shape (); nothing was compared",)),
        (
            {"v": with_bad((1, 2), (3, 0))},
            {"v": GOOD},
            ("v: 2 of 12 elements of the output are NaN or infinite, the first at (11, 2)",),
        ),
        (
            {"v": GOOD},
            {"v": with_bad((3, 1), value=-np.inf)},
            ("v: 1 of 12 elements of the reference are NaN or infinite, the first at (13, 1)",),
        ),
        (
            {"v": with_bad((2, 0)), "w": GOOD},
            {"v": with_bad((0, 1)), "w": GOOD, "u": GOOD},
            ("missing outputs: u", "v: 1 of 12 elements of the output are NaN or infinite, the first at (12, 0)"),
        ),
        ({"c": np.array(np.inf)}, {"c": np.array(1.0)}, None),
    ],
)
def test_what_is_wrong_whatever_is_allowed_is_said(actual, reference, said):
    """One sentence for each output: what it is and what was expected, and of what is no number the first place."""
    kinds = {**dict.fromkeys("uvwyz", "values"), "c": "constant"}
    sums = measure(actual, reference, kinds, start=10)
    if said is None:
        said = ("c: 1 of 1 elements of the output are NaN or infinite, the first at ()",)
    assert sums.problems == said
    assert judge(sums, TOLERANCE).problems == said
    assert set(sums.sound) == set(sums.outputs)


def merged(*arrays, reference=GOOD):
    """Sums of parts of four samples each, an output's answers to each."""
    parts = [measure({"v": a}, {"v": reference}, {"v": "values"}, start=4 * i) for i, a in enumerate(arrays)]
    return reduce(lambda one, other: one.merged(other), parts)


@pytest.mark.parametrize(
    "arrays, said",
    [
        ((GOOD, GOOD.astype(np.float64)), "v: dtype float64; expected float32"),
        ((GOOD, GOOD.tolist()), "v: is list; expected an array"),
        ((GOOD.tolist(), GOOD), "v: is list; expected an array"),
        ((GOOD, GOOD[:2]), "v: shape (6, 3); expected (8, 3)"),
        ((GOOD, GOOD[:, :2]), "v: shape (4, 2); expected (8, 3)"),
        ((GOOD, np.float32(1)), "v: is float32; expected an array"),
        (
            (GOOD[:3], np.ones((5, 3), np.float32)),
            "v: is as it should be as a whole, and not in each part of the samples",
        ),
        (
            (with_bad((1, 1)), with_bad((0, 2), (3, 0))),
            "v: 3 of 24 elements of the output are NaN or infinite, the first at (1, 1)",
        ),
    ],
)
def test_what_is_wrong_with_a_part_is_wrong_with_the_whole(arrays, said):
    """The sentence is that of all samples together; what parts alone have is not made up for by others."""
    assert merged(*arrays).problems == (said,)
    assert merged(*arrays[::-1]).problems in {(said,), (said.replace("(1, 1)", "(0, 2)"),)}
    assert merged(*arrays).sound == {}


def test_names_and_constants_of_parts_are_those_of_all():
    """What any part lacks, has too many or tore is so of the whole; a constant's form is that of one part."""
    kinds = {"v": "values", "c": "constant", "w": "values"}
    constant = np.arange(3.0)
    reference = {"v": GOOD, "c": constant, "w": GOOD}
    one = measure({"v": GOOD, "c": constant, "w": GOOD, "x": GOOD}, reference, kinds)
    other = measure({"v": GOOD, "c": constant + 1}, reference, kinds, start=4)
    third = measure({"v": GOOD, "c": constant, "w": GOOD}, reference, kinds, start=8)
    for both in (one.merged(other).merged(third), third.merged(other.merged(one)), one.merged(third).merged(other)):
        assert (both.start, both.samples) == (0, 12)
        assert (both.missing, both.extra, both.torn) == ({"w"}, {"x"}, {"c"})
        assert both.problems == (
            "missing outputs: w",
            "extra outputs: x",
            "c: has no batch axis, and is another one in another part; allowed: the same in all",
        )
        assert set(both.sound) == {"v"}
        assert both.forms["c"].shape == (3,)
        assert both.outputs["c"].samples == 1


def test_samples_that_change_are_counted_by_the_outputs_that_do():
    """Of four samples one changes in both outputs, one in the second; a constant counts in the first part alone."""
    integers = np.zeros((4, 2), np.int64)
    first, second = integers.copy(), integers.copy()
    first[1, 0], second[1, 1], second[3] = 1, 2, 3
    kinds = {"a": "integers", "b": "integers", "c": "constant"}
    for start, flipped in ((0, {("a", "b"): 1, ("b",): 1, ("c",): 1}), (4, {("a", "b"): 1, ("b",): 1})):
        sums = measure(
            {"a": first, "b": second, "c": np.array([1, 2])},
            {"a": integers, "b": integers, "c": np.array([1, 3])},
            kinds,
            start=start,
        )
        if start:
            assert sums.flipped == flipped
        else:
            assert sum(sums.flipped.values()) == 3
        assert judge(sums, TOLERANCE).flips == sum(sums.flipped.values())


def test_sums_of_each_kind_are_those_of_its_definition():
    """Decisions, the worst element and what it is, and the samples that change, worked by hand from a number on."""
    expected = np.float32([[0.25, 0.75], [0.5625, 0.375], [0.5, 0.125]])
    actual = np.float32([[0.75, 0.75], [0.4375, 0.375], [0.5, 0.625]])
    measured = measure_output("scores", actual, expected, undecided=0.0625, threshold=0.5, start=20)
    sums = measured.sums
    assert measured.wrong.tolist() == [True, False, True]
    assert (sums.samples, sums.elements, sums.decisions, sums.wrong, sums.flipped) == (3, 6, 6, 2, 2)
    assert [(f.sample, f.expected, f.actual, f.margin, f.place, f.size) for f in sums.flips] == [
        (22, 0, 1, 0.375, (1,), 0.375),
        (20, 0, 1, 0.25, (0,), 0.25),
    ]
    assert (sums.worst.difference, sums.worst.index) == (0.5, (20, 0))
    assert (sums.worst.actual, sums.worst.expected, sums.largest) == (0.75, 0.25, 0.75)
    assert exact.mean(sums.difference, 6) == (0.5 + 0.125 + 0.5) / 6
    assert sums.scale == Scale(0.75, (1 + 0.9375 + 0.625) / 6)
    assert measure_output("scores", actual, expected, undecided=0.0625).sums.wrong == 2
    assert measure_output("scores", actual, expected).sums.wrong == 3
    assert measure_output("scores", actual, expected, threshold=0.7).sums.wrong == 1
    # Integers flip with no margin; the largest difference of a sample is its worst.
    wanted = np.array([[1, 2], [3, 4], [5, 6]])
    got = np.array([[1, 2], [3, 7], [9, 5]])
    measured = measure_output("integers", got, wanted, start=20)
    assert measured.wrong.tolist() == [False, True, True]
    assert [(f.sample, f.expected, f.actual, f.margin, f.place, f.size) for f in measured.sums.flips] == [
        (22, 5, 9, 0.0, (0,), 4.0),
        (21, 4, 7, 0.0, (1,), 3.0),
    ]
    assert (measured.sums.decisions, measured.sums.wrong, measured.sums.flipped) == (6, 3, 2)
    # Classes of several rows in a sample.
    rows = np.float32([[[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]], [[0.25, 0.5, 0.25], [1, 0, 0]]])
    other = rows.copy()
    other[1] = rows[1][:, [1, 0, 2]]
    measured = measure_output("probabilities", other, rows, start=20)
    assert measured.wrong.tolist() == [False, True]
    assert (measured.sums.decisions, measured.sums.wrong, measured.sums.flipped) == (4, 2, 1)
    assert [(f.sample, f.expected, f.actual, f.margin, f.place) for f in measured.sums.flips] == [(21, 0, 1, 1.0, (1,))]
    values = measure_output("values", actual, expected, start=20)
    assert values.wrong.tolist() == [False] * 3
    assert (values.sums.decisions, values.sums.worst.index, values.sums.spread.elements) == (0, (20, 0), 2)
    constant = measure_output("constant", got, wanted, start=20)
    assert constant.wrong.tolist() == [True]
    assert (constant.sums.samples, constant.sums.decisions, constant.sums.worst.index) == (1, 6, (0, 4))
    assert constant.sums.digest != measure_output("constant", wanted, wanted).sums.digest != ""
    assert measure_output("constant", actual, expected).wrong.tolist() == [False]


def test_what_differs_is_true_or_false_by_sample():
    """Samples with a decision that differs are a mask, of every kind: numbers would pick samples by their places."""
    array = np.array([[0, 1], [1, 0], [0, 1]])
    for kind in ("probabilities", "logits", "scores", "values"):
        floats = array.astype(np.float32)
        assert measure_output(kind, floats, floats).wrong.dtype == bool, kind
        assert measure_output("constant", floats, floats).wrong.dtype == bool
    assert measure_output("integers", array, array).wrong.dtype == bool
    assert measure_output("constant", array, array).wrong.dtype == bool


def test_sums_of_ranked_outputs_are_those_of_matched_rows():
    """Rows without a counterpart count by sample, the sample of most first, and add nothing to any difference."""
    reference = {"s": np.tile(np.float32([0.875, 0.75, 0.5, 0.25]), (4, 1)), "id": np.tile(np.arange(1, 5), (4, 1))}
    actual = {name: array.copy() for name, array in reference.items()}
    actual["s"][0, 3] = 0.28125
    actual["id"][1, 2] = actual["id"][2, :2] = 9
    found = measure(actual, reference, dict.fromkeys(reference, "ranked"))
    for name, sums in found.outputs.items():
        assert (sums.samples, sums.elements, sums.decisions, sums.wrong, sums.flipped) == (4, 16, 16, 3, 2), name
        # What is expected is how many rows the sample lacks; all flips lead by what the worst row led by.
        assert [(f.sample, f.expected, f.actual, f.margin, f.place, f.size) for f in sums.flips] == [
            (2, 2, 0, 0.625, (), 2.0),
            (1, 1, 0, 0.625, (), 1.0),
        ]
    assert found.flipped == {("s", "id"): 2}
    scores, numbers = found.outputs["s"], found.outputs["id"]
    assert (scores.worst.difference, scores.worst.index, scores.whole) == (0.03125, (0, 3), False)
    assert exact.mean(scores.difference, 16) == 0.03125 / 16
    assert (numbers.worst.difference, numbers.difference, numbers.whole) == (0, 0, True)


def test_rows_are_the_same_by_the_widest_tolerance_of_their_list():
    """Rows that belong together move no further than any of them may; where nothing is said the closest are matched."""
    expected, answers = np.float32([[1.0, 0.98, 0.96]]), np.float32([[0.975, 0.995, 0.955]])
    reference, actual = {"a": expected, "b": expected}, {"a": answers, "b": answers}
    kinds = dict.fromkeys(reference, "ranked")
    for closest, order in ((None, [1, 0, 2]), ({"b": 0.03}, [0, 1, 2]), ({"a": 0.03, "b": 0.0}, [0, 1, 2])):
        found = measure(actual, reference, kinds, closest=closest).outputs
        assert [sums.matching.order.tolist() for sums in found.values()] == [[order]] * 2


def test_scores_that_nothing_is_said_of_have_a_decision():
    """What one score is undecided within is no other's: without it every score but the threshold's own decides."""
    expected, answers = np.float32([[0.25], [0.75], [1.0]]), np.float32([[0.75], [0.75], [0.0]])
    reference, actual = {"s": expected, "t": expected}, {"s": answers, "t": answers}
    found = measure(actual, reference, dict.fromkeys(reference, "scores"), undecided={"t": 0.25}).outputs
    assert [sums.wrong for sums in found.values()] == [2, 1]


def test_constants_have_no_samples_to_count_from():
    """A place in a constant has no number of a sample in it; constants alone are one sample, and no outputs none."""
    constant = np.float32([1, 2])
    reference, kinds = {"c": constant, "d": constant}, {"c": "constant", "d": "constant"}
    found = measure({"c": np.float32([1, np.nan]), "d": constant}, reference, kinds, start=10)
    assert found.problems == ("c: 1 of 2 elements of the output are NaN or infinite, the first at (1,)",)
    assert found.samples == measure(reference, reference, kinds).samples == 1
    assert measure({}, {}, {}).samples == 0


def test_of_equal_flips_the_first_samples_are_kept():
    """Where more flip by as much than are kept, it is the first that are; one that overcame no lead is one, too."""
    wanted = np.zeros((3 * KEPT, 1), np.int64)
    got = wanted + 1 + np.arange(3 * KEPT)[:, None] % 2
    flips = measure_output("integers", got, wanted).sums.flips
    assert [(flip.sample, flip.size) for flip in flips] == [(2 * i + 1, 2.0) for i in range(KEPT)]
    (flip,) = measure_output("probabilities", np.float32([[0.25, 0.75]]), np.float32([[0.5, 0.5]])).sums.flips
    assert (flip.sample, flip.expected, flip.actual, flip.margin) == (0, 0, 1, 0.0)


def test_logits_and_shares_of_a_grid_have_divergences_of_their_own():
    """Logits are turned into shares first; where an output is rounded, sums and divergence are those of its steps."""
    logits = np.log(np.float32([[0.5, 0.5], [0.25, 0.75]]))
    moved = np.log(np.float32([[0.25, 0.75], [0.25, 0.75]])) + 7
    found = measure_output("logits", moved, logits).sums
    divergence = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert exact.mean(found.divergence, found.decisions) == pytest.approx(divergence / 2, rel=1e-5)
    assert (found.off_one, found.wrong, found.flipped) == (0.0, 1, 1)
    assert found.worst.difference == pytest.approx(7 + np.log(1.5), rel=1e-6)
    grid = Grid(1 / 128, 0.0, 1.0)
    shares = np.float32([[0.503, 0.497]])
    actual = np.float32([[66 / 128, 66 / 128]])
    found = measure_output("probabilities", actual, shares, grid=grid).sums
    # Rounded to 64 steps each: off by four in all, and by two in the mean of two, less a step for each class.
    assert found.off_one == pytest.approx(2 / 128)
    assert exact.mean(found.difference, 2) == pytest.approx(2 / 128)
    assert found.worst.difference == pytest.approx(66 / 128 - 0.497)
    assert exact.mean(found.divergence, 1) == pytest.approx(0, abs=1e-12)
    plain = measure_output("probabilities", actual, shares).sums
    assert plain.off_one == pytest.approx(4 / 128)
    assert exact.mean(plain.divergence, 1) > 1e-6


def test_a_score_at_its_threshold_is_a_no():
    """Only above it is yes: half a score is one decision with a quarter, and another one than three quarters."""
    measured = measure_output("scores", np.array([[0.5], [0.5]]), np.array([[0.25], [0.75]]))
    assert measured.wrong.tolist() == [False, True]
    assert [(flip.sample, flip.expected, flip.actual) for flip in measured.sums.flips] == [(1, 1, 0)]


def test_values_are_rounded_to_steps_from_the_lowest():
    """A grid starts at its low end, wherever zero is; what lies beyond is an end."""
    assert Grid(0.5, -1.25, 0.75).nearest(np.array([-9.0, -0.6, 0.3, 9.0])).tolist() == [-1.25, -0.75, 0.25, 0.75]


def test_the_first_classes_are_three_and_the_first_of_equals():
    """A message names three; of equal ones those that stand first, however many there are."""
    assert top(np.full(1000, 0.5)) == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert top(np.array([0.25, 0.5, 0.25]), 2) == [(1, 0.5), (0, 0.25)]
    assert top(np.tile([0.25, 0.5], 500)) == [(1, 0.5), (3, 0.5), (5, 0.5)]


def test_logits_of_any_size_have_shares():
    """What all logits have in common changes no share, however large it is."""
    found = softmax(np.array([[1000.0, 1000.0], [-1000.0, -1000.0 + np.log(3)]]))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.25, 0.75]])
    assert found.dtype == np.float64


def test_a_grid_is_used_up_to_the_coarsest_and_says_nothing_below_half_a_step():
    """Steps of a hundredth are still rounded to; the divergence's floor is half of them, or that of all outputs."""
    for step, used in ((COARSEST, True), (np.nextafter(COARSEST, 1), False)):
        grid = Grid(step, 0.0, 1.0)
        assert fine(grid) is (grid if used else None)
    assert fine(None) is None
    assert smallest_said(Grid(1 / 128, 0.0, 1.0)) == 1 / 256
    assert smallest_said(Grid(1e-6, 0.0, 1.0)) == smallest_said(None) == KL_FLOOR == 1e-6
    shares = np.array([[0.5, 0.25, 0.125]])
    assert off_one(shares, None).tolist() == off_one(shares, None, 0.0).tolist() == [0.125]
    assert off_one(shares, np.array([[0.5, 0.5, 0.5]]), 0.125).tolist() == [0.25]


def test_a_form_is_that_of_one_output_from_a_number_on():
    """The first place that is no number counts from the first sample's number, 0 unless told; a constant has none."""
    bad = with_bad((1, 2), (3, 0))
    said = ("float32", (4, 3), "float32", (4, 3), 2)
    assert Form.of(bad, GOOD) == Form(*said, (1, 2))
    assert Form.of(bad, GOOD, start=10) == Form(*said, (11, 2))
    assert Form.of(bad, GOOD, constant=True, start=10) == Form(*said, (1, 2))
    assert Form.of(GOOD, bad, start=10) == Form("float32", (4, 3), "float32", (4, 3), 0, (), 2, (11, 2))
    assert Form.of(GOOD, bad, constant=True, start=10).expected_first == (1, 2)
    number = Form.of(np.array(1.0), np.array(1.0))
    assert number.problem("v") == "v: no samples, shape (); nothing was compared"
    assert number.problem("v", constant=True) is None


def test_forms_of_parts_are_that_of_the_whole_in_any_order():
    """Of sound parts there is no first place that is bad; of two dtypes that are wrong the same is named either way."""
    parts = [Form.of(GOOD, GOOD, start=start) for start in (0, 4)]
    assert parts[0].merged(parts[1]) == Form("float32", (8, 3), "float32", (8, 3))
    bad = Form.of(with_bad((1, 2)), with_bad((3, 0)), start=4)
    for whole in (parts[0].merged(bad), bad.merged(parts[0])):
        assert whole == Form("float32", (8, 3), "float32", (8, 3), 1, (5, 2), 1, (7, 0))
    double, half = (Form.of(GOOD.astype(dtype), GOOD) for dtype in (np.float64, np.float16))
    assert double.merged(half) == half.merged(double) == half


def test_spread_is_told_from_eight_samples_on_of_what_depends_on_them():
    """A reference of ±d has the variance d²: no more than a ten thousandth of the largest is none to keep."""
    signs = np.tile([[1.0], [-1.0]], (4, 1))
    for size, told in ((1e-4, False), (2e-4, True), (0.5e-4, False)):
        reference = size * signs
        assert (Spread.of(reference, reference).lost(8, 1.0) == 0.0) is told
        assert Spread.of(0 * reference, reference).lost(8, 1.0) == (pytest.approx(1.0) if told else None)
        assert Spread.of(reference, reference).lost(7, 1.0) is None
    assert Spread.of(0.5 * signs, signs).lost(8, 1.0) == 0.25
    values = [measure_output("values", signs, signs, start=start).sums for start in (0, 8)]
    assert values[0].merged(values[1]).spread.lost(16, 1.0) == 0.0
    without = replace(values[1], spread=None)
    assert values[0].merged(without).spread is without.merged(values[0]).spread is None
