"""What an entry of the zoo is: how its model is made, and what is expected of every variant of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PASSES = "passes"
"""The expectation of a variant that is built, runs, and agrees with the reference."""

VARIANTS = ("onnx-fp32", "onnx-fp16", "onnx-int8", "tflite-fp32", "tflite-fp16", "tflite-int8")
"""Every variant that a CPU runs, by its id."""

ONNX, TFLITE = VARIANTS[:3], VARIANTS[3:]
"""The variants of each format: what its converter cannot do, none of them can."""

KINDS = ("probabilities", "scores", "logits", "values", "integers", "ranked", "constant")
"""What an output may be, in order: rows that sum to one, numbers in [0, 1] that decide one by one, what a softmax
follows. Then: other numbers, class ids and counts, lists in the order of their scores, what has no batch axis."""


@dataclass(frozen=True)
class Cannot:
    """Limit of a converter or an engine: the variant cannot be built, and the failure holds these words."""

    words: str


@dataclass(frozen=True)
class Fails:
    """True defect of a variant, which is to be found: why its answers are wrong, and by what they are found.

    ``by`` is a figure that is beyond what is allowed, or the words for what is wrong with answers by themselves.
    """

    why: str
    by: str


@dataclass(frozen=True)
class Wide:
    """False alarm: sound answers for which too little is allowed, why, and by which figure."""

    why: str
    by: str


Expectation = str | Cannot | Fails | Wide
"""What may be expected of a variant; the text is PASSES."""


@dataclass(frozen=True)
class Entry:
    """Model of the zoo.

    ``make(folder, seed=0)`` writes ``folder/model``, a SavedModel, and ``folder/samples.npz``: arrays of ``samples``
    rows by input name, and ``labels`` where the model decides between classes. ``kinds`` holds the kind of every output
    of ``signature`` by its name there, ``expected`` an expectation by variant; one that it leaves out passes.
    ``unsound`` says of variants that pass why a converter makes them worse than their precision would, so that from
    another seed they may fail.
    ``refused`` says why the SavedModel itself cannot be a reference: then no variant of it is judged. ``layers`` are
    layers that not every supported Keras has. A ``heavy`` model takes more than a few seconds.
    A ``quick`` one is among the few that every change is checked with.
    """

    name: str
    title: str
    make: Callable[..., None]
    kinds: Mapping[str, str]
    samples: int = 400
    expected: Mapping[str, Expectation] = field(default_factory=dict)
    unsound: Mapping[str, str] = field(default_factory=dict)
    signature: str = "serving_default"
    refused: str | None = None
    layers: tuple[str, ...] = ()
    heavy: bool = False
    quick: bool = False

    def expectation(self, variant: str) -> Expectation:
        """Return what is expected of a variant, by its id; KeyError for one that no CPU runs."""
        if variant not in VARIANTS:
            raise KeyError(f"{variant!r} is no variant of the zoo; expected one of {', '.join(VARIANTS)}")
        return self.expected.get(variant, PASSES)

    def unavailable(self) -> str | None:
        """Return why the model cannot be made here, a layer that this Keras lacks; None where it can."""
        import keras

        lacking = [layer for layer in self.layers if not hasattr(keras.layers, layer)]
        return f"Keras {keras.__version__} has no {', '.join(lacking)}" if lacking else None

    def write(self, folder: Path, seed: int = 0) -> None:
        """Make the model and its samples in ``folder``, which is made where it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.make(folder, seed=seed)
