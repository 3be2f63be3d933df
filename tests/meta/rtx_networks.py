"""Small ONNX files for TensorRT for RTX: what it builds, and what it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SHAPES = {"x": [[1, 8, 8, 4], [4, 8, 8, 4], [8, 8, 8, 4]]}
"""The profile of their input, as the build command takes it."""

JOB = {"shapes": SHAPES, "targets": ["SM86"]}


def dense(path: Path, dtype: str = "float32", *, nodes=(), quantized: bool = False) -> Path:
    """Write a convolution and a product; ``nodes`` follow the first, to which ``quantized`` puts Q/DQ nodes."""
    import onnx
    from onnx import helper

    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(16, 4, 3, 3)).astype(dtype)
    matrix = generator.normal(size=(16, 8)).astype(dtype)
    constants = [onnx.numpy_helper.from_array(kernel, "kernel"), onnx.numpy_helper.from_array(matrix, "matrix")]
    before, weights, graph = "moved", "kernel", []
    graph.append(helper.make_node("Transpose", ["x"], ["moved"], name="transpose", perm=[0, 3, 1, 2]))
    if quantized:
        constants += [
            onnx.numpy_helper.from_array(np.float32(0.05), "step"),
            onnx.numpy_helper.from_array(np.int8(0), "zero"),
        ]
        for name in ("moved", "kernel"):
            graph.append(
                helper.make_node("QuantizeLinear", [name, "step", "zero"], [f"{name}_q"], name=f"quantize_{name}")
            )
            graph.append(
                helper.make_node(
                    "DequantizeLinear", [f"{name}_q", "step", "zero"], [f"{name}_dq"], name=f"dequantize_{name}"
                )
            )
        before, weights = "moved_dq", "kernel_dq"
    graph.append(helper.make_node("Conv", [before, weights], ["found"], name="convolution"))
    graph += [helper.make_node(*node[:3], name=node[3], domain=node[4]) for node in nodes]
    graph.append(helper.make_node("ReduceMean", ["found"], ["mean"], name="mean", axes=[2, 3], keepdims=0))
    graph.append(helper.make_node("MatMul", ["mean", "matrix"], ["y"], name="product"))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    made = helper.make_graph(
        graph,
        "dense",
        [helper.make_tensor_value_info("x", kind, ["batch", 8, 8, 4])],
        [helper.make_tensor_value_info("y", kind, ["batch", 8])],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), str(path))
    return path
