"""What changed in sizes, skips and failures between two runs, and what one of them lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from conformance.history.engine import NOTHING_KNOWN, Formats, read_engines
from conformance.history.finding import IMPROVEMENT, NOTE, REGRESSION, Finding, Key, by_variant, named
from conformance.report.document import Document

LARGER = 0.05
"""An artifact may grow by this share."""

LEAST_BYTES = 1024
"""Growing by less than this is no regression, however small the artifact is."""

ONLY_BENCHMARKS = "--benchmark-only active"
"""What the reason of a test says that was skipped because only benchmarks were asked for."""

NO_BENCHMARKS = (
    "--benchmark-skip active",
    "benchmarks are off",
    "throughput cannot be measured in several processes at once",
)
"""What the reasons of benchmarks say that were skipped because the run was told so, or has several processes."""

NOT_SELECTED = (ONLY_BENCHMARKS, *NO_BENCHMARKS)
"""What the reasons of tests say that were skipped because the run was told so."""

NOT_JUDGED = "not judged"
"""The verdict on a variant that hangs on what another failure is about."""

_Owner = tuple[str | None, str | None]
"""Whose tests: a model's name and a variant's; none for the suite's own tests."""


def compare_sizes(old: Document, new: Document, formats: Formats = NOTHING_KNOWN) -> list[Finding]:
    """Artifacts that are larger or smaller; one that is made for another GPU is another program, and only noted."""
    before, after = by_variant(old["artifacts"]), by_variant(new["artifacts"])
    engines = read_engines(new)
    gpus = [(report["environment"]["gpu"] or {}).get("name") for report in (old, new)]
    findings = []
    for key in [k for k in before if k in after]:
        a, b = before[key]["bytes"], after[key]["bytes"]
        for kind, what, less, more in ((REGRESSION, "larger", a, b), (IMPROVEMENT, "smaller", b, a)):
            if more > less * (1 + LARGER) and more - less > LEAST_BYTES:
                why = f"artifacts may grow by {LARGER:.0%}"
                if gpus[0] != gpus[1] and engines[key].device_bound(formats):
                    kind, why = NOTE, f"made for another GPU ({gpus[0]} → {gpus[1]})"  # noqa: PLW2901
                change = f"{b / a - 1:+.1%}" if a else "from nothing"
                findings.append(Finding(kind, what, named(*key), f"{a:,} bytes", f"{b:,} bytes", change, why))
    return findings


def compare_failures(old: Document, new: Document) -> list[Finding]:
    """Newly failing tests, new known failures, and tests that pass again."""
    findings = []
    before, after = ({f["test"]: f for f in report["failures"]} for report in (old, new))
    for test, failure in after.items():
        name = named(failure["model"], failure["variant"])
        if test in before:
            why = f"{test}: it failed in the old run too"
            findings.append(Finding(NOTE, "still failing", name, "failed", "failed", "", why))
        else:
            why = f"{test}: {failure['summary']}"
            findings.append(Finding(REGRESSION, "newly failing", name, "did not fail", "failed", "", why))
    verdicts = {key: v["verdict"] for key, v in by_variant(new["variants"]).items()}
    for test, failure in before.items():
        key = (failure["model"], failure["variant"])
        if test not in after and verdicts.get(key, "passed") == "passed":
            name = named(*key)
            findings.append(Finding(IMPROVEMENT, "no longer failing", name, "failed", "passed", "", test))
    said = {f.subject for f in findings}
    for key, variant in by_variant(new["variants"]).items():
        was = by_variant(old["variants"]).get(key)
        if variant["verdict"] == "failed" and was and was["verdict"] != "failed" and named(*key) not in said:
            why = "the report names no failed test"
            findings.append(Finding(REGRESSION, "newly failing", named(*key), was["verdict"], "failed", "", why))
    findings += _not_judged(old, new)
    listed = {entry["test"] for entry in old["known_failures"]}
    for entry in new["known_failures"]:
        if entry["test"] not in listed and entry["test"] not in before and entry["outcome"] != "passed":
            why = f"{entry['test']}: {entry['reason']}"
            name = named(entry["model"], entry["variant"])
            findings.append(Finding(REGRESSION, "newly a known failure", name, "not listed", "listed", "", why))
    return findings


def _not_judged(old: Document, new: Document) -> list[Finding]:
    """Variants that newly are not judged, whatever their tests are, and those that are again."""
    findings = []
    before, after = by_variant(old["variants"]), by_variant(new["variants"])
    for key in [k for k in before if k in after]:
        was, now = before[key]["verdict"], after[key]["verdict"]
        if now == NOT_JUDGED and was not in {"failed", NOT_JUDGED}:
            why = after[key]["reason"] or "no reason given"
            findings.append(Finding(REGRESSION, "newly not judged", named(*key), was, NOT_JUDGED, "", why))
        elif was == NOT_JUDGED and now == "passed":
            why = before[key]["reason"] or "no reason given"
            findings.append(Finding(IMPROVEMENT, "judged again", named(*key), NOT_JUDGED, "passed", "", why))
    return findings


def compare_skips(old: Document, new: Document) -> list[Finding]:
    """Variants of which tests that ran are skipped, or tests that were skipped run."""
    findings = []
    executed = [_executed(report) for report in (old, new)]
    worse, better = (REGRESSION, "newly skipped", "more"), (IMPROVEMENT, "no longer skipped", "fewer")
    for (kind, what, word), pair in ((worse, (old, new)), (better, (new, old))):
        for key, reasons in _skipped_instead(*pair).items():
            a, b = (side.get(key, Counter()).total() for side in executed)
            change = f"{reasons.total()} {word} skipped"
            findings.append(Finding(kind, what, named(*key), f"{a} tests ran", str(b), change, "; ".join(reasons)))
    return findings


def _skipped_instead(ran: Document, skips: Document) -> dict[_Owner, Counter[str]]:
    """Owners of tests that ran in one report and are skipped in the other, with reasons and how many tests each.

    A run of more tests skips more, and one of fewer tests runs fewer: only both together say that tests which ran are
    skipped. Those that the run was told to leave out do not count.
    """
    before, after = (_skipped(report) for report in (ran, skips))
    executed = [_executed(report) for report in (ran, skips)]
    found = {}
    for key, skipped in after.items():
        reasons = skipped - before.get(key, Counter())
        if reasons and executed[0].get(key, Counter()) - executed[1].get(key, Counter()):
            found[key] = reasons
    return found


def _skipped(report: Document) -> dict[_Owner, Counter[str]]:
    found: dict[_Owner, Counter[str]] = {}
    for entry in report["skips"]:
        if not any(part in entry["reason"] for part in NOT_SELECTED):
            found.setdefault((entry["model"], entry["variant"]), Counter())[entry["reason"]] += entry["tests"]
    return found


def _executed(report: Document) -> dict[_Owner, Counter[str]]:
    """Count the tests that ran, whatever came of them, by check; all others than those of variants are one check."""
    found: dict[_Owner, Counter[str]] = {
        (v["model"], v["variant"]): Counter({check: _ran(counts) for check, counts in v["checks"].items()})
        for v in report["variants"]
    }
    others = _ran(report["tests"]) - sum(checks.total() for checks in found.values())
    return {**found, (None, None): Counter({"other": others})}


def _ran(counts: Mapping[str, int]) -> int:
    return counts["passed"] + counts["failed"] + counts["xfailed"]


def compare_presence(old: Document, new: Document, partial: bool) -> list[Finding]:
    """Variants, tests and measurements that the new run lacks, and those that it has in addition.

    Of a ``partial`` run, what was not selected is only noted.
    """
    kind = NOTE if partial else REGRESSION
    what = "not selected" if partial else "missing"
    findings = []
    before, after = by_variant(old["variants"]), by_variant(new["variants"])
    models = {m["name"] for m in new["models"]}
    for key, variant in before.items():
        name = named(*key)
        if key not in after:
            # A model that is tested lacks none of its variants for having been left out.
            gone = kind if key[0] not in models else REGRESSION
            word = what if gone == kind else "missing"
            findings.append(
                Finding(gone, word, name, variant["verdict"], "absent", "", "no such variant in the new run")
            )
            continue
        # Of what cannot run, only a few tests tell; that it runs no more is a finding of its own.
        if "skipped" not in {variant["verdict"], after[key]["verdict"]}:
            findings += _missing_tests(name, kind, what, variant["checks"], after[key]["checks"], new)
    for key, variant in after.items():
        if key not in before:
            why = "no such variant in the old run"
            findings.append(Finding(IMPROVEMENT, "new", named(*key), "absent", variant["verdict"], "", why))
    findings += _missing_measurements(old, new, kind, what, partial)
    return findings


def _missing_tests(
    name: str, kind: str, what: str, old: Mapping[str, Any], new: Mapping[str, Any], report: Document
) -> list[Finding]:
    findings = []
    finished = report["verdict"]["complete"]
    for check, counts in old.items():
        a, b = (sum(c.values()) for c in (counts, new.get(check, {})))
        if b < a:
            why = "fewer tests ran" if finished else "fewer tests ran: the new run did not finish"
            findings.append(Finding(kind, what, name, f"{a} {check} tests", str(b), f"{b - a:+d}", why))
    return findings


def _missing_measurements(old: Document, new: Document, kind: str, what: str, partial: bool) -> list[Finding]:
    """Compare which figures there are; one entry for each variant and section."""
    findings = []
    reasons = [entry["reason"] for entry in new["skips"]]
    only_benchmarks = any(ONLY_BENCHMARKS in reason for reason in reasons)
    no_benchmarks = any(part in reason for reason in reasons for part in NO_BENCHMARKS)
    # What is skipped instead is a finding already.
    present = {(v["model"], v["variant"]) for v in new["variants"] if v["verdict"] != NOT_JUDGED}
    # Nor is there anything of what could not be built; its failure has been told.
    present -= {(f["model"], f["variant"]) for f in new["failures"] if f.get("unusable")}
    present -= _skipped_instead(old, new).keys()
    for section, detail in (("accuracy", ""), ("comparisons", "inputs"), ("batching", ""), ("benchmarks", "batch")):
        before, after = (
            Counter((e["model"], e["variant"], str(e[detail]) if detail else "") for e in report[section])
            for report in (old, new)
        )
        lacking: dict[Key, list[str]] = {}
        for model, variant, part in before - after:
            if (model, variant) in present:
                lacking.setdefault((model, variant), []).append(part)
        for key, parts in lacking.items():
            told = not partial and (no_benchmarks if section == "benchmarks" else only_benchmarks)
            named_parts = (
                f"{section} ({detail} {', '.join(sorted(parts, key=lambda p: (len(p), p)))})" if detail else section
            )
            why = "the run was told to leave tests out" if told else "not in the new run"
            findings.append(
                Finding(
                    NOTE if told else kind,
                    "not selected" if told else what,
                    named(*key),
                    named_parts,
                    "absent",
                    "",
                    why,
                )
            )
    return findings
