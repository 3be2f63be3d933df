#!/usr/bin/env bash
# ONNX Runtime 1.31.1: quantize_static(nodes_to_exclude=[""]) leaves every node without a name in FP32, without a word.
#
# Node names are optional in ONNX, and graphs that are written by hand or by some exporters have none. A tool that lists
# the names of nodes to keep in FP32, and meets such a node, passes "" and gets a file that is called INT8 and holds no
# quantized weight. No warning tells of it: sizes and answers stay those of FP32, so comparing answers cannot show it.
# Seen: without the list both matrix products have their weights in INT8; with the empty name none has.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import contextlib
import io
import logging

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

draw = np.random.default_rng(0)
weights = [draw.normal(size=(8, 8)).astype(np.float32) for _ in range(2)]
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w0"], ["h"]), helper.make_node("MatMul", ["h", "w1"], ["y"])],
    "two_products",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
    [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "fp32.onnx")


class Samples(CalibrationDataReader):
    def __init__(self):
        self.left = [{"x": draw.normal(size=(4, 8)).astype(np.float32)} for _ in range(4)]

    def get_next(self):
        return self.left.pop() if self.left else None


def stored_in_int8(name, **options):
    quantize_static("fp32.onnx", name, Samples(), quant_format=QuantFormat.QDQ, **options)
    stored = onnx.load(name).graph.initializer
    return sum(i.data_type == TensorProto.INT8 and len(i.dims) == 2 for i in stored)


said = io.StringIO()
logging.getLogger().addHandler(logging.StreamHandler(said))
whole = stored_in_int8("whole.onnx")
before = said.getvalue()
excluded = stored_in_int8("excluded.onnx", nodes_to_exclude=[""])
more = set(said.getvalue().splitlines()) - set(before.splitlines())
print(f"onnxruntime {onnxruntime.__version__}: weights in INT8: {whole} of 2; with nodes_to_exclude=[''] {excluded} of 2; said more: {more or 'nothing'}")
assert (whole, excluded, more) == (2, 0, set())
PY
