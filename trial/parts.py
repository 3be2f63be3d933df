"""Many samples judged part by part: what a part of them tells, as sums that are merged in any order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from conformance.measures import Grid
from conformance.summing import measure
from trial.rules import output_kinds, output_thresholds

if TYPE_CHECKING:
    from conformance.sums import Sums
    from engines.chain import Chain
    from engines.runner import Runner

LEAST_SAMPLES = 1000
"""A part has at least as many samples, but for the last one: less is not worth a task of its own."""

REFERENCE_BATCH = 32
"""The reference answers in batches of this many."""


class Part(NamedTuple):
    """Samples from the number ``start`` up to ``stop``."""

    start: int
    stop: int


def parts_of(count: int, batch: int, least: int = LEAST_SAMPLES) -> list[Part]:
    """Parts of ``count`` samples for an engine that runs batches of ``batch``.

    Each begins where a batch of the engine and of the reference does: a sample is batched with the same others as in
    one process, so that its answer has the same bits.
    """
    step = math.lcm(batch, REFERENCE_BATCH)
    step *= math.ceil(least / step)
    return [Part(start, min(start + step, count)) for start in range(0, count, step)]


@dataclass(frozen=True)
class Tally:
    """What some samples tell of a variant.

    ``ways`` are the sums by way to run the engine, ``""`` for the usual one. ``labels`` counts the labelled samples by
    label, and ``correct`` and ``reference_correct`` those that engine and reference have right.
    """

    ways: Mapping[str, Sums]
    labels: tuple[int, ...] = ()
    correct: int = 0
    reference_correct: int = 0

    def merged(self, other: Tally) -> Tally:
        """Tally of both, in any order."""
        return Tally(
            {way: sums.merged(other.ways[way]) for way, sums in self.ways.items()},
            tuple(map(sum, zip(self.labels, other.labels, strict=True))),
            self.correct + other.correct,
            self.reference_correct + other.reference_correct,
        )


def tally(chain: Chain, runner: Runner, part: Part, undecided: float) -> Tally:
    """Run a part of a chain's test samples in every way, and measure it; ``undecided`` is as in ``measure``."""
    spec = chain.spec
    samples = chain.dataset.test(part.stop).take(*part)
    reference = chain.reference(f"part-{part.start}-{part.stop}", samples.inputs)
    answers = {one.way: (one, one(samples.inputs)) for one in (runner, *runner.beside)}
    ways = {
        way: measure(
            actual,
            reference,
            output_kinds(spec),
            undecided=undecided,
            grids={name: Grid(*found) for name, found in one.grids.items()},
            thresholds=output_thresholds(spec),
            start=part.start,
        )
        for way, (one, actual) in answers.items()
    }
    scores = spec.probabilities
    if samples.labels is None or scores is None or scores.name not in ways[""].sound:
        return Tally(ways)
    expected, found = (a[scores.name].argmax(axis=1) for a in (reference, answers[""][1]))
    counts = np.bincount(samples.labels, minlength=reference[scores.name].shape[1])
    right = (int((classes == samples.labels).sum()) for classes in (found, expected))
    return Tally(ways, tuple(map(int, counts)), *right)
