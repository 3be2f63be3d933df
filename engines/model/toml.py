"""The model under test, as its TOML file describes it.

Everything else follows from a :class:`ModelSpec`: what is built, on which data, in which precisions and batch
profiles. A file is validated as a whole when it is loaded; errors name the file, the key, the value found and what
is allowed. The format is described in docs/models.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.errors import SpecError
from engines.formats import registry
from engines.model.datasets import DATASETS
from engines.model.spec import (
    ARCHITECTURES,
    BATCH,
    INPUT_DTYPES,
    KINDS_OF_CLASSES,
    OUTPUT_DTYPES,
    OUTPUT_KINDS,
    SIGNATURE,
    WHOLE_RANGES,
    Architecture,
    BatchProfile,
    Calibration,
    InputSpec,
    ModelSpec,
    OutputSpec,
    Training,
    Weights,
)
from engines.model.table import LARGEST_COUNT, LONGEST_KEY, SHOWN, Table, read_toml
from engines.store import ARTIFACT_NAME
from engines.variant import REFERENCE, Variant

FILE_REFERENCE = Variant("onnx", "fp32")
"""The reference of a model that comes as an ONNX file, without a SavedModel."""


LARGEST = (2 - 2.0**-23) * 2.0**127
"""FP32's largest number: inputs are made of the distance between the ends of their range."""

MOST_AXES = 32
"""Axes that an input or output may have: NumPy 1 takes no more, and no format does."""

LONGEST_NAME = 100
"""Characters that a model's name may have: file systems take 255 for a name with what follows it."""


def load_model(path: Path) -> ModelSpec:
    """Read and validate a model's TOML file; raises SpecError with file, key, value and what is allowed."""
    return parse_model(read_toml(path), path)


def parse_model(content: Mapping[str, Any], path: Path) -> ModelSpec:
    """Validate the content of a model's TOML file (``path`` names it in errors and anchors relative paths)."""
    top = Table(content, path)
    dimensions = _dimensions(top)
    inputs = tuple(_input(t) for t in top.tables("inputs"))
    outputs = tuple(_output(t) for t in top.tables("outputs"))
    _check_tensors(path, inputs, outputs, dimensions)
    source = top.table("source")
    weights = _weights(source)
    architecture, saved_model, file = _source(source, inputs, outputs)
    signature = source.take("signature", str, "the name of one of the SavedModel's signatures", SIGNATURE)
    source.finish()
    if weights is not None and architecture is None:
        raise SpecError(f"{path}: source.weights is given without source.architecture; allowed: with it")
    if signature != SIGNATURE and saved_model is None:
        raise SpecError(f"{path}: source.signature is given without source.saved_model; allowed: with it")
    training = _training(top) if top.has("training") else None
    if architecture is not None and not top.has("data"):
        raise SpecError(f"{path}: data.dataset is missing; allowed: one of {', '.join(DATASETS)}, to train on")
    if architecture is not None and weights is None and training is None:
        raise SpecError(f"{path}: training is missing; allowed: a [training] table or source.weights, or both")
    spec = ModelSpec(
        name=top.take("name", str, "a short name", path.stem),
        description=top.take("description", str, "a sentence", " "),
        path=path,
        inputs=inputs,
        outputs=outputs,
        architecture=architecture,
        weights=weights,
        training=training,
        saved_model=saved_model,
        dataset=_data(top),
        precisions=_precisions(top, FILE_REFERENCE if file else REFERENCE),
        profiles=_profiles(top),
        calibration=_calibration(top),
        dimensions=dimensions,
        tolerances=_tolerances(top),
        floors=_floors(top),
        signature=signature,
        file=file,
        reference=FILE_REFERENCE if file else REFERENCE,
    )
    if not ARTIFACT_NAME.fullmatch(spec.name) or len(spec.name) > LONGEST_NAME:
        shown = spec.name if len(spec.name) <= LONGEST_NAME else f"{spec.name[:20]}… of {len(spec.name)} characters"
        allowed = (
            f"at most {LONGEST_NAME} letters, digits and any of . _ + -, not starting with a dot: it names a folder"
        )
        raise top.error("name", shown, allowed)
    top.finish()
    return spec


def _shape(table: Table, *, batch: bool = True) -> tuple[int | str, ...]:
    """Shape of an input or output; one without a ``batch`` axis has fixed sizes only, and a single number none."""
    first = f'"{BATCH}" first, then '
    allowed = f'["{BATCH}", …]: {first}sizes ≥ 1 or names of dynamic dimensions' if batch else "[sizes ≥ 1, …]"
    shape = table.take("shape", list, allowed)
    good = (
        (batch and isinstance(d, str) and d.isidentifier() and len(d) <= LONGEST_KEY)
        or (isinstance(d, int) and not isinstance(d, bool) and 1 <= d <= LARGEST_COUNT)
        for d in shape
    )
    if not all(good) or len(shape) > MOST_AXES or (batch and (not shape or shape[0] != BATCH or BATCH in shape[1:])):
        raise table.error("shape", shape, allowed)
    return tuple(shape)


def _input(table: Table) -> InputSpec:
    name = table.take("name", str, "the input's name")
    shape = _shape(table)
    dtype = table.choice("dtype", INPUT_DTYPES, "float32")
    bounds = _range(table, dtype)
    spec = InputSpec(name, shape, dtype, bounds, table.take("signature_name", str, "a name", name))
    table.finish()
    return spec


def _range(table: Table, dtype: str) -> tuple[float, float]:
    """Ends of an input's values; integers, which the dtype can hold, for an input of integers."""
    if dtype == "float32":
        reach = "[low, high] with low < high, as far apart as FP32 can tell"
        bounds = table.take("range", list, reach, [0.0, 1.0])
        numbers = all(type(b) in {int, float} and math.isfinite(b) for b in bounds)
        if len(bounds) != 2 or not numbers or not 0 < bounds[1] - bounds[0] <= LARGEST:
            raise table.error("range", bounds, reach)
        return float(bounds[0]), float(bounds[1])
    known = WHOLE_RANGES.get(dtype)
    allowed = f"[low, high], the smallest and the largest integer that the model takes as {dtype}"
    whole = table.take("range", list, allowed, list(known) if known else None)
    low, high = known or (-(2 ** (31 if dtype == "int32" else 63)), 2 ** (31 if dtype == "int32" else 63) - 1)
    if len(whole) != 2 or not all(type(b) is int for b in whole) or not low <= whole[0] <= whole[1] <= high:
        raise table.error("range", whole, allowed)
    return whole[0], whole[1]


def _output(table: Table) -> OutputSpec:
    name = table.take("name", str, "the output's name")
    kind = table.choice("kind", OUTPUT_KINDS)
    shape = _shape(table, batch=kind != "constant")
    dtype = table.choice("dtype", OUTPUT_DTYPES, "float32")
    threshold = 0.5
    if table.has("threshold"):
        threshold = table.number("threshold", "where scores decide, in [0, 1]", 0.0, 1.0)
        if kind != "scores":
            raise table.error("threshold", threshold, 'with kind = "scores" only')
    called = table.take("signature_name", str, "a name", name)
    why = table.take("why", str, "how the kind was found", " ").strip()
    spec = OutputSpec(name, shape, dtype, kind, called, threshold, why)
    check_kind(spec, f"{table.path}: {table.key}")
    table.finish()
    return spec


def check_kind(output: OutputSpec, what: str) -> None:
    """Refuse a kind that no output of such a shape or dtype has; ``what`` names where that was said."""
    kind, shape = output.kind, output.shape
    if kind in KINDS_OF_CLASSES and (len(shape) < 2 or not isinstance(shape[-1], int) or shape[-1] < 2):
        raise SpecError(
            f'{what}.shape is {SHOWN.repr(list(shape))}; allowed: ["{BATCH}", …, classes ≥ 2] for kind {kind!r}'
        )
    if kind == "ranked" and len(shape) < 2:
        raise SpecError(f'{what}.shape is {SHOWN.repr(list(shape))}; allowed: ["{BATCH}", rows, …] for kind {kind!r}')
    if (output.dtype != "float32") != (kind == "integers") and kind not in {"ranked", "constant"}:
        allowed = " | ".join(OUTPUT_DTYPES[1:]) if kind == "integers" else "float32"
        raise SpecError(f"{what}.dtype is {output.dtype!r}; allowed: {allowed} for kind {kind!r}")


def _check_tensors(
    path: Path,
    inputs: tuple[InputSpec, ...],
    outputs: tuple[OutputSpec, ...],
    dimensions: Mapping[str, tuple[int, ...]],
) -> None:
    for side, items in (("inputs", inputs), ("outputs", outputs)):
        names = [item.name for item in items]
        twice = {n for n in names if names.count(n) > 1}
        if twice:
            raise SpecError(f"{path}: {side} name {SHOWN.repr(min(twice))} is given twice; allowed: names that differ")
        for item in items:
            for d in item.shape:
                if isinstance(d, str) and d != BATCH and d not in dimensions:
                    raise SpecError(
                        f"{path}: {side} {SHOWN.repr(item.name)} has the dynamic dimension {d!r} without "
                        f"sizes; allowed: dimensions.{d} = [sizes to check it at]"
                    )


def _dimensions(top: Table) -> Mapping[str, tuple[int, ...]]:
    if not top.has("dimensions"):
        return {}
    table = top.table("dimensions")
    result = {}
    for name in table.names():
        sizes = table.take(name, list, "[sizes ≥ 1]")
        if name == BATCH or not sizes or not all(type(s) is int and 1 <= s <= LARGEST_COUNT for s in sizes):
            raise table.error(name, sizes, f"[sizes ≥ 1], for a dimension other than {BATCH!r}")
        result[name] = tuple(sizes)
    return result


def _source(
    table: Table, inputs: tuple[InputSpec, ...], outputs: tuple[OutputSpec, ...]
) -> tuple[Architecture | None, Path | None, Path | None]:
    """Architecture, SavedModel folder and ONNX file: exactly one of them."""
    if sum(map(table.has, ("saved_model", "onnx", "architecture"))) != 1:
        raise SpecError(
            f"{table.path}: source has {table.names()}; allowed: exactly one of saved_model and architecture, or onnx"
        )
    if table.has("saved_model"):
        return None, table.file("saved_model", "the path of a SavedModel folder"), None
    if table.has("onnx"):
        return None, None, table.file("onnx", "the path of an ONNX file")
    architecture = Architecture(
        table.choice("architecture", ARCHITECTURES),
        table.count("width", "a number of kernels ≥ 1"),
        table.count("dense", "a number of units ≥ 1"),
    )
    one = len(inputs) == len(outputs) == 1 and len(inputs[0].shape) == 4 and outputs[0].kind == "probabilities"
    if not one or any(isinstance(d, str) for d in inputs[0].shape[1:]):
        raise table.error("architecture", architecture.name, "with one image input (batch, H, W, C) and probabilities")
    return architecture, None, None


def _weights(table: Table) -> Weights | None:
    if not table.has("weights"):
        return None
    weights = table.table("weights")
    result = Weights(
        weights.file("file", "a file beside this one"),
        weights.take("sha256", str, "the file's SHA-256"),
        weights.take("made_by", str, "command, machine and accuracy"),
    )
    weights.finish()
    return result


def _training(top: Table) -> Training:
    table = top.table("training")
    training = Training(
        epochs=table.count("epochs", "epochs ≥ 1"),
        batch=table.count("batch", "samples per step ≥ 1"),
        learning_rate=table.number("learning_rate", "a rate in (0, 1]", 1e-9, 1.0),
        seed=table.count("seed", "an integer ≥ 0", low=0),
        dropout=table.number("dropout", "a share in [0, 0.9]", 0.0, 0.9, 0.0),
        weight_decay=table.number("weight_decay", "a rate in [0, 1]", 0.0, 1.0, 0.0),
        label_smoothing=table.number("label_smoothing", "a share in [0, 0.5]", 0.0, 0.5, 0.0),
        shift=table.count("shift", "pixels ≥ 0", 0, low=0),
        flip=table.take("flip", bool, "true | false", False),
        accuracy=table.number("accuracy", "the accuracy to reach, in (0, 1]", 1e-9, 1.0),
    )
    table.finish()
    return training


def _data(top: Table) -> str:
    """Name of the dataset; empty where the file names none: samples are given, or made within the ranges."""
    if not top.has("data"):
        return ""
    table = top.table("data")
    dataset = table.choice("dataset", DATASETS)
    table.finish()
    return dataset


def _precisions(top: Table, reference: Variant) -> Mapping[str, tuple[str, ...]]:
    """Precisions by format, as the registry knows them: all where the file does not say; the reference's anyway."""
    known = registry.precisions(reference)
    if not top.has("precisions"):
        return known
    return chosen_precisions(top.table("precisions"), reference)


def chosen_precisions(table: Table, reference: Variant) -> Mapping[str, tuple[str, ...]]:
    """Precisions that a table chooses, format by format; the reference's own first, whether it is named or not.

    Raises SpecError for formats and precisions that there are not, and where nothing is left to compare.
    """
    known = registry.precisions(reference)
    first = (reference.precision,)
    result = {reference.format: first}
    for format_, allowed in known.items():
        if format_ == reference.format and allowed == first:
            continue
        chosen = table.take(format_, list, f"[{', '.join(allowed)}]", [])
        for precision in chosen:
            if precision not in allowed:
                raise table.error(format_, precision, " | ".join(allowed))
        if len(set(chosen)) != len(chosen):
            raise table.error(format_, chosen, "each precision once")
        result[format_] = tuple(dict.fromkeys((*(first if format_ == reference.format else ()), *chosen)))
    table.finish()
    if sum(map(len, result.values())) == 1:
        raise SpecError(f"{table.path}: precisions names no variant to check; allowed: {known}")
    return result


def _profiles(top: Table) -> tuple[BatchProfile, ...]:
    allowed = "[[1, opt, max], …] with 1 ≤ opt ≤ max (the smallest batch is 1: every engine takes a single sample)"
    if not top.has("batch"):
        return (BatchProfile(1, 16, 32),)
    table = top.table("batch")
    profiles = table.take("profiles", list, allowed)
    if not profiles:
        raise table.error("profiles", profiles, allowed)
    for p in profiles:
        if (
            not isinstance(p, list)
            or len(p) != 3
            or not all(type(n) is int for n in p)
            or not 1 == p[0] <= p[1] <= p[2] <= LARGEST_COUNT
        ):
            raise table.error("profiles", p, allowed)
    table.finish()
    return tuple(BatchProfile(*p) for p in profiles)


def _calibration(top: Table) -> Calibration:
    if not top.has("calibration"):
        return Calibration(samples=320, batch=32)
    table = top.table("calibration")
    result = Calibration(table.count("samples", "samples ≥ 1"), table.count("batch", "samples ≥ 1"))
    if result.samples % result.batch:
        raise table.error("samples", result.samples, f"a multiple of calibration.batch ({result.batch})")
    table.finish()
    return result


def _tolerances(top: Table) -> Mapping[str, Mapping[str, Any]]:
    """Take the overrides as they are: what they may say is the business of whoever judges."""
    if not top.has("tolerances"):
        return {}
    table = top.table("tolerances")
    return {name: table.take(name, dict, "a table of figures") for name in table.names()}


def _floors(top: Table) -> tuple[Mapping[str, Any], ...]:
    """Take the floors as they are, for the same reason."""
    floors = top.take("floors", list, "one [[floors]] table each", [])
    if not all(isinstance(floor, dict) for floor in floors):
        raise top.error("floors", floors, "one [[floors]] table each")
    return tuple(floors)
