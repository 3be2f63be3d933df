"""The page of what TensorRT for RTX builds of the zoo, written from the results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

COMMAND = "PYTHONPATH=tests python -m zoo.rtx --output docs/runs/rtx_zoo.json"
FIGURES = {"no ONNX": "no ONNX", "refused": "**refused**", "not made": "**not made**"}
LONGEST = 400
"""The most characters of a reason that the page shows; all of it is in the JSON file."""


def page(results: Mapping[str, Any]) -> str:
    """Write the page, in Markdown: a row a model, and each reason once with the plans that it stands for."""
    models: Mapping[str, Any] = results["models"]
    precisions = list(next(iter(models.values()))["variants"])
    made_with = ", ".join(f"{name} {version}" for name, version in results["made_with"].items() if version)
    states = {p: [m["variants"][p]["state"] for m in models.values()] for p in precisions}
    counts = "; ".join(f"{p} {found.count('built')} of {len(models)}" for p, found in states.items())
    lines = [
        "# The zoo through TensorRT for RTX",
        "",
        f"    {COMMAND}",
        "",
        "Written by that command, without a GPU. It makes each model, and builds its plans for compute capabilities",
        f"{', '.join(results['targets'])} at the model's first batch profile. Nothing was run: what is built may",
        "still answer wrongly. Sizes, layers and whole messages are in [the JSON file](runs/rtx_zoo.json).",
        "",
        f"- Built: {counts}.",
        "- *no ONNX*: there is none to build from, for the reason below. *refused*: by TensorRT for RTX.",
        f"- Made with {made_with}; {results['machine']}.",
        "",
        f"| model | what it has | {' | '.join(precisions)} |",
        f"|---|---|{'---|' * len(precisions)}",
    ]
    reasons: dict[str, list[str]] = {}
    for name, model in models.items():
        cells = []
        for precision, found in model["variants"].items():
            cells.append(f"{found['bytes'] / 1e6:.2f} MB" if found["state"] == "built" else FIGURES[found["state"]])
            if found["state"] != "built":
                reasons.setdefault(shortened(found["reason"]), []).append(f"`{name}` {precision}")
        what = model["title"] + (" (no reference: no variant is judged)" if model["refused"] else "")
        lines.append(f"| `{name}` | {what} | {' | '.join(cells)} |")
    if reasons:
        lines += ["", "## Why not", ""]
        lines += [f"- {', '.join(plans)}: `{reason}`" for reason, plans in reasons.items()]
    return "\n".join(lines) + "\n"


def shortened(reason: str) -> str:
    """Reason in one line, without the variant that it begins with; what is long is cut."""
    line = re.sub(r"^tensorrt-rtx-\S+ of \w+: ", "", " ".join(reason.split())).replace("`", "'")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"
