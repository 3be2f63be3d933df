"""The charts of a report as inline SVG: colours come from the style sheet, shapes and words say the same as they do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conformance.report.markup import Markup, join, tag
from conformance.report.numbers import number, percent

WIDTH, HEIGHT = 380, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 20, 38
"""The size of a chart and what its axes take of it. Text is drawn about as large as it is read."""

SHAPES = 5
"""So many series differ in colour and shape."""


def histogram(picture: Mapping[str, Any]) -> Markup:
    """Draw the distribution of absolute differences on logarithmic axes, with what is allowed as a line."""
    data, allowed = picture["histogram"], picture["allowed_max"]
    edges, counts = data["edges_log10"], data["counts"]
    used = [i for i, n in enumerate(counts) if n]
    if not used:
        return tag("p", f"All {data['zeros']:,} elements equal the reference's.", class_="note")
    limit = math.log10(allowed) if allowed > 0 else None
    low = math.floor(min(edges[used[0]], edges[-1] if limit is None else limit))
    high = math.ceil(max(edges[used[-1] + 1], edges[0] if limit is None else limit) + 0.01)
    decades, bottom = _decades(max(counts)), float(HEIGHT - BOTTOM)
    # The axis starts below one, so that a bar of one element still shows.
    x, y = _scale(low, high, LEFT, WIDTH - RIGHT), _scale(-decades / 16, decades, bottom, TOP)
    step = 1 if high - low <= 6 else 2
    marks = [_grid_x(x(d), f"1e{d}" if d else "1") for d in range(low, high + 1, step)]
    marks += [_grid_y(y(d), short(10**d)) for d in range(decades + 1)]
    for i in used:
        over = limit is not None and edges[i] >= limit - 1e-9
        top, left, right = y(math.log10(counts[i])), x(edges[i]), x(edges[i + 1])
        marks.append(
            _mark("rect", class_="over" if over else "bar", x=left, y=top, width=right - left - 1, height=bottom - top)
        )
    if limit is not None:
        at = x(limit)
        right = at > WIDTH / 2
        marks.append(_mark("line", class_="limit", x1=at, x2=at, y1=TOP - 6, y2=bottom))
        marks.append(
            _text(
                f"allowed {number(allowed)}", at + (-5 if right else 5), TOP - 8, "end" if right else "start", "limit"
            )
        )
    label = f"Distribution of absolute differences; {data['beyond']:,} elements differ by more than is allowed."
    return _svg(label, marks, "absolute difference", "elements")


def scatter(picture: Mapping[str, Any]) -> Markup:
    """Draw the confidence of the reference against the variant's, changed classes as triangles."""
    points = picture["scatter"]
    x, y = _scale(0, 1, LEFT, WIDTH - RIGHT), _scale(0, 1, HEIGHT - BOTTOM, TOP)
    marks = [_grid_x(x(v / 4), f"{v / 4:g}") for v in range(5)] + [_grid_y(y(v / 4), f"{v / 4:g}") for v in range(5)]
    marks.append(_mark("line", class_="diagonal", x1=x(0), y1=y(0), x2=x(1), y2=y(1)))
    # One path for all points of a kind: a page holds thousands. A point is a line of no length with a round end.
    for flip, outline in ((False, "h0"), (True, "m0-5l4.6 8.6h-9.2z")):
        at = (f"M{x(p['reference']):.1f} {y(p['variant']):.1f}{outline}" for p in points if p["flip"] == flip)
        marks.append(_mark("path", class_="flip" if flip else "points", d="".join(at)))
    flips = sum(p["flip"] for p in points)
    label = f"Confidence in the first class, reference against variant, {len(points)} samples, {flips} change class."
    return _svg(label, marks, "reference's confidence", "variant's")


def agreement(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw bars of the share of samples that keep the reference's class, by that class."""
    height = 20 * len(rows) + 30
    x = _scale(0, 1, 112, WIDTH - 52)
    marks: list[Markup] = [_grid_x(x(v / 2), f"{50 * v} %", height - 22) for v in range(3)]
    for i, row in enumerate(rows):
        share, top = row["same"] / row["samples"], 20 * i + 6
        name = row["class"] if len(row["class"]) <= 14 else row["class"][:13] + "…"
        marks.append(_text(name, 106, top + 11, "end"))
        marks.append(_mark("rect", class_="track", x=x(0), y=top, width=x(1) - x(0), height=14))
        marks.append(_mark("rect", class_="bar", x=x(0), y=top, width=x(share) - x(0), height=14))
        marks.append(_text(percent(row["same"], row["samples"]), x(1) + 5, top + 11, "start"))
    label = "Share of samples that keep the reference's class, by class."
    return _svg(label, marks, None, None, height)


def lines(
    series: Sequence[tuple[int, Sequence[tuple[int, float, bool]]]], rates: tuple[float, float], label: str
) -> Markup:
    """Draw throughput against batch size, both logarithmic; an unstable point is hollow.

    ``series`` are pairs of a style (number) and points (batch, samples/s, stable). ``rates`` are the lowest and the
    highest of all charts that are to be compared, so that they share an axis.
    """
    batches = sorted({batch for _, points in series for batch, _, _ in points})
    low, high = math.floor(math.log10(rates[0])), math.ceil(math.log10(rates[1]))
    high = high + 1 if high == low else high
    first, last = math.log2(batches[0]), math.log2(batches[-1])
    x = _scale(first - 0.3, last + 0.3, LEFT, WIDTH - RIGHT)
    y = _scale(low, high, HEIGHT - BOTTOM, TOP)
    marks: list[Markup] = []
    shown = -math.inf
    for batch in batches:
        at = x(math.log2(batch))
        marks.append(_grid_x(at, f"{batch:,}" if at - shown > 26 else ""))
        shown = at if at - shown > 26 else shown
    marks += [_grid_y(y(d), short(10**d)) for d in range(low, high + 1)]
    for style, points in series:
        places = [(x(math.log2(batch)), y(math.log10(rate)), stable) for batch, rate, stable in points]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in places)
        marks.append(_mark("polyline", class_=f"line s{style}", points=path))
        marks += [_shape(style, px, py, f"s{style}" + ("" if stable else " hollow")) for px, py, stable in places]
    return _svg(label, marks, "batch", "samples/s")


def along(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw the own error of tensors in the order of the graph, and as a line what is allowed, on a logarithmic axis."""
    finite = [v for row in rows for v in (row["needed"], row["allowed"]) if v]
    low = math.floor(math.log10(min(finite, default=0.1)))
    high = max(low + 1, math.ceil(math.log10(max(finite, default=1.0)) + 0.01))
    x, y = _scale(-1, len(rows), LEFT, WIDTH - RIGHT), _scale(low, high, HEIGHT - BOTTOM, TOP)
    step = 1 if high - low <= 6 else 2
    marks = [_grid_y(y(d), f"1e{d}" if d else "1") for d in range(low, high + 1, step)]

    def place(value: float | None) -> float:
        """Height of a value: none at all is at the bottom, one that is not finite at the top."""
        return y(high if value is None else max(low, math.log10(value)) if value else low)

    line = " ".join(f"{x(at):.1f},{place(row['allowed']):.1f}" for at, row in enumerate(rows))
    marks.append(_mark("polyline", class_="limit line", points=line))
    for at, row in enumerate(rows):
        beyond = row["allowed"] is not None and (row["needed"] is None or row["needed"] > row["allowed"])
        outline = "m0-5l4.6 8.6h-9.2z" if beyond else "h0"
        path = f"M{x(at):.1f} {place(row['needed']):.1f}{outline}"
        marks.append(_mark("path", class_="flip" if beyond else "points", d=path))
    label = f"Own error of {len(rows)} tensors in the order of the graph, and what is allowed of each as a line."
    return _svg(label, marks, "tensor, in the graph's order", "share of its size")


LANE, PLOT = 62, 36
"""The height of one quantity in a chart over time, and of what is drawn of it."""

STRIP = 34
"""The height above the lanes, where measurements and throttling stand."""


def over_time(
    rows: Sequence[Sequence[Any]],
    lanes: Sequence[tuple[int, str, Callable[[float], str]]],
    measured: Sequence[tuple[float, float]],
    label: str,
) -> Markup:
    """Draw quantities over the time of a run, one below the other, each from zero: the mean, and its range as a band.

    ``rows`` are those of ``meters`` in ``conformance.schema.json``; ``lanes`` the places of their columns, with what
    they are and how a value is written; ``measured`` when speed was measured, in seconds.
    """
    last = max(rows[-1][1], *(end for _, end in measured), 0.0)
    height = STRIP + LANE * len(lanes) + 24
    # A mark at the very end has room for its text.
    x = _scale(0, last, LEFT, WIDTH - RIGHT - 12)
    step = _time_step(last)
    bottom = float(height - 22)
    marks = [_grid_x(x(t), _time(t, step), bottom) for t in range(0, int(last) + 1, step)]
    marks += [_bar_of_time("bar", x, start, end, 4) for start, end in measured]
    marks += [_bar_of_time("over", x, start, end, 14) for start, end, throttled, *_ in rows if throttled]
    for place, (column, name, write) in enumerate(lanes):
        top = STRIP + LANE * place + 16
        found = [(row[0], row[1], row[3 + column]) for row in rows]
        most = max((spread[2] for _, _, spread in found if spread), default=0.0)
        y = _scale(0, most or 1.0, top + PLOT, top)
        title = f"{name}, up to {write(most)}" if any(spread for *_, spread in found) else f"{name}: not read"
        marks.append(_text(title, LEFT, top - 5, "start", "title"))
        marks.append(_grid_y(y(0), "0"))
        for part in _unbroken(found):
            middles = [(x((start + end) / 2), spread) for start, end, spread in part]
            edge = [(at, y(spread[2])) for at, spread in middles] + [(at, y(spread[0])) for at, spread in middles[::-1]]
            marks.append(_mark("polygon", class_="track", points=_points(edge)))
            line = [(at, y(spread[1])) for at, spread in middles]
            # A line of one point is not seen.
            line = line if len(line) > 1 else [(line[0][0] - 1, line[0][1]), (line[0][0] + 1, line[0][1])]
            marks.append(_mark("polyline", class_="line s0", points=_points(line)))
    return _svg(label, marks, None, None, height)


def _unbroken(found: Sequence[tuple[float, float, Any]]) -> list[list[tuple[float, float, Any]]]:
    """Stretches of readings in which none is missing."""
    parts: list[list[tuple[float, float, Any]]] = [[]]
    for one in found:
        if one[2] is None:
            parts.append([])
        else:
            parts[-1].append(one)
    return [part for part in parts if part]


def _bar_of_time(class_: str, x: Callable[[float], float], start: float, end: float, top: float) -> Markup:
    return _mark("rect", class_=class_, x=x(start), y=top, width=max(1.5, x(end) - x(start)), height=7)


def _time_step(seconds: float) -> int:
    """Seconds between marks of an axis of time: at most six of them."""
    steps = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
    return next((step for step in steps if seconds / step <= 6), max(1, math.ceil(seconds / 6 / 3600) * 3600))


def _time(seconds: int, step: int) -> str:
    """Write a mark of an axis of time: seconds, minutes or hours, as its steps are."""
    size, unit = next(((n, u) for n, u in ((3600, "h"), (60, "min")) if step % n == 0), (1, "s"))
    return f"{seconds // size} {unit}" if seconds else "0"


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def key(style: int, name: str) -> Markup:
    """Draw one entry of a legend."""
    mark = tag("svg", _shape(style, 7, 7, f"s{style}"), viewBox="0 0 14 14", width=14, height=14, aria_hidden="true")
    return tag("li", mark, " ", name)


def short(value: float) -> str:
    """Write a power of ten for an axis: 100, 1k, 10k, 1M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _svg(label: str, marks: Sequence[Markup], x: str | None, y: str | None, height: int = HEIGHT) -> Markup:
    titles = [
        None if x is None else _text(x, WIDTH - RIGHT, height - 4, "end", "title"),
        None if y is None else _text(y, 4, 11, "start", "title"),
    ]
    return tag("svg", join([*marks, *titles]), role="img", aria_label=label, viewBox=f"0 0 {WIDTH} {height}")


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (stop - start)


def _decades(count: int) -> int:
    return max(1, math.ceil(math.log10(count)))


def _mark(name: str, **attributes: Any) -> Markup:
    return tag(name, **{k: f"{v:.1f}".removesuffix(".0") if isinstance(v, float) else v for k, v in attributes.items()})


def _text(text: str, x: float, y: float, anchor: str, class_: str | None = None) -> Markup:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_)


def _grid_x(x: float, text: str, bottom: float = HEIGHT - BOTTOM) -> Markup:
    line = _mark("line", class_="grid", x1=x, x2=x, y1=float(TOP if bottom == HEIGHT - BOTTOM else 2), y2=float(bottom))
    return join([line, _text(text, x, bottom + 14, "middle")])


def _grid_y(y: float, text: str) -> Markup:
    line = _mark("line", class_="grid", x1=float(LEFT), x2=float(WIDTH - RIGHT), y1=y, y2=y)
    return join([line, _text(text, LEFT - 5, y + 4, "end")])


def _shape(style: int, x: float, y: float, class_: str) -> Markup:
    if style % SHAPES == 0:
        return _mark("circle", class_=class_, cx=x, cy=y, r=3.5)
    if style % SHAPES == 1:
        return _mark("rect", class_=class_, x=x - 3.2, y=y - 3.2, width=6.4, height=6.4)
    outlines = {
        2: ((0, -5), (4.6, 3.6), (-4.6, 3.6)),
        3: ((0, -5), (5, 0), (0, 5), (-5, 0)),
        4: ((0, 5), (4.6, -3.6), (-4.6, -3.6)),
    }
    return _mark(
        "polygon", class_=class_, points=" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in outlines[style % SHAPES])
    )
