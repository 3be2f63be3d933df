"""Faults of growing size: the smallest that is caught, and the largest that is not, beside the model's own noise.

Each is judged on all samples of a model by the comparison that ``pytest`` makes there, in this process: a fault is
bisected in a dozen steps. How large it is in the answers is told as the mean difference from the reference, in units of
what the model's twin reaches in 99 of 100 runs.

    PYTHONPATH=tests python -m faults.graded --output docs/runs/detection.json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engines.formats.onnx.runner import OnnxRunner
from engines.progress import live
from engines.variant import Variant
from faults import graph, graph_edits, quantization
from faults.made import ROOT, Made
from trial.judged import compared
from trial.outputs import Outputs

STEPS = 12
"""Halvings of the logarithm of a size: it is known to a hundredth of the range that was looked at, in decades."""


class Grade(NamedTuple):
    """A fault of a size: what writes it into a graph, and between which sizes it is looked for."""

    name: str
    edit: Callable[[float], Callable[[Any], None]]
    low: float
    high: float
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")


def _scales(x: float) -> Callable[[Any], None]:
    return quantization.scales_of_weights(lambda s: s * np.float32(1 + x), -1)


GRADES: tuple[Grade, ...] = (
    Grade("noise on one layer's weights, share of each", lambda x: graph_edits.noise(x, -1), 1e-7, 1, ("fp32", "fp16")),
    Grade("one channel larger, share", lambda x: graph_edits.channel_scale(1 + x, -1), 1e-7, 1, ("fp32", "fp16")),
    Grade("temperature of the softmax, above one", lambda x: graph_edits.temperature(1 + x), 1e-7, 1, ("fp32", "int8")),
    Grade("bias of one class, logits", graph_edits.class_bias, 1e-7, 10),
    Grade("scale of weights, above one", _scales, 1e-4, 3, ("int8",)),
    Grade("range of an activation, share cut off", lambda x: quantization.range_of(1 - x), 1e-3, 0.99, ("int8",)),
)  # fmt: skip

MODELS = ("digits", "norms", "two_heads")
"""Models of classes, whose last layer can have all of them."""


class Size(NamedTuple):
    """What a file does to the answers: whether it is caught, in units of the noise, and samples of another class."""

    caught: bool
    ratio: float
    flips: int
    accuracy: float


def size_of(made: Made, variant: Variant, path: Path) -> Size:
    """How far a file is from the reference on all samples, and whether the comparison fails."""
    chain = replace(made.chain, brought={variant.format: path})
    samples = chain.dataset.test()
    reference = chain.reference(f"accuracy-{len(samples)}", samples.inputs)
    with OnnxRunner(chain.spec, variant, path) as runner:
        actual = runner(samples.inputs)
        rule, comparison = compared(chain, runner, "samples", Outputs(samples.inputs, actual, reference))
    assert rule.noise
    assert chain.spec.probabilities
    name = chain.spec.probabilities.name
    output = next(o for o in comparison.outputs if o.output == name)
    needed = next(f.needed for f in output.figures if f.name == "mean")
    reached = rule.noise.limits[name]["mean"].reached
    classes, right = actual[name].argmax(axis=1), reference[name].argmax(axis=1)
    share = float((classes == samples.labels).mean()) if samples.labels is not None else math.nan
    return Size(not comparison.passed, needed / reached, int((classes != right).sum()), share)


def bisected(made: Made, grade: Grade, precision: str) -> dict[str, Any]:
    """The smallest size of a fault that is caught and the largest that is not, each with what it does."""
    variant = Variant("onnx", precision)
    sound = made.file(str(variant))

    def sized(x: float) -> Size:
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = graph.write(sound, grade.edit(x), Path(folder) / "planted.onnx")
            except graph.UnchangedError:
                # Rounded to what the file holds, it is no fault.
                path = sound
            return size_of(made, variant, path)

    low, high = math.log(grade.low), math.log(grade.high)
    sizes = {low: sized(math.exp(low)), high: sized(math.exp(high))}
    found = {"fault": grade.name, "model": made.name, "precision": precision}
    found["sound"] = round(size_of(made, variant, sound).ratio, 3)
    if not sizes[high].caught:
        return found | {"caught": None, "uncaught": _told(math.exp(high), sizes[high])}
    for _ in range(STEPS if not sizes[low].caught else 0):
        middle = (low + high) / 2
        sizes[middle] = sized(math.exp(middle))
        low, high = (low, middle) if sizes[middle].caught else (middle, high)
    uncaught = None if sizes[low].caught else _told(math.exp(low), sizes[low])
    return found | {"caught": _told(math.exp(high), sizes[high]), "uncaught": uncaught}


def _told(x: float, size: Size) -> dict[str, Any]:
    return {
        "size": float(f"{x:.3g}"),
        "ratio": float(f"{size.ratio:.3g}"),
        "flips": size.flips,
        "accuracy": size.accuracy,
    }


def all_grades(folder: Path, models: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every fault in every model and precision that has it."""
    for model in models:
        made = Made.of(model, folder)
        for grade in GRADES:
            for precision in grade.precisions:
                yield bisected(made, grade, precision)


def main() -> int:
    """Bisect all, and add what was found to the results of the planted changes."""
    from faults.page import write

    parser = argparse.ArgumentParser(
        prog="PYTHONPATH=tests python -m faults.graded", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.json", required=True, help="of faults.page; stays otherwise"
    )
    parser.add_argument("--artifacts", type=Path, default=ROOT / "build" / "faults", metavar="DIR")
    options = parser.parse_args()
    results: Mapping[str, Any] = json.loads(options.output.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = []
    with live("Graded faults", len(MODELS) * sum(len(g.precisions) for g in GRADES), "faults") as advance:
        for one in all_grades(options.artifacts, MODELS):
            found.append(one)
            write(options.output, {**results, "graded": found})
            advance(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
