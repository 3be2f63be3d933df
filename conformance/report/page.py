"""The report as one HTML page that needs nothing else: no network, no fonts, no scripts to be read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from conformance.report import charts
from conformance.report.broken import command_words, not_timed, verdict_section, worst, worst_is_shown
from conformance.report.document import Document, any_of, name_of
from conformance.report.located import located
from conformance.report.machine import machine
from conformance.report.markup import Markup, figure, join, table, tag
from conformance.report.numbers import apart, duration, number, percent, plural, ratio
from conformance.report.samples import changed, of_output
from conformance.report.speed import speed
from conformance.report.tested import engine_names, file_name, tested
from conformance.report.verdict import also, outcome, what_is_broken
from conformance.report.wording import (
    BROKEN,
    CHECKS,
    FIGURES,
    INPUTS,
    NONE_ALLOWED,
    SHORT,
    STATUS,
    decisive,
    judged,
    usage,
)

SYMBOLS = {"passed": "✓", "known": "!", "failed": "✗", "incomplete": "!"}
VERDICTS = {
    "passed": "✓ passed",
    "failed": "✗ failed",
    "known failure": "! known failure",
    "not judged": "– not judged",
    "not compared": "– not compared",
    "not run": "– not run",
}
NO_CASE = "got empty parameter set"
"""How pytest begins the reason of a test that is written for variants that the model under test has none of."""


def page(document: Document) -> str:
    """Write the page."""
    status = outcome(document)
    symbol, word = SYMBOLS[status], STATUS[status]
    names = ", ".join(m["name"] for m in document["models"])
    found = what_is_broken(document)
    ids = {(v["model"], v["variant"]): f"variant-{i}" for i, v in enumerate(document["variants"])}
    sections = [
        ("verdict", "Verdict", verdict_section(document, found, ids)),
        ("matrix", "Checks", _matrix(document, ids)),
        ("variants", "Variants", _variants(document, ids)),
        ("speed", "Speed and size", speed(document)),
        ("machine", "The machine over time", machine(document)),
        ("skipped", "Skipped", _skipped(document)),
        ("known", "Known failures", _known(document)),
        ("run", "This run", _run(document)),
    ]
    shown = [(id_, name, content) for id_, name, content in sections if content]
    links = [tag("li", tag("a", name, href=f"#{id_}")) for id_, name, _ in shown]
    header = tag(
        "header",
        tag(
            "p", tag("span", f"{symbol} {word}", class_=f"badge {status}"), " Conformance of ", names, class_="eyebrow"
        ),
        tag("h1", *_headline(document)),
        tested(document),
        tag("p", *_about(document), class_="muted"),
    )
    # The links come after the verdict, which is what a reader came for.
    nav = tag("nav", tag("ul", *links), aria_label="Sections")
    main = tag(
        "main",
        *(
            join(
                [
                    tag(
                        "section",
                        tag("h2", name, id=f"{id_}-title", class_="unseen" if id_ == "verdict" else None),
                        content,
                        id=id_,
                        aria_labelledby=f"{id_}-title",
                    ),
                    nav if id_ == shown[0][0] else None,
                ]
            )
            for id_, name, content in shown
        ),
        id="main",
    )
    footer = tag(
        "footer",
        tag(
            "p",
            "Every chart's values stand in a table below it. The same data for programs: ",
            tag("code", "conformance.json"),
            ".",
            class_="muted",
        ),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{symbol} {word}: conformance of {names}"),
        # Without an icon of its own the browser would ask for one.
        Markup('<link rel="icon" href="data:,">'),
        tag("style", _file("style.css")),
    )
    skip = tag("a", "Skip to the details", href="#main", class_="skip")
    body = tag("body", skip, header, main, footer, tag("script", _file("script.js")))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


@cache
def _file(name: str) -> Markup:
    """Read a file beside this module; both hold nothing that would need escaping."""
    return Markup(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _headline(document: Document) -> list[object]:
    """Verdict, and smaller what it leaves out."""
    sentence, left = document["verdict"]["sentences"][0], also(document) + "."
    if left == "." or not sentence.endswith(f" {left}"):
        return [sentence]
    return [sentence.removesuffix(left), tag("small", left)]


def _about(document: Document) -> list[object]:
    environment = document["environment"]
    day, _, clock = document["started"].partition("T")
    gpu = f", {environment['gpu']['name']}" if environment["gpu"] else ""
    machine = f" ({environment['cpu']}, {plural(environment['cores'], 'core')}{gpu})"
    # On a phone the verdict is worth more than what stands under "This run" too.
    took = tag("span", f", {duration(document['seconds'])}", class_="desk")
    machine = tag("span", machine, class_="desk")
    return [f"{day} {clock[:5]} UTC", took, f", on {environment['host']}", machine]


# The matrix of variants and checks.


def _matrix(document: Document, ids: dict[Any, str]) -> Markup | None:
    parts, late, seen = [], False, set()
    for model in document["models"]:
        rows = _shown(document, model["name"])
        checks = [c for c in CHECKS if any(c in v["checks"] for v in rows)]
        seen |= set(checks)
        if not rows or not checks:
            continue
        cells = []
        for v in rows:
            comparisons = any_of(document["comparisons"], v)
            name = tag("a", v["variant"], href=f"#{ids[v['model'], v['variant']]}")
            if v["variant"] == model["reference"]:
                name = join([name, tag("span", "the reference itself", class_="muted under")])
            verdict = tag(
                "span", VERDICTS[v["verdict"]], class_={"passed": "good", "failed": "bad"}.get(v["verdict"], "muted")
            )
            late |= not_timed(document, v)
            found = [
                tag("span", "not timed", class_="muted")
                if c == "benchmark" and not_timed(document, v)
                else _check(v["checks"].get(c))
                for c in checks
            ]
            cells.append([name, verdict, _closest(v["usage"], comparisons), *found])
        head = [CHECKS[c].name for c in checks]
        parts.append(tag("h3", model["name"]))
        parts.append(
            table(
                f"Tests of every variant of {model['name']}, by check",
                ["variant", "verdict", "found / allowed", *head],
                cells,
                words=range(2 + len(head) + 1),
            )
        )
    if not parts:
        return None
    explained = (
        " is that of the figure that used most of its tolerance, on any inputs, or went furthest beyond "
        "it: above 1 fails. The other columns count the tests that passed."
    )
    if late:
        explained += " Not timed: the speed tests fail before they time anything, because the answers are wrong."
    meanings = [
        tag("div", tag("dt", check.name), tag("dd", check.meaning, *_marker(marker)))
        for marker, check in CHECKS.items()
        if marker in seen
    ]
    first = tag("p", tag("b", "found / allowed"), explained, class_="muted")
    return join([first, *parts, tag("dl", *meanings, class_="facts")])


def _marker(marker: str) -> list[object]:
    """Command that runs the tests of a check alone; those of other kinds have no marker in common."""
    return [] if marker == "other" else [" (", tag("code", f"pytest -m {marker}"), ")"]


def _closest(found: float | None, comparisons: Sequence[Any]) -> Markup:
    """Show a variant's found / allowed, and, where it failed, of which figure."""
    if not comparisons:
        return tag("span", "–", class_="muted")
    if found is None and any(c["problems"] for c in comparisons):
        return tag("span", BROKEN, class_="bad")
    shown, name = _usage(found), decisive(comparisons)
    if name is None or (found is not None and found <= 1):
        return shown
    return join([shown, tag("span", FIGURES.get(name, name), class_="muted under")])


def _shown(document: Document, model: str) -> list[Any]:
    return [v for v in document["variants"] if v["model"] == model and v["verdict"] not in {"skipped", "not run"}]


def _check(counts: dict[str, int] | None) -> Markup:
    if counts is None:
        return tag("span", "–", class_="muted")
    total = counts["passed"] + counts["failed"]
    parts: list[Markup] = []
    if counts["failed"]:
        parts.append(tag("span", f"✗ {counts['failed']} of {total} failed", class_="bad"))
    elif counts["passed"]:
        parts.append(tag("span", f"✓ {counts['passed']}", class_="good"))
    words = {"xfailed": "known", "not_judged": "not judged", "skipped": "skipped"}
    left = [f"{counts[key]} {word}" for key, word in words.items() if counts.get(key)]
    if left:
        parts.append(tag("span", (", " if parts else "") + ", ".join(left), class_="muted"))
    return join(parts)


def _usage(found: float | None) -> Markup:
    """Show found / allowed as a number and a bar that is full at what is allowed; None is beyond any number."""
    if found is None:
        return tag("span", f"✗ {NONE_ALLOWED}", class_="bad")
    bad = found > 1
    # A bar that shows a small share at all.
    bar = tag("i", style=f"width:{min(100.0, max(2.0, 100 * found)):.0f}%", class_="over" if bad else None)
    text = tag("span", ("✗ " if bad else "") + ratio(found), class_="bad" if bad else None)
    return join([tag("span", bar, class_="meter", aria_hidden="true"), text])


# Each variant in full.


def _variants(document: Document, ids: dict[Any, str]) -> Markup | None:
    parts = []
    for model in document["models"]:
        rows = _shown(document, model["name"])
        if not rows:
            continue
        parts.append(tag("h3", model["name"]))
        data = model["data"]
        labelled = "with labels" if data["labelled"] else "without labels"
        parts.append(tag("p", f"{model['description']}; on {data['source']}, {labelled}.", class_="muted"))
        parts += [_variant(document, v, ids[v["model"], v["variant"]]) for v in rows]
    return join([tag("p", SHORT, class_="muted"), *parts]) if parts else None


def _variant(document: Document, variant: Any, id_: str) -> Markup:
    failed = variant["verdict"] == "failed"
    comparisons = any_of(document["comparisons"], variant)
    drawn = any_of(document["pictures"], variant)
    state = tag(
        "span",
        VERDICTS[variant["verdict"]],
        class_="bad" if failed else "good" if variant["verdict"] == "passed" else "muted",
    )
    nothing = tag("p", "Nothing was compared.", class_="note")
    content: list[Markup | None] = [_comparisons(document, variant, comparisons) if comparisons else nothing]
    content.append(_inputs(comparisons) if comparisons else None)
    if drawn:
        content.append(tag("div", *_figures(document, drawn[0]), class_="charts"))
        # Those of a broken variant stand in its box.
        content.append(None if worst_is_shown(document, variant) else worst(document, drawn[0]))
    content.append(located(document, variant))
    content.append(_facts(document, variant))
    heading = tag("summary", tag("h4", variant["variant"]), " ", state)
    return tag("details", heading, *content, id=id_, class_="variant", open=failed)


def _comparisons(document: Document, variant: Any, comparisons: Sequence[Any]) -> Markup:
    rows = []
    for c in comparisons:
        inputs = f"{c['inputs']} ({c['samples']:,})"
        rows += [[inputs, problem, tag("span", "✗", class_="bad"), "–", "–"] for problem in c["problems"]]
        for name, (needed, allowed) in c["figures"].items():
            decides = judged(name, allowed)
            share = usage(needed, allowed)
            shown = tag("span", "not judged", class_="muted")
            if decides:
                shown = _usage(share if math.isfinite(share) else None)
            found, limit = apart(needed, allowed)
            rows.append([inputs, FIGURES.get(name, name), shown, found, limit if decides else "not judged"])
    caption = f"Differences of {name_of(document, variant)} from the reference"
    headings = ["inputs (samples)", "figure", "found / allowed", "found", "allowed"]
    return table(caption, headings, rows, words=(0, 1, 2))


def _inputs(comparisons: Sequence[Any]) -> Markup:
    """Paragraph on what the inputs are, and, where several tests have the same, whose figures stand here."""
    parts: list[object] = ["Figures on "]
    for i, c in enumerate(comparisons):
        parts += ["; " if i else "", tag("b", c["inputs"]), f": {INPUTS.get(c['inputs'], c['inputs'])}"]
        if c.get("test"):
            parts += [", by ", tag("code", c["test"].split("::")[-1].split("[")[0])]
    return tag("p", *parts, ". Of several tests on the same inputs the one that did worst counts.", class_="muted")


def _figures(document: Document, picture: Mapping[str, Any]) -> list[Markup]:
    count, data = picture["samples"], picture["histogram"]
    output, name = of_output(document, picture, picture["output"]), name_of(document, picture)
    elements = sum(data["counts"]) + data["zeros"]
    figures = [
        figure(
            f"Differences of {elements:,} elements{output} ({plural(count, 'sample')})",
            f"{data['beyond']:,} ({percent(data['beyond'], elements)}) differ by more than is allowed."
            if data["beyond"]
            else "None differs by more than is allowed." + (f" {data['zeros']:,} are equal." if data["zeros"] else ""),
            charts.histogram(picture),
            table(
                f"Elements of {name} by absolute difference",
                ["from", "to", "elements"],
                [
                    [f"{10**a:.1e}", f"{10**b:.1e}", f"{n:,}"]
                    for a, b, n in zip(data["edges_log10"], data["edges_log10"][1:], data["counts"], strict=False)
                    if n
                ],
            ),
        )
    ]
    if points := picture["scatter"]:
        flips = changed(picture)
        drawn = sum(p["flip"] for p in points)
        shown = (
            ""
            if len(points) == count
            else f" Not in proportion: {drawn:,} of the {flips:,} that change class are drawn, and "
            f"{len(points) - drawn:,} of the {count - flips:,} that keep it."
        )
        values = [
            [p["sample"], f"{p['reference']:.4f}", f"{p['variant']:.4f}", "▲ changed" if p["flip"] else "same"]
            for p in points
        ]
        figures.append(
            figure(
                f"Confidence{output}, reference against variant",
                f"▲ class changed ({flips:,} of {count:,} samples), ● same class.{shown}",
                charts.scatter(picture),
                table(
                    f"Confidence of {name} by sample", ["sample", "reference", "variant", "class"], values, words=(0, 3)
                ),
            )
        )
    if rows := picture["agreement"]:
        values = [[r["class"], f"{r['samples']:,}", f"{r['same']:,}", percent(r["same"], r["samples"])] for r in rows]
        figures.append(
            figure(
                f"Same class as the reference{output}, by class",
                f"{sum(r['same'] for r in rows):,} of {sum(r['samples'] for r in rows):,} samples keep their class.",
                charts.agreement(rows),
                table(f"Agreement of {name} by the reference's class", ["class", "samples", "same", "share"], values),
            )
        )
    return figures


def _facts(document: Document, variant: Any) -> Markup | None:
    facts: list[tuple[str, object]] = []
    for row in any_of(document["batching"], variant):
        largest, limit = apart(row["largest"], row["allowed"])
        value = "bitwise equal" if row["largest"] == 0 else f"differs by at most {largest}"
        found = "; ".join(row["problems"]) or f"{value}, allowed {limit}"
        facts.append(("batched or alone", found))
    # Not in results of earlier versions.
    for row in any_of(document.get("devices", ()), variant):
        same = f"{row['differing']:,} of {row['values']:,} values differ from the first one's"
        same += f", by at most {number(row['largest'])}" if row["differing"] and row["largest"] is not None else ""
        facts.append(("same bits on every GPU", f"{', '.join(row['devices'])}: {same}"))
    for row in any_of(document["accuracy"], variant):
        right = f"{row['correct']:,} of {row['samples']:,} right, the reference {row['reference_correct']:,}"
        allowed = "" if row["allowed_drop"] is None else f", {row['allowed_drop']:,} fewer allowed"
        facts.append(("accuracy", right + allowed))
    for artifact in any_of(document["artifacts"], variant):
        supplied, size = variant.get("supplied"), f"{artifact['bytes'] / 1e6:.2f} MB"
        if supplied:
            hashed = [", SHA-256 ", tag("code", supplied["sha256"])] if supplied["sha256"] else []
            given = join(["supplied by ", supplied["option"], " (", file_name(supplied), *hashed, ")"])
            facts += [("size", size), ("made by", given)]
        else:
            facts.append(("size", f"{size}, built in {number(artifact['build_seconds'])} s"))
            tools = ", ".join(f"{n} {v}" for n, v in artifact["tools"].items() if v)
            facts.append(("made by", tools or "a file that was supplied"))
            if made_on := artifact.get("made_on"):
                facts.append(("made on", ", ".join(f"{n} {v}" for n, v in made_on.items())))
        for name, file in artifact["files"].items():
            facts.append((name, join([f"{file['bytes']:,} bytes, SHA-256 ", tag("code", file["sha256"])])))
    if not facts:
        return None
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts")


# What did not run, what is known, and the run itself.


def _skipped(document: Document) -> Markup | None:
    groups: dict[str, list[Any]] = {}
    for skip in document.get("not_judged", ()):
        groups.setdefault(f"not judged: {skip['reason']}", []).append(skip)
    for skip in document["skips"]:
        groups.setdefault(skip["reason"], []).append(skip)
    if not groups:
        return None
    rows = []
    several = len(document["models"]) > 1
    for reason, skips in groups.items():
        named = [s for s in skips if s["variant"]]
        names = list(dict.fromkeys(f"{s['model']}-{s['variant']}" if several else s["variant"] for s in named))
        listed = names if len(names) <= 6 else [*names[:2], f"… ({len(names)} variants)", names[-1]]
        of = join(tag("span", name, class_="line") for name in listed) if listed else "tests of no variant"
        why = reason
        if reason.startswith(NO_CASE):
            why = "the test is for variants of a kind that no model under test has"
        rows.append([of, why, f"{sum(s['tests'] for s in skips):,}"])
    return join(
        [_families(document), table("What was skipped, and why", ["of", "reason", "tests"], rows, words=(0, 1))]
    )


def _families(document: Document) -> Markup | None:
    """Explain the names of variants that were skipped, once."""
    left = [v for v in document["variants"] if v["verdict"] == "skipped"]
    # Where an engine is installed is told elsewhere.
    engines = {name: engine.partition(" (")[0] for name, engine in engine_names(document).items()}
    formats = dict.fromkeys(v["format"] for v in left)
    # A format that is called as its engine is needs no explanation.
    told = [f"{name}: {engines[name]}" for name in formats if name not in engines.get(name, name).lower()]
    if profile := next((v["profile"] for v in left if v["profile"]), None):
        low, best, high = (*profile.removeprefix("b").split("."), "", "")[:3]
        told.append(f"b{profile.removeprefix('b')}: an engine for batches of {low} to {high}, tuned for {best}")
    return tag("p", "; ".join(told), ".", class_="muted") if told else None


def _known(document: Document) -> Markup | None:
    rows = [[tag("code", k["test"]), k["reason"], k["outcome"]] for k in document["known_failures"]]
    return (
        table("Tests that are listed as known failures", ["test", "reason", "what happened"], rows, words=(0, 1, 2))
        if rows
        else None
    )


def _run(document: Document) -> Markup:
    environment, tests = document["environment"], document["tests"]
    counts = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in tests.items() if n)
    facts: list[tuple[str, object]] = [
        ("command", tag("code", command_words(document["command"]), class_="words")),
        ("tests", counts or "none"),
        ("exit code", document["exit_code"]),
        ("system", environment["system"]),
        ("Python", environment["python"]),
        ("packages", ", ".join(f"{n} {v}" for n, v in environment["packages"].items())),
    ]
    for engine in environment["engines"]:
        facts.append(
            (
                engine["format"],
                f"{engine['engine']}{', unavailable: ' + engine['unavailable'] if engine['unavailable'] else ''}",
            )
        )
    if gpu := environment["gpu"]:
        memory = f", {gpu['memory_bytes'] / 1e9:.0f} GB" if gpu["memory_bytes"] else ""
        facts.append(("GPU", f"{gpu['name']}{memory}, driver {gpu['driver'] or 'unknown'}"))
    listed = tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts")
    rows = [[a["model"], a["variant"], tag("code", a["sha256"]), a["built"]] for a in document["artifacts"]]
    caption = "Artifacts under test; a hash here is over names and contents of all files, those of files stand above"
    hashes = table(caption, ["model", "variant", "SHA-256", "built"], rows, words=(0, 1, 2, 3)) if rows else None
    return join([listed, tag("details", tag("summary", "Artifacts and their hashes"), hashes) if hashes else None])
