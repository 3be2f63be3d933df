"""Ranked lists, as top-k and non-maximum suppression give them: rows are matched as sets, in order of their scores.

Outputs (N, rows, …) that have the same first two sizes belong together: row r of a sample is a box, its score and its
class. An engine's rows are matched with the reference's, whatever place they have. What is wrong then is:

- values of matched rows that differ,
- rows that the reference has and the engine does not, or the other way round: their share (``lost_share``), and by how
  much their score led the last row of the list, which is where rows drop out (``lead``). A box that overlaps one with a
  higher score hangs on that overlap as well, and counts with no lead,
- rows before others of a higher score: by how much (``lead``, too). Rows of one score may have any order.

Rows of nothing but zeros, or nothing but -1, are padding, and are not compared. Lists without any numbers that could be
scores, such as the ids of a top-k whose values are another output, are compared row by row: what belongs to such an id
is found by its place, and 0 is one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

FARTHEST = 0.05
"""Rows match where no value differs by more than this share of the largest, or twice what is allowed."""

HALF = 0.5
"""However much is allowed, rows that differ by more than this share of the largest are different ones."""

OVERLAPPING = 0.3
"""Boxes that share this much of their union may suppress each other: usual limits are 0.3 and more."""

PADDING = (0, -1)


@dataclass(frozen=True)
class Matching:
    """Rows of an engine beside the reference's.

    ``order`` (N, rows) says which row of the engine belongs to each of the reference's, ``kept`` (N, rows) where there
    is one. ``score`` names the output that ranks the rows, None where none does. ``lead`` and ``lost_share`` are those
    of the module, and ``samples`` the numbers of samples that lack rows, with how many, the worst first. ``in_order``
    says that rows were compared where they stand.
    """

    order: NDArray[np.intp]
    kept: NDArray[np.bool_]
    score: str | None
    rows: int
    lost: int
    lead: float
    samples: tuple[tuple[int, int], ...]
    in_order: bool = False

    @property
    def lost_share(self) -> float:
        """Share of the reference's rows that have no counterpart."""
        return self.lost / max(self.rows, 1)

    def aligned(self, actual: NDArray[Any]) -> NDArray[Any]:
        """An engine's output with its rows where the reference has them."""
        return actual[np.arange(len(actual))[:, None], self.order]

    def __str__(self) -> str:
        """What was matched, in words."""
        if self.in_order:
            return (
                f"{self.rows - self.lost} of {self.rows} rows are the same, in their order: no output says their scores"
            )
        by = f"ranked by {self.score!r}" if self.score else "no output says by which score they are ranked"
        return f"{self.rows - self.lost} of {self.rows} rows matched as sets, padding left out; {by}"


def aligned(actual: Arrays, reference: Arrays, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Outputs with the rows of those that ``names`` calls ranked where the reference has them; others as they are."""
    found = dict(actual)
    for group in groups({name: reference[name] for name in names}):
        matching = match({n: actual[n] for n in group}, {n: reference[n] for n in group}, 0.0)
        found |= {name: matching.aligned(actual[name]) for name in group}
    return found


def groups(reference: Arrays) -> list[tuple[str, ...]]:
    """Names of the outputs that belong together: those that have as many rows; one (N,) has none, and stays alone."""
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, array in reference.items():
        by_shape.setdefault(array.shape[:2], []).append(name)
    return [tuple(names) for names in by_shape.values()]


def match(actual: Arrays, reference: Arrays, allowed: float) -> Matching:
    """Match the rows of outputs that belong together, (N, rows, …) by name; ``allowed`` is the tolerance ``max``."""
    in_order = not any(array.ndim == 2 and array.dtype.kind == "f" for array in reference.values())
    if in_order:
        first = next(iter(reference.values()))
        theirs = ours = np.ones((first.shape[0], first.shape[1]), bool)
    else:
        theirs, ours = valid(reference), valid(actual)
    score = _score(reference, theirs)
    limit = min(max(2 * allowed, FARTHEST), HALF)
    count, rows = theirs.shape
    order = np.tile(np.arange(rows), (count, 1))
    kept, leads, samples, lost = np.zeros((count, rows), bool), [0.0], [], 0
    units = {name: float(np.abs(array).max()) or 1.0 for name, array in reference.items()}
    cut = _cut(reference, theirs, score)
    for i in range(count):
        cost = _costs({n: a[i] for n, a in actual.items()}, {n: a[i] for n, a in reference.items()}, units)
        if in_order:
            pairs = [(row, row) for row in np.flatnonzero(cost.diagonal() <= limit).tolist()]
        else:
            pairs = _in_place(cost, theirs[i], ours[i], allowed) or _pairs(cost, theirs[i], ours[i], limit)
        for row, other in pairs:
            order[i, row], kept[i, row] = other, True
        missing = [r for r in np.flatnonzero(theirs[i]).tolist() if not kept[i, r]]
        extra = sorted(set(np.flatnonzero(ours[i]).tolist()) - {other for _, other in pairs})
        if missing or extra:
            lost += max(len(missing), len(extra))
            samples.append((i, max(len(missing), len(extra))))
        if score is not None:
            unit = max(units[score], 1.0)
            for rank, outputs, which in ((reference, reference, missing), (actual, reference, extra)):
                leads += [_lead(rank, outputs, score, i, r, cut[i], theirs[i]) / unit for r in which]
            leads.append(_inversion(reference[score][i], pairs) / unit)
    samples.sort(key=lambda found: -found[1])
    return Matching(order, kept, score, int(theirs.sum()), lost, max(leads), tuple(samples), in_order)


def valid(outputs: Arrays) -> NDArray[np.bool_]:
    """Which rows are no padding, (N, rows)."""
    flat = [array.reshape(*array.shape[:2], -1) for array in outputs.values()]
    padding: NDArray[np.bool_] = np.logical_or.reduce(
        [np.logical_and.reduce([(a == p).all(axis=2) for a in flat]) for p in PADDING]
    )
    return ~padding


def _score(reference: Arrays, theirs: NDArray[np.bool_]) -> str | None:
    """The output (N, rows) of floats that falls from row to row in every sample; of several the one that tells most."""
    found = {}
    for name, array in reference.items():
        if array.ndim == 2 and array.dtype.kind == "f":
            falls = (np.diff(array, axis=1) <= 0) | ~theirs[:, 1:]
            if falls.all():
                found[name] = len(np.unique(array[theirs]))
    return max(found, key=lambda name: found[name], default=None)


def _cut(reference: Arrays, theirs: NDArray[np.bool_], score: str | None) -> NDArray[np.float64]:
    """Score at which rows drop out of each sample's list: the least of all where lists are not full, else its last."""
    if score is None or not theirs.any():
        return np.zeros(len(theirs))
    values = np.where(theirs, reference[score].astype(np.float64), np.inf).min(axis=1)
    full = theirs.all(axis=1)
    least = values[~full].min(initial=np.inf)
    found: NDArray[np.float64] = np.where(full, values, least if np.isfinite(least) else 0.0)
    return found


def _costs(actual: Arrays, reference: Arrays, units: Mapping[str, float]) -> NDArray[np.float64]:
    """Largest difference of each row of one sample to each of the reference's (rows, rows), as a share of ``units``.

    Rows whose integers differ are infinitely far apart.
    """
    worst: NDArray[np.float64] = np.zeros(1)
    for name, theirs in reference.items():
        rows = len(theirs)
        a = actual[name].astype(np.float64).reshape(rows, -1)
        b = theirs.astype(np.float64).reshape(rows, 1, -1)
        difference = np.abs(a - b).max(axis=2)
        exact = theirs.dtype.kind in "iub"
        worst = np.maximum(worst, np.where(difference > 0, np.inf, 0.0) if exact else difference / units[name])
    return worst


def _in_place(
    cost: NDArray[np.float64], theirs: NDArray[np.bool_], ours: NDArray[np.bool_], allowed: float
) -> list[tuple[int, int]]:
    """Pairs of the rows as they stand, where all agree; empty where one does not."""
    rows = np.flatnonzero(theirs).tolist()
    agree = (theirs == ours).all() and (cost.diagonal()[theirs] <= min(allowed, HALF)).all()
    return [(row, row) for row in rows] if agree else []


def _pairs(
    cost: NDArray[np.float64], theirs: NDArray[np.bool_], ours: NDArray[np.bool_], limit: float
) -> list[tuple[int, int]]:
    """Pairs of a reference's row and an engine's, the closest first; each row is in one at most."""
    cost = np.where(theirs[:, None] & ours[None, :] & (cost <= limit), cost, np.inf)
    # Equally close rows stay where they are.
    away = np.abs(np.subtract.outer(np.arange(len(cost)), np.arange(len(cost))))
    places = np.lexsort((away.ravel(), cost.ravel()))
    free, taken, pairs = set(range(len(cost))), set(range(len(cost))), []
    for place in places[: int(np.isfinite(cost).sum())]:
        row, other = divmod(int(place), len(cost))
        if row in free and other in taken:
            free.remove(row)
            taken.remove(other)
            pairs.append((row, other))
    return pairs


def _lead(
    rank: Arrays, reference: Arrays, score: str, sample: int, row: int, cut: float, theirs: NDArray[np.bool_]
) -> float:
    """By how much a row that has no counterpart led the last of the list; nothing where a better box overlaps it."""
    value = float(rank[score][sample, row])
    for name, array in reference.items():
        if array.ndim == 3 and array.shape[2] == 4 and array.dtype.kind == "f":
            better = theirs & (reference[score][sample] >= value)
            if rank is reference:
                better[row] = False
            if (_overlaps(rank[name][sample, row], array[sample][better]) >= OVERLAPPING).any():
                return 0.0
    return max(value - cut, 0.0)


def _overlaps(box: NDArray[Any], boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of one box with others (M, 4), by their corners."""
    box, boxes = box.astype(np.float64), boxes.astype(np.float64)
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) + np.clip(box[2:] - box[:2], 0, None).prod()
    return np.asarray(shared / np.maximum(areas - shared, 1e-30), np.float64)


def _inversion(scores: NDArray[Any], pairs: Sequence[tuple[int, int]]) -> float:
    """By how much a row comes before one of a higher score, by the reference's scores."""
    placed = np.array([scores[row] for row, _ in sorted(pairs, key=lambda pair: pair[1])], np.float64)
    if len(placed) < 2:
        return 0.0
    later = np.maximum.accumulate(placed[::-1])[::-1]
    return float((later - placed).max())
