"""What a file computes, part by part: what differs between one that was brought and the model's own, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.inside import operation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

MOST = 4
"""Files with more other operators than this were written in another way, and tell nothing of each other."""

SHOWN = 3
"""The most differences that are told."""

SIZED = 8
"""Constants of so many numbers at least count as weights."""

ROUNDED = 0.05
"""Weights that are closer than this share of the largest are the same ones, rounded otherwise."""

ALIKE = 1e-4
"""Numbers whose ratios or differences spread by less than this share were changed by one factor, or one sum."""


EITHER_WAY = frozenset({"ADD", "MUL", "MAX", "MIN", "MAXIMUM", "MINIMUM", "SUM", "EQUAL", "AND", "OR"})
"""Operators whose inputs may stand in any order."""


@dataclass(frozen=True, eq=False)
class Part:
    """One operator of a file: its ``name`` there, its options in words, and the constants that it is given.

    ``scale`` says that the constants tell which numbers integers stand for. ``takes`` names the parts whose results it
    takes, in order, or the model's inputs.
    """

    operator: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    constants: Sequence[Array] = ()
    scale: bool = False
    takes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Operator and place, such as ``Conv 'functional_1/conv2d_1/Conv2D'``: all of it, as the end may be alike."""
        place = operation(self.name)
        return f"{self.operator} '{place}'" if place else self.operator


def differing(brought: Sequence[Part], own: Sequence[Part]) -> str:
    """What differs between two files of one format; empty where nothing does, or they were written in other ways."""
    if not brought or not own:
        return ""
    pairs, found = _aligned(brought, own)
    if found is None:
        return ""
    found += _wired_otherwise(brought, own)
    for one, two in _exchanged(pairs):
        found.append(f"{one[1]} and {two[1]} have each other's numbers")
        pairs = [pair for pair in pairs if pair not in (one, two)]
    weights = [_weights(ours) for _, ours in pairs]
    others = [pair for pair, held in zip(pairs, weights, strict=True) if held and _other_weights(*pair)]
    if len(others) > 1 and 2 * len(others) > sum(map(bool, weights)):
        furthest = max(_apart(a, b) for pair in others for a, b in zip(*map(_weights, pair), strict=False))
        which = f"{len(others)} of {sum(map(bool, weights))} layers"
        found.append(
            f"{which} have weights that are rounded otherwise, by up to {furthest:.2g} of the largest"
            if furthest < ROUNDED
            else f"{which} have other weights: another training run, or a stale export"
        )
        pairs = [pair for pair in pairs if pair not in others]
    scales = [pair for pair in pairs if pair[1].scale and _told(*pair)]
    if len(scales) > SHOWN:
        found.append(f"{len(scales)} of {sum(ours.scale for _, ours in pairs)} scales are others: another calibration")
        pairs = [pair for pair in pairs if pair not in scales]
    found += [f"{ours}: {what}" for theirs, ours in pairs if (what := "; ".join(_told(theirs, ours)))]
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def _aligned(brought: Sequence[Part], own: Sequence[Part]) -> tuple[list[tuple[Part, Part]], list[str] | None]:
    """Parts of both that belong together, and in words what else there is; None where that is too much."""
    if len(brought) == len(own):
        changed = [(b, o) for b, o in zip(brought, own, strict=True) if b.operator != o.operator]
        if len(changed) <= MOST:
            pairs = [(b, o) for b, o in zip(brought, own, strict=True) if b.operator == o.operator]
            return pairs, [f"{b.operator} for {o}" for b, o in changed]
    matcher = SequenceMatcher(None, [o.operator for o in own], [b.operator for b in brought], autojunk=False)
    pairs, told, count = [], [], 0
    for what, o_start, o_stop, b_start, b_stop in matcher.get_opcodes():
        if what == "equal":
            pairs += list(zip(brought[b_start:b_stop], own[o_start:o_stop], strict=True))
            continue
        lacking, more = own[o_start:o_stop], brought[b_start:b_stop]
        count += max(len(lacking), len(more))
        if lacking and more:
            told.append(f"{', '.join(p.operator for p in more)} for {', '.join(map(str, lacking))}")
        elif lacking:
            told.append(f"{', '.join(map(str, lacking))} left out")
        else:
            told.append(f"{', '.join(p.operator for p in more)} in addition{_before(own, o_start)}")
    return pairs, told if count <= MOST else None


def _wired_otherwise(brought: Sequence[Part], own: Sequence[Part]) -> list[str]:
    """Parts that take the results of others than those of their names in the model's own file do, in words.

    Only names tell what belongs together here: where a file has others, it was written in another way. What takes
    another result since a part was left out is told by that.
    """
    times = Counter(part.name for part in own)
    known = {part.name: part for part in own if times[part.name] == 1}
    inputs = {name for part in own for name in part.takes} - {*times}
    places, kept = {*known, *inputs}, {part.name for part in brought} | inputs
    found = []
    for theirs in brought:
        ours = known.get(theirs.name)
        if ours is None or ours.operator != theirs.operator or not theirs.takes or theirs.takes == ours.takes:
            continue
        if not {*theirs.takes} <= places or not {*ours.takes} <= kept:
            continue
        if sorted(theirs.takes) != sorted(ours.takes):
            lacking = _places(sorted({*ours.takes} - {*theirs.takes}))
            more = _places(sorted({*theirs.takes} - {*ours.takes}))
            found.append(f"{ours} takes {more or 'one twice'}" + (f" in place of {lacking}" if lacking else ""))
        elif ours.operator.upper() not in EITHER_WAY:
            found.append(f"{ours} takes the same in another order: {_places(theirs.takes)}")
    return found if len(found) <= MOST else []


def _places(names: Sequence[str]) -> str:
    return ", ".join(f"'{operation(name)}'" for name in names)


def _exchanged(pairs: Sequence[tuple[Part, Part]]) -> list[tuple[tuple[Part, Part], tuple[Part, Part]]]:
    """Two layers each that have the other's weights."""
    others = [pair for pair in pairs if _weights(pair[1]) and not _same(*map(_weights, pair))]
    return [
        (one, two)
        for one, two in (combinations(others, 2) if len(others) <= MOST else ())
        if _same(_weights(one[0]), _weights(two[1])) and _same(_weights(two[0]), _weights(one[1]))
    ]


def _same(some: Sequence[Array], others: Sequence[Array]) -> bool:
    return len(some) == len(others) and all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


def _before(own: Sequence[Part], place: int) -> str:
    return f" before {own[place]}" if place < len(own) else " at the end"


def _weights(part: Part) -> list[Array]:
    return [] if part.scale else [a for a in part.constants if a.size >= SIZED and a.dtype.kind in "fiu"]


def _apart(theirs: Array, ours: Array) -> float:
    """Largest difference of two arrays, over the largest number; infinite where their shapes differ."""
    if theirs.shape != ours.shape:
        return float("inf")
    a, b = theirs.astype(np.float64), ours.astype(np.float64)
    return float(np.abs(a - b).max()) / (float(np.abs(b).max()) or 1.0)


def _other_weights(theirs: Part, ours: Part) -> bool:
    """Whether a layer has other numbers throughout: more than half of them."""
    pairs = list(zip(_weights(theirs), _weights(ours), strict=False))
    return any(a.shape == b.shape and 2 * np.count_nonzero(a != b) > a.size and not _by_rule(a, b) for a, b in pairs)


def _by_rule(theirs: Array, ours: Array) -> bool:
    """Whether numbers were changed in a way that can be told, and not by another training."""
    return not described(theirs, ours).startswith(_ANY)


def _told(theirs: Part, ours: Part) -> list[str]:
    """What differs between two parts of one operator."""
    keys = [k for k in {**ours.options, **theirs.options} if theirs.options.get(k) != ours.options.get(k)]
    found = [f"{k} {theirs.options.get(k, 'by default')} for {ours.options.get(k, 'the default')}" for k in keys]
    if len(theirs.constants) != len(ours.constants):
        return [*found, f"{len(theirs.constants)} constants for {len(ours.constants)}"]
    for a, b in zip(theirs.constants, ours.constants, strict=True):
        if a.shape != b.shape or a.dtype.kind not in "fiub" or b.dtype.kind not in "fiub":
            found += [f"a constant of {a.shape} for one of {b.shape}"] if a.shape != b.shape else []
        elif not np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"):
            found.append(described(a, b))
    return found


_ANY = "other numbers"


def described(theirs: Array, ours: Array) -> str:
    """How numbers differ from others of their shape, in words."""
    a, b = theirs.astype(np.float64), ours.astype(np.float64)
    if a.size == 1:
        return f"{a.item():.6g} for the number {b.item():.6g}"
    whole = _whole(a, b)
    if whole:
        return f"all {a.size:,} numbers {whole}"
    if _same_sums(a, b):
        for name, other in _orders(a, b):
            if np.array_equal(other, a):
                return f"the same numbers, {name}"
    axis, places = _slices(a, b)
    if places is not None:
        at = f"numbers at {', '.join(map(str, places[:SHOWN]))}{', …' if len(places) > SHOWN else ''} of axis {axis}"
        rest = _whole(np.take(a, places, axis), np.take(b, places, axis))
        return f"the {at} {rest or 'are others'} ({len(places)} of {a.shape[axis]})"
    count = int(np.count_nonzero(a != b))
    return f"{_ANY}: {count:,} of {a.size:,} differ, by up to {_apart(theirs, ours):.2g} of the largest"


def _whole(a: NDArray[np.float64], b: NDArray[np.float64]) -> str:
    """What was done to all numbers alike; empty where nothing that is known."""
    if not a.any():
        return "are 0"
    if a.size == 1:
        return f"are {a.item():.4g} for {b.item():.4g}"
    held = b != 0
    if held.any() and not a[~held].any():
        ratios = a[held] / b[held]
        if np.ptp(ratios) <= ALIKE * abs(ratios.mean()):
            return f"are {ratios.mean():.6g} times as large"
    steps = a - b
    if np.ptp(steps) <= ALIKE * abs(steps.mean()):
        return f"are larger by {steps.mean():.4g}" if steps.mean() > 0 else f"are smaller by {-steps.mean():.4g}"
    return ""


def _same_sums(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether numbers may be the same ones in another order: to try all orders of large layers takes long."""
    return bool(np.isclose(a.sum(), b.sum(), rtol=1e-6, atol=1e-6) and np.isclose((a**2).sum(), (b**2).sum()))


def _orders(a: NDArray[np.float64], b: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """The numbers in other orders that mistakes put them in, each with its name."""
    for axis, size in enumerate(b.shape):
        if size > 1:
            yield f"reversed along axis {axis}", np.flip(b, axis)
            for by in (1, -1):
                yield f"moved by {by} along axis {axis}", np.roll(b, by, axis)
            if order := _order(np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)):
                yield f"in another order along axis {axis}", np.take(b, order, axis)
    for one in range(b.ndim):
        for two in range(one):
            if b.shape[one] == b.shape[two] > 1:
                yield f"with axes {two} and {one} exchanged", np.swapaxes(b, one, two)
    if np.array_equal(np.sort(a, axis=None), np.sort(b, axis=None)):
        yield "in another order", a


def _order(a: NDArray[np.float64], b: NDArray[np.float64]) -> list[int]:
    """Places in ``b`` that the slices of ``a`` come from; empty where they are not the same ones."""
    places = {slice_.tobytes(): place for place, slice_ in enumerate(b)}
    found = [places.get(slice_.tobytes(), -1) for slice_ in a]
    return found if sorted(found) == list(range(len(b))) else []


def _slices(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[int, list[int] | None]:
    """Axis along which the fewest slices differ, and which; None where those are most of them along every axis."""
    found: tuple[float, int, list[int]] | None = None
    for axis, size in enumerate(a.shape):
        others = np.flatnonzero((np.moveaxis(a, axis, 0) != np.moveaxis(b, axis, 0)).reshape(size, -1).any(axis=1))
        if size > 1 and 2 * len(others) <= size and (found is None or len(others) / size < found[0]):
            found = len(others) / size, axis, others.tolist()
    return (found[1], found[2]) if found else (0, None)
