"""Differences that no largest or mean one shows: of single samples, of classes, and of flips, each in its own noise.

Every figure here is a ratio: a difference over the spread that runs of the model's twin have at that very place. A
place that runs hardly move allows little. What a sound engine reaches is found by leaving one run out and asking the
same of it. What all samples tell is summed up in :mod:`conformance.pairs`, part by part where they are many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.measures import margins, softmax
from conformance.pairs import ALIKE, PARTS, Pairs, classes_of, columns, log_shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

PRIOR = 4
"""The mean spread of all places counts in each as much as this many runs: few runs may agree by chance."""


def spreads(deviations: Array, axis: int = 0) -> NDArray[np.float64]:
    """Root mean square over runs of deviations (K, places), each drawn to that of all places: (places,)."""
    squares = (deviations.astype(np.float64) ** 2).mean(axis=axis)
    runs = deviations.shape[axis]
    return np.asarray(np.sqrt((runs * squares + PRIOR * squares.mean()) / (runs + PRIOR)), np.float64)


@dataclass(frozen=True)
class Known:
    """Answers of runs (K, n, …) beside the reference's own to the same samples (n, …), as figures take them."""

    runs: Array
    reference: Array


@dataclass(frozen=True)
class Paired:
    """A figure by what answers are summed up to; called, the same of answers and the reference's, arrays (N, …)."""

    of: Callable[[Pairs, Known, Known | None], float]

    def __call__(self, actual: Array, reference: Array, runs: Known, others: Known | None = None) -> float:
        """Figure of an engine's answers; ``others`` are samples that those of the runs are not like."""
        return self.of(Pairs.of(actual, reference), runs, others)


@Paired
def shift(pairs: Pairs, runs: Known, others: Known | None) -> float:
    """Largest change of a column's mean over the samples, such as of a class's share, in spreads of the runs'.

    The runs have some of the samples; ``others`` are such as those are not like. Rounding moves samples up and down; a
    wrong bias moves them all one way.
    """
    found = pairs.mean_change
    each = _errors(runs)
    # Of few samples a mean hangs on which they are: what their own spread leaves of it is added.
    sampled = spreads(each.reshape(-1, len(found))) ** 2 / pairs.samples
    spread = spreads(each.mean(axis=1)) ** 2 + sampled
    if others is not None:
        spread = spread + spreads(_errors(others).sum(axis=1)) ** 2 / pairs.samples**2
    return float((np.abs(found) / _some(np.sqrt(spread), pairs.largest)).max())


def _errors(known: Known) -> NDArray[np.float64]:
    """Errors of the runs, (K, n, columns)."""
    base = columns(known.reference)
    return np.stack([columns(run) - base for run in known.runs])


@Paired
def slope(pairs: Pairs, runs: Known, others: Known | None) -> float:
    """Change of how far answers reach from their middle, by regression on the reference's, in the runs' spread of it.

    Shares count by their logarithms, so that a factor on a layer's values, like a temperature, is a slope.
    """
    found, size = pairs.slope
    if size == 0:
        return 0.0
    logs = pairs.shares
    variance = float((_slopes(runs, logs=logs) ** 2).mean())
    if others is not None:
        own = float((_centred(others.reference, logs=logs) ** 2).sum()) / size
        variance += float(((_slopes(others, logs=logs) * own) ** 2).mean())
    return abs(found) / max(float(np.sqrt(variance)), ALIKE)


def _slopes(known: Known, *, logs: bool) -> NDArray[np.float64]:
    """Change of that in every run, (K,)."""
    base = _centred(known.reference, logs=logs)
    size = float((base**2).sum()) or 1.0
    return np.array([((_centred(run, logs=logs) - base) * base).sum() / size for run in known.runs])


def _centred(values: Array, *, logs: bool) -> NDArray[np.float64]:
    """Numbers around the middle: of each sample's logarithms where they are shares, of all samples otherwise."""
    flat = columns(values)
    return log_shares(flat) if logs else np.asarray(flat - flat.mean(axis=0), np.float64)


@Paired
def worst(pairs: Pairs, runs: Known, _: Known | None) -> float:
    """Largest difference of a sample (root mean square of its numbers), in the runs' spread at that sample."""
    actual, reference = pairs.kept
    origin = columns(reference)
    each = np.stack([_size(columns(run) - origin) for run in runs.runs])
    return float((_size(columns(actual) - origin) / _some(spreads(each), _largest(origin))).max())


@Paired
def excess(pairs: Pairs, runs: Known, _: Known | None) -> float:
    """Largest lead that a flip overcame, in the runs' spread of that lead; 0 without flips, for classes (N, K).

    The lead is the reference's, of its class over the one that the engine took instead.
    """
    actual, reference = pairs.kept
    expected, found = reference.argmax(axis=1), actual.argmax(axis=1)
    flipped = np.flatnonzero(expected != found)
    if not flipped.size:
        return 0.0
    wide, all_runs = reference.astype(np.float64), runs.runs.astype(np.float64)
    place = (np.arange(len(wide)), found)
    first = (np.arange(len(wide)), expected)
    lead = wide[first] - wide[place]
    each = all_runs[:, first[0], first[1]] - all_runs[:, place[0], place[1]] - lead
    # Where the engine took the same class there is no other to lead over: the second one stands for it.
    spread = np.sqrt((each[:, flipped] ** 2).mean(axis=0))
    typical, count = _lead_spread(wide, all_runs), len(all_runs)
    drawn = np.sqrt((count * spread**2 + PRIOR * typical**2) / (count + PRIOR))
    return float((lead[flipped] / _some(drawn, _largest(wide))).max())


@Paired
def net(pairs: Pairs, runs: Known, others: Known | None) -> float:
    """Largest net gain or loss of samples by a class, in what the runs' gains and losses spread by.

    One sample more or less is no finding, nor are as many as runs that saw none may have missed.
    """
    gained = (pairs.classes - pairs.expected_classes) / PARTS
    more = pairs.samples / len(runs.reference)
    variance = more * (spreads(_gains(runs)) ** 2 + 0.5 / len(runs.runs)) + 1
    if others is not None:
        variance = variance + spreads(_gains(others)) ** 2
    return float((np.abs(gained) / np.sqrt(variance)).max())


def _gains(known: Known) -> NDArray[np.float64]:
    """Samples that each class gains in every run, (K, classes)."""
    before = classes_of(known.reference)
    return np.stack([classes_of(run) - before for run in known.runs]) / PARTS


OF_CLASSES: dict[str, Paired] = {"shift": shift, "slope": slope, "worst": worst, "excess": excess, "net": net}
"""Figures of probabilities; of logits after their softmax."""

PAIRED = (*OF_CLASSES, "unrelated")
"""Names of all of them, in the order in which they are shown."""

OF_ALL: frozenset[str] = frozenset({"shift", "slope", "net"})
"""Figures of all samples together, which the runs tell of other samples than their own, too."""

OF_NUMBERS: dict[str, Paired] = {"shift": shift, "slope": slope, "worst": worst}
"""Figures of scores and values."""


def figures_of(kind: str, rank: int = 2) -> dict[str, Paired]:
    """Figures that an output of a kind and rank has; none for integers, ranked lists and constants."""
    if kind in {"probabilities", "logits"}:
        # Of several decisions in a sample none is the sample's.
        return OF_CLASSES if rank == 2 else OF_NUMBERS
    return OF_NUMBERS if kind in {"scores", "values"} else {}


def comparable(values: Array, kind: str) -> Array:
    """Outputs as the figures take them: logits (N, …, classes) as probabilities."""
    if kind != "logits":
        return values
    return softmax(values.reshape(-1, values.shape[-1])).reshape(values.shape)


def left_out(figure: Paired, reference: Array, runs: Sequence[Array]) -> tuple[float, ...]:
    """Figure of every run as if it were the engine, among the others."""
    return each_left_out({"": figure}, reference, runs)[""]


def each_left_out(
    figures: Mapping[str, Paired], reference: Array, runs: Sequence[Array]
) -> dict[str, tuple[float, ...]]:
    """The same of several figures, by their names."""
    stacked = np.stack(list(runs))
    others = [Known(np.delete(stacked, i, axis=0), reference) for i in range(len(stacked))]
    pairs = [Pairs.of(run, reference) for run in stacked]
    return {
        name: tuple(figure.of(*pair, None) for pair in zip(pairs, others, strict=True))
        for name, figure in figures.items()
    }


def unrelated(actual: Array, reference: Array) -> float | None:
    """Share of the variance over samples that the answers do not follow, 1 - r²: 1 for a constant, or a negative one.

    Each number is centred over the samples (N, …). None where the reference itself does not depend on them.
    """
    return Pairs.of(actual, reference).unrelated


def _size(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt((values**2).mean(axis=1)), np.float64)


def _largest(values: NDArray[np.float64]) -> float:
    return float(np.abs(values).max())


def _some(spread: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    """Spreads that can be divided by, of answers of a ``largest`` magnitude."""
    return np.maximum(spread, ALIKE * largest + 1e-300)


def _lead_spread(reference: NDArray[np.float64], runs: NDArray[np.float64]) -> float:
    """Root mean square over runs and samples of what the lead of the first class over the second moves by."""
    order = np.argsort(-reference, axis=1)[:, :2]
    rows = np.arange(len(reference))
    own = margins(reference)
    each = runs[:, rows, order[:, 0]] - runs[:, rows, order[:, 1]] - own
    return float(np.sqrt((each**2).mean()))
