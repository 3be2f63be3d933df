"""An ONNX file that draws at random, or runs as in training, is refused by name: no answer on a CPU may tell of it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ConversionError, SpecError
from engines.formats.onnx.discovery import discover
from engines.formats.onnx.inference import check_inference

FEATURES = 16

FLOAT, BOOL = TensorProto.FLOAT, TensorProto.BOOL


def written(path, *nodes, constants=()):
    """Write a file of these nodes from 'x' to 'y'."""
    values = [helper.make_tensor_value_info(name, FLOAT, ["N", FEATURES]) for name in "xy"]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()]
    graph = helper.make_graph(list(nodes), "one", values[:1], values[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def dropout(**constants):
    """Dropout between input and output, with its ratio and its flag."""
    return [helper.make_node("Dropout", ["x", "ratio", "training"], ["y"], "drop")], {
        "ratio": np.float32(0.1),
        "training": np.bool_(True),
        **constants,
    }


def normalization(**attributes):
    """Normalization between input and output, of the batch where it says so."""
    outputs = ["y", "mean", "var"] if attributes else ["y"]
    node = helper.make_node("BatchNormalization", ["x", "one", "zero", "zero", "one"], outputs, "norm", **attributes)
    return [node], {"one": np.ones(FEATURES, np.float32), "zero": np.zeros(FEATURES, np.float32)}


def noise():
    """Noise that is added to the input."""
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["n"], "noise"), helper.make_node("Add", ["x", "n"], ["y"])]
    return nodes, {}


def branches(name, constants):
    """Put a node from 'x' to 'y' into a branch; the other one passes 'x' on."""

    def branch(*nodes):
        return helper.make_graph(list(nodes), "b", [], [helper.make_tensor_value_info("z", FLOAT, ["N", FEATURES])])

    own = helper.make_node("Dropout", ["x", "ratio", "training"], ["z"], name)
    other = helper.make_node("Identity", ["x"], ["z"])
    node = helper.make_node("If", ["training"], ["y"], then_branch=branch(own), else_branch=branch(other))
    return [node], constants


WRONG = {
    "an active dropout": (dropout(), r"the node 'drop' \(Dropout\) drops values at random, as in training"),
    "one inside of a branch": (branches("inner", dropout()[1]), r"'inner' \(Dropout\) drops values at random"),
    "normalization over the batch": (normalization(training_mode=1), r"'norm' \(BatchNormalization\) normalizes by"),
    "random numbers": (noise(), r"'noise' \(RandomNormalLike\) draws its answer at random"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_model_for_inference_is_refused(tmp_path, wrong):
    """The node, its operator and what to do are named, for a file beside a SavedModel and for one alone."""
    (nodes, constants), message = WRONG[wrong]
    path = written(tmp_path / "mine.onnx", *nodes, constants=constants)
    with pytest.raises(ConversionError, match=message):
        check_inference(path)
    with pytest.raises(SpecError, match=rf"^--onnx mine: .*{message}.*training=False"):
        discover(path, "--onnx mine")


@pytest.mark.parametrize(
    "sound",
    [dropout(training=np.bool_(False)), dropout(ratio=np.float32(0)), normalization()],
    ids=["inactive dropout", "nothing dropped", "stored mean and variance"],
)
def test_what_answers_the_same_is_taken(tmp_path, sound):
    """A Dropout that is off, or drops nothing, and a normalization by stored figures are no fault."""
    nodes, constants = sound
    check_inference(written(tmp_path / "mine.onnx", *nodes, constants=constants))


def test_an_answer_need_not_tell_of_an_active_dropout(tmp_path):
    """Between other operators ONNX Runtime's optimizer deletes it, which is why the file itself is looked at."""
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
