"""The windows of a brought file are compared with those of the model's own, and told where nothing else explains it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from conformance.diagnose import diagnose
from engines.formats.onnx.windows import windows as onnx_windows
from engines.formats.tflite.windows import windows as tflite_windows
from engines.variant import Variant
from engines.windows import Window, differing

OWN = [Window("Conv", "3x3", "SAME_UPPER", True), Window("MaxPool", "2x2 in steps of 2x2")]


def written(path, **pool):
    """Write an ONNX of a convolution and a pooling; gives the path."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    operator = pool.pop("operator", "MaxPool")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
        helper.make_node(operator, ["c"], ["y"], kernel_shape=[2, 2], strides=[2, 2], **pool),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 1, 8, 8] if n == "x" else None) for n in "xy"]
    weights = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    graph = helper.make_graph(nodes, "pooled", values[:1], values[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


def test_windows_of_an_onnx_are_read_off_it(tmp_path):
    """Operator, size, steps and padding, as they stand in the file."""
    assert onnx_windows(written(tmp_path / "own.onnx")) == OWN


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ({"operator": "AveragePool"}, "AveragePool of 2x2 in steps of 2x2 for MaxPool of 2x2 in steps of 2x2"),
        ({"dilations": [2, 2]}, "MaxPool of 2x2 in steps of 2x2 with gaps of 2x2 for MaxPool of 2x2 in steps of 2x2"),
        (
            {"pads": [1, 1, 0, 0]},
            "MaxPool of 2x2 in steps of 2x2 padded [1, 1, 0, 0] for MaxPool of 2x2 in steps of 2x2",
        ),
        ({}, ""),
    ],
)
def test_another_window_is_told_beside_the_models_own(tmp_path, pool, words):
    """A pooling of another kind, gap or padding is told; none where the two are alike."""
    assert differing(onnx_windows(written(tmp_path / "other.onnx", **pool)), OWN) == words


def test_nothing_is_told_of_files_that_write_layers_otherwise():
    """Neither of another number of windows, nor of padding in numbers beside padding by name."""
    assert differing(OWN[:1], OWN) == ""
    assert differing([Window("Conv", "3x3", "[1, 1, 1, 1]"), OWN[1]], OWN) == ""


def test_windows_of_a_tflite_are_read_off_it(digits):
    """The convolutions of the bundled model have one TFLite operator each, in its sizes and steps."""
    found = tflite_windows(digits.file(Variant("tflite", "fp32")))
    assert (
        Counter(w.operator for w in found)["CONV_2D"]
        == Counter(w.operator for w in onnx_windows(digits.file(Variant("onnx", "fp32"))))["Conv"]
    )
    assert {w.words for w in found if w.operator == "CONV_2D"} == {"3x3"}
    assert differing(found, found) == ""


def test_another_window_is_the_cause_where_no_usual_mistake_is():
    """It comes before what is left, and is not told as tried."""
    reference = {"y": np.random.default_rng(0).random((8, 4)).astype(np.float32)}
    actual = {"y": np.random.default_rng(1).random((8, 4)).astype(np.float32)}
    same = {"run": lambda _: actual, "alone": lambda _: actual, "agrees": lambda _: False, "scores": "y"}
    found = diagnose({"x": reference["y"]}, actual, reference, **same, windows=lambda: "AveragePool for MaxPool")
    assert found.text == "its windows are not those of the model's own file: AveragePool for MaxPool"
    assert not found.proved
