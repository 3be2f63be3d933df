"""Faults of TensorRT plans, each built by the command itself from a file that is changed; they need a GPU.

A brought ONNX stands for the chain's own, so what is planted into it is in every plan that comes from it, while the
reference stays what it was. The Q/DQ plans come from a brought INT8 file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from faults import graph, quantization
from faults.change import PASSES, Change
from faults.graph_edits import (
    NUMBERS,
    WINDOWS,
    channel_scale,
    class_bias,
    mirrored,
    no_relu,
    noise,
    normalized_over_batch,
    other_padding,
    relu6,
    reversed_channels,
    rolled,
    softmax_axis,
    swapped_outputs,
    temperature,
)
from faults.made import Made
from faults.quantization import SCALES
from faults.runners import RUNNERS
from faults.sound_changes import batch_norm, external_data, gemm, permuted_filters, permuted_units, relu_as_max

KIND = "TensorRT plan"

ANY = ("fp32", "fp16", "int8")
"""Precisions that are built from the ONNX FP32."""

GRAPHS: tuple[tuple[str, Callable[[Any], None], tuple[str, ...], str, tuple[str, ...]], ...] = (
    ("noise of 1 % on a layer's weights", noise(0.01), NUMBERS, "price", ("fp32",)),
    ("one class's bias larger by 0.5", class_bias(0.5), ("bias", *NUMBERS), "digits", ANY),
    ("a softmax of temperature 1.1", temperature(1.1), ("temperature",), "digits", ("fp32", "fp16")),
    ("one channel 1.5 times as large", channel_scale(1.5), NUMBERS, "digits", ANY),
    ("ReLU that ends at one", relu6(most=1.0), (*NUMBERS, "Clip for"), "price", ("fp32", "int8")),
    ("columns of a table shifted by one", rolled(1), ("one place",), "price", ("fp32", "int8")),
    ("normalized over the batch", normalized_over_batch, ("over the batch", "ReduceMean"), "price", ("fp32",)),
    ("padding at the other side", other_padding, WINDOWS, "marks", ("fp32", "fp16")),
    ("the last ReLU left out", no_relu, (*NUMBERS, "left out"), "marks", ("fp32", "int8")),
    ("input channels reversed in the weights", reversed_channels, ("red and blue",), "two_heads", ANY),
    ("softmax over the batch", softmax_axis, ("over the batch",), "two_heads", ("fp32", "fp16")),
    ("images mirrored", mirrored(2), ("mirrored",), "two_heads", ("fp32", "int8")),
    ("two outputs swapped", swapped_outputs, ("swapped", "exchanged"), "two_heads", ("fp32", "fp16")),
)

QUANTIZED: tuple[tuple[str, Callable[[Any], None], tuple[str, ...], str], ...] = (
    ("scales of the weights doubled", quantization.scales_of_weights(lambda s: 2 * s), SCALES, "price"),
    ("an activation's range at a third", quantization.range_of(1 / 3), SCALES, "digits"),
    ("an activation's range at a third", quantization.range_of(1 / 3), SCALES, "price"),
    ("3 bits in the last layer", quantization.integers(quantization.bits(3)), SCALES, "digits"),
    ("one answer for all", quantization.integers(np.zeros_like), ("every sample gets the same answer",), "price"),
    ("a zero point off by 5", quantization.other_point(5), (*SCALES, "zero point"), "price"),
)

PROGRAMS: tuple[tuple[str, str, str], ...] = (
    ("inputs fed 255 times as large", "two_heads", "fp32"),
    ("inputs fed from -1 to 1", "two_heads", "fp16"),
    ("images fed mirrored", "two_heads", "int8"),
    ("samples fed one place late", "digits", "fp32"),
    ("rows of a batch reversed", "digits", "fp16"),
    ("the last answer of a full batch never written", "digits", "fp32"),
    ("the first answer given again for the last", "digits", "int8"),
    ("wrong only in batches above 100", "digits", "fp32"),
    ("answers rounded to hundredths", "digits", "fp32"),
    ("the previous batch's answers", "digits", "fp32"),
    ("noise in each call", "digits", "fp32"),
    ("classes counted from one", "digits", "int8"),
)
"""Faults of ``faults.runners`` with the model and precision that each is planted into."""


SOUND: tuple[tuple[str, Callable[[Made, Path], list[str]], str, str], ...] = (
    ("filters in another order, and their readers", graph.edited("onnx-fp32", permuted_filters), "digits", "fp16"),
    ("units in another order, and their readers", graph.edited("onnx-fp32", permuted_units), "price", "int8"),
    ("Gemm for MatMul and Add", graph.edited("onnx-fp32", gemm), "digits", "int8"),
    ("a BatchNormalization that is not fused", graph.edited("onnx-fp32", batch_norm), "two_heads", "fp16"),
    ("ReLU as a maximum", graph.edited("onnx-fp32", relu_as_max), "price", "fp32"),
    ("weights in a second file", external_data, "two_heads", "fp32"),
)


def run_by_the_plugin(made: Made, folder: Path) -> list[str]:
    """Words that bring nothing but the plugin which runs plans wrongly: the plan is the chain's own."""
    return ["-p", "tests.faults.runners"]


def _changes() -> tuple[Change, ...]:
    found = [
        Change(name, KIND, model, f"tensorrt-{precision}", graph.edited("onnx-fp32", edit), right, alone=True)
        for name, edit, right, model, precisions in GRAPHS
        for precision in precisions
    ]
    found += [
        Change(name, KIND, model, "tensorrt-int8-qdq", graph.edited("onnx-int8", edit), right, alone=True)
        for name, edit, right, model in QUANTIZED
    ]
    found += [
        Change(name, KIND, model, f"tensorrt-{precision}", run_by_the_plugin, RUNNERS[name][1], alone=True)
        for name, model, precision in PROGRAMS
    ]
    found += [
        Change(name, KIND, model, f"tensorrt-{precision}", plant, expected=PASSES, alone=True)
        for name, plant, model, precision in SOUND
    ]
    return tuple(found)


CHANGES: tuple[Change, ...] = _changes()
