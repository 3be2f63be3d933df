"""The words that the report has for what programs call by short names, and how it writes found over allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

FIGURES = {
    "max": "largest difference",
    "mean": "mean difference",
    "kl": "KL divergence (nats)",
    "margin": "reference's lead where a class changed",
    "flips": "share of classes changed",
    "sum": "sum of probabilities, off 1 by",
}
INPUTS = {
    "samples": "real samples",
    "more samples": "real samples, the first hundred and what is behind them",
    "timed samples": "those of the real samples that fill up the last batch that is timed",
    "contrast": "contrast inputs (black, white, checkerboards, single pixels, noise)",
    "drawn": "drawn inputs (random, within the model's range)",
}
CHECKS = {
    "consistency": "agreement",
    "batching": "batching",
    "accuracy": "accuracy",
    "benchmark": "speed",
    "tensorrt": "TensorRT",
    "other": "other",
}
SHORT = (
    "In conformance.json, the terminal and the messages of tests, found is called needed, and the figures are max, "
    "mean, kl, margin, flips and sum, in the order of these tables; a changed class is a flip."
)

LOUD = 100
"""A ratio above this is only said to be above: a figure whose tolerance is tiny would shout down those that matter."""


def ratio(value: float) -> str:
    """Write found over allowed, such as ``0.26 ×``; a value that rounds to one is not rounded to the other side."""
    if value > LOUD:
        return f"> {LOUD} ×"
    if value >= 10:
        return f"{value:.0f} ×"
    places = 2
    while places < 6 and value != 1 and float(f"{value:.{places}f}") == 1:
        places += 1
    return f"{value:.{places}f} ×"


def judged(name: str, allowed: float) -> bool:
    """Say whether a figure decides: where all classes may change, the margin decides alone."""
    return not (name == "flips" and allowed >= 1)


def usage(needed: float | None, allowed: float) -> float:
    """Give found over allowed; infinite where nothing is allowed, or what was found is not finite."""
    if needed is None or (allowed == 0 and needed > 0):
        return math.inf
    return needed / allowed if allowed else 0.0


def decisive(comparisons: Iterable[Mapping[str, Any]]) -> str | None:
    """Name the figure that came closest to what is allowed, or went furthest beyond it; None where there is none."""
    found = [
        (usage(needed, allowed), name)
        for comparison in comparisons
        for name, (needed, allowed) in comparison["figures"].items()
        if judged(name, allowed)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None
