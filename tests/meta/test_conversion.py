"""What converters do not know or cannot hold is an error that says so, and what they can be taught they convert."""

from __future__ import annotations

import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from engines.errors import ConversionError
from engines.formats.onnx.build import FILE, build_fp32, build_int8
from engines.formats.onnx.build_fp16 import build_fp16
from engines.formats.onnx.layers import layers as onnx_layers
from engines.formats.onnx.runner import OnnxRunner
from engines.formats.savedmodel.build import FILE as SAVED_MODEL
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.savedmodel.runner import SavedModelRunner
from engines.formats.tflite import apart, recipe
from engines.formats.tflite.build import build_tflite
from engines.formats.tflite.layers import layers
from engines.formats.tflite.recipe import check_a_brought_one_runs
from engines.model.derive import derive_spec
from engines.model.spec import Calibration
from engines.precision import described
from engines.variant import Variant
from tests.meta.few import few

WIDE = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
CALIBRATION = Calibration(samples=32, batch=8)
INPUTS = {"x": np.random.default_rng(1).random((32, 6), np.float32)}


def gelu(tf, x):
    """Take the exact GELU, which Keras writes with Erfc."""
    return (x - 0.5) * 0.5 * tf.math.erfc(-(x - 0.5) * np.float32(np.sqrt(0.5))) @ WIDE


def recurrent(tf, x):
    """Multiply by weights inside of a loop alone."""
    square = tf.constant(np.eye(6, dtype=np.float32) / 2)
    _, y = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y @ square)), (tf.constant(0), x))
    return y


def listed(tf, x):
    """Keep a list of tensors whose shape is not known, as a dynamic recurrent layer does."""
    steps = tf.TensorArray(tf.float32, 3, element_shape=(None, 6))
    _, steps = tf.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s.write(i, x)), (tf.constant(0), steps))
    return tf.reduce_sum(steps.stack(), axis=0) @ WIDE


def compiled(tf, x):
    """Call a function that XLA compiles, as Keras does with a grouped convolution."""
    return tf.function(lambda y: tf.tanh(y @ WIDE), jit_compile=True)(x)


def matrices(tf, x):
    """Multiply two parts by a matrix each, between two layers."""
    parts = tf.reshape(tf.tanh(x @ WIDE @ WIDE.T), (-1, 2, 1, 3))
    return tf.reshape(parts @ tf.constant(np.stack([WIDE[:3], WIDE[3:]])), (-1, 6)) @ WIDE


def embedded(tf, x):
    """Take two layers and their residuals behind a table, under a mask that the inputs make."""
    table = tf.constant(WIDE @ WIDE.T)
    chosen = tf.gather(table, tf.cast(x * 5, tf.int32))
    scores = chosen @ tf.transpose(chosen, (0, 2, 1)) + (tf.cast(x > 0.5, tf.float32)[:, None, :] - 1) * 1e9
    mixed = chosen + tf.nn.softmax(scores) @ (chosen @ tf.constant(WIDE @ WIDE.T * 0.5))
    return tf.reduce_mean(mixed + tf.tanh(mixed @ tf.constant(WIDE @ WIDE.T * 0.2)), axis=1) @ WIDE


def residual(tf, x):
    """Add two layers to the inputs, and take a third of that."""
    x = x + tf.tanh(x @ tf.constant(WIDE @ WIDE.T * 0.5))
    return (x + tf.tanh(x @ tf.constant(WIDE @ WIDE.T * 0.2))) @ WIDE


def products(tf, x):
    """Multiply by weights inside of a loop alone, and activations by each other."""
    y = tf.tanh(recurrent(tf, x))[:, :, None]
    return tf.reduce_sum(y @ tf.transpose(y, (0, 2, 1)), axis=1)


MODELS = {
    "embedded": embedded,
    "residual": residual,
    "products": products,
    "compiled": compiled,
    "matrices": matrices,
    "a large value": lambda tf, x: 25_000 * tf.tanh(x @ WIDE) + 300_000,
    "a large softplus": lambda tf, x: tf.nn.softplus(x @ (WIDE * 1e4)),
    "a bound": lambda tf, x: tf.minimum(x @ WIDE, 1e9),
    "gelu": gelu,
    "lgamma": lambda tf, x: tf.math.lgamma(x + 1) @ WIDE,
    "recurrent": recurrent,
    "listed": listed,
    "one layer": lambda tf, x: x @ WIDE,
    "two layers": lambda tf, x: tf.tanh(x @ WIDE) @ WIDE.T,
    "no weights": lambda tf, x: tf.tanh(x),
    "large weights": lambda tf, x: tf.tanh(x @ (WIDE * 1e6)),
    "a mask": lambda tf, x: tf.nn.softmax(x @ WIDE + tf.constant([[0.0, -1e9, 0.0]])),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Function that saves one of the models; it gives the SavedModel and its description."""
    tf, known = tensorflow(), {}

    def call(name):
        if name not in known:
            module = tf.Module()
            module.f = tf.function(lambda x: {"scores": MODELS[name](tf, x)})
            signature = module.f.get_concrete_function(x=tf.TensorSpec((None, 6), tf.float32, "x"))
            folder = tmp_path_factory.mktemp("saved") / name.replace(" ", "_")
            tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
            known[name] = folder, derive_spec(folder, None)
        return known[name]

    return call


@pytest.fixture(scope="module")
def onnx_fp32(saved, tmp_path_factory):
    """Function that converts one of the models to ONNX; it gives the file and the description."""
    known = {}

    def call(name):
        if name not in known:
            (folder, spec), target = saved(name), tmp_path_factory.mktemp("onnx")
            build_fp32(folder, spec, target)
            known[name] = target / FILE, spec
        return known[name]

    return call


@pytest.mark.slow
def test_an_exact_gelu_is_converted(saved, onnx_fp32):
    """TensorFlow's Erfc, which neither tf2onnx nor ONNX has, gives the SavedModel's answers."""
    folder, spec = saved("gelu")
    with SavedModelRunner(spec, folder) as runner:
        expected = runner(INPUTS)["scores"]
    with OnnxRunner(spec, Variant("onnx", "fp32"), onnx_fp32("gelu")[0]) as runner:
        np.testing.assert_allclose(runner(INPUTS)["scores"], expected, atol=1e-6)


def test_an_operator_that_tf2onnx_does_not_know_is_named(saved, tmp_path):
    """The operator and its layer are said, and what to leave out; not that the file is unsound."""
    folder, spec = saved("lgamma")
    with pytest.raises(ConversionError, match=r"tf2onnx does not know Lgamma of layer '.*Lgamma'.* leave onnx and"):
        build_fp32(folder, spec, tmp_path)


def test_a_call_that_xla_compiles_is_inlined(saved, onnx_fp32):
    """What such a function computes is converted like any other part."""
    folder, spec = saved("compiled")
    with SavedModelRunner(spec, folder) as runner:
        expected = runner(INPUTS)["scores"]
    with OnnxRunner(spec, Variant("onnx", "fp32"), onnx_fp32("compiled")[0]) as runner:
        np.testing.assert_allclose(runner(INPUTS)["scores"], expected, atol=1e-6)


def test_what_tflites_converter_met_is_said(saved, tmp_path):
    """The converter's own reason is in the message, and what to leave out."""
    folder, spec = saved("listed")
    with pytest.raises(ConversionError) as caught:
        build_tflite(folder, spec, "fp32", tmp_path)
    assert "'tf.TensorListReserve' op requires element_shape to be static" in str(caught.value)
    assert "leave tflite out of this model's precisions (docs/models.md)" in str(caught.value)


def test_a_converter_that_crashes_fails_its_own_variant(saved, tmp_path):
    """A segmentation fault of TFLite's converter is an error of one line, with what to do, and this process lives."""
    folder, spec = saved("a large softplus")
    made = replace(spec, calibration=CALIBRATION)
    job = SimpleNamespace(spec=made, variant=Variant("tflite", "int8"), calibration=INPUTS)
    (tmp_path / "saved").mkdir()
    job.made = SimpleNamespace(folder=tmp_path / "saved")
    (tmp_path / "saved" / SAVED_MODEL).symlink_to(folder)
    with pytest.raises(ConversionError, match=r"converter crashed while it made int8.* leave int8 out.*SIG[A-Z]+\)$"):
        recipe.build(job, tmp_path)


def test_what_a_process_apart_says_is_said_here(saved, tmp_path):
    """The result, and an EngineError, come back from the process as they are; anything else is no conversion error."""
    assert apart.call(len, [1, 2], crashed="it crashed") == 2
    folder, spec = saved("listed")
    with pytest.raises(ConversionError, match=r"element_shape to be static"):
        apart.call(build_tflite, folder, spec, "fp32", tmp_path, crashed="it crashed")
    with pytest.raises(RuntimeError, match=r"len failed"):
        apart.call(len, 3, crashed="it crashed")
    with pytest.raises(ConversionError, match=r"it crashed \(SIGKILL\)"):
        apart.call(signal.raise_signal, signal.SIGKILL, crashed="it crashed")


@pytest.mark.parametrize("kept", [False, True])
def test_a_tflite_file_whose_variables_hold_nothing_is_refused(tmp_path, kept):
    """LiteRT would answer with memory that nobody wrote: who exported it is told, and one that lists them is built."""
    import keras

    tf = tensorflow()
    given = keras.Input((6,))
    model = keras.Model(given, keras.layers.Dense(3)(given))
    module = tf.Module()
    module.model, module.kept = model, [v.value for v in model.variables] if kept else []
    module.f = tf.function(lambda x: {"scores": model(x, training=False)})
    signature = module.f.get_concrete_function(x=tf.TensorSpec((None, 6), tf.float32, "x"))
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": signature})
    spec = derive_spec(tmp_path / "saved", None)
    if kept:
        build_tflite(tmp_path / "saved", spec, "fp32", tmp_path)
        return
    x = np.ones((16, 6), np.float32)
    for precision in ("fp32", "int8"):
        with pytest.raises(ConversionError, match=r"leaves variables without their values \(READ_VARIABLE\)"):
            build_tflite(
                tmp_path / "saved",
                spec,
                precision,
                tmp_path,
                samples={"x": x},
                calibration=replace(spec.calibration, samples=16),
            )
    # Whoever converts it elsewhere has the same file, which nothing refuses to write.
    brought = tmp_path / "brought.tflite"
    brought.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert())
    with pytest.raises(ConversionError, match=r"brought\.tflite: it reads variables that nothing in it gives a value"):
        check_a_brought_one_runs(brought, spec, {"x": x})


@pytest.mark.parametrize("name, left", [pytest.param("one layer", 0, marks=pytest.mark.slow), ("two layers", 1)])
def test_int8_quantizes_the_first_layer_where_there_is_no_other(onnx_fp32, tmp_path, name, left):
    """What is called INT8 has a layer that is so."""
    path, spec = onnx_fp32(name)
    details = build_int8(path, spec, INPUTS, CALIBRATION, tmp_path)
    assert len(details["left_in_fp32"]) == left
    assert details["operators"]["DequantizeLinear"] >= 2


@pytest.mark.slow
def test_int8_leaves_a_batch_of_matrices_in_fp32(onnx_fp32, tmp_path):
    """ONNX Runtime raises at such weights on every run: the file that is built runs, and has other layers in INT8."""
    path, spec = onnx_fp32("matrices")
    details = build_int8(path, spec, INPUTS, CALIBRATION, tmp_path)
    assert len(details["left_in_fp32"]) == 2
    assert details["operators"]["DequantizeLinear"] >= 2
    with OnnxRunner(spec, Variant("onnx", "int8"), tmp_path / FILE) as runner:
        assert runner(INPUTS)["scores"].shape == (32, 3)


@pytest.mark.parametrize("name, left", [("embedded", 0), ("residual", 1)])
def test_int8_quantizes_what_the_inputs_reach_beside_a_layer(onnx_fp32, tmp_path, name, left):
    """A residual, a table or a mask makes no first layer of those behind: their weights are INT8."""
    path, spec = onnx_fp32(name)
    details = build_int8(path, spec, INPUTS, CALIBRATION, tmp_path)
    found = [layer.precision for layer in onnx_layers(tmp_path / FILE)]
    assert sorted(found) == ["fp32"] * left + ["int8"] * (3 - left)
    assert [*details["left_in_fp32"].values()] == ["takes the inputs before any layer with weights"] * left


@pytest.mark.parametrize("name", few(["recurrent", "no weights", "products"], "products"))
def test_int8_that_would_quantize_nothing_is_refused(onnx_fp32, tmp_path, name):
    """A graph whose weights are all FP32 is never called INT8: the quantizer leaves alone what is inside of loops."""
    path, spec = onnx_fp32(name)
    with pytest.raises(ConversionError, match=r"found nothing to quantize: .* leave int8 out"):
        build_int8(path, spec, INPUTS, CALIBRATION, tmp_path)


def test_a_loop_is_built_in_fp16(onnx_fp32, tmp_path):
    """What is inside of a loop computes in FP16, too, and answers as FP32 does."""
    import onnx

    path, spec = onnx_fp32("recurrent")
    build_fp16(path, spec, tmp_path)
    (weights,) = (t for t in onnx.load(str(tmp_path / FILE)).graph.initializer if len(t.dims) == 2)
    assert weights.data_type == onnx.TensorProto.FLOAT16
    with (
        OnnxRunner(spec, Variant("onnx", "fp32"), path) as wide,
        OnnxRunner(spec, Variant("onnx", "fp16"), tmp_path / FILE) as half,
    ):
        np.testing.assert_allclose(half(INPUTS)["scores"], wide(INPUTS)["scores"], atol=1e-3)


def test_weights_beyond_fp16_are_refused(onnx_fp32, tmp_path):
    """The file, the operator, the constant and its value are named, and what to do; a mask beyond it is clamped."""
    path, spec = onnx_fp32("large weights")
    said = r"model.onnx: MatMul '.+': constant '.+' reaches 2.33e\+06, beyond FP16's largest value 65504; leave fp16"
    with pytest.raises(ConversionError, match=said):
        build_fp16(path, spec, tmp_path)
    path, spec = onnx_fp32("a mask")
    details = build_fp16(path, spec, tmp_path)
    assert len(details["clamped"]) == 1
    assert not details["kept_in_fp32"]
    assert not details["constants_moved"]


def test_layers_inside_of_a_loop_of_a_tflite_are_found(saved, tmp_path):
    """What precision a TFLite has is read off the body of its loop, too, which is a graph of its own."""
    folder, spec = saved("recurrent")
    build_tflite(folder, spec, "fp32", tmp_path)
    assert described(layers(tmp_path / "model.tflite")) == "layers with weights: 1 FP32"


@pytest.mark.parametrize("name", few(["large weights", "a large value"], "a large value"))
def test_constants_that_tflite_moves_to_fp16s_ends_are_refused(saved, tmp_path, name):
    """Weights and others beyond 65504 are named with their operator: the converter clamps them without a word."""
    folder, spec = saved(name)
    with pytest.raises(ConversionError, match=r"constants '.+' of [A-Z_]+ reach beyond FP16's largest value 65504"):
        build_tflite(folder, spec, "fp16", tmp_path)


@pytest.mark.parametrize("name", ["a mask", "a bound"])
def test_a_mask_or_a_bound_beyond_fp16_is_no_weight(saved, tmp_path, name):
    """A constant that only has to be far beyond everything else is sound where it stands."""
    folder, spec = saved(name)
    assert build_tflite(folder, spec, "fp16", tmp_path) == {}
    assert (tmp_path / "model.tflite").is_file()
