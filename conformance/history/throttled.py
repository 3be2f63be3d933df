"""Speeds that were throttled in either of two runs: what of them is not compared, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conformance.history.finding import NOTE, Finding, Key, named
from conformance.report.document import Document


def compare_throttled(old: Sequence[Document], new: Sequence[Document]) -> list[Finding]:
    """Note for each variant which of its measurements were throttled, of all reports of each state."""
    before, after = _batches(old), _batches(new)
    why = "what is throttled says nothing of the engine: these measurements are not compared"
    return [
        Finding(NOTE, "throttled", named(*key), before.get(key, ""), after.get(key, ""), "", why)
        for key in dict.fromkeys([*before, *after])
    ]


def _batches(reports: Iterable[Document]) -> dict[Key, str]:
    """Words on the throttled batches of each variant, and on what throttled them."""
    found: dict[Key, dict[str, dict[int, None]]] = {}
    for report in reports:
        for entry in report["benchmarks"]:
            for what in entry.get("throttled", ()):
                # How often is no matter here.
                cause = what.partition(", ")[0]
                found.setdefault((entry["model"], entry["variant"]), {}).setdefault(cause, {})[entry["batch"]] = None
    return {
        key: "; ".join(f"batch {', '.join(map(str, sorted(batches)))} ({cause})" for cause, batches in causes.items())
        for key, causes in found.items()
    }
