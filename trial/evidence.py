"""What samples tell of an engine, as sums that merge in any order, and the verdict on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conformance.compare import Comparison, judge, undecided
from conformance.noise import pairs_of
from conformance.summing import measure
from trial.scales import output_kinds, output_thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.measures import Grid
    from conformance.pairs import Pairs
    from conformance.sums import Sums
    from engines.model.spec import ModelSpec
    from trial.rules import Rule

    Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Asked:
    """What is asked of samples, as far as it hangs on the rule that judges them; see :func:`conformance.compare.judge`.

    ``closest`` and ``undecided`` are by ranked output, and by output of scores. ``paired`` are the kinds of the outputs
    that a twin has answered, ``first`` how many samples it has.
    """

    closest: Mapping[str, float]
    undecided: Mapping[str, float]
    paired: Mapping[str, str]
    first: int


def asked_of(spec: ModelSpec, rule: Rule, count: int) -> Asked:
    """What a rule asks of ``count`` samples."""
    kinds, noise = output_kinds(spec), rule.noise
    allowed = rule.tolerances(kinds, count)
    return Asked(
        {name: allowed[name].max for name, kind in kinds.items() if kind == "ranked"},
        {name: undecided(allowed[name]) for name, kind in kinds.items() if kind == "scores"},
        dict(noise.paired_kinds) if noise else {},
        noise.samples if noise else 0,
    )


@dataclass(frozen=True, eq=False)
class Evidence:
    """Sums of an engine's answers to samples; those of ``pairs`` are for figures in the model's own noise."""

    sums: Sums
    pairs: Mapping[str, Pairs]

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        actual: Arrays,
        reference: Arrays,
        asked: Asked,
        grids: Mapping[str, Grid],
        start: int = 0,
    ) -> Evidence:
        """Evidence of answers (N, …) to samples from the number ``start`` on; ``grids`` as for ``compare``."""
        sums = measure(
            actual,
            reference,
            output_kinds(spec),
            closest=asked.closest,
            undecided=asked.undecided,
            grids=grids,
            thresholds=output_thresholds(spec),
            start=start,
        )
        sound = {name: actual[name] for name in sums.sound}
        return cls(sums, pairs_of(sound, reference, asked.paired, asked.first, start))

    def merged(self, other: Evidence) -> Evidence:
        """Evidence of both parts, in any order."""
        pairs = {name: self.pairs[name].merged(other.pairs[name]) for name in self.pairs if name in other.pairs}
        return Evidence(self.sums.merged(other.sums), pairs)

    def judged(self, spec: ModelSpec, rule: Rule, *, aligned: bool) -> Comparison:
        """Verdict of a rule; ``aligned`` says that the first samples are those that its noise is told on."""
        comparison = judge(
            self.sums,
            rule.tolerances(self.sums.kinds, self.sums.samples),
            scales=rule.scales,
            thresholds=output_thresholds(spec),
        )
        return rule.noise.judged_by(comparison, self.pairs, aligned=aligned) if rule.noise else comparison
