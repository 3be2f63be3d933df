"""The report as one HTML page that needs nothing else: no network, no fonts, no scripts to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from conformance.report import charts
from conformance.report.markup import Markup, join, table, tag
from conformance.report.speed import speed
from conformance.report.verdict import Document, Finding, any_of, compared, findings, number, percent, plural

STATUS = {"passed": ("✓", "Passed"), "failed": ("✗", "Failed"), "incomplete": ("!", "Incomplete")}
VERDICTS = {
    "passed": "✓ passed",
    "failed": "✗ failed",
    "known failure": "! known failure",
    "not compared": "– not compared",
    "not run": "– not run",
}
CHECKS = {
    "consistency": "gives the reference's answers",
    "batching": "does not depend on the batch",
    "accuracy": "against labels",
    "benchmark": "speed and floors",
    "tensorrt": "promises of TensorRT engines",
    "other": "",
}
FIGURES = {
    "max": "largest absolute difference",
    "mean": "mean absolute difference",
    "kl": "mean Kullback-Leibler divergence, nats",
    "margin": "the reference's lead where a class flipped",
    "flips": "share of flipped classes",
    "sum": "distance of a sum of probabilities from one",
}
HASH_SHOWN = 12
"""So many digits of a hash tell files apart for a person; the whole hash is in its title and in the JSON."""


def page(document: Document) -> str:
    """Write the page."""
    status = document["verdict"]["status"]
    symbol, word = STATUS[status]
    names = ", ".join(m["name"] for m in document["models"])
    found = findings(document)
    ids = {(v["model"], v["variant"]): f"variant-{i}" for i, v in enumerate(document["variants"])}
    sections = [
        ("verdict", "Verdict", _verdict(document, found, ids)),
        ("matrix", "Checks", _matrix(document, ids)),
        ("variants", "Variants", _variants(document, ids)),
        ("speed", "Speed", speed(document)),
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
        tag("h1", document["verdict"]["sentences"][0]),
        tag("p", _about(document), class_="muted"),
        tag("nav", tag("ul", *links), aria_label="Sections"),
    )
    main = tag(
        "main",
        *(
            tag("section", tag("h2", name, id=f"{id_}-title"), content, id=id_, aria_labelledby=f"{id_}-title")
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
    skip = tag("a", "Skip to the verdict", href="#main", class_="skip")
    body = tag("body", skip, header, main, footer, tag("script", _file("script.js")))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


@cache
def _file(name: str) -> Markup:
    """Read a file beside this module; both hold nothing that would need escaping."""
    return Markup(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _about(document: Document) -> str:
    environment, seconds = document["environment"], document["seconds"]
    took = f"{seconds:.0f} s" if seconds < 120 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    day, _, clock = document["started"].partition("T")
    gpu = f", {environment['gpu']['name']}" if environment["gpu"] else ""
    machine = f"{environment['cpu']}, {plural(environment['cores'], 'core')}{gpu}"
    return f"{day} {clock[:5]} UTC, {took}, on {environment['host']} ({machine})"


# The verdict: what broke, where, how badly.


def _verdict(document: Document, found: Sequence[Finding], ids: dict[Any, str]) -> Markup:
    rest = document["verdict"]["sentences"][1 + len(found) :]
    parts = [_finding(document, f, i, ids) for i, f in enumerate(found)]
    parts += [tag("p", sentence, class_="note") for sentence in rest]
    if document["verdict"]["status"] != "incomplete" or compared(document):
        parts.append(_overview(document))
    return join(parts)


def _tile(value: object, label: object, kind: str | None = None) -> Markup:
    return tag("div", tag("dt", label), tag("dd", value), class_=f"tile {kind or ''}".strip())


def _finding(document: Document, finding: Finding, index: int, ids: dict[Any, str]) -> Markup:
    title = f"finding-{index}"
    own = {"model": finding.model, "variant": finding.variant}
    tiles = _tiles_of_failure(document, own) if finding.variant else []
    pictures = (
        any_of(document["pictures"], own) if any(not c["passed"] for c in any_of(document["comparisons"], own)) else []
    )
    tests = [
        tag(
            "details",
            tag("summary", tag("code", test["test"]), f" – {test['phase']}"),
            tag("pre", test["message"], tabindex="0"),
        )
        for test in finding.tests
    ]
    link = ids.get((finding.model, finding.variant))
    return tag(
        "article",
        tag("h3", tag("span", "✗ ", class_="bad", aria_hidden="true"), finding.title, id=title),
        tag("dl", *tiles, class_="tiles") if tiles else None,
        tag("p", tag("strong", "Likely cause: "), finding.likely) if finding.likely else None,
        tag("ul", *(tag("li", sentence) for sentence in finding.extent), class_="extent"),
        _worst(pictures[0]) if pictures else None,
        tag("p", tag("strong", "See it again: ")),
        tag("pre", tag("code", finding.replay), class_="replay", tabindex="0"),
        tag(
            "details",
            tag("summary", f"{plural(len(finding.tests), 'failed test')} with messages"),
            *tests,
            class_="tests",
        ),
        tag("p", tag("a", f"All figures of {finding.variant}", href=f"#{link}")) if link else None,
        class_="finding",
        aria_labelledby=title,
    )


def _tiles_of_failure(document: Document, own: dict[str, Any]) -> list[Markup]:
    tiles = []
    comparisons = [c for c in any_of(document["comparisons"], own) if not c["passed"]]
    on_samples = next((c for c in comparisons if c["inputs"] == "samples"), None)
    if on_samples and on_samples["flips"]:
        tiles.append(_tile(f"{on_samples['flips']} of {on_samples['samples']}", "samples change class", "bad"))
    broken = next((c for c in comparisons if c["problems"]), None)
    largest = max(
        (c for c in comparisons if "max" in c["figures"]), key=lambda c: c["figures"]["max"][0] or 0, default=None
    )
    if broken:
        tiles.append(_tile("broken output", f"on {broken['inputs']}: {broken['problems'][0]}", "bad"))
    elif largest:
        needed, allowed = largest["figures"]["max"]
        label = f"largest difference, on {largest['inputs']}; allowed {number(allowed)}"
        tiles.append(_tile(number(needed), label, None if needed is not None and needed <= allowed else "bad"))
    for row in any_of(document["accuracy"], own):
        value = f"{100 * row['correct'] / row['samples']:.2f} %"
        reference = f"{100 * row['reference_correct'] / row['samples']:.2f} %"
        tiles.append(_tile(value, f"accuracy; the reference has {reference}", None if row["passed"] else "bad"))
    for floor in any_of(document["floors"], own):
        if floor["held"] is False:
            tiles.append(
                _tile(number(floor["found"], 3), f"{floor['ratio']}; the floor is {number(floor['floor'], 3)}", "bad")
            )
    return tiles


def _worst(picture: Mapping[str, Any]) -> Markup | None:
    """Show the worst samples with what either made of them."""
    if not picture["worst"]:
        return None
    cards = []
    for worst in picture["worst"]:
        described = f"Sample {worst['sample']}"
        image = tag("img", src=worst["image"], alt=described) if worst["image"] else None
        lines: list[object] = [tag("strong", described), " differs by ", number(worst["difference"])]
        if worst["expected"] and worst["got"]:
            lines = [
                tag("strong", described),
                *_answer("reference", worst["expected"]),
                *_answer("variant", worst["got"]),
            ]
            lines.append(tag("span", "▲ flip", class_="bad") if worst["flip"] else None)
        cards.append(tag("li", image, tag("div", *lines)))
    return tag("ul", *cards, class_="samples", aria_label="Samples with the largest differences")


def _answer(who: str, top: list[Any]) -> tuple[Markup, ...]:
    (name, score), *others = top
    rest = ", ".join(f"{n} ({s:.2f})" for n, s in others)
    return tag("span", f"{who}: ", tag("b", name), f" ({score:.2f})"), tag("span", rest, class_="muted rest")


def _overview(document: Document) -> Markup:
    """Say in a few figures how a run went: how many were compared, what came closest, floors, tests."""
    good = [v for v in compared(document) if v["verdict"] == "passed"]
    tiles = [_tile(f"{len(good)} of {len(compared(document))}", "compared variants agree with the reference")]
    if near := max((v for v in good if v["usage"] is not None), key=lambda v: v["usage"], default=None):
        tiles.append(
            _tile(
                f"{100 * near['usage']:.0f} %",
                f"of its tolerance needed by {near['variant']} of {near['model']}, the closest that passed",
            )
        )
    losses = [(r["reference_correct"] - r["correct"], r) for r in document["accuracy"] if r["passed"]]
    if losses:
        lost, row = max(losses, key=lambda pair: pair[0] / pair[1]["samples"])
        value = f"{100 * max(lost, 0) / row['samples']:.2f} points"
        tiles.append(_tile(value, f"the most accuracy lost by a variant that passed, on {row['samples']:,} samples"))
    floors = [f for f in document["floors"] if f["held"] is not None]
    if floors:
        tiles.append(_tile(f"{sum(f['held'] for f in floors)} of {len(floors)}", "throughput floors held"))
    tests = document["tests"]
    tiles.append(
        _tile(f"{tests['passed']:,}", f"tests passed, {tests['failed']:,} failed, {tests['skipped']:,} skipped")
    )
    return tag("dl", *tiles, class_="tiles overview")


# The matrix of variants and checks.


def _matrix(document: Document, ids: dict[Any, str]) -> Markup | None:
    parts = []
    for model in document["models"]:
        rows = _shown(document, model["name"])
        checks = [c for c in CHECKS if any(c in v["checks"] for v in rows)]
        if not rows or not checks:
            continue
        cells = []
        for v in rows:
            comparisons = any_of(document["comparisons"], v)
            name = tag("a", v["variant"], href=f"#{ids[v['model'], v['variant']]}")
            verdict = tag(
                "span", VERDICTS[v["verdict"]], class_={"passed": "good", "failed": "bad"}.get(v["verdict"], "muted")
            )
            cells.append(
                [name, verdict, *(_check(v["checks"].get(c)) for c in checks), _usage(v["usage"], bool(comparisons))]
            )
        head = [tag("span", c, title=CHECKS[c]) if CHECKS[c] else c for c in checks]
        parts.append(tag("h3", model["name"]))
        parts.append(
            table(
                f"Tests of every variant of {model['name']}, by check",
                ["variant", "verdict", *head, "needed/allowed"],
                cells,
                words=range(2 + len(head) + 1),
            )
        )
    if not parts:
        return None
    explained = (
        "A cell counts the tests that passed. needed/allowed is the closest that any figure on any inputs came to its "
        "tolerance: above 1 fails."
    )
    return join([tag("p", explained, class_="muted"), *parts])


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
    left = [f"{counts[key]} {word}" for key, word in (("xfailed", "known"), ("skipped", "skipped")) if counts[key]]
    if left:
        parts.append(tag("span", (", " if parts else "") + ", ".join(left), class_="muted"))
    return join(parts)


def _usage(usage: float | None, known: bool) -> Markup:
    """Show needed/allowed as a number and a bar that is full at what is allowed."""
    if not known:
        return tag("span", "–", class_="muted")
    if usage is None:
        return tag("span", "broken output", class_="bad")
    bad = usage > 1
    # A bar that shows a small share at all.
    bar = tag("i", style=f"width:{min(100.0, max(2.0, 100 * usage)):.0f}%", class_="over" if bad else None)
    text = tag(
        "span",
        ("✗ " if bad else "") + (f"{number(usage)} ×" if usage >= 10 else f"{usage:.2f}"),
        class_="bad" if bad else None,
    )
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
    return join(parts) if parts else None


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
    content: list[Markup | None] = [_comparisons(variant, comparisons) if comparisons else nothing]
    if drawn:
        content.append(tag("div", *_figures(drawn[0]), class_="charts"))
        if worst := _worst(drawn[0]):
            content += [tag("h5", "Samples that differ most"), worst]
    content.append(_facts(document, variant))
    heading = tag("summary", tag("h4", variant["variant"]), " ", state)
    return tag("details", heading, *content, id=id_, class_="variant", open=failed)


def _comparisons(variant: Any, comparisons: Sequence[Any]) -> Markup:
    rows = []
    for c in comparisons:
        rows += [[c["inputs"], "problem", problem, "", tag("span", "✗", class_="bad")] for problem in c["problems"]]
        for name, (needed, allowed) in c["figures"].items():
            meaning = tag("span", name, title=FIGURES.get(name, name))
            # All may flip, where the margin decides alone.
            decides = not (name == "flips" and allowed >= 1)
            usage = None if needed is None else needed / allowed if allowed else 0.0 if needed == 0 else None
            shown = _usage(usage, True) if decides else tag("span", "–", class_="muted")
            rows.append([f"{c['inputs']} ({c['samples']:,})", meaning, number(needed), number(allowed), shown])
    caption = f"Differences of {variant['variant']} from the reference"
    return table(caption, ["inputs (samples)", "figure", "needed", "allowed", "needed/allowed"], rows, words=(0, 1, 4))


def _figures(picture: Mapping[str, Any]) -> list[Markup]:
    count, data = picture["samples"], picture["histogram"]
    elements = sum(data["counts"]) + data["zeros"]
    figures = [
        _figure(
            f"Differences of {elements:,} elements ({plural(count, 'sample')})",
            f"{data['beyond']:,} ({100 * data['beyond'] / elements:.2g} %) differ by more than is allowed."
            if data["beyond"]
            else "None differs by more than is allowed." + (f" {data['zeros']:,} are equal." if data["zeros"] else ""),
            charts.histogram(picture),
            table(
                "Elements by absolute difference",
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
        flips = sum(row["samples"] - row["same"] for row in picture["agreement"])
        shown = "" if len(points) == count else f" {len(points)} samples are shown, flips first."
        values = [
            [p["sample"], f"{p['reference']:.4f}", f"{p['variant']:.4f}", "▲ flip" if p["flip"] else "same"]
            for p in points
        ]
        figures.append(
            _figure(
                "Confidence, reference against variant",
                f"▲ {plural(flips, 'flip')} of the class, ● same class.{shown}",
                charts.scatter(picture),
                table("Confidence by sample", ["sample", "reference", "variant", "class"], values, words=(0, 3)),
            )
        )
    if rows := picture["agreement"]:
        values = [[r["class"], f"{r['samples']:,}", f"{r['same']:,}", percent(r["same"], r["samples"])] for r in rows]
        figures.append(
            _figure(
                "Same class as the reference, by class",
                f"{sum(r['same'] for r in rows):,} of {sum(r['samples'] for r in rows):,} samples keep their class.",
                charts.agreement(rows),
                table("Agreement by the reference's class", ["class", "samples", "same", "share"], values),
            )
        )
    return figures


def _figure(title: str, says: str, chart: Markup, values: Markup) -> Markup:
    caption = tag("figcaption", tag("strong", title), tag("span", says, class_="muted"))
    return tag("figure", caption, chart, tag("details", tag("summary", "Values"), values))


def _facts(document: Document, variant: Any) -> Markup | None:
    facts: list[tuple[str, object]] = []
    for row in any_of(document["batching"], variant):
        value = "bitwise equal" if row["largest"] == 0 else f"differs by at most {number(row['largest'])}"
        found = "; ".join(row["problems"]) or f"{value}, allowed {number(row['allowed'])}"
        facts.append(("batched or alone", found))
    for row in any_of(document["accuracy"], variant):
        right = f"{row['correct']:,} of {row['samples']:,} right, the reference {row['reference_correct']:,}"
        allowed = "" if row["allowed_drop"] is None else f", {row['allowed_drop']:,} fewer allowed"
        facts.append(("accuracy", right + allowed))
    for artifact in any_of(document["artifacts"], variant):
        facts.append(("size", f"{artifact['bytes'] / 1e6:.2f} MB, built in {number(artifact['build_seconds'])} s"))
        facts.append(("made by", ", ".join(f"{n} {v}" for n, v in artifact["tools"].items() if v) or "brought"))
        for name, file in artifact["files"].items():
            hashed = tag("code", file["sha256"][:HASH_SHOWN], "…", title=file["sha256"])
            facts.append((name, join([f"{file['bytes']:,} bytes, SHA-256 ", hashed])))
    if not facts:
        return None
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts")


# What did not run, what is known, and the run itself.


def _skipped(document: Document) -> Markup | None:
    groups: dict[str, list[Any]] = {}
    for skip in document["skips"]:
        groups.setdefault(skip["reason"], []).append(skip)
    if not groups:
        return None
    rows = []
    for reason, skips in groups.items():
        who = list(dict.fromkeys(f"{s['model']}-{s['variant']}" for s in skips if s["variant"]))
        named = ", ".join(who) if len(who) <= 3 else f"{len(who)} variants, {who[0]} to {who[-1]}"
        rows.append([reason, named or "tests of the suite", f"{sum(s['tests'] for s in skips):,}"])
    return table("What was skipped, and why", ["reason", "of", "tests"], rows, words=(0, 1))


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
        ("command", tag("code", document["command"])),
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
    hashes = (
        table("Artifacts under test", ["model", "variant", "SHA-256", "built"], rows, words=(0, 1, 2, 3))
        if rows
        else None
    )
    return join([listed, tag("details", tag("summary", "Artifacts and their hashes"), hashes) if hashes else None])
