"""The page and the picture of false alarms, made from their results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from zoo.entry import VARIANTS
from zoo.pages import folder_of_page

COMMAND = "PYTHONPATH=tests python -m zoo.alarms --output docs/runs/alarms.json --seeds 0 1 2 --trainings 50"

KINDS = {"samples": ("samples", "#06c", -8), "stress": ("made-up inputs", "#e80", 8)}
"""Kinds of inputs: their names, the ink of their dots, and where these are in a row."""

LEFT, WIDTH, ROW, TOP, BOTTOM = 110, 590, 44, 34, 46
LOWEST, HIGHEST = 1e-2, 10.0


def compact(results: Mapping[str, Any]) -> str:
    """The results as JSON, one line a model."""
    models = ",\n".join(
        f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in results["models"].items()
    )
    return f'{{"made_with": {json.dumps(results["made_with"])},\n"models": {{\n{models}\n}}}}\n'


def write(path: Path, results: Mapping[str, Any]) -> None:
    """Write page and picture of the same name: beside the results, or in ``docs`` where they are in ``docs/runs``."""
    shown = folder_of_page(path)
    (shown / path.with_suffix(".svg").name).write_text(picture(results["models"]), encoding="utf-8")
    (shown / path.with_suffix(".md").name).write_text(page(results), encoding="utf-8")


def page(results: Mapping[str, Any]) -> str:
    """The page, in Markdown."""
    models: Mapping[str, Any] = results["models"]
    names = {key.rsplit(" ", 1)[0] for key in models}
    judged = sum(1 for found in models.values() for name in found if name)
    alarms = [(key, name, one) for key, found in models.items() for name, one in found.items() if "state" in one]
    made_with = ", ".join(f"{name} {version}" for name, version in results["made_with"].items())
    lines = [
        "# False alarms",
        "",
        f"    {COMMAND}",
        "",
        "Written by that command. It makes each model of the zoo from several seeds, and trains `digits_vgg` again and",
        "again. It converts all, and judges every sound variant as the tests do; known defects are left out.",
        "",
        f"**{judged} sound conversions of {len(models)} models of {len(names)} sorts: {len(alarms)} failed.**",
        f"With {made_with}.",
        "",
        "![A dot for each variant of each model](alarms.svg)",
        "",
        "Needed over allowed, of the figure that comes closest to its limit: median and largest.",
        "",
        "| engine | models | samples | made-up inputs |",
        "|---|---|---|---|",
    ]
    for engine in VARIANTS:
        cells = []
        for kind in KINDS:
            found = sorted((one[kind], key) for key, one in _of(models, engine) if kind in one)
            cells.append(f"{median(v for v, _ in found):.2f}, {found[-1][0]:.2f} ({found[-1][1]})" if found else "")
        lines.append(f"| {engine} | {sum(1 for _ in _of(models, engine))} | {' | '.join(cells)} |")
    if alarms:
        lines += ["", "## What failed", ""]
        lines += [f"- {key}, {name or 'the model'}: {one['text'].splitlines()[0]}" for key, name, one in alarms]
    return "\n".join(lines) + "\n"


def picture(models: Mapping[str, Any]) -> str:
    """SVG: a dot for each variant of a model, at the largest needed over allowed of its samples or made-up inputs."""
    height = TOP + ROW * len(VARIANTS) + BOTTOM
    marks = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for value in (0.01, 0.1, 1.0, 10.0):
        x, ink = _x(value), "#b00" if value == 1 else "#ccc"
        marks.append(f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{height - BOTTOM}" stroke="{ink}"/>')
        marks.append(f'<text x="{x}" y="{height - 30}" text-anchor="middle">{value:g}</text>')
    marks.append(f'<text x="{_x(1) + 6}" y="{TOP - 6}" fill="#b00">what is allowed</text>')
    for number, engine in enumerate(VARIANTS):
        y = TOP + ROW * number + ROW / 2
        marks.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{engine}</text>')
        for kind, (_, ink, offset) in KINDS.items():
            values = sorted(one[kind] for _, one in _of(models, engine) if kind in one)
            for at, value in enumerate(values):
                jitter = (at % 3 - 1) * 3
                marks.append(
                    f'<circle cx="{_x(value)}" cy="{y + offset + jitter}" r="2.5" fill="{ink}" opacity="0.5"/>'
                )
    named = ", ".join(f'<tspan fill="{ink}">{name}</tspan>' for name, ink, _ in KINDS.values())
    title = f"largest figure of a sound conversion over what is allowed: {named}"
    marks.append(f'<text x="{LEFT}" y="{height - 8}">{title}</text></svg>')
    return "\n".join(marks) + "\n"


def _of(models: Mapping[str, Any], engine: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((key, found[engine]) for key, found in models.items() if engine in found)


def _x(value: float) -> float:
    share = math.log(min(max(value, LOWEST), HIGHEST) / LOWEST) / math.log(HIGHEST / LOWEST)
    return round(LEFT + share * (WIDTH - 10), 1)
