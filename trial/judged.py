"""One variant built, run and judged, without pytest: what its tests ask, and the first thing that is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.bounds import CONFIDENCE
from conformance.compare import Grid
from conformance.noise import MOST_SETTLED, SAFE, in_int8
from engines.errors import ConversionError, EngineError, RunnerError
from engines.formats import registry
from engines.formats.onnx.fp16 import InFp16, kept_in_fp16
from trial.alone import no_scores
from trial.batching import by_sample, distances, moved_by_batching
from trial.furthest import FURTHEST, furthest, slope_alone
from trial.outputs import Outputs
from trial.overflow import lost_in_fp16
from trial.own_noise import DOUBTED_RUNS, RUNS, noise_at
from trial.rules import allowed_sum, compare_by, rule_of
from trial.scales import magnitude, output_kinds
from trial.sets import RESIZED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.compare import Comparison
    from engines.chain import Chain
    from engines.runner import Runner
    from engines.variant import Variant
    from trial.rules import Rule
    from trial.sets import Set, Sets

    Arrays = Mapping[str, NDArray[Any]]

PASSES, CANNOT, BEYOND, FAILS = "passes", "cannot", "beyond", "fails"
"""What becomes of a variant: it agrees; it cannot be built or run; only figures are beyond what is allowed; or more."""


SETTLED = "half of the largest answer, where 99 % of 64 runs of the model's twin move it by less than a third"
"""What made-up inputs of INT8 are judged by, each by itself, beside what all of them need."""


NEAR = 2.0
"""Made-up inputs that need more than so many times what is allowed are asked for no more often."""


@dataclass(frozen=True)
class Verdict:
    """What became of a variant, and in words why; ``used`` is its largest needed over allowed by kind of input."""

    state: str
    text: str = ""
    used: Mapping[str, float] = field(default_factory=dict)


def compared(chain: Chain, runner: Runner, kind: str, given: Outputs, place: str = "") -> tuple[Rule, Comparison]:
    """Compare outputs with the reference's on inputs of a kind, ``samples`` or ``stress``; and by which rule.

    ``place`` names where in a run this is: what the twin is asked there is kept. Without it nothing is.
    """
    grids = {name: Grid(*found) for name, found in runner.grids.items()}
    return compared_by(chain, runner.variant, kind, given, grids, place)


def compared_by(
    chain: Chain, variant: Variant, kind: str, given: Outputs, grids: Mapping[str, Grid], place: str = ""
) -> tuple[Rule, Comparison]:
    """The same of answers whose engine is not at hand; ``grids`` says which outputs are integers inside."""
    rule = rule_of(chain, variant, kind, len(next(iter(given.inputs.values()))))
    comparison = compare_by(chain.spec, given, rule, grids)
    if rule.noise is None or comparison.problems:
        return rule, comparison
    if not comparison.passed:
        rule, comparison = _where_furthest(chain, rule, comparison, given, grids, place)
    if comparison.passed and rule.noise and rule.noise.single and in_int8(rule.noise.precision):
        return _where_settled(chain, rule, comparison, given, grids, place)
    return rule, comparison


def _where_furthest(
    chain: Chain, rule: Rule, comparison: Comparison, given: Outputs, grids: Mapping[str, Grid], place: str
) -> tuple[Rule, Comparison]:
    """Rule and comparison by runs of the twin on those inputs where the engine is furthest off.

    The twin was run on few of the samples, or on other made-up inputs. Made-up inputs that it answers otherwise itself
    are spared, and it is asked where the engine is furthest off then. What is doubted by few is asked for more often:
    the slope, where it alone is beyond, and also at the samples that make it what it is; and made-up inputs that are a
    little beyond. Of those there are thousands from run to run, so that their limit is that of nearly all runs.
    """
    assert rule.noise
    spared, single = np.zeros(0, np.intp), rule.noise.single
    doubted = slope_alone(comparison)
    for turn in itertools.count():
        rest = given.without(chain.spec.constants)
        at = furthest(rest, output_kinds(chain.spec), of_slope=doubted)
        if doubted and single:
            at = _beyond(chain, rule, comparison, given, at)
        asked = (DOUBTED_RUNS, SAFE if single else CONFIDENCE) if doubted else (RUNS, CONFIDENCE)
        try:
            others = noise_at(chain, rule.noise, rest.part(at), place and f"{place}.furthest-{turn}", *asked)
        except EngineError as error:
            unasked = f"where it is furthest off a twin might allow more, but {str(error).splitlines()[0]}"
            return replace(rule, why=f"{rule.why}; {unasked}"), comparison
        rule = replace(rule, noise=replace(rule.noise, others=others))
        more = np.setdiff1d(at[others.spared], spared) if others.single else spared[:0]
        given, spared = given.spared(more), np.union1d(spared, more)
        rule = replace(rule, spared=tuple(spared.tolist()))
        comparison = compare_by(chain.spec, given, rule, grids)
        near = slope_alone(comparison) or (single and comparison.usage < NEAR)
        if comparison.passed or not (len(more) or doubted < near):
            break
        doubted = near and not len(more)
    return rule, comparison


def _beyond(chain: Chain, rule: Rule, comparison: Comparison, given: Outputs, at: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those of some inputs that differ by more than is allowed; all of them where none does."""
    apart = distances(given.actual, given.reference, chain.spec)
    beyond = np.zeros(len(at), np.bool_)
    for output in comparison.outputs:
        figure = output.figure("max")
        if figure is not None and output.output not in chain.spec.constants:
            beyond |= by_sample(apart[output.output])[at] / magnitude(rule.scales, output.output) > figure.allowed
    return at[beyond] if beyond.any() else at


def _where_settled(
    chain: Chain, rule: Rule, comparison: Comparison, given: Outputs, grids: Mapping[str, Grid], place: str
) -> tuple[Rule, Comparison]:
    """Rule and comparison of INT8's made-up inputs, each of which is asked for that an engine answers quite otherwise.

    One that the model itself answers by rounding may raise the limit of all to anything. So the twin is run on each of
    those: what no run moves by a third of the largest answer, no engine may move by half of it.
    """
    assert rule.noise
    apart = distances(given.actual, given.reference, chain.spec)
    moved = [by_sample(a) / magnitude(rule.scales, n) for n, a in apart.items() if n in rule.noise.limits]
    far = np.flatnonzero(np.max(moved, axis=0) > MOST_SETTLED)
    rest, unsettled = given.without(chain.spec.constants), far[:0]
    for start in range(0, len(far), FURTHEST):
        at, turn = far[start : start + FURTHEST], start // FURTHEST
        try:
            found = noise_at(chain, rule.noise, rest.part(at), place and f"{place}.settled-{turn}")
            unsettled = np.union1d(unsettled, at[found.unsettled])
            if found.unsettled.all():
                continue
            # What a tenth of the runs move, none of a few does now and then; and many inputs come here.
            at = at[~found.unsettled]
            found = noise_at(chain, rule.noise, rest.part(at), place and f"{place}.doubted-{turn}", DOUBTED_RUNS)
        except EngineError:
            break
        tipping = found.tipping
        unsettled = np.union1d(unsettled, at[tipping])
        if not tipping.all():
            others = np.setdiff1d(np.arange(len(moved[0])), at[~tipping])
            rule = replace(rule, noise=found.where_settled(~tipping), why=f"{SETTLED}; {rule.why}")
            comparison = compare_by(chain.spec, given.spared(others), rule, grids)
            break
    return replace(rule, spared=tuple(unsettled.tolist())), comparison


def judged(chain: Chain, variant: Variant, sets: Sets) -> Verdict:
    """Build, run and judge a variant on all sets, in every way to run it; what is no engine's limit is raised."""
    found = _Found()
    try:
        with chain.runner(variant) as runner:
            for one in (runner, *runner.beside):
                found.judge(chain, one, sets)
        found.wrong += registry.find(variant.format).mismatched_scales(chain.file(variant))
        if variant.format == "onnx":
            found.wrong += _lost_in_fp16(chain, variant, sets)
    except (ConversionError, RunnerError) as error:
        return Verdict(CANNOT, str(error))
    return found.verdict


@dataclass
class _Found:
    """What is wrong with a variant, and what only is beyond what is allowed."""

    wrong: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    used: dict[str, float] = field(default_factory=dict)

    def judge(self, chain: Chain, runner: Runner, sets: Sets) -> None:
        """Add what is found of one way to run it."""
        by = f", by {runner.way}" if runner.way else ""
        for given in sets.every:
            outputs = runner(given.inputs)
            problems = unsound(chain, runner, given, outputs)
            _, comparison = compared(chain, runner, given.kind, Outputs(given.inputs, outputs, given.reference))
            self.used[given.kind] = max(self.used.get(given.kind, 0.0), comparison.usage)
            self.wrong += [f"{given.name}{by}: {problem}" for problem in (*problems, *comparison.problems)]
            if not comparison.passed and not comparison.problems:
                spread = comparison.figure("spread")
                # No row says what of the spread may be lost: answers that are nearly constant are wrong by themselves.
                lost = spread is not None and not spread.passed
                (self.wrong if lost else self.beyond).append(f"{given.name}{by}: {comparison.describe()}")
        wrong, beyond = moved_by_batching(chain, runner, sets.samples)
        self.wrong += wrong
        self.beyond += beyond

    @property
    def verdict(self) -> Verdict:
        """What became of it."""
        state = FAILS if self.wrong else BEYOND if self.beyond else PASSES
        return Verdict(state, "\n".join([*self.wrong, *self.beyond]), self.used)


def unsound(chain: Chain, runner: Runner, given: Set, outputs: Arrays) -> list[str]:
    """What is wrong with outputs by themselves that no comparison tells: shapes, and scores beyond [0, 1]."""
    spec, count = chain.spec, len(next(iter(given.inputs.values())))
    found = list(no_scores(runner, outputs, allowed_sum(chain, runner.variant, given.kind), given.names))
    for output in spec.outputs:
        array = outputs[output.name]
        expected = spec.concrete_shape(output, count)
        if given.name != RESIZED and array.shape != expected:
            found.append(f"{output.name!r} has the shape {array.shape}; expected {expected}")
    return found


def _lost_in_fp16(chain: Chain, variant: Variant, sets: Sets) -> Iterator[str]:
    """What an ONNX keeps in FP16 though it does not fit there, set by set."""
    path = chain.file(variant)
    if not (tensors := kept_in_fp16(path)):
        return
    with InFp16(chain.spec, variant, path, tensors) as engine:
        for given in (g for g in sets.every if g.name in {"samples", "contrast"}):
            rule = rule_of(chain, variant, given.kind, len(next(iter(given.inputs.values()))))
            if lost := lost_in_fp16(engine, given.inputs, rule, given.name, given.names):
                yield f"{given.name}: {lost}"
