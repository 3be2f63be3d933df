"""ONNX INT8 is judged by what its file says: kernels whose sums saturate on a processor without VNNI are told of."""

from __future__ import annotations

import platform

import numpy as np
import pytest

from engines.errors import SpecError
from engines.formats import registry
from engines.formats.onnx import kernels
from engines.formats.onnx.runner import opened
from engines.variant import Variant
from fixtures.records import Beside

INT8 = Variant("onnx", "int8")


def quantized(path, size=64):
    """File of a product of ``size`` 8-bit numbers with as many weights, all the largest there are: 127 · 127 · size."""
    from onnx import TensorProto, helper, numpy_helper, save

    constants = {"scale": np.float32(1.0), "point": np.int8(0), "weights": np.full((size, 8), 127, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "point"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "point"], ["a"]),
        helper.make_node("DequantizeLinear", ["weights", "scale", "point"], ["b"]),
        helper.make_node("MatMul", ["a", "b"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "coarse", "point"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "coarse", "point"], ["y"]),
    ]
    constants["coarse"] = np.float32(127 * size)
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def shared(path):
    """File of three products with the same weights, dequantized once, and the sum of their results."""
    from onnx import TensorProto, helper, numpy_helper, save

    draw = np.random.default_rng(0)
    constants = {
        "scale": np.float32(0.05),
        "point": np.int8(0),
        "each": draw.uniform(0.01, 0.02, 8).astype(np.float32),
        "points": np.zeros(8, np.int8),
        "weights": draw.integers(-127, 128, (8, 8), np.int8),
    }

    def quantized(name):
        return [
            helper.make_node("QuantizeLinear", [name, "scale", "point"], [f"{name}.q"]),
            helper.make_node("DequantizeLinear", [f"{name}.q", "scale", "point"], [f"{name}.d"]),
        ]

    nodes = [helper.make_node("DequantizeLinear", ["weights", "each", "points"], ["w"], axis=1), *quantized("x")]
    for before, name in (("x", "a"), ("a", "b"), ("b", "c")):
        nodes += [helper.make_node("MatMul", [f"{before}.d", "w"], [name]), *quantized(name)]
    nodes.append(helper.make_node("Sum", ["a.d", "b.d", "c.d"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_a_file_that_shares_its_weights_is_loaded_for_the_exact_kernels(tmp_path):
    """Each node has a copy of the weights, which changes no answer, whatever the processor; else nothing is copied."""
    import onnxruntime as ort

    path = shared(tmp_path / "shared.onnx")
    given = {"x": np.random.default_rng(1).uniform(-1, 1, (16, 8)).astype(np.float32)}
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # floats in between: no kernel for integers
    expected = ort.InferenceSession(str(path), options).run(None, given)[0]
    found = opened(path, INT8).run(None, given)[0]
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-6)
    copied = kernels.unshared(path)
    np.testing.assert_allclose(ort.InferenceSession(copied, options).run(None, given)[0], expected, atol=1e-6)
    (tmp_path / "copied.onnx").write_bytes(copied)
    assert kernels.unshared(tmp_path / "copied.onnx") is None
    assert kernels.unshared(quantized(tmp_path / "product.onnx")) is None


def answered(path, by):
    """What the kernels answer to the largest inputs."""
    session = opened(path, INT8, int8_kernels=by)
    return session.run(None, {"x": np.full((4, 64), 127, np.float32)})[0]


def test_the_exact_kernels_add_without_saturation(tmp_path):
    """The sum of the largest 8-bit products is what arithmetic says, on any processor."""
    np.testing.assert_array_equal(answered(quantized(tmp_path / "product.onnx"), kernels.EXACT), 127.0 * 127 * 64)


def test_the_usual_kernels_differ_where_it_is_said(tmp_path):
    """What Linux tells of this processor foretells whether the usual kernels saturate here."""
    usual = answered(quantized(tmp_path / "product.onnx"), kernels.USUAL)
    assert (usual != 127.0 * 127 * 64).any() == kernels.differ()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 fma", True),
        ("fpu avx2 avx512f avx512bw", True),
        ("fpu avx2 avx_vnni", False),
        ("fpu avx2 avx512f avx512_vnni", False),
        ("", False),
    ],
)
def test_a_processor_is_known_by_its_flags(tmp_path, monkeypatch, flags, expected):
    """x86-64 without VNNI has kernels that saturate; of a processor that says nothing nothing is claimed."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nflags\t\t: {flags}\n" if flags else "Features\t: asimd\n")
    assert kernels.differ.__wrapped__(info) == expected
    assert not kernels.differ.__wrapped__(tmp_path / "missing")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert not kernels.differ.__wrapped__(info)


def test_other_kernels_are_refused():
    """A name of no kernels is one line that says what is allowed."""
    with pytest.raises(SpecError, match="--onnx-int8-kernels fast: there are no such kernels; allowed: exact, usual"):
        registry.settings({"onnx-int8-kernels": ["fast"]})


@pytest.mark.parametrize("beyond", [True, False])
def test_what_is_not_judged_is_told_with_what_to_do(beyond):
    """The line of the other kernels says how far they are off, that it decides nothing, and how to have it judged."""
    usual, exact = {"y": np.zeros((2, 2))}, {"y": np.array([[0.5, 0.0], [0.0, 0.0]])}
    why = kernels.advice(kernels.EXACT)
    found = str(Beside.of(kernels.WAYS[kernels.USUAL], exact, usual, beyond=beyond, advice=why))
    assert found.startswith("ONNX Runtime's usual INT8 kernels answer 25.0% of values otherwise, by up to 0.5")
    assert ("beyond the limits, which decides nothing here" in found) == beyond
    assert found.endswith("--onnx-int8-kernels=usual judges them" if beyond else "(within the limits)")
