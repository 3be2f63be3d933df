"""Which engines got slower between two runs, told from the noise of measuring them.

A measurement is half a second of one engine at one batch size. What else runs on a shared machine can slow all of it,
by 1.9 times on 2 cores, and nothing in its rounds shows that. So one measurement proves nothing: an engine counts as
slower where several that are apart in time agree, its batch sizes or those of further reports; and each has to lose
more than the processor time that others took meanwhile explains, where that was recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.history.environment import MARGIN_OF_RATIOS, Basis
from conformance.history.finding import IMPROVEMENT, NOTE, REGRESSION, Finding
from conformance.history.statistics import holm, least_p, rank_test, thinned

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALPHA = 0.01
"""The chance that the noise within measurements makes any engine of a comparison seem slower."""

NEEDED, NEEDED_OF_SEVERAL = 3, 2
"""Batch sizes that have to agree: of one report of the new state, and where there are several."""

UNCHANGED = 1.08
"""A measurement within this factor speaks against: something that got slower is slower at every batch."""

MARGIN_OF_SINGLES = 2.0
"""Losing half of the gain over single samples counts: all ratios of a variant share one measurement at batch 1."""

QUIET = 1.25
"""Others explain nothing where they disturb less than this times more than in the other run: ticks are coarse."""

SINGLE = 1


@dataclass(frozen=True)
class Speed:
    """One measurement: seconds a sample of its rounds, thinned, and how many times as long others made it at most."""

    model: str
    variant: str
    batch: int
    samples_per_round: int
    seconds: NDArray[Any]
    median: float
    disturbance: float

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What identifies it in every run."""
        return (self.model, self.variant, self.batch, self.samples_per_round)


def disturbance(busy: float | None, cores: int) -> float:
    """Say how many times as long calls take at most, while others keep ``busy`` of the ``cores`` busy.

    Threads of an engine wait for each other, so that losing one core of two costs half of the speed (1.95 times as long
    was seen): each busy core counts twice. What was not recorded explains nothing: 1.
    """
    return 1.0 if busy is None else 1.0 + 2.0 * busy / cores


def needed_of(reports: int) -> int:
    """Say how many batch sizes have to agree, of so many reports."""
    return NEEDED if reports == 1 else NEEDED_OF_SEVERAL


def excess(one: Speed, other: Speed) -> float:
    """Say how many times as long others explain that ``one`` takes, beyond what they did to ``other``."""
    ratio = one.disturbance / other.disturbance
    return ratio if ratio > QUIET else 1.0


Speeds = Mapping[tuple[str, str, int, int], Speed]


def read_speeds(report: Mapping[str, Any]) -> Speeds:
    """Give the measurements of a report; of one that is repeated the fastest."""
    return fastest({speed.key: speed} for entry in report["benchmarks"] for speed in _read(entry, report))


def _read(entry: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[Speed]:
    """Give the one measurement of an entry, or none where it has no rounds."""
    count = entry.get("samples_per_round", entry["batch"])
    seconds = np.asarray(entry["rounds_seconds"], dtype=np.float64) / count
    if len(seconds):
        disturbed = disturbance(entry.get("busy_elsewhere"), report["environment"]["cores"])
        median = float(np.median(seconds))
        yield Speed(entry["model"], entry["variant"], entry["batch"], count, thinned(seconds), median, disturbed)


def fastest(several: Iterable[Speeds]) -> Speeds:
    """Give the measurements of several reports of the same state; of one that is repeated the fastest.

    Whatever else runs on a machine only ever slows, so that the fastest is the least disturbed (Chen and Revels,
    Robust benchmarking in noisy environments, arXiv:1608.04295).
    """
    found: dict[tuple[str, str, int, int], Speed] = {}
    for speeds in several:
        for key, speed in speeds.items():
            if key not in found or speed.median < found[key].median:
                found[key] = speed
    return found


@dataclass(frozen=True)
class _Look:
    """One measurement of both runs: its name, times as long as before, and p-values of slower and of faster."""

    batch: int
    old: float
    new: float
    p_slower: float
    p_faster: float
    reachable: float
    disturbed: tuple[float, float]

    @property
    def factor(self) -> float:
        return self.new / self.old

    def speaks_against(self, slower: bool) -> bool:
        """Whether nothing changed here, even if the other side of the comparison was disturbed as far as recorded."""
        change = self.factor * self.disturbed[0] if slower else self.disturbed[1] / self.factor
        return change < UNCHANGED


@dataclass(frozen=True)
class _Claim:
    """Measurements that may together show that something changed, in what unit, and with which margin."""

    name: str
    unit: str
    looks: tuple[_Look, ...]
    margin: float


def compare_speeds(
    old: Speeds, new: Speeds, basis: Basis, counts: tuple[int, int], references: Mapping[str, str]
) -> list[Finding]:
    """Say what got slower and faster; ``references`` names each model's reference, ``counts`` are those of reports.

    One old report is enough where seconds are compared: what disturbed it makes nothing seem slower. Ratios need both.
    """
    findings: list[Finding] = []
    common = [key for key in old if key in new]
    claims: list[_Claim] = []
    for model in dict.fromkeys(key[0] for key in common):
        reference = references.get(model, "")
        machine = 1.0
        if basis.absolute:
            looks = _looks([k for k in common if k[:2] == (model, reference)], old, new, basis.margin)
            machine, found = _machine(model, reference, looks, basis.margin)
            findings += found
        for variant in dict.fromkeys(key[1] for key in common if key[0] == model):
            keys = [key for key in common if key[:2] == (model, variant)]
            if basis.absolute:
                if variant != reference:
                    margin = basis.margin if machine == 1.0 else MARGIN_OF_RATIOS
                    unit = "samples/s" if machine == 1.0 else "samples/s (the old ones as on the slower machine)"
                    claims.append(_Claim(f"{model}-{variant}", unit, _looks(keys, old, new, margin, machine), margin))
            else:
                found_claims, found = _relative(keys, old, new, basis, reference, min(counts) > 1)
                claims += found_claims
                findings += found
    return findings + _judge(claims, counts[1] if basis.absolute else min(counts))


def _looks(
    keys: Sequence[tuple[str, str, int, int]],
    old: Speeds,
    new: Speeds,
    margin: float,
    machine: float = 1.0,
    yardstick: Callable[[Speeds, Speed], Speed] | None = None,
    several: bool = False,
) -> tuple[_Look, ...]:
    """Test measurement by measurement; ``machine`` times as long is expected, or each is related to its yardstick."""
    looks = []
    for key in keys:
        before, after = old[key], new[key]
        slowed, sped = excess(after, before), excess(before, after)
        units = [machine, 1.0]
        if yardstick is not None:
            yards = yardstick(old, before), yardstick(new, after)
            units = [1 / yard.median for yard in yards]
            # A disturbed yardstick makes what it measures look fast. The same load slows engines differently, now and
            # then: the fastest of several reports have escaped that, a single one may not.
            if several:
                slowed, sped = slowed * excess(*yards), sped * excess(*reversed(yards))
            else:
                slowed = after.disturbance * yards[0].disturbance
                sped = before.disturbance * yards[1].disturbance
        first, second = before.seconds * units[0], after.seconds * units[1]
        looks.append(
            _Look(
                after.batch,
                before.median * units[0],
                after.median * units[1],
                rank_test(second, first, margin * slowed),
                rank_test(first, second, margin * sped),
                least_p(len(first), len(second)),
                (sped, slowed),
            )
        )
    return tuple(looks)


def _machine(model: str, reference: str, looks: tuple[_Look, ...], margin: float) -> tuple[float, list[Finding]]:
    """Say whether the machine was slower: then the reference is, which nothing converts; and how many times."""
    if not looks:
        return 1.0, []
    factor = float(np.median([look.factor for look in looks]))
    name = f"{model}-{reference}"
    if _agree(looks, 1, slower=True) is not None:
        why = (
            f"{name} itself is slower, which nothing converts: the machine was busier or slower in the new run. "
            f"Variants of {model} count as slower only where they lost {MARGIN_OF_RATIOS:.2f} times as much"
        )
        return factor, [_finding(NOTE, "slower machine", _Claim(name, "samples/s", looks, margin), looks, why)]
    if _agree(looks, 1, slower=False) is not None:
        why = (
            f"{name} itself is faster: the machine was busier or slower in the old run, so that a variant may have "
            "become slower without showing it; record the baseline again"
        )
        return 1.0, [_finding(NOTE, "faster machine", _Claim(name, "samples/s", looks, margin), looks, why)]
    return 1.0, []


def _relative(
    keys: Sequence[tuple[str, str, int, int]], old: Speeds, new: Speeds, basis: Basis, reference: str, several: bool
) -> tuple[list[_Claim], list[Finding]]:
    """Compare the speed-ups of one variant: over another engine of the same run, and over single samples."""
    model, variant = keys[0][:2]
    name = f"{model}-{variant}"
    claims = []
    other = _yardstick(variant, reference, basis, {key[1] for key in old if key[0] == model and key in new})
    if other is not None:
        shared = [k for k in keys if all((model, other, k[2], k[3]) in speeds for speeds in (old, new))]
        looks = _looks(
            shared,
            old,
            new,
            basis.margin,
            yardstick=lambda speeds, s: speeds[(model, other, s.batch, s.samples_per_round)],
            several=several,
        )
        claims.append(_Claim(name, f"times the samples/s of {other}", looks, basis.margin))
    singles = (model, variant, SINGLE, SINGLE)
    margin = max(basis.margin, MARGIN_OF_SINGLES)
    if singles in keys:
        batches = [key for key in keys if key[2] != SINGLE]
        looks = _looks(batches, old, new, margin, yardstick=lambda speeds, _: speeds[singles], several=several)
        claims.append(_Claim(name, "times the samples/s of its single samples", looks, margin))
    claims = [claim for claim in claims if claim.looks]
    if claims:
        return claims, []
    why = "neither another engine to relate it to nor single samples were measured in both runs, on different machines"
    return [], [Finding(NOTE, "speed not compared", name, "", "", "", why)]


def _yardstick(variant: str, reference: str, basis: Basis, measured: set[str]) -> str | None:
    """Choose what a variant's speed is related to: the reference, or FP32 of the same engine; None for neither.

    On other hardware FP32 of the same engine comes first, because a GPU's gain over a CPU says nothing of the engine.
    A reference that another version runs is no yardstick, where the hardware is the same.
    """
    format_, _, rest = variant.partition("-")
    _, profiled, profile = rest.partition("-b")
    plain = f"{format_}-fp32{profiled}{profile}"
    if basis.kind == "other hardware":
        order = [plain] if format_ == "tensorrt" else [plain, reference]
    else:
        order = [reference, plain] if basis.same_reference else [plain]
    return next((other for other in order if other in measured and other != variant), None)


def _agree(looks: Sequence[_Look], reports: int, *, slower: bool) -> float | None:
    """Give the p-value of the measurements that agree, or None where too few do or one speaks against."""
    p_values = [look.p_slower if slower else look.p_faster for look in looks]
    agreeing = [p for p in p_values if p < ALPHA]
    silent = [look for p, look in zip(p_values, looks, strict=True) if p >= ALPHA]
    if len(agreeing) < needed_of(reports) or any(look.speaks_against(slower) for look in silent):
        return None
    return max(agreeing)


def _judge(claims: Sequence[_Claim], reports: int) -> list[Finding]:
    """Judge all claims together, slower ones and faster ones."""
    findings = []
    suspected: dict[int, list[_Look]] = {}
    for slower, kind, what in ((True, REGRESSION, "slower"), (False, IMPROVEMENT, "faster")):
        p_values = [_agree(claim.looks, reports, slower=slower) for claim in claims]
        held = holm([1.0 if p is None else p for p in p_values], ALPHA)
        for index, claim in enumerate(claims):
            looks = [look for look in claim.looks if (look.p_slower if slower else look.p_faster) < ALPHA]
            if held[index]:
                findings.append(_finding(kind, what, claim, looks, _why(claim, looks, reports)))
            elif slower and looks:
                suspected[index] = looks
    findings += [_suspicion(claims[index], looks, reports) for index, looks in suspected.items()]
    said = {finding.subject for finding in findings}
    for claim in claims:
        if claim.name not in said and (why := _undecided(claim, len(claims), reports)):
            findings.append(Finding(NOTE, "speed not judged", claim.name, "", "", "", why))
    return findings


def _suspicion(claim: _Claim, looks: Sequence[_Look], reports: int) -> Finding:
    rest = ", ".join(str(look.batch) for look in claim.looks if look not in looks)
    why = (
        f"at {len(looks)} of {len(claim.looks)} batch sizes{f', not at {rest}' if rest else ''}: as a measurement that "
        f"was disturbed looks ({needed_of(reports)} have to agree, and none may contradict); give further reports"
    )
    return _finding(NOTE, "perhaps slower", claim, looks, why)


def _undecided(claim: _Claim, count: int, reports: int) -> str | None:
    """Say why the measurements of a claim, of ``count`` in all, can tell nothing; None where they can."""
    needed = needed_of(reports)
    if all(look.reachable > ALPHA / count for look in claim.looks):
        return f"too few rounds to tell a change from noise among {count} comparisons"
    if len(claim.looks) < needed:
        return f"only {len(claim.looks)} measured in both runs, and {needed} have to agree; give further reports"
    # Neither slower nor as fast as before, whatever others took.
    disturbed = [look for look in claim.looks if max(look.disturbed) > 1 and not look.speaks_against(slower=True)]
    if len(claim.looks) - len(disturbed) >= needed:
        return None
    return (
        f"other processes disturbed {len(disturbed)} of {len(claim.looks)} measurements in one of the runs by as much "
        "as a change would; run it again on a quieter machine, or give further reports"
    )


def _why(claim: _Claim, looks: Sequence[_Look], reports: int) -> str:
    worst = max(min(look.p_slower, look.p_faster) for look in looks)
    against = f"of {len(claim.looks)} batch sizes" + (f" in each of {reports} reports" if reports > 1 else "")
    return (
        f"{len(looks)} {against}; beyond a factor of {claim.margin:.2f} with p ≤ {worst:.1g} (rank test of the rounds)"
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
