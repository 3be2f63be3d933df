"""Rows of ranked lists are matched as sets: orders, leads and lost rows are those worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.ranked import FARTHEST, HALF, aligned, groups, match, valid

CORNERS = np.array([[0, 0], [200, 0], [0, 200], [200, 200]], np.float32)


def detections(scores, classes=None):
    """Boxes of 100 by 100 apart from each other, scores (N, rows) and classes; rows without a score are padding."""
    scores = np.array(scores, np.float32)
    classes = np.tile(np.arange(1, scores.shape[1] + 1), (len(scores), 1)) if classes is None else np.array(classes)
    corners = np.tile(CORNERS[: scores.shape[1]], (len(scores), 1, 1))
    found = {"boxes": np.concatenate([corners, corners + 100], axis=2), "scores": scores, "classes": classes}
    for array in found.values():
        array[scores == 0] = 0
    return found


FULL = [[0.875, 0.75, 0.5, 0.25]]


def changed(found, **arrays):
    """A copy with other arrays; all are copied."""
    return {name: np.array(arrays.get(name, array), array.dtype) for name, array in found.items()}


def test_rows_have_the_place_that_the_reference_gives_them():
    """Which row is whose is found whatever their order; a row before one of a higher score leads it by so much."""
    reference = detections([*FULL, [0.75, 0.5, 0.0, 0.0]])
    actual = {name: array.copy() for name, array in reference.items()}
    for array in actual.values():
        array[0] = array[0, [0, 2, 3, 1]]
    found = match(actual, reference, 0.0)
    assert found.order.tolist() == [[0, 3, 1, 2], [0, 1, 2, 3]]
    assert found.kept.tolist() == [[True] * 4, [True, True, False, False]]
    assert found.kept.dtype == bool
    assert (found.score, found.rows, found.lost, found.samples) == ("scores", 6, 0, ())
    # The row of 0.25 stands before that of 0.75.
    assert found.lead == 0.5
    assert (found.lost_share, found.in_order) == (0.0, False)
    for name, array in reference.items():
        np.testing.assert_array_equal(found.aligned(actual[name]), array)
    expected = {**reference, "more": CORNERS}
    for name, array in aligned({**actual, "more": CORNERS}, reference, list(reference)).items():
        np.testing.assert_array_equal(array, expected.pop(name))
    assert not expected
    assert str(found) == "6 of 6 rows matched as sets, padding left out; ranked by 'scores'"


def test_a_lost_row_leads_by_its_score_over_the_last():
    """A row of another class is lost and another one is too many: it counts once, and the larger lead is told."""
    reference = detections([*FULL, *FULL, *FULL])
    classes = reference["classes"].copy()
    classes[1, 2], classes[2, :2] = 9, 9
    found = match(changed(reference, classes=classes), reference, 0.0)
    assert (found.rows, found.lost, found.lost_share) == (12, 3, 0.25)
    assert found.samples == ((2, 2), (1, 1))
    assert found.kept.sum(axis=1).tolist() == [4, 3, 2]
    assert found.lead == 0.875 - 0.25
    one = {name: array[1:2] for name, array in reference.items()}
    found = match(changed(one, classes=classes[1:2]), one, 0.0)
    assert (found.lead, found.lost, found.samples) == (0.25, 1, ((0, 1),))
    assert str(found) == "3 of 4 rows matched as sets, padding left out; ranked by 'scores'"


def test_rows_that_are_too_many_are_lost_rows_too():
    """An engine that gives more rows is as wrong as one that gives fewer: its own scores say by how much."""
    reference = detections([[0.75, 0.5, 0.0, 0.0], [0.75, 0.5, 0.25, 0.0]])
    actual = detections([[0.75, 0.5, 0.375, 0.3125], [0.75, 0.5, 0.25, 0.0]])
    found = match(actual, reference, 0.0)
    assert (found.rows, found.lost, found.samples) == (5, 2, ((0, 2),))
    # Where lists are not full, what is cut off is below the least score of all.
    assert found.lead == 0.375 - 0.25


def test_rows_drop_out_at_the_last_score_of_a_full_list_and_at_the_least_of_others():
    """A full list says itself where it was cut, and one that is not full was cut where all of those were."""
    full, short, shorter = FULL[0], [0.875, 0.5, 0.375, 0.0], [0.875, 0.75, 0.0, 0.0]
    reference = detections([full, short, shorter])
    for sample, row, lead in ((0, 2, 0.25), (1, 1, 0.125), (2, 1, 0.375)):
        classes = reference["classes"].copy()
        classes[sample, row] = 9
        assert match(changed(reference, classes=classes), reference, 0.0).lead == lead
    # Of one list alone.
    alone = detections([short])
    assert match(changed(alone, classes=[[1, 2, 9, 0]]), alone, 0.0).lead == 0.0
    empty = detections([full, [0.0] * 4])
    assert match(changed(empty, classes=[[1, 9, 3, 4], [0] * 4]), empty, 0.0).lead == 0.5
    # A list of nothing is cut at no score: all of a row that an engine has there is its lead.
    assert match(detections([full, [0.375, 0.0, 0.0, 0.0]]), empty, 0.0).lead == 0.375


@pytest.mark.parametrize("unit", [1.0, 1 / 1024])
@pytest.mark.parametrize("shift, lead", [(53.0, 0.0), (54.5, 0.5)])
def test_a_box_that_a_better_one_overlaps_has_no_lead(shift, lead, unit):
    """At three tenths of their union one box suppresses the other or not by rounding; below, nothing does."""
    reference = detections(FULL)
    reference["boxes"][0, 0, 3] = 40
    # The second box is the first one, moved aside: 100 - shift of 100 + shift are shared.
    reference["boxes"][0, 1] = reference["boxes"][0, 0] + np.float32([shift, 0, shift, 0])
    reference["boxes"] *= np.float32(unit)
    found = match(changed(reference, classes=[[1, 9, 3, 4]]), reference, 0.0)
    assert found.lead == lead
    assert found.lost == 1


def test_only_better_boxes_suppress():
    """A box that a worse one overlaps leads the last row as others do; boxes inside out share nothing."""
    reference = detections(FULL)
    reference["boxes"][0, 2] = reference["boxes"][0, 1] + np.float32([10, 0, 10, 0])
    assert match(changed(reference, classes=[[1, 9, 3, 4]]), reference, 0.0).lead == 0.5
    assert match(changed(reference, classes=[[1, 2, 9, 4]]), reference, 0.0).lead == 0.0
    reference["boxes"][0, 1] = reference["boxes"][0, 1, [2, 3, 0, 1]]
    assert match(changed(reference, classes=[[1, 2, 9, 4]]), reference, 0.0).lead == 0.25


def test_a_box_that_is_too_many_may_be_suppressed_by_the_references():
    """An engine's box in the place of a better one of the reference is one that it did not suppress, and no lead."""
    reference = detections([[0.875, 0.75, 0.5, 0.0]])
    actual = detections([[0.875, 0.75, 0.5, 0.5]])
    actual["boxes"][0, 3] = actual["boxes"][0, 1] + np.float32([0, 10, 0, 10])
    assert match(actual, reference, 0.0).lead == 0.0
    actual["boxes"][0, 3] += 200
    assert match(actual, reference, 0.0).lead == 0.0
    actual["scores"][0, 3] = 0.75
    assert match(actual, reference, 0.0).lead == 0.25


def test_leads_are_shares_of_scores_above_one():
    """Scores that are logits lead by shares of the largest; those of at most one by what they are."""
    reference = detections([[8.0, 4.0, 2.0, 1.0]])
    assert match(changed(reference, classes=[[1, 9, 3, 4]]), reference, 0.0).lead == 3 / 8
    moved = {name: array[:, [0, 2, 1, 3]] for name, array in reference.items()}
    assert match(moved, reference, 0.0).lead == 2 / 8


@pytest.mark.parametrize(
    "allowed, moved, same",
    [
        (0.0, FARTHEST * 0.99, True),
        (0.0, FARTHEST * 1.01, False),
        (0.1, 0.19, True),
        (0.1, 0.21, False),
        (1.0, HALF * 0.99, True),
        (1.0, HALF * 1.01, False),
    ],
)
def test_rows_match_within_twice_what_is_allowed(allowed, moved, same):
    """Five hundredths of the largest, or twice what is allowed, and never more than half, is the same row."""
    reference = detections(FULL)
    boxes = reference["boxes"].copy()
    # Away from all others.
    boxes[0, 3] += np.float32(moved * 300)
    found = match(changed(reference, boxes=boxes), reference, allowed)
    assert found.lost == (0 if same else 1)


def test_the_closest_rows_belong_together_and_ties_stay_in_place():
    """Of several rows within the limit each has the closest one that is free; equal rows keep their places."""
    reference = {"v": np.array([[1.0, 0.98, 0.96]], np.float32)}
    found = match({"v": np.array([[0.975, 0.995, 0.955]], np.float32)}, reference, 0.0)
    assert found.order.tolist() == [[1, 0, 2]]
    equal = {"v": np.array([[1.0, 0.5, 0.5, 0.5]], np.float32)}
    found = match({"v": np.array([[0.5, 1.0, 0.5, 0.5]], np.float32)}, equal, 0.0)
    assert found.order.tolist() == [[1, 0, 2, 3]]
    # Within what is allowed rows that agree in their places are not moved, though others are closer.
    found = match({"v": np.array([[0.975, 0.995, 0.955]], np.float32)}, reference, 0.03)
    assert found.order.tolist() == [[0, 1, 2]]


def test_what_ranks_is_the_falling_numbers_that_tell_most():
    """Of two outputs that fall from row to row it is the one with more values; where none falls nothing ranks."""
    falling = np.array([[0.75, 0.5, 0.25], [0.5, 0.25, 0.0]], np.float32)
    coarse = np.array([[1.0, 1.0, 0.5], [1.0, 0.5, 0.0]], np.float32)
    rising = falling[:, ::-1].copy()
    for outputs, score in (
        ({"a": coarse, "b": falling}, "b"),
        ({"b": falling, "a": coarse}, "b"),
        ({"a": falling, "b": coarse}, "a"),
        ({"a": coarse, "c": rising + 1}, "a"),
        ({"c": rising + 1}, None),
    ):
        found = match(outputs, outputs, 0.0)
        assert (found.score, found.lead, found.in_order) == (score, 0.0, False)
    assert str(found) == (
        "6 of 6 rows matched as sets, padding left out; no output says by which score they are ranked"
    )


def test_lists_without_numbers_are_compared_where_they_stand():
    """Ids alone, and numbers that are no list of single ones, have no score and no padding."""
    ids = np.array([[3, 0, 1], [0, 0, 2]])
    found = match({"id": ids[:, ::-1]}, {"id": ids}, 0.0)
    assert found.in_order
    assert found.kept.tolist() == [[False, True, False], [False, True, False]]
    assert found.order.tolist() == [[0, 1, 2]] * 2
    assert (found.score, found.rows, found.lost, found.lead) == (None, 6, 4, 0.0)
    assert found.samples == ((0, 2), (1, 2))
    assert str(found) == "2 of 6 rows are the same, in their order: no output says their scores"
    pairs = np.array([[[1.0, 2.0], [3.0, 4.0]]], np.float32)
    found = match({"p": pairs + np.float32([[[0.1, 0], [0, 0.3]]])}, {"p": pairs}, 0.0)
    assert found.kept.tolist() == [[True, False]]
    # A quarter is allowed: twice that, of the largest, may be reached.
    assert match({"p": pairs + np.float32([[[2, 0], [0, 2.125]]])}, {"p": pairs}, 0.25).kept.tolist() == [[True, False]]


def test_padding_is_rows_of_nothing_but_zeros_or_minus_one():
    """A row is padding where all of its outputs hold one of the two, and not where one holds a number."""
    boxes = np.array([[[0.0, 0.0], [-1.0, -1.0], [0.0, -1.0], [0.0, 0.0]]])
    assert valid({"b": boxes, "s": np.array([[0.0, -1.0, 0.0, 0.5]])}).tolist() == [[False, False, True, True]]
    assert valid({"s": np.array([[0.0, -1.0, 1.0, -2.0]])}).tolist() == [[False, False, True, True]]


def test_outputs_of_as_many_rows_belong_together():
    """Sizes of a row may differ; other rows are another list, and an output without rows is alone."""
    arrays = {"a": np.zeros((2, 3)), "n": np.zeros(2), "b": np.zeros((2, 3, 4)), "c": np.zeros((2, 5))}
    assert groups(arrays) == [("a", "b"), ("n",), ("c",)]


def test_limits_may_be_reached():
    """A row that is just as far off as rows may be is the same, and boxes of just as much overlap are suppressed."""
    twenty = {"v": np.array([[20.0, 1.0]], np.float32)}
    assert match({"v": np.array([[21.0, 1.0]], np.float32)}, twenty, 0.0).lost == 0
    # Rows that are just as far off as is allowed stay, though others are closer.
    sixteen = {"v": np.array([[16.0, 15.75]], np.float32)}
    assert match({"v": np.array([[15.75, 16.0]], np.float32)}, sixteen, 1 / 64).order.tolist() == [[0, 1]]
    assert match({"v": np.array([[15.75, 16.0]], np.float32)}, sixteen, 1 / 65).order.tolist() == [[1, 0]]
    reference = detections([[0.875, 0.5, 0.5, 0.25]])
    # Six of twenty columns are shared with the first box.
    reference["boxes"][0, :2] = [[0, 0, 13, 10], [7, 0, 20, 10]]
    assert match(changed(reference, classes=[[1, 9, 3, 4]]), reference, 0.0).lead == 0.0
    # A box of the same score is as good.
    reference["boxes"][0, :2] = [[0, 0, 100, 100], [201, 205, 301, 305]]
    reference["boxes"][0, 2] = [200, 200, 300, 300]
    assert match(changed(reference, classes=[[1, 9, 3, 4]]), reference, 0.0).lead == 0.0


def test_numbers_of_an_output_of_zeros_differ_by_what_they_are():
    """An output that is zero everywhere has no largest to take a share of: its differences count as they are."""
    reference = {"s": np.array([[0.75, 0.5]], np.float32), "v": np.zeros((1, 2), np.float32)}
    found = match({**reference, "v": np.array([[0.046875, 0.0625]], np.float32)}, reference, 0.0)
    assert found.kept.tolist() == [[True, False]]


def test_two_rows_that_are_swapped_lead_by_what_is_between_them():
    """The shortest list that can be out of order is one of two, and no bit of what its scores differ by is lost."""
    reference = {"s": np.array([[1.0, 2.0**-30]], np.float32), "id": np.array([[1, 2]])}
    swapped = {name: array[:, ::-1] for name, array in reference.items()}
    found = match(swapped, reference, 0.0)
    assert (found.order.tolist(), found.lost, found.lead) == ([[1, 0]], 0, 1 - 2.0**-30)
