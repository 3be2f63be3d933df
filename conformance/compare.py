"""Compare an engine's outputs with the reference's.

Probabilities saturate and hide errors, so no single figure decides. A comparison needs all of:

- ``max``: the largest absolute difference of any element,
- ``mean``: a tenth of the mean absolute difference over the mean magnitude. Ten probabilities have a mean of a tenth:
  for ten classes it is the mean absolute difference, and for three, for a thousand, and for logits the same thing,
- ``kl``: the mean over samples of the Kullback-Leibler divergence of the output from the reference, in nats,
- ``margin``: a top-1 flip is allowed only where the reference itself was undecided, that is, where its lead of the
  first class over the second is at most this,
- ``flips``: the share of samples whose top-1 class differs,
- ``sum``: how far the probabilities of a sample are from summing to one,
- ``spread``: the share of the variance of values over the samples that the answers lack, which is one for a constant.

Which of them an output has hangs on its kind:

- ``probabilities`` (N, …, classes): all but ``spread``; every row along the last axis has a class. Where an engine
  gives them as integers, they are multiples of a step. Mean, divergence and sum are then judged by the reference
  rounded to it: no engine can do better.
- ``logits`` (N, …, classes): all but ``sum`` and ``spread``, classes and divergence of their softmax.
- ``scores`` in [0, 1], each with a decision at a threshold of its own: ``max``; ``mean``, where each score counts as
  the two probabilities of yes and no; ``flips`` is the share of decisions that differ, and ``margin`` how far the
  reference was from the threshold there. What was no further from it than ``max`` allows (and UNDECIDED) was undecided.
- ``values``: ``max``, ``mean`` and ``spread``.
- ``integers``: ``flips`` is the share that differs. Nothing tells how close an id was, so in FP32 all are asked for.
- ``ranked``: rows of top-k or NMS, see ranked.py.
- ``constant``: one array without a batch axis, compared once: as ``values`` are, or exactly where it holds integers.

Largest differences of logits, values and constants are relative to the largest magnitude of the reference's output:
such outputs have no scale of their own. What must never pass does not depend on a tolerance: missing, extra or empty
outputs, wrong shapes or dtypes, NaN and infinity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.measures import (
    COARSEST,
    KL_FLOOR,
    MEAN_OF_ROWS,
    Grid,
    Scale,
    differences,
    kl_divergence,
    lost_spread,
    margins,
    of_distributions,
    softmax,
    top,
)
from conformance.ranked import Matching, groups, match

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COARSEST", "KL_FLOOR", "MEAN_OF_ROWS", "Grid", "Scale", "kl_divergence", "margins", "softmax", "top"]

FIGURES = ("max", "mean", "kl", "margin", "flips", "sum")
"""The figures of a comparison that rows of tolerances have, in the order in which they are shown."""

SHOWN = (*FIGURES, "spread")
"""All figures of a comparison, in that order."""

ANY = 1e9
"""A tolerance of this allows anything finite: the figure is shown and decides nothing."""

KINDS = ("probabilities", "scores", "logits", "values", "integers", "ranked", "constant")
"""What an output may hold; see the module."""

THRESHOLD = 0.5
"""Where scores decide, unless the model says otherwise."""

UNDECIDED = 0.05
"""A score that is further than this from its threshold is decided, however wide a tolerance is."""

LOST_SPREAD = 0.5
"""The share of the variance of values that may be lost: a guess that knows no input loses all of it."""


@dataclass(frozen=True)
class Tolerance:
    """What is allowed, figure by figure (see the module), and why.

    ``spread`` and ``integers``, the share of integers that may differ at most, are in no row: they hang on the
    precision alone.
    """

    max: float
    mean: float
    kl: float
    margin: float
    flips: float
    sum: float
    why: str = ""
    spread: float = LOST_SPREAD
    integers: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what would let everything pass."""
        for name in (*FIGURES, "spread", "integers"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"tolerance {name} is {value!r}; allowed: a finite number ≥ 0")


ANYTHING = Tolerance(max=ANY, mean=ANY, kl=ANY, margin=ANY, flips=ANY, sum=ANY, why="measuring")
"""Allows anything finite, where only what is needed is of interest."""


@dataclass(frozen=True)
class Figure:
    """One figure of a comparison: what the outputs would have needed, and what is allowed.

    ``beside`` puts it beside what sound engines reach, in words, where that is known.
    """

    name: str
    needed: float
    allowed: float
    beside: str = ""

    @property
    def passed(self) -> bool:
        """Whether what is needed is allowed; NaN never is."""
        return bool(self.needed <= self.allowed)

    @property
    def judged(self) -> bool:
        """Whether it decides: where all classes may change, or anything is allowed, other figures do alone."""
        return not (self.allowed >= ANY or (self.name == "flips" and self.allowed >= 1))

    def __str__(self) -> str:
        """Line such as ``max 2.1e-03 of 5.0e-03 allowed``."""
        return f"{self.name} {self.needed:.2e} of {self.allowed:.2e} allowed"


@dataclass(frozen=True)
class Flip:
    """A sample whose top-1 class differs, and the reference's lead of its first class over its second there.

    Where a sample has several decisions or integers it is the worst of them, at ``place`` in the sample; the margin of
    scores is the reference's distance from the threshold, and that of integers 0.
    """

    sample: int
    expected: int
    actual: int
    margin: float
    place: tuple[int, ...] = ()


@dataclass(frozen=True)
class OutputComparison:
    """One output compared: its figures, where it differs most, and its flips (largest margin first).

    ``unit`` is the magnitude that ``max`` is given in: 1 for probabilities, scores and integers, else the largest one.
    ``notes`` are sentences on what was matched or decided. The first index of a constant is 0, its one sample.
    """

    output: str
    kind: str
    samples: int
    figures: tuple[Figure, ...]
    worst_index: tuple[int, ...]
    worst_actual: float
    worst_expected: float
    flips: tuple[Flip, ...]
    unit: float
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every figure is within what is allowed."""
        return all(f.passed for f in self.figures)

    @property
    def worst_sample(self) -> int:
        """The sample to look at first: the worst flip where the margin failed, else the worst element's."""
        failed = {f.name for f in self.figures if not f.passed}
        return self.flips[0].sample if "margin" in failed and self.flips else self.worst_index[0]

    def figure(self, name: str) -> Figure | None:
        """Find a figure by name; None where this kind of output has none."""
        return next((f for f in self.figures if f.name == name), None)


@dataclass(frozen=True)
class Comparison:
    """The verdict on ``samples`` samples: ``passed`` is true only where nothing is wrong with any output."""

    outputs: tuple[OutputComparison, ...]
    problems: tuple[str, ...]
    samples: int

    @property
    def passed(self) -> bool:
        """Whether there is no problem and every output is within its tolerance (and there is one at all)."""
        return not self.problems and bool(self.outputs) and all(o.passed for o in self.outputs)

    def figure(self, name: str) -> Figure | None:
        """Worst value of a figure over the outputs, by needed over allowed; None where no output has it."""
        found = [f for o in self.outputs if (f := o.figure(name))]
        # Where all may flip, needed over allowed is none.
        return max(found, key=lambda f: (_usage(f), f.needed), default=None)

    @property
    def flips(self) -> int:
        """How many samples change class, in one output or in several."""
        return len({flip.sample for output in self.outputs for flip in output.flips})

    @property
    def usage(self) -> float:
        """The largest needed/allowed of all figures: above one fails; infinite where there is a problem."""
        return np.inf if self.problems else max((_usage(f) for o in self.outputs for f in o.figures), default=np.inf)

    def describe(self) -> str:
        """One line for each output: what is wrong, or how close it came."""
        lines = list(self.problems)
        for output in self.outputs:
            failed = [str(f) for f in output.figures if not f.passed]
            text = "; ".join(failed or [str(f) for f in output.figures])
            lines.append(f"{output.output}: {'FAILED: ' if failed else 'passed: '}{text}")
        return "\n".join(lines)


def _usage(figure: Figure) -> float:
    if not figure.judged and np.isfinite(figure.needed):
        return 0.0
    if figure.allowed == 0:
        return 0.0 if figure.needed == 0 else np.inf
    return figure.needed / figure.allowed if np.isfinite(figure.needed) else np.inf


def compare(
    actual: Mapping[str, NDArray[Any]],
    reference: Mapping[str, NDArray[Any]],
    tolerance: Tolerance | Mapping[str, Tolerance],
    kinds: Mapping[str, str],
    *,
    scales: Mapping[str, Scale] | None = None,
    grids: Mapping[str, Grid] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Comparison:
    """Compare outputs by name with the reference's.

    Both map output names to arrays (N, …), or of any shape for a ``constant``; ``kinds`` says of each output what it
    holds, one of KINDS. ``tolerance`` is that of all, or of each by its name.
    ``scales`` gives magnitudes that outputs without a scale are known to reach: a few samples may
    have small ones only. ``grids`` says of which outputs are integers inside the engine, ``thresholds`` where scores
    decide, if not at THRESHOLD. Never raises for what an engine may get wrong: that is a problem in the result.
    Raises ValueError for an unknown kind or an output without one.
    """
    for name in reference:
        if kinds.get(name) not in KINDS:
            raise ValueError(f"output {name!r} is of kind {kinds.get(name)!r}; allowed: {', '.join(KINDS)}")
    problems, sound = name_problems(actual, reference), []
    for name in filter(actual.__contains__, reference):
        found = structural_problems(name, actual[name], reference[name], constant=kinds[name] == "constant")
        problems += found
        sound += [] if found else [name]
    allowed = dict.fromkeys(reference, tolerance) if isinstance(tolerance, Tolerance) else tolerance
    ranked = _matchings([n for n in sound if kinds[n] == "ranked"], actual, reference, allowed)
    outputs = []
    for name in sound:
        scale, grid = (scales or {}).get(name), (grids or {}).get(name)
        given = _Given(name, kinds[name], actual[name], reference[name], allowed[name], scale, grid)
        if name in ranked:
            outputs.append(_of_ranked(given, ranked[name]))
        else:
            outputs.append(_compare_output(given, (thresholds or {}).get(name, THRESHOLD)))
    counts = [len(array) for name, array in reference.items() if kinds[name] != "constant"]
    return Comparison(tuple(outputs), tuple(problems), max(counts, default=min(len(reference), 1)))


def _matchings(
    names: Sequence[str],
    actual: Mapping[str, NDArray[Any]],
    reference: Mapping[str, NDArray[Any]],
    tolerances: Mapping[str, Tolerance],
) -> dict[str, Matching]:
    """What belongs together in ranked outputs, matched once for all outputs of a group; by output name."""
    return {
        name: matching
        for group in groups({name: reference[name] for name in names})
        for close in [max(tolerances[n].max for n in group)]
        for matching in [match({n: actual[n] for n in group}, {n: reference[n] for n in group}, close)]
        for name in group
    }


def name_problems(actual: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> list[str]:
    """Problems with the names: outputs that are missing, and those that should not be there."""
    problems = [] if reference else ["the reference has no outputs"]
    if missing := sorted(set(reference) - set(actual)):
        problems.append(f"missing outputs: {', '.join(missing)}")
    if extra := sorted(set(actual) - set(reference)):
        problems.append(f"extra outputs: {', '.join(extra)}")
    return problems


def structural_problems(
    name: str, actual: NDArray[Any], reference: NDArray[Any], *, constant: bool = False
) -> list[str]:
    """Problems with an output whatever the tolerance: shape, dtype, emptiness, NaN and infinity.

    A ``constant`` may be a single number; anything else has a first axis of samples.
    """
    if not isinstance(actual, np.ndarray):
        return [f"{name}: is {type(actual).__name__}; expected an array"]
    if actual.dtype != reference.dtype:
        return [f"{name}: dtype {actual.dtype}; expected {reference.dtype}"]
    if actual.shape != reference.shape:
        return [f"{name}: shape {actual.shape}; expected {reference.shape}"]
    if actual.size == 0 or not (actual.ndim or constant):
        return [f"{name}: no samples, shape {actual.shape}; nothing was compared"]
    for who, array in (("output", actual), ("reference", reference)):
        bad = ~np.isfinite(array)
        if bad.any():
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            share = f"{int(bad.sum())} of {bad.size}"
            return [f"{name}: {share} elements of the {who} are NaN or infinite, the first at {first}"]
    return []


@dataclass(frozen=True)
class _Given:
    """One output that can be compared, and by what."""

    name: str
    kind: str
    actual: NDArray[Any]
    reference: NDArray[Any]
    tolerance: Tolerance
    scale: Scale | None
    grid: Grid | None

    @property
    def relative(self) -> Scale:
        """What differences are relative to; one where the reference is zero, which has no scale."""
        scale = Scale.of(self.reference).or_larger(self.scale)
        return Scale(scale.largest or 1.0, scale.mean or 1.0)

    def comparison(
        self,
        needed: Mapping[str, float],
        difference: NDArray[np.float64],
        *,
        unit: float = 1.0,
        flips: tuple[Flip, ...] = (),
        allowed: Mapping[str, float] | None = None,
        notes: tuple[str, ...] = (),
    ) -> OutputComparison:
        """Put figures in their order, each beside what is allowed; ``difference`` tells the worst element."""
        worst = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
        limits = {name: getattr(self.tolerance, name) for name in SHOWN} | dict(allowed or {})
        return OutputComparison(
            output=self.name,
            kind=self.kind,
            samples=len(self.reference),
            figures=tuple(Figure(n, needed[n], limits[n]) for n in SHOWN if n in needed),
            worst_index=worst,
            worst_actual=float(self.actual[worst]),
            worst_expected=float(self.reference[worst]),
            flips=flips,
            unit=unit,
            notes=notes,
        )


def _compare_output(given: _Given, threshold: float) -> OutputComparison:
    if given.kind == "constant":
        # One sample, which is the whole array.
        once = given.actual.reshape(1, -1), given.reference.reshape(1, -1)
        given = replace(given, actual=once[0], reference=once[1])
    if given.kind == "integers" or (given.kind == "constant" and given.reference.dtype.kind in "iub"):
        return _of_integers(given)
    if given.kind == "scores":
        return _of_scores(given, threshold)
    return _of_values(given) if given.kind in {"values", "constant"} else _of_classes(given)


def _of_classes(given: _Given) -> OutputComparison:
    """Probabilities and logits, (N, …, classes)."""
    actual, reference = (array.reshape(-1, array.shape[-1]) for array in (given.actual, given.reference))
    difference, unit = differences(actual, reference), 1.0
    if given.kind == "probabilities":
        needed = {"max": float(difference.max())}
        needed |= of_distributions(
            actual, reference, given.grid if given.grid and given.grid.step <= COARSEST else None
        )
        p, q = reference, actual
    else:
        unit = given.relative.largest
        needed = {"max": float(difference.max()) / unit}
        needed["mean"] = float(difference.mean()) / given.relative.mean * MEAN_OF_ROWS
        p, q = softmax(reference), softmax(actual)
        needed["kl"] = float(kl_divergence(q, p).mean())
    expected, found, lead = p.argmax(axis=1), q.argmax(axis=1), margins(p)
    shape = given.reference.shape
    wrong = (expected != found).reshape(shape[:-1])
    flips = _worst_of_samples(wrong, *(array.reshape(shape[:-1]) for array in (lead, expected, found)))
    needed["margin"] = flips[0].margin if flips else 0.0
    needed["flips"] = float(wrong.mean())
    return given.comparison(needed, difference.reshape(shape), unit=unit, flips=flips)


def _of_values(given: _Given) -> OutputComparison:
    difference, scale = differences(given.actual, given.reference), given.relative
    needed = {"max": float(difference.max()) / scale.largest}
    needed["mean"] = float(difference.mean()) / scale.mean * MEAN_OF_ROWS
    lost = lost_spread(given.actual, given.reference)
    return given.comparison(needed if lost is None else {**needed, "spread": lost}, difference, unit=scale.largest)


def _of_scores(given: _Given, threshold: float) -> OutputComparison:
    actual, reference = given.actual.astype(np.float64), given.reference.astype(np.float64)
    difference, distance = differences(actual, reference), np.abs(reference - threshold)
    undecided = min(given.tolerance.max, UNDECIDED)
    wrong = ((actual > threshold) != (reference > threshold)) & (distance > undecided)
    flips = _worst_of_samples(wrong, distance, reference > threshold, actual > threshold)
    needed = {
        "max": float(difference.max()),
        # Yes and no are two probabilities.
        "mean": float(difference.mean()) * 2 * MEAN_OF_ROWS,
        "margin": float(distance[wrong].max(initial=0.0)),
        "flips": float(wrong.mean()),
    }
    note = f"decisions at {threshold:g}; the reference was undecided within {undecided:.2g} of it"
    return given.comparison(needed, difference, flips=flips, notes=(note,))


def _of_integers(given: _Given) -> OutputComparison:
    actual, reference = given.actual, given.reference
    wrong = actual != reference
    flips = _worst_of_samples(wrong, differences(actual, reference), reference, actual, margin=False)
    share = 0.0 if given.kind == "constant" else min(given.tolerance.flips, given.tolerance.integers)
    note = "nothing tells how close an integer was; a share may differ" if share else "all integers have to be the same"
    allowed = {"flips": share}
    return given.comparison(
        {"flips": float(wrong.mean())}, differences(actual, reference), flips=flips, allowed=allowed, notes=(note,)
    )


def _worst_of_samples(
    wrong: NDArray[np.bool_],
    size: NDArray[np.float64],
    expected: NDArray[Any],
    found: NDArray[Any],
    *,
    margin: bool = True,
) -> tuple[Flip, ...]:
    """The largest wrong element of every sample that has one, the largest first; all arrays (N, …)."""
    rows = np.where(wrong, size, -1.0).reshape(len(wrong), -1)
    places, largest = rows.argmax(axis=1), rows.max(axis=1)
    samples = [i for i in np.argsort(-largest, kind="stable") if largest[i] >= 0]
    flips = []
    for i in samples:
        place = tuple(int(p) for p in np.unravel_index(int(places[i]), wrong.shape[1:]))
        where = (int(i), *place)
        flips.append(Flip(int(i), int(expected[where]), int(found[where]), float(largest[i]) if margin else 0.0, place))
    return tuple(flips)


def _of_ranked(given: _Given, matching: Matching) -> OutputComparison:
    """One output of rows that were matched with the reference's."""
    given = replace(given, actual=matching.aligned(given.actual))
    actual, reference = given.actual, given.reference
    number = reference.dtype.kind not in "iub"
    difference = np.where(
        matching.kept.reshape(*matching.kept.shape, *(1,) * (reference.ndim - 2)),
        differences(actual, reference),
        0.0,
    )
    scale = given.relative
    needed = {"flips": matching.lost_share}
    if number:
        unit = 1.0 if given.name == matching.score and scale.largest <= 1 else scale.largest
        needed["max"] = float(difference.max()) / unit
        needed["mean"] = float(difference.mean()) / scale.mean * MEAN_OF_ROWS
    if given.name == matching.score:
        needed["margin"] = matching.lead
    share = given.tolerance.flips if matching.score else min(given.tolerance.flips, given.tolerance.integers)
    flips = tuple(Flip(sample, rows, 0, matching.lead) for sample, rows in matching.samples)
    return given.comparison(
        needed, difference, unit=unit if number else 1.0, flips=flips, allowed={"flips": share}, notes=(str(matching),)
    )
