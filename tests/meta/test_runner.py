"""Every runner refuses what it cannot run and says what it takes; engines that are not the model's are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines.chain import Chain
from engines.errors import RunnerError
from engines.formats import registry
from engines.formats.onnx.runner import OnnxRunner
from engines.formats.savedmodel.runner import SavedModelRunner
from engines.formats.tflite.runner import TFLiteRunner
from engines.model import datasets
from engines.model.bundled import find_model
from engines.model.spec import InputSpec, OutputSpec
from engines.model.toml import load_model
from engines.runner import Runner, check_signature
from engines.variant import Variant
from fixtures.chain import CHAINS

TAKES = r"takes input_1: float32 \(N, 10, 8, 1\)"


@pytest.fixture(scope="session")
def digits(pytestconfig):
    """Chain of the bundled digits classifier, in the artifact folder of this run."""
    spec = load_model(find_model("digits_vgg"))
    store = next(iter(pytestconfig.stash[CHAINS].values())).store
    return Chain(spec, datasets.locate(spec.dataset, input_name=spec.inputs[0].name), store)


@pytest.fixture(scope="session", params=["savedmodel-fp32", "onnx-fp32", "onnx-int8", "tflite-fp32", "tflite-int8"])
def opened(request, digits):
    """A real runner of each format, with what is special about it: integers inside, or at its edges."""
    variant = Variant(*request.param.split("-"))
    if reason := registry.find(variant.format).unavailable():
        pytest.skip(reason)
    with digits.runner(variant) as runner:
        yield runner


def images(count=3):
    """Make samples in [0, 1], float32 (count, 10, 8, 1)."""
    return np.random.default_rng(0).random((count, 10, 8, 1), np.float32)


REFUSED = {
    "no inputs": ({}, r"given inputs named \[\]"),
    "another input": ({"image": images()}, r"given inputs named \['image'\]"),
    "an input too many": ({"input_1": images(), "x": images()}, r"given inputs named \['input_1', 'x'\]"),
    "float64": ({"input_1": images().astype(np.float64)}, "input 'input_1' is float64"),
    "float16": ({"input_1": images().astype(np.float16)}, "input 'input_1' is float16"),
    "bytes": ({"input_1": np.zeros((3, 10, 8, 1), np.uint8)}, "input 'input_1' is uint8"),
    "a list": ({"input_1": images().tolist()}, "input 'input_1' is list"),
    "one sample without the batch": ({"input_1": images()[0]}, r"input 'input_1' has shape \(10, 8, 1\)"),
    "an axis too many": ({"input_1": images()[..., None]}, r"input 'input_1' has shape \(3, 10, 8, 1, 1\)"),
    "height and width swapped": ({"input_1": images().swapaxes(1, 2)}, r"has shape \(3, 8, 10, 1\)"),
    "channels first": ({"input_1": images().transpose(0, 3, 1, 2)}, r"has shape \(3, 1, 10, 8\)"),
    "three channels": ({"input_1": images().repeat(3, axis=3)}, r"has shape \(3, 10, 8, 3\)"),
    "a single number": ({"input_1": np.array(0.5, np.float32)}, r"has shape \(\)"),
    "no samples": ({"input_1": images(0)}, "given no samples"),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_cannot_be_run_is_refused_with_what_is_taken(opened, refused):
    """The error names variant, model, what was given, and the names, dtypes and shapes that the runner takes."""
    inputs, message = REFUSED[refused]
    with pytest.raises(RunnerError, match=f"^{opened.variant} of digits_vgg: .*{message}.*{TAKES}"):
        opened(inputs)
    assert len(opened({"input_1": images()})["dense_1"]) == 3


def test_any_number_of_samples_is_taken_in_batches(opened):
    """More samples than a batch are split, the remainder included: one answer each, in their order."""
    assert opened.batch_size == 32
    samples = images(71)
    outputs = opened({"input_1": samples})["dense_1"]
    assert outputs.shape == (71, 10)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs[64:], opened({"input_1": samples[64:]})["dense_1"], atol=1e-5)


def test_a_closed_runner_refuses_and_closes_once(digits, opened):
    """After closing, a call says that the runner is closed; closing again does nothing."""
    with digits.runner(opened.variant) as runner:
        runner({"input_1": images()})
    runner.close()
    with pytest.raises(RunnerError, match=f"{opened.variant} of digits_vgg: the runner is closed; make a new one"):
        runner({"input_1": images()})


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(digits, opened, batch_size):
    """Zero is not taken for the default: the error says what is allowed."""
    message = f"{opened.variant}: batch_size is {batch_size}; allowed: 1 or more"
    with pytest.raises(RunnerError, match=message):
        digits.runner(opened.variant, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 7, 128])
def test_the_batch_size_asked_for_is_used(digits, opened, batch_size):
    """Other batch sizes than the profile's largest give the same answers."""
    samples = {"input_1": images(40)}
    with digits.runner(opened.variant, batch_size=batch_size) as runner:
        assert runner.batch_size == batch_size
        np.testing.assert_allclose(runner(samples)["dense_1"], opened(samples)["dense_1"], atol=1e-5)


def test_the_settings_say_what_was_chosen(opened):
    """Reports can state how an engine was run."""
    assert opened.settings
    assert all(opened.settings.values())


class Adding(Runner):
    """A model of two inputs that adds them, to see what is checked before any engine is called."""

    def _run(self, inputs):
        return {"sum": inputs["left"] + inputs["right"]}

    def _release(self):
        pass


def two_inputs(digits):
    """Describe a model of two inputs, one of them of dynamic length."""
    inputs = tuple(InputSpec(n, ("batch", "length"), "float32", (0.0, 1.0), n) for n in ("left", "right"))
    outputs = (OutputSpec("sum", ("batch", "length"), "float32", "values", "sum"),)
    return replace(digits.spec, name="adding", inputs=inputs, outputs=outputs, dimensions={"length": (4, 6)})


def test_inputs_that_disagree_on_the_number_of_samples_are_refused(digits):
    """The error gives the number of samples of each input; equal numbers run, whatever the dynamic length."""
    runner = Adding(two_inputs(digits), Variant("onnx", "fp32"))
    ones = np.ones((5, 4), np.float32)
    with pytest.raises(RunnerError, match=r"disagree on the number of samples: {'left': 5, 'right': 3}; takes left: "):
        runner({"left": ones, "right": ones[:3]})
    with pytest.raises(RunnerError, match=r"given inputs named \['left'\]; takes left: float32 \(N, length\), right: "):
        runner({"left": ones})
    np.testing.assert_array_equal(runner({"left": ones, "right": ones})["sum"], ones * 2)


# Engines and files


def test_only_the_provider_asked_for_is_used(digits):
    """A provider that the build lacks is an error that names it and those there are; nothing falls back to the CPU."""
    import onnxruntime

    path = digits.file(Variant("onnx", "fp32"))
    known = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "QNNExecutionProvider", "NoExecutionProvider")
    missing = [p for p in known if p not in onnxruntime.get_available_providers()]
    assert missing
    for provider in missing:
        with pytest.raises(RunnerError, match=f"provider '{provider}' is not in this build; allowed: .*CPUExec"):
            OnnxRunner(digits.spec, Variant("onnx", "fp32"), path, provider=provider)


def test_the_runner_says_which_provider_is_in_use(digits):
    """On the CPU provider that is what the settings and the session itself say, and nothing besides it."""
    with OnnxRunner(digits.spec, Variant("onnx", "fp32"), digits.file(Variant("onnx", "fp32"))) as runner:
        assert runner.settings["provider"] == "CPUExecutionProvider"
        assert runner._session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_a_file_that_is_no_engine_is_a_runner_error(digits, tmp_path, format_):
    """A damaged file is an error that names it, not a crash of the runtime."""
    variant = Variant(format_, "fp32")
    path = tmp_path / "damaged"
    path.write_bytes(digits.file(variant).read_bytes()[:5000])
    runner = {"onnx": OnnxRunner, "tflite": TFLiteRunner}[format_]
    with pytest.raises(RunnerError, match="cannot load it") as caught:
        runner(digits.spec, variant, path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_folder_that_is_no_saved_model_is_a_runner_error(digits, tmp_path):
    """A folder of something else is named, with what belongs there."""
    with pytest.raises(RunnerError, match=f"{tmp_path}: not a SavedModel; expected a folder with saved_model.pb"):
        SavedModelRunner(digits.spec, tmp_path)


# TFLite's integers


def details(dtype, scale, zero_point):
    """Describe a tensor as LiteRT's interpreter does, as far as the runner reads it."""
    shape = np.array([-1, 4], np.int32)
    return {"index": 0, "shape_signature": shape, "dtype": dtype, "quantization": (scale, zero_point)}


QUANTIZED = {
    "zero is the zero point": (np.int8, 0.5, -3, [0.0], [-3]),
    "one step is the scale": (np.int8, 0.5, -3, [0.5, -0.5, 10.0], [-2, -4, 17]),
    "halves go to the even step": (np.int8, 1.0, 0, [0.5, 1.5, 2.5, -0.5], [0, 2, 2, 0]),
    "beyond the range it saturates": (np.int8, 1 / 255, -128, [-1.0, 0.0, 1.0, 2.0, 1e9], [-128, -128, 127, 127, 127]),
    "unsigned integers saturate too": (np.uint8, 1 / 255, 0, [-0.1, 1.0, 7.0], [0, 255, 255]),
}


@pytest.mark.parametrize("quantized", QUANTIZED)
def test_inputs_are_quantized_by_scale_and_zero_point(quantized):
    """The integers are those of LiteRT's specification: rounded, moved by the zero point, saturated."""
    from engines.formats.tflite.runner import _Tensor

    dtype, scale, zero_point, values, expected = QUANTIZED[quantized]
    found = _Tensor(details(dtype, scale, zero_point)).quantize(np.array(values, np.float32))
    assert found.dtype == dtype
    assert found.tolist() == expected


def test_outputs_are_dequantized_by_scale_and_zero_point():
    """The floats are (q - zero point) times scale, the ends of the range included, without overflow."""
    from engines.formats.tflite.runner import _Tensor

    tensor = _Tensor(details(np.int8, 1 / 256, -128))
    found = tensor.dequantize(np.array([-128, -127, 0, 127], np.int8))
    assert found.dtype == np.float32
    assert found.tolist() == [0.0, 1 / 256, 0.5, 255 / 256]


def test_floats_are_left_alone():
    """A float tensor has no quantization: values go through as they are."""
    from engines.formats.tflite.runner import _Tensor

    values = np.array([0.1, -7.5], np.float32)
    tensor = _Tensor(details(np.float32, 0.0, 0))
    assert tensor.quantize(values) is values
    assert tensor.dequantize(values) is values


def test_the_int8_engine_itself_takes_and_gives_integers(digits):
    """The real INT8 engine has integers at both ends, inputs beyond the range saturate, and outputs are its steps."""
    variant = Variant("tflite", "int8")
    with digits.runner(variant) as runner:
        (taken,), (given,) = runner._inputs.values(), runner._outputs.values()
        assert taken.dtype == given.dtype == np.int8
        outputs = runner({"input_1": images(9)})["dense_1"]
        steps = outputs / given.scale + given.zero_point
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
        top = np.float32(taken.scale * (127 - taken.zero_point))
        white = np.full((1, 10, 8, 1), top, np.float32)
        np.testing.assert_array_equal(runner({"input_1": white})["dense_1"], runner({"input_1": white * 9})["dense_1"])


# The signature of an engine

SOUND = {"inputs": {"input_1": ("N", 10, 8, 1)}, "outputs": {"dense_1": (None, 10)}}
SIGNATURES = {
    "an input too many": (
        {"inputs": {"input_1": ("N", 10, 8, 1), "x": ("N",)}},
        "its inputs are named ['input_1', 'x']; digits_vgg has ['input_1'] ({source})",
    ),
    "no input": ({"inputs": {}}, "its inputs are named []; digits_vgg has ['input_1'] ({source})"),
    "no output": ({"outputs": {}}, "its outputs are named []; digits_vgg has ['dense_1'] ({source})"),
    "an output too many": (
        {"outputs": {"a": ("N", 10), "b": ("N", 10)}},
        "its outputs are named ['a', 'b']; digits_vgg has ['dense_1'] ({source})",
    ),
    "another rank": ({"inputs": {"input_1": ("N", 80)}}, "inputs 'input_1' has rank 2 (N, 80); expected (N, 10, 8, 1)"),
    "another size": (
        {"inputs": {"input_1": (-1, 8, 10, 1)}},
        "inputs 'input_1' has shape (N, 8, 10, 1); expected (N, 10, 8, 1)",
    ),
    "other classes": (
        {"outputs": {"dense_1": ("N", 12)}},
        "outputs 'dense_1' has shape (N, 12); expected (N, 10)",
    ),
    "a fixed batch": (
        {"inputs": {"input_1": (1, 10, 8, 1)}},
        "inputs 'input_1' has shape (1, 10, 8, 1), batch (axis 0) fixed to 1; expected it dynamic: (N, 10, 8, 1)",
    ),
    "a fixed batch of the output": (
        {"outputs": {"dense_1": (1, 10)}},
        "outputs 'dense_1' has shape (1, 10), batch (axis 0) fixed to 1; expected it dynamic: (N, 10)",
    ),
}


@pytest.mark.parametrize("signature", SIGNATURES)
def test_an_engine_of_another_signature_is_refused(digits, signature):
    """The error names the engine, the tensor, what was found and what the model has."""
    changed, message = SIGNATURES[signature]
    with pytest.raises(RunnerError) as caught:
        check_signature("mine.onnx", digits.spec, **{**SOUND, **changed})
    assert str(caught.value) == f"mine.onnx: {message}".replace("{source}", digits.spec.source)


ACCEPTED = {
    "the same names": ({}, ("input_1", "dense_1")),
    "another name of the only input": ({"inputs": {"input.1": ("N", 10, 8, 1)}}, ("input.1", "dense_1")),
    "another name of the only output": ({"outputs": {"Identity:0": (-1, 10)}}, ("input_1", "Identity:0")),
    "sizes that are not known": ({"outputs": {"dense_1": ("N", "classes")}}, ("input_1", "dense_1")),
}


@pytest.mark.parametrize("accepted", ACCEPTED)
def test_a_dynamic_signature_is_accepted_however_it_is_written(digits, accepted):
    """None, -1 and names all stand for a dynamic size; the engine's own names of input and output are given."""
    changed, (taken, given) = ACCEPTED[accepted]
    assert check_signature("mine", digits.spec, **{**SOUND, **changed}) == ({"input_1": taken}, {"dense_1": given})


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_names_count_where_there_are_several(digits, side):
    """Of two inputs or outputs of one shape only the names say which is which, so they have to be the model's."""
    (item,) = getattr(digits.spec, side)
    twins = [replace(item, name=name, signature_name=f"serving_{name}") for name in ("left", "right")]
    spec, (shape,) = replace(digits.spec, **{side: tuple(twins)}), SOUND[side].values()
    found = {**SOUND, side: {"serving_left": shape, "serving_right": shape}}
    assert getattr(check_signature("mine", spec, **found), side) == {t.name: t.signature_name for t in twins}
    found[side] = {"serving_left": shape, "other": shape}
    with pytest.raises(RunnerError, match=rf"its {side} are named \['other', 'serving_left'\]; .*'serving_right'\]"):
        check_signature("mine", spec, **found)


def test_an_interpreter_that_failed_is_not_asked_again(digits):
    """LiteRT may answer with memory that nobody wrote once it has failed: the next call has another interpreter."""
    variant = Variant("tflite", "fp32")
    inputs = digits.samples.inputs
    with TFLiteRunner(digits.spec, variant, digits.file(variant)) as runner:
        expected = runner(inputs)
        failing = runner._interpreter

        def fail():
            raise RuntimeError("Node number 14 (READ_VARIABLE) failed to invoke.")

        failing.invoke = fail
        with pytest.raises(RunnerError, match=r"LiteRT fails on a batch of 32: Node number 14 \(READ_VARIABLE\)"):
            runner(inputs)
        assert runner._interpreter is not failing
        for name, array in runner(inputs).items():
            np.testing.assert_array_equal(array, expected[name])
