"""A number that takes all of INT8's range is named as the cause of what vanishes beside it."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.cause import Cause
from conformance.diagnose import diagnose
from conformance.location import Location
from engines.formats.onnx.swamped import swamped_by as in_onnx
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.tflite.build import FILE, build_tflite
from engines.formats.tflite.swamped import swamped_by as in_tflite
from engines.model.derive import derive_spec
from engines.model.spec import Calibration
from engines.swamped import Held, swamped

MASK, SCORES = Held("net/mask", -1e9, 0.0), Held("net/scores", -3.0, 3.0)


def test_what_is_less_than_a_step_vanishes():
    """The mask, the step, and what vanishes are named, with what to do; the other way round nothing is."""
    (found,) = swamped("ADD", "net/add", 1e9 / 255, [MASK, SCORES])
    assert (found.by, found.lost) == (MASK, SCORES)
    assert str(found) == (
        "-1e+09 in 'net/mask' takes the whole INT8 range of ADD 'net/add', whose step is 3.9e+06: all that "
        "'net/scores' can hold (-3 to 3) is less than a step, and vanishes; before a softmax a mask of -30 does as "
        "much, and all else is to be kept in float"
    )


@pytest.mark.parametrize(
    "inputs",
    [
        [SCORES, Held("net/mask", -30.0, 0.0)],
        [MASK, Held("epsilon", 0.0, 1e-6, constant=True)],
        [SCORES, Held("net/small", -1.0, 1.0)],
    ],
)
def test_what_shows_in_the_result_is_no_cause(inputs):
    """A mask of -30, a constant that only keeps a divisor from zero, and a smaller branch are sound."""
    step = max(held.most - held.least for held in inputs) / 255
    assert not list(swamped("ADD", "net/add", step, inputs))


def masked(tf, x, mask):
    """Attend to inputs above a half."""
    scores = x[:, :, None] * tf.reverse(x, [1])[:, None, :] * 4.0
    y = tf.nn.softmax(scores + (tf.cast(x > 0.5, tf.float32)[:, None, :] - 1.0) * -mask)
    return tf.reduce_sum(y @ x[:, :, None] @ tf.constant([[1.0, 2.0]]), axis=1)


@pytest.mark.parametrize("mask, found", [(-1e9, True), (-30.0, False)])
def test_a_mask_is_found_in_a_tflite_file(tmp_path, mask, found):
    """The converter's own file of a mask of minus a billion is read, and one of -30 names nothing."""
    tf = tensorflow()
    module = tf.Module()
    module.f = tf.function(lambda x: {"scores": masked(tf, x, mask)})
    signature = module.f.get_concrete_function(x=tf.TensorSpec((None, 6), tf.float32, "x"))
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": signature})
    x = np.random.default_rng(1).random((32, 6), np.float32)
    build_tflite(
        tmp_path / "saved",
        derive_spec(tmp_path / "saved", None),
        "int8",
        tmp_path,
        samples={"x": x},
        calibration=Calibration(samples=32, batch=8),
    )
    told = in_tflite(tmp_path / FILE)
    assert bool(told) == found
    if found:
        assert told[0].operator == "ADD"
        assert told[0].by.least == pytest.approx(-1e9, rel=0.01)


@pytest.mark.parametrize("mask, found", [(-1e9, True), (-30.0, False)])
def test_a_mask_is_found_in_a_file_with_q_dq(tmp_path, mask, found):
    """An ONNX file that was quantized throughout says the same by its Q/DQ nodes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    scales = {"a": 6 / 255, "m": -mask / 255, "s": -mask / 255}
    nodes = []
    for name in ("a", "m"):
        nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}/scale", f"{name}/zero"], [f"{name}/q"]))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}/q", f"{name}/scale", f"{name}/zero"], [f"{name}/d"])
        )
    nodes.append(helper.make_node("Add", ["a/d", "m/d"], ["s"], name="add"))
    nodes.append(helper.make_node("QuantizeLinear", ["s", "s/scale", "s/zero"], ["s/q"]))
    nodes.append(helper.make_node("DequantizeLinear", ["s/q", "s/scale", "s/zero"], ["y"]))
    stored = [numpy_helper.from_array(np.float32(scale), f"{name}/scale") for name, scale in scales.items()]
    stored += [numpy_helper.from_array(np.int8(0 if name == "a" else 127), f"{name}/zero") for name in scales]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("a", "m", "y")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", made[:2], made[2:], stored)), tmp_path / "model.onnx")
    told = in_onnx(tmp_path / "model.onnx")
    assert [(one.operator, one.by.name, one.lost.name) for one in told] == [("Add", "m", "a")] * found


def test_a_cause_in_the_file_is_told_and_no_line_denies_it():
    """Where nothing else explains a difference the operator is the cause; "no layer is beyond" is left out."""
    rng = np.random.default_rng(0)
    reference, actual = ({"a": rng.normal(size=(32, 3)).astype(np.float32)} for _ in range(2))
    inputs = {"x": rng.random((32, 4), np.float32)}
    told = diagnose(
        inputs,
        actual,
        reference,
        run=lambda _: actual,
        alone=lambda _: actual,
        agrees=lambda _: False,
        scores=None,
        converted="int8",
        swamped=lambda: "the mask takes it all",
    )
    assert told == Cause("the mask takes it all", located=True)
    assert Location().lines(named=True) == []
    assert Location().lines() == ["  located    no layer is beyond its own noise (0 tensors compared)"]
