"""What a model under test is: its inputs and outputs, where it comes from, in which precisions it is checked."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.model.bundled import folder
from engines.variant import REFERENCE, Variant

BATCH = "batch"
"""The name of the dynamic first dimension that every input and output has."""

SIGNATURE = "serving_default"
"""The SavedModel's signature that is under test where nothing names another."""

DTYPES = ("float32",)

INPUT_DTYPES = ("float32", "int32", "int64", "uint8", "int8", "bool")
"""What an input may hold. Whole numbers stay whole in every format: an id that was rounded is another id."""

WHOLE_RANGES: Mapping[str, tuple[int, int]] = {"uint8": (0, 255), "int8": (-128, 127), "bool": (0, 1)}
"""The ranges of inputs whose dtype says them; ids of 32 or 64 bits have those of their table."""

OUTPUT_DTYPES = ("float32", "int8", "uint8", "int16", "int32", "uint32", "int64", "bool")

OUTPUT_KINDS = ("probabilities", "logits", "values", "scores", "integers", "ranked", "constant")

KINDS_OF_CLASSES = ("probabilities", "logits")
"""The kinds of outputs (batch, …, classes) of which one class is the answer, in every row along the last axis."""

ARCHITECTURES = ("vgg",)


@dataclass(frozen=True)
class InputSpec:
    """One named input: its shape starts with ``"batch"``; other strings are further dynamic dimensions.

    ``range`` is what the model was trained on, both ends included: contrast and drawn inputs stay within it. It holds
    integers where ``dtype`` does, 0 and 1 for truth values.
    ``signature_name`` is what the SavedModel's signature, or the ONNX file, calls this input.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    range: tuple[float, float]
    signature_name: str


@dataclass(frozen=True)
class OutputSpec:
    """One named output.

    ``why`` is what it was taken for its kind by; empty where the user chose it. ``kind`` is how it is judged:

    - ``probabilities``: rows sum to one
    - ``scores``: each in [0, 1], with a decision of its own at ``threshold``
    - ``logits``: softmax is taken first for class decisions
    - ``values``: no classes
    - ``integers``: ids and counts
    - ``ranked``: rows of top-k or NMS, where several outputs belong together
    - ``constant``: without a batch axis, so that the shape does not start with it
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    kind: str
    signature_name: str
    threshold: float = 0.5
    why: str = ""


@dataclass(frozen=True)
class Weights:
    """Trained weights in a file beside the spec, with what made them."""

    path: Path
    sha256: str
    made_by: str


@dataclass(frozen=True)
class Training:
    """How the bundled architecture is trained, reproducibly.

    ``learning_rate`` is the peak of a cosine schedule; ``dropout`` is the share dropped before the dense layers.
    ``shift`` is by how many pixels training images are moved at most, ``flip`` whether they are mirrored.
    ``weight_decay`` is AdamW's, ``label_smoothing`` the share of each label that is spread over all classes.
    """

    epochs: int
    batch: int
    learning_rate: float
    seed: int
    dropout: float
    weight_decay: float
    label_smoothing: float
    shift: int
    flip: bool
    accuracy: float


@dataclass(frozen=True)
class Architecture:
    """The bundled architecture: kernels of the first stage and units of the hidden dense layer."""

    name: str
    width: int
    dense: int


@dataclass(frozen=True)
class BatchProfile:
    """The batch sizes of an optimization profile: smallest, the one tuned for, largest.

    A model's file has 1 for the smallest: every engine has to take single samples, which batches are judged by.
    """

    min: int
    opt: int
    max: int

    def __str__(self) -> str:
        """Short form used in variant ids: ``b1.16.32``."""
        return f"b{self.min}.{self.opt}.{self.max}"


@dataclass(frozen=True)
class Calibration:
    """How many samples INT8 is calibrated with, and in batches of how many."""

    samples: int
    batch: int


@dataclass(frozen=True)
class ModelSpec:
    """A model under test. Exactly one of ``architecture``, ``saved_model`` and ``file`` says where it comes from.

    ``file`` is in the format of the ``reference``, which is the SavedModel where there is none. ``dataset`` is empty
    where the description names none.
    """

    name: str
    description: str
    path: Path
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    architecture: Architecture | None
    weights: Weights | None
    training: Training | None
    saved_model: Path | None
    dataset: str
    precisions: Mapping[str, tuple[str, ...]]
    profiles: tuple[BatchProfile, ...]
    calibration: Calibration
    dimensions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tolerances: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    floors: tuple[Mapping[str, Any], ...] = ()
    options: tuple[str, ...] = ()
    """The options that a model was given by that has no TOML file."""
    signature: str = SIGNATURE
    """The SavedModel's signature under test."""
    file: Path | None = None
    reference: Variant = REFERENCE
    """The variant that all others are compared with, and made from."""
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What was given of the formats' own options, by option (:class:`engines.formats.option.Option`)."""

    @property
    def source(self) -> str:
        """What errors call the description: its file, or the options that stand for one."""
        return " ".join(self.options[:1]).replace("=", " ", 1) or str(self.path)

    @property
    def argument(self) -> str:
        """What tells this project's commands of the model, as typed."""
        return shlex.join(self.options) or str(self.path)

    @property
    def option(self) -> str:
        """What tells pytest of the model, as typed."""
        return shlex.join(self.options) or f"--model {self.path}"

    @property
    def bundled(self) -> bool:
        """Whether the model comes with the project."""
        return self.path.resolve().parent == folder()

    @property
    def sizes(self) -> int:
        """How many sizes the dynamic dimensions, the batch aside, are checked at; 1 where there are none."""
        return max(map(len, self.dimensions.values()), default=1)

    def concrete_shape(self, item: InputSpec | OutputSpec, batch: int, size: int = 0) -> tuple[int, ...]:
        """Shape of an input or output for ``batch`` samples, other dynamic dimensions at the size of that number.

        A dimension with fewer sizes than another keeps its last one.
        """
        sizes = {name: values[min(size, len(values) - 1)] for name, values in self.dimensions.items()}
        return tuple(batch if d == BATCH else sizes[d] if isinstance(d, str) else d for d in item.shape)

    def output(self, name: str) -> OutputSpec:
        """Find an output by name (KeyError where there is none)."""
        return {o.name: o for o in self.outputs}[name]

    @property
    def exchangeable(self) -> bool:
        """Whether samples fit into one table of numbers: one input and one output of class scores, of fixed sizes."""
        return len(self.inputs) == len(self.outputs) == 1 and not self.dimensions and self.probabilities is not None

    @property
    def probabilities(self) -> OutputSpec | None:
        """The first output (batch, classes) that holds class scores, or None: the one whose accuracy is measured."""
        return next((o for o in self.outputs if o.kind in KINDS_OF_CLASSES and len(o.shape) == 2), None)

    @property
    def constants(self) -> frozenset[str]:
        """The names of the outputs without a batch axis."""
        return frozenset(o.name for o in self.outputs if o.kind == "constant")
