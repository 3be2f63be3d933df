#!/usr/bin/env bash
# LiteRT 2.3.0: comparisons of INT8 (GREATER, LESS, …) ignore all below 1/256, and fail from a scale of 1 on.
#
# The kernels turn both sides into whole multiples of 1/256, whatever their scales, and compare those. Values that differ
# by less are equal to them, however fine their own grids are. Of a scale of 1 or more, so for a tensor that reaches
# beyond 255, nothing is greater and nothing is less. TensorFlow's converter makes such a comparison of every tf.where,
# mask or threshold that it quantizes, and neither it nor the interpreter says a word.
# Seen (TensorFlow 2.21.0 as the converter, LiteRT 2.3.0 with its delegate, its built-in and its reference kernels alike):
# is x greater than half of its range? 256 values each, the constant exactly on its own grid. For x in [0, 1] and
# [0, 254] all answers are right. For [0, 0.2] four are wrong, 0.1004 to 0.1027. For [0, 0.002] 122 of the 128 that are
# greater are missed, and for [0, 257] and [0, 1000] all 128. LESS misses all 128 for [0, 0.002] and [0, 1000].
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
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def wrong(name, most, kernels):
    """Values of 256 in [0, most] that are compared wrongly with most / 2 in INT8."""
    values = np.linspace(0, most, 256, dtype=np.float32)

    @tf.function(input_signature=[tf.TensorSpec([1, 1])])
    def compared(x):
        return getattr(tf, name)(x, tf.constant([[most / 2]], tf.float32))

    made = tf.lite.TFLiteConverter.from_concrete_functions([compared.get_concrete_function()])
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.representative_dataset = lambda: ([v.reshape(1, 1)] for v in values)
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    engine = Interpreter(model_content=made.convert(), experimental_op_resolver_type=kernels)
    engine.allocate_tensors()
    tensors = engine.get_tensor_details()
    sides = [t for t in tensors if t["dtype"] == np.int8]
    assert len(sides) == 2, "it is not compared in INT8 now"
    (constant,) = [t for t in sides if np.isclose(t["quantization"][0] * 255, most / 2)]
    (grid,) = [t["quantization"][0] for t in sides if t is not constant]
    # Only values that are no nearer to the constant than half a step of their own may be told wrongly.
    told = []
    for value in values:
        engine.set_tensor(engine.get_input_details()[0]["index"], value.reshape(1, 1))
        engine.invoke()
        told.append(bool(engine.get_tensor(engine.get_output_details()[0]["index"])))
    expected = (values > most / 2) if name == "greater" else (values < most / 2)
    far = np.abs(values - most / 2) >= 0.49 * grid
    return values[(np.array(told) != expected) & far]


SEEN = {("greater", 1.0): 0, ("greater", 254.0): 0, ("greater", 0.2): 4, ("greater", 0.002): 122}
SEEN |= {("greater", 257.0): 128, ("greater", 1000.0): 128, ("less", 0.002): 128, ("less", 1000.0): 128}
for (name, most), count in SEEN.items():
    for kernels in (OpResolverType.AUTO, OpResolverType.BUILTIN, OpResolverType.BUILTIN_REF):
        found = wrong(name, most, kernels)
        some = f", {found.min():g} to {found.max():g}" if len(found) else ""
        print(f"{name} than {most / 2:g} of [0, {most:g}], {kernels.name}: {len(found)} of 256 are wrong{some}")
        assert len(found) == count, "it compares otherwise now"
PY
