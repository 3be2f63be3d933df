"""The rule: what sound conversions of a model reach at a stated confidence, told by runs of its twin.

For every figure the runs' values give the bound that the next run is below with CONFIDENCE: of their logarithms, which
are close to normal, by Student's distribution; of counts by what is predicted from theirs. A real engine is no further
run: what the twin leaves out is covered by one factor a precision, which was measured on models (docs/noise.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.compare import ANY, ANYTHING, FIGURES, Comparison, Figure, Tolerance, compare
from conformance.paired import comparable, figures_of, left_out, unrelated
from conformance.student import quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

CONFIDENCE = 0.99
"""Of sound conversions that are like the twin this share is below each bound, before the factor."""

FEWEST = 3
"""Fewer runs tell no spread."""

WIDENING = 1.5
"""As many runs are made as keep the bound within this many times the one that infinitely many would give."""

FACTORS: Mapping[str, float] = {
    "fp32": 2.0,
    "tf32": 2.0,
    "fp16-weights": 2.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "int8-symmetric": 1.5,
    "int8-asymmetric": 1.5,
}
"""What real engines may differ by beyond their twin's bound, by the twin's precision; measured, see docs/noise.md."""

SQUARED = ("kl", "spread", "unrelated")
"""Figures that go with the square of a difference, and so take the factor's."""

COUNTED = ("flips",)
"""Figures that are shares of samples, and so counts."""

FLOORS: Mapping[str, float] = {"kl": 1e-9, "sum": 1e-5, "spread": 1e-9, "unrelated": 1e-9}
"""What may be allowed whatever the runs show, because FP32's rounding of the answers alone gives as much."""

MOST_UNRELATED = 0.5
"""Whatever the runs show, an engine whose answers follow less than half of what tells samples apart has failed."""

SAFE = 0.9999
"""A flip whose lead is beyond this quantile of its own spread is no noise, whatever flips the runs have."""


@dataclass(frozen=True)
class Limit:
    """One figure of an output: what each run had, what the next stays below, and what is allowed for it."""

    name: str
    seen: tuple[float, ...]
    reached: float
    allowed: float

    @property
    def typical(self) -> float:
        """Median of the runs."""
        return float(np.median(self.seen))

    def describe(self, needed: float) -> str:
        """Clause such as ``max 3.1e-04, 41 times what the precision does to this model (7.6e-06, 99 % of 8 runs)``."""
        ratio = needed / self.reached if self.reached else 0.0
        times = f"{ratio:{',.0f' if ratio >= 10 else '.2g'}} times" if self.reached else "where nothing is"
        share = f"{CONFIDENCE:.0%} of {len(self.seen)} runs".replace("%", " %")
        return f"{self.name} {needed:.1e}, {times} what the precision does to this model ({self.reached:.1e}, {share})"


@dataclass(frozen=True)
class Noise:
    """What a precision does to a model on some inputs: the twin's runs there, and the limits that they give.

    ``limits`` are by output and figure: those of a comparison, and those of :mod:`conformance.paired`.
    """

    precision: str
    kinds: Mapping[str, str]
    reference: Arrays
    runs: Sequence[Arrays]
    limits: Mapping[str, Mapping[str, Limit]]

    def tolerance(self, output: str) -> Tolerance:
        """Limits of an output's comparison as a tolerance; a flip's lead is left to ``excess``."""
        found = {name: limit.allowed for name, limit in self.limits[output].items() if name in FIGURES}
        why = f"what {self.precision} does to this model, {CONFIDENCE:.0%} of {len(self.runs)} runs, times "
        return Tolerance(**{n: found.get(n, ANY) for n in FIGURES} | {"margin": ANY}, why=f"{why}{self.factor:g}")

    @property
    def factor(self) -> float:
        """What is allowed over what is reached."""
        return FACTORS[self.precision]

    def paired(self, output: str, actual: NDArray[Any]) -> tuple[Figure, ...]:
        """Figures of :mod:`conformance.paired` of an engine's answers (N, …), beside what is allowed."""
        kind, limits = self.kinds[output], self.limits[output]
        ours, theirs = comparable(actual, kind), comparable(self.reference[output], kind)
        runs = np.stack([comparable(run[output], kind) for run in self.runs])
        needed = {name: figure(ours, theirs, runs) for name, figure in figures_of(kind).items()}
        if "unrelated" in limits and (lost := unrelated(actual, self.reference[output])) is not None:
            needed["unrelated"] = lost
        return tuple(Figure(name, value, limits[name].allowed) for name, value in needed.items() if name in limits)


def runs_needed(confidence: float = CONFIDENCE) -> int:
    """Fewest runs whose bound is within WIDENING of the one that all runs there are would give; at least FEWEST."""
    known = quantile(confidence, 10**4)
    return next(k for k in range(FEWEST, 10**4) if _student(confidence, k) <= WIDENING * known)


def reached(values: Sequence[float], confidence: float = CONFIDENCE) -> float:
    """Value that the next of positive values as these is below with a confidence; zeros count as the least positive.

    Raises ValueError for fewer than FEWEST values.
    """
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} runs; allowed: {FEWEST} or more, of fewer no spread is told")
    positive = [v for v in values if v > 0]
    if not positive:
        return 0.0
    logs = np.log([max(v, min(positive)) for v in values])
    return float(np.exp(logs.mean() + _student(confidence, len(logs)) * logs.std(ddof=1)))


def reached_count(counts: Sequence[float], factor: float = 1.0, confidence: float = CONFIDENCE) -> float:
    """Count that the next of counts as these is below with a confidence, at ``factor`` times their rate; at least one.

    Counts of rare events spread by their own number, and by how the runs differ; the larger of the two is taken.
    """
    rate = (sum(counts) + 0.5) / len(counts) * factor
    chance = rate + rate**2 / (sum(counts) + 0.5)
    between = factor**2 * float(np.var(counts, ddof=1)) * (1 + 1 / len(counts))
    return max(1.0, float(math.floor(rate + _student(confidence, len(counts)) * math.sqrt(max(chance, between)))))


def noise_of(
    reference: Arrays, runs: Sequence[Arrays], kinds: Mapping[str, str], precision: str, **options: Any
) -> Noise:
    """Limits of every output, from runs of a twin in ``precision`` on the inputs of ``reference`` (N, …).

    ``options`` are those of :func:`conformance.compare.compare`: scales, grids. Raises ValueError for fewer than FEWEST
    runs, an unknown precision, and runs that lack an output or are not finite.
    """
    if precision not in FACTORS:
        raise ValueError(f"precision {precision!r}; allowed: {', '.join(FACTORS)}")
    found = [compare(run, reference, ANYTHING, kinds, **options) for run in runs]
    if problems := [problem for comparison in found for problem in comparison.problems]:
        raise ValueError(f"the twin's runs cannot be compared with the reference: {problems[0]}")
    limits = {name: _limits(name, reference, runs, kinds[name], found, FACTORS[precision]) for name in reference}
    return Noise(precision, kinds, reference, runs, limits)


def _limits(
    name: str,
    reference: Arrays,
    runs: Sequence[Arrays],
    kind: str,
    found: Sequence[Comparison],
    factor: float,
) -> dict[str, Limit]:
    outputs = [next(o for o in comparison.outputs if o.output == name) for comparison in found]
    seen = {f.name: tuple(o.figure(f.name).needed for o in outputs) for f in outputs[0].figures}  # type: ignore[union-attr]
    ours = comparable(reference[name], kind)
    theirs = [comparable(run[name], kind) for run in runs]
    seen |= {figure: left_out(by, ours, theirs) for figure, by in figures_of(kind).items()}
    if kind == "values":
        lost = [unrelated(run[name], reference[name]) for run in runs]
        seen |= {"unrelated": tuple(v for v in lost if v is not None)} if None not in lost else {}
    return {figure: _limit(figure, values, factor, len(reference[name])) for figure, values in seen.items()}


def _limit(name: str, seen: tuple[float, ...], factor: float, samples: int) -> Limit:
    if name in COUNTED:
        counts = [value * samples for value in seen]
        bound, most = (reached_count(counts, by) / samples for by in (1.0, factor))
        return Limit(name, seen, bound, min(1.0, most))
    # A slope is one signed number, over its own spread: its logarithm is far from normal.
    bound = quantile((1 + CONFIDENCE) / 2, len(seen)) if name == "slope" else reached(seen)
    allowed = max(bound * factor ** (2 if name in SQUARED else 1), FLOORS.get(name, 0.0))
    if name == "excess":
        allowed = max(allowed, factor * quantile(SAFE, len(seen)))
    return Limit(name, seen, bound, min(allowed, MOST_UNRELATED) if name == "unrelated" else allowed)


def _student(confidence: float, count: int) -> float:
    """How many standard deviations of ``count`` values the next one is below their mean plus."""
    return quantile(confidence, count - 1) * math.sqrt(1 + 1 / count)
