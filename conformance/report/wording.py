"""The words that the report has for what programs call by short names, and which figure it takes for decisive."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from conformance.compare import Figure

STATUS = {
    "passed": "Passed",
    "known": "Passed with known failures",
    "failed": "Failed",
    "incomplete": "Incomplete",
}
FIGURES = {
    "max": "largest difference",
    "mean": "mean difference",
    "kl": "KL divergence (nats)",
    "margin": "reference's lead where a class changed",
    "flips": "share of classes changed",
    "sum": "distance of the sum of probabilities from 1",
    "spread": "share of the answers' variance that is lost",
    "shift": "change of a class's or number's mean, over the model's own noise there",
    "slope": "change of how far answers reach, over the model's own noise",
    "worst": "difference of one sample, over the model's own noise there",
    "excess": "lead that a changed class overcame, over the model's own noise there",
    "net": "samples that a class gained or lost, over the model's own noise",
    "unrelated": "share of the answers' variance that does not follow the reference's",
}
INPUTS = {
    "samples": "real samples",
    "more samples": "real samples, the first hundred and what is behind them",
    "timed samples": "those of the real samples that fill up the last batch that is timed",
    "contrast": "contrast inputs (black, white, checkerboards, single pixels, noise, or the like of numbers)",
    "drawn": "drawn inputs (random, within the model's range)",
}


class Check(NamedTuple):
    """What the report calls the tests of a marker, and what they say of a variant that passes them."""

    name: str
    meaning: str


CHECKS = {
    "consistency": Check("agreement", "it gives the reference's answers"),
    "batching": Check("batching", "a sample's answer does not depend on its batch"),
    "accuracy": Check("accuracy", "against labels it is about as accurate as the reference"),
    "benchmark": Check("speed", "it was timed, and keeps its floors"),
    "tensorrt": Check("TensorRT", "it keeps what only TensorRT engines promise"),
    "other": Check("other", "it passes tests of another kind"),
}
BROKEN = "broken output"
"""What is said for found over allowed where outputs cannot be compared: NaN, another shape, no output."""
NONE_ALLOWED = "none allowed"
"""What is said for it where something was found, and nothing is allowed."""
SHORT = (
    "In conformance.json, the terminal and the messages of tests, found is called needed, and the figures are max, "
    "mean, kl, margin, flips, sum, spread, shift, slope, worst, excess, net and unrelated, in the order of these "
    "tables; a changed class is a flip."
)


def judged(name: str, allowed: float) -> bool:
    """Whether a figure decides: where all classes may change, or anything is allowed, others do alone."""
    return Figure(name, 0.0, allowed).judged


def usage(needed: float | None, allowed: float) -> float:
    """Share of what is allowed that was found; infinite where nothing is allowed, or what was found is not finite."""
    if needed is None or (allowed == 0 and needed > 0):
        return math.inf
    return needed / allowed if allowed else 0.0


def decisive(comparisons: Iterable[Mapping[str, Any]]) -> str | None:
    """Figure that came closest to what is allowed, or went furthest beyond it; None where there is none."""
    found = [
        (usage(needed, allowed), name)
        for comparison in comparisons
        for name, (needed, allowed) in comparison["figures"].items()
        if judged(name, allowed)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None
