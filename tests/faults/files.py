"""Faults of files as a whole, and of what stands beside them: damage, other trainings, labels and samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from faults.change import Change
from faults.made import Made

DAMAGE, DATA = "damaged or other file", "labels and samples"


def damaged(variant: str, change: Callable[[bytes], bytes]) -> Callable[[Made, Path], list[str]]:
    """What writes a sound file with its bytes changed."""

    def plant(made: Made, folder: Path) -> list[str]:
        sound = made.file(variant)
        path = folder / f"planted{sound.suffix}"
        path.write_bytes(change(sound.read_bytes()))
        return [f"--{variant.partition('-')[0]}={path}"]

    return plant


def flipped(variant: str) -> Callable[[Made, Path], list[str]]:
    """What writes a sound file with one bit of a weight flipped: the highest of an exponent that has it at zero."""

    def plant(made: Made, folder: Path) -> list[str]:
        content = bytearray(made.file(variant).read_bytes())
        weights = _weights(made, variant)
        start = bytes(content).index(weights.tobytes())
        at = int(np.abs(weights).argmax())
        content[start + 4 * at + 3] ^= 0x02  # bit 25 of a little-endian float32: its value times or by 2 to the 4th
        path = folder / f"planted{made.file(variant).suffix}"
        path.write_bytes(bytes(content))
        return [f"--{variant.partition('-')[0]}={path}"]

    return plant


def _weights(made: Made, variant: str) -> Any:
    """Weights of the last layer, as they stand in a file."""
    if variant.startswith("onnx"):
        import onnx

        from faults import graph

        model = onnx.load(str(made.file(variant)))
        return graph.array(model, graph.weights(model, -1)[1]).reshape(-1)
    from faults import flatbuffer

    model = flatbuffer.load(made.file(variant))
    return flatbuffer.values(model, flatbuffer.weights(model, -1)).reshape(-1)


def other_training(variant: str) -> Callable[[Made, Path], list[str]]:
    """What brings the file of the same model, made from another seed."""

    def plant(made: Made, folder: Path) -> list[str]:
        return [f"--{variant.partition('-')[0]}={made.again().file(variant)}"]

    return plant


def other_model(variant: str, name: str) -> Callable[[Made, Path], list[str]]:
    """What brings the file of another model."""

    def plant(made: Made, folder: Path) -> list[str]:
        return [f"--{variant.partition('-')[0]}={Made.of(name, made.folder).file(variant)}"]

    return plant


def _zeros(content: bytes) -> bytes:
    """A file with a block of its middle lost, as a disk or a copy loses it."""
    start = len(content) // 2
    return content[:start] + bytes(4096) + content[start + 4096 :]


def labelled(function: Callable[[Any], Any]) -> Callable[[Made, Path], list[str]]:
    """What brings a sound ONNX, and samples with other labels."""
    return sampled(lambda found: {**found, "labels": function(found["labels"].copy())})


def sampled(function: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Made, Path], list[str]]:
    """What brings a sound ONNX, and other samples."""

    def plant(made: Made, folder: Path) -> list[str]:
        with np.load(made.samples) as archive:
            found = {name: archive[name] for name in archive.files}
        path = folder / "samples.npz"
        np.savez(path, **function(found))
        return [f"--samples={path}", f"--onnx={made.file('onnx-fp32')}"]

    return plant


def shuffled(labels: Any) -> Any:
    """Labels in another order than the samples."""
    return np.random.default_rng(0).permutation(labels)


def each_but_labels(function: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What changes all arrays of samples, but for their labels."""
    return lambda found: {n: a if n == "labels" else function(a.copy()) for n, a in found.items()}


def with_nan(values: Any) -> Any:
    """Values with one of them no number."""
    values.reshape(-1)[7] = np.nan
    return values


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


FILES: tuple[tuple[str, str, Callable[[Made, Path], list[str]], tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "cut in the middle",
        "onnx-fp32",
        damaged("onnx-fp32", _half),
        ("not a sound ONNX",),
        ("digits",),
    ),
    (
        "cut in the middle",
        "tflite-int8",
        damaged("tflite-int8", _half),
        ("not a valid Flat",),
        ("price",),
    ),
    ("an empty file", "onnx-fp32", damaged("onnx-fp32", lambda b: b""), ("not a sound ONNX",), ("price",)),
    ("zeros in the middle", "onnx-fp32", damaged("onnx-fp32", _zeros), ("other weights", "numbers at"), ("digits",)),
    ("one bit of a weight flipped", "onnx-fp32", flipped("onnx-fp32"), ("other weights", "numbers at"), ("digits",)),
    (
        "one bit of a weight flipped",
        "tflite-fp32",
        flipped("tflite-fp32"),
        ("other weights", "numbers at"),
        ("digits",),
    ),
    (
        "another training",
        "onnx-fp32",
        other_training("onnx-fp32"),
        ("other weights", "another training run, or"),
        ("digits",),
    ),
    (
        "another training",
        "tflite-int8",
        other_training("tflite-int8"),
        ("other weights", "another training run, or"),
        ("digits",),
    ),
    (
        "another training",
        "onnx-int8",
        other_training("onnx-int8"),
        ("other weights", "another training run, or"),
        ("two_heads",),
    ),
    ("another model", "onnx-fp32", other_model("onnx-fp32", "marks"), ("has shape",), ("digits",)),
)

LABELS: tuple[tuple[str, Callable[[Made, Path], list[str]], str], ...] = (
    ("labels in another order", labelled(shuffled), "in another order"),
    ("labels counted from one", labelled(lambda y: (y + 1) % 10), "from 1"),
    ("all labels of one class", labelled(np.zeros_like), "not those of these samples"),
    ("a label that there is not", labelled(lambda y: np.where(np.arange(len(y)) == 3, 10, y)), "go from 0 to 10"),
    ("a label too few", labelled(lambda y: y[:-1]), "(399,)"),
    ("labels as floats", labelled(lambda y: y.astype(np.float32)), "is float32"),
)

SAMPLES: tuple[tuple[str, str, Callable[[Made, Path], list[str]], str], ...] = (
    ("samples with a NaN", "price", sampled(each_but_labels(with_nan)), "NaN or infinite"),
    ("samples of the other layout", "norms", sampled(each_but_labels(lambda a: a.transpose(0, 3, 1, 2))), "has shape"),
    ("samples of float64", "price", sampled(each_but_labels(lambda a: a.astype(np.float64))), "is float64"),
    (
        "samples that are all alike",
        "two_heads",
        sampled(each_but_labels(lambda a: np.broadcast_to(a[:1], a.shape).copy())),
        "not those of these samples",
    ),
    ("no samples", "price", sampled(each_but_labels(lambda a: a[:0])), "is empty"),
)

CHANGES: tuple[Change, ...] = (
    *(
        Change(name, DAMAGE, model, variant, plant, right)
        for name, variant, plant, right, models in FILES
        for model in models
    ),
    *(
        Change(name, DATA, "digits", "onnx-fp32", plant, (right,), alone=True, data=True)
        for name, plant, right in LABELS
    ),
    *(
        Change(name, DATA, model, "onnx-fp32", plant, (right,), alone=True, data=True)
        for name, model, plant, right in SAMPLES
    ),
)
