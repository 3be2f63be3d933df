"""Compare the results of two runs as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conformance.history.answers import comparable_models, compare_accuracy, compare_differences
from conformance.history.engine import NOTHING_KNOWN, Formats
from conformance.history.environment import Basis, compare_environments
from conformance.history.files import HistoryError
from conformance.history.finding import NOTE, REGRESSION, Finding, named
from conformance.history.outcomes import compare_failures, compare_presence, compare_sizes, compare_skips
from conformance.history.speed import compare_speeds, read_speeds, together
from conformance.history.throttled import compare_throttled
from conformance.report.document import Document


@dataclass(frozen=True)
class Difference:
    """What a comparison found: every finding, how speeds were compared, and one line on each of the two runs."""

    old: str
    new: str
    basis: Basis
    findings: tuple[Finding, ...]

    @property
    def regressed(self) -> bool:
        """Whether anything got worse."""
        return any(finding.kind == REGRESSION for finding in self.findings)

    def of(self, kind: str) -> tuple[Finding, ...]:
        """All findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)


def compare_results(
    old: Sequence[Document], new: Sequence[Document], *, partial: bool = False, formats: Formats = NOTHING_KNOWN
) -> Difference:
    """Compare the runs of an old state with those of a new one.

    Of several reports of one state all measure speed; everything else is the first one's. ``partial`` says that the new
    run was meant to leave things out: they are only noted, but for variants that its models no longer have.
    ``formats`` tell which artifacts are made for one GPU; of those that they do not list none is.
    Raises HistoryError where nothing can be compared.
    """
    before, after = old[0], new[0]
    for reports in (old, new):
        _same_state(reports)
    basis = compare_environments(before["environment"], after["environment"])
    shared = _shared(before, after, partial)
    models, findings = comparable_models(before, after)
    findings = [*_states(before, after), *_fewer(before, after, shared), *findings]
    references = {m["name"]: m["reference"] for m in after["models"]}
    findings += compare_failures(before, after)
    findings += compare_skips(before, after)
    findings += compare_presence(before, after, partial)
    findings += compare_accuracy(before, after, models)
    findings += compare_differences(before, after, models)
    findings += compare_sizes(before, after, formats)
    findings += compare_throttled(old, new)
    speeds = together(map(read_speeds, old)), together(map(read_speeds, new))
    findings += compare_speeds(*speeds, basis, references, formats)
    return Difference(_described(before, len(old)), _described(after, len(new)), basis, tuple(findings))


def _same_state(reports: Sequence[Document]) -> None:
    """Refuse further reports that are not of the same machine and software as the first."""
    for other in reports[1:]:
        basis = compare_environments(reports[0]["environment"], other["environment"])
        if not basis.absolute:
            raise HistoryError(
                f"the reports of {reports[0]['started']} and {other['started']} are given as runs of the same state, "
                f"but differ in {', '.join(basis.differences)}; allowed: runs on the same machine and software"
            )


def _shared(old: Document, new: Document, partial: bool) -> set[tuple[str, str]]:
    """Variants that ran in both; raises HistoryError where there are none."""
    names = [[m["name"] for m in report["models"]] for report in (old, new)]
    if not set(names[0]) & set(names[1]):
        raise HistoryError(
            f"nothing to compare: the old run tested {', '.join(names[0]) or 'no model'}, the new one "
            f"{', '.join(names[1]) or 'none'}; allowed: runs that have a model in common"
        )
    ran = [
        {(v["model"], v["variant"]) for v in report["variants"] if v["verdict"] not in {"skipped", "not run"}}
        for report in (old, new)
    ]
    # A new run that skips or loses everything is worse, not incomparable; what the old one never ran is.
    if not ran[0] or (partial and not ran[0] & ran[1]) or not _known(old) & _known(new):
        shown = [", ".join(sorted(named(*key) for key in side)) or "none" for side in ran]
        raise HistoryError(
            f"nothing to compare: of the variants that ran in the old run ({shown[0]}) none is among those of the new "
            f"({shown[1]}); allowed: runs that have a variant in common"
        )
    return ran[0] & ran[1]


def _known(report: Document) -> set[tuple[str, str]]:
    return {(v["model"], v["variant"]) for v in report["variants"]}


def _states(old: Document, new: Document) -> list[Finding]:
    """Either run that did not pass or did not finish, and what that means for the comparison."""
    findings = []
    if old["verdict"]["status"] != "passed":
        why = (
            "used nevertheless, because what it measured stands: what failed or was missing there cannot newly fail or "
            "be missing, and nothing else is judged less strictly; a baseline that passed says more"
        )
        findings.append(Finding(NOTE, f"{old['verdict']['status']} baseline", "the old run", "", "", "", why))
    if not new["verdict"]["complete"]:
        why = "it did not run to its end; what it lacks counts as missing unless the comparison is a partial one"
        findings.append(Finding(NOTE, "incomplete run", "the new run", "", "", "", why))
    return findings


def _fewer(old: Document, new: Document, shared: set[tuple[str, str]]) -> list[Finding]:
    """Note on how many variants the comparison is about, where these are not all."""
    count = len(_known(old) | _known(new))
    if len(shared) == count:
        return []
    why = "the others were skipped, not run or not there in one of the runs"
    return [Finding(NOTE, "compared", f"{len(shared)} of {count} variants", "", "", "", why)]


def _described(report: Document, count: int) -> str:
    environment = report["environment"]
    gpu = f", {environment['gpu']['name']}" if environment["gpu"] else ""
    more = f" and {count - 1} more" if count > 1 else ""
    return (
        f"{report['started']}{more}, {report['verdict']['status']}, "
        f"{environment['cpu']}, {environment['cores']} cores{gpu}"
    )
