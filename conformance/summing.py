"""Outputs beside the reference's, measured as sums (see sums.py): what is summed up of each kind of output."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance import exact
from conformance.measures import (
    Grid,
    differences,
    fine,
    kl_divergence,
    margins,
    off_one,
    rounded_to,
    smallest_said,
    softmax,
)
from conformance.ranked import Matching, groups, match
from conformance.sums import KEPT, Flip, Form, OutputSums, Spread, Sums, Worst, worst_flips

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


THRESHOLD = 0.5
"""Where scores decide, unless the model says otherwise."""


@dataclass(frozen=True)
class Measured:
    """Sums of one output, and which samples have a decision that differs, (N,)."""

    sums: OutputSums
    wrong: NDArray[np.bool_]


def measure(
    actual: Arrays,
    reference: Arrays,
    kinds: Mapping[str, str],
    *,
    closest: Mapping[str, float] | None = None,
    undecided: Mapping[str, float] | None = None,
    grids: Mapping[str, Grid] | None = None,
    thresholds: Mapping[str, float] | None = None,
    start: int = 0,
) -> Sums:
    """Sums of outputs by name, of the samples from the number ``start`` on.

    Both map output names to arrays (N, …), or of any shape for a ``constant``. Two things that are measured hang on
    what is allowed, by output: rows of ranked outputs that differ by no more than ``closest`` are the same, and a score
    within ``undecided`` of its threshold, which ``thresholds`` says, has no decision. Both are 0 where they are not
    given. ``grids`` are the values of outputs that are integers inside the engine.
    """
    forms = {
        name: Form.of(actual[name], array, constant=kinds[name] == "constant", start=start)
        for name, array in reference.items()
        if name in actual
    }
    sound = [n for n, form in forms.items() if form.problem(n, constant=kinds[n] == "constant") is None]
    matched = _matchings([n for n in sound if kinds[n] == "ranked"], actual, reference, closest or {})
    found = {
        name: _of_ranked(actual[name], reference[name], matched[name])
        if name in matched
        else measure_output(
            kinds[name],
            actual[name],
            reference[name],
            undecided=(undecided or {}).get(name, 0.0),
            threshold=(thresholds or {}).get(name, THRESHOLD),
            grid=(grids or {}).get(name),
            start=start,
        )
        for name in sound
    }
    counts = [len(array) for name, array in reference.items() if kinds[name] != "constant" and array.ndim]
    # A constant is the same in every part, and counts in the first.
    wrong = {n: m.wrong for n, m in found.items() if kinds[n] != "constant" or not start}
    return Sums(
        start=start,
        samples=max(counts, default=min(len(reference), 1)),
        kinds={name: kinds[name] for name in reference},
        forms=forms,
        outputs={name: measured.sums for name, measured in found.items()},
        flipped=count_flipped(wrong),
        missing=frozenset(set(reference) - set(actual)),
        extra=frozenset(set(actual) - set(reference)),
    )


def _matchings(
    names: Sequence[str], actual: Arrays, reference: Arrays, closest: Mapping[str, float]
) -> dict[str, Matching]:
    """What belongs together in ranked outputs, matched once for all outputs of a group; by output name."""
    return {
        name: matching
        for group in groups({name: reference[name] for name in names})
        for close in [max(closest.get(n, 0.0) for n in group)]
        for matching in [match({n: actual[n] for n in group}, {n: reference[n] for n in group}, close)]
        for name in group
    }


def _of_ranked(actual: NDArray[Any], reference: NDArray[Any], matching: Matching) -> Measured:
    """One output of rows that were matched with the reference's."""
    actual = matching.aligned(actual)
    kept = matching.kept.reshape(*matching.kept.shape, *(1,) * (reference.ndim - 2))
    apart = np.where(kept, differences(actual, reference), 0.0)
    flips = tuple(Flip(sample, rows, 0, matching.lead, size=float(rows)) for sample, rows in matching.samples)
    wrong = np.zeros(len(reference), bool)
    wrong[[flip.sample for flip in flips]] = True
    sums = replace(
        _sums(actual, reference, apart),
        worst=worst_of(apart, actual, reference),
        decisions=matching.rows,
        wrong=matching.lost,
        flipped=len(flips),
        flips=worst_flips(flips),
        matching=matching,
        whole=reference.dtype.kind in "iub",
    )
    return Measured(sums, wrong)


def measure_output(
    kind: str,
    actual: NDArray[Any],
    reference: NDArray[Any],
    *,
    undecided: float = 0.0,
    threshold: float = THRESHOLD,
    grid: Grid | None = None,
    start: int = 0,
) -> Measured:
    """Sums of an output (N, …) of a kind other than ``ranked``, which nothing is wrong with but its values.

    ``start`` is the number of its first sample. A score that is no further than ``undecided`` from its ``threshold``
    has no decision. ``grid`` are the values of an output that is integer inside the engine.
    """
    if kind == "constant":
        # One sample, which is the whole array, in every part.
        digest = hashlib.sha256(np.ascontiguousarray(actual).tobytes()).hexdigest()
        once = (np.ascontiguousarray(array).reshape(1, -1) for array in (actual, reference))
        found = _integers(*once) if reference.dtype.kind in "iub" else Measured(_sums(*once), np.zeros(1, bool))
        return replace(found, sums=replace(found.sums, digest=digest))
    # Any other layout in memory might add up in another order.
    actual, reference = np.ascontiguousarray(actual), np.ascontiguousarray(reference)
    if kind == "integers":
        found = _integers(actual, reference)
    elif kind == "scores":
        found = _scores(actual, reference, threshold, undecided)
    elif kind == "values":
        found = Measured(
            replace(_sums(actual, reference), spread=Spread.of(actual, reference)), np.zeros(len(actual), bool)
        )
    else:
        found = _classes(kind, actual, reference, grid)
    return Measured(_from(found.sums, start), found.wrong)


def _from(sums: OutputSums, start: int) -> OutputSums:
    """Sums of samples whose first has the number ``start``."""
    if not start:
        return sums
    worst = replace(sums.worst, index=(sums.worst.index[0] + start, *sums.worst.index[1:]))
    return replace(sums, worst=worst, flips=tuple(replace(flip, sample=flip.sample + start) for flip in sums.flips))


def _sums(actual: NDArray[Any], reference: NDArray[Any], difference: NDArray[np.float64] | None = None) -> OutputSums:
    """What all kinds have: ``difference`` is what the mean is of, where that is another one than the largest's."""
    apart, magnitudes = differences(actual, reference), np.abs(reference.astype(np.float64))
    return OutputSums(
        samples=len(reference),
        elements=reference.size,
        worst=worst_of(apart, actual, reference),
        difference=exact.total(apart if difference is None else difference),
        magnitude=exact.total(magnitudes),
        largest=float(magnitudes.max()),
    )


def worst_of(difference: NDArray[np.float64], actual: NDArray[Any], reference: NDArray[Any]) -> Worst:
    """The worst element of outputs, all (N, …)."""
    worst = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
    return Worst(float(difference[worst]), worst, float(actual[worst]), float(reference[worst]))


def _classes(kind: str, actual: NDArray[Any], reference: NDArray[Any], grid: Grid | None) -> Measured:
    """Probabilities and logits, (N, …, classes)."""
    shape = reference.shape
    q, p = (array.reshape(-1, shape[-1]) for array in (actual, reference))
    if kind == "logits":
        sums = _sums(actual, reference)
        p, q = softmax(p), softmax(q)
        divergence = kl_divergence(q, p)
    else:
        grid = fine(grid)
        near = rounded_to(p, grid)
        sums = _sums(actual, reference, differences(q, near))
        divergence = kl_divergence(q, near, smallest_said(grid))
        off = off_one(q, near, grid.step) if grid else off_one(q, None)
        sums = replace(sums, off_one=float(off.max()))
    expected, found = p.argmax(axis=1), q.argmax(axis=1)
    wrong = (expected != found).reshape(shape[:-1])
    flips = _flips(wrong, *(array.reshape(shape[:-1]) for array in (margins(p), expected, found)))
    return _decided(replace(sums, divergence=exact.total(divergence)), wrong, flips)


def _scores(actual: NDArray[Any], reference: NDArray[Any], threshold: float, undecided: float) -> Measured:
    ours, theirs = actual.astype(np.float64), reference.astype(np.float64)
    distance = np.abs(theirs - threshold)
    wrong = ((ours > threshold) != (theirs > threshold)) & (distance > undecided)
    return _decided(_sums(actual, reference), wrong, _flips(wrong, distance, theirs > threshold, ours > threshold))


def _integers(actual: NDArray[Any], reference: NDArray[Any]) -> Measured:
    wrong = actual != reference
    flips = _flips(wrong, differences(actual, reference), reference, actual, margin=False)
    return _decided(_sums(actual, reference), wrong, flips)


def _decided(sums: OutputSums, wrong: NDArray[np.bool_], flips: Sequence[Flip]) -> Measured:
    samples = np.asarray(wrong.reshape(len(wrong), -1).any(axis=1), np.bool_)
    return Measured(
        replace(
            sums,
            decisions=wrong.size,
            wrong=int(wrong.sum()),
            flipped=int(samples.sum()),
            flips=worst_flips(flips),
        ),
        samples,
    )


def _flips(
    wrong: NDArray[np.bool_],
    size: NDArray[np.float64],
    expected: NDArray[Any],
    found: NDArray[Any],
    *,
    margin: bool = True,
) -> list[Flip]:
    """The largest wrong element of every sample that has one; all arrays (N, …)."""
    rows = np.where(wrong, size, -1.0).reshape(len(wrong), -1)
    places, largest = rows.argmax(axis=1), rows.max(axis=1)
    flips = []
    for i in np.argsort(-largest, kind="stable")[: min(KEPT, int((largest >= 0).sum()))]:
        place = tuple(int(p) for p in np.unravel_index(int(places[i]), wrong.shape[1:]))
        where, by = (int(i), *place), float(largest[i])
        flips.append(Flip(int(i), int(expected[where]), int(found[where]), by if margin else 0.0, place, by))
    return flips


def count_flipped(wrong: Mapping[str, NDArray[np.bool_]]) -> dict[tuple[str, ...], int]:
    """How many samples have a decision that differs in which outputs; ``wrong`` (N,) by output name."""
    names = list(wrong)
    if not names:
        return {}
    samples = np.zeros((max(len(array) for array in wrong.values()), len(names)), bool)
    for column, name in enumerate(names):
        samples[: len(wrong[name]), column] = wrong[name]
    if not samples.any():
        return {}
    rows, counts = np.unique(samples[samples.any(axis=1)], axis=0, return_counts=True)
    return {
        tuple(name for name, is_in in zip(names, row, strict=True) if is_in): int(count)
        for row, count in zip(rows, counts, strict=True)
    }
