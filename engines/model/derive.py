"""TODO engines.model.derive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines import tools
from engines.errors import SpecError
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.savedmodel.signature import serving_default
from engines.model.brought import LABELS, _load_npz
from engines.model.kinds import described, find_kinds
from engines.model.spec import BATCH, OUTPUT_DTYPES, ModelSpec
from engines.model.toml import parse_model

if TYPE_CHECKING:
    from numpy.typing import NDArray


RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
"""The usual ranges of image inputs; the first that holds all samples is taken for a SavedModel without description."""


def derive_spec(folder: Path, samples: Path | None) -> ModelSpec:
    """Describe the SavedModel in ``folder`` from its ``serving_default`` signature, for ``--saved-model``.

    ``samples`` gives the input's range and dynamic sizes where there are samples. What outputs hold is found by
    engines.model.kinds. Raises SpecError for what is no SavedModel, lacks
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
        raise SpecError(f"{what}: TensorFlow cannot load it: {tools.last_lines(str(error), 3).strip()}") from error
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
        last = tools.last_lines(str(error), 3).strip()
        raise SpecError(
            f"{what}: cannot run {len(probe[:4])} samples: {last}; expected a model that takes any number"
        ) from error
    for key, array in found_outputs.items():
        if array.dtype.name not in OUTPUT_DTYPES:
            raise SpecError(f"{what}: its output {key!r} is {array.dtype}; expected {' | '.join(OUTPUT_DTYPES)}")
    labels = _load_npz(samples, f"--samples {samples}").get(LABELS) if samples else None
    try:
        kinds = find_kinds(function, found_outputs, labels, count=len(probe[:4]))
    except SpecError as error:
        raise SpecError(f"{what}: {error}") from error
    low, high = _range(values)
    content = {
        "name": _model_name(folder),
        "description": f"SavedModel in {folder}",
        "source": {"saved_model": str(folder.resolve())},
        "inputs": [{"name": name, "shape": _named(tensor.shape), "range": [low, high]}],
        "outputs": [described(key, array, kinds[key]) for key, array in sorted(found_outputs.items())],
        "data": {"dataset": "photographs"},
        **({"dimensions": dimensions} if dimensions else {}),
    }
    given = [f"--saved-model={folder}", *([f"--samples={samples}"] if samples else [])]
    return replace(parse_model(content, folder), options=tuple(given))


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


def _model_name(folder: Path) -> str:
    """Name the model after its folder; the usual names of the folder itself say nothing, so its parent's is taken."""
    resolved = folder.resolve()
    name = resolved.parent.name if resolved.name in {"saved_model", "savedmodel", "export", "model"} else resolved.name
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-") or "model"
