"""The part of the page about speed and size: throughput against batch, latency, load times, floors, energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conformance.report import charts
from conformance.report.broken import not_timed
from conformance.report.document import Document, any_of
from conformance.report.markup import Markup, join, table, tag
from conformance.report.numbers import apart, number

PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16", "int8-qdq")
"""The order of the precisions' colours and shapes, the same in every chart."""


TIMED = (
    "Timed after the variant agreed with the reference. A hollow mark or ~: rounds differ by more than a fifth. "
    "An exclamation mark: processor or GPU was throttled meanwhile, so the figure is not what the engine can do."
)
FLOORS = (
    "Each floor is measured on its own, both engines in turns: its ratio is not that of two rows of the table above."
)


def speed(document: Document) -> Markup | None:
    """Write the section; None where nothing was built or timed."""
    parts: list[Markup] = []
    if document["benchmarks"]:
        parts.append(tag("p", TIMED, class_="muted"))
    for model in document["models"]:
        rows = [b for b in document["benchmarks"] if b["model"] == model["name"]]
        sizes = _sizes(document, model, rows)
        if rows or sizes:
            parts.append(tag("h3", model["name"]))
        if rows:
            parts.append(tag("div", *_charts(document, rows), class_="charts"))
            parts.append(_table(document, model["name"], rows))
        if served := [s for s in document.get("served", ()) if s["model"] == model["name"]]:
            parts.append(_served(model["name"], served))
        if sizes:
            parts.append(sizes)
    if document["floors"]:
        parts.append(_floors(document))
    return join(parts) if parts else None


def _described(document: Document, row: Any) -> Any:
    return any_of(document["variants"], row)[0]


def _style(precision: str) -> int:
    return PRECISIONS.index(precision) if precision in PRECISIONS else len(PRECISIONS)


def _charts(document: Document, rows: Sequence[Any]) -> list[Markup]:
    """Draw a chart for each format, on one axis of samples a second."""
    rates = (min(r["samples_per_second"] for r in rows), max(r["samples_per_second"] for r in rows))
    formats: dict[str, dict[str, list[Any]]] = {}
    for row in rows:
        formats.setdefault(_described(document, row)["format"], {}).setdefault(row["variant"], []).append(row)
    figures = []
    for format_, variants in formats.items():
        series, styles = [], {}
        for found in variants.values():
            precision = _described(document, found[0])["precision"]
            styles[precision] = _style(precision)
            series.append(
                (styles[precision], [(r["batch"], r["samples_per_second"], r["stable"] is not False) for r in found])
            )
        label = f"Samples a second against batch size for {format_}; the values stand in the table of speeds."
        legend = tag("ul", *(charts.key(style, name) for name, style in styles.items()), class_="legend")
        caption = tag("figcaption", tag("strong", f"{format_}: throughput against batch"), legend)
        figures.append(tag("figure", caption, charts.lines(series, rates, label)))
    return figures


def _table(document: Document, model: str, rows: Sequence[Any]) -> Markup:
    rates = {(_key(document, r), r["batch"]): r["samples_per_second"] for r in rows}
    singles = {r["variant"]: r["samples_per_second"] for r in rows if r["batch"] == 1}
    optional = {
        "joules_per_1000_samples": "J/1,000",
        "device_memory_bytes": "GPU MB",
    }
    extra = [k for k in optional if any(r.get(k) is not None for r in rows)]
    others = list(dict.fromkeys(name for r in rows for name in r.get("yardsticks", {})))
    throttled = any(r.get("throttled") for r in rows)
    cells = []
    for row in rows:
        found = _described(document, row)
        rate = row["samples_per_second"]
        fp32 = rates.get(((found["format"], "fp32", found["profile"]), row["batch"]))
        single = singles.get(row["variant"])
        cells.append(
            [
                row["variant"],
                f"{row['batch']:,}",
                _rate(rate) + (" ~" if row["stable"] is False else "") + (" !" if row.get("throttled") else ""),
                "–" if row["spread"] is None else f"{100 * row['spread']:.0f} %",
                _milliseconds(row["p50_ms"]),
                _milliseconds(row["p99_ms"]),
                "–" if fp32 is None or found["precision"] == "fp32" else f"{rate / fp32:.2f} ×",
                "–" if single is None or row["batch"] == 1 else f"{rate / single:.2f} ×",
                *(
                    "–" if row.get(k) is None else number(row[k] / (1e6 if k.endswith("bytes") else 1), 3)
                    for k in extra
                ),
                *("–" if n not in row.get("yardsticks", {}) else _rate(row["yardsticks"][n]) for n in others),
                *(["; ".join(row.get("throttled", ())) or "–"] if throttled else []),
            ]
        )
    headings = ["variant", "batch", "samples/s", "spread", "p50 ms", "p99 ms", "over FP32", "over batch 1"]
    headings += [optional[k] for k in extra] + others + (["throttled by"] if throttled else [])
    for variant in document["variants"]:
        if variant["model"] == model and not_timed(document, variant):
            late = ["–", "not timed: wrong answers"]
            cells.append([variant["variant"], *late, *["–"] * (len(headings) - 1 - len(late))])
    words = (0, len(headings) - 1) if throttled else (0,)
    return table(f"Speed of {model}: throughput, latency, and how many times as fast", headings, cells, words=words)


def _served(model: str, rows: Sequence[Any]) -> Markup:
    """Write the table of speed against the number of clients; the server's own time stands apart."""
    cells = []
    for row in rows:
        server = row["server_ms"]
        spent = None if server is None else sum(server.values())
        cells.append(
            [
                row["variant"],
                f"{row['batch']:,}",
                f"{row['clients']:,}",
                _rate(row["samples_per_second"]) + (" !" if row.get("throttled") else ""),
                _milliseconds(row["p50_ms"]),
                _milliseconds(row["p99_ms"]),
                _milliseconds(None if server is None else server["queue"]),
                _milliseconds(None if server is None or spent is None else spent - server["queue"]),
            ]
        )
    headings = [
        "variant",
        "batch",
        "clients",
        "samples/s",
        "p50 ms",
        "p99 ms",
        "in the server's queue ms",
        "its work ms",
    ]
    return table(
        f"Served speed of {model}: clients that ask at once, and the server's mean for a request", headings, cells
    )


def _key(document: Document, row: Any) -> tuple[str, str, str | None]:
    found = _described(document, row)
    return found["format"], found["precision"], found["profile"]


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _sizes(document: Document, model: Any, rows: Sequence[Any]) -> Markup | None:
    artifacts = [a for a in document["artifacts"] if a["model"] == model["name"]]
    loads = {r["variant"]: r["load_seconds"] for r in rows if r.get("load_seconds") is not None}
    if not artifacts:
        return None

    def supplied(artifact: Any) -> bool:
        return bool(_described(document, artifact).get("supplied"))

    reference = next((a["bytes"] for a in artifacts if a["variant"] == model["reference"]), None)
    cells = [
        [
            a["variant"],
            f"{a['bytes'] / 1e6:.2f}",
            "–" if not reference else f"{100 * a['bytes'] / reference:.0f} %",
            *(["–" if a["variant"] not in loads else f"{1e3 * loads[a['variant']]:,.1f}"] if loads else []),
            "supplied" if supplied(a) else f"{a['build_seconds']:,.1f}",
        ]
        for a in artifacts
    ]
    caption = f"Size{', load time' if loads else ''} and build time of {model['name']}"
    headings = ["variant", "MB", "of the reference", *(["load ms"] if loads else []), "build s"]
    return table(caption, headings, cells)


def _floors(document: Document) -> Markup:
    words = {True: tag("span", "✓ held", class_="good"), False: tag("span", "✗ missed", class_="bad")}
    cells = [
        [
            f"{f['model']}: {f['ratio']}",
            *(("–", number(f["floor"], 3)) if f["found"] is None else apart(f["found"], f["floor"], 3)),
            "–" if f["seen"] is None else number(f["seen"], 3),
            join(
                [
                    words.get(f["held"]) or f"not applied: {f['reason']}",
                    *(tag("span", f"throttled: {what}", class_="muted under") for what in f.get("throttled", ())),
                ]
            ),
        ]
        for f in document["floors"]
    ]
    return join(
        [
            tag("h3", "Floors"),
            tag("p", FLOORS, class_="muted"),
            table("Throughput floors", ["floor of", "found", "floor", "seen before", "result"], cells, words=(0, 4)),
        ]
    )
