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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance import exact
from conformance.measures import COARSEST, KL_FLOOR, MEAN_OF_ROWS, Grid, Scale, kl_divergence, margins, softmax, top
from conformance.summing import THRESHOLD, measure
from conformance.sums import Flip, Form

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.sums import OutputSums, Sums

__all__ = [
    "COARSEST",
    "KL_FLOOR",
    "MEAN_OF_ROWS",
    "THRESHOLD",
    "Flip",
    "Grid",
    "Scale",
    "kl_divergence",
    "margins",
    "softmax",
    "top",
]

FIGURES = ("max", "mean", "kl", "margin", "flips", "sum")
"""The figures of a comparison that rows of tolerances have, in the order in which they are shown."""

SHOWN = (*FIGURES, "spread")
"""All figures of a comparison, in that order."""

ANY = 1e9
"""A tolerance of this allows anything finite: the figure is shown and decides nothing."""

KINDS = ("probabilities", "scores", "logits", "values", "integers", "ranked", "constant")
"""What an output may hold; see the module."""

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
class OutputComparison:
    """One output compared: its figures, where it differs most, and its flips (largest margin first).

    All ``flipped`` samples are counted; ``flips`` are the worst of them, sums.KEPT at most.
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
    flipped: int = 0

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
    """The verdict on ``samples`` samples: ``passed`` is true only where nothing is wrong with any output.

    ``flips`` is how many samples change class, in one output or in several.
    """

    outputs: tuple[OutputComparison, ...]
    problems: tuple[str, ...]
    samples: int
    flips: int = 0

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
    allowed = each_of(reference, tolerance)
    sums = measure(
        actual,
        reference,
        kinds,
        closest={name: found.max for name, found in allowed.items()},
        undecided={name: undecided(found) for name, found in allowed.items()},
        grids=grids,
        thresholds=thresholds,
    )
    return judge(sums, allowed, scales=scales, thresholds=thresholds)


def each_of(names: Iterable[str], tolerance: Tolerance | Mapping[str, Tolerance]) -> Mapping[str, Tolerance]:
    """Tolerance of every output: one of all, or its own."""
    return dict.fromkeys(names, tolerance) if isinstance(tolerance, Tolerance) else tolerance


def undecided(tolerance: Tolerance) -> float:
    """How far the reference's score may be from its threshold and have no decision that has to be kept."""
    return min(tolerance.max, UNDECIDED)


def judge(
    sums: Sums,
    tolerance: Tolerance | Mapping[str, Tolerance],
    *,
    scales: Mapping[str, Scale] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Comparison:
    """Judge sums of outputs (see summing.py), of all samples at once or merged from parts: the same, bit for bit.

    They were measured for this tolerance, which is that of all outputs, or of each by its name, and with these
    thresholds; ``scales`` are as for :func:`compare`.
    """
    sound, allowed = sums.sound, each_of(sums.kinds, tolerance)
    outputs = tuple(
        _judged(
            _Given(name, sums.kinds[name], found, allowed[name], (scales or {}).get(name)),
            (thresholds or {}).get(name, THRESHOLD),
        )
        for name, found in sound.items()
    )
    flips = sum(count for names, count in sums.flipped.items() if not sound.keys().isdisjoint(names))
    return Comparison(outputs, sums.problems, sums.samples, flips)


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
    problem = Form.of(actual, reference).problem(name, constant=constant)
    return [problem] if problem else []


@dataclass(frozen=True)
class _Given:
    """Sums of one output that can be judged, and by what."""

    name: str
    kind: str
    sums: OutputSums
    tolerance: Tolerance
    scale: Scale | None

    @property
    def mean(self) -> float:
        """Mean difference of its elements."""
        return exact.mean(self.sums.difference, self.sums.elements)

    @property
    def margin(self) -> float:
        """The largest margin of a flip."""
        return self.sums.flips[0].margin if self.sums.flips else 0.0

    @property
    def share(self) -> float:
        """Share of its decisions that differ."""
        return self.sums.wrong / max(self.sums.decisions, 1)

    @property
    def relative(self) -> Scale:
        """What differences are relative to; one where the reference is zero, which has no scale."""
        scale = self.sums.scale.or_larger(self.scale)
        return Scale(scale.largest or 1.0, scale.mean or 1.0)

    def comparison(
        self,
        needed: Mapping[str, float],
        *,
        unit: float = 1.0,
        allowed: Mapping[str, float] | None = None,
        notes: tuple[str, ...] = (),
    ) -> OutputComparison:
        """Put figures in their order, each beside what is allowed."""
        limits = {name: getattr(self.tolerance, name) for name in SHOWN} | dict(allowed or {})
        return OutputComparison(
            output=self.name,
            kind=self.kind,
            samples=self.sums.samples,
            figures=tuple(Figure(n, needed[n], limits[n]) for n in SHOWN if n in needed),
            worst_index=self.sums.worst.index,
            worst_actual=self.sums.worst.actual,
            worst_expected=self.sums.worst.expected,
            flips=self.sums.flips,
            unit=unit,
            notes=notes,
            flipped=self.sums.flipped,
        )


def _judged(given: _Given, threshold: float) -> OutputComparison:
    if given.kind == "ranked":
        return _of_ranked(given)
    if given.kind == "integers" or (given.kind == "constant" and given.sums.decisions):
        return _of_integers(given)
    if given.kind == "scores":
        return _of_scores(given, threshold)
    return _of_values(given) if given.kind in {"values", "constant"} else _of_classes(given)


def _of_classes(given: _Given) -> OutputComparison:
    sums = given.sums
    if given.kind == "probabilities":
        unit, classes = 1.0, sums.elements // sums.decisions
        needed = {"max": sums.worst.difference, "mean": given.mean * classes * MEAN_OF_ROWS, "sum": sums.off_one}
    else:
        scale = given.relative
        unit = scale.largest
        needed = {"max": sums.worst.difference / unit, "mean": given.mean / scale.mean * MEAN_OF_ROWS}
    needed["kl"] = exact.mean(sums.divergence, sums.decisions)
    needed["margin"], needed["flips"] = given.margin, given.share
    return given.comparison(needed, unit=unit)


def _of_values(given: _Given) -> OutputComparison:
    sums, scale = given.sums, given.relative
    needed = {"max": sums.worst.difference / scale.largest, "mean": given.mean / scale.mean * MEAN_OF_ROWS}
    lost = sums.spread.lost(sums.samples, sums.largest) if sums.spread else None
    return given.comparison(needed if lost is None else {**needed, "spread": lost}, unit=scale.largest)


def _of_scores(given: _Given, threshold: float) -> OutputComparison:
    needed = {
        "max": given.sums.worst.difference,
        # Yes and no are two probabilities.
        "mean": given.mean * 2 * MEAN_OF_ROWS,
        "margin": given.margin,
        "flips": given.share,
    }
    within = undecided(given.tolerance)
    note = f"decisions at {threshold:g}; the reference was undecided within {within:.2g} of it"
    return given.comparison(needed, notes=(note,))


def _of_integers(given: _Given) -> OutputComparison:
    share = 0.0 if given.kind == "constant" else min(given.tolerance.flips, given.tolerance.integers)
    note = "nothing tells how close an integer was; a share may differ" if share else "all integers have to be the same"
    return given.comparison({"flips": given.share}, allowed={"flips": share}, notes=(note,))


def _of_ranked(given: _Given) -> OutputComparison:
    """One output of rows that were matched with the reference's."""
    sums, matching, scale = given.sums, given.sums.matching, given.relative
    if matching is None:
        raise ValueError(f"output {given.name!r} is ranked, and its rows were not matched")
    needed, unit = {"flips": matching.lost_share}, 1.0
    if not sums.whole:
        unit = 1.0 if given.name == matching.score and scale.largest <= 1 else scale.largest
        needed["max"] = sums.worst.difference / unit
        needed["mean"] = given.mean / scale.mean * MEAN_OF_ROWS
    if given.name == matching.score:
        needed["margin"] = matching.lead
    share = given.tolerance.flips if matching.score else min(given.tolerance.flips, given.tolerance.integers)
    return given.comparison(needed, unit=unit, allowed={"flips": share}, notes=(str(matching),))
