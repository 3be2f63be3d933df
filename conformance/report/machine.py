"""The part of the page about the machine: what it did over the time of the run, and what throttled it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conformance.report import charts
from conformance.report.document import Document, name_of
from conformance.report.markup import Markup, figure, join, table, tag
from conformance.report.numbers import number, plural

EXPLAINED = (
    "Read while tests ran. The line is the mean, the band around it goes from the least to the largest reading. Bars "
    "at the top: when speed was measured; below them, in another colour: when something throttled."
)

UNITS: Mapping[str, tuple[float, str]] = {
    "cores": (1.0, "cores"),
    "bytes": (1e6, "MB"),
    "share": (0.01, "%"),
    "watts": (1.0, "W"),
    "hertz": (1e6, "MHz"),
    "celsius": (1.0, "°C"),
}
"""What a reading is divided by to be shown, and the unit that it then has."""


def machine(document: Document) -> Markup | None:
    """Write the section; None where nothing was read."""
    # Not in results of earlier versions.
    meters = document.get("meters")
    if meters is None or not (meters["rows"] or meters["problems"]):
        return None
    parts: list[Markup | None] = [tag("p", EXPLAINED, class_="muted") if meters["rows"] else None]
    groups: dict[str | None, list[int]] = {}
    for place, column in enumerate(meters["columns"]):
        groups.setdefault(column["of"], []).append(place)
    if meters["rows"] and groups:
        parts.append(tag("div", *(_figure(meters, of, places) for of, places in groups.items()), class_="charts"))
    parts.append(_throttled(document))
    if problems := meters["problems"]:
        parts.append(tag("p", "Not read: ", "; ".join(problems), ".", class_="note"))
    return join(parts)


def _figure(meters: Mapping[str, Any], of: str | None, places: Sequence[int]) -> Markup:
    """Draw what was read of the processes, or of one GPU."""
    rows, columns = meters["rows"], [meters["columns"][place] for place in places]
    title = "Processes of the run"
    for gpu in meters["gpus"]:
        if gpu["name"] == of:
            limit = "" if gpu["power_limit_watts"] is None else f", power limit {number(gpu['power_limit_watts'], 3)} W"
            title = f"{of}: {gpu['model']}{limit}"
    lanes = [(p, c["name"], _writer(c["unit"])) for p, c in zip(places, columns, strict=True)]
    measured = [(m["start"], m["end"]) for m in meters["measurements"]]
    throttled = sorted({name for row in rows for name in row[2]})
    says = f"{plural(len(measured), 'measurement')} of speed"
    says += f"; throttled by {', '.join(throttled)}." if throttled else "; nothing throttled."
    names = ", ".join(c["name"] for c in columns)
    chart = charts.over_time(rows, lanes, measured, f"{title}: {names} over {rows[-1][1]:.0f} s. {says}")
    head = ["from s", "to s", *(f"{c['name']} {UNITS[c['unit']][1]}" for c in columns), "throttled"]
    cells = [
        [
            f"{row[0]:.1f}",
            f"{row[1]:.1f}",
            *(_cell(row[3 + p], meters["columns"][p]["unit"]) for p in places),
            ", ".join(row[2]) or "–",
        ]
        for row in rows
    ]
    values = table(f"{title}: mean (least to largest) over time", head, cells, words=(0, len(head) - 1))
    return figure(title, says, chart, values)


def _writer(unit: str) -> Callable[[float], str]:
    size, name = UNITS[unit]
    return lambda value: f"{number(value / size, 3)} {name}"


def _cell(spread: Sequence[float] | None, unit: str) -> str:
    if spread is None:
        return "–"
    least, mean, most = (number(value / UNITS[unit][0], 3) for value in spread)
    return mean if least == most else f"{mean} ({least} to {most})"


def _throttled(document: Document) -> Markup | None:
    """List the measurements that were throttled."""
    rows = [
        [
            name_of(document, m) if m["variant"] else "–",
            tag("code", m["test"].split("::")[-1]),
            f"{m['start']:.1f}",
            f"{m['end'] - m['start']:.1f}",
            "; ".join(m["throttled"]),
        ]
        for m in document["meters"]["measurements"]
        if m["throttled"]
    ]
    if not rows:
        return None
    head = ["of", "test", "at s", "took s", "throttled by"]
    return table("Measurements of speed that were throttled", head, rows, words=(0, 1, 4))
