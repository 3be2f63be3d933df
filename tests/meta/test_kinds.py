"""What an output holds is found from graph and answers; each kind fails what is wrong and passes what is rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conformance.compare import ANY, Tolerance, compare
from conformance.messages import Context, _output_lines
from conformance.ranked import aligned
from engines.errors import RunnerError, SpecError
from engines.model.kinds import described, find_kinds, reasons, stated
from engines.model.spec import OutputSpec
from engines.model.toml import parse_model
from engines.outputs import joined, taken

FP32 = Tolerance(6.8e-6, 1.6e-7, 1e-9, 6.8e-6, 0.01, 1e-5, spread=0.01, integers=0.0)
INT8 = Tolerance(0.30, 5e-3, 4.3e-3, 0.15, 0.08, 1e-5)
"""Rows as the formats have them, for real samples."""

CONTEXT = Context("m", "onnx-fp32", "fp32", "samples", 32)

COUNT = 200
RNG = np.random.default_rng(11)


def rounding(array, seed=0):
    """Values a few FP32 roundings away."""
    noise = np.random.default_rng(seed).normal(0, 1e-7, array.shape)
    return (array * (1 + noise)).astype(array.dtype)


def judge(kind, actual, reference, tolerance=FP32, **known):
    """Comparison of one output of a kind."""
    return compare({"y": actual}, {"y": reference}, tolerance, {"y": kind}, **known)


# Scores.

MARKS = 1 / (1 + np.exp(-6 * RNG.normal(size=(COUNT, 6)).astype(np.float32)))
TIED = (0.5 + 1e-7 * RNG.normal(size=(COUNT, 6))).astype(np.float32)
"""Scores of an undecided model: rounding alone puts them on either side."""


@pytest.mark.parametrize("scores", [MARKS, TIED])
def test_rounded_scores_pass(scores):
    """Ties among several scores near one, and scores on the threshold itself, are no decisions to keep."""
    near = (scores + np.random.default_rng(1).normal(0, 1e-7, scores.shape)).astype(np.float32)
    assert judge("scores", near, scores).passed


def test_scores_in_steps_of_a_byte_pass():
    """What TFLite's INT8 makes of sigmoids is sound."""
    steps = (np.clip(np.rint(MARKS * 256), 0, 255) / 256).astype(np.float32)
    assert judge("scores", steps, MARKS, INT8).passed


SCORE_FAULTS = {
    "two outputs swapped": lambda p: p[:, [1, 0, 2, 3, 4, 5]],
    "no sigmoid": lambda p: np.log(p / (1 - p)),
    "one mark never found": lambda p: p * np.float32([1, 1, 0, 1, 1, 1]),
    "a softmax instead": lambda p: p / p.sum(axis=1, keepdims=True),
    "samples in reverse": lambda p: p[::-1],
}


@pytest.mark.parametrize("fault", SCORE_FAULTS)
def test_wrong_scores_fail_in_int8_too(fault):
    """Faults that change decisions fail, however wide a row is."""
    wrong = SCORE_FAULTS[fault](np.clip(MARKS, 1e-6, 1 - 1e-6)).astype(np.float32)
    assert not judge("scores", wrong, MARKS, INT8).passed


def test_decisions_alone_fail_a_wide_row():
    """Scores that are pushed over the threshold by little fail where the reference was sure, and by those decisions."""
    reference = np.where(MARKS > 0.5, 0.6, 0.4).astype(np.float32)
    wrong = reference.copy()
    wrong[:40, 0] = 1 - wrong[:40, 0]
    wide = replace(INT8, mean=1.0)
    (output,) = judge("scores", wrong, reference, replace(wide, flips=0.02)).outputs
    assert [f.name for f in output.figures if not f.passed] == ["flips"]
    assert output.figure("flips").needed == pytest.approx(40 / reference.size)
    (output,) = judge("scores", wrong, reference, replace(wide, margin=0.05)).outputs
    assert [f.name for f in output.figures if not f.passed] == ["margin"]


def test_a_threshold_of_the_model_decides():
    """Decisions are those at the model's own threshold."""
    reference, moved = np.full((COUNT, 1), 0.28, np.float32), np.full((COUNT, 1), 0.38, np.float32)
    wide = replace(INT8, mean=1.0)
    assert judge("scores", moved, reference, replace(wide, margin=0.01)).passed
    assert not judge("scores", moved, reference, replace(wide, margin=0.01), thresholds={"y": 0.35}).passed


# Classes of every pixel.

SHADES = np.exp(4 * RNG.normal(size=(20, 6, 5, 3)))
SHADES = (SHADES / SHADES.sum(axis=-1, keepdims=True)).astype(np.float32)


def test_every_row_along_the_last_axis_is_a_decision():
    """Pixels have classes as samples do: rounding passes, and wrong ones of a picture are told with their place."""
    assert judge("probabilities", rounding(SHADES), SHADES).passed
    wrong = SHADES.copy()
    wrong[3, :2, 1] = SHADES[3, :2, 1, ::-1]
    (output,) = judge("probabilities", wrong, SHADES, replace(INT8, max=1.0, kl=9.0, mean=1.0)).outputs
    assert [f.name for f in output.figures if not f.passed] == ["margin"]
    assert output.figure("flips").needed <= 2 / 600
    ((sample, place),) = ((f.sample, f.place) for f in output.flips)
    assert (sample, place[1]) == (3, 1)
    text = "\n".join(_output_lines(output, wrong, SHADES, CONTEXT))
    assert f"top-1 flips in 1 of 20: sample 3 [{place[0]}, 1]: class " in text
    swapped = judge("logits", SHADES[..., ::-1], SHADES, INT8)
    assert not swapped.passed


# Values.

PRICE = (300_000 + 25_000 * RNG.normal(size=(COUNT, 1))).astype(np.float32)


def test_a_constant_price_fails_and_a_rounded_one_passes():
    """A largest difference of a third of 300,000 is allowed in INT8; not to answer at all is not."""
    constant = np.full_like(PRICE, PRICE.mean())
    (output,) = judge("values", constant, PRICE, replace(INT8, mean=1e-2)).outputs
    assert [f.name for f in output.figures if not f.passed] == ["spread"]
    assert output.figure("spread").needed == pytest.approx(1.0, abs=1e-3)
    step = np.float32(np.ptp(PRICE) / 255)
    assert judge("values", np.rint(PRICE / step) * step, PRICE, INT8).passed
    assert judge("values", rounding(PRICE), PRICE).passed


@pytest.mark.parametrize("fault", [lambda y: y[::-1], lambda y: np.roll(y, 1, 0), lambda y: 2 * y.mean() - y])
def test_answers_of_other_samples_fail(fault):
    """Values of the right distribution that belong to other samples lose the spread twice over."""
    assert judge("values", fault(PRICE), PRICE, replace(INT8, mean=1.0)).outputs[0].figure("spread").needed > 1
    assert not judge("values", fault(PRICE), PRICE, replace(INT8, mean=1.0)).passed


def test_a_reference_that_hardly_depends_on_its_inputs_has_no_spread():
    """Where the reference answers nearly the same to all, or to a few samples only, there is nothing to keep."""
    flat = (PRICE * 0 + 300_000 + RNG.normal(size=PRICE.shape)).astype(np.float32)
    assert judge("values", np.full_like(flat, flat.mean()), flat, INT8).outputs[0].figure("spread") is None
    assert judge("values", PRICE[:4], PRICE[:4]).outputs[0].figure("spread") is None


# Integers.

IDS = RNG.integers(0, 10, (COUNT,)).astype(np.int64)


def test_integers_are_exact_in_fp32_and_may_flip_in_int8():
    """One wrong id fails FP32; in INT8 as many may differ as the row lets classes flip, and not one more."""
    one, many = IDS.copy(), IDS.copy()
    one[3] += 1
    many[: COUNT * 9 // 100] += 1
    assert judge("integers", IDS.copy(), IDS).passed
    assert not judge("integers", one, IDS).passed
    assert judge("integers", one, IDS, INT8).passed
    assert not judge("integers", many, IDS, INT8).passed
    assert not judge("integers", IDS.astype(np.int32), IDS, INT8).passed
    (output,) = judge("integers", one, IDS).outputs
    assert (output.flips[0].sample, output.flips[0].expected, output.flips[0].actual) == (3, IDS[3], IDS[3] + 1)


# Constants.


def test_a_constant_is_compared_once_and_counts_no_samples():
    """A constant of any shape, a single number too, is judged as a whole; samples are those of other outputs."""
    anchors = RNG.random((64, 4)).astype(np.float32)
    kinds = {"a": "constant", "s": "constant", "y": "values"}
    reference = {"a": anchors, "s": np.asarray(3.0, np.float32), "y": PRICE}
    result = compare({n: np.asarray(rounding(a)) for n, a in reference.items()}, reference, FP32, kinds)
    assert result.passed, result.describe()
    assert result.samples == COUNT
    wrong = {**reference, "a": anchors[::-1]}
    assert not compare(wrong, reference, INT8, kinds).passed
    assert not compare({**reference, "s": np.asarray(9.0, np.float32)}, reference, FP32, kinds).passed
    steps = np.arange(5)
    assert not judge("constant", steps + (steps == 2), steps, INT8).passed


# Ranked lists.


def detections(count=40, rows=6):
    """Boxes, scores and classes as CombinedNonMaxSuppression gives them: the last rows of most samples are padding."""
    rng = np.random.default_rng(2)
    scores = np.sort(rng.uniform(0.3, 1, (count, rows)).astype(np.float32), axis=1)[:, ::-1]
    # Each box in a cell of its own, so that none overlaps another.
    corner = np.stack(np.divmod(rng.permuted(np.tile(np.arange(16), (count, 1)), axis=1)[:, :rows], 4), 2)
    boxes = np.concatenate([corner, corner + 0.8], 2).astype(np.float32) / 4
    found = {"boxes": boxes, "scores": scores.copy(), "classes": rng.integers(0, 3, (count, rows)).astype(np.int32)}
    padded = np.arange(rows) >= rng.integers(2, rows + 1, count)[:, None]
    for array in found.values():
        array[padded] = 0
    return found


FOUND = detections()
RANKED = dict.fromkeys(FOUND, "ranked")


def ranked(change, tolerance=FP32):
    """Comparison of changed detections."""
    return compare(change({n: a.copy() for n, a in FOUND.items()}), FOUND, tolerance, RANKED)


def swap(found, one=0, other=1):
    """The detections with two rows of every sample in each other's place."""
    for array in found.values():
        array[:, [one, other]] = array[:, [other, one]]
    return found


def test_rounded_detections_pass():
    """Rounded boxes and scores are the same detections."""
    assert ranked(lambda found: {n: a if n == "classes" else rounding(a) for n, a in found.items()}).passed


def test_rows_of_one_score_may_have_any_order():
    """Two rows that tie are the same list either way, and two that do not are not."""
    tied = {n: a.copy() for n, a in FOUND.items()}
    tied["scores"][:, 1] = tied["scores"][:, 0]
    other = swap({n: a.copy() for n, a in tied.items()})
    assert compare(other, tied, FP32, RANKED).passed
    assert not ranked(swap).passed


def test_lists_without_scores_are_compared_in_their_order():
    """Ids of a top-k whose values are another output belong to those by their place: exchanged, each has another's."""
    draw = np.random.default_rng(0)
    ids = draw.permuted(np.tile(np.arange(6), (50, 1)), axis=1)[:, :3].astype(np.int32)
    kind = {"ids": "ranked"}
    assert compare({"ids": ids.copy()}, {"ids": ids}, FP32, kind).passed
    (found,) = compare({"ids": ids[:, ::-1]}, {"ids": ids}, FP32, kind).outputs
    assert not found.passed
    assert found.notes == ("50 of 150 rows are the same, in their order: no output says their scores",)
    # 0 is one of the ids, and no padding.
    other = np.where(ids == 0, 5, ids)
    assert compare({"ids": other}, {"ids": ids}, FP32, kind).figure("flips").needed == (ids == 0).mean()


def test_padding_is_not_compared():
    """Lists that are padded with -1 instead of zeros are the same lists."""

    def padded(found):
        empty = found["scores"] == 0
        for array in found.values():
            array[empty] = -1
        return found

    assert ranked(padded).passed


def changed(name, value, where=np.s_[:, 0]):
    """What puts a value at a place of one output."""

    def change(found):
        found[name][where] = value(found[name][where])
        return found

    return change


def lost(found):
    """The detections without the best one of every sample; the others move up."""
    return {n: np.concatenate([a[:, 1:], np.zeros_like(a[:, :1])], 1) for n, a in found.items()}


RANKED_FAULTS = {
    "other boxes": changed("boxes", lambda b: 1 - b[:, [2, 3, 0, 1]]),
    "x and y swapped": changed("boxes", lambda b: b[..., [1, 0, 3, 2]], np.s_[:]),
    "another class": changed("classes", lambda c: c + 1),
    "other scores": changed("scores", lambda s: s / 2, np.s_[:]),
    "the best row lost": lost,
    "padding filled": changed("scores", lambda s: s + np.float32(0.5), np.s_[:, -1]),
    "rows in reverse": lambda found: {n: a[:, ::-1] for n, a in found.items()},
}


@pytest.mark.parametrize("fault", RANKED_FAULTS)
def test_wrong_detections_fail_in_int8_too(fault):
    """Boxes, classes, scores and rows that are wrong fail, however wide a row is."""
    assert not ranked(RANKED_FAULTS[fault], INT8).passed


def test_one_lost_detection_fails_fp32_by_its_lead():
    """One row of two hundred may be lost by its share; that it led the others says it was not a tie."""

    def one(found):
        for array in found.values():
            array[0] = np.concatenate([array[0, 1:], np.zeros_like(array[0, :1])])
        return found

    (_, scores, _) = ranked(one).outputs
    assert [f.name for f in scores.figures if not f.passed] == ["margin"]
    assert scores.flips[0].sample == 0


def test_what_dropped_out_at_the_end_of_a_full_list_was_a_tie():
    """The last of the top k may be another one where their scores are as good as equal."""
    scores = np.sort(RNG.random((COUNT, 5)).astype(np.float32), axis=1)[:, ::-1]
    ids = np.tile(np.arange(5, dtype=np.int32), (COUNT, 1))
    other = ids.copy()
    other[0, 4] = 99
    kinds = {"v": "ranked", "i": "ranked"}
    assert compare({"v": scores, "i": other}, {"v": scores, "i": ids}, FP32, kinds).passed
    other[0, 0] = 98
    assert not compare({"v": scores, "i": other}, {"v": scores, "i": ids}, FP32, kinds).passed


def test_batches_are_compared_row_by_row_that_belong_together():
    """Ties that a batch puts in another order are no difference to the sample alone."""
    tied = {n: a.copy() for n, a in FOUND.items()}
    tied["scores"][:, 1] = tied["scores"][:, 0]
    found = aligned(swap({n: a.copy() for n, a in tied.items()}), tied, list(tied))
    for name, array in tied.items():
        np.testing.assert_array_equal(found[name], array)


# Messages.


def test_a_failure_says_what_was_taken_for_what_and_what_says_otherwise():
    """The message has the kind, its reason, the line of TOML against it, and the decisions that differ."""
    wrong = MARKS.copy()
    wrong[7, 2] = 1 - wrong[7, 2]
    spec = SimpleNamespace(outputs=(OutputSpec("y", ("batch", 6), "float32", "scores", "y", why="a sigmoid"),))
    context = Context("m", "onnx-fp32", "fp32", "samples", 32, "", kinds=reasons(spec))
    (output,) = judge("scores", wrong, MARKS).outputs
    text = "\n".join(_output_lines(output, wrong, MARKS, context))
    assert 'scores (a sigmoid); --kind=OUTPUT=KIND, or kind = "…" in its [[outputs]], says otherwise' in text
    assert f"decisions that differ in 1 of {COUNT} samples: sample 7 [2]: {MARKS[7, 2]:.6g} → {wrong[7, 2]:.6g}" in text
    assert stated(spec).startswith("y are scores (a sigmoid)")


@pytest.mark.parametrize("kind", ["integers", "ranked", "constant", "values"])
def test_every_kind_has_a_message(kind):
    """No kind breaks the message of its own failure."""
    reference = np.arange(60).reshape(20, 3).astype(np.int64 if kind == "integers" else np.float32)
    wrong = reference[::-1].copy()
    (output,) = judge(kind, wrong, reference).outputs
    assert not output.passed
    context = Context("m", "onnx-fp32", "fp32", "samples", 32, "")
    assert "FAILED" in "\n".join(_output_lines(output, wrong, reference, context))


# Descriptions.


def described_model(**output):
    """A model's description with one output."""
    content = {
        "source": {"saved_model": "export"},
        "inputs": [{"name": "x", "shape": ["batch", 4]}],
        "outputs": [{"name": "y", "shape": ["batch", 3], "kind": "values", **output}],
        "data": {"dataset": "photographs"},
    }
    return parse_model(content, Path("mine.toml"))


def test_a_description_says_what_outputs_hold():
    """Thresholds, integers and outputs without a batch axis are read as they stand."""
    assert described_model(kind="scores", threshold=0.3).outputs[0].threshold == 0.3
    assert described_model(kind="integers", dtype="int64", shape=["batch"]).outputs[0].dtype == "int64"
    spec = described_model(kind="constant", shape=[64, 4])
    assert spec.constants == {"y"}
    assert spec.concrete_shape(spec.outputs[0], 7) == (64, 4)


WRONG = {
    "a threshold of values": ({"threshold": 0.3}, r"threshold is 0.3; allowed: with kind = \"scores\" only"),
    "a threshold beyond": ({"kind": "scores", "threshold": 3.0}, r"in \[0, 1\]"),
    "integers in floats": ({"kind": "integers"}, "for kind 'integers'"),
    "values in integers": ({"dtype": "int64"}, "float32 for kind 'values'"),
    "a batch in a constant": ({"kind": "constant"}, "sizes ≥ 1"),
    "rows without rows": ({"kind": "ranked", "shape": ["batch"]}, "rows"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_description_that_contradicts_itself_is_refused(wrong):
    """The key, what was found and what is allowed are named."""
    output, said = WRONG[wrong]
    with pytest.raises(SpecError, match=said):
        described_model(**output)


def test_outputs_without_a_batch_axis_stay_whole_and_the_same():
    """Batches are put together, constants taken once; one that changes from batch to batch is an error."""
    spec = SimpleNamespace(
        outputs=(SimpleNamespace(name="y"), SimpleNamespace(name="a")), constants=frozenset({"a"}), name="m"
    )
    one, other = ({"y": np.full((2, 3), v), "a": np.arange(4)} for v in (0, 1))
    together = joined(spec, [one, other])
    assert {name: array.shape for name, array in together.items()} == {"y": (4, 3), "a": (4,)}
    assert taken(spec, together, slice(1))["a"].shape == (4,)
    with pytest.raises(RunnerError, match="'a' has no batch axis, and is another one in batch 2 of 2"):
        joined(spec, [one, {**other, "a": np.arange(4) + 1}])


# Graphs.


def test_a_stochastic_answer_without_a_graph_decides_by_itself():
    """Where only answers are known, rows that sum to one, labels, integers and shapes decide."""
    rows = np.full((8, 4), 0.25, np.float32)
    assert find_kinds(None, {"y": rows})["y"].kind == "probabilities"
    assert find_kinds(None, {"y": rows * 3})["y"].kind == "values"
    assert find_kinds(None, {"y": rows * 3}, np.arange(8) % 4)["y"].kind == "logits"
    assert find_kinds(None, {"y": rows * 3, "z": rows * 3}, np.arange(8) % 4)["y"].kind == "values"
    # Of one output alone labels may be: the others hold no row of scores.
    others = {"n": np.arange(8), "ids": rows.astype(np.int32), "one": rows[:, :1], "two": rows[:, :2]}
    assert find_kinds(None, {"y": rows * 3, **others}, np.arange(8) % 4)["y"].kind == "logits"
    assert find_kinds(None, {"y": np.arange(8)})["y"].kind == "integers"
    assert find_kinds(None, {"y": rows, "a": np.ones((3, 2))}, count=8)["a"].kind == "constant"


def onnx_kinds(text, outputs):
    """Kinds of the outputs of a model in ONNX's own notation."""
    import onnx

    return {n: k.kind for n, k in find_kinds(onnx.parser.parse_model(text), outputs, count=8).items()}


def test_an_onnx_graph_is_read_by_its_operators():
    """Sigmoid behind a reshape, logits beside their softmax, an argmax, top-k and a stored constant."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4] x) =>
          (float[N, 4] s, float[N, 4] l, float[N, 4] p, int64[N] i, float[N, 2] v, int64[N, 2] w, float[3] a)
        <float[4] b = {1, 2, 3, 4}, float[3] a = {1, 2, 3}, int64[1] k = {2}> {
          t = Sigmoid(x)
          s = Identity(t)
          l = Add(x, b)
          p = Softmax(l)
          i = ArgMax<axis = 1, keepdims = 0>(l)
          v, w = TopK(p, k)
        }"""
    rows = RNG.random((8, 4)).astype(np.float32)
    outputs = {"s": rows, "l": rows, "p": rows / rows.sum(1, keepdims=True), "i": np.arange(8), "v": rows[:, :2]}
    outputs |= {"w": np.zeros((8, 2), np.int64), "a": np.arange(3.0)}
    found = {"s": "scores", "l": "logits", "p": "probabilities", "i": "integers"}
    assert onnx_kinds(text, outputs) == {**found, "v": "ranked", "w": "ranked", "a": "constant"}


@pytest.fixture(scope="module")
def signature(tmp_path_factory):
    """Save a function of rows (N, 8) as a SavedModel; return its signature and answers to eight rows."""
    tf = pytest.importorskip("tensorflow")

    def save(answer):
        module = tf.Module()
        module.kernel = tf.Variable(np.random.default_rng(4).normal(size=(8, 8)).astype(np.float32))
        takes = [tf.TensorSpec([None, 8], tf.float32, name="x")]
        module.call = tf.function(lambda x: answer(tf, x @ module.kernel, module), input_signature=takes)
        folder = str(tmp_path_factory.mktemp("graph"))
        tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
        loaded = tf.saved_model.load(folder)
        function = loaded.signatures["serving_default"]
        function.kept = loaded
        x = np.random.default_rng(5).normal(size=(9, 8)).astype(np.float32)
        return function, {n: np.asarray(a) for n, a in function(x=tf.constant(x)).items()}

    return save


def inside(tf, function):
    """The function in a function of its own, as Keras calls its activations."""
    return tf.function(function)


def detector(tf, y):
    """Boxes of every sample, suppressed one sample at a time and padded, as detectors do in a loop."""

    def one(row):
        corner = tf.reshape(row, [4, 2])
        boxes, scores = tf.concat([corner, corner + 1], 1), tf.sigmoid(row[:4])
        kept = tf.image.non_max_suppression(boxes, scores, 4, 0.5)
        return tf.pad(tf.gather(boxes, kept), [[0, 4 - tf.size(kept)], [0, 0]])

    return tf.map_fn(one, y, fn_output_signature=tf.TensorSpec([4, 4], tf.float32))


def suppressed(tf, y):
    """The same by one operator, for all samples."""
    corner = tf.reshape(y, [-1, 4, 1, 2])
    boxes, scores = tf.concat([corner, corner + 1], 3), tf.sigmoid(y[:, :4, None])
    found = tf.image.combined_non_max_suppression(boxes, scores, 4, 4, 0.5, 0.3)
    return {"boxes": found.nmsed_boxes, "scores": found.nmsed_scores, "count": found.valid_detections}


GRAPHS = {
    "a softmax inside a function": (lambda tf, y, m: {"y": inside(tf, tf.nn.softmax)(y)}, {"y": "probabilities"}),
    "sigmoids inside a function": (lambda tf, y, m: {"y": inside(tf, tf.sigmoid)(y)}, {"y": "scores"}),
    "a class of each pixel": (
        lambda tf, y, m: {"y": tf.nn.softmax(tf.reshape(y, [-1, 2, 2, 2]))},
        {"y": "probabilities"},
    ),
    "a softmax along another axis": (
        lambda tf, y, m: {"y": tf.nn.softmax(tf.reshape(y, [-1, 4, 2]), 1)},
        {"y": "values"},
    ),
    "a mask": (lambda tf, y, m: {"y": tf.reshape(tf.sigmoid(y), [-1, 4, 2, 1])}, {"y": "scores"}),
    "coordinates": (lambda tf, y, m: {"y": y[:, :4]}, {"y": "values"}),
    "a gate": (lambda tf, y, m: {"y": y * tf.sigmoid(y)}, {"y": "values"}),
    "logits beside probabilities": (
        lambda tf, y, m: {"l": y, "p": inside(tf, tf.nn.softmax)(tf.identity(y))},
        {"l": "logits", "p": "probabilities"},
    ),
    "logits beside their class": (
        lambda tf, y, m: {"l": y, "c": tf.argmax(y, 1)},
        {"l": "logits", "c": "integers"},
    ),
    "logarithms": (lambda tf, y, m: {"y": tf.nn.log_softmax(y)}, {"y": "logits"}),
    "rows that are divided by their sum": (
        lambda tf, y, m: {"y": tf.nn.relu(y) / tf.reduce_sum(tf.nn.relu(y), 1, keepdims=True)},
        {"y": "probabilities"},
    ),
    "top k": (
        lambda tf, y, m: dict(zip(("values", "indices"), tf.math.top_k(y, 3), strict=True)),
        {"values": "ranked", "indices": "ranked"},
    ),
    "a mean of the best": (lambda tf, y, m: {"y": tf.reduce_mean(tf.math.top_k(y, 3)[0], 1, True)}, {"y": "values"}),
    "suppression in a loop": (lambda tf, y, m: {"y": detector(tf, y)}, {"y": "ranked"}),
    "suppression of all": (
        lambda tf, y, m: suppressed(tf, y),
        {"boxes": "ranked", "scores": "ranked", "count": "integers"},
    ),
    "anchors": (
        lambda tf, y, m: {"offsets": y, "anchors": tf.identity(m.kernel)},
        {"offsets": "values", "anchors": "constant"},
    ),
    "as many anchors as samples": (
        lambda tf, y, m: {"offsets": y, "anchors": tf.ones([9, 4])},
        {"offsets": "values", "anchors": "constant"},
    ),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_kinds_are_found_in_real_graphs(signature, graph):
    """A SavedModel's graph and its answers tell what its outputs hold, through functions, loops and reshapes."""
    answer, expected = GRAPHS[graph]
    function, outputs = signature(answer)
    found = find_kinds(function, outputs, count=9)
    assert {name: kind.kind for name, kind in found.items()} == expected
    assert all(kind.why for kind in found.values())
    for name, kind in found.items():
        table = described(name, outputs[name], kind)
        assert (table["shape"][:1] == ["batch"]) == (kind.kind != "constant")


def test_an_answer_over_the_batch_is_refused(signature):
    """An output that hangs on the inputs and has no batch axis is for no sample: said with its name and shape."""
    function, outputs = signature(lambda tf, y, m: {"y": y, "all": tf.reduce_mean(y, 0)})
    with pytest.raises(SpecError, match=r"'all' has the shape \(8,\) for 9 samples, so no batch axis"):
        find_kinds(function, outputs, count=9)


def test_nothing_is_decided_where_everything_is_allowed():
    """Under stress of an unmeasured model in INT8 the spread is shown and does not decide."""
    result = judge("values", np.full_like(PRICE, PRICE.mean()), PRICE, replace(INT8, mean=ANY, spread=ANY))
    assert result.passed
