"""An ONNX file that draws at random, or runs as in training, is refused by name: no answer on a CPU may tell of it."""

from __future__ import annotations

import numpy as np
import pytest

from engines.errors import ConversionError, SpecError
from engines.formats.onnx.discovery import discover
from engines.formats.onnx.inference import check_inference

FEATURES = 16


def written(path, *nodes, constants=()):
    """Write a file of these nodes from 'x' to 'y'."""
    import onnx
    from onnx import helper, numpy_helper

    float32 = onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(name, float32, ["N", FEATURES]) for name in "xy"]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()]
    graph = helper.make_graph(list(nodes), "one", values[:1], values[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def dropout(**constants):
    """Dropout between input and output, with its ratio and its flag."""
    from onnx import helper

    return [helper.make_node("Dropout", ["x", "ratio", "training"], ["y"], "drop")], {
        "ratio": np.float32(0.1),
        "training": np.bool_(True),
        **constants,
    }


def normalization(**attributes):
    """Normalization between input and output, of the batch where it says so."""
    from onnx import helper

    outputs = ["y", "mean", "var"] if attributes else ["y"]
    node = helper.make_node("BatchNormalization", ["x", "one", "zero", "zero", "one"], outputs, "norm", **attributes)
    return [node], {"one": np.ones(FEATURES, np.float32), "zero": np.zeros(FEATURES, np.float32)}


def noise():
    """Noise that is added to the input."""
    from onnx import helper

    nodes = [helper.make_node("RandomNormalLike", ["x"], ["n"], "noise"), helper.make_node("Add", ["x", "n"], ["y"])]
    return nodes, {}


def branches():
    """Dropout in a branch; the other branch passes 'x' on."""
    from onnx import TensorProto, helper

    def branch(*nodes):
        output = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", FEATURES])
        return helper.make_graph(list(nodes), "b", [], [output])

    own = helper.make_node("Dropout", ["x", "ratio", "training"], ["z"], "inner")
    other = helper.make_node("Identity", ["x"], ["z"])
    node = helper.make_node("If", ["training"], ["y"], then_branch=branch(own), else_branch=branch(other))
    return [node], dropout()[1]


WRONG = {
    "an active dropout": (dropout, r"the node 'drop' \(Dropout\) drops values at random, as in training"),
    "one inside of a branch": (branches, r"'inner' \(Dropout\) drops values at random"),
    "normalization over the batch": (
        lambda: normalization(training_mode=1),
        r"'norm' \(BatchNormalization\) normalizes by",
    ),
    "random numbers": (noise, r"'noise' \(RandomNormalLike\) draws its answer at random"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_model_for_inference_is_refused(tmp_path, wrong):
    """The node, its operator and what to do are named, for a file beside a SavedModel and for one alone."""
    made, message = WRONG[wrong]
    nodes, constants = made()
    path = written(tmp_path / "mine.onnx", *nodes, constants=constants)
    with pytest.raises(ConversionError, match=message):
        check_inference(path)
    with pytest.raises(SpecError, match=rf"^--onnx mine: .*{message}.*training=False"):
        discover(path, "--onnx mine")


@pytest.mark.parametrize(
    "sound",
    [lambda: dropout(training=np.bool_(False)), lambda: dropout(ratio=np.float32(0)), normalization],
    ids=["inactive dropout", "nothing dropped", "stored mean and variance"],
)
def test_what_answers_the_same_is_taken(tmp_path, sound):
    """A Dropout that is off, or drops nothing, and a normalization by stored figures are no fault."""
    nodes, constants = sound()
    check_inference(written(tmp_path / "mine.onnx", *nodes, constants=constants))


def test_an_answer_need_not_tell_of_an_active_dropout(tmp_path):
    """Between other operators ONNX Runtime's optimizer deletes it, which is why the file itself is looked at."""
    import onnxruntime as ort
    from onnx import helper

    constants = {"ratio": np.float32(0.5), "training": np.bool_(True)}
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Dropout", ["a", "ratio", "training"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    path = str(written(tmp_path / "mine.onnx", *nodes, constants=constants))
    inputs = np.ones((64, FEATURES), np.float32)
    np.testing.assert_array_equal(ort.InferenceSession(path).run(None, {"x": inputs})[0], inputs)
    as_written = ort.SessionOptions()
    as_written.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert (ort.InferenceSession(path, as_written).run(None, {"x": inputs})[0] == 0).any()
