"""Whether answers got worse: accuracy against labels, differences and flips from the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.accuracy import COARSE_SAMPLES
from conformance.compare import Figure
from conformance.history.finding import IMPROVEMENT, NOTE, REGRESSION, Finding, Key, by_variant, named
from conformance.history.statistics import holm, share_bound, sign_test
from conformance.report.document import Document

ALPHA = 0.05
"""The chance that answers which changed by accident, as in rebuilt engines, make anything seem less accurate."""

LEAST_LOSS = 0.002
"""Share of the samples that has to be lost; less is no regression, however sure it is."""

GROWTH = 2.0
"""Differences from the reference count as larger from twice the old ones,"""

SHARE_OF_TOLERANCE = 0.25
"""and from this share of their tolerance, of the narrower one where the runs have different ones.

Tolerances are up to four times what sound engines were seen to need.
"""

MOST_SHOWN = 100
"""Beyond so many times its tolerance how much a difference is says no more: a broken run's is millions of times."""

FIGURES = ("max", "mean", "kl", "sum")
"""The figures that are compared; flips have a test of their own, and margin is that of a single flip."""


def comparable_models(old: Document, new: Document) -> tuple[set[str], list[Finding]]:
    """Models whose samples come from the same source in both, and notes on the others."""
    before, after = ({m["name"]: m for m in report["models"]} for report in (old, new))
    same, findings = set(), []
    for name in before.keys() & after.keys():
        a, b = (report[name]["data"] for report in (before, after))
        if all(a[key] == b[key] for key in ("source", "samples")):
            same.add(name)
        else:
            shown = [f"{d['samples']:,} samples of {d['source']}" for d in (a, b)]
            why = "accuracy and differences are not compared: those of other samples say nothing about each other"
            findings.append(Finding(NOTE, "other samples", name, shown[0], shown[1], "", why))
    return same, findings


@dataclass(frozen=True)
class _Claim:
    """Right answers of a variant on the same samples, how many it lost (beyond its reference), and how many may differ.

    ``discordant`` bounds from above the answers that differ between the runs, were nothing worse.
    """

    name: str
    old: int
    new: int
    lost: int
    samples: int
    discordant: int


def compare_accuracy(old: Document, new: Document, models: set[str]) -> list[Finding]:
    """Variants that lost right answers, beyond what their reference lost, and references that did."""
    variants, references, findings = [], [], []
    before, after = by_variant(old["accuracy"]), by_variant(new["accuracy"])
    for key in [k for k in before if k in after and k[0] in models]:
        a, b = before[key], after[key]
        if found := _other_count(named(*key), a["samples"], b["samples"]):
            findings.append(found)
            continue
        # What the reference lost is a finding of its own, not one for each variant.
        lost = a["correct"] - b["correct"] - (a["reference_correct"] - b["reference_correct"])
        share = min(_flip_share(old, new, key), _independent(a, b))
        variants.append(_claim(named(*key), a, b, lost, share))
    before, after = ({(m["name"], m["reference"]): m["reference_accuracy"] for m in r["models"]} for r in (old, new))
    for key in [k for k in before if before[k] and after.get(k) and k[0] in models]:
        a, b = before[key], after[key]
        if a["samples"] == b["samples"]:
            references.append(_claim(named(*key), a, b, a["correct"] - b["correct"], _independent(a, b)))
    return findings + _judge(references, "the reference itself") + _judge(variants, "but for what the reference lost")


def _claim(name: str, old: Mapping[str, Any], new: Mapping[str, Any], lost: int, share: float) -> _Claim:
    count = old["samples"]
    return _Claim(name, old["correct"], new["correct"], lost, count, int(share * count) + 1)


def _judge(claims: Sequence[_Claim], what: str) -> list[Finding]:
    findings = []
    for sign, kind, word in ((1, REGRESSION, "less accurate"), (-1, IMPROVEMENT, "more accurate")):
        p_values = [sign_test(sign * claim.lost, claim.discordant) for claim in claims]
        for c, p, sure in zip(claims, p_values, holm(p_values, ALPHA), strict=True):
            if sure and sign * c.lost > max(COARSE_SAMPLES, LEAST_LOSS * c.samples):
                change = f"{abs(c.lost):,} of {c.samples:,} {'lost' if c.lost > 0 else 'gained'} ({what})"
                why = f"p = {p:.1g} (sign test; at most {c.discordant:,} answers differ by chance)"
                shown = [f"{right / c.samples:.2%} right" for right in (c.old, c.new)]
                findings.append(Finding(kind, word, c.name, shown[0], shown[1], change, why))
    return findings


def _other_count(name: str, old: int, new: int) -> Finding | None:
    if old == new:
        return None
    why = "accuracy is compared on the same samples only"
    return Finding(NOTE, "accuracy not compared", name, f"{old:,} samples", f"{new:,}", "", why)


def _independent(old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    """Share of answers of which one of two is right, were two classifiers this accurate independent."""
    right = (old["correct"] + new["correct"]) / (old["samples"] + new["samples"])
    return float(2 * right * (1 - right))


def _flip_share(old: Document, new: Document, key: Key) -> float:
    """Bound the share of answers that differ between the runs by chance: a variant's flips in both, on the samples."""
    found = [c for r in (old, new) for c in r["comparisons"] if (c["model"], c["variant"]) == key]
    found = [c for c in found if c["inputs"] == "samples"]
    if len(found) != 2 or found[0]["samples"] != found[1]["samples"]:
        return 1.0
    return share_bound(sum(c["flips"] for c in found), found[0]["samples"])


def compare_differences(old: Document, new: Document, models: set[str]) -> list[Finding]:
    """Larger differences from the reference's outputs than before, and top-1 classes that flip more often."""
    findings: list[Finding] = []
    wider: dict[Key, list[str]] = {}
    # Drawn inputs are others wherever Hypothesis or a strategy is.
    before, after = (
        {(c["model"], c["variant"], c["inputs"]): c for c in r["comparisons"] if c["inputs"] != "drawn"}
        for r in (old, new)
    )
    common = [k for k in before if k in after and k[0] in models and before[k]["samples"] == after[k]["samples"]]
    for key in common:
        for figure, a in before[key]["figures"].items():
            if b := after[key]["figures"].get(figure):
                wider.setdefault(key[:2], []).extend(_wider(figure, key[2], a, b))
                if figure in FIGURES:
                    findings += _grown(f"{figure} on {key[2]}", named(*key[:2]), a, b)
    for sign, kind, what in ((1, REGRESSION, "more flips"), (-1, IMPROVEMENT, "fewer flips")):
        changes = [(key, before[key]["flips"], after[key]["flips"]) for key in common]
        p_values = [sign_test(sign * (b - a), a + b) for _, a, b in changes]
        for (key, a, b), p, sure in zip(changes, p_values, holm(p_values, ALPHA), strict=True):
            if sure:
                why = f"p = {p:.1g} (sign test: were the runs alike, each flip would be as likely in either)"
                count = before[key]["samples"]
                name = named(*key[:2])
                findings.append(Finding(kind, what, name, f"{a} of {count} {key[2]}", str(b), f"{b - a:+d}", why))
    batching_before, batching_after = by_variant(old["batching"]), by_variant(new["batching"])
    for pair in [k for k in batching_before if k in batching_after and k[0] in models]:
        a, b = ([side[pair]["largest"], side[pair]["allowed"]] for side in (batching_before, batching_after))
        wider.setdefault(pair, []).extend(_wider("batching", "", a, b))
        findings += _grown("difference between batched and alone", named(*pair), a, b)
    why = "the tests of the new run allow more; what this comparison finds is judged by the narrower tolerance of both"
    return findings + [
        Finding(NOTE, "wider tolerance", named(*key), "", "", ", ".join(changes), why)
        for key, changes in wider.items()
        if changes
    ]


def _wider(figure: str, inputs: str, old: Sequence[float | None], new: Sequence[float | None]) -> list[str]:
    """Words on how much more is allowed than in the old run, of [needed, allowed] of both runs, where it is more.

    What allows anything is no tolerance, and has no size: the figure is not judged.
    """
    a, b = (Figure(figure, 0.0, side[1] or 0.0) for side in (old, new))
    if not a.judged or a.allowed >= b.allowed:
        return []
    what = f"{figure} on {inputs}" if inputs else figure
    return [f"{what} {a.allowed:.1e} → {f'{b.allowed:.1e}' if b.judged else 'not judged'}"]


def _grown(what: str, name: str, old: Sequence[float | None], new: Sequence[float | None]) -> list[Finding]:
    """Compare [needed, allowed] of both runs; needed is None where it is not finite."""
    a, b = (float("inf") if side[0] is None else side[0] for side in (old, new))
    for kind, word, less, more in ((REGRESSION, "less accurate", a, b), (IMPROVEMENT, "more accurate", b, a)):
        # By a tolerance that was widened for it, no loss would count.
        allowed = min(old[1] or 0.0, new[1] or 0.0)
        if more > GROWTH * less and more > SHARE_OF_TOLERANCE * allowed:
            change = f"{b / a:.2g} times" if a else "from zero"
            why = f"more than {GROWTH:g} times, and {_share(more, allowed)} (from {SHARE_OF_TOLERANCE:.0%} it counts)"
            return [Finding(kind, word, name, f"{what} {a:.2e}", f"{b:.2e}", change, why)]
    return []


def _share(needed: float, allowed: float) -> str:
    """Words on what part of its tolerance a difference is."""
    if not allowed:
        return "where none is allowed"
    if needed > MOST_SHOWN * allowed:
        return f"more than {MOST_SHOWN} times the tolerance"
    return f"{needed / allowed:.0%} of the tolerance"
