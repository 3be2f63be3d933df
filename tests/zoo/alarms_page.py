"""How much of what the rule allows sound conversions need: measured on the zoo, and drawn.

python docs/needed.py FOLDER        # makes the models there, runs every variant, writes docs/runs/needed.json
python docs/needed.py               # draws docs/needed.svg of that file
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUNS, PICTURE = ROOT / "docs" / "runs" / "needed.json", ROOT / "docs" / "needed.svg"

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

ENGINES = ("onnx-fp32", "tflite-fp32", "onnx-fp16", "tflite-fp16", "onnx-int8", "tflite-int8")
LEFT, WIDTH, ROW, TOP = 110, 590, 44, 34
LOWEST, HIGHEST = 1e-2, 10.0


def measured(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Largest needed over allowed of each variant of every model that is to pass, on samples and made-up inputs."""
    from zoo import ENTRIES
    from zoo.chains import chain_of
    from zoo.entry import PASSES

    from engines.errors import EngineError
    from trial.judged import compared
    from trial.outputs import Outputs
    from trial.sets import Sets

    found: dict[str, dict[str, list[float]]] = {}
    for entry in ENTRIES:
        if entry.refused or entry.heavy or entry.unavailable():
            continue
        chain = chain_of(entry, folder)
        sets = Sets(chain)
        for variant in chain.variants:
            if str(variant) not in ENGINES or entry.expectation(str(variant)) != PASSES:
                continue
            try:
                runner = chain.runner(variant)
            except EngineError:
                continue
            with runner:
                for given in sets.every:
                    answers = Outputs(given.inputs, runner(given.inputs), given.reference)
                    rule, comparison = compared(chain, runner, given.kind, answers)
                    if rule.noise:
                        kind = found.setdefault(f"{entry.name} {variant}", {}).setdefault(given.kind, [])
                        kind.append(round(comparison.usage, 4))
    return found


def drawn(found: dict[str, dict[str, list[float]]]) -> str:
    """SVG: a dot for each variant of a model, at the largest needed over allowed of its samples or made-up inputs."""
    height = TOP + ROW * len(ENGINES) + 46
    marks = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for value in (0.01, 0.1, 1.0, 10.0):
        x, ink = _x(value), "#b00" if value == 1 else "#ccc"
        marks.append(f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{height - 46}" stroke="{ink}"/>')
        marks.append(f'<text x="{x}" y="{height - 30}" text-anchor="middle">{value:g}</text>')
    marks.append(f'<text x="{_x(1) + 6}" y="{TOP - 6}" fill="#b00">what is allowed</text>')
    for number, engine in enumerate(ENGINES):
        y = TOP + ROW * number + ROW / 2
        marks.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{engine}</text>')
        for offset, ink, kind in ((-8, "#06c", "samples"), (8, "#e80", "stress")):
            values = [max(kinds[kind]) for name, kinds in found.items() if name.endswith(engine) and kinds.get(kind)]
            for at, value in enumerate(sorted(values)):
                jitter = (at % 3 - 1) * 3
                marks.append(f'<circle cx="{_x(value)}" cy="{y + offset + jitter}" r="3" fill="{ink}" opacity="0.6"/>')
    marks.append(
        f'<text x="{LEFT}" y="{height - 8}">largest figure of a sound conversion over what is allowed: '
        '<tspan fill="#06c">samples</tspan>, <tspan fill="#e80">made-up inputs</tspan></text></svg>'
    )
    return "\n".join(marks) + "\n"


def _x(value: float) -> float:
    share = math.log(min(max(value, LOWEST), HIGHEST) / LOWEST) / math.log(HIGHEST / LOWEST)
    return round(LEFT + share * (WIDTH - 10), 1)


def main(words: list[str]) -> None:
    """Measure into a folder where one is named, and draw what was measured."""
    if words:
        RUNS.write_text(json.dumps(measured(Path(words[0])), indent=1) + "\n", encoding="utf-8")
    found: dict[str, Any] = json.loads(RUNS.read_text(encoding="utf-8"))
    PICTURE.write_text(drawn(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
