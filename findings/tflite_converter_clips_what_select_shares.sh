#!/usr/bin/env bash
# TensorFlow 2.21.0's TFLite converter: in full INT8, what SELECT_V2 takes is clipped to what it gives, for all others too.
#
# SELECT_V2 is to have one grid for both branches and its output, and the converter gives all three that of the output.
# A branch is a layer's own output, so what else reads that layer reads it clipped, although no requantization would
# have been needed there. So tf.where(h > 0.1, h, 0.2 * h) behind a dense layer, a leaky ReLU that somebody wrote by hand,
# loses nearly all that is negative: the layer reaches down to -8.4, the output to -1.7, and 0.2 is taken of -1.7.
# The same function as tf.nn.leaky_relu is quantized rightly.
# Seen: 256 samples, 4 numbers each, the samples being the representative data. By tf.where numbers that should go down
# to -1.68 end at -0.32: the largest error is 1.36, 34 of the output's steps of 0.0398. By tf.nn.leaky_relu it is below
# three steps. The layer's own grid ends at -1.67 in the one and at -8.4 in the other.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0 ai-edge-litert==2.3.0
cd "$folder"
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
"$folder/venv/bin/python" - 2> log <<'PY' || { cat log >&2; exit 1; }
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

draw = np.random.default_rng(0)
WEIGHTS = draw.normal(size=(8, 4)).astype(np.float32)
SAMPLES = draw.normal(size=(256, 8)).astype(np.float32)


def by_where(h):
    return tf.where(h > 0.1, h, 0.2 * h)


def by_leaky_relu(h):
    return tf.nn.leaky_relu(h, 0.2)


def quantized(activation):
    """Largest error in steps of the output, where the layer's own grid starts, and the smallest answer and the right one."""

    @tf.function(input_signature=[tf.TensorSpec([None, 8])])
    def network(x):
        return activation(x @ WEIGHTS)

    made = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.representative_dataset = lambda: ([s[None]] for s in SAMPLES)
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    engine = Interpreter(model_content=made.convert())
    engine.allocate_tensors()
    answers = []
    for sample in SAMPLES:
        engine.set_tensor(engine.get_input_details()[0]["index"], sample[None])
        engine.invoke()
        answers.append(engine.get_tensor(engine.get_output_details()[0]["index"])[0])
    tensors = {t["index"]: t["quantization"] for t in engine.get_tensor_details()}
    steps = engine._get_ops_details()
    (layer,) = [op["outputs"][0] for op in steps if op["op_name"] == "FULLY_CONNECTED"]
    (last,) = [op["inputs"][0] for op in steps if op["op_name"] == "DEQUANTIZE"]
    scale, zero = tensors[layer]
    expected = network(SAMPLES).numpy()
    error = float(np.abs(np.array(answers) - expected).max()) / tensors[last][0]
    return error, scale * (-128 - zero), float(np.min(answers)), float(expected.min())


lowest = float((SAMPLES @ WEIGHTS).min())
for activation, clipped in ((by_where, True), (by_leaky_relu, False)):
    error, start, least, right = quantized(activation)
    print(
        f"{activation.__name__}: the layer reaches down to {lowest:.2f}, its grid to {start:.2f}; "
        f"answers to {least:.2f} instead of {right:.2f}; largest error {error:.1f} steps"
    )
    assert (start > lowest / 2) == clipped, "the layer has another grid now"
    assert error > 30 if clipped else error < 4, "the answers are others now"
PY
