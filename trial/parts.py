"""Many samples judged part by part: what a part of them tells, as sums that are merged in any order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from conformance.accuracy import Found, counted
from conformance.measures import Grid
from engines.errors import EngineError
from engines.progress import live
from trial.evidence import Asked, Evidence, asked_of
from trial.furthest import Furthest, slope_alone
from trial.outputs import Outputs, without
from trial.own_noise import DOUBTED_RUNS, RUNS, noise_at
from trial.rules import rule_of
from trial.scales import output_kinds

if TYPE_CHECKING:
    from conformance.compare import Comparison
    from engines.chain import Chain
    from engines.runner import Runner
    from engines.variant import Variant
    from trial.rules import Rule

LEAST_SAMPLES = 1000
"""A part has at least as many samples, but for the last one: less is not worth a task of its own."""

REFERENCE_BATCH = 32
"""The reference answers in batches of this many."""


class Part(NamedTuple):
    """Samples from the number ``start`` up to ``stop``."""

    start: int
    stop: int


PART_BYTES = 1 << 26
"""And no more bytes of inputs than this, where it can be cut smaller: workers hold a part as a whole."""


def parts_of(count: int, batch: int, least: int = LEAST_SAMPLES, sample_bytes: int = 0) -> list[Part]:
    """Parts of ``count`` samples for an engine that runs batches of ``batch``.

    Each begins where a batch of the engine and of the reference does: a sample is batched with the same others as in
    one process, so that its answer has the same bits.
    """
    step = math.lcm(batch, REFERENCE_BATCH)
    if sample_bytes:
        least = min(least, PART_BYTES // sample_bytes)
    step *= max(1, math.ceil(least / step))
    return [Part(start, min(start + step, count)) for start in range(0, count, step)]


NOTHING = Found(0, ())
"""What is found where there are no labels."""


@dataclass(frozen=True)
class Tally:
    """What some samples tell of a variant.

    ``ways`` is the evidence by way to run the engine, ``""`` for the usual one, and ``furthest`` where each is furthest
    off: None where something is wrong that no figure tells. ``labels`` counts the labelled samples by label, and
    ``found`` and ``reference_found`` what engine and reference answered to those.
    """

    ways: Mapping[str, Evidence]
    furthest: Mapping[str, Furthest | None]
    labels: tuple[int, ...] = ()
    found: Found = NOTHING
    reference_found: Found = NOTHING

    def merged(self, other: Tally) -> Tally:
        """Tally of both, in any order."""
        furthest = {}
        for way, one in self.furthest.items():
            two = other.furthest[way]
            furthest[way] = one.merged(two) if one and two else None
        return Tally(
            {way: evidence.merged(other.ways[way]) for way, evidence in self.ways.items()},
            furthest,
            tuple(map(sum, zip(self.labels, other.labels, strict=True))),
            _added(self.found, other.found),
            _added(self.reference_found, other.reference_found),
        )


def tally(chain: Chain, runner: Runner, part: Part, asked: Asked) -> Tally:
    """Run a part of a chain's test samples in every way, and sum up what is asked of the answers."""
    spec = chain.spec
    samples = chain.dataset.part(*part)
    reference = chain.reference(f"part-{part.start}-{part.stop}", samples.inputs)
    ways, furthest, right, kinds, labels = {}, {}, NOTHING, output_kinds(spec), samples.labels
    scores = spec.probabilities
    for one in (runner, *runner.beside):
        actual = one(samples.inputs)
        grids = {name: Grid(*found) for name, found in one.grids.items()}
        ways[one.way] = found = Evidence.of(spec, actual, reference, asked, grids, part.start)
        ours, theirs = (without(arrays, spec.constants) for arrays in (actual, reference))
        furthest[one.way] = None if found.sums.problems else Furthest.of(ours, theirs, kinds, start=part.start)
        if not one.way and scores is not None and labels is not None and scores.name in found.sums.sound:
            right = Found.of(actual[scores.name], labels)
    if scores is None or labels is None:
        return Tally(ways, furthest)
    expected = reference[scores.name]
    return Tally(ways, furthest, counted(labels, expected.shape[1]), right, Found.of(expected, labels))


def _added(one: Found, two: Found) -> Found:
    """What two parts have together; one may have found nothing that can be counted."""
    classes = tuple(map(sum, zip_longest(one.classes, two.classes, fillvalue=0)))
    return Found(one.correct + two.correct, classes)


def tallied_here(chain: Chain, runner: Runner, parts: Sequence[Part], asked: Asked) -> Tally:
    """Tally of all parts, one after the other in this process, which holds one of them at a time."""
    merged: Tally | None = None
    with live(f"{chain.spec.name}-{runner.variant}", parts[-1].stop, "samples") as advance:
        for part in parts:
            found = tally(chain, runner, part, asked)
            merged = found if merged is None else merged.merged(found)
            advance(part.stop - part.start)
    assert merged is not None
    return merged


@dataclass(frozen=True)
class Verdicts:
    """Verdict on many samples by way to run the engine, beside what they told."""

    tally: Tally
    rules: Mapping[str, Rule]
    comparisons: Mapping[str, Comparison]

    @property
    def passed(self) -> bool:
        """Whether the engine agrees in every way."""
        return all(comparison.passed for comparison in self.comparisons.values())

    def describe(self) -> str:
        """What was found of each way that does not agree: figures, and the sample to look at first."""
        lines = []
        for way, comparison in self.comparisons.items():
            if not comparison.passed:
                lines.append(f"{comparison.samples} samples in parts{f', by {way}' if way else ''}:")
                lines += [f"  {line}" for line in comparison.describe().splitlines()]
                lines += [
                    f"  {output.output}: worst at {output.worst_index}, {output.worst_actual:.9g}, "
                    f"expected {output.worst_expected:.9g}; the sample to look at first is {output.worst_sample}"
                    for output in comparison.outputs
                    if not output.passed
                ]
        return "\n".join(lines)


def compared_in_parts(chain: Chain, variant: Variant, count: int, tallied: Callable[[Asked], Tally]) -> Verdicts:
    """Judge a variant on the first ``count`` test samples as :func:`trial.judged.compared_by` does, bit for bit.

    ``tallied`` is the tally of all parts by what is asked of them: it runs them, in any order, wherever it likes. They
    are run again only where the twin is asked once more, and moves what a score may be undecided by.
    """
    spec = chain.spec
    rule = rule_of(chain, variant, "samples", count)
    asked = asked_of(spec, rule, count)
    found = tallied(asked)
    few = min(count, rule.noise.samples) if rule.noise else 0
    aligned = few > 0 and rule.aligned(chain.dataset.part(0, few).inputs)
    rules, comparisons = {}, {}
    for way, evidence in found.ways.items():
        comparison, by = evidence.judged(spec, rule, aligned=aligned), rule
        far = found.furthest[way]
        doubted = slope_alone(comparison)
        while far is not None and not comparison.passed:
            if (more := _further(chain, rule, far, of_slope=doubted)) is None:
                break
            by, again = more, asked_of(spec, more, count)
            told = evidence if again.undecided == asked.undecided else tallied(again).ways[way]
            comparison = told.judged(spec, by, aligned=aligned)
            if doubted or not slope_alone(comparison):
                break
            doubted = True
        rules[way], comparisons[way] = by, comparison
    return Verdicts(found, rules, comparisons)


def _further(chain: Chain, rule: Rule, furthest: Furthest, *, of_slope: bool) -> Rule | None:
    """Rule that knows the noise where the engine is furthest off; None where there is none, or it cannot be told."""
    if rule.noise is None:
        return None
    at = furthest.samples(of_slope=of_slope)
    parts = [chain.dataset.part(int(i), int(i) + 1).inputs for i in at]
    inputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    try:
        worst = Outputs(inputs, {}, furthest.answers(at))
        others = noise_at(chain, rule.noise, worst, runs=DOUBTED_RUNS if of_slope else RUNS)
    except EngineError:
        return None
    return replace(rule, noise=replace(rule.noise, others=others))
