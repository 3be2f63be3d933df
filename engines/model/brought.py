"""A user's own files: a SavedModel without a description, an ONNX or TFLite made elsewhere, samples in an ``.npz``.

Every file is checked as a whole before anything runs; errors name the option, what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ConversionError, DataError, EngineError, RunnerError, SpecError
from engines.formats import registry
from engines.model.npz import load_npz
from engines.model.paths import is_file
from engines.model.samples import Samples
from engines.model.scikit_learn import photographs
from engines.model.sizes import refuse_too_large
from engines.model.spec import BATCH, InputSpec, ModelSpec
from engines.tools import one_line
from engines.variant import Variant

if TYPE_CHECKING:
    from numpy.typing import NDArray


LABELS = "labels"
"""The name of the array of labels in a samples file."""

LABELLED = ("cls", "label", LABELS)
"""Names that labels have where each sample has files or a row of its own."""

LONGEST = 1000
"""Characters of what is told of a file."""

TESTED = 100
"""How many of a file's samples the tests use, from the front; calibration takes those behind them where there are."""


@dataclass(frozen=True)
class BroughtData:
    """Samples that a user brought, or that were made for a model without any; see Dataset of the samples module."""

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
        """Why there are no labels; None where there are."""
        return None if self.labelled else f"{self.samples.origin} hold no array {LABELS!r}"

    @property
    def test_count(self) -> int:
        """How many test samples there are."""
        return len(self.samples)

    def test(self, count: int | None = None) -> Samples:
        """Return the first ``count`` samples, all of them for None; DataError where there are fewer."""
        return self.samples.take(0, len(self.samples) if count is None else count)

    def part(self, start: int, stop: int) -> Samples:
        """Return the samples [start, stop); DataError where there are fewer."""
        return self.samples.take(start, stop)

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

    Raises DataError for a file that is no ``.npz`` or holds pickled objects, and for missing and unknown names. So it
    does for another dtype or shape, no samples, NaN or infinity, values outside the input's range, and labels of
    another length or class.
    """
    what = f"--samples {path}"
    samples = checked(load_npz(path, what), spec, what, f"the samples of {path}")
    classes = spec.probabilities.shape[1] if spec.probabilities else 0
    names = tuple(f"class {i}" for i in range(int(classes)))
    source = f"{len(samples)} samples of {path}" + ("" if samples.labels is None else ", labelled")
    return BroughtData("brought", source, names, samples)


def checked(arrays: Mapping[str, NDArray[Any]], spec: ModelSpec, what: str, origin: str) -> Samples:
    """Samples of arrays by input name, and ``labels`` where there are any; DataError as for :func:`read_samples`."""
    expected = {i.name for i in spec.inputs}
    if set(arrays) - {LABELS} != expected:
        raise DataError(f"{what}: holds {sorted(arrays)}; expected {sorted(expected)}, and {LABELS!r} if there are any")
    for item in spec.inputs:
        array = arrays[item.name]
        shape = "(" + ", ".join("N" if d == BATCH else str(d) for d in item.shape) + ")"
        if array.dtype.kind in "SU":
            raise DataError(
                f"{what}: {item.name!r} is {array.dtype}; expected {item.dtype}: give what the model is fed, such as "
                "the ids that its tokenizer makes of the strings"
            )
        if array.dtype != np.dtype(item.dtype):
            raise DataError(f"{what}: {item.name!r} is {array.dtype}; expected {item.dtype} (use .astype on the array)")
        fits = array.ndim == len(item.shape) and all(
            isinstance(d, str) or d == size for d, size in zip(item.shape, array.shape, strict=True)
        )
        if not fits:
            raise DataError(f"{what}: {item.name!r} has shape {array.shape}; expected {shape}")
        if array.size == 0:
            raise DataError(f"{what}: {item.name!r} is empty, shape {array.shape}; expected one sample or more")
        bad = ~np.isfinite(array)
        if bad.any():
            first = tuple(map(int, np.argwhere(bad)[0]))
            raise DataError(f"{what}: {item.name!r} has {int(bad.sum())} NaN or infinite values, the first at {first}")
        low, high = item.range
        if array.min() < low or array.max() > high:
            least, most = (value.item() for value in (array.min(), array.max()))
            raise DataError(
                f"{what}: {item.name!r} has values from {least:.6g} to {most:.6g}; "
                f"expected [{low:g}, {high:g}], the input's range ({spec.source})"
            )
    counts = {name: len(array) for name, array in arrays.items() if array.ndim}
    if len({counts[n] for n in expected}) > 1:
        raise DataError(f"{what}: the inputs differ in their number of samples: {counts}")
    labels = _checked_labels(arrays[LABELS], counts[spec.inputs[0].name], spec, what) if LABELS in arrays else None
    inputs = {name: np.ascontiguousarray(arrays[name]) for name in expected}
    return Samples(inputs, labels, origin)


def _checked_labels(labels: NDArray[Any], count: int, spec: ModelSpec, what: str) -> NDArray[np.int64]:
    output = spec.probabilities
    if output is None:
        raise DataError(
            f"{what}: has {LABELS!r}, but {spec.name} has no output of class scores (N, classes ≥ 2) to check them "
            "against; say which one holds them, as in --kind=OUTPUT=logits, leave them out, or export a model that "
            "gives a score for each class, such as [1 - p, p] for a single probability p"
        )
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise DataError(
            f"{what}: {LABELS!r} is {labels.dtype} of shape {labels.shape}; expected integers of ({count},)"
        )
    classes = int(output.shape[1])
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{what}: {LABELS!r} go from {labels.min()} to {labels.max()}; expected 0 to {classes - 1}")
    return labels.astype(np.int64)


def make_samples(spec: ModelSpec) -> BroughtData:
    """Make samples for a model that came without: crops of scikit-learn's photographs, at the input's size.

    Where the inputs are no single image, they are drawn within the ranges of its description. Raises SpecError where it
    has none but what was derived, and that tells nothing of the values.
    """
    refuse_too_large(spec, TESTED + spec.calibration.samples, [0])
    item = spec.inputs[0]
    shape = spec.concrete_shape(item, 1)
    if len(spec.inputs) > 1 or len(shape) != 4 or shape[3] not in {1, 3}:
        return _drawn(spec)
    crops = photographs()  # says so where Pillow is missing
    from PIL import Image

    sources = [Image.fromarray(image) for image in crops]
    generator = np.random.default_rng(0)
    count = TESTED + spec.calibration.samples
    images = np.empty((count, *shape[1:]), item.dtype)
    for image in images:
        photograph = sources[generator.integers(len(sources))]
        side = int(generator.integers(32, min(photograph.size)))
        left, top = (int(generator.integers(0, size - side + 1)) for size in photograph.size)
        crop = photograph.crop((left, top, left + side, top + side)).resize((shape[2], shape[1]))
        pixels = np.asarray(crop if shape[3] == 3 else crop.convert("L"), np.float32) / 255
        values = item.range[0] + (item.range[1] - item.range[0]) * pixels.reshape(shape[1:])
        image[...] = values if images.dtype.kind == "f" else np.rint(values)
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


def _drawn(spec: ModelSpec) -> BroughtData:
    """Samples that are drawn evenly within the ranges that a user's description says."""
    if spec.options:
        shapes = ", ".join(f"{i.name!r} {spec.concrete_shape(i, 1)[1:]}" for i in spec.inputs)
        are = f"its input {shapes} is no image" if len(spec.inputs) == 1 else f"its inputs {shapes} are no single image"
        names = ", ".join(i.name for i in spec.inputs)
        raise SpecError(
            f"{spec.source}: {are} (H, W, 1 or 3); give --samples FILE.npz with an array for each of {names}"
        )
    generator = np.random.default_rng(0)
    count = TESTED + spec.calibration.samples

    def drawn(item: InputSpec) -> NDArray[Any]:
        shape = spec.concrete_shape(item, count)
        if item.dtype == "float32":
            return generator.uniform(*item.range, shape).astype(np.float32)
        low, high = map(int, item.range)
        return generator.integers(low, high, shape, endpoint=True).astype(item.dtype)

    samples = Samples({item.name: drawn(item) for item in spec.inputs}, None, "the drawn samples")
    source = f"{count} samples drawn within the ranges of {spec.source}: --samples=FILE.npz shows the model's own"
    assumption = f"its samples were drawn within the ranges of {spec.source}: give --samples=FILE.npz"
    classes = int(spec.probabilities.shape[1]) if spec.probabilities else 0
    return BroughtData("drawn", source, tuple(f"class {i}" for i in range(classes)), samples, assumption)


def brought_engine(format_: str, path: Path, spec: ModelSpec) -> ModelSpec:
    """Description with a file made elsewhere, of the option ``--<format>``, in place of the format's own variants.

    Its precision is read off the file. Of the engines that are built from that format, those are left that are built
    from that precision: from this file.
    Raises EngineError where the file is missing, damaged, or has other names, ranks or dtypes, or cannot be run here.
    """
    what, format_object = f"--{format_} {path}", registry.find(format_)
    if not is_file(path):
        raise EngineError(f"{what}: no such file; expected the path of an {format_} file")
    if reason := format_object.unavailable():
        raise EngineError(f"{what}: it is run before anything is made from it, which this machine cannot: {reason}")
    try:
        precision = format_object.inspect(path, spec)
    except (ConversionError, RunnerError) as error:
        # Names in it are the file's own, and libraries say what is wrong in several lines.
        told = one_line(str(error).removeprefix(f"{path}: "), LONGEST)
        raise EngineError(f"{what}: {told}") from error
    brought = Variant(format_, precision)
    precisions = {
        name: tuple(p for p in chosen if _stays(Variant(name, p), brought)) for name, chosen in spec.precisions.items()
    }
    return replace(spec, precisions={**precisions, format_: (precision,)})


def _stays(variant: Variant, brought: Variant) -> bool:
    own = registry.find(variant.format).artifact(variant)
    return registry.find(own.format).comes_from(own.precision, brought)
