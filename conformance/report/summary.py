"""The report in short, as Markdown: for a terminal, a merge request, or the summary page of a CI job."""

from __future__ import annotations

import re
from typing import Any

from conformance.report.document import Document, any_of, throttled
from conformance.report.numbers import plural, ratio
from conformance.report.samples import on_samples
from conformance.report.verdict import outcome, what_is_broken
from conformance.report.wording import BROKEN, NONE_ALLOWED, STATUS

SYMBOLS = {"passed": "✅", "known": "⚠️", "failed": "❌", "incomplete": "⚠️"}

SPEED_BATCH = 32
"""The batch whose samples a second a row shows."""

COLUMNS = ("variant", "verdict", "found/allowed", "classes changed", "accuracy", "samples/s at 32", "size")


def summary(document: Document) -> str:
    """Write verdict, failures and the table of variants; the variants that were skipped in a line for each reason."""
    judged, status = document["verdict"], outcome(document)
    lines = [
        f"## {SYMBOLS[status]} Conformance: {STATUS[status].lower()}",
        "",
        f"**{text(judged['sentences'][0])}**",
        "",
    ]
    for variant in document["variants"]:
        if supplied := variant.get("supplied"):
            hashed = f", SHA-256 {supplied['sha256']}" if supplied["sha256"] else ""
            where = f"{code(supplied['path'])}, given by {text(supplied['option'])}{hashed}"
            lines.append(f"- {text(variant['variant'])} of {text(variant['model'])} is {where}")
    found = what_is_broken(document)
    for finding in found:
        lines += [f"- **{text(finding.title)}.** {text(' '.join(finding.extent))}"]
        if finding.likely:
            lines += [f"  Likely cause: {text(finding.likely)}."]
        lines += [f"  Replay: {code(finding.replay)}"]
    lines += [f"- {text(s)}" for s in judged["sentences"][1 + len(found) :]]
    for name, what in throttled(document).items():
        lines.append(f"- {text(name)} was throttled while it was timed (!): {text('; '.join(what))}")
    if lines[-1]:
        lines.append("")
    for model in document["models"]:
        rows = [
            v
            for v in document["variants"]
            if v["model"] == model["name"] and v["verdict"] not in {"skipped", "not run"}
        ]
        if rows:
            lines += [f"### {text(model['name'])}", "", f"On {text(model['data']['source'])}.", ""]
            lines += ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "---:|" * (len(COLUMNS) - 2)]
            lines += ["| " + " | ".join(row_of(document, v)) + " |" for v in rows]
            lines.append("")
    tests = document["tests"]
    counts = ", ".join(f"{tests[k]:,} {k.replace('_', ' ')}" for k in tests if tests[k] or k in {"passed", "failed"})
    environment = document["environment"]
    lines += [
        f"Tests: {counts}. {text(environment['cpu'])}, {plural(environment['cores'], 'core')}, Python "
        f"{text(environment['python'])}; started {document['started']}, took {document['seconds']:,.0f} s.",
        "",
    ]
    return "\n".join(lines)


def row_of(document: Document, variant: Any) -> list[str]:
    """Cells of a variant's row, as Markdown."""
    cells = [text(variant["variant"]), "**FAILED**" if variant["verdict"] == "failed" else variant["verdict"]]
    comparisons = any_of(document["comparisons"], variant)
    if comparisons and variant["usage"] is None:
        cells.append(BROKEN if any(c["problems"] for c in comparisons) else NONE_ALLOWED)
    else:
        cells.append(ratio(variant["usage"]) if comparisons else "-")
    found = on_samples(document, variant)
    cells.append(f"{found.flips:,} of {found.samples:,}" if found else "-")
    accuracy = any_of(document["accuracy"], variant)
    cells.append(f"{100 * accuracy[0]['correct'] / accuracy[0]['samples']:.2f} %" if accuracy else "-")
    timed = next((b for b in any_of(document["benchmarks"], variant) if b["batch"] == SPEED_BATCH), None)
    marks = (
        "" if timed is None else (" ~" if timed["stable"] is False else "") + (" !" if timed.get("throttled") else "")
    )
    cells.append(f"{timed['samples_per_second']:,.0f}{marks}" if timed else "-")
    artifact = any_of(document["artifacts"], variant)
    cells.append(f"{artifact[0]['bytes'] / 1e6:.2f} MB" if artifact else "-")
    return cells


def text(value: str) -> str:
    """Escape what Markdown and HTML would take for markup, in a line of text or a cell of a table."""
    line = " ".join(str(value).split())
    line = re.sub(r"([\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(value: str) -> str:
    """Write code in a line, fenced by more backticks than it holds."""
    line = " ".join(value.split())
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"
