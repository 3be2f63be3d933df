"""Models of any signature are taken as they are: integers stay integers, and nothing is fed that no sample is like."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engines import __main__ as command_line
from engines.chain import Chain
from engines.errors import ConversionError, DataError, RunnerError, SpecError
from engines.formats import registry
from engines.formats.onnx.build import build_fp32
from engines.formats.savedmodel.packages import tensorflow
from engines.formats.savedmodel.reference import reference_outputs
from engines.formats.tflite.build import build_tflite
from engines.model.brought import make_samples, read_samples
from engines.model.derive import derive_onnx, derive_spec, value_range
from engines.model.options import with_kinds, with_precisions
from engines.model.ranges import ranges
from engines.model.selection import chains
from engines.model.sizes import at_size
from engines.model.spec import BATCH
from engines.model.toml import load_model, parse_model
from engines.store import Store
from engines.variant import Variant
from tests.meta.apart import environment_apart
from trial.bearable import bearable
from trial.contrast import contrast_set
from trial.draws import drawn_inputs

ROOT = Path(__file__).resolve().parents[2]
WIDE = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
TABLE = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
GENERATOR = np.random.default_rng(2)

SAMPLES = {
    "features": GENERATOR.random((40, 6), np.float32),
    "ids": GENERATOR.integers(0, 50, (40, 4)).astype(np.int32),
    "codes": GENERATOR.integers(0, 50, (40, 2)),
    "pixels": GENERATOR.integers(0, 256, (40, 6)).astype(np.uint8),
    "mask": GENERATOR.random((40, 6)) < 0.7,
}
"""Samples of an input of each dtype."""


def everything(tf, features, ids, codes, pixels, mask):
    """Use an input of every dtype."""
    x = tf.where(mask, features, 0.0) + tf.cast(pixels, tf.float32) / 255
    x += tf.reduce_mean(tf.gather(TABLE, ids), 1) + tf.reduce_mean(tf.gather(TABLE, codes), 1)
    return {"scores": tf.nn.softmax(tf.tanh(x @ WIDE) @ WIDE.T @ WIDE)}


def tagged(tf, ids, mask):
    """Score every token of a sequence, and the sequence."""
    x = tf.gather(TABLE, ids) * tf.cast(mask, tf.float32)[..., None]
    return {"tags": tf.nn.softmax(x @ WIDE), "scores": tf.nn.softmax(tf.reduce_sum(x, 1) @ WIDE)}


def models(tf):
    """Describe the SavedModels: inputs by name, shape and dtype, and the function of each signature."""
    ids, row = ((None, 4), tf.int32), ((None, 6), tf.float32)
    length = (None, None)
    every = {"features": row, "ids": ids, "codes": ((None, 2), tf.int64), "pixels": ((None, 6), tf.uint8)}
    return {
        "everything": ({**every, "mask": ((None, 6), tf.bool)}, {"serving_default": everything}),
        "tagged": ({"ids": (length, tf.int32), "mask": (length, tf.int32)}, {"serving_default": tagged}),
        "two signatures": (
            {"x": row},
            {
                "serving_default": lambda tf, x: {"scores": tf.nn.softmax(x @ WIDE)},
                "features": lambda tf, x: {"values": x @ WIDE},
            },
        ),
        "one length": (
            {"x": ((None, None, 6), tf.float32)},
            {"serving_default": lambda tf, x: {"scores": tf.nn.softmax(tf.reshape(x, (-1, 24)) @ TABLE[:24])}},
        ),
        "a share": (
            {"x": row},
            {"serving_default": lambda tf, x: {"scores": (x / tf.reduce_sum(x, 1, keepdims=True)) @ WIDE}},
        ),
        "embedded": (
            {"ids": ids},
            {"serving_default": lambda tf, ids: {"scores": tf.nn.softmax(tf.reduce_mean(tf.gather(TABLE, ids), 1))}},
        ),
        "anchored": (
            {"ids": ids},
            {
                "serving_default": lambda tf, ids: {
                    "scores": tf.nn.softmax(tf.reduce_mean(tf.gather(TABLE, ids), 1)),
                    "boxes": tf.constant(TABLE[:3]),
                }
            },
        ),
        "text": ({"text": ((None,), tf.string)}, {"serving_default": lambda tf, text: {"n": tf.strings.length(text)}}),
        "half": ({"x": ((None, 6), tf.float16)}, {"serving_default": lambda tf, x: {"y": tf.cast(x, tf.float32)}}),
    }


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Function that saves the SavedModel of a name, once, and returns its folder."""
    tf, root = tensorflow(), tmp_path_factory.mktemp("signatures")

    def save(name):
        folder = root / name.replace(" ", "_")
        if not folder.exists():
            inputs, functions = models(tf)[name]
            specs = {key: tf.TensorSpec(shape, dtype, key) for key, (shape, dtype) in inputs.items()}
            module = tf.Module()
            signatures = {}
            for key, function in functions.items():
                traced = tf.function(lambda function=function, **given: function(tf, **given))
                signatures[key] = traced.get_concrete_function(**specs)
            tf.saved_model.save(module, str(folder), signatures=signatures)
        return folder

    return save


def npz(path, **arrays):
    """Write samples; returns their path."""
    np.savez(path, **arrays)
    return path


# Inputs of every dtype.


@pytest.fixture(scope="module")
def chain(saved, tmp_path_factory):
    """Chain of the model with an input of every dtype, on its samples."""
    folder = tmp_path_factory.mktemp("chain")
    samples = npz(folder / "mine.npz", **SAMPLES)
    return chains(Store(folder / "build"), saved_model=saved("everything"), samples=samples)["everything"]


def test_a_signature_of_every_dtype_is_described(chain):
    """Each input keeps its dtype, and the ends of integers are integers."""
    found = {i.name: (i.dtype, i.range) for i in chain.spec.inputs}
    assert {name: dtype for name, (dtype, _) in found.items()} == {n: a.dtype.name for n, a in SAMPLES.items()}
    assert found["ids"][1] == (SAMPLES["ids"].min(), SAMPLES["ids"].max())
    assert found["mask"][1] == (0, 1)
    assert all(isinstance(end, int) for name, (_, ends) in found.items() if name != "features" for end in ends)


@pytest.mark.parametrize(
    ("variant", "within"), [("onnx-fp32", 1e-5), ("onnx-int8", 0.1), ("tflite-fp32", 1e-5), ("tflite-int8", 0.2)]
)
def test_integers_stay_integers_in_every_format(chain, variant, within):
    """A converted engine takes ids, codes, bytes and truth values as they are, and answers as the SavedModel does."""
    (of,) = (v for v in chain.variants if str(v) == variant)
    expected = chain.reference("samples", chain.samples.inputs)["scores"]
    with chain.runner(of) as runner:
        assert set(runner.steps) <= {"features"}
        np.testing.assert_allclose(runner(SAMPLES)["scores"], expected, atol=within)


def test_an_engine_that_takes_floats_for_ids_is_refused(chain, tmp_path):
    """An ONNX or TFLite whose ids are floats is none of this model's: an id that passes a float may become another."""
    tf = tensorflow()
    specs = {i.name: tf.TensorSpec((None, *i.shape[1:]), tf.float32, i.name) for i in chain.spec.inputs}
    types = {i.name: i.dtype for i in chain.spec.inputs}
    module = tf.Module()
    front = tf.function(lambda **given: everything(tf, **{n: tf.cast(x, types[n]) for n, x in given.items()}))
    tf.saved_model.save(
        module, str(tmp_path / "front"), signatures={"serving_default": front.get_concrete_function(**specs)}
    )
    build_tflite(tmp_path / "front", chain.spec, "fp32", tmp_path)
    with pytest.raises(RunnerError, match=r"'(ids|codes|pixels|mask)' is float32; expected (int32|int64|uint8|bool)$"):
        registry.find("tflite").open(chain.spec, Variant("tflite", "fp32"), tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "text",
            r"its input 'text' is string \(None\); expected numbers: export the part behind its text or example pa",
        ),
        (
            "half",
            r"its input 'x' is float16 \(None, 6\); expected float32 or int32 or .*: export a function that takes",
        ),
    ],
)
def test_an_input_that_cannot_be_fed_is_refused_in_a_line(saved, name, message):
    """Strings and dtypes that not every format has are told what to export instead."""
    with pytest.raises(SpecError, match=message) as caught:
        derive_spec(saved(name), None)
    assert "\n" not in str(caught.value)


# Signatures and names.


def test_another_signature_is_chosen_by_its_name(saved):
    """Each signature has its own outputs, its own name in the store, and gives its own answers."""
    folder, x = saved("two signatures"), {"x": SAMPLES["features"]}
    first, other = derive_spec(folder, None, "serving_default"), derive_spec(folder, None, "features")
    assert [(o.name, o.kind) for o in other.outputs] != [(o.name, o.kind) for o in first.outputs]
    assert other.name == "two_signatures_features"
    assert "--signature=features" in other.option
    np.testing.assert_allclose(reference_outputs(other, folder, x)["values"], x["x"] @ WIDE, atol=1e-5)
    assert list(reference_outputs(first, folder, x)) == ["scores"]


def test_a_signature_that_is_not_there_is_answered_with_those_that_are(saved, tmp_path):
    """The error lists the signatures; without a SavedModel the option is refused."""
    with pytest.raises(SpecError, match=r"signatures are \['features', 'serving_default'\]; expected 'serve' among"):
        derive_spec(saved("two signatures"), None, "serve")
    with pytest.raises(
        SpecError, match=r"--signature serve is for --saved-model DIR; a TOML file has source.signature"
    ):
        chains(Store(tmp_path), models=["digits_vgg"], signature="serve")


@pytest.mark.slow
def test_both_converters_take_the_signature_that_was_chosen(saved, tmp_path):
    """ONNX and TFLite are made from the chosen signature, not from serving_default."""
    samples = npz(tmp_path / "mine.npz", x=SAMPLES["features"])
    chosen = chains(
        Store(tmp_path / "build"), saved_model=saved("two signatures"), signature="features", samples=samples
    )["two_signatures_features"]
    for variant in (Variant("onnx", "fp32"), Variant("tflite", "fp32")):
        with chosen.runner(variant) as runner:
            found = runner({"x": SAMPLES["features"]})["values"]
        np.testing.assert_allclose(found, SAMPLES["features"] @ WIDE, atol=1e-5)


@pytest.mark.slow
def test_names_of_any_form_are_taken(tmp_path):
    """A TF1 SavedModel with names like a/b:0 is described, fed and converted by them."""
    code = f"""
import numpy as np, tensorflow as tf
v1, weights = tf.compat.v1, np.arange(18, dtype=np.float32).reshape(6, 3) / 18
with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
    x = v1.placeholder(tf.float32, [None, 6], name="in/x")
    y = tf.nn.softmax(tf.matmul(x, weights), name="out/y")
    v1.saved_model.simple_save(session, {str(tmp_path / "old")!r}, {{"a/b:0": x}}, {{"out/y:0": y}})
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=200)
    samples = npz(tmp_path / "mine.npz", **{"a/b:0": SAMPLES["features"]})
    (chain,) = chains(Store(tmp_path / "build"), saved_model=tmp_path / "old", samples=samples).values()
    expected = chain.reference("samples", chain.samples.inputs)["out/y:0"]
    for variant in (Variant("onnx", "fp32"), Variant("tflite", "fp32")):
        with chain.runner(variant) as runner:
            np.testing.assert_allclose(runner(chain.samples.inputs)["out/y:0"], expected, atol=1e-5)


# Dynamic sizes.


def test_ids_and_their_mask_are_of_one_length_and_checked_at_two(saved, tmp_path):
    """The samples show one length; half of it is checked as well, and an output that goes with it goes along."""
    ids = GENERATOR.integers(0, 50, (40, 10)).astype(np.int32)
    spec = derive_spec(saved("tagged"), npz(tmp_path / "mine.npz", ids=ids, mask=np.ones_like(ids)))
    assert [i.shape for i in spec.inputs] == [(BATCH, "axis_1"), (BATCH, "axis_1")]
    assert spec.dimensions == {"axis_1": (10, 5)}
    assert {o.name: o.shape for o in spec.outputs} == {"scores": (BATCH, 3), "tags": (BATCH, "axis_1", 3)}
    resized = at_size(spec, {"ids": ids, "mask": np.ones_like(ids)}, 1)
    np.testing.assert_array_equal(resized["ids"], ids[:, :5])
    outputs = reference_outputs(spec, saved("tagged"), resized)
    assert {o.name: outputs[o.name].shape for o in spec.outputs} == {
        o.name: spec.concrete_shape(o, 40, 1) for o in spec.outputs
    }


def test_a_size_that_the_model_does_not_run_at_is_not_checked(saved, tmp_path):
    """Half the length stops its reshape, and twice the length gives twice the rows: that of the samples is left."""
    spec = derive_spec(saved("one length"), npz(tmp_path / "mine.npz", x=np.zeros((5, 4, 6), np.float32)))
    assert spec.dimensions == {"axis_1": (4,)}
    assert spec.outputs[0].shape == (BATCH, 6)


# What made-up inputs hold.

VALUES = {
    "log spectrograms": (np.float32([1e-6, 1.3, 3.8]), (1e-6, 3.8)),
    "pixels of [0, 1]": (np.float32([0.0, 0.4, 0.98]), (0, 1)),
    "pixels of [-1, 1]": (np.float32([-0.97, 0.2, 1.0]), (-1, 1)),
    "a part of [0, 1]": (np.float32([0.2, 0.4, 0.6]), (0.2, 0.6)),
    "pixels of [0, 255] in floats": (np.float32([3, 80, 250]), (0, 255)),
    "values up to 255 that are no pixels": (np.float32([3.3, 80.1, 250.7]), (3.3, 250.7)),
    "ids in floats": (np.float32([0, 3, 5]), (0, 5)),
    "bytes of a picture": (np.uint8([3, 80, 250]), (0, 255)),
    "ids in bytes": (np.uint8([0, 3, 5]), (0, 5)),
    "ids": (np.int32([7, 900, 20]), (7, 900)),
    "nothing but one id": (np.int64([4, 4]), (4, 4)),
    "truth values": (np.array([True, True]), (0, 1)),
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_usual_range_is_taken_only_where_samples_speak_for_it(kind):
    """What is near a usual range is in it; all else is what the samples reach."""
    values, expected = VALUES[kind]
    assert value_range(values.dtype.name, 4, values) == pytest.approx(expected)


def described(dtype, shape, bounds):
    """Describe a model with one input."""
    one = {"name": "x", "shape": [BATCH, *shape], "dtype": dtype, "range": list(bounds)}
    outputs = [{"name": "y", "shape": [BATCH, 4], "kind": "values"}]
    return parse_model({"source": {"saved_model": "s"}, "inputs": [one], "outputs": outputs}, Path("mine.toml"))


def made_up(spec, folder, **arrays):
    """Contrast and drawn inputs of a model on these samples, as one array."""
    data = read_samples(npz(folder / "mine.npz", **arrays), spec)
    reach = ranges(spec, data)
    return np.concatenate([contrast_set(spec, reach)[1]["x"], drawn_inputs(spec, reach, 20)["x"]])


def test_ids_in_floats_stay_whole_and_within_those_seen(tmp_path):
    """Where every sample is a whole number, made-up inputs are, and none is beyond them."""
    board = GENERATOR.integers(0, 6, (30, 8, 8)).astype(np.float32)
    found = made_up(described("float32", [8, 8], (0.0, 255.0)), tmp_path, x=board)
    assert set(np.unique(found)) == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "int8"])
def test_ids_stay_ids(tmp_path, dtype):
    """Made-up ids have the input's dtype, and are within those of the samples, not of the description."""
    ids = GENERATOR.integers(3, 100, (30, 7)).astype(dtype)
    found = made_up(described(dtype, [7], (0, 120)), tmp_path, x=ids)
    assert found.dtype == dtype
    assert (found >= ids.min(axis=0)).all()
    assert (found <= ids.max(axis=0)).all()


def test_a_column_of_whole_numbers_stays_whole_beside_others(tmp_path):
    """A flag in a table of measurements is never a half."""
    table = np.stack([GENERATOR.random(30), GENERATOR.integers(0, 2, 30)], 1).astype(np.float32)
    found = made_up(described("float32", [2], (0.0, 1.0)), tmp_path, x=table)
    assert set(np.unique(found[:, 1])) == {0, 1}
    assert len(np.unique(found[:, 0])) > 10


def test_channels_in_units_of_their_own_keep_their_ranges(tmp_path):
    """A channel that reaches over much less than another is not fed the other's values; alike ones are one."""
    spans = np.float32([1, 3000, 0.2])
    images = (GENERATOR.random((30, 5, 4, 3)) * spans).astype(np.float32)
    spec = described("float32", [5, 4, 3], (0.0, 3000.0))
    found = made_up(spec, tmp_path, x=images)
    assert (found.max(axis=(0, 1, 2)) <= images.max(axis=(0, 1, 2))).all()
    alike = ranges(spec, read_samples(npz(tmp_path / "alike.npz", x=images / spans), spec))["x"]
    assert (float(alike[0]), float(alike[1])) == (0.0, 3000.0)


def test_what_the_reference_does_not_answer_is_left_out_and_named(saved, tmp_path):
    """Black has no sum to be divided by: the SavedModel gives NaN, so that no engine is asked."""
    x = GENERATOR.random((30, 6), np.float32)
    x[0], x[1] = 0, 1
    x[0, 0] = 1e-3  # the column's least value is zero in others
    x[2, 0] = 0
    (chain,) = chains(
        Store(tmp_path / "b"), saved_model=saved("a share"), samples=npz(tmp_path / "mine.npz", x=x)
    ).values()
    names, inputs = contrast_set(chain.spec, chain.ranges)
    found = bearable(chain, "contrast", names, inputs)
    assert found.left_out == ("all lowest: the SavedModel itself gives NaN",)
    assert "all lowest" not in found.names
    assert len(found.inputs["x"]) == len(found.reference["scores"]) == len(found.names) == len(names) - 1
    assert all(np.isfinite(array).all() for array in found.reference.values())
    again = bearable(Chain(chain.spec, chain.dataset, Store(tmp_path / "b")), "contrast", names, inputs)
    assert again.left_out == found.left_out


def test_what_fp16_cannot_tell_is_left_out_for_fp16_alone(saved, tmp_path):
    """Shares of numbers about FP16's smallest are what it rounds them to: FP32 is judged by them, and FP16 is not."""
    x = GENERATOR.random((30, 6), np.float32)
    x[1] = 0
    samples = npz(tmp_path / "mine.npz", x=x + np.float32(1e-3))
    (chain,) = chains(Store(tmp_path / "b"), saved_model=saved("a share"), samples=samples).values()
    given = np.float32([[1, 2, 3, 4, 5, 6], np.float32([1, 2, 3, 4, 5, 6]) * 2.0**-25, [0, 1, 0, 1, 0, 1]])
    found = bearable(chain, "contrast", ["large", "tiny", "zeros"], {"x": given})
    assert found.within(chain.spec, "fp32").names == ("large", "tiny", "zeros")
    held = found.within(chain.spec, "fp16")
    assert held.names == ("large", "zeros")
    assert len(held.reference["scores"]) == 2
    (said,) = held.left_out
    assert said.startswith("tiny (FP16 only): ")
    alone = bearable(chain, "drawn", ["tiny"], {"x": given[1:2]})
    assert alone.within(chain.spec, "fp16").names == ("tiny",), "a model that FP16 cannot hold is not spared"


def test_what_the_reference_stops_at_is_left_out_and_named(saved, tmp_path):
    """Ids beyond the table are no engine's fault: those inputs are named, and others keep their answers."""
    spec = replace(derive_spec(saved("embedded"), npz(tmp_path / "mine.npz", ids=SAMPLES["ids"])), options=())
    chain = Chain(spec, read_samples(tmp_path / "mine.npz", spec), Store(tmp_path / "b"))
    ids = np.int32([[1, 2, 3, 4], [50, 0, 0, 0], [5, 5, 5, 5], [0, 0, 70, 0]])
    found = bearable(chain, "contrast", ["a", "b", "c", "d"], {"ids": ids})
    assert found.names == ("a", "c")
    np.testing.assert_array_equal(found.inputs["ids"], ids[[0, 2]])
    np.testing.assert_allclose(found.reference["scores"].sum(axis=1), 1, atol=1e-5)
    assert [line.partition(": ")[0] for line in found.left_out] == ["b", "d"]
    assert "the SavedModel stops at indices" in found.left_out[0]
    with pytest.raises(DataError, match=r"the SavedModel stops at indices.* on all 2 made-up inputs of 'ids' \(int32"):
        bearable(chain, "drawn", ["b", "d"], {"ids": ids[[1, 3]]})


def test_an_output_without_a_batch_is_kept_whole_beside_inputs_that_are_left_out(saved, tmp_path):
    """Boxes that are the same for all samples have no row to leave out."""
    ids = np.int32([[1, 2, 3, 4], [50, 0, 0, 0], [5, 5, 5, 5]])
    samples = npz(tmp_path / "mine.npz", ids=SAMPLES["ids"])
    (chain,) = chains(Store(tmp_path / "b"), saved_model=saved("anchored"), samples=samples).values()
    assert chain.spec.constants == {"boxes"}
    found = bearable(chain, "contrast", ["a", "b", "c"], {"ids": ids})
    assert found.names == ("a", "c")
    assert found.reference["boxes"].shape == (3, 6)
    assert len(found.reference["scores"]) == 2


# Samples.


def test_ids_beyond_the_table_are_said_with_the_input_and_its_values(saved, tmp_path):
    """One sample with an id that the table has not is one line: what TensorFlow says, the input, and what it holds."""
    ids = SAMPLES["ids"].copy()
    ids[37, 2] = 2000
    with pytest.raises(SpecError) as caught:
        derive_spec(saved("embedded"), npz(tmp_path / "mine.npz", ids=ids))
    assert "\n" not in str(caught.value)
    assert "'ids' (int32, from 0 to 2000)" in str(caught.value)
    assert "2000 is not in [0, 50)" in str(caught.value)


def test_strings_among_the_samples_are_told_what_to_give(saved, tmp_path):
    """What the model is fed is asked for, not another dtype."""
    path = npz(tmp_path / "mine.npz", ids=np.array([["a", "b", "c", "d"]]))
    with pytest.raises(DataError, match=r"'ids' is <U1; expected int32: give what the model is fed, such as the ids"):
        read_samples(path, derive_spec(saved("embedded"), None))


def test_a_missing_input_and_another_rank_are_named(saved, tmp_path, chain):
    """Samples that lack an input list those that are expected; one of another rank is shown with its shape."""
    lacking = npz(tmp_path / "lacking.npz", **{n: a for n, a in SAMPLES.items() if n != "mask"})
    with pytest.raises(
        DataError, match=r"holds \['codes', .*\]; expected \['codes', 'features', 'ids', 'mask', 'pixels'"
    ):
        read_samples(lacking, chain.spec)
    flat = npz(tmp_path / "flat.npz", **{**SAMPLES, "ids": SAMPLES["ids"][:, 0]})
    with pytest.raises(DataError, match=r"'ids' has shape \(40,\); expected \(N, 4\)"):
        read_samples(flat, chain.spec)


def test_samples_are_made_within_the_ranges_of_a_description(saved):
    """A TOML file says what ids there are, so that samples are drawn; a bare SavedModel asks for them."""
    data = make_samples(described("int32", [9], (5, 12)))
    assert set(np.unique(data.test().inputs["x"])) == set(range(5, 13))
    assert "drawn within the ranges of mine.toml" in str(data.assumption)
    with pytest.raises(
        SpecError, match=r"its input 'ids' \(4,\) is no image .*; give --samples FILE.npz with an array"
    ):
        make_samples(derive_spec(saved("embedded"), None))


WRONG_RANGES = {
    "none for ids": ({"dtype": "int32"}, r"inputs\[0\].range is missing; allowed: \[low, high\], the smallest and"),
    "a fraction": ({"dtype": "int32", "range": [0, 1.5]}, r"range is \[0, 1.5\]; allowed: .* integer that"),
    "beyond the dtype": ({"dtype": "uint8", "range": [0, 256]}, r"range is \[0, 256\]; allowed: .* takes as uint8"),
    "inverted": ({"dtype": "int64", "range": [5, 4]}, r"range is \[5, 4\]"),
}


@pytest.mark.parametrize("wrong", WRONG_RANGES)
def test_a_range_that_an_integer_input_cannot_have_is_refused(wrong):
    """The ends of integers are integers of that dtype, and have to be said where the dtype does not."""
    more, message = WRONG_RANGES[wrong]
    inputs = [{"name": "x", "shape": [BATCH, 4], **more}]
    outputs = [{"name": "y", "shape": [BATCH, 4], "kind": "values"}]
    with pytest.raises(SpecError, match=message):
        parse_model({"source": {"saved_model": "s"}, "inputs": inputs, "outputs": outputs}, Path("mine.toml"))


# Options, and the description as a file.


def test_precisions_and_kinds_are_chosen_by_options():
    """Formats that are not named are left out, the reference is kept, and an output takes the kind that is said."""
    spec = described("int32", [4], (0, 9))
    chosen = with_precisions(spec, ["onnx=fp32,int8 tflite=fp32"])
    assert list(map(str, registry.variants(chosen))) == ["savedmodel-fp32", "onnx-fp32", "onnx-int8", "tflite-fp32"]
    assert with_kinds(spec, ["y=logits"]).outputs[0].kind == "logits"


WRONG_OPTIONS = {
    "onnx=fp23": r"--precisions onnx=fp23: onnx is 'fp23'; allowed: fp32 \| fp16 \| int8",
    "openvino=fp32": r"--precisions openvino=fp32: unknown key 'openvino'",
    "onnx": r"--precisions onnx: 'onnx'; allowed: each format once, as in onnx=fp32,int8",
}


@pytest.mark.parametrize("text", WRONG_OPTIONS)
def test_wrong_precisions_are_answered_with_those_there_are(text):
    """The option is named, with what was found and what is allowed."""
    with pytest.raises(SpecError, match=WRONG_OPTIONS[text]):
        with_precisions(described("int32", [4], (0, 9)), [text])


def test_wrong_kinds_are_answered_with_those_there_are():
    """An output or a kind that there is not is named, with those that there are."""
    spec = described("int32", [4], (0, 9))
    for text, message in (
        ("z=logits", "no output 'z'; allowed: y"),
        ("y=softmax", "'softmax'; allowed: probabilities"),
    ):
        with pytest.raises(SpecError, match=message):
            with_kinds(spec, [text])


def test_what_describe_prints_is_the_description_that_was_derived(saved, tmp_path, capsys):
    """The printed TOML is taken by --model, and says what --saved-model finds by itself."""
    ids = GENERATOR.integers(0, 50, (40, 10)).astype(np.int32)
    samples = npz(tmp_path / "mine.npz", ids=ids, mask=np.ones_like(ids))
    words = ["describe", str(saved("tagged")), f"--samples={samples}", "--precisions=onnx=fp32", "--kind=scores=logits"]
    assert command_line.main(words) == 0
    (tmp_path / "mine.toml").write_text(capsys.readouterr().out, encoding="utf-8")
    printed, derived = load_model(tmp_path / "mine.toml"), derive_spec(saved("tagged"), samples)
    assert printed.inputs == derived.inputs
    assert {o.name: o.kind for o in printed.outputs} == {"scores": "logits", "tags": "probabilities"}
    assert [o.shape for o in printed.outputs] == [o.shape for o in derived.outputs]
    assert printed.dimensions == derived.dimensions
    assert list(map(str, registry.variants(printed))) == ["savedmodel-fp32", "onnx-fp32"]
    assert command_line.main(["describe", str(tmp_path / "nowhere")]) == 1
    assert "no such folder; expected a SavedModel" in capsys.readouterr().err


# Converters.


def test_a_lookup_table_is_named_by_both_converters(tmp_path):
    """Operator and layer are said in one line, with what to do; not the end of a stack trace."""
    tf = tensorflow()
    keys = tf.lookup.KeyValueTensorInitializer(tf.constant([7, 8], tf.int64), tf.constant([1, 2], tf.int64))
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(keys, 0)
    function = tf.function(lambda codes: {"y": tf.gather(TABLE, module.table.lookup(codes))})
    signature = function.get_concrete_function(codes=tf.TensorSpec((None,), tf.int64, "codes"))
    module.f = signature
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": signature})
    spec = derive_spec(tmp_path / "saved", npz(tmp_path / "mine.npz", codes=np.array([7, 8, 8])))
    for build in (build_fp32, lambda path, spec, folder: build_tflite(path, spec, "fp32", folder)):
        with pytest.raises(
            ConversionError, match=r"LookupTableFindV2 of layer '.*Lookup.*'.*; write the layer wi"
        ) as caught:
            build(tmp_path / "saved", spec, tmp_path)
        assert "\n" not in str(caught.value)


# An ONNX file alone.


def tiny_onnx(path, *, fixed=False):
    """Write an ONNX that takes ids, looks them up, and scores them."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Gather", ["table", "tokens:0"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "first"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    weights = {"table": TABLE, "first": WIDE @ WIDE.T, "second": WIDE}
    graph = helper.make_graph(
        nodes,
        "ids",
        [helper.make_tensor_value_info("tokens:0", TensorProto.INT64, (2 if fixed else "N", "length"))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("N", 3))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


TOKENS = {"tokens:0": GENERATOR.integers(0, 50, (64, 8))}


@pytest.fixture
def no_tensorflow(monkeypatch):
    """Have no TensorFlow: it is not installed, and what asks for it all the same fails."""
    monkeypatch.setattr("engines.formats.savedmodel.packages.unavailable", lambda: "TensorFlow is not installed")
    monkeypatch.setitem(sys.modules, "tensorflow", None)


@pytest.mark.usefixtures("no_tensorflow")
def test_an_onnx_alone_is_its_own_reference(tmp_path):
    """Without SavedModel and TensorFlow its FP32 form is what FP16 and INT8 are made from and compared with."""
    path, samples = tiny_onnx(tmp_path / "my ids.onnx"), npz(tmp_path / "mine.npz", **TOKENS)
    (chain,) = chains(Store(tmp_path / "build"), engines={"onnx": path}, samples=samples).values()
    assert chain.spec.name == "my_ids"
    assert chain.spec.dimensions == {"length": (8, 4)}
    assert [str(v) for v in chain.variants if v.format == "onnx"] == ["onnx-fp32", "onnx-fp16", "onnx-int8"]
    assert {v.format for v in chain.variants}.isdisjoint({"savedmodel", "tflite"})
    assert any(v.format == "tensorrt" for v in chain.variants)
    hidden = TABLE[TOKENS["tokens:0"]].mean(axis=1) @ WIDE @ WIDE.T @ WIDE
    expected = np.exp(hidden) / np.exp(hidden).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chain.reference("samples", TOKENS)["scores"], expected, atol=1e-5)
    for precision, within in (("fp32", 1e-6), ("fp16", 5e-3), ("int8", 0.1)):
        with chain.runner(Variant("onnx", precision)) as runner:
            np.testing.assert_allclose(runner(TOKENS)["scores"], expected, atol=within)


@pytest.mark.usefixtures("no_tensorflow")
def test_an_onnx_that_cannot_be_the_reference_is_refused(tmp_path):
    """A fixed batch, a damaged file, ids beyond the table and no samples are one error each that names the option."""
    (tmp_path / "text.onnx").write_text("no engine", encoding="utf-8")
    beyond = npz(tmp_path / "beyond.npz", **{"tokens:0": TOKENS["tokens:0"] + 1000})
    sound = tiny_onnx(tmp_path / "sound.onnx")
    for path, samples, message in (
        (tiny_onnx(tmp_path / "fixed.onnx", fixed=True), None, r"is int64 \(2, length\); expected a dynamic batch"),
        (tmp_path / "text.onnx", None, "not a sound ONNX file"),
        (tmp_path / "nowhere.onnx", None, "no such file"),
        (sound, None, r"has dynamic dimensions .*; give --samples"),
        (sound, beyond, r"of 'tokens:0' \(int64, from 1000 to 1\d+\): .*; give --samples of values that it takes"),
    ):
        with pytest.raises(SpecError, match=message) as caught:
            derive_onnx(path, samples)
        assert str(caught.value).startswith(f"--onnx {path}: ")


def test_an_onnx_in_a_description_is_the_reference_too(tmp_path):
    """A TOML file names it by source.onnx, as describe prints it."""
    path = tiny_onnx(tmp_path / "ids.onnx")
    derived = derive_onnx(path, npz(tmp_path / "mine.npz", **TOKENS))
    content = {
        "source": {"onnx": "ids.onnx"},
        "inputs": [{"name": "tokens:0", "shape": [BATCH, "length"], "dtype": "int64", "range": [0, 49]}],
        "outputs": [{"name": "scores", "shape": [BATCH, 3], "kind": "probabilities"}],
        "dimensions": {"length": [8, 4]},
    }
    spec = parse_model(content, tmp_path / "mine.toml")
    assert (spec.file, spec.reference, spec.inputs) == (path, derived.reference, derived.inputs)
    assert registry.variants(spec) == registry.variants(derived)


def test_the_command_checks_an_onnx_alone(tmp_path):
    """`pytest --onnx FILE --samples FILE` checks the file's other precisions, and names it as the reference."""
    tiny_onnx(tmp_path / "ids.onnx")
    npz(tmp_path / "mine.npz", **TOKENS)
    words = ["-m", "consistency", "--ignore=tests/meta", f"--onnx={tmp_path / 'ids.onnx'}", "-p", "no:cacheprovider"]
    words += [f"--samples={tmp_path / 'mine.npz'}", f"--artifacts={tmp_path / 'build'}", "--precisions=onnx=fp32,fp16"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env=environment_apart(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "reference: onnx-fp32, the ONNX as it is written" in done.stdout
    assert "savedmodel" not in done.stdout.partition("collected")[2]


def test_a_savedmodel_is_loaded_once_for_all_inputs_and_anew_where_it_is_another(tmp_path):
    """The reference asks what is in the folder now; what it has loaded of the same files serves all sets of inputs."""
    import tensorflow as tf

    from engines.formats.savedmodel import reference

    values = [SimpleNamespace(name=name, signature_name=name) for name in ("x", "y")]
    spec = SimpleNamespace(name="m", signature="serving_default", inputs=values[:1], outputs=values[1:], constants=())
    x = np.ones((3, 2), np.float32)
    for times in (2.0, 3.0):
        module = tf.Module()
        call = tf.function(lambda x, times=times: {"y": times * x}, [tf.TensorSpec([None, 2], tf.float32, "x")])
        tf.saved_model.save(module, str(tmp_path), {"serving_default": call})
        loads = reference._loaded.cache_info().misses
        for _ in range(2):
            assert (reference.reference_outputs(spec, tmp_path, {"x": x})["y"] == times).all()
        assert reference._loaded.cache_info().misses == loads + 1
