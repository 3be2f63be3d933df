"""The part of the page about the verdict: what is broken, how badly, why, what to do, and what passed all the same."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from conformance.report.document import Document, any_of, name_of
from conformance.report.markup import Markup, join, tag
from conformance.report.numbers import apart, number, percent, plural
from conformance.report.samples import OnSamples, kinds, of_output, on_samples, picture_of, reaches
from conformance.report.tested import file_name, of_variant
from conformance.report.verdict import (
    Broken,
    agreeing,
    compared,
    depends_on_batch,
    drop,
    inaccurate,
    left_out,
    not_tested,
    skips,
)
from conformance.report.wording import BROKEN, CHECKS


def verdict_section(document: Document, found: Sequence[Broken], ids: Mapping[Any, str]) -> Markup:
    """Write the section: a box for each finding, what was left out, and a few figures of what passed."""
    listed = set(skips(document))
    rest = [s for s in document["verdict"]["sentences"][1 + len(found) :] if s not in listed]
    parts: list[Markup | None] = [_finding(document, f, i, ids) for i, f in enumerate(found)]
    parts += [tag("p", sentence, class_="note") for sentence in rest]
    parts.append(_left_out(document))
    if compared(document):
        parts.append(_passed(document))
    return join(parts)


def worst_is_shown(document: Document, variant: Mapping[str, Any]) -> bool:
    """Whether the box of a broken variant shows the samples that differ most: where they show what is wrong."""
    picture, found = picture_of(document, variant), on_samples(document, variant)
    lost = any(inaccurate(row) for row in any_of(document["accuracy"], variant))
    return bool(
        variant["verdict"] == "failed"
        and picture
        and (lost or (found and not found.judged["passed"]))
        and (found is None or reaches(picture, found.judged))
    )


def not_timed(document: Document, variant: Mapping[str, Any]) -> bool:
    """Whether the speed tests of a variant failed before they timed anything: it gives wrong answers."""
    speed = variant["checks"].get("benchmark")
    return bool(
        speed
        and speed["failed"]
        and not speed["passed"]
        and not any_of(document["benchmarks"], variant)
        and any(c["inputs"] == "samples" and not c["passed"] for c in any_of(document["comparisons"], variant))
    )


def worst(document: Document, picture: Mapping[str, Any]) -> Markup:
    """Show the worst samples of a picture with what either made of them."""
    cards = []
    for row in picture["worst"]:
        described = f"Sample {row['sample']}"
        image = tag("img", src=row["image"], alt=described) if row["image"] else None
        lines: list[object] = [tag("strong", described)]
        if row.get("label") is not None:
            lines.append(tag("span", "label: ", tag("b", row["label"])))
        if row["expected"] and row["got"]:
            lines += [*_answer("reference", row["expected"]), *_answer("variant", row["got"])]
            lines.append(tag("span", "▲ class changed", class_="bad") if row["flip"] else None)
        else:
            lines.append(tag("span", "differs by ", number(row["difference"])))
        cards.append(tag("li", image, tag("div", *lines)))
    output = of_output(document, picture, picture["output"])
    says = f"Worst{output} of the {picture['samples']:,} test samples that were run, numbered from 0"
    return join([tag("p", says, class_="muted caption"), tag("ul", *cards, class_="samples", aria_label=says)])


def command_words(command: str) -> Markup:
    """Write a command that is broken between its words only, so that an option can be read and copied whole."""
    try:
        words = [shlex.quote(word) for word in shlex.split(command)]
    except ValueError:
        words = []
    # Another way of quoting is shown as it is.
    parts = words if " ".join(words) == command else [command]
    return join(part for i, word in enumerate(parts) for part in (" " if i else None, tag("span", word)))


def _answer(who: str, top: list[Any]) -> tuple[Markup, ...]:
    (name, score), *others = top
    rest = ", ".join(f"{n} ({s:.2f})" for n, s in others)
    return tag("span", f"{who}: ", tag("b", name), f" ({score:.2f})"), tag("span", rest, class_="muted rest")


def _tile(value: object, label: object, kind: str | None = None) -> Markup:
    return tag("div", tag("dt", label), tag("dd", value), class_=f"tile {kind or ''}".strip())


# A box for each finding.


def _finding(document: Document, finding: Broken, index: int, ids: Mapping[Any, str]) -> Markup:
    title = f"finding-{index}"
    own = {"model": finding.model, "variant": finding.variant}
    variant = next(iter(any_of(document["variants"], own)), None)
    name = f"{name_of(document, own)} {finding.what}" if finding.variant else finding.title
    tiles = _tiles(document, own) if finding.variant else []
    # The user's own file stands at the top of the page.
    tested = of_variant(document, variant) if variant and not variant.get("supplied") else None
    link = ids.get((finding.model, finding.variant))
    return tag(
        "article",
        tag("h3", tag("span", "✗ ", class_="bad", aria_hidden="true"), name, id=title),
        tag("p", tag("strong", "Tested: "), tested) if tested else None,
        tag("dl", *tiles, class_="tiles") if tiles else None,
        tag("p", tag("strong", "Likely cause: "), finding.likely) if finding.likely else None,
        tag("p", tag("strong", "Next: "), *_next(document, finding, variant)),
        tag("p", tag("strong", "Reproduce"), " (run in the project's folder):", class_="before"),
        tag("pre", tag("code", command_words(finding.replay)), class_="replay", tabindex="0"),
        tag("ul", *(tag("li", sentence) for sentence in finding.more), class_="extent") if finding.more else None,
        *(
            worst(document, p)
            for p in any_of(document["pictures"], own)
            if variant and worst_is_shown(document, variant)
        ),
        _failed_tests(document, finding, variant),
        tag("p", tag("a", f"All figures of {finding.variant}", href=f"#{link}")) if link else None,
        class_="finding",
        aria_labelledby=title,
    )


def _failed_tests(document: Document, finding: Broken, variant: Mapping[str, Any] | None) -> Markup:
    shared: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for test in finding.tests:
        # Each test has a command of its own, in a message that may else be the same.
        kept = "\n".join(line for line in test["message"].splitlines() if not line.lstrip().startswith("replay "))
        shared.setdefault((test["phase"], kept), []).append(test)
    tests = [
        tag(
            "details",
            tag("summary", *_listed([tag("code", test["test"]) for test in same]), f" – {phase}"),
            tag("pre", same[0]["message"], tabindex="0"),
        )
        for (phase, _), same in shared.items()
    ]
    counts = {} if variant is None else {c: n["failed"] for c, n in variant["checks"].items() if n["failed"]}
    says = f"{plural(len(finding.tests), 'failed test')} with messages"
    # A test may fail in two phases, with a message each.
    if sum(counts.values()) == len(finding.tests):
        late = " (not timed: its answers are wrong)" if variant and not_timed(document, variant) else ""
        names = {c: CHECKS[c].name if c in CHECKS else c for c in counts}
        says += ": " + ", ".join(f"{n} {names[c]}{late if c == 'benchmark' else ''}" for c, n in counts.items())
    return tag("details", tag("summary", says), *tests, class_="tests")


def _listed(names: Sequence[Markup]) -> list[object]:
    return [part for i, name in enumerate(names) for part in (*([", "] if i else []), name)]


def _next(document: Document, finding: Broken, variant: Mapping[str, Any] | None) -> list[str]:
    """Next steps: only what holds for any finding of the kind."""
    if variant is None:
        return ["read the message below, mend what it names, and run the command below again."]
    comparisons = [c for c in any_of(document["comparisons"], variant) if not c["passed"]]
    lost = any(inaccurate(row) for row in any_of(document["accuracy"], variant))
    if not (comparisons or lost or any(depends_on_batch(row) for row in any_of(document["batching"], variant))):
        if any(f["held"] is False for f in any_of(document["floors"], variant)):
            return ["run the command below again while nothing else runs on the machine; a slow engine stays below."]
        return ["read the message below, mend what it names, and run the command below again."]
    supplied = variant.get("supplied")
    what = file_name(supplied) if supplied else f"this {variant['variant']}"
    where = " (the messages below say where answers differ)" if comparisons else ""
    mend = "mend the cause" if finding.likely else f"find the cause{where}"
    steps = [f"do not ship {what}; {mend}, then run the command below again, and all tests before it is shipped."]
    same = [
        v["variant"]
        for v in compared(document)
        if (v["model"], v["precision"]) == (variant["model"], variant["precision"])
        and v["variant"] != variant["variant"]
        and v["verdict"] == "passed"
    ]
    if comparisons and same and variant["precision"] != "fp32":
        steps.append(f" {variant['precision'].upper()} alone does not explain it: {same[0]} passes.")
    return steps


def _tiles(document: Document, own: Mapping[str, Any]) -> list[Markup]:
    """Show how badly, the loss of accuracy first, on the most samples that were run."""
    accuracy = any_of(document["accuracy"], own)
    comparisons = [c for c in any_of(document["comparisons"], own) if not c["passed"]]
    found = on_samples(document, own)
    lost = [row for row in accuracy if inaccurate(row)]
    tiles = [_accuracy(row) for row in lost]
    if broken := next((c for c in comparisons if c["problems"]), None):
        tiles.append(_tile(BROKEN, f"on {broken['inputs']}: {broken['problems'][0]}", "bad"))
    elif found and (lost or not found.judged["passed"]):
        tiles += _on_samples(document, own, found)
    elif on_others := [c for c in comparisons if "max" in c["figures"]]:
        largest = max(on_others, key=lambda c: c["figures"]["max"][0] or 0)
        needed, allowed = largest["figures"]["max"]
        shown, limit = apart(needed, allowed)
        label = f"largest difference, on {largest['inputs']} inputs; allowed {limit}"
        tiles.append(_tile(shown, label, None if needed is not None and needed <= allowed else "bad"))
    tiles += [_accuracy(row) for row in accuracy if not inaccurate(row)]
    for floor in any_of(document["floors"], own):
        if floor["held"] is False:
            shown, limit = apart(floor["found"], floor["floor"], 3)
            tiles.append(_tile(shown, f"{floor['ratio']}; the floor is {limit}", "bad"))
    return tiles


def _accuracy(row: Mapping[str, Any]) -> Markup:
    own, reference = (f"{100 * row[key] / row['samples']:.2f} %" for key in ("correct", "reference_correct"))
    lost = row["reference_correct"] - row["correct"]
    if not inaccurate(row) or drop(row) <= 0:
        least = "" if not inaccurate(row) else f"; guessing stays below {row['least']:,} right"
        label = f"accuracy; the reference has {reference}, on {row['samples']:,} samples{least}"
        return _tile(own, label, "bad lead" if inaccurate(row) else None)
    allowed = "" if row["allowed_drop"] is None else f"; {row['allowed_drop']:,} allowed"
    label = f"accuracy {own}, reference {reference}: {lost:,} more of {row['samples']:,} wrong{allowed}"
    return _tile(f"−{100 * lost / row['samples']:.2f} points", label, "bad lead")


def _on_samples(document: Document, own: Mapping[str, Any], found: OnSamples) -> list[Markup]:
    """Show changed classes and the largest change on all samples that were run, and beside it in the agreement test."""
    judged, tiles = found.judged["samples"], []
    needed, allowed = found.judged["figures"].get("max", (None, 0.0))
    if found.flips:
        beside = f"; {found.judged['flips']:,} of {judged:,} in the agreement test" if found.more else ""
        label = f"samples change class ({percent(found.flips, found.samples)}){beside}"
        tiles.append(_tile(f"{found.flips:,} of {found.samples:,}", label, "bad"))
    held = kinds(document, own)
    decided = {held.get(found.output)} if found.output else set(held.values())
    what = "largest change of a class probability" if decided == {"probabilities"} else "largest difference"
    beside = f" ({number(needed)} in the {judged:,} of the agreement test)" if found.more else ""
    shown, limit = apart(found.largest, allowed)
    where = f"{of_output(document, own, found.output)}, in {plural(found.samples, 'sample')}"
    good = found.largest is not None and found.largest <= allowed
    tiles.append(_tile(shown, f"{what}{where}; allowed {limit}{beside}", None if good else "bad"))
    return tiles


# What was left out, and what passed.


def _left_out(document: Document) -> Markup | None:
    """Line on how many variants were not tested; opened, which and why."""
    left = not_tested(document)
    if not left and not skips(document):
        return None
    idle = [v for v in left if v["verdict"] == "not run"]
    groups = [(v, *g) for v in ("not judged", "skipped") for g in left_out(document, v).items()]
    lines = [
        tag("li", f"not judged: {reason}" if v == "not judged" else reason, ": ", ", ".join(names))
        for v, reason, names in groups
    ]
    if idle:
        names = ", ".join(f"{v['model']}-{v['variant']}" for v in idle)
        lines.append(tag("li", f"none of their tests was selected, or the run ended before: {names}"))
    count = len(left) or sum(len(names) for _, _, names in groups)
    says = f"{plural(count, 'variant')} {'was' if count == 1 else 'were'} not tested: which, and why"
    return tag("details", tag("summary", says), tag("ul", *lines), class_="note")


def _passed(document: Document) -> Markup | None:
    """Tiles on what passed: how many, what came closest, floors; tests, if all passed."""
    failed = document["verdict"]["status"] == "failed"
    good = [v for v in agreeing(document) if v["verdict"] != "failed"]
    if failed and not good:
        return None
    label = "variants agree with the reference; the reference itself is not counted"
    tiles = [_tile(f"{len(good)} of {len(compared(document))}", label)]
    if near := max((v for v in good if v["usage"] is not None), key=lambda v: v["usage"], default=None):
        which = name_of(document, near)
        tiles.append(
            _tile(f"{100 * near['usage']:.0f} %", f"of what is allowed was used by {which}, the closest to it")
        )
    losses = [(r["reference_correct"] - r["correct"], r) for r in document["accuracy"] if r["passed"]]
    if losses and not failed:
        lost, row = max(losses, key=lambda pair: pair[0] / pair[1]["samples"])
        value = f"{100 * max(lost, 0) / row['samples']:.2f} points"
        label = f"the most accuracy lost by a variant, on {row['samples']:,} samples"
        tiles.append(_tile(value, label))
    sound = {(v["model"], v["variant"]) for v in document["variants"] if v["verdict"] == "passed"}
    floors = [f for f in document["floors"] if f["held"] is not None and (f["model"], f["variant"]) in sound]
    if floors:
        tiles.append(_tile(f"{sum(f['held'] for f in floors)} of {len(floors)}", "throughput floors held"))
    if not failed:
        tests = document["tests"]
        tiles.append(_tile(f"{tests['passed']:,}", f"tests passed, {tests['skipped']:,} skipped"))
    heading = tag("h3", "The variants that passed") if failed else None
    return join([heading, tag("dl", *tiles, class_="tiles overview")])
