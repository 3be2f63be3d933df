"""The rule: what sound conversions of a model reach at a stated confidence, told by runs of its twin.

For every figure the runs' values give the bound that the next run is below with CONFIDENCE. A real engine is no further
run: what the twin leaves out is covered by one factor a precision, which was measured on models (docs/verdict.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.bounds import CONFIDENCE, FEWEST, reached, reached_count, widest
from conformance.by_sample import figures_by_sample
from conformance.compare import ANY, ANYTHING, FIGURES, LOST_SPREAD, THRESHOLD, Comparison, Figure, Tolerance, compare
from conformance.paired import OF_ALL, Known, comparable, each_left_out, figures_of, unrelated
from conformance.pairs import Pairs
from conformance.student import quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.compare import OutputComparison
    from conformance.measures import Grid, Scale

    Arrays = Mapping[str, NDArray[Any]]

FACTORS: Mapping[str, float] = {
    "fp32": 2.0,
    "fp32-device": 2.0,
    "tf32": 2.0,
    "fp16-weights": 2.0,
    "fp16-moved": 2.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "int8-symmetric": 1.55,
    "int8-calibrated": 1.55,
    "int8-asymmetric": 1.55,
}
"""What real engines may differ by beyond their twin's bound, by the twin's precision; measured, see docs/noise.md."""

FEW_RUNS = ("worst", "slope", "spread", "unrelated")
"""Figures that rest on what few runs spread by, of which more is allowed: MORE_INT8 times in INT8, MORE elsewhere.

A real engine rounds each weight one way for all samples, and in INT8 jumps where its integers do. Of 174 sound ones in
INT8 five needed up to 1.41 times what the factor alone allows, of these figures only, and one 2.3 times. Of 272 others
one needed 1.16 times. One trained on another machine needed 1.30 times; to allow that let weights off by 2 % pass.
"""

MORE_INT8, MORE = 1.5, 1.25

SQUARED = ("kl", "spread", "unrelated")
"""Figures that go with the square of a difference, and so take the factor's."""

COUNTED = ("flips",)
"""Figures that are shares of samples, and so counts."""

AVERAGES = ("mean", "kl")
"""Figures that are means over the samples: of other samples they are others."""

SINGLE = ("max", "mean", "kl", "sum")
"""Figures that single made-up inputs are judged by: any of them may give any flip, as its lead is what it is."""

ULP = 2.0**-23
"""A step of FP32 at one: answers that are stored in FP32 tell no less."""

FLOORS: Mapping[str, float] = {
    "max": ULP,
    "mean": ULP / 10,
    "kl": 1e-9,
    "sum": 1e-5,
    "spread": 1e-4,
    "unrelated": 1e-4,
}
"""What may be allowed whatever the runs show: what FP32's rounding of the answers alone gives.

``spread`` and ``unrelated`` are for answers that hardly depend on their input; other figures tell of less.
"""

MOST_UNRELATED = 0.5
"""Whatever the runs show, an engine whose answers follow less than half of what tells samples apart has failed."""

SAFE = 0.9999
"""A flip whose lead is beyond this quantile of its own spread is no noise, whatever flips the runs have."""

RARE = 3.0
"""Standard deviations that a count of flips may be above what is expected of it, in any of ten classes."""

SAMPLED = 3.0
"""Standard errors by which a mean over some samples may be above that over others."""


UNSETTLED = 0.05
"""The share of the largest answer by which runs move that of an input which no engine can be judged by."""

UNSETTLED_INT8 = 1 / 3
"""The same in INT8, whose steps move many answers."""

MOST_SETTLED = 1 / 2
"""The share of the largest answer by which an INT8 engine may move that of an input which is settled."""

MILLION = 1e6
"""From here on a ratio is told by its power of ten."""


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

    def beside(self, needed: float, precision: str) -> str:
        """Clause such as ``41 times what FP16 does to this model (7.6e-06, 99 % of 8 runs)``.

        Of a failure that the noise would bear it says so, and that a ceiling decided.
        """
        share = f"{CONFIDENCE:.0%} of {len(self.seen)} runs".replace("%", " %")
        if not self.reached:
            return f"of which {spoken(precision)} does nothing to this model ({share})"
        ratio = needed / self.reached
        times = f"{ratio:{'.1e' if ratio >= MILLION else ',.0f' if ratio >= 10 else '.2g'}}"
        clause = f"{times} times what {spoken(precision)} does to this model ({self.reached:.1e}, {share})"
        return clause if ratio > 1 else f"only {clause}: a fixed ceiling is lower"

    def describe(self, needed: float, precision: str) -> str:
        """The same with the figure in front: ``max 3.1e-04, 41 times what …``."""
        return f"{self.name} {needed:.1e}, {self.beside(needed, precision)}"


def leeway(figure: str, precision: str) -> float:
    """How many times what runs reach is allowed, of a figure in a twin's precision."""
    more = (MORE_INT8 if in_int8(precision) else MORE) if figure in FEW_RUNS else 1.0
    return more * FACTORS[precision] ** (2 if figure in SQUARED else 1)


def in_int8(precision: str) -> bool:
    """Whether a twin's precision rounds values to 8 bits."""
    return precision.startswith("int8")


def spoken(precision: str) -> str:
    """What messages call a twin's precision: ``FP16`` for ``fp16-weights``."""
    return precision.partition("-")[0].upper()


@dataclass(frozen=True)
class Noise:
    """What a precision does to a model on some inputs: the twin's runs there, and the limits that they give.

    ``limits`` are by output and figure: those of a comparison, and those of :mod:`conformance.paired`. ``each`` are
    figures of every sample in every run (K, n). ``single`` says that the inputs are made up, and judged one by one.
    ``others`` are more of the samples, which these may not be like: those that an engine answers worst.
    """

    precision: str
    kinds: Mapping[str, str]
    reference: Arrays
    runs: Sequence[Arrays]
    limits: Mapping[str, Mapping[str, Limit]]
    each: Mapping[str, Mapping[str, NDArray[np.float64]]]
    single: bool = False
    others: Noise | None = None

    @property
    def samples(self) -> int:
        """How many samples the runs have."""
        return max(len(array) for array in self.reference.values())

    @property
    def unsettled(self) -> NDArray[np.bool_]:
        """Which single inputs (n,) the runs themselves answer otherwise."""
        return _unsettled(self.each, self.precision)

    @property
    def spared(self) -> NDArray[np.bool_]:
        """Which single inputs (n,) allow nothing on others; none in INT8, where they have a share in all limits."""
        return self.unsettled & (not in_int8(self.precision))

    @property
    def tipping(self) -> NDArray[np.bool_]:
        """Which single inputs (n,) the next run may answer otherwise, by what these reach; they should be many.

        Each output tells by itself: the larger of two differences varies less than either, and would reach less.
        """
        most = np.max([[reached(one) for one in figures["max"].T] for figures in self.each.values()], axis=0)
        found: NDArray[np.bool_] = self.unsettled | (most > UNSETTLED_INT8)
        return found

    def where_settled(self, settled: NDArray[np.bool_]) -> Noise:
        """Noise of INT8 whose one limit holds for settled inputs: for them what others are moved by is no excuse."""
        seen = {name: tuple(figures["max"][:, settled].max(axis=1)) for name, figures in self.each.items()}
        limits = {name: {"max": Limit("max", s, reached(s), MOST_SETTLED)} for name, s in seen.items()}
        return replace(self, limits=limits, others=None)

    @property
    def factor(self) -> float:
        """What is allowed over what is reached."""
        return FACTORS[self.precision]

    @property
    def why(self) -> str:
        """What the limits rest on, in words."""
        inputs = "made-up inputs, each by itself" if self.single else "samples"
        share = f"{CONFIDENCE:.0%} of {len(self.runs)} runs of its twin".replace("%", " %")
        return (
            f"{self.factor:g} times what {spoken(self.precision)} does to this model ({share}, {self.samples} {inputs})"
        )

    def of(self, output: str, count: int) -> dict[str, Limit]:
        """Limits of an output's figures on ``count`` samples; those that tell nothing of others are left out."""
        limits = self.limits[output]
        if self.single:
            found = {name: limits[name] for name in SINGLE if name in limits}
        elif count == self.samples:
            found = dict(limits)
        else:
            plain = {name: limit for name, limit in limits.items() if name not in figures_of(self.kinds[output])}
            found = {name: self._at(limit, self.each[output], count) for name, limit in plain.items()}
        if self.others:
            more = self.others.limits[output]
            found |= {n: _with(limit, more[n], self.others.samples / count) for n, limit in found.items() if n in more}
        return found

    def _at(self, limit: Limit, each: Mapping[str, NDArray[np.float64]], count: int) -> Limit:
        """Limit on another number of samples."""
        few = self.samples
        if limit.name == "max":
            more = widest(each["max"], few, count)
            return replace(limit, reached=limit.reached * more, allowed=limit.allowed * more)
        if limit.name in AVERAGES and limit.name in each:
            spread = float(each[limit.name].mean(axis=0).std(ddof=1)) if few > 1 else 0.0
            reach = limit.reached + SAMPLED * spread * abs(1 / few - 1 / count) ** 0.5
            return replace(limit, reached=reach, allowed=max(limit.allowed, reach * leeway(limit.name, self.precision)))
        if limit.name in COUNTED and limit.name in each:
            return _of_counts(limit.name, each[limit.name], self.factor, count)
        return limit

    def tolerance(self, output: str, count: int, ceiling: Tolerance) -> Tolerance:
        """Limits of an output's comparison on ``count`` samples, none above the ceiling; leads are left to paired."""
        found = {name: limit.allowed for name, limit in self.of(output, count).items()}
        if self.single:
            found["flips"] = 1.0
        allowed = {n: min(found.get(n, ANY), getattr(ceiling, n)) for n in FIGURES} | {"sum": ceiling.sum}
        if self.kinds[output] == "integers":
            # The row's share is of classes. A count moves by one as soon as any of what it counts does.
            allowed["flips"] = min(found["flips"], ceiling.integers)
        spread = ANY if self.single and in_int8(self.precision) else found.get("spread", LOST_SPREAD)
        return Tolerance(**allowed, why=self.why, spread=min(spread, ceiling.spread), integers=ceiling.integers)

    def judged(self, comparison: Comparison, actual: Arrays, reference: Arrays, *, aligned: bool) -> Comparison:
        """Comparison with what the runs tell beside it: figures in words, and those of :mod:`conformance.paired`.

        ``aligned`` says that the first samples are those of the runs; others have the figures of all samples only.
        """
        sound = [output.output for output in comparison.outputs]
        pairs = pairs_of({n: actual[n] for n in sound}, reference, self.paired_kinds, self.samples)
        return self.judged_by(comparison, pairs, aligned=aligned)

    @property
    def paired_kinds(self) -> Mapping[str, str]:
        """What each output holds that figures of :mod:`conformance.paired` are judged of."""
        return {} if self.single else {name: self.kinds[name] for name in self.limits}

    def judged_by(self, comparison: Comparison, pairs: Mapping[str, Pairs], *, aligned: bool) -> Comparison:
        """The same by what the answers are summed up to, by output name, of all samples or merged from parts."""
        outputs = []
        for output in comparison.outputs:
            if output.output in self.limits:
                figures = [self._told(output, figure) for figure in output.figures]
                found = pairs.get(output.output)
                more = () if found is None else self.paired(output.output, found, aligned=aligned)
                output = replace(output, figures=(*figures, *more))  # noqa: PLW2901
            outputs.append(output)
        return replace(comparison, outputs=tuple(outputs))

    def _told(self, output: OutputComparison, figure: Figure) -> Figure:
        limit = self.of(output.output, output.samples).get(figure.name)
        return replace(figure, beside=limit.beside(figure.needed, self.precision)) if limit else figure

    def known(self, output: str) -> Known:
        """Answers of the runs, as paired figures take them."""
        kind = self.kinds[output]
        runs = np.stack([comparable(run[output], kind) for run in self.runs])
        return Known(runs, comparable(self.reference[output], kind))

    def paired(self, output: str, pairs: Pairs, *, aligned: bool = True) -> tuple[Figure, ...]:
        """Figures of :mod:`conformance.paired` of an engine's answers, beside what is allowed.

        Of ``aligned`` samples the first ones are the runs' own, which tell of each by itself.
        """
        kind, limits, few = self.kinds[output], self.limits[output], self.samples
        if pairs.shape != self.reference[output].shape[1:]:
            return ()
        runs, others = self.known(output), self.others.known(output) if self.others else None
        needed = {}
        for name, figure in figures_of(kind, len(pairs.shape) + 1).items():
            if name in OF_ALL and pairs.samples >= few:
                needed[name] = figure.of(pairs, runs, others)
            elif aligned and pairs.samples >= few:
                needed[name] = figure.of(pairs, runs, None)
        if "unrelated" in limits and pairs.samples >= few and (lost := pairs.unrelated) is not None:
            needed["unrelated"] = lost
        return tuple(
            Figure(name, value, limits[name].allowed, limits[name].beside(value, self.precision))
            for name, value in needed.items()
            if name in limits
        )


def pairs_of(
    actual: Arrays, reference: Arrays, kinds: Mapping[str, str], first: int, start: int = 0
) -> dict[str, Pairs]:
    """Sums of answers for figures of :mod:`conformance.paired`, of the outputs that ``kinds`` has.

    ``first`` is how many samples a twin was run on, ``start`` the number of the first sample here.
    """
    return {
        name: Pairs.of(comparable(actual[name], kind), comparable(reference[name], kind), first=first, start=start)
        for name, kind in kinds.items()
        if name in actual
    }


def _with(limit: Limit, others: Limit, share: float) -> Limit:
    """Limit of samples of which a share has another: the larger extreme, and the sum of what is counted or averaged."""
    if limit.name in AVERAGES or limit.name in COUNTED:
        more = min(1.0, share)
        return replace(
            limit, reached=limit.reached + more * others.reached, allowed=limit.allowed + more * others.allowed
        )
    larger = max(limit, others, key=lambda one: one.allowed)
    return replace(limit, reached=larger.reached, allowed=larger.allowed)


def noise_of(
    reference: Arrays,
    runs: Sequence[Arrays],
    kinds: Mapping[str, str],
    precision: str,
    *,
    single: bool = False,
    confidence: float = CONFIDENCE,
    **options: Any,
) -> Noise:
    """Limits of every output, from runs of a twin in ``precision`` on the inputs of ``reference`` (N, …).

    ``single`` inputs are made up, and judged one by one, with this ``confidence``. ``options`` are those of
    :func:`conformance.compare.compare`: scales, grids. Raises ValueError for fewer than FEWEST runs, an unknown
    precision, and runs that lack an output or are not finite.
    """
    if precision not in FACTORS:
        raise ValueError(f"precision {precision!r}; allowed: {', '.join(FACTORS)}")
    if len(runs) < FEWEST:
        raise ValueError(f"{len(runs)} runs; allowed: {FEWEST} or more, of fewer no spread is told")
    found = [compare(run, reference, ANYTHING, kinds, **options) for run in runs]
    if problems := [problem for comparison in found for problem in comparison.problems]:
        raise ValueError(f"the twin's runs cannot be compared with the reference: {problems[0]}")
    each = _each(reference, runs, kinds, **options)
    if single:
        # What the model answers by rounding alone would allow anything on inputs that it stands by.
        settled = ~_unsettled(each, precision) | in_int8(precision)
        limits = {
            name: {
                f: _limit(f, tuple(a[:, settled].max(axis=1)), precision, confidence)
                for f, a in each[name].items()
                if f in SINGLE
            }
            if settled.any()
            else {}
            for name in reference
        }
    else:
        limits = {name: _limits(name, reference, runs, kinds[name], found, each[name], precision) for name in reference}
    return Noise(precision, kinds, reference, runs, limits, each, single)


def _unsettled(each: Mapping[str, Mapping[str, NDArray[np.float64]]], precision: str) -> NDArray[np.bool_]:
    moved = np.max([figures["max"].max(axis=0) for figures in each.values()], axis=0)
    found: NDArray[np.bool_] = moved > (UNSETTLED_INT8 if in_int8(precision) else UNSETTLED)
    return found


def _each(
    reference: Arrays,
    runs: Sequence[Arrays],
    kinds: Mapping[str, str],
    *,
    scales: Mapping[str, Scale] | None = None,
    grids: Mapping[str, Grid] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Figures of every sample by itself, (K, n) by output and figure."""
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, expected in reference.items():
        scale, grid = (scales or {}).get(name), (grids or {}).get(name)
        threshold = (thresholds or {}).get(name, THRESHOLD)
        each = [
            figures_by_sample(kinds[name], run[name], expected, scale=scale, grid=grid, threshold=threshold)
            for run in runs
        ]
        found[name] = {figure: np.stack([one[figure] for one in each]) for figure in each[0]}
    return found


def _limits(
    name: str,
    reference: Arrays,
    runs: Sequence[Arrays],
    kind: str,
    found: Sequence[Comparison],
    each: Mapping[str, NDArray[np.float64]],
    precision: str,
) -> dict[str, Limit]:
    outputs = [next(o for o in comparison.outputs if o.output == name) for comparison in found]
    seen = {f.name: tuple(o.figure(f.name).needed for o in outputs) for f in outputs[0].figures}  # type: ignore[union-attr]
    ours = comparable(reference[name], kind)
    theirs = [comparable(run[name], kind) for run in runs]
    seen |= each_left_out(figures_of(kind, ours.ndim), ours, theirs)
    if kind == "values":
        lost = [unrelated(run[name], reference[name]) for run in runs]
        seen |= {"unrelated": tuple(v for v in lost if v is not None)} if None not in lost else {}
    # How far a flip led is judged by ``excess``, against what that very lead moves by.
    return {
        figure: _of_counts(figure, each[figure], FACTORS[precision])
        if figure in COUNTED
        else _limit(figure, values, precision)
        for figure, values in seen.items()
        if figure != "margin"
    }


def _of_counts(name: str, each: NDArray[np.float64], factor: float, count: int | None = None) -> Limit:
    """Limit of a share of samples (K, n), on ``count`` of them; as many as the runs have where None."""
    few = each.shape[1]
    counts, flipped = each.sum(axis=1), float((each > 0).any(axis=0).sum())
    many = count or few
    # Runs flip the same samples: what they tell of others hangs on how many different ones there are.
    known = flipped if many != few else float(counts.sum())
    bound, most = (reached_count(counts, by, more=many / few, known=known) / many for by in (1.0, factor))
    return Limit(name, tuple(each.mean(axis=1)), bound, min(1.0, most))


def _limit(name: str, seen: tuple[float, ...], precision: str, confidence: float = CONFIDENCE) -> Limit:
    # A slope is one signed number, over its own spread: its logarithm is far from normal.
    bound = quantile((1 + CONFIDENCE) / 2, len(seen)) if name == "slope" else reached(seen, confidence)
    allowed = max(bound * leeway(name, precision), FLOORS.get(name, 0.0))
    if name == "net":
        # Of rare flips few runs see none: what chance may give of ten classes is no finding.
        allowed = max(allowed, RARE)
    if name == "excess":
        allowed = max(allowed, FACTORS[precision] * quantile(SAFE, len(seen)))
    return Limit(name, seen, bound, min(allowed, MOST_UNRELATED) if name == "unrelated" else allowed)
