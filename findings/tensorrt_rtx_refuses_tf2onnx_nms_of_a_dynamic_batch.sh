#!/usr/bin/env bash
# tf2onnx 1.17.0 with TensorRT for RTX 1.7.1.116: combined non-max suppression of a dynamic batch cannot become a plan.
#
# tf2onnx writes tf.image.combined_non_max_suppression with an EyeLike whose size is computed as the model runs. ONNX
# allows that, the checker passes it, and ONNX Runtime runs it; TensorRT's parser takes EyeLike of fixed sizes only. So a
# detector that ends in TensorFlow's own suppression converts, checks and agrees on a CPU, and is refused at the last
# step of its way to a GPU. Nothing in between tells.
# Seen: the ONNX has one EyeLike and runs in ONNX Runtime for batches of 1 and 3; the parser refuses it by that node.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0 tf2onnx==1.17.0 onnx==1.23.2 \
  onnxruntime==1.31.1 tensorrt_rtx_cu13_libs==1.7.1.116 tensorrt_rtx_cu13_bindings==1.7.1.116
cd "$folder"
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
"$folder/venv/bin/python" - 2> log <<'PY' || { cat log >&2; exit 1; }
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx


@tf.function(input_signature=[tf.TensorSpec([None, 20, 1, 4]), tf.TensorSpec([None, 20, 3])])
def suppressed(boxes, scores):
    return tf.image.combined_non_max_suppression(boxes, scores, 5, 5).nmsed_boxes


model, _ = tf2onnx.convert.from_function(suppressed, suppressed.input_signature, opset=17)
onnx.checker.check_model(model, full_check=True)
count = sum(node.op_type == "EyeLike" for node in model.graph.node)
print(f"EyeLike in the ONNX: {count}")
assert count == 1, "tf2onnx writes it otherwise now"

session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
names = [entry.name for entry in session.get_inputs()]
draw = np.random.default_rng(0)
for batch in (1, 3):
    corners = np.sort(draw.random((batch, 20, 1, 2, 2), np.float32), axis=3).reshape(batch, 20, 1, 4)
    answer = session.run(None, {names[0]: corners, names[1]: draw.random((batch, 20, 3), np.float32)})[0]
    print(f"ONNX Runtime, batch {batch}: {answer.shape}")
    assert answer.shape == (batch, 5, 4)

import tensorrt_rtx_libs  # noqa: E402, F401 - loads the libraries
import tensorrt_rtx_bindings as trt  # noqa: E402

logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, logger)
taken = parser.parse(model.SerializeToString())
said = [f"{error.node_operator()}: {error.desc()}" for error in (parser.get_error(i) for i in range(parser.num_errors))]
print(f"TensorRT for RTX takes it: {taken}; {said[0] if said else ''}")
assert not taken, "the parser takes it now"
assert said[0].startswith("EyeLike"), "it is another node now"
PY
