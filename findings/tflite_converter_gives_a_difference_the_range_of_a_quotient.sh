#!/usr/bin/env bash
# TensorFlow 2.21.0's TFLite converter: in full INT8, x - mean gets the range of (x - mean) / deviation if a convolution
# reads the quotient, and its own range if nothing does.
#
# Pictures are often brought to mean 0 and deviation 1 inside a model. The converter makes that SUB, SQUARED_DIFFERENCE,
# RSQRT and MUL. Alone, SUB has a grid over its own values, -0.07 to 0.85 here. With a convolution behind MUL, SUB has the
# grid of MUL, -0.66 to 7.75, though SUB is no operator whose ends need one grid: its steps are nine times as coarse, and
# what MUL multiplies by up to 9 is rounded to whole steps of its own result before. No message tells of it.
# Seen: 64 pictures, which are the representative data too. SUB's step is 0.0036 alone, and 0.033 with the convolution;
# what it gives is off by up to 0.0038 and 0.018.
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
PICTURES = 0.1 * draw.random((64, 8, 8, 1)).astype(np.float32)
PICTURES[:, 3, 3, 0] = 0.9
FILTERS = draw.normal(size=(3, 3, 1, 4)).astype(np.float32)


def standard(x):
    centred = x - tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
    return centred / tf.sqrt(tf.reduce_mean(tf.square(centred), axis=[1, 2, 3], keepdims=True))


def quantized(convolved):
    """The step of SUB's result, and its largest error."""

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1])])
    def network(x):
        return tf.nn.conv2d(standard(x), FILTERS, 1, "SAME") if convolved else standard(x)

    made = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.representative_dataset = lambda: ([p[None]] for p in PICTURES)
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    engine = Interpreter(model_content=made.convert(), experimental_preserve_all_tensors=True)
    engine.allocate_tensors()
    (end,) = [op["outputs"][0] for op in engine._get_ops_details() if op["op_name"] == "SUB"]
    scale, zero = next(t["quantization"] for t in engine.get_tensor_details() if t["index"] == end)
    worst = 0.0
    for picture in PICTURES:
        engine.set_tensor(engine.get_input_details()[0]["index"], picture[None])
        engine.invoke()
        difference = scale * (engine.get_tensor(end).astype(np.float64) - zero)
        worst = max(worst, float(np.abs(difference - (picture - picture.mean())).max()))
    return scale, worst


centred = PICTURES - PICTURES.mean(axis=(1, 2, 3), keepdims=True)
own = float(centred.max() - centred.min()) / 255
for convolved, times in ((False, 1), (True, 9)):
    step, error = quantized(convolved)
    behind = "a convolution behind it" if convolved else "nothing behind it"
    print(f"{behind}: SUB's step is {step:.4f}, {step / own:.1f} times its own; it is off by up to {error:.4f}")
    assert round(step / own) == times, "SUB has another grid now"
    assert 0.3 < error / step < 1.5, "SUB gives something else now"
PY
