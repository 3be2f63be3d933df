"""Faults of a TFLite file, in FP32, FP16 and INT8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from faults import flatbuffer as tflite
from faults.change import Change
from faults.graph_edits import NUMBERS, WEIGHTS, WINDOWS

KIND = "TFLite file"

SCALES = (*WEIGHTS, "lower precision", "number", "scales are others")
"""What a likely cause may say of integers that stand for other numbers."""


def noise(share: float, which: int = 0) -> Callable[[Any], None]:
    """Noise of a share of each weight's size, on one layer."""

    def edit(model: Any) -> None:
        generator = np.random.default_rng(0)
        tflite.change(
            model, tflite.weights(model, which), lambda w: w * (1 + share * generator.standard_normal(w.shape))
        )

    return edit


def channel(by: float, which: int = 0) -> Callable[[Any], None]:
    """Weights of one output channel larger by a factor: that of the largest sum."""

    def edit(model: Any) -> None:
        def scaled(values: Any) -> Any:
            wide = values.astype(np.float64)
            wide[np.abs(wide).reshape(len(wide), -1).sum(axis=1).argmax()] *= by
            return wide if values.dtype.kind == "f" else np.rint(wide)

        tflite.change(model, tflite.weights(model, which), scaled)

    return edit


def bias(function: Callable[[Any], Any], which: int = -1) -> Callable[[Any], None]:
    """Another bias of one layer."""

    def edit(model: Any) -> None:
        layers = [o for o in tflite.operators(model, *tflite.WEIGHTED) if len(o.inputs) > 2 and o.inputs[2] >= 0]
        tflite.change(model, layers[which].inputs[2], function)

    return edit


def one_class(values: Any) -> Any:
    """A bias with half of the largest added to the second class."""
    wide = values.astype(np.float64)
    wide[1] += max(0.5 * np.abs(wide).max(), 1e-6)
    return wide


def no_activation(model: Any) -> None:
    """The ReLU that is fused into the first layer left out."""
    layer = next(o for o in tflite.operators(model, *tflite.WEIGHTED) if o.builtinOptions.fusedActivationFunction == 1)
    layer.builtinOptions.fusedActivationFunction = 0


def to_activation(number: int) -> Callable[[Any], None]:
    """Another activation fused into the first layer that has a ReLU: 2 is from -1 to 1, 3 is ReLU6, 4 tanh."""

    def edit(model: Any) -> None:
        layer = next(
            o for o in tflite.operators(model, *tflite.WEIGHTED) if o.builtinOptions.fusedActivationFunction == 1
        )
        layer.builtinOptions.fusedActivationFunction = number

    return edit


def added_relu(model: Any) -> None:
    """A ReLU fused into the last layer, which has none."""
    tflite.operators(model, "FULLY_CONNECTED")[-1].builtinOptions.fusedActivationFunction = 1


def beta(value: float) -> Callable[[Any], None]:
    """A softmax of another steepness."""

    def edit(model: Any) -> None:
        tflite.operators(model, "SOFTMAX")[-1].builtinOptions.beta = value

    return edit


def average(model: Any) -> None:
    """Average for max pooling."""
    tflite.as_kind(model, tflite.operators(model, "MAX_POOL_2D")[0], "AVERAGE_POOL_2D")


def tanh_for_logistic(model: Any) -> None:
    """A tanh for the sigmoid."""
    layer = tflite.operators(model, "LOGISTIC")[-1]
    tflite.as_kind(model, layer, "TANH")
    layer.builtinOptions, layer.builtinOptionsType = None, 0


def dilated(model: Any) -> None:
    """A dilation of three along the width, where there is no stride."""
    layer = next(o for o in tflite.operators(model, "DEPTHWISE_CONV_2D") if o.builtinOptions.strideW == 1)
    layer.builtinOptions.dilationWFactor = 3


def gelu(model: Any) -> None:
    """GELU by tanh, which TFLite calls approximate."""
    for layer in tflite.operators(model, "GELU"):
        layer.builtinOptions.approximate = not layer.builtinOptions.approximate


def swapped_rows(model: Any) -> None:
    """Rows of the last layer, which are its classes, the first two exchanged; its bias as it is."""
    tflite.change(model, tflite.weights(model, -1), lambda w: w[[1, 0, *range(2, len(w))]])


def swapped_outputs(model: Any) -> None:
    """The first two outputs under each other's names in the signature."""
    outputs = model.signatureDefs[0].outputs
    outputs[0].tensorIndex, outputs[1].tensorIndex = outputs[1].tensorIndex, outputs[0].tensorIndex


def no_subtraction(model: Any) -> None:
    """The mean of the normalization at zero."""
    tflite.change(model, tflite.operators(model, "SUB")[0].inputs[1], np.zeros_like)


def no_factor(model: Any) -> None:
    """The deviation of the normalization at one."""
    tflite.change(model, tflite.operators(model, "MUL")[0].inputs[1], np.ones_like)


def transposed_kernel(model: Any) -> None:
    """Height and width of the first kernel swapped."""
    tflite.change(model, tflite.weights(model, 0), lambda w: w.swapaxes(1, 2))


def weight_scales(function: Callable[[Any], Any], which: int = 0) -> Callable[[Any], None]:
    """Other scales for the weights of a layer, whose integers stay."""
    return lambda model: tflite.scales(model, tflite.weights(model, which), function)


def activation_scale(by: float, which: int = 0) -> Callable[[Any], None]:
    """Another scale for what a layer puts out, for itself and for all that read it."""

    def edit(model: Any) -> None:
        layer = tflite.operators(model, *tflite.WEIGHTED)[which]
        tflite.scales(model, layer.outputs[0], lambda s: s * by)

    return edit


def activation_point(by: int, which: int = 0) -> Callable[[Any], None]:
    """Another zero point for what a layer puts out, so that its ReLU ends elsewhere."""

    def edit(model: Any) -> None:
        layer = tflite.operators(model, *tflite.WEIGHTED)[which]
        tflite.zero_points(model, layer.outputs[0], by)

    return edit


def input_scale(by: float) -> Callable[[Any], None]:
    """Another scale for the input."""
    return lambda model: tflite.scales(model, int(model.subgraphs[0].inputs[0]), lambda s: s * by)


def input_point(by: int) -> Callable[[Any], None]:
    """Another zero point for the input."""
    return lambda model: tflite.zero_points(model, int(model.subgraphs[0].inputs[0]), by)


def few_bits(bits: int, which: int = -1) -> Callable[[Any], None]:
    """Integers of one layer's weights with so many bits left."""
    step = 2 ** (8 - bits)
    return lambda model: tflite.change(
        model, tflite.weights(model, which), lambda w: np.clip(np.rint(w / step) * step, -127, 127)
    )


def clipped(most: int, which: int = 0) -> Callable[[Any], None]:
    """Integers of one layer's weights that end at ``most``, as a percentile too low leaves them."""
    return lambda model: tflite.change(model, tflite.weights(model, which), lambda w: np.clip(w, -most, most))


def zeros(model: Any) -> None:
    """The last layer's weights at zero: one answer for all."""
    tflite.change(model, tflite.weights(model, -1), np.zeros_like)


PLANTED: tuple[tuple[str, str, Callable[[Any], None], tuple[str, ...], tuple[str, ...]], ...] = (
    ("noise of 1 % on a layer's weights", "fp32", noise(0.01), NUMBERS, ("price",)),
    ("one channel 1.5 times as large", "fp32", channel(1.5), NUMBERS, ("norms",)),
    ("one channel 1.5 times as large", "fp16", channel(1.5), NUMBERS, ("listing",)),
    ("one channel dead", "fp16", channel(0.0), NUMBERS, ("digits",)),
    ("the last bias left out", "fp32", bias(np.zeros_like), ("bias", *NUMBERS), ("two_heads",)),
    ("one class's bias larger by half of the largest", "fp32", bias(one_class), ("bias",), ("digits",)),
    ("the first ReLU left out", "fp32", no_activation, (*WEIGHTS, "fusedActivationFunction"), ("digits",)),
    ("a first ReLU from -1 to 1", "fp32", to_activation(2), (*WEIGHTS, "fusedActivationFunction"), ("listing",)),
    ("a ReLU behind the last layer", "fp32", added_relu, (*WEIGHTS, "fusedActivationFunction"), ("two_heads",)),
    ("a softmax of temperature 1.25", "fp32", beta(0.8), ("temperature",), ("norms",)),
    ("average for max pooling", "fp32", average, WINDOWS, ("listing",)),
    ("a tanh for the sigmoid", "fp32", tanh_for_logistic, ("sigmoid", "TANH for", *WEIGHTS), ("marks",)),
    ("a dilation of three", "fp32", dilated, WINDOWS, ("norms",)),
    ("GELU of the other form", "fp32", gelu, (*WEIGHTS, "approximate"), ("norms",)),
    ("two rows of the last layer exchanged", "fp32", swapped_rows, ("permuted", *NUMBERS), ("digits",)),
    ("two outputs swapped", "fp32", swapped_outputs, ("swapped", "exchanged"), ("two_heads",)),
    ("the mean left out", "fp32", no_subtraction, ("mean", "converted wrongly", "left out", "numbers"), ("listing",)),
    (
        "the deviation left out",
        "fp32",
        no_factor,
        ("deviation", "converted wrongly", "left out", "numbers"),
        ("listing",),
    ),
    ("the kernel transposed", "fp32", transposed_kernel, NUMBERS, ("marks",)),
    ("scales of the weights doubled", "int8", weight_scales(lambda s: 2 * s), SCALES, ("price",)),
    ("scales of the weights in another order", "int8", weight_scales(lambda s: np.roll(s, 1)), SCALES, ("marks",)),
    ("the scale of an activation at a third", "int8", activation_scale(1 / 3), SCALES, ("digits",)),
    ("the zero point of an activation off by 20", "int8", activation_point(20), SCALES, ("marks",)),
    ("the input's scale 255 times as large", "int8", input_scale(255), ("one step for all channels",), ("two_heads",)),
    ("the input's zero point off by 5", "int8", input_point(5), SCALES, ("marks",)),
    ("3 bits in the last layer", "int8", few_bits(3), SCALES, ("two_heads", "price")),
    ("weights clipped at half", "int8", clipped(64), SCALES, ("marks",)),
    ("the int32 bias at half", "int8", bias(lambda b: b // 2), ("bias", *SCALES), ("digits",)),
    ("one answer for all", "int8", zeros, ("every sample gets the same answer",), ("price",)),
)

QUICK = {
    ("two_heads", "the last bias left out"),
    ("two_heads", "3 bits in the last layer"),
    ("two_heads", "the input's scale 255 times as large"),
}

CHANGES: tuple[Change, ...] = tuple(
    Change(
        name,
        KIND,
        model,
        f"tflite-{precision}",
        tflite.edited(f"tflite-{precision}", edit),
        right,
        quick=(model, name) in QUICK,
    )
    for name, precision, edit, right, models in PLANTED
    for model in models
)
