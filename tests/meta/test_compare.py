"""The comparison itself: a sound case passes, and everything that must never pass does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conformance.compare import (
    ANY,
    COARSEST,
    MEAN_OF_ROWS,
    Comparison,
    Figure,
    Grid,
    OutputComparison,
    Scale,
    Tolerance,
    compare,
    kl_divergence,
    margins,
    softmax,
    structural_problems,
    top,
)

KINDS = {"p": "probabilities"}
TIGHT = Tolerance(max=1e-6, mean=1e-7, kl=1e-9, margin=1e-4, flips=0.01, sum=1e-5)
WIDE = Tolerance(max=1.0, mean=1.0, kl=100.0, margin=1.0, flips=1.0, sum=1.0)


def probabilities(count: int = 20, classes: int = 10, seed: int = 0) -> np.ndarray:
    """Make rows of probabilities, float32 (count, classes), without near ties."""
    return softmax(4 * np.random.default_rng(seed).standard_normal((count, classes))).astype(np.float32)


def test_equal_outputs_pass_and_need_nothing():
    """An output compared with itself passes a tight tolerance, with every figure at zero but rounding."""
    p = probabilities()
    result = compare({"p": p}, {"p": p.copy()}, TIGHT, KINDS)
    assert result.passed
    assert result.usage < 0.1
    assert result.samples == 20


def test_figures_are_those_of_the_definition():
    """Largest, mean, divergence, margin, flips and sum are what their definitions give, worked by hand."""
    reference = np.array([[0.6, 0.4], [0.3, 0.7]], np.float32)
    actual = np.array([[0.4, 0.6], [0.3, 0.7]], np.float32)
    (output,) = compare({"p": actual}, {"p": reference}, WIDE, KINDS).outputs
    needed = {f.name: f.needed for f in output.figures}
    assert needed["max"] == pytest.approx(0.2, rel=1e-6)
    # The sum over a sample's classes, 0.4 and 0, by ten.
    assert needed["mean"] == pytest.approx(0.02, rel=1e-6)
    assert needed["kl"] == pytest.approx((0.6 * np.log(0.6 / 0.4) + 0.4 * np.log(0.4 / 0.6)) / 2, rel=1e-5)
    assert needed["margin"] == pytest.approx(0.2, rel=1e-6)
    assert needed["flips"] == 0.5
    assert needed["sum"] < 1e-6
    assert output.worst_index[0] == 0
    assert (output.flips[0].sample, output.flips[0].expected, output.flips[0].actual) == (0, 0, 1)


def test_a_sample_that_changes_class_in_two_outputs_is_one_sample():
    """Of 20 samples never more than 20 change class, however many outputs have classes."""
    p = probabilities()
    other = p.copy()
    other[:3] = p[:3, ::-1]
    comparison = compare({"p": other, "q": other}, {"p": p, "q": p}, WIDE, {"p": "probabilities", "q": "logits"})
    assert [len(output.flips) for output in comparison.outputs] == [3, 3]
    assert comparison.flips == 3
    # Where all may flip: the worst output all the same.
    comparison = compare({"p": p, "q": other}, {"p": p, "q": p}, WIDE, {"p": "probabilities", "q": "logits"})
    assert comparison.figure("flips").needed == pytest.approx(3 / 20)


@pytest.mark.parametrize("name", ["max", "mean", "kl", "margin", "flips", "sum"])
def test_each_figure_alone_can_fail(name):
    """With all other figures wide open, one that is exceeded fails the comparison and is the one that is named."""
    reference = np.array([[0.6, 0.4], [0.3, 0.7]], np.float32)
    actual = np.array([[0.4, 0.5], [0.3, 0.7]], np.float32)
    tolerance = Tolerance(**{**dict.fromkeys(("max", "mean", "kl", "margin", "flips", "sum"), 10.0), name: 1e-12})
    result = compare({"p": actual}, {"p": reference}, tolerance, KINDS)
    assert not result.passed
    assert [f.name for f in result.outputs[0].figures if not f.passed] == [name]
    assert f"FAILED: {name}" in result.describe()


BROKEN = {
    "a missing output": lambda p: {},
    "an extra output": lambda p: {"p": p, "q": p},
    "another name": lambda p: {"q": p},
    "a NaN": lambda p: {"p": np.where(np.arange(p.size).reshape(p.shape) == 7, np.nan, p).astype(np.float32)},
    "only NaN": lambda p: {"p": np.full_like(p, np.nan)},
    "an infinity": lambda p: {"p": np.where(np.arange(p.size).reshape(p.shape) == 7, np.inf, p).astype(np.float32)},
    "a lost remainder": lambda p: {"p": p[:-4]},
    "an extra dimension": lambda p: {"p": p[..., None]},
    "the profile's largest batch": lambda p: {"p": np.concatenate([p, p])},
    "no samples": lambda p: {"p": p[:0]},
    "float64": lambda p: {"p": p.astype(np.float64)},
    "float16": lambda p: {"p": p.astype(np.float16)},
    "no array": lambda p: {"p": p.tolist()},
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_must_never_pass_fails_the_widest_tolerance(broken):
    """Structural faults fail whatever is allowed, without an exception."""
    p = probabilities()
    result = compare(BROKEN[broken](p), {"p": p}, WIDE, KINDS)
    assert not result.passed
    assert result.problems
    assert result.usage == np.inf


def test_nothing_compared_never_passes():
    """No outputs at all, an empty pair of outputs and a reference of NaN all fail."""
    empty, bad = np.empty((0, 10), np.float32), np.full((2, 10), np.nan, np.float32)
    assert not compare({}, {}, WIDE, {}).passed
    assert not compare({"p": empty}, {"p": empty}, WIDE, KINDS).passed
    assert not compare({"p": bad}, {"p": bad}, WIDE, KINDS).passed


def test_argument_order_matters_as_documented():
    """The divergence and the margin are the reference's, not the candidate's."""
    sure, unsure = np.array([[0.98, 0.02]], np.float32), np.array([[0.45, 0.55]], np.float32)
    forward = compare({"p": unsure}, {"p": sure}, WIDE, KINDS).outputs[0]
    backward = compare({"p": sure}, {"p": unsure}, WIDE, KINDS).outputs[0]
    assert forward.flips[0].margin == pytest.approx(0.96, abs=1e-6)
    assert backward.flips[0].margin == pytest.approx(0.10, abs=1e-6)
    assert forward.figure("kl") != backward.figure("kl")


def test_a_flip_is_allowed_only_where_the_reference_was_undecided():
    """The same flip count passes at a small lead of the reference and fails at a large one."""
    tolerance = Tolerance(max=1.0, mean=1.0, kl=10.0, margin=0.05, flips=1.0, sum=1.0)
    close, clear = np.array([[0.51, 0.49]], np.float32), np.array([[0.7, 0.3]], np.float32)
    flipped = np.array([[0.49, 0.51]], np.float32)
    assert compare({"p": flipped}, {"p": close}, tolerance, KINDS).passed
    assert not compare({"p": flipped}, {"p": clear}, tolerance, KINDS).passed


def test_logits_are_judged_by_their_scale_and_their_softmax():
    """Adding a constant to all logits keeps the classes, but is still a difference; scale is the reference's."""
    logits = np.array([[1.0, 3.0, -100.0]], np.float32)
    shifted = logits + np.float32(1.0)
    (output,) = compare({"p": shifted}, {"p": logits}, WIDE, {"p": "logits"}).outputs
    needed = {f.name: f.needed for f in output.figures}
    assert needed["max"] == pytest.approx(0.01, rel=1e-3)
    assert needed["kl"] < 1e-9
    assert needed["flips"] == 0
    assert "sum" not in needed


def test_values_have_neither_classes_nor_divergence():
    """An output of plain values of any rank is judged by its relative differences only."""
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    (output,) = compare({"p": values + np.float32(0.23)}, {"p": values}, WIDE, {"p": "values"}).outputs
    assert [f.name for f in output.figures] == ["max", "mean"]
    assert output.figures[0].needed == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_tolerance_that_lets_everything_pass_is_refused(bad):
    """NaN, infinite and negative tolerances are a ValueError."""
    with pytest.raises(ValueError, match="tolerance kl"):
        Tolerance(max=1.0, mean=1.0, kl=bad, margin=1.0, flips=1.0, sum=1.0)


def test_an_output_of_unknown_kind_is_refused():
    """Judging an output by the wrong figures is an error of the caller, not a pass."""
    said = (
        "^output 'p' is of kind 'softmax'; allowed: probabilities, scores, logits, values, integers, ranked, constant$"
    )
    with pytest.raises(ValueError, match=said):
        compare({"p": probabilities()}, {"p": probabilities()}, WIDE, {"p": "softmax"})


ROWS = hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(-30, 30))


@given(ROWS, ROWS)
def test_divergence_is_finite_and_never_negative(a, b):
    """For any two sets of rows, zeros included, the divergence is finite and at least zero."""
    width, count = min(a.shape[1], b.shape[1]), min(len(a), len(b))
    p, q = softmax(a[:count, :width]), softmax(b[:count, :width])
    q = np.where(q < 1e-3, 0.0, q)
    divergence = kl_divergence(q, p)
    assert np.isfinite(divergence).all()
    assert (divergence >= -1e-12).all()


@given(ROWS)
def test_margin_is_the_lead_of_the_top_two(logits):
    """The margin is the difference of the two values that the ranking puts first."""
    p = softmax(logits)
    for row, margin in zip(p, margins(p), strict=True):
        first, second = top(row, 2)
        assert margin == pytest.approx(first[1] - second[1], abs=1e-12)


def needed(actual, reference, kind="probabilities", **known):
    """Figures of a comparison by name."""
    (output,) = compare({"p": actual}, {"p": reference}, WIDE, {"p": kind}, **known).outputs
    return {f.name: f.needed for f in output.figures}


@pytest.mark.parametrize("classes", [2, 3, 1000])
def test_the_mean_does_not_depend_on_how_many_classes_nothing_happens_in(classes):
    """The same probability moved between two classes is the same mean, whatever other classes there are."""
    reference = np.zeros((4, classes), np.float32)
    reference[:, :2] = 0.5
    moved = reference + np.eye(1, classes, 0, dtype=np.float32) * 0.25 - np.eye(1, classes, 1, dtype=np.float32) * 0.25
    assert needed(moved, reference)["mean"] == pytest.approx(0.05)


BYTE = Grid(1 / 256, 0.0, 255 / 256)
"""What eight bits can say of probabilities, as TFLite has it."""


@pytest.mark.parametrize("classes", [3, 10, 1000])
def test_the_best_that_an_integer_output_can_give_needs_nothing(classes):
    """The reference rounded to the output's step has no mean difference, divergence or sum to be excused."""
    reference = probabilities(200, classes)
    rounded = BYTE.nearest(reference).astype(np.float32)
    found = needed(rounded, reference, grids={"p": BYTE})
    assert {found[name] for name in ("mean", "kl", "sum")} == {0.0}
    assert found["max"] <= 1 / 256
    plain = needed(rounded, reference)
    assert all(plain[name] > 0 for name in ("mean", "kl", "sum"))


def test_an_integer_output_is_judged_by_what_it_says_beyond_rounding():
    """Probabilities that are off by whole steps differ by them, and sums that are off are told."""
    reference = probabilities(200, 10)
    rounded = BYTE.nearest(reference).astype(np.float32)
    rounded[:, 0] += np.float32(18 / 256)
    found = needed(rounded, reference, grids={"p": BYTE})
    assert found["sum"] == pytest.approx(8 / 256), "ten classes are rounded by half a step here, and half a step there"
    assert found["mean"] == pytest.approx(1.8 / 256)
    assert found["kl"] > 1e-4


def test_a_step_that_an_integer_output_lost_is_little_divergence():
    """Zero in the place of one step is half a step at the least, not nearly impossible; ends are ends."""
    reference = np.array([[255 / 256, 1 / 256]], np.float32)
    actual = np.array([[255 / 256, 0.0]], np.float32)
    assert needed(actual, reference, grids={"p": BYTE})["kl"] < 4e-3
    assert needed(actual, reference)["kl"] > 2e-2
    assert BYTE.nearest(np.array([-1.0, 0.999, 2.0])).tolist() == [0.0, 255 / 256, 255 / 256]


def test_a_coarse_output_is_not_excused():
    """Probabilities in steps of a tenth are no rounding: all that they lose counts."""
    grid = Grid(0.1, 0.0, 1.0)
    assert grid.step > COARSEST
    reference = probabilities(200, 10)
    rounded = grid.nearest(reference).astype(np.float32)
    assert needed(rounded, reference, grids={"p": grid}) == needed(rounded, reference)


def test_logits_are_measured_by_what_they_are_known_to_reach():
    """One sample of small logits differs by no more than among others; larger ones of its own count as they are."""
    reference = np.array([[0.1, 0.2]], np.float32)
    actual = reference + np.float32(0.01)
    assert needed(actual, reference, "logits")["max"] == pytest.approx(0.05, rel=1e-5)
    known = {"p": Scale(10.0, 2.0)}
    found = needed(actual, reference, "logits", scales=known)
    assert found["max"] == pytest.approx(0.01 / 10, rel=1e-5)
    assert found["mean"] == pytest.approx(0.01 / 2 * 0.1, rel=1e-5)
    found = needed(actual * 100, reference * 100, "logits", scales=known)
    assert found["max"] == pytest.approx(1 / 20, rel=1e-5)
    assert found["mean"] == pytest.approx(1 / 15 * 0.1, rel=1e-5)


# How much of what is allowed was needed, and what is said of it.


def of_figures(*figures, output="p"):
    """An output of these figures."""
    return OutputComparison(output, "values", 1, tuple(figures), (0,), 0.0, 0.0, (), 1.0)


@pytest.mark.parametrize(
    "figure, usage",
    [
        (Figure("max", 0.5, 2.0), 0.25),
        (Figure("max", 3.0, 2.0), 1.5),
        (Figure("max", 0.5, 1.0), 0.5),
        (Figure("max", 0.0, 0.0), 0.0),
        (Figure("max", 1e-9, 0.0), np.inf),
        (Figure("max", np.nan, 2.0), np.inf),
        (Figure("max", np.inf, 2.0), np.inf),
        (Figure("flips", 0.5, 1.0), 0.0),
        (Figure("flips", 0.5, 0.9), 0.5 / 0.9),
        (Figure("max", 0.5, ANY), 0.0),
        (Figure("max", np.inf, ANY), np.inf),
    ],
    ids=str,
)
def test_usage_is_needed_over_allowed_of_what_decides(figure, usage):
    """What allows anything counts nothing, and what is no number is beyond all that is allowed, even there."""
    comparison = Comparison((of_figures(figure),), (), 1)
    assert comparison.usage == usage
    assert Comparison((of_figures(figure),), ("a problem",), 1).usage == np.inf


def test_the_worst_figure_is_that_of_the_largest_usage():
    """Of two outputs it is that which came closer to failing, whichever differs more; one that none has is none."""
    near, far = Figure("max", 0.5, 1.0), Figure("max", 2.0, 100.0)
    comparison = Comparison((of_figures(far), of_figures(near, output="q")), (), 1)
    assert comparison.figure("max") == near
    assert comparison.figure("kl") is None
    assert of_figures(near).figure("kl") is None
    assert of_figures(near).figure("max") == near


def test_a_line_for_each_output_says_how_close_it_came():
    """What failed stands alone; where nothing did, all figures stand; problems stand above both."""
    good = of_figures(Figure("max", 0.5, 1.0), Figure("mean", 0.25, 1.0))
    bad = of_figures(Figure("max", 2.0, 1.0), Figure("mean", 0.25, 1.0), Figure("kl", 3.0, 1.0), output="q")
    assert Comparison((good, bad), ("it has NaN",), 1).describe().splitlines() == [
        "it has NaN",
        "p: passed: max 5.00e-01 of 1.00e+00 allowed; mean 2.50e-01 of 1.00e+00 allowed",
        "q: FAILED: max 2.00e+00 of 1.00e+00 allowed; kl 3.00e+00 of 1.00e+00 allowed",
    ]


def test_values_are_judged_by_their_magnitude_and_their_spread():
    """Differences are those of magnitudes, worked by hand; a guess that knows no input loses the whole variance."""
    values = np.repeat(np.array([[-4.0, 1.0], [2.0, 3.0]], np.float32), 8, axis=0)
    actual = values.copy()
    actual[0, 1] += 2.0
    (output,) = compare({"p": actual}, {"p": values}, WIDE, {"p": "values"}).outputs
    needed = {f.name: f.needed for f in output.figures}
    # Two of one element, of 32; magnitudes of four at most, of two and a half in the mean.
    assert needed["max"] == pytest.approx(2 / 4)
    assert needed["mean"] == pytest.approx(2 / 32 / 2.5 * MEAN_OF_ROWS)
    # The differences' variance, 4 / 32 less the square of their mean by column, over that of the values, 9 and 1.
    assert needed["spread"] == pytest.approx((4 / 32 - (2 / 16) ** 2 / 2) / 5)
    assert output.unit == 4.0
    guess = np.broadcast_to(values.mean(axis=0), values.shape).astype(np.float32)
    (output,) = compare({"p": guess}, {"p": values}, WIDE, {"p": "values"}).outputs
    assert output.figure("spread").needed == pytest.approx(1.0)
    assert not output.figure("spread").passed


@pytest.mark.parametrize("kind, unit", [("probabilities", 1.0), ("scores", 1.0), ("logits", 0.75), ("values", 0.75)])
def test_what_is_told_of_an_output_is_its_own(kind, unit):
    """Its name, kind, samples and unit, and where it differs most with both numbers there."""
    reference = np.array([[0.5, 0.25], [0.75, 0.125]], np.float32)
    actual = reference + np.array([[0, 0], [0, 0.25]], np.float32)
    (output,) = compare({"p": actual}, {"p": reference}, WIDE, {"p": kind}).outputs
    assert (output.output, output.kind, output.samples, output.unit) == ("p", kind, 2, unit)
    assert (output.worst_index, output.worst_actual, output.worst_expected) == ((1, 1), 0.375, 0.125)
    assert output.flipped == 0
    assert output.notes == (("decisions at 0.5; the reference was undecided within 0.05 of it",) * (kind == "scores"))


def test_a_tolerance_may_allow_nothing():
    """Zero is a number that an engine can keep: integers, and an output compared with itself."""
    nothing = Tolerance(max=0, mean=0, kl=0, margin=0, flips=0, sum=0, spread=0, integers=0)
    values = np.arange(4, dtype=np.float32).reshape(2, 2)
    assert compare({"p": values}, {"p": values.copy()}, nothing, {"p": "values"}).passed


@pytest.mark.parametrize(
    "kind, flips, integers, allowed, said",
    [
        ("integers", 0.25, 0.5, 0.25, "nothing tells how close an integer was; a share may differ"),
        ("integers", 0.5, 0.25, 0.25, "nothing tells how close an integer was; a share may differ"),
        ("integers", 0.5, 0.0, 0.0, "all integers have to be the same"),
        ("constant", 0.5, 0.5, 0.0, "all integers have to be the same"),
    ],
)
def test_integers_may_differ_by_the_less_of_two_shares_and_constants_by_none(kind, flips, integers, allowed, said):
    """What may differ is what both the row and the precision allow, and none of a constant; a note says which."""
    expected = np.arange(8).reshape(8, 1)
    tolerance = Tolerance(max=1, mean=1, kl=1, margin=1, flips=flips, sum=1, integers=integers)
    (output,) = compare({"p": np.where(expected == 3, 9, expected)}, {"p": expected}, tolerance, {"p": kind}).outputs
    assert output.figures == (Figure("flips", 1 / 8, allowed),)
    assert (output.notes, output.unit) == ((said,), 1.0)


def listed(scale=1.0):
    """Lists of three rows in two samples: what ranks them, a number of each beside it, and an id."""
    return {
        "score": np.array([[0.5, 0.25, 0.125], [0.75, 0.5, 0.25]], np.float32) * np.float32(scale),
        "size": np.array([[[16.0], [2.0], [1.0]], [[4.0], [8.0], [2.0]]], np.float32),
        "id": np.array([[7, 8, 9], [5, 6, 4]]),
    }


@pytest.mark.parametrize("scale, unit", [(1.0, 1.0), (4 / 3, 1.0), (2.0, 1.5), (4.0, 3.0)])
def test_ranked_rows_are_judged_by_figures_of_their_own(scale, unit):
    """Scores of at most one are differences as they are, all else by its magnitude; ids have their lost rows alone."""
    reference, actual = listed(scale), listed(scale)
    actual["score"][0, 1] -= 0.03125
    actual["size"][1, 1] += 0.5
    tolerance = Tolerance(max=0.125, mean=1, kl=1, margin=1, flips=0.5, sum=1, integers=0.25)
    score, size, ids = compare(actual, reference, tolerance, dict.fromkeys(reference, "ranked")).outputs
    mean = reference["score"].astype(float).mean()
    assert {f.name: f.needed for f in score.figures} == {
        "max": pytest.approx(0.03125 / unit),
        "mean": pytest.approx(0.03125 / 6 / mean * MEAN_OF_ROWS),
        "margin": 0.0,
        "flips": 0.0,
    }
    assert {f.name: f.needed for f in size.figures} == {
        "max": 0.5 / 16,
        "mean": pytest.approx(0.5 / 33 * MEAN_OF_ROWS),
        "flips": 0.0,
    }
    assert ids.figures == (Figure("flips", 0.0, 0.5),)
    assert (score.unit, size.unit, ids.unit) == (pytest.approx(unit), 16.0, 1.0)
    assert score.notes == size.notes == ids.notes
    assert ids.notes == ("6 of 6 rows matched as sets, padding left out; ranked by 'score'",)


def test_rows_that_nothing_ranks_may_differ_as_integers_may():
    """Where no score says how close two rows were, what the precision allows of integers is allowed of them."""
    ids = {"id": listed()["id"]}
    for integers, allowed in ((0.25, 0.25), (1.0, 0.5)):
        tolerance = Tolerance(max=1, mean=1, kl=1, margin=1, flips=0.5, sum=1, integers=integers)
        (output,) = compare(ids, ids, tolerance, {"id": "ranked"}).outputs
        assert output.figures == (Figure("flips", 0.0, allowed),)


def test_a_number_has_no_samples_unless_it_is_a_constant():
    """What is said of a single array is what a comparison says of it."""
    number = np.array(1.0)
    assert structural_problems("v", number, number) == ["v: no samples, shape (); nothing was compared"]
    assert structural_problems("v", number, number, constant=True) == []


def test_a_note_says_where_scores_decide():
    """It is the model's own threshold, and half where it has none; what is undecided is no more than is allowed."""
    scores = {"p": np.array([[0.25, 0.75]])}
    tight = Tolerance(max=0.01, mean=1.0, kl=1.0, margin=1.0, flips=1.0, sum=1.0)
    for thresholds, where in (({"p": 0.3}, "0.3"), ({"q": 0.3}, "0.5")):
        (output,) = compare(scores, scores, tight, {"p": "scores"}, thresholds=thresholds).outputs
        assert output.notes == (f"decisions at {where}; the reference was undecided within 0.01 of it",)
