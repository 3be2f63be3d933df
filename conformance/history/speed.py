"""Which engines got slower between two runs, told from the noise of measuring them.

A measurement is half a second of one engine at one batch size. What else runs on a shared machine can slow all of it,
by 2.2 times on 2 cores, and nothing in its rounds shows that. So an engine counts as slower where several measurements
agree that are apart in time: its batch sizes, or those of further reports. Each has to lose more than the processor
time that others took meanwhile explains, where that was recorded. One batch size alone proves it where it lost more
than in any disturbance that was seen, or in each of many reports.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from conformance.history.engine import NOTHING_KNOWN, Engine, Formats, read_engines
from conformance.history.environment import MARGIN_OF_RATIOS, Basis
from conformance.history.finding import IMPROVEMENT, NOTE, REGRESSION, Finding
from conformance.history.statistics import holm, least_p, rank_test, thinned
from conformance.report.document import Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALPHA = 0.01
"""The chance that the noise within measurements makes any engine of a comparison seem slower."""

NEEDED, NEEDED_OF_SEVERAL = 3, 2
"""Batch sizes that have to agree: of one report of the new state, and where there are several."""

UNCHANGED = 1.08
"""A measurement within this factor speaks against those that lost no more than a disturbance may have taken."""

DISTURBED = 2.5
"""More than so many times what others are recorded to explain is no disturbance, whatever other batch sizes say.

That was measured between any two of 40 runs with one of 2 cores taken most of the time. Converted engines took up to
2.2 times as long, and up to 1.9 times what was recorded explains. (The SavedModel, which is not judged: 3.8 times.)
"""

MANY = 4
"""So many reports of either state judge a batch size alone: where each of the new is slower than each of the old.

Were they alike, each order of their times would be as likely, and this is one of 70.
"""

MARGIN_OF_SINGLES = 2.0
"""Losing half of the gain over single samples counts: all ratios of a variant share one measurement at batch 1."""

QUIET = 1.25
"""Others explain nothing where they disturb less than this times more than in the other run: ticks are coarse."""

NEARLY_ALL = 0.75
"""Share of the other variants that have to be slower, too, where the reference only seems to be.

Only then the machine is held to be slower: variants of one engine, which may be half of all, lose their speed together.
"""

SINGLE = 1


@dataclass(frozen=True)
class Speed:
    """One measurement: seconds a sample of its rounds, thinned, and how many times as long others made it at most."""

    engine: Engine
    batch: int
    samples_per_round: int
    seconds: NDArray[Any]
    median: float
    disturbance: float

    @property
    def point(self) -> Point:
        """What identifies it in every run."""
        return (self.engine, self.batch, self.samples_per_round)


def disturbance(busy: float | None, cores: int) -> float:
    """Largest factor by which calls take longer while others keep ``busy`` of the ``cores`` busy.

    Threads of an engine wait for each other: losing one core of two costs half of the speed (1.95 times as long was
    seen). So each busy core counts twice. What was not recorded explains nothing: 1.
    """
    return 1.0 if busy is None else 1.0 + 2.0 * busy / cores


def excess(one: Speed, other: Speed) -> float:
    """Factor by which others explain that ``one`` takes longer, beyond what they did to ``other``."""
    ratio = one.disturbance / other.disturbance
    return ratio if ratio > QUIET else 1.0


Point: TypeAlias = tuple[Engine, int, int]
"""What identifies a measurement in every report: engine, batch size and samples in a round."""

Speeds: TypeAlias = Mapping[Point, tuple[Speed, ...]]
"""The measurements of a state, one of each report that has it, the fastest first."""


def read_speeds(report: Document) -> Mapping[Point, Speed]:
    """Measurements of a report; of one that is repeated the fastest."""
    slowest_first = sorted(_read(report), key=lambda speed: -speed.median)
    return {speed.point: speed for speed in slowest_first}


def _read(report: Document) -> Iterator[Speed]:
    """Measurements of a report, but those that have no rounds, and those that were throttled.

    How much throttling slows is not known: it would hide a slower engine, or make a sound one seem slower.
    """
    engines = read_engines(report)
    for entry in report["benchmarks"]:
        count = entry.get("samples_per_round", entry["batch"])
        seconds = np.asarray(entry["rounds_seconds"], dtype=np.float64) / count
        if len(seconds) and not entry.get("throttled"):
            disturbed = disturbance(entry.get("busy_elsewhere"), report["environment"]["cores"])
            median = float(np.median(seconds))
            engine = engines[entry["model"], entry["variant"]]
            yield Speed(engine, entry["batch"], count, thinned(seconds), median, disturbed)


def together(reports: Iterable[Mapping[Point, Speed]]) -> Speeds:
    """Put the measurements of several reports of the same state together.

    Whatever else runs on a machine only ever slows, so that the fastest is the least disturbed (Chen and Revels,
    Robust benchmarking in noisy environments, arXiv:1608.04295).
    """
    found: dict[Point, list[Speed]] = {}
    for speeds in reports:
        for point, speed in speeds.items():
            found.setdefault(point, []).append(speed)
    return {point: tuple(sorted(speeds, key=lambda speed: speed.median)) for point, speeds in found.items()}


@dataclass(frozen=True)
class _Change:
    """What one measurement says of a change in one direction.

    ``p`` is the p-value of a change beyond the margin and what others explain, ``p_alone`` that of one which needs no
    other measurement. ``reports`` is how many measured it. ``most`` is how many times as much changed at most: were the
    other run's measurement disturbed as far as recorded.
    """

    p: float
    p_alone: float
    reports: int
    most: float

    @property
    def shown(self) -> bool:
        return self.p < ALPHA

    @property
    def denied(self) -> bool:
        return not self.shown and self.most < UNCHANGED


@dataclass(frozen=True)
class _Look:
    """One measurement of both runs: its batch size, seconds a sample, and what it says of slower and of faster.

    ``limit`` is how many times what others explain no disturbance reaches.
    """

    batch: int
    old: float
    new: float
    slower: _Change
    faster: _Change
    reachable: float
    disturbed: bool
    limit: float

    @property
    def factor(self) -> float:
        return self.new / self.old


@dataclass(frozen=True)
class _Claim:
    """Measurements that may together show that something changed, in what unit, and with which margin.

    ``looks`` of a slower machine expect what was measured on it to take as much longer; ``unscaled`` are then the same
    measurements as they are.
    """

    name: str
    unit: str
    looks: tuple[_Look, ...]
    margin: float
    unscaled: _Claim | None = None

    @property
    def slowed(self) -> list[_Change]:
        return [look.slower for look in self.looks]

    @property
    def sped(self) -> list[_Change]:
        return [look.faster for look in self.looks]

    @property
    def as_measured(self) -> _Claim:
        """The claim about the times themselves, whatever the machine."""
        return self.unscaled or self

    @property
    def suspected(self) -> tuple[_Look, ...]:
        """The measurements that are slower, and by more than a slower machine makes all of them."""
        if self.unscaled is None:
            return tuple(look for look in self.looks if look.slower.shown)
        pairs = zip(self.looks, self.unscaled.looks, strict=True)
        return tuple(look for scaled, look in pairs if look.slower.shown and scaled.factor > self.unscaled.margin)


def compare_speeds(
    old: Speeds, new: Speeds, basis: Basis, references: Mapping[str, str], formats: Formats = NOTHING_KNOWN
) -> list[Finding]:
    """Slower and faster engines; ``references`` names each model's reference, ``formats`` what is bound to a GPU."""
    findings: list[Finding] = []
    claims: list[_Claim] = []
    common: dict[str, dict[Engine, list[Point]]] = {}
    for point in old:
        if point in new:
            common.setdefault(point[0].model, {}).setdefault(point[0], []).append(point)
    for model, points in common.items():
        reference = next((engine for engine in points if engine.variant == references.get(model)), None)
        if basis.absolute:
            found_claims, found = _absolute(model, reference, points, old, new, basis.margin)
            claims += found_claims
            findings += found
            continue
        for engine, of_engine in points.items():
            other = _yardstick(engine, points, reference, basis, formats)
            found_claims, found = _relative(engine, other, of_engine, old, new, basis)
            claims += found_claims
            findings += found
    return findings + _judge(claims)


def _absolute(
    model: str,
    reference: Engine | None,
    points: Mapping[Engine, Sequence[Point]],
    old: Speeds,
    new: Speeds,
    margin: float,
) -> tuple[list[_Claim], list[Finding]]:
    """Compare the seconds of a model's engines, each with its ``points``, on a machine that may have become slower."""
    unscaled = {
        engine: _Claim(str(engine), "samples/s", _looks(of_engine, old, new, margin), margin)
        for engine, of_engine in points.items()
    }
    itself = unscaled.pop(reference, None) if reference else None
    machine, findings = _machine(model, itself, unscaled) if itself and unscaled else (1.0, [])
    if machine == 1.0:
        return list(unscaled.values()), findings
    unit = "samples/s (the old ones as on the slower machine)"
    claims = []
    for engine, claim in unscaled.items():
        looks = _looks(points[engine], old, new, MARGIN_OF_RATIOS, machine)
        claims.append(_Claim(claim.name, unit, looks, MARGIN_OF_RATIOS, claim))
    return claims, findings


def _looks(
    points: Sequence[Point],
    old: Speeds,
    new: Speeds,
    margin: float,
    machine: float = 1.0,
    yardstick: Callable[[Speeds, Speed], tuple[Speed, ...]] | None = None,
) -> tuple[_Look, ...]:
    """Test measurement by measurement; ``machine`` times as long is expected, or each is related to its yardstick."""
    looks = []
    for point in points:
        before, after = old[point][0], new[point][0]
        slowed, sped = excess(after, before), excess(before, after)
        # What disturbed the old run makes nothing seem slower: reports of the new one count, and the other way round.
        reports = len(new[point]), len(old[point])
        units, limit = [machine, 1.0], DISTURBED
        if yardstick is not None:
            others = yardstick(old, before), yardstick(new, after)
            yards = others[0][0], others[1][0]
            units, limit = [1 / yard.median for yard in yards], DISTURBED**2
            reports = (min(map(len, (old[point], new[point], *others))),) * 2
            # A disturbed yardstick makes what it measures look fast. The same load slows engines differently, now and
            # then: the fastest of several reports have escaped that, a single one may not.
            if reports[0] > 1:
                slowed, sped = slowed * excess(*yards), sped * excess(*reversed(yards))
            else:
                slowed = after.disturbance * yards[0].disturbance
                sped = before.disturbance * yards[1].disturbance
        first, second = before.seconds * units[0], after.seconds * units[1]
        factor = after.median * units[1] / (before.median * units[0])
        p_values = rank_test(second, first, margin * slowed), rank_test(first, second, margin * sped)
        alone = rank_test(second, first, limit * slowed), rank_test(first, second, limit * sped)
        if yardstick is None and min(reports) >= MANY:
            slowest = old[point][-1], new[point][-1]
            each = (
                rank_test(second, slowest[0].seconds * units[0], margin * excess(after, slowest[0])),
                rank_test(first, slowest[1].seconds * units[1], margin * excess(before, slowest[1])),
            )
            alone = min(alone[0], max(p_values[0], each[0])), min(alone[1], max(p_values[1], each[1]))
        looks.append(
            _Look(
                after.batch,
                before.median * units[0],
                after.median * units[1],
                _Change(p_values[0], alone[0], reports[0], factor * sped),
                _Change(p_values[1], alone[1], reports[1], slowed / factor),
                least_p(len(first), len(second)),
                max(slowed, sped) > 1,
                limit,
            )
        )
    return tuple(looks)


def _machine(model: str, itself: _Claim, others: Mapping[Engine, _Claim]) -> tuple[float, list[Finding]]:
    """Factor by which the machine of the new run is slower, 1 where it is not; and what shows it.

    ``itself`` is the reference. Slower alone it proves nothing. What else runs may make TensorFlow's threads wait for
    each other, up to three times as long, and slow nothing else.
    """
    slower, faster = (_agree(changes, NEEDED) is not None for changes in (itself.slowed, itself.sped))
    lost = {engine: _middle(look.factor for look in claim.looks) for engine, claim in others.items()}
    factor = _slower_by(_middle(look.factor for look in itself.looks), list(lost.values()), slower)
    taken = ", ".join(f"{engine.variant} {times:.2f}" for engine, times in lost.items())
    if factor > 1:
        what = "slower machine"
        why = (
            f"half or more of the others are slower, too (times as long: {taken}): the machine was busier or slower in "
            f"the new run, {factor:.2f} times. Variants of {model} count as slower only where they lost "
            f"{MARGIN_OF_RATIOS:.2f} times as much"
        )
    elif slower:
        what = "slower reference"
        why = (
            f"most of the others are not (times as long: {taken}): TensorFlow was slower in the new run, not the "
            "machine, and that excuses nothing"
        )
    elif faster and _half([1 / times for times in lost.values()]) > UNCHANGED:
        what = "faster machine"
        why = (
            f"half or more of the others are faster, too (times as long: {taken}): the machine was busier or slower in "
            "the old run, so that a variant may have become slower without showing it; record the baseline again"
        )
    elif faster:
        what = "faster reference"
        why = f"most of the others are not (times as long: {taken}): TensorFlow was slower before, not the machine"
    else:
        return 1.0, []
    return factor, [_finding(NOTE, what, itself, itself.looks, why)]


def _slower_by(reference: float, others: Sequence[float], sure: bool) -> float:
    """Factor by which a machine is slower on which the ``reference`` and the ``others`` take so much longer.

    It slows all of them: the less of what the reference lost and what half of the others lost at least. A reference
    that is not ``sure`` to be slower, as disturbed ones are not, needs more of them, and several. 1 where it is not.
    """
    changed = sum(factor > UNCHANGED for factor in others)
    enough = sure or changed >= max(NEARLY_ALL * len(others), NEEDED)
    factor = min(reference, _half(others)) if enough else 1.0
    return factor if factor > UNCHANGED else 1.0


def _half(factors: Sequence[float]) -> float:
    """Factor that half of them reach at least."""
    return sorted(factors)[len(factors) // 2]


def _middle(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _relative(
    engine: Engine, other: Engine | None, points: Sequence[Point], old: Speeds, new: Speeds, basis: Basis
) -> tuple[list[_Claim], list[Finding]]:
    """Compare the speed-ups of one engine: over the ``other`` one of the same run, and over single samples."""
    claims = []
    if other is not None:
        shared = [p for p in points if all((other, *p[1:]) in speeds for speeds in (old, new))]
        looks = _looks(
            shared, old, new, basis.margin, yardstick=lambda speeds, s: speeds[other, s.batch, s.samples_per_round]
        )
        claims.append(_Claim(str(engine), f"times the samples/s of {other.variant}", looks, basis.margin))
    singles = (engine, SINGLE, SINGLE)
    margin = max(basis.margin, MARGIN_OF_SINGLES)
    if singles in points:
        batches = [point for point in points if point[1] != SINGLE]
        looks = _looks(batches, old, new, margin, yardstick=lambda speeds, _: speeds[singles])
        claims.append(_Claim(str(engine), "times the samples/s of its single samples", looks, margin))
    claims = [claim for claim in claims if claim.looks]
    if claims:
        return claims, []
    why = "neither another engine to relate it to nor single samples were measured in both runs, on different machines"
    return [], [Finding(NOTE, "speed not compared", str(engine), "", "", "", why)]


def _yardstick(
    engine: Engine, measured: Collection[Engine], reference: Engine | None, basis: Basis, formats: Formats
) -> Engine | None:
    """Choice of what an engine's speed is related to: the reference, or FP32 of the same format; None for neither.

    On other hardware FP32 of the same format comes first. What is made for a GPU is never related to the reference,
    which the CPU runs: a GPU's gain over a CPU says nothing of the engine. On the same hardware a reference that
    another version runs is no yardstick.
    """
    plain = next((one for one in measured if one.is_plain_of(engine)), None)
    if basis.kind == "other hardware":
        order = [plain] if engine.device_bound(formats) else [plain, reference]
    else:
        order = [reference, plain] if basis.same_reference else [plain]
    return next((one for one in order if one and one != engine), None)


def _needed(changes: Sequence[_Change]) -> int:
    """Least number of batch sizes that have to agree, of as many reports as all of them have."""
    return NEEDED if min((change.reports for change in changes), default=1) == 1 else NEEDED_OF_SEVERAL


def _agree(changes: Sequence[_Change], needed: int) -> float | None:
    """P-value of the measurements that agree, or None where too few do or one speaks against."""
    shown = [change.p for change in changes if change.shown]
    return None if len(shown) < needed or any(change.denied for change in changes) else max(shown)


def _proof(changes: Sequence[_Change]) -> float:
    """P-value of what the measurements show, all together or one alone; 1 where they show nothing."""
    alone = len(changes) * min(change.p_alone for change in changes)
    together = _agree(changes, _needed([change for change in changes if change.shown]))
    return min(alone, 1.0 if together is None else together, 1.0)


def _judge(claims: Sequence[_Claim]) -> list[Finding]:
    """Judge all claims together, slower ones and faster ones."""
    slower = _held(REGRESSION, "slower", claims, [claim.slowed for claim in claims])
    # A slower machine makes what kept its times no faster.
    measured = [claim.as_measured for claim in claims]
    faster = _held(IMPROVEMENT, "faster", measured, [claim.sped for claim in measured])
    suspected = [_suspicion(claim) for i, claim in enumerate(claims) if i not in slower and claim.suspected]
    findings = [*slower.values(), *faster.values(), *suspected]
    said = {finding.subject for finding in findings}
    for claim in claims:
        if claim.name not in said and (why := _undecided(claim, len(claims))):
            findings.append(Finding(NOTE, "speed not judged", claim.name, "", "", "", why))
    return findings


def _held(kind: str, what: str, claims: Sequence[_Claim], changes: Sequence[Sequence[_Change]]) -> dict[int, Finding]:
    """Claims whose ``changes`` in one direction hold among all: what is found of them, by their index."""
    found = {}
    held = holm([_proof(of_claim) for of_claim in changes], ALPHA)
    for index, claim in enumerate(claims):
        if held[index]:
            shown = [change for change in changes[index] if change.shown]
            looks = [look for look, change in zip(claim.looks, changes[index], strict=True) if change.shown]
            alone = _agree(changes[index], _needed(shown)) is None
            found[index] = _finding(kind, what, claim, looks, _why(claim, shown, alone))
    return found


def _suspicion(claim: _Claim) -> Finding:
    """Note on what is slower but not surely so, and what is lacking."""
    looks = claim.suspected
    rest = ", ".join(str(look.batch) for look in claim.looks if look.batch not in {one.batch for one in looks})
    where = f"at {len(looks)} of {len(claim.looks)} batch sizes{f', not at {rest}' if rest else ''}"
    needed = _needed([look.slower for look in looks])
    alone = f"alone it counts beyond {looks[0].limit:.2g} times what others explain"
    if looks[0].limit == DISTURBED:
        alone += f", or where each of {MANY} reports is slower than each of {MANY} old ones"
    why = f"as a measurement that was disturbed looks ({needed} have to agree, and none may contradict; {alone})"
    if claim.unscaled:
        why = f"by more than the machine, but not surely {claim.margin:.2f} times as much ({needed} have to agree)"
    return _finding(NOTE, "perhaps slower", claim.as_measured, looks, f"{where}: {why}")


def _undecided(claim: _Claim, count: int) -> str | None:
    """Reason why the measurements of a claim, of ``count`` in all, can tell nothing; None where they can."""
    needed = _needed([look.slower for look in claim.looks])
    if all(look.reachable > ALPHA / count for look in claim.looks):
        return f"too few rounds to tell a change from noise among {count} comparisons"
    if len(claim.looks) < needed:
        return f"only {len(claim.looks)} measured in both runs, and {needed} have to agree; give further reports"
    # Neither slower nor as fast as before, whatever others took.
    disturbed = [look for look in claim.looks if look.disturbed and not look.slower.denied]
    if len(claim.looks) - len(disturbed) >= needed:
        return None
    return (
        f"other processes disturbed {len(disturbed)} of {len(claim.looks)} measurements in one of the runs by as much "
        "as a change would; run it again on a quieter machine, or give further reports"
    )


def _why(claim: _Claim, shown: Sequence[_Change], alone: bool) -> str:
    reports = min(change.reports for change in shown)
    against = f"of {len(claim.looks)} batch sizes" + (f" in each of {reports} reports" if reports > 1 else "")
    worst = max(change.p for change in shown)
    noise = f"beyond a factor of {claim.margin:.2f} with p ≤ {worst:.1g} (rank test of the rounds)"
    return f"{len(shown)} {against}; {noise}" + (
        "; more than disturbance explains, whatever the others say" if alone else ""
    )


def _finding(kind: str, what: str, claim: _Claim, looks: Sequence[_Look], why: str) -> Finding:
    """Show the measurement in the middle, and by how much all of them changed."""
    middle = sorted(looks, key=lambda look: look.factor)[(len(looks) - 1) // 2]
    factors = sorted(look.factor for look in looks)
    batches = ", ".join(str(look.batch) for look in looks)
    spread = f"{factors[0]:.2f}" if len(looks) == 1 else f"{factors[0]:.2f} to {factors[-1]:.2f}"
    return Finding(
        kind,
        what,
        claim.name,
        f"{1 / middle.old:,.4g} {claim.unit} at batch {middle.batch}",
        f"{1 / middle.new:,.4g}",
        f"{spread} times as long at batch {batches}",
        why,
    )
