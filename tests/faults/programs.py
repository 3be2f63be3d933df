"""Faults of programs that run a sound file: those of ``faults.runners``, each on a model that it shows in."""

from __future__ import annotations

from pathlib import Path

from faults.change import Change
from faults.made import Made
from faults.runners import BATCHES, RUNNERS

KIND = "program that runs it"

ON = {
    "channels fed first": "norms",
    "the mean not taken off": "price",
    "the deviation not divided by": "price",
    "values fed one place on": "price",
    "samples fed one place late": "digits",
    "classes counted from one": "digits",
    "wrong only in batches above 100": "digits",
    "answers rounded to hundredths": "digits",
    "answers remembered by the first value": "norms",
}
"""The models of faults that not every model can have; the others are those of ``two_heads``."""

TFLITE = ("rows of a batch reversed", "one buffer for all batches", "the previous batch's answers", BATCHES)
"""Faults that are planted into the TFLite runner."""


def plant(made: Made, folder: Path, variant: str) -> list[str]:
    """Words that bring a sound file and the plugin which runs it wrongly."""
    return ["-p", "tests.faults.runners", f"--{variant.partition('-')[0]}={made.file(variant)}"]


def _change(name: str, right: tuple[str, ...]) -> Change:
    variant = "tflite-fp32" if name in TFLITE else "onnx-fp32"
    return Change(
        name,
        KIND,
        ON.get(name, "two_heads"),
        variant,
        lambda made, folder: plant(made, folder, variant),
        right,
        alone=True,
    )


CHANGES: tuple[Change, ...] = (
    *(_change(name, right) for name, (_, right) in RUNNERS.items()),
    _change(BATCHES, ("batch",)),
)
