"""Comparisons of parts, merged in any order, are that of all samples at once, bit for bit."""

from __future__ import annotations

import math
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
from conformance.summing import measure
from conformance.sums import KEPT

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
    with pytest.raises(ValueError, match="ranked"):
        sums.merged(sums)


def test_each_output_is_judged_by_its_own_tolerance():
    """Of two outputs that are as far off, the one that is allowed less fails alone."""
    array = np.ones((4, 2), np.float32)
    kinds = {"a": "values", "b": "values"}
    sums = measure(dict.fromkeys(kinds, array + np.float32(0.1)), dict.fromkeys(kinds, array), kinds)
    wide = Tolerance(**dict.fromkeys(FIGURES, 0.5))
    assert [o.passed for o in judge(sums, {"a": wide, "b": TOLERANCE}).outputs] == [True, False]
    assert [o.passed for o in judge(sums, {"a": TOLERANCE, "b": wide}).outputs] == [False, True]
