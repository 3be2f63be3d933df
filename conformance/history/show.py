"""Show a comparison of two runs: as text, as Markdown, or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from conformance.history.compare import Difference
from conformance.history.finding import IMPROVEMENT, NOTE, REGRESSION, Finding

TITLES = {REGRESSION: "regressed", IMPROVEMENT: "better or new", NOTE: "to know"}


def headline(difference: Difference) -> str:
    """Line on whether anything regressed, and what."""
    found = difference.of(REGRESSION)
    if not found:
        return "nothing regressed"
    kinds = dict.fromkeys(f.what for f in found)
    return "regressed: " + ", ".join(f"{sum(f.what == what for f in found)} {what}" for what in kinds)


def line(finding: Finding) -> str:
    """Write a finding in one line: variant, what, old → new, by how much, why it counts."""
    values = " → ".join(value for value in (finding.old, finding.new) if value)
    parts = [values, finding.change, finding.why]
    return f"{finding.subject} {finding.what}: " + "; ".join(part for part in parts if part)


def as_text(difference: Difference) -> str:
    """Write the comparison for a terminal; a line for each finding."""
    lines = [
        headline(difference),
        f"old    {difference.old}",
        f"new    {difference.new}",
        f"speed  {difference.basis.describe()}",
    ]
    for kind, title in TITLES.items():
        if found := difference.of(kind):
            lines += [f"{title}:", *(f"  {line(finding)}" for finding in found)]
    return "\n".join(lines)


def as_markdown(difference: Difference) -> str:
    """Write the comparison as Markdown, for a summary of a CI job or a comment; a table for each kind."""
    lines = [
        f"## Compared with an earlier run: {headline(difference)}",
        "",
        f"- old: {difference.old}",
        f"- new: {difference.new}",
        f"- speed: {difference.basis.describe()}",
    ]
    for kind, title in TITLES.items():
        if found := difference.of(kind):
            lines += ["", f"### {title.capitalize()}", "", "| variant | what | old | new | change | why |"]
            lines.append("|---|---|---|---|---|---|")
            for f in found:
                cells = (f.subject, f.what, f.old, f.new, f.change, f.why)
                escaped = (" ".join(c.replace("\\", "\\\\").replace("|", "\\|").split()) for c in cells)
                lines.append(f"| {' | '.join(escaped)} |")
    return "\n".join(lines)


def as_json(difference: Difference) -> str:
    """Write the comparison as JSON: ``regressed``, ``headline``, both runs, how speeds are compared, ``findings``."""
    content = {
        "regressed": difference.regressed,
        "headline": headline(difference),
        "old": difference.old,
        "new": difference.new,
        "speed": {**asdict(difference.basis), "described": difference.basis.describe()},
        "findings": [asdict(finding) for finding in difference.findings],
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


WRITERS = {"text": as_text, "markdown": as_markdown, "json": as_json}
