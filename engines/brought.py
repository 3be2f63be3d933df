"""A user's own files: a SavedModel without a description, an ONNX or TFLite made elsewhere, samples in an ``.npz``.

Every file is checked as a whole before anything runs; errors name the option, what was found and what is allowed.
"""

from __future__ import annotations

import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines import onnx, tensorrt, tflite
from engines.datasets import Samples, photographs
from engines.errors import ConversionError, DataError, EngineError, RunnerError, SpecError
from engines.model import BATCH, ModelSpec, parse_model
from engines.savedmodel import serving_default, tensorflow

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = "labels"
"""The name of the array of labels in a samples file."""

TESTED = 100
"""How many of a file's samples the tests use, from the front; calibration takes those behind them where there are."""

RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
"""The usual ranges of image inputs; the first that holds all samples is taken for a SavedModel without description."""

DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    MemoryError,
    OverflowError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
"""What NumPy and zipfile raise for a damaged ``.npz``, depending on where the damage is."""

SUM_TOLERANCE = 2e-2
"""Outputs whose rows sum to one within this are probabilities: FP16 and 8-bit softmax stay well within it."""


@dataclass(frozen=True)
class BroughtData:
    """Samples that a user brought, or that were made for a SavedModel without any; see engines.datasets.Dataset."""

    name: str
    source: str
    class_names: tuple[str, ...]
    samples: Samples
    assumption: str | None = None
    """What is only assumed of these inputs, and how to say otherwise; None for a user's own."""

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.samples.labels is not None

    @property
    def unlabelled_reason(self) -> str | None:
        """Say why there are no labels; None where there are."""
        return None if self.labelled else f"{self.samples.origin} hold no array {LABELS!r}"

    @property
    def test_count(self) -> int:
        """How many test samples there are."""
        return len(self.samples)

    def test(self, count: int | None = None) -> Samples:
        """Return the first ``count`` samples, all of them for None; DataError where there are fewer."""
        return self.samples.take(0, len(self.samples) if count is None else count)

    def train(self) -> Samples:
        """Refuse: brought samples are for checking."""
        raise DataError(f"{self.samples.origin} are for checking, not for training")

    def calibration(self, count: int) -> Samples:
        """Return ``count`` samples behind the tested ones; where there are too few, all samples, repeated in turn.

        Repeating samples changes no range that calibration measures, so that a small file still calibrates.
        """
        if len(self.samples) >= TESTED + count:
            return self.samples.take(TESTED, TESTED + count)
        chosen = np.arange(count) % len(self.samples)
        return Samples({n: a[chosen] for n, a in self.samples.inputs.items()}, None, self.samples.origin)


def read_samples(path: Path, spec: ModelSpec) -> BroughtData:
    """Read ``--samples``: arrays by input name, and ``labels`` (N,) where there are any.

    Raises DataError for a file that is no ``.npz`` or holds pickled objects, missing and unknown names, another dtype
    or shape, no samples, NaN or infinity, values outside the input's range, and labels of another length or class.
    """
    what = f"--samples {path}"
    arrays = _load_npz(path, what)
    expected = {i.name for i in spec.inputs}
    if set(arrays) - {LABELS} != expected:
        raise DataError(f"{what}: holds {sorted(arrays)}; expected {sorted(expected)}, and {LABELS!r} if there are any")
    for item in spec.inputs:
        array = arrays[item.name]
        shape = "(" + ", ".join("N" if d == BATCH else str(d) for d in item.shape) + ")"
        if array.dtype != np.dtype(item.dtype):
            raise DataError(f"{what}: {item.name!r} is {array.dtype}; expected {item.dtype} (use .astype on the array)")
        fits = array.ndim == len(item.shape) and all(
            isinstance(d, str) or d == size for d, size in zip(item.shape, array.shape, strict=True)
        )
        if not fits:
            raise DataError(f"{what}: {item.name!r} has shape {array.shape}; expected {shape}")
        if len(array) == 0:
            raise DataError(f"{what}: {item.name!r} is empty, shape {array.shape}; expected one sample or more")
        bad = ~np.isfinite(array)
        if bad.any():
            first = tuple(map(int, np.argwhere(bad)[0]))
            raise DataError(f"{what}: {item.name!r} has {int(bad.sum())} NaN or infinite values, the first at {first}")
        low, high = item.range
        if array.min() < low or array.max() > high:
            raise DataError(
                f"{what}: {item.name!r} has values from {array.min():.6g} to {array.max():.6g}; "
                f"expected [{low:g}, {high:g}], the input's range ({spec.path})"
            )
    counts = {name: len(array) for name, array in arrays.items() if array.ndim}
    if len({counts[n] for n in expected}) > 1:
        raise DataError(f"{what}: the inputs differ in their number of samples: {counts}")
    labels = _checked_labels(arrays[LABELS], counts[spec.inputs[0].name], spec, what) if LABELS in arrays else None
    inputs = {name: np.ascontiguousarray(arrays[name]) for name in expected}
    classes = spec.probabilities.shape[1] if spec.probabilities else 0
    names = tuple(f"class {i}" for i in range(int(classes)))
    count = counts[spec.inputs[0].name]
    source = f"{count} samples of {path}" + ("" if labels is None else ", labelled")
    return BroughtData("brought", source, names, Samples(inputs, labels, f"the samples of {path}"))


def _checked_labels(labels: NDArray[Any], count: int, spec: ModelSpec, what: str) -> NDArray[np.int64]:
    output = spec.probabilities
    if output is None:
        raise DataError(
            f"{what}: has {LABELS!r}, but {spec.name} has no output of class scores (N, classes ≥ 2) to check them "
            "against; leave them out, or export a model that gives a score for each class, such as [1 - p, p] for a "
            "single probability p"
        )
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise DataError(
            f"{what}: {LABELS!r} is {labels.dtype} of shape {labels.shape}; expected integers of ({count},)"
        )
    classes = int(output.shape[1])
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{what}: {LABELS!r} go from {labels.min()} to {labels.max()}; expected 0 to {classes - 1}")
    return labels.astype(np.int64)


def _load_npz(path: Path, what: str) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise DataError(f"{what}: no such file; expected an .npz made by numpy.savez")
    try:
        # NumPy leaves a damaged file open where it opens it by itself.
        with path.open("rb") as file:
            start = file.read(6)
            if start == b"\x93NUMPY":
                raise DataError(f"{what}: is an .npy of one unnamed array; expected an .npz made by numpy.savez")
            # NumPy would take anything else for a pickle.
            if not start.startswith(b"PK"):
                raise DataError(f"{what}: is no .npz, it starts with {start!r}; expected an .npz made by numpy.savez")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
    except DAMAGED as error:
        if "pickle" in str(error).lower():
            raise DataError(f"{what}: holds pickled objects, which can run code; expected plain arrays") from error
        raise DataError(f"{what}: cannot be read: {error}; expected an .npz made by numpy.savez") from error
    if foreign := sorted(name for name, array in arrays.items() if not isinstance(array, np.ndarray)):
        raise DataError(f"{what}: its member {foreign[0]!r} is no array; expected an .npz made by numpy.savez")
    return arrays


def derive_spec(folder: Path, samples: Path | None) -> ModelSpec:
    """Describe the SavedModel in ``folder`` from its ``serving_default`` signature, for ``--saved-model``.

    ``samples`` gives the input's range and dynamic sizes where there are samples. An output (N, classes) whose rows
    sum to one holds probabilities, any other of that rank logits. Raises SpecError for what is no SavedModel, lacks
    the signature, has several inputs, or an input that is not float32 with a dynamic batch.
    """
    what = f"--saved-model {folder}"
    advice = "describe the model in a TOML file and give it with --model"
    if not folder.is_dir():
        raise SpecError(f"{what}: no such folder; expected a SavedModel: saved_model.pb and variables/")
    tf = tensorflow()
    if not tf.saved_model.contains_saved_model(str(folder)):
        found = sorted(p.name for p in folder.iterdir())[:8]
        raise SpecError(f"{what}: not a SavedModel, it holds {found}; expected saved_model.pb and variables/")
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow raises many types for a damaged SavedModel, each of them fatal here
        raise SpecError(f"{what}: TensorFlow cannot load it: {onnx.last_lines(str(error), 3).strip()}") from error
    function = serving_default(loaded, what)
    inputs: Mapping[str, Any] = function.structured_input_signature[1]
    if len(inputs) != 1:
        raise SpecError(f"{what}: has {len(inputs)} inputs, {sorted(inputs)}; allowed: one input; else {advice}")
    name, tensor = next(iter(inputs.items()))
    wrong = f"{what}: its input {name!r} is {tensor.dtype.name} {tensor.shape}"
    if tensor.dtype != tf.float32:
        raise SpecError(
            f"{wrong}; expected float32: export a function that takes float32 and casts it before it calls the model"
        )
    if not tensor.shape.rank or tensor.shape[0] is not None:
        raise SpecError(f"{wrong}; expected a dynamic batch: export it again with an input of shape (None, …)")
    shape, dimensions, values = _concrete(name, tuple(tensor.shape), samples, what)
    probe = values if values is not None else np.random.default_rng(0).random((4, *shape[1:])).astype(np.float32)
    try:
        found_outputs = {k: np.asarray(v) for k, v in function(**{name: tf.constant(probe[:4])}).items()}
    except tf.errors.OpError as error:
        last = onnx.last_lines(str(error), 3).strip()
        raise SpecError(
            f"{what}: cannot run {len(probe[:4])} samples: {last}; expected a model that takes any number"
        ) from error
    for key, array in found_outputs.items():
        if array.dtype != np.float32:
            raise SpecError(f"{what}: its output {key!r} is {array.dtype}; expected float32")
    low, high = _range(values)
    content = {
        "name": _model_name(folder),
        "description": f"SavedModel in {folder}",
        "source": {"saved_model": str(folder.resolve())},
        "inputs": [{"name": name, "shape": _named(tensor.shape), "range": [low, high]}],
        "outputs": [
            {"name": key, "shape": [BATCH, *array.shape[1:]], "kind": _kind(array)}
            for key, array in sorted(found_outputs.items())
        ],
        "data": {"dataset": "photographs"},
        **({"dimensions": dimensions} if dimensions else {}),
    }
    return parse_model(content, Path(what))


def _named(shape: Sequence[int | None]) -> list[int | str]:
    return [BATCH if axis == 0 else f"axis_{axis}" if d is None else d for axis, d in enumerate(shape)]


def _concrete(
    name: str, shape: tuple[int | None, ...], samples: Path | None, what: str
) -> tuple[tuple[int, ...], dict[str, list[int]], NDArray[Any] | None]:
    """Find the sizes of dynamic dimensions in the samples; gives the shape, those sizes by name, and the samples."""
    values = _load_npz(samples, f"--samples {samples}").get(name) if samples else None
    dynamic = [axis for axis, d in enumerate(shape) if d is None and axis > 0]
    if dynamic and (values is None or values.ndim != len(shape)):
        raise SpecError(
            f"{what}: its input {name!r} has dynamic dimensions {shape}; give --samples that show their sizes"
        )
    full = tuple(
        1 if axis == 0 else int(values.shape[axis]) if d is None and values is not None else int(d or 0)
        for axis, d in enumerate(shape)
    )
    if values is not None and (values.dtype != np.float32 or values.shape[1:] != full[1:] or len(values) == 0):
        values = None  # read_samples says what is wrong with them
    return full, {f"axis_{axis}": [full[axis]] for axis in dynamic}, values


def _range(values: NDArray[Any] | None) -> tuple[float, float]:
    if values is None:
        return RANGES[0]
    low, high = float(values.min()), float(values.max())
    for bounds in RANGES:
        if bounds[0] <= low and high <= bounds[1]:
            return bounds
    return (low, high) if low < high else (low, low + 1)


def _kind(array: NDArray[Any]) -> str:
    if array.ndim != 2 or array.shape[1] < 2:
        return "values"
    sums = np.abs(array.sum(axis=1) - 1)
    return "probabilities" if array.min() >= 0 and sums.max() < SUM_TOLERANCE else "logits"


def _model_name(folder: Path) -> str:
    """Name the model after its folder; the usual names of the folder itself say nothing, so its parent's is taken."""
    resolved = folder.resolve()
    name = resolved.parent.name if resolved.name in {"saved_model", "savedmodel", "export", "model"} else resolved.name
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-") or "model"


def make_samples(spec: ModelSpec) -> BroughtData:
    """Make samples for a SavedModel that came without: crops of scikit-learn's photographs, at the input's size.

    Raises SpecError where the input is no image of one or three channels.
    """
    item = spec.inputs[0]
    shape = spec.concrete_shape(item, 1)
    if len(shape) != 4 or shape[3] not in {1, 3}:
        raise SpecError(
            f"{spec.path}: its input {item.name!r} {shape[1:]} is no image (H, W, 1 or 3); give --samples FILE.npz"
        )
    from PIL import Image

    sources = [Image.fromarray(image) for image in photographs()]
    generator = np.random.default_rng(0)
    count = TESTED + spec.calibration.samples
    images = np.empty((count, *shape[1:]), np.float32)
    for image in images:
        photograph = sources[generator.integers(len(sources))]
        side = int(generator.integers(32, min(photograph.size)))
        left, top = (int(generator.integers(0, size - side + 1)) for size in photograph.size)
        crop = photograph.crop((left, top, left + side, top + side)).resize((shape[2], shape[1]))
        pixels = np.asarray(crop if shape[3] == 3 else crop.convert("L"), np.float32) / 255
        image[...] = item.range[0] + (item.range[1] - item.range[0]) * pixels.reshape(shape[1:])
    classes = int(spec.probabilities.shape[1]) if spec.probabilities else 0
    low, high = item.range
    source = (
        f"{count} crops of scikit-learn's two photographs at {shape[1]}x{shape[2]}; "
        f"their range [{low:g}, {high:g}] is assumed: --samples=FILE.npz shows the model's own"
    )
    assumption = (
        f"the range [{low:g}, {high:g}] was assumed: give --samples=FILE.npz, or the input's range in a TOML file "
        "(docs/models.md)"
    )
    names = tuple(f"class {i}" for i in range(classes))
    samples = Samples({item.name: images}, None, "the photographs' crops")
    return BroughtData("photographs", source, names, samples, assumption)


def brought_engine(format_: str, path: Path, spec: ModelSpec) -> ModelSpec:
    """Check an ONNX or TFLite made elsewhere, for ``--onnx`` and ``--tflite``, against the spec's signature.

    Gives the spec with that engine in place of the format's own variants; its precision is read off the file. Of the
    TensorRT engines those are left that are built from an ONNX of that precision: from this one.
    Raises EngineError where the file is missing, damaged, or has other names, ranks or dtypes.
    """
    what = f"--{format_} {path}"
    if not path.is_file():
        raise EngineError(f"{what}: no such file; expected the path of an {format_} file")
    module = {"onnx": onnx, "tflite": tflite}[format_]
    try:
        precision = str(module.inspect(path, spec))
    except (ConversionError, RunnerError) as error:
        raise EngineError(f"{what}: {str(error).removeprefix(f'{path}: ')}") from error
    precisions = {**spec.precisions, format_: (precision,)}
    if format_ == "onnx" and "tensorrt" in precisions:
        version = tensorrt.version() or ""
        precisions["tensorrt"] = tuple(
            p
            for p in spec.precisions["tensorrt"]
            if tensorrt.versions.unsupported(p, version) is None
            and tensorrt.versions.route(p, version).source == precision
        )
    return replace(spec, precisions=precisions)
