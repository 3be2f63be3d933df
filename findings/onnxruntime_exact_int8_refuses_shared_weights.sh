#!/usr/bin/env bash
# ONNX Runtime 1.31.1: on x86-64 without VNNI the setting that makes INT8 exact refuses a model that uses weights twice.
#
# There the usual INT8 kernels add two products of 8 bits in 16 bits, which saturate. Signed weights with signed
# activations, the default of quantize_static, are hit as well as U8S8, which the documentation names. The session's
# setting session.x64quantprecision = 1 has the sums exact: weights are turned into unsigned ones when the model is
# loaded. Where two products take the same quantized weights (tied embeddings, a layer that is called twice) that fails,
# and the session is not made: the second product's weights would have the name of the first one's.
# Seen on an AMD EPYC with AVX2 and no VNNI: 64 products of 127 and 127 come to a hundredth of what they are by the usual
# kernels, and to what they are by the exact ones. With the weights taken once the model loads with the setting; taken
# twice it raises "Attempt to replace the existing tensor", and loads without. Where there is VNNI, the setting changes
# nothing and all models load.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2
cd "$folder"
"$folder/venv/bin/python" - 2> log <<'PY' || { cat log >&2; exit 1; }
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

SIZE = 64
ALL = 127 * 127 * SIZE
flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "").split()
saturates = "avx2" in flags and not {"avx512_vnni", "avx_vnni"} & set(flags)


def model(times):
    """So many products in a row with the same weights; of one the result is the largest there can be."""
    constants = {
        "one": np.float32(1),
        "coarse": np.float32(127 * SIZE),
        "zero": np.int8(0),
        "weights": np.full((SIZE, SIZE), 127, np.int8),
    }
    nodes = [helper.make_node("DequantizeLinear", ["weights", "one", "zero"], ["w"])]
    name, scale = "x", "one"
    for i in range(times):
        nodes += [
            helper.make_node("QuantizeLinear", [name, scale, "zero"], [f"q{i}"]),
            helper.make_node("DequantizeLinear", [f"q{i}", scale, "zero"], [f"d{i}"]),
            helper.make_node("MatMul", [f"d{i}", "w"], [f"m{i}"]),
        ]
        name, scale = f"m{i}", "coarse"
    nodes += [
        helper.make_node("QuantizeLinear", [name, "coarse", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "coarse", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, SIZE])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


def session(times, exact):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(model(times), options, providers=["CPUExecutionProvider"])


def refusal(times, exact):
    try:
        session(times, exact)
    except Exception as error:
        return str(error)
    return ""


largest = {"x": np.full((4, SIZE), 127, np.float32)}
usual, exact = (session(1, how).run(None, largest)[0].max() / ALL for how in (False, True))
assert ort.__version__ == "1.31.1"
assert exact == 1.0, exact
assert refusal(2, False) == ""
if saturates:
    assert usual < 0.1, usual
    assert "Attempt to replace the existing tensor" in refusal(2, True), refusal(2, True)
    print(f"no VNNI: the usual kernels give {usual:.0%} of the sum, the exact ones all; weights taken twice are refused")
else:
    assert usual == 1.0, usual
    assert refusal(2, True) == ""
    print("VNNI, or no AVX2: the sums are exact, and weights taken twice load: run it where AVX2 is all there is")
PY
