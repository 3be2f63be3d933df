"""What an INT8 file has in FP32 is told at the end of the run: none is INT8 in name alone, and nobody the wiser."""

from __future__ import annotations

import pytest

from engines.precision import Layer
from trial.left_in_fp32 import UNKNOWN, told

FIRST = "takes the inputs"


def layers(wide, quantized=0, weights=10):
    """Layers in FP32 and in INT8, with as many weights each."""
    return [Layer("fp32", weights, f"StatefulPartitionedCall/net/dense_{i}/MatMul") for i in range(wide)] + [
        Layer("int8", weights, f"net/other_{i}") for i in range(quantized)
    ]


def test_layers_left_in_fp32_are_told_with_their_reason():
    """How many of how many, why, and which: the first three of each reason by name."""
    found = layers(5, 2)
    reasons = {layer.name: FIRST for layer in found[:4]}
    assert told("onnx-int8", found, reasons) == [
        f"onnx-int8 has 5 of 7 layers with weights in FP32 ({FIRST}: net/dense_0/MatMul, net/dense_1/MatMul, "
        f"net/dense_2/MatMul and 1 more; {UNKNOWN}: net/dense_4/MatMul)"
    ]


@pytest.mark.parametrize("found", [layers(0, 4), layers(1, 2), [Layer("fp16", 6, "a"), *layers(0, 1)]])
def test_one_layer_of_several_is_not_told(found):
    """The first layer of every network stays in FP32: that is INT8 as anyone has it."""
    assert told("onnx-int8", found, {}) == []


@pytest.mark.parametrize(
    "found",
    [layers(1, 1), layers(2, 9), [*layers(1, weights=100), *layers(0, 5)], [*layers(1), *layers(0, 2, weights=5)]],
)
def test_half_of_a_network_two_layers_or_most_weights_are_told(found):
    """One of two layers, a second layer, and one that has half of all weights are more than the usual."""
    assert len(told("tflite-int8", found, {})) == 1


def test_three_layers_are_all_named():
    """Where as many are left as are named, there are no more to be counted."""
    (sentence,) = told("onnx-int8", layers(3, 1), {})
    assert sentence.endswith("net/dense_0/MatMul, net/dense_1/MatMul, net/dense_2/MatMul)")
