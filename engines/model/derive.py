"""The description of a model that came without one: from its signature, its answers, and the samples beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError, SpecError
from engines.model.brought import LABELS
from engines.model.descriptions import kept
from engines.model.found import Found, Tensor
from engines.model.kinds import Kind, described, find_kinds
from engines.model.memory import available
from engines.model.npz import SHARE, load_npz
from engines.model.paths import is_folder
from engines.model.samples import reach
from engines.model.shards import first_arrays
from engines.model.sizes import resize
from engines.model.spec import BATCH, INPUT_DTYPES, OUTPUT_DTYPES, SIGNATURE, WHOLE_RANGES, ModelSpec
from engines.model.toml import parse_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.store import Store

    Arrays = Mapping[str, NDArray[Any]]


RANGES = ((0.0, 1.0), (-1.0, 1.0))
"""The usual ranges of float inputs: one is taken where the samples fill it."""

BYTES = (0, 255)
"""The usual range of pixels."""

FILLED = 0.9
"""The least share of a usual range that samples reach over, if it is theirs."""

PROBED = 16
"""How many of the samples a model is asked for to see its outputs."""


def derive_spec(
    folder: Path, samples: Path | None, signature: str = SIGNATURE, store: Store | None = None
) -> ModelSpec:
    """Describe the SavedModel in ``folder`` from one of its signatures, for ``--saved-model``.

    ``samples`` gives ranges and dynamic sizes where there are samples. What outputs hold is found by
    engines.model.kinds. What was found once is kept in the ``store``. Raises SpecError for what is no SavedModel or
    lacks the signature. So it does for an input of strings, of another dtype than those of INPUT_DTYPES, or with a
    fixed batch.
    """
    named = "" if signature == SIGNATURE else f"_{signature}"
    content = {
        "name": _model_name(folder) + re.sub(r"[^A-Za-z0-9_-]+", "_", named),
        "description": f"SavedModel in {folder}" + (f", signature {signature}" if named else ""),
        "source": {"saved_model": str(folder.resolve()), **({"signature": signature} if named else {})},
    }
    options = [f"--saved-model={folder}", *([f"--signature={signature}"] if named else [])]

    def derive() -> Mapping[str, Any]:
        from engines.formats.savedmodel.apart import ask

        found: Mapping[str, Any] = ask(_described, folder, signature, samples)
        return found

    found = derive() if store is None else kept(store, str(content["name"]), folder, signature, samples, derive)
    return _spec({**content, **found}, samples, folder, options)


def _described(folder: Path, signature: str, samples: Path | None) -> dict[str, Any]:
    """The description of a SavedModel, as a TOML file has it, by TensorFlow."""
    from engines.formats.savedmodel.discovery import discover

    return _description(discover(folder, signature, f"--saved-model {folder}"), samples)


def derive_onnx(path: Path, samples: Path | None) -> ModelSpec:
    """Describe the ONNX file ``path`` for ``--onnx`` without a SavedModel: its FP32 form is the reference.

    Raises SpecError as :func:`derive_spec` does, and for a file that is missing, damaged or not FP32.
    """
    from engines.formats.onnx.discovery import discover

    found = discover(path, f"--onnx {path}")
    content = {
        "name": re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem).strip("_-") or "model",
        "description": f"ONNX in {path}",
        "source": {"onnx": str(path.resolve())},
    }
    return _spec({**content, **_description(found, samples)}, samples, path, [f"--onnx={path}"])


def _spec(content: Mapping[str, Any], samples: Path | None, path: Path, options: Sequence[str]) -> ModelSpec:
    given = [*options, *([f"--samples={samples}"] if samples else [])]
    return replace(parse_model(content, path), options=tuple(given))


def _description(found: Found, samples: Path | None) -> dict[str, Any]:
    """Inputs, outputs, data and dimensions of a model, as a TOML file has them."""
    for tensor in found.inputs:
        _check(tensor, found)
    if not found.inputs:
        raise SpecError(f"{found.what}: takes no inputs; expected one or more: export a function of its inputs")
    values = _samples(found.inputs, samples)
    names, dimensions = _dimensions(found, values, samples)
    probe = _probe(found.inputs, names, dimensions, values)
    outputs = _asked(found, probe)
    kinds = _kinds(found, outputs, samples, len(next(iter(probe.values()))))
    others = _other_sizes(found, names, dimensions, probe, outputs) if dimensions else None
    if others is not None:
        dimensions = {name: [*sizes, others[0][name]] for name, sizes in dimensions.items()}
    moving = {name: array for name, array in outputs.items() if kinds[name].kind != "constant"}
    shapes, dimensions = _output_shapes(moving, others[1] if others else None, dimensions)
    shapes |= {name: list(array.shape) for name, array in outputs.items() if name not in moving}
    image = values is None and len(found.inputs) == 1
    return {
        "inputs": [
            {
                "name": t.name,
                "shape": [BATCH, *(names.get((t.name, axis), d) for axis, d in enumerate(t.shape) if axis)],
                "dtype": t.dtype,
                "range": list(value_range(t.dtype, len(t.shape), None if values is None else values.get(t.name))),
            }
            for t in found.inputs
        ],
        "outputs": [
            {**described(name, array, kinds[name]), "shape": shapes[name]} for name, array in sorted(outputs.items())
        ],
        **({"data": {"dataset": "photographs"}} if image else {}),
        **({"dimensions": dimensions} if dimensions else {}),
    }


def _check(tensor: Tensor, found: Found) -> None:
    """Refuse an input that cannot be fed, in words that say what to export instead."""
    shape = "(" + ", ".join("None" if d is None else str(d) for d in tensor.shape) + ")"
    wrong = f"{found.what}: its input {tensor.name!r} is {tensor.dtype} {shape}"
    if tensor.dtype == "string":
        raise SpecError(
            f"{wrong}; expected numbers: export the part behind its text or example parsing, which takes ids or images"
        )
    if tensor.dtype not in INPUT_DTYPES:
        raise SpecError(
            f"{wrong}; expected {' or '.join(INPUT_DTYPES)}: export a function that takes float32, or int32 for "
            "integers, and casts it before it calls the model"
        )
    if not tensor.shape or isinstance(tensor.shape[0], int):
        raise SpecError(f"{wrong}; expected a dynamic batch: export it again with an input of shape (None, …)")
    sizes = [d for d in tensor.shape if isinstance(d, int)]
    # Looked at before any sample is made: a file may declare what it likes.
    if any(d < 1 for d in sizes) or PROBED * 8 * math.prod(sizes) > SHARE * available():
        raise SpecError(f"{wrong}; expected sizes ≥ 1, of which a few samples fit into memory")


def _arrays(samples: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a samples file, or of the first one of a folder of them."""
    return first_arrays(samples) if is_folder(samples) else load_npz(samples, f"--samples {samples}")


def _samples(tensors: Sequence[Tensor], samples: Path | None) -> dict[str, NDArray[Any]] | None:
    """Samples by input name; only those that fit, for it is their reader that says what is wrong with others."""
    if samples is None:
        return None
    arrays = _arrays(samples)
    fitting = {t.name: arrays[t.name] for t in tensors if t.name in arrays and _fits(t, arrays[t.name])}
    return {n: a for n, a in fitting.items() if n != LABELS}


def _fits(tensor: Tensor, array: NDArray[Any]) -> bool:
    """Whether samples have an input's dtype and shape, and are finite."""
    shaped = array.ndim == len(tensor.shape) and all(
        not isinstance(d, int) or d == size for d, size in zip(tensor.shape, array.shape, strict=True)
    )
    return array.dtype.name == tensor.dtype and shaped and array.size > 0 and bool(np.isfinite(array).all())


def _dimensions(
    found: Found, values: Arrays | None, samples: Path | None
) -> tuple[dict[tuple[str, int], str], dict[str, list[int]]]:
    """Names of the dynamic dimensions, by input and axis, and their sizes by name, as the samples have them.

    Those of two inputs share a name where the signature has it so, or on the same axis where the sizes agree. Ids and
    their mask, for one, are of one length.
    """
    names: dict[tuple[str, int], str] = {}
    sizes: dict[str, list[int]] = {}
    for number, tensor in enumerate(found.inputs):
        for axis, d in enumerate(tensor.shape):
            if axis == 0 or isinstance(d, int):
                continue
            if values is None or tensor.name not in values:
                raise SpecError(f"{found.what}: {_sizes_unknown(tensor, samples)}")
            size = int(values[tensor.name].shape[axis])
            name = d if isinstance(d, str) and d.isidentifier() and d != BATCH else f"axis_{axis}"
            if sizes.get(name, [size]) != [size]:
                name = f"axis_{axis}_of_input_{number + 1}"
            names[tensor.name, axis], sizes[name] = name, [size]
    return names, sizes


def _sizes_unknown(tensor: Tensor, samples: Path | None) -> str:
    """Why the sizes of dynamic dimensions are not known: no samples, or none that the input takes."""
    shown = tuple(d if isinstance(d, int) else None for d in tensor.shape)
    unknown = f"its input {tensor.name!r} has dynamic dimensions {shown}; give --samples that show their sizes"
    if samples is None:
        return unknown
    array = _arrays(samples).get(tensor.name)
    held = "nothing by that name" if array is None else f"{array.dtype} of shape {array.shape}"
    return f"{unknown}: {samples} has {held}, expected {tensor.dtype} of {len(shown)} dimensions, finite"


def _probe(
    tensors: Sequence[Tensor],
    names: Mapping[tuple[str, int], str],
    dimensions: Mapping[str, list[int]],
    values: Arrays | None,
) -> dict[str, NDArray[Any]]:
    """A few inputs: the first samples, and those of them that reach furthest, since ids may be beyond a table."""
    if values and len(values) == len(tensors) and len({len(a) for a in values.values()}) == 1:
        rows = [*range(min(PROBED, len(next(iter(values.values())))))]
        for array in values.values():
            flat = array.reshape(len(array), -1)
            if flat.shape[1]:
                rows += [int(flat.min(axis=1).argmin()), int(flat.max(axis=1).argmax())]
        chosen = list(dict.fromkeys(rows))
        return {name: np.ascontiguousarray(array[chosen]) for name, array in values.items()}
    generator = np.random.default_rng(0)

    def made(tensor: Tensor) -> NDArray[Any]:
        sizes = (
            (dimensions[names[tensor.name, a]][0] if (tensor.name, a) in names else d)
            for a, d in enumerate(tensor.shape)
            if a
        )
        shape = (4, *(int(size or 1) for size in sizes))
        if tensor.dtype == "float32":
            return generator.random(shape).astype(np.float32)
        return generator.integers(0, 2 if tensor.dtype != "uint8" else 256, shape).astype(tensor.dtype)

    return {tensor.name: made(tensor) for tensor in tensors}


def _asked(found: Found, probe: Arrays) -> dict[str, NDArray[Any]]:
    """Outputs of a few inputs; SpecError where the model stops at them."""
    count = len(next(iter(probe.values())))
    try:
        outputs = found.ask(probe)
    except RunnerError as error:
        if _runs_each(found, probe):
            raise SpecError(
                f"{found.what}: cannot run {count} samples: {error}; expected a model that takes any number"
            ) from error
        raise SpecError(
            f"{found.what}: cannot run {count} samples of {reach(probe)}: {error}; "
            "give --samples of values that it takes, ids within its tables"
        ) from error
    for name, array in outputs.items():
        if array.dtype.name not in OUTPUT_DTYPES:
            raise SpecError(f"{found.what}: its output {name!r} is {array.dtype}; expected {' | '.join(OUTPUT_DTYPES)}")
    return outputs


def _kinds(found: Found, outputs: Arrays, samples: Path | None, count: int) -> dict[str, Kind]:
    """What the outputs hold, of so many samples; SpecError names the model where one of them cannot be compared."""
    labels = _arrays(samples).get(LABELS) if samples else None
    try:
        return find_kinds(found.graph, outputs, labels, count=count)
    except SpecError as error:
        raise SpecError(f"{found.what}: {error}") from error


def _runs_each(found: Found, probe: Arrays) -> bool:
    """Whether a model runs samples alone that it does not run together."""
    try:
        for row in range(len(next(iter(probe.values())))):
            found.ask({name: array[row : row + 1] for name, array in probe.items()})
    except RunnerError:
        return False
    return True


def _other_sizes(
    found: Found,
    names: Mapping[tuple[str, int], str],
    dimensions: Mapping[str, list[int]],
    probe: Arrays,
    first: Arrays,
) -> tuple[dict[str, int], dict[str, NDArray[Any]]] | None:
    """Another size for each dynamic dimension that the model runs at, half or twice the first, and its outputs.

    None where it stops at both, or answers another number of rows than at the ``first`` size, or no numbers.
    """
    for factor in (0.5, 2.0):
        sizes = {name: int(factor * size) or 2 for name, (size, *_) in dimensions.items()}
        inputs = {
            name: resize(array, [sizes[names[name, a]] if (name, a) in names else d for a, d in enumerate(array.shape)])
            for name, array in probe.items()
        }
        try:
            outputs = found.ask(inputs)
        except RunnerError:
            continue
        if all(a.shape[:1] == first[n].shape[:1] and np.isfinite(a).all() for n, a in outputs.items()):
            return sizes, outputs
    return None


def _output_shapes(
    outputs: Arrays, others: Arrays | None, dimensions: Mapping[str, list[int]]
) -> tuple[dict[str, list[int | str]], dict[str, list[int]]]:
    """Shapes of the outputs, and the dimensions with those of outputs among them: what changes with the inputs."""
    known, shapes = dict(dimensions), {}
    for name, array in outputs.items():
        shape: list[int | str] = [BATCH, *array.shape[1:]]
        for axis in range(1, array.ndim if others is not None and others[name].ndim == array.ndim else 0):
            both = [array.shape[axis], others[name].shape[axis]] if others is not None else []
            if both[0] != both[1]:
                made = re.sub(r"\W", "_", f"axis_{axis}_of_{name}")
                shape[axis] = next((d for d, sizes in known.items() if sizes == both), made)
                known[str(shape[axis])] = both
        shapes[name] = shape
    return shapes, known


def value_range(dtype: str, rank: int, values: NDArray[Any] | None) -> tuple[float, float]:
    """Range of an input: that of its samples, or a usual one where they speak for it.

    Pixels are [0, 255] where the samples are bytes, or mostly whole numbers, that reach above the middle.
    """
    if values is None or dtype == "bool":
        return WHOLE_RANGES.get(dtype, RANGES[0] if dtype == "float32" else (0, 1))
    low, high = values.min().item(), values.max().item()
    pixels = low >= BYTES[0] and BYTES[1] // 2 < high <= BYTES[1]
    if dtype != "float32":
        return BYTES if pixels and dtype == "uint8" and rank > 2 else (low, high)
    if pixels and (np.rint(values) == values).mean() >= FILLED:
        return BYTES
    return _usual(low, high) or ((low, high) if low < high else (low, low + 1))


def _usual(low: float, high: float) -> tuple[float, float] | None:
    """The usual range that values from ``low`` to ``high`` fill; None where there is none."""
    return next((e for e in RANGES if e[0] <= low and high <= e[1] and high - low >= FILLED * (e[1] - e[0])), None)


def _model_name(folder: Path) -> str:
    """Name of the model: that of its folder, or of the folder's parent where its own is one that tells nothing."""
    resolved = folder.resolve()
    name = resolved.parent.name if resolved.name in {"saved_model", "savedmodel", "export", "model"} else resolved.name
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-") or "model"
