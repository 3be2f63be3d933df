"""A user's own files: each mistake is one error that names option, file, what was found and what is allowed."""

from __future__ import annotations

import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conformance.compare import ANY
from engines.chain import Chain
from engines.errors import DataError, EngineError, SpecError
from engines.formats import registry
from engines.formats.onnx.runner import OnnxRunner
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.savedmodel.reference import reference_outputs
from engines.formats.savedmodel.runner import SavedModelRunner
from engines.formats.tensorrt import build as tensorrt_build
from engines.formats.tensorrt import packages as tensorrt_packages
from engines.formats.tensorrt import versions as tensorrt_versions
from engines.formats.tflite.runner import TFLiteRunner
from engines.model import selection
from engines.model.brought import TESTED, brought_engine, make_samples, read_samples
from engines.model.bundled import find_model
from engines.model.datasets import locate
from engines.model.derive import derive_spec
from engines.model.samples import Samples
from engines.model.spec import BATCH
from engines.model.toml import load_model
from engines.store import Store
from engines.variant import Variant
from fixtures.chain import artifact_folder
from tests import test_consistency
from tests.meta.apart import environment_apart
from tests.meta.few import few
from trial.rules import rule_of

ROOT = Path(__file__).resolve().parents[2]
SHAPE, CLASSES = (8, 6, 3), 5
PIXELS = 8 * 6 * 3


def images(count=130, seed=0):
    """Make samples in [0, 1], float32 (count, 8, 6, 3)."""
    return np.random.default_rng(seed).random((count, *SHAPE), np.float32)


# SavedModels, each of one function: its inputs and what it computes.


def scores_of(x):
    """Compute class scores: decided ones, so that the rounding of INT8 does not turn them."""
    tf = tensorflow()
    weights = np.random.default_rng(7).standard_normal((PIXELS, CLASSES)).astype(np.float32)
    return tf.reshape(x, (-1, PIXELS)) @ tf.constant(weights)


def saved_models():
    """Describe the SavedModels: input shapes and dtypes by name, the function, and the signature's name."""
    tf = tensorflow()
    image = {"x": ((None, *SHAPE), tf.float32)}
    return {
        "probabilities": (image, lambda x: {"scores": tf.nn.softmax(scores_of(x))}, "serving_default"),
        "logits": (image, lambda x: {"scores": scores_of(x)}, "serving_default"),
        "scores and boxes": (
            image,
            lambda x: {"scores": tf.nn.softmax(scores_of(x)), "boxes": tf.reshape(scores_of(x)[:, :4], (-1, 2, 2))},
            "serving_default",
        ),
        "dynamic sizes": (
            {"x": ((None, None, None, 3), tf.float32)},
            lambda x: {"scores": tf.nn.softmax(tf.reduce_mean(x, (1, 2)))},
            "serving_default",
        ),
        "features": ({"x": ((None, 7), tf.float32)}, lambda x: {"y": tf.nn.softmax(x)}, "serving_default"),
        "another signature": (image, lambda x: {"scores": scores_of(x)}, "predict"),
        "a fixed batch": ({"x": ((1, *SHAPE), tf.float32)}, lambda x: {"scores": scores_of(x)}, "serving_default"),
        "a batch fixed inside": (
            image,
            lambda x: {"scores": scores_of(x + tf.ones((2, *SHAPE)))},
            "serving_default",
        ),
        "an integer input": (
            {"x": ((None, *SHAPE), tf.int32)},
            lambda x: {"scores": scores_of(tf.cast(x, tf.float32))},
            "serving_default",
        ),
        "a double input": (
            {"x": ((None, *SHAPE), tf.float64)},
            lambda x: {"scores": scores_of(tf.cast(x, tf.float32))},
            "serving_default",
        ),
        "a double output": (image, lambda x: {"best": tf.cast(scores_of(x), tf.float64)}, "serving_default"),
        # For TFLite files of other signatures.
        "another input name": (
            {"pixels": ((None, *SHAPE), tf.float32)},
            lambda pixels: {"scores": tf.nn.softmax(scores_of(pixels))},
            "serving_default",
        ),
        "another rank": (
            {"x": ((None, PIXELS), tf.float32)},
            lambda x: {"scores": tf.nn.softmax(scores_of(x))},
            "serving_default",
        ),
        "another shape": (
            {"x": ((None, 4, 4, 9), tf.float32)},
            lambda x: {"scores": tf.nn.softmax(scores_of(x))},
            "serving_default",
        ),
        "other classes": (image, lambda x: {"scores": tf.nn.softmax(scores_of(x)[:, :4])}, "serving_default"),
    }


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    """Function that saves the SavedModel of a name, once, and gives its folder."""
    tf = tensorflow()
    root = tmp_path_factory.mktemp("saved_models")

    def save(name):
        folder = root / name.replace(" ", "_")
        if not folder.exists():
            inputs, function, signature = saved_models()[name]
            specs = {key: tf.TensorSpec(shape, dtype, key) for key, (shape, dtype) in inputs.items()}
            module = tf.Module()
            module.f = tf.function(function)
            signatures = {signature: module.f.get_concrete_function(**specs)}
            tf.saved_model.save(module, str(folder), signatures=signatures)
        return folder

    return save


@pytest.fixture(scope="session")
def spec(saved_model):
    """Derived description of the good SavedModel, with inputs in [0, 1] and five classes."""
    return derive_spec(saved_model("probabilities"), None)


# --samples


def write_npz(path, **arrays):
    """Write arrays as numpy.savez does."""
    np.savez(path, **arrays)


def changed(index, value):
    """Make samples of which one element is another value."""
    x = images()
    x[index] = value
    return x


def labels(count=130):
    """Make a label for each sample."""
    return np.arange(count) % CLASSES


BAD_ARRAYS = {
    "a single image without the batch": (
        {"x": images()[0]},
        r"'x' has shape \(8, 6, 3\); expected \(N, 8, 6, 3\)",
    ),
    "channels first": (
        {"x": images().transpose(0, 3, 1, 2)},
        r"'x' has shape \(130, 3, 8, 6\); expected \(N, 8, 6, 3\)",
    ),
    "a single number": ({"x": np.float32(0.5)}, r"'x' has shape \(\); expected \(N, 8, 6, 3\)"),
    "float64": ({"x": images().astype(np.float64)}, "'x' is float64; expected float32"),
    "float16": ({"x": images().astype(np.float16)}, "'x' is float16; expected float32"),
    "bytes of pixels": ({"x": np.zeros((9, *SHAPE), np.uint8)}, "'x' is uint8; expected float32"),
    "text": ({"x": np.array(["a", "b"])}, "'x' is <U1; expected float32"),
    "values up to 255": ({"x": images() * 255}, r"'x' has values from \d.* to 25\d\.?\d*; expected \[0, 1\]"),
    "negative values": ({"x": images() - np.float32(0.5)}, r"'x' has values from -0\.\d+ to .*; expected \[0, 1\]"),
    "no samples": ({"x": images()[:0]}, r"'x' is empty, shape \(0, 8, 6, 3\); expected one sample or more"),
    "a NaN": ({"x": changed((3, 2, 1, 0), np.nan)}, r"'x' has 1 NaN or infinite values, the first at \(3, 2, 1, 0\)"),
    "an infinity": (
        {"x": changed((4, 0, 0, 2), -np.inf)},
        r"has 1 NaN or infinite values, the first at \(4, 0, 0, 2\)",
    ),
    "pickled objects": ({"x": np.array([{}, []], object)}, "holds pickled objects, which can run code"),
    "pickled labels": ({"x": images(), "labels": np.array([None] * 130)}, "holds pickled objects"),
    "fewer labels": (
        {"x": images(), "labels": labels(129)},
        r"'labels' is int64 of shape \(129,\); expected integers of \(130,\)",
    ),
    "one-hot labels": (
        {"x": images(), "labels": np.eye(CLASSES, dtype=np.int64)[labels()]},
        r"'labels' is int64 of shape \(130, 5\); expected integers of \(130,\)",
    ),
    "a single label": ({"x": images(), "labels": np.int64(3)}, r"'labels' is int64 of shape \(\)"),
    "a label beyond the classes": (
        {"x": images(), "labels": labels() + 1},
        "'labels' go from 1 to 5; expected 0 to 4",
    ),
    "a negative label": ({"x": images(), "labels": labels() - 1}, "'labels' go from -1 to 3; expected 0 to 4"),
    "labels of floats": ({"x": images(), "labels": labels().astype(np.float32)}, "'labels' is float32 of shape"),
    "labels of truth values": ({"x": images(), "labels": labels() > 2}, "'labels' is bool of shape"),
    "no input": ({"labels": labels()}, r"holds \['labels'\]; expected \['x'\], and 'labels' if there are any"),
    "another input name": ({"pixels": images()}, r"holds \['pixels'\]; expected \['x'\]"),
    "a name too many": ({"x": images(), "y": images()}, r"holds \['x', 'y'\]; expected \['x'\]"),
    "nothing": ({}, r"holds \[\]; expected \['x'\]"),
}


@pytest.mark.parametrize("bad", BAD_ARRAYS)
def test_samples_of_the_wrong_kind_are_refused(spec, tmp_path, bad):
    """Wrong names, shapes, dtypes, ranges and labels are one error with option, file, what was found and expected."""
    arrays, message = BAD_ARRAYS[bad]
    path = tmp_path / "mine.npz"
    write_npz(path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        read_samples(path, spec)
    assert str(caught.value).startswith(f"--samples {path}: ")


def test_labels_of_a_model_without_class_scores_are_refused_with_what_to_do(spec, tmp_path):
    """Labels beside a single probability are one error that says to leave them out, or how to give class scores."""
    single = replace(spec.outputs[0], shape=(BATCH, 1), kind="values")
    write_npz(tmp_path / "mine.npz", x=images(), labels=labels())
    with pytest.raises(DataError, match=r"no output of class scores .*--kind=OUTPUT=logits, leave them out, or"):
        read_samples(tmp_path / "mine.npz", replace(spec, outputs=(single,)))


def npz_bytes(tmp_path, save=np.savez):
    """Bytes of a sound file."""
    path = tmp_path / "sound.npz"
    save(path, x=images())
    return path.read_bytes()


def npy_bytes(tmp_path):
    """Bytes of an array without a name."""
    path = tmp_path / "sound.npy"
    np.save(path, images())
    return path.read_bytes()


def foreign_zip(tmp_path):
    """Bytes of a zip whose members are no arrays."""
    path = tmp_path / "foreign.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "a text")
    return path.read_bytes()


BAD_FILES = {
    "a text": (lambda _: b"not an archive", "is no .npz, it starts with b'not an'; expected an .npz made by"),
    "an empty file": (lambda _: b"", "expected an .npz made by numpy.savez"),
    "a pickle": (lambda _: pickle.dumps({"x": images(2)}), "is no .npz, .*; expected an .npz made by numpy.savez"),
    "an array without a name": (npy_bytes, "is an .npy of one unnamed array; expected an .npz"),
    "the first half": (lambda p: npz_bytes(p)[:20_000], "cannot be read: .*; expected an .npz"),
    "all but the last byte": (lambda p: npz_bytes(p)[:-1], "expected an .npz made by numpy.savez"),
    "a zip of something else": (foreign_zip, "expected an .npz made by numpy.savez"),
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_a_file_that_holds_no_arrays_is_refused(spec, tmp_path, bad):
    """What is no .npz, or is damaged, is one error that names the file and what makes a good one."""
    make, message = BAD_FILES[bad]
    path = tmp_path / "mine.npz"
    path.write_bytes(make(tmp_path))
    with pytest.raises(DataError, match=message) as caught:
        read_samples(path, spec)
    assert str(caught.value).startswith(f"--samples {path}: ")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["plain", "compressed"])
def test_a_damaged_byte_never_escapes_as_another_error(spec, tmp_path, save):
    """Wherever a byte is damaged, the file is refused as data or was not harmed where it matters."""
    content = npz_bytes(tmp_path, save)
    path = tmp_path / "mine.npz"
    edges = [*range(0, 160), *range(len(content) - 120, len(content))]
    places = [*edges, *np.random.default_rng(0).integers(0, len(content), 60)]
    refused = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read_samples(path, spec)
        except DataError:
            refused += 1
    assert refused > len(places) // 2


def test_a_missing_file_and_a_folder_are_named(spec, tmp_path):
    """Neither a path that leads nowhere nor a folder is read."""
    for path in (tmp_path / "nowhere.npz", tmp_path):
        with pytest.raises(DataError, match=r"no such file; expected an \.npz") as caught:
            read_samples(path, spec)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("count", [1, 3, 100, 130, 500])
def test_good_samples_come_out_as_they_were_written(spec, tmp_path, count):
    """Arrays and labels are the file's, in its order, whatever integer dtype the labels have."""
    path = tmp_path / "mine.npz"
    write_npz(path, x=images(count), labels=labels(count).astype(np.uint8))
    data = read_samples(path, spec)
    np.testing.assert_array_equal(data.test().inputs["x"], images(count))
    np.testing.assert_array_equal(data.test().labels, labels(count))
    assert data.labelled
    assert data.test_count == count
    assert str(path) in data.source


def test_samples_without_labels_say_so(spec, tmp_path):
    """Without labels everything but accuracy is checked, and the reason names the file."""
    path = tmp_path / "mine.npz"
    write_npz(path, x=images())
    data = read_samples(path, spec)
    assert not data.labelled
    assert data.test().labels is None
    assert data.unlabelled_reason == f"the samples of {path} hold no array 'labels'"


def test_calibration_is_apart_from_the_tested_samples_where_there_are_enough(spec, tmp_path):
    """With enough samples, those that calibrate are none of those that are tested."""
    count = spec.calibration.samples
    path = tmp_path / "mine.npz"
    write_npz(path, x=images(TESTED + count))
    data = read_samples(path, spec)
    calibration = data.calibration(count)
    assert len(calibration) == count
    tested = {row.tobytes() for row in data.test(TESTED).inputs["x"]}
    assert tested.isdisjoint({row.tobytes() for row in calibration.inputs["x"]})


def test_a_few_samples_still_calibrate(spec, tmp_path):
    """With fewer, all of them are taken in turn, so that the measured ranges are theirs."""
    path = tmp_path / "mine.npz"
    write_npz(path, x=images(3))
    calibration = read_samples(path, spec).calibration(320).inputs["x"]
    np.testing.assert_array_equal(calibration, images(3)[np.arange(320) % 3])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_samples_show_the_signature(spec, tmp_path, count):
    """The signature is checked on as many samples as there are: a file with a single one is no failure."""
    tiny_onnx(tmp_path / "sound.onnx")
    with OnnxRunner(spec, Variant("onnx", "fp32"), tmp_path / "sound.onnx") as runner:
        test_consistency.test_signature_is_that_of_the_model(spec, runner, Samples({"x": images(count)}, None))


# --saved-model


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("probabilities", {"scores": ("probabilities", (BATCH, 5))}),
        # No softmax follows, and no label says a class.
        ("logits", {"scores": ("values", (BATCH, 5))}),
        ("scores and boxes", {"scores": ("probabilities", (BATCH, 5)), "boxes": ("values", (BATCH, 2, 2))}),
    ],
)
def test_a_saved_model_is_described_from_its_signature(saved_model, name, outputs):
    """Names, shapes and kinds of inputs and outputs are those of serving_default."""
    folder = saved_model(name)
    spec = derive_spec(folder, None)
    assert [(i.name, i.shape, i.dtype) for i in spec.inputs] == [("x", (BATCH, *SHAPE), "float32")]
    assert {o.name: (o.kind, o.shape) for o in spec.outputs} == outputs
    assert spec.saved_model == folder
    assert spec.name == folder.name


RANGES = {
    "pixels in [0, 1]": (0.0, 1.0, (0.0, 1.0)),
    "pixels in [-1, 1]": (-1.0, 1.0, (-1.0, 1.0)),
    "pixels in [0, 255]": (0.0, 255.0, (0.0, 255.0)),
    "anything else as it is": (-3.0, 900.0, (-3.0, 900.0)),
    "a constant": (999.0, 999.0, (999.0, 1000.0)),
}


@pytest.mark.parametrize("case_", RANGES)
def test_the_range_is_that_of_the_samples(saved_model, tmp_path, case_):
    """The first usual range that holds the samples is taken, or their own; the samples then fit it."""
    low, high, expected = RANGES[case_]
    x = images()
    x.flat[:2] = 0, 1
    path = tmp_path / "mine.npz"
    write_npz(path, x=(low + (high - low) * x).astype(np.float32))
    spec = derive_spec(saved_model("probabilities"), path)
    assert spec.inputs[0].range == expected
    assert read_samples(path, spec).test_count == len(x)


def test_dynamic_sizes_are_those_of_the_samples(saved_model, tmp_path):
    """Sizes that the signature leaves open are checked at the samples' sizes; without samples they are asked for."""
    folder, path = saved_model("dynamic sizes"), tmp_path / "mine.npz"
    write_npz(path, x=np.zeros((4, 12, 9, 3), np.float32))
    spec = derive_spec(folder, path)
    assert spec.concrete_shape(spec.inputs[0], 2) == (2, 12, 9, 3)
    with pytest.raises(SpecError, match=r"has dynamic dimensions .*; give --samples that show their sizes"):
        derive_spec(folder, None)


def test_samples_are_made_for_a_saved_model_that_came_without(spec):
    """Enough crops of photographs are made to test and to calibrate, of the input's shape, within its range."""
    data = make_samples(spec)
    x = data.test().inputs["x"]
    assert x.shape == (TESTED + spec.calibration.samples, *SHAPE)
    assert x.dtype == np.float32
    assert 0 <= x.min() < x.max() <= 1
    assert len(data.calibration(spec.calibration.samples)) == spec.calibration.samples
    np.testing.assert_array_equal(make_samples(spec).test().inputs["x"], x)


def test_one_class_throughout_is_refused_where_the_range_is_assumed(spec, tmp_path):
    """Made samples have to get two classes: to a model of pixels up to 255 they are black, and show nothing kept."""
    several = np.eye(CLASSES, dtype=np.float32)
    one = np.float32([[0.5, 0.5, 0, 0, 0], [0.9, 0.1, 0, 0, 0]])

    def check(data, samples, contrast):
        chain, others = Chain(spec, data, Store(tmp_path)), SimpleNamespace(reference={"scores": contrast})
        test_consistency.test_the_reference_tells_samples_apart("mine", chain, {"scores": samples}, others)

    made = make_samples(spec)
    assert "their range [0, 1] is assumed: --samples=FILE.npz" in made.source
    with pytest.raises(AssertionError, match=r"all 4 .* same class of 'scores', .* \[0, 1\] was assumed: give --s"):
        check(made, one, one)
    with pytest.raises(AssertionError, match=r"all 2 samples alike.* \[0, 1\] was assumed: give --samples"):
        check(made, one[:1].repeat(2, axis=0), several)
    check(made, several, one)
    check(made, one, several)
    # Probabilities have a size of their own.
    with pytest.raises(AssertionError, match=r"all 5 samples alike, within 1.0e-06 of the largest"):
        check(made, several * 1e-6, several)
    write_npz(tmp_path / "mine.npz", x=images(2))
    check(read_samples(tmp_path / "mine.npz", spec), one, one)


def test_samples_are_asked_for_where_the_input_is_no_image(saved_model):
    """Features have no photographs: the error asks for --samples."""
    spec = derive_spec(saved_model("features"), None)
    with pytest.raises(SpecError, match=r"'x' \(7,\) is no image .*; give --samples FILE.npz"):
        make_samples(spec)


BAD_SAVED_MODELS = {
    "another signature": r"its signatures are \['predict'\]; expected 'serving_default' among them: choose one by "
    r"--signature predict, or export it again",
    "a fixed batch": r"its input 'x' is float32 \(1, 8, 6, 3\); expected a dynamic batch: export it again with",
    "a batch fixed inside": "cannot run 4 samples",
    "a double input": r"its input 'x' is float64 \(None, 8, 6, 3\); expected float32 or .*: export a function that",
    "a double output": r"its output 'best' is float64; expected float32 \| int8",
}


@pytest.mark.parametrize("bad", BAD_SAVED_MODELS)
def test_a_saved_model_that_cannot_be_described_is_refused(saved_model, bad):
    """What --saved-model cannot take is one error that names the folder, what was found and what is allowed."""
    folder = saved_model(bad)
    with pytest.raises(SpecError, match=BAD_SAVED_MODELS[bad]) as caught:
        derive_spec(folder, None)
    assert str(caught.value).startswith(f"--saved-model {folder}: ")


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("run", [reference_outputs, lambda spec, path, inputs: SavedModelRunner(spec, path)])
def test_a_description_with_other_names_than_the_saved_model_is_refused(saved_model, spec, side, run):
    """A TOML file that calls an input or output otherwise is told what the SavedModel calls it, not how it failed."""
    (item,) = getattr(spec, side)
    other = replace(spec, **{side: (replace(item, signature_name="other"),)})
    with pytest.raises(SpecError, match=rf"its {side} are named \['other'\], .* \['{item.name}'\]; .* signature_name"):
        run(other, saved_model("probabilities"), {"x": images(2)})


def no_folder(folder):
    """Leave nothing there."""


def other_files(folder):
    """Put files of something else there."""
    folder.mkdir()
    (folder / "model.h5").write_bytes(b"weights")


def an_empty_graph(folder):
    """Put a SavedModel without content there."""
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"")


def a_damaged_graph(folder):
    """Put bytes there that are no SavedModel."""
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x07not a protocol buffer" * 9)


def a_file(folder):
    """Put a file in place of the folder."""
    folder.write_bytes(b"saved")


NO_SAVED_MODELS = {
    "no folder": (no_folder, "no such folder; expected a SavedModel: saved_model.pb and variables/"),
    "a file": (a_file, "no such folder; expected a SavedModel"),
    "a folder of something else": (other_files, r"not a SavedModel, it holds \['model.h5'\]; expected saved_model.pb"),
    "an empty graph": (an_empty_graph, "TensorFlow cannot load it"),
    "a damaged graph": (a_damaged_graph, "TensorFlow cannot load it"),
}


@pytest.mark.parametrize("bad", NO_SAVED_MODELS)
def test_what_is_no_saved_model_is_refused(tmp_path, bad):
    """Missing, foreign and damaged folders are one error that names the folder and what belongs there."""
    make, message = NO_SAVED_MODELS[bad]
    folder = tmp_path / "saved"
    make(folder)
    with pytest.raises(SpecError, match=message) as caught:
        derive_spec(folder, None)
    assert str(caught.value).startswith(f"--saved-model {folder}: ")


def test_a_model_is_named_after_the_folder_that_says_something(saved_model, tmp_path):
    """A folder called saved_model says nothing, so the one around it names the model and its artifacts."""
    folder = tmp_path / "my classifier, v2" / "saved_model"
    shutil.copytree(saved_model("probabilities"), folder)
    assert derive_spec(folder, None).name == "my_classifier_v2"


# --onnx and --tflite


def tiny_onnx(  # every parameter is one of the ways in which the file may differ
    path, *, name="x", shape=("N", *SHAPE), dtype="FLOAT", classes=CLASSES, outputs=("scores",), weights=np.float32
):
    """Write an ONNX file that computes class scores of the good SavedModel's signature, or of another one."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    pixels = int(np.prod(shape[1:]))
    values = np.random.default_rng(7).standard_normal((pixels, classes)).astype(weights)
    nodes = [
        helper.make_node("Cast", [name], ["float"], to=helper.np_dtype_to_tensor_dtype(np.dtype(weights))),
        helper.make_node("Reshape", ["float", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["logits"]),
        helper.make_node("Cast", ["logits"], ["wide"], to=TensorProto.FLOAT),
        *(helper.make_node("Softmax", ["wide"], [output]) for output in outputs),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, getattr(TensorProto, dtype), shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ("N", classes)) for output in outputs],
        [
            numpy_helper.from_array(values, "weights"),
            numpy_helper.from_array(np.array([-1, pixels], np.int64), "flat"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


BAD_ONNX = {
    "another rank": ({"shape": ("N", PIXELS)}, r"inputs 'x' has rank 2 \(N, 144\); expected \(N, 8, 6, 3\)"),
    "channels first": ({"shape": ("N", 3, 8, 6)}, r"has shape \(N, 3, 8, 6\); expected \(N, 8, 6, 3\)"),
    "a fixed batch": ({"shape": (1, *SHAPE)}, r"batch \(axis 0\) fixed to 1; expected it dynamic"),
    "FP16 inputs": ({"dtype": "FLOAT16"}, "'x' is float16; expected float32"),
    "double inputs": ({"dtype": "DOUBLE"}, "'x' is float64; expected float32"),
    "integer inputs": ({"dtype": "UINT8"}, "'x' is uint8; expected float32"),
    "other classes": ({"classes": 6}, r"outputs 'scores' has shape \(N, 6\); expected \(N, 5\)"),
    "an output too many": (
        {"outputs": ("scores", "more")},
        r"its outputs are named \['more', 'scores'\]; probabilities has \['scores'\]",
    ),
}


@pytest.mark.parametrize("bad", BAD_ONNX)
def test_an_onnx_of_another_signature_is_refused(spec, tmp_path, bad):
    """Other names, ranks, shapes and dtypes are one error with option, file, what was found and expected."""
    options, message = BAD_ONNX[bad]
    path = tmp_path / "mine.onnx"
    tiny_onnx(path, **options)
    with pytest.raises(EngineError, match=message) as caught:
        brought_engine("onnx", path, spec)
    assert str(caught.value).startswith(f"--onnx {path}: ")


@pytest.mark.parametrize("length", few([0, 1, 100, 1000, -1], 0, 1000))
@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_a_truncated_engine_is_refused(saved_model, spec, tmp_path, format_, length):
    """However little is missing, the file is named and nothing runs."""
    whole = engine_file(format_, saved_model, tmp_path).read_bytes()
    path = tmp_path / f"cut.{format_}"
    path.write_bytes(whole[:length])
    with pytest.raises(EngineError, match=r"not a sound ONNX file|LiteRT cannot load it") as caught:
        brought_engine(format_, path, spec)
    assert str(caught.value).startswith(f"--{format_} {path}: ")


def engine_file(format_, saved_model, folder):
    """Write a sound engine of the good SavedModel's signature; gives its path."""
    path = folder / f"sound.{format_}"
    if format_ == "onnx":
        tiny_onnx(path)
    else:
        path.write_bytes(tiny_tflite(saved_model("probabilities")))
    return path


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_a_missing_engine_and_one_of_the_other_format_are_named(saved_model, spec, tmp_path, format_):
    """A path that leads nowhere, a folder, a text and the other format's file are refused by option and path."""
    other = engine_file({"onnx": "tflite", "tflite": "onnx"}[format_], saved_model, tmp_path)
    text = tmp_path / "text"
    text.write_text("an engine, to be sure", encoding="utf-8")
    for path, message in (
        (tmp_path / "nowhere", f"no such file; expected the path of an {format_} file"),
        (tmp_path, "no such file"),
        (text, "not a sound ONNX file|LiteRT cannot load it"),
        (other, "not a sound ONNX file|LiteRT cannot load it"),
    ):
        with pytest.raises(EngineError, match=message) as caught:
            brought_engine(format_, path, spec)
        assert str(caught.value).startswith(f"--{format_} {path}: ")


def test_the_precision_of_an_onnx_is_read_off_the_file(spec, tmp_path):
    """FP32 and FP16 weights are told apart, and a single output may have any name."""
    for weights, precision in ((np.float32, "fp32"), (np.float16, "fp16")):
        path = tmp_path / f"{precision}.onnx"
        tiny_onnx(path, outputs=("Identity:0",), weights=weights)
        found = brought_engine("onnx", path, spec).precisions
        assert found["onnx"] == (precision,)
        assert found["tflite"] == spec.precisions["tflite"]


@pytest.mark.parametrize(
    ("weights", "engines"), [(np.float32, ("fp32", "fp16", "int8", "int8+fp16")), (np.float16, ())]
)
def test_tensorrt_engines_are_built_from_an_onnx_of_their_source_precision(spec, tmp_path, weights, engines):
    """Of the TensorRT engines those stay that are built from an ONNX of the brought one's precision."""
    path = tmp_path / "model.onnx"
    tiny_onnx(path, outputs=("Identity:0",), weights=weights)
    assert brought_engine("onnx", path, spec).precisions["tensorrt"] == engines


def test_external_weights_are_taken_and_missed(spec, tmp_path):
    """An ONNX with its weights in a second file is sound beside that file, and refused without it."""
    import onnx

    path = tmp_path / "mine.onnx"
    tiny_onnx(path)
    onnx.save(onnx.load(str(path)), str(path), save_as_external_data=True, location="mine.data", size_threshold=0)
    assert brought_engine("onnx", path, spec).precisions["onnx"] == ("fp32",)
    (tmp_path / "mine.data").unlink()
    with pytest.raises(EngineError, match=r"not a sound ONNX file[\s\S]*mine\.data") as caught:
        brought_engine("onnx", path, spec)
    assert str(caught.value).startswith(f"--onnx {path}: ")


def tiny_tflite(folder):
    """Convert a SavedModel's serving_default signature to TFLite; gives the bytes."""
    tf = tensorflow()
    return tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["serving_default"]).convert()


BAD_TFLITE = {
    "another rank": r"inputs 'x' has rank 2 \(N, 144\); expected \(N, 8, 6, 3\)",
    "another shape": r"inputs 'x' has shape \(N, 4, 4, 9\); expected \(N, 8, 6, 3\)",
    "other classes": r"has shape \(N, 4\); expected \(N, 5\)",
    "a fixed batch": r"batch \(axis 0\) fixed to 1; expected it dynamic",
    "an integer input": "'x' is int32; expected float32, or quantized integers",
}


@pytest.mark.parametrize("bad", BAD_TFLITE)
def test_a_tflite_of_another_signature_is_refused(saved_model, spec, tmp_path, bad):
    """Other names, ranks, shapes and dtypes are one error with option, file, what was found and expected."""
    path = tmp_path / "mine.tflite"
    path.write_bytes(tiny_tflite(saved_model(bad)))
    with pytest.raises(EngineError, match=BAD_TFLITE[bad]) as caught:
        brought_engine("tflite", path, spec)
    assert str(caught.value).startswith(f"--tflite {path}: ")


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_a_single_input_may_have_any_name(saved_model, spec, tmp_path, format_):
    """An engine that calls its only input otherwise is taken, and gives the SavedModel's answers."""
    path = tmp_path / f"mine.{format_}"
    if format_ == "onnx":
        tiny_onnx(path, name="pixels")
    else:
        path.write_bytes(tiny_tflite(saved_model("another input name")))
    assert brought_engine(format_, path, spec).precisions[format_] == ("fp32",)
    runner = {"onnx": OnnxRunner, "tflite": TFLiteRunner}[format_]
    inputs = {"x": images(9)}
    with runner(spec, Variant(format_, "fp32"), path) as opened:
        found = opened(inputs)["scores"]
    expected = reference_outputs(spec, saved_model("probabilities"), inputs)["scores"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("brought, measured", [({}, True), ({"tflite": "x.tflite"}, False), ({"onnx": "x.onnx"}, True)])
def test_the_rows_of_a_bundled_model_are_not_those_of_a_brought_engine(tmp_path, pytestconfig, brought, measured):
    """A quantized engine made elsewhere is judged on average on made-up inputs, though its model is bundled."""
    spec = load_model(find_model("digits_vgg"))
    files = {format_: tmp_path / name for format_, name in brought.items()}
    chain = Chain(spec, locate(spec.dataset, input_name="input_1"), Store(artifact_folder(pytestconfig)), files)
    rule = rule_of(chain, Variant("tflite", "int8"), "stress", 20)
    assert (rule.tolerance.max < ANY) == measured


def test_what_is_made_from_a_brought_onnx_uses_its_name_of_the_input(spec, tmp_path, monkeypatch):
    """TensorRT is told to build from the file with the name that the file has, not with the SavedModel's."""
    tiny_onnx(tmp_path / "mine.onnx", name="pixels")
    told = []

    def build_engine(path, sha256, spec, variant, folder, **rest):
        told.append([i.signature_name for i in spec.inputs])
        (folder / tensorrt_build.PLAN).write_bytes(b"plan")

    monkeypatch.setattr(tensorrt_build, "build_engine", build_engine)
    monkeypatch.setattr(tensorrt_packages, "cannot_build", lambda format_: None)
    monkeypatch.setattr(tensorrt_packages, "unavailable", lambda: None)
    monkeypatch.setattr(tensorrt_packages, "version", lambda: tensorrt_versions.OLDEST)
    monkeypatch.setattr(tensorrt_packages, "device", dict)
    chain = Chain(spec, make_samples(spec), Store(tmp_path / "build"), {"onnx": tmp_path / "mine.onnx"})
    chain.artifact(Variant("tensorrt", "fp32", spec.profiles[0]))
    assert told == [["pixels"]]


# Through the real command.


def suite(*words):
    """Run pytest on this project in a process of its own, without CIFAR-10; gives the exit code and the output."""
    environment = environment_apart()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def make_files(folder):
    """Put the files that the commands below name into a folder."""
    write_npz(folder / "nan.npz", input_1=np.full((3, 10, 8, 1), np.nan, np.float32))
    tiny_onnx(folder / "sound.onnx")
    (folder / "cut.onnx").write_bytes((folder / "sound.onnx").read_bytes()[:1000])
    (folder / "saved").mkdir()


COMMANDS = {
    "a TFLite for two models": (
        ["--tflite={}/sound.tflite"],
        "--tflite is for one model, and cifar10_vgg, digits_vgg are under test; name one with --model or --saved-model",
    ),
    "a SavedModel and a model": (["--saved-model={}/saved", "--model=digits_vgg"], "allowed: one of the two"),
    "an unknown model": (["--model=digit_vgg"], "no model 'digit_vgg' (did you mean 'digits_vgg'?)"),
    "a truncated ONNX": (["--model=digits_vgg", "--onnx={}/cut.onnx"], "--onnx {}/cut.onnx: not a sound ONNX file"),
    "an ONNX of another model": (["--model=digits_vgg", "--onnx={}/sound.onnx"], "--onnx {}/sound.onnx: inputs 'x'"),
    "samples of NaN": (["--model=digits_vgg", "--samples={}/nan.npz"], "--samples {}/nan.npz: 'input_1' has 240 NaN"),
    "no SavedModel": (["--saved-model={}/nowhere"], "--saved-model {}/nowhere: no such folder"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_ends_with_one_error_and_touches_nothing(tmp_path, command):
    """Bad input ends the run with one error line, a non-zero exit code, no traceback, and artifacts as they were."""
    make_files(tmp_path)
    artifact = tmp_path / "build" / "digits_vgg" / "onnx-fp32" / "artifact.json"
    artifact.parent.mkdir(parents=True)
    artifact.write_text("{}", encoding="utf-8")
    words, message = COMMANDS[command]
    code, output = suite(*(w.format(tmp_path) for w in words), f"--artifacts={tmp_path / 'build'}")
    assert code == pytest.ExitCode.USAGE_ERROR, output
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert message.format(tmp_path) in errors[0]
    assert "Traceback" not in output
    assert [p for p in (tmp_path / "build").rglob("*") if p.is_file()] == [artifact]
    assert artifact.read_text(encoding="utf-8") == "{}"


@pytest.mark.slow
def test_the_command_checks_a_keras_model_of_ones_own(tmp_path):
    """`pytest -m "consistency or batching" --saved-model DIR --samples FILE.npz` converts, checks and passes."""
    # In a process of its own: Keras' counters and seeds would stay in this one.
    code = f"""
import keras
keras.utils.set_random_seed(1)
wide = keras.initializers.RandomNormal(stddev=0.5, seed=1)
layers = [keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.Flatten()]
layers += [keras.layers.Dense({CLASSES}, activation="softmax", kernel_initializer=wide)]
model = keras.Sequential([keras.Input({SHAPE!r}, name="x"), *layers])
model.export({str(tmp_path / "mine")!r}, format="tf_saved_model", verbose=False)
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300, check=True)
    name = next(iter(derive_spec(tmp_path / "mine", None).inputs)).name
    write_npz(tmp_path / "mine.npz", **{name: images(450), "labels": labels(450)})
    words = [f"--saved-model={tmp_path / 'mine'}", f"--samples={tmp_path / 'mine.npz'}"]
    code, output = suite("-m", "consistency or batching", *words, f"--artifacts={tmp_path / 'build'}")
    assert code == pytest.ExitCode.OK, output
    for variant in (
        "savedmodel-fp32",
        "onnx-fp32",
        "onnx-fp16",
        "onnx-int8",
        "tflite-fp32",
        "tflite-fp16",
        "tflite-int8",
    ):
        assert re.search(rf"mine-{variant} .* passed", output)


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_a_file_whose_engine_is_not_installed_is_refused_in_a_line(spec, tmp_path, monkeypatch, format_):
    """Where nothing can run it, as ONNX Runtime beside TensorRT alone, the reason is told, and not a stack trace."""
    path = tmp_path / f"mine.{format_}"
    path.write_bytes(b"x")
    monkeypatch.setattr(type(registry.find(format_)), "unavailable", lambda self, precision=None: "it is not installed")
    with pytest.raises(EngineError, match=rf"--{format_} .*: it is run before .* cannot: it is not installed"):
        brought_engine(format_, path, spec)


def test_words_that_select_nothing_are_told_with_the_variants(pytestconfig):
    """Who selects a brought file by a precision that it is not judged as reads what it is judged as, and no bare 5."""
    (chain,) = selection.chains(Store(artifact_folder(pytestconfig)), models=["digits_vgg"]).values()
    sound = chain.file(Variant("onnx", "fp32"))
    words = ("--model=digits_vgg", f"--onnx={sound}", f"--artifacts={artifact_folder(pytestconfig)}")
    code, output = suite("-m", "consistency", "-k", "onnx-int8", *words)
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "no test is selected by -k 'onnx-int8' and -m 'consistency'; the variants are:" in output
    assert "  digits_vgg: savedmodel-fp32, onnx-fp32 (the file of --onnx, judged as fp32 for what is in it), " in output
