"""FP16 is built of any sound graph, answers as FP32 does, and leaves in FP32 what FP16 would silently make wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.errors import ConversionError
from engines.formats.onnx import layers as onnx_layers
from engines.formats.onnx.build import FILE
from engines.formats.onnx.to_fp16 import to_fp16
from engines.formats.savedmodel.packages import tensorflow

ROOT = Path(__file__).resolve().parents[2]

ALLOWED = 1.5e-3
"""The largest difference from FP32, relative to the output's largest value: three units of FP16's roundoff."""

RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(size=(5000, 8))
TABLE[2049] = 3
W = RANDOM.normal(size=(8, 8)) / 3
X = {"x": RANDOM.normal(size=(6, 5, 8))}
IDS = {"x": RANDOM.integers(2049, 5000, (6, 5)), "w": W}


def model(text, stored=None):
    """Parse a graph of the text of its nodes, with the stored FP32 tensors named; opset 17."""
    import onnx
    from onnx import numpy_helper

    if not text.startswith("("):
        text = f"(float[N,5,8] x) => (float[N,5,8] y) {{ {text} }}"
    head = '<ir_version: 8, opset_import: ["" : 17, "mine" : 1, "com.microsoft" : 1]>'
    function = '<domain: "mine", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }'
    parsed = onnx.parser.parse_model(f"{head} g {text} {function}")
    for name, values in (stored or {}).items():
        kind = np.float32 if np.asarray(values).dtype.kind == "f" else None
        parsed.graph.initializer.append(numpy_helper.from_array(np.asarray(values, kind), name))
    return parsed


def run(graph, feeds):
    """Run a model with ONNX Runtime; gives its outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(bool)": np.bool_, "tensor(int32)": np.int32}
    return session.run(None, {i.name: np.asarray(feeds[i.name], kinds[i.type]) for i in session.get_inputs()})


def difference(found, expected):
    """Return the largest difference relative to the output's magnitude; integers and booleans must be the same."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if found.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected)
        return 0.0
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    finite = np.isfinite(expected)
    return float(np.abs(found - expected)[finite].max(initial=0)) / float(np.abs(expected[finite]).max(initial=1e-30))


def converted(text, stored=None):
    """Convert a graph; gives the FP32 model and what was made of it, which ONNX's checker takes."""
    import onnx

    graph = model(text, stored)
    onnx.checker.check_model(graph, full_check=True)
    before = graph.SerializeToString()
    made = to_fp16(graph)
    assert graph.SerializeToString() == before
    onnx.checker.check_model(made.model, full_check=True)
    return graph, made


BORDER = "(float[N,5] x) => (float[N,5,8] y)"
SCORES = "(float[N,5,8] x, float[N,5,1] m) => (float[N,5,8] y)"
MASKED = {
    "x": X["x"],
    "m": RANDOM.integers(0, 2, (6, 5, 1)),
    "w": W,
    "one": 1.0,
    "far": -1e9,
    "lowest": np.finfo("f").min,
}
EVERY_SECOND = np.where(np.arange(8) % 2, -1e9, 0.0)

GRAPHS = {
    "a cast to float": ("h = MatMul(x, w) z = Sub(h, h) g = Greater(h, z) f = Cast<to=1>(g) y = Mul(h, f)", {"w": W}),
    "a choice": ("h = MatMul(x, w) z = Sub(h, h) g = Greater(h, z) y = Where(g, h, z)", {"w": W}),
    "an output that is read again": (
        "(float[N,5,8] x) => (float[N,5,8] p, float[N,5,8] y) { h = MatMul(x, w) p = Softmax(h) y = MatMul(p, w) }",
        {"w": W},
    ),
    "two heads of one layer": (
        "(float[N,5,8] x) => (float[N,5,8] h, float[N,5,8] y) { h = MatMul(x, w) y = Softmax(h) }",
        {"w": W},
    ),
    "an input that is an output": (
        "(float[N,5,8] x) => (float[N,5,8] x, float[N,5,8] y) { y = MatMul(x, w) }",
        {"w": W},
    ),
    "a constant that is an output": (
        "(float[N,5,8] x) => (float[8,8] w, float[N,5,8] y) { y = MatMul(x, w) }",
        {"w": W},
    ),
    "a function of its own": ("h = MatMul(x, w) y = mine.twice(h)", {"w": W}),
    "an operator of another domain": ("h = MatMul(x, w) y = com.microsoft.Gelu(h)", {"w": W}),
    "a mask of -1e9 that is multiplied": (
        f"{SCORES} {{ h = MatMul(x, w) o = Sub(one, m) p = Mul(o, far) s = Add(h, p) y = Softmax<axis=1>(s) }}",
        MASKED,
    ),
    "a mask of booleans": (
        "(float[N,5,8] x, bool[N,5,1] m) => (float[N,5,8] y) { h = MatMul(x, w) f = Cast<to=1>(m) o = Sub(one, f) "
        "p = Mul(o, far) s = Add(h, p) y = Softmax<axis=1>(s) }",
        MASKED,
    ),
    "a mask that is written with its minus": (
        f"{SCORES} {{ h = MatMul(x, w) o = Sub(m, one) p = Mul(o, near) s = Add(h, p) y = Softmax<axis=1>(s) }}",
        {**MASKED, "near": 1e9},
    ),
    "a mask of the lowest float": (
        "(float[N,5,8] x, bool[N,5,1] m) => (float[N,5,8] y) { h = MatMul(x, w) s = Where(m, h, lowest) "
        "y = Softmax<axis=1>(s) }",
        MASKED,
    ),
    "a mask filled into a shape": (
        "(float[N,5,8] x, bool[N,5,1] m) => (float[N,5,8] y) { h = MatMul(x, w) d = Shape(h) "
        "p = ConstantOfShape<value = float[1] {-1e30}>(d) s = Where(m, h, p) y = Softmax<axis=1>(s) }",
        MASKED,
    ),
    "a mask of minus infinity": (
        "h = MatMul(x, w) s = Add(h, i) y = Softmax(s)",
        {"w": W, "i": np.where(EVERY_SECOND, -np.inf, 0.0)},
    ),
    "a mask that is stored": ("h = MatMul(x, w) s = Add(h, i) y = Softmax(s)", {"w": W, "i": EVERY_SECOND}),
    "a softmax written out": (
        "h = MatMul(x, w) s = Add(h, i) t = ReduceMax<axes=[2]>(s) d = Sub(s, t) e = Exp(d) u = ReduceSum(e, a) "
        "y = Div(e, u)",
        {"w": W, "i": EVERY_SECOND, "a": np.array([2])},
    ),
    "bounds that bound nothing": (
        "h = MatMul(x, w) c = Clip(h, lowest, highest) y = Min(c, highest)",
        {"w": W, "lowest": np.finfo("f").min, "highest": np.finfo("f").max},
    ),
    "branches with the same names": (
        "(float[N,5,8] x, bool c) => (float[N,5,8] y) { h = MatMul(x, w) y = If(c) <then_branch = t () => "
        "(float[N,5,8] a) { k = Constant<value = float {2}>() p = Mul(h, k) a = Add(p, x) }, else_branch = e () => "
        "(float[N,5,8] a) { k = Constant<value = float {3}>() p = Mul(h, k) a = MatMul(p, w) }> }",
        {"w": W, "c": True},
    ),
    "a loop": (
        "n = Constant<value = int64 {3}>() yes = Constant<value = bool {1}>() y, z = Loop(n, yes, x) <body = b "
        "(int64 i, bool c, float[N,5,8] s) => (bool d, float[N,5,8] t, float[N,5,8] v) "
        "{ d = Identity(c) u = MatMul(s, w) t = Tanh(u) v = Identity(t) }>",
        {"w": W},
    ),
    "a loop that counts in floats": (
        "(float[N,5,8] x) => (float[N,5,8] y, float n) { yes = Constant<value = bool {1}>() h = MatMul(x, w) "
        "z = Constant<value = float {2040}>() o = Constant<value = float {1}>() m = Constant<value = float {2060}>() "
        'n, y = Loop("", yes, z, h) <body = b (int64 i, bool c, float s, float[N,5,8] g) => '
        "(bool d, float t, float[N,5,8] v) { t = Add(s, o) d = Less(t, m) f = Add(g, g) v = Tanh(f) }> }",
        {"w": W},
    ),
    "a range inside of a branch": (
        "(float[N,5,8] x, bool c) => (float[N,5,8] y) { h = MatMul(x, w) y = If(c) <then_branch = t () => "
        "(float[N,5,8] a) { z = Constant<value = float {0}>() o = Constant<value = float {1}>() e = Constant<value = "
        "float {8}>() r = Range(z, e, o) a = Add(h, r) }, else_branch = e () => (float[N,5,8] b) "
        "{ b = Identity(h) }> }",
        {"w": W, "c": True},
    ),
    "a scan": (
        "t = Transpose<perm=[1,0,2]>(x) z = ReduceMax<axes=[1], keepdims=0>(x) s, o = Scan<num_scan_inputs=1, body = b "
        "(float[N,8] a, float[N,8] i) => (float[N,8] n, float[N,8] q) { u = MatMul(a, w) v = Add(u, i) n = Tanh(v) "
        "q = Identity(n) }>(z, t) y = Transpose<perm=[1,0,2]>(o)",
        {"w": W / 2},
    ),
    "a list of tensors": (
        "(float[N,5,8] x) => (float[N,5,16] y) { h = MatMul(x, w) l = SequenceConstruct(h, x) "
        "y = ConcatFromSequence<axis=2>(l) }",
        {"w": W},
    ),
    "recurrent layers": (
        "(float[N,5,8] x) => (float[N,1,5,4] y) { l, a, b = LSTM<hidden_size=4, layout=0>(x, v, r) "
        "y = Transpose<perm=[0,1,2,3]>(l) }",
        {"v": RANDOM.normal(size=(1, 16, 8)) / 3, "r": RANDOM.normal(size=(1, 16, 4)) / 3},
    ),
    "gates": (
        "(float[N,5,8] x) => (float[N,1,5,4] y) { y, a = GRU<hidden_size=4, linear_before_reset=1>(x, v, r) }",
        {"v": RANDOM.normal(size=(1, 12, 8)) / 3, "r": RANDOM.normal(size=(1, 12, 4)) / 3},
    ),
    "boxes": (
        "(float[1,40,4] x, float[1,2,40] s) => (int64[K,3] i, float[1,40,4] b) { t = MatMul(x, half) b = Sigmoid(t) "
        "q = Sigmoid(s) i = NonMaxSuppression(b, q, most, overlap, least) }",
        {
            "x": np.concatenate([RANDOM.uniform(-2, 0, (1, 40, 2)), RANDOM.uniform(0, 2, (1, 40, 2))], 2),
            "s": np.linspace(-3, 3, 80).reshape(1, 2, 40),
            "half": np.eye(4) / 2,
            "most": np.array([5]),
            "overlap": 0.5,
            "least": 0.25,
        },
    ),
    "float ids": (f"{BORDER} {{ i = Cast<to=6>(x) e = Gather(t, i) y = MatMul(e, w) }}", {**IDS, "t": TABLE}),
    "float ids that are rounded and moved": (
        f"{BORDER} {{ a = Identity(x) r = Round(a) d = Reshape(r, all) i = Cast<to=7>(d) e = Gather(t, i) "
        "f = Reshape(e, back) y = MatMul(f, w) }",
        {**IDS, "t": TABLE, "all": np.array([-1]), "back": np.array([-1, 5, 8])},
    ),
    "float ids that are compared": (
        f"{BORDER} {{ k = Equal(x, pad) q = Unsqueeze(k, last) f = Cast<to=1>(q) m = Mul(f, row) y = MatMul(m, w) }}",
        {
            "x": np.tile([2047, 2048, 2049, 2050, 2051], (6, 1)),
            "pad": 2049.0,
            "row": W[:1],
            "w": W,
            "last": np.array([2]),
        },
    ),
    "integer ids that are cast": (
        "(int32[N,5] x) => (float[N,5,8] y) { f = Cast<to=1>(x) g = Add(f, one) i = Cast<to=7>(g) e = Gather(t, i) "
        "y = MatMul(e, w) }",
        {**IDS, "one": -1.0, "t": TABLE},
    ),
    "a bin of a large scale": (
        "h = MatMul(x, w) s = Sigmoid(h) l = Mul(s, many) i = Cast<to=7>(l) j = Div(i, thousand) e = Gather(t, j) "
        "g = ReduceMean<axes=[3], keepdims=0>(e) y = Add(g, h)",
        {"w": W, "many": 90000.0, "thousand": np.array(90000), "t": TABLE[:2]},
    ),
    "a mean of many": (
        "(float[N,300,300] x) => (float[N,1,300] y) { d = Shape(x) p = ReduceProd(d) q = Cast<to=1>(p) "
        "s = ReduceSum(x, a) h = MatMul(s, v) u = Mul(h, n) y = Div(u, q) }",
        {"x": RANDOM.random((2, 300, 300)), "a": np.array([1]), "v": np.eye(300), "n": 100.0},
    ),
    "positions": (
        "d = Shape(x) k = Gather(d, one) r = Range(start, k, step) f = Cast<to=1>(r) q = Mul(f, many) s = Sin(q) "
        "t = Unsqueeze(s, last) h = MatMul(x, w) y = Add(h, t)",
        {"w": W, "many": 1234.5, "one": np.array(1), "start": np.array(0), "step": np.array(1), "last": np.array([1])},
    ),
    "columns beyond FP16": (
        "n = Sub(x, mean) s = Div(n, deviation) y = MatMul(s, w)",
        {"x": RANDOM.normal(3e5, 1e5, (6, 5, 8)), "mean": np.full(8, 3e5), "deviation": np.full(8, 1e5), "w": W},
    ),
    "a small factor": (
        "h = MatMul(x, w) a = Mul(h, tiny) b = Mul(a, large) y = Tanh(b)",
        {"w": W, "tiny": 1e-6, "large": 60000.0},
    ),
    "a norm of large values": (
        "h = MatMul(x, w) a = ReduceMean<axes=[2]>(h) d = Sub(h, a) q = Mul(d, d) v = ReduceMean<axes=[2]>(q) "
        "e = Add(v, epsilon) r = Sqrt(e) n = Div(d, r) y = Mul(n, gamma)",
        {"w": W * 3000, "epsilon": 1e-6, "gamma": np.linspace(0.5, 2, 8)},
    ),
    "a length of nothing": (
        "h = MatMul(x, w) q = Mul(h, h) v = ReduceSum(q, a) e = Max(v, epsilon) r = Sqrt(e) i = Reciprocal(r) "
        "y = Mul(h, i)",
        {"x": X["x"] * (np.arange(6) > 2)[:, None, None], "w": W, "epsilon": 1e-12, "a": np.array([2])},
    ),
    "layer normalization": (
        "h = MatMul(x, w) y, m, d = LayerNormalization(h, gamma, beta)",
        {"w": W, "gamma": np.ones(8), "beta": np.zeros(8)},
    ),
    "exact gelu": (
        "h = MatMul(x, w) a = Mul(h, root) e = Erf(a) o = Add(e, one) b = Mul(h, o) y = Mul(b, half)",
        {"w": W, "root": 0.5**0.5, "one": 1.0, "half": 0.5},
    ),
    "attention": (
        "q = MatMul(x, w) k = Transpose<perm=[0,2,1]>(x) s = MatMul(q, k) t = Mul(s, scale) c = Add(t, causal) "
        "p = Softmax(c) y = MatMul(p, x)",
        {"w": W, "scale": 8**-0.5, "causal": np.triu(np.full((5, 5), -1e9), 1)},
    ),
    "a picture resized": (
        '(float[N,3,4,4] x) => (float[N,2,A,B] y) { c = Conv(x, k) y = Resize<mode="linear">(c, "", scales) }',
        {
            "x": RANDOM.random((2, 3, 4, 4)),
            "k": RANDOM.normal(size=(2, 3, 1, 1)),
            "scales": np.array([1.0, 1, 2.5, 3]),
        },
    ),
    "a picture resized by its own size": (
        "(float[N,3,4,4] x) => (float[N,2,A,B] y) { c = Conv(x, k) d = Shape(c) f = Cast<to=1>(d) s = Div(to, f) "
        'y = Resize<mode="nearest">(c, "", s) }',
        {
            "x": RANDOM.random((2, 3, 4, 4)),
            "k": RANDOM.normal(size=(2, 3, 1, 1)),
            "to": np.array([2.0, 2, 12, 20]),
        },
    ),
    "sums along a row, and ranks": (
        "h = MatMul(x, w) s = Sigmoid(h) c = CumSum(s, a) y, i = TopK(c, k)",
        {"w": W, "a": np.array(1), "k": np.array([8])},
    ),
    "doubles": ("d = Cast<to=11>(x) e = Mul(d, d) f = Cast<to=1>(e) y = MatMul(f, w)", {"w": W}),
    "quantized": (
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w)",
        {"w": W, "s": 1 / 32, "z": np.int8(0)},
    ),
    "a diagonal": ("h = MatMul(x, w) e = EyeLike<k=1>(w) y = MatMul(h, e)", {"w": W}),
}


def parts(name):
    """Text of a graph, what it stores, and what it is fed."""
    text, values = GRAPHS[name]
    inputs = re.findall(r"(\w+)(?=[,)])", text.split("=>")[0]) if text.startswith("(") else ["x"]
    everything = {**X, **values}
    stored = {k: v for k, v in everything.items() if k not in inputs}
    return text, {k: v for k, v in stored.items() if re.search(rf"\b{k}\b", text)}, everything


@pytest.mark.parametrize("name", GRAPHS)
def test_answers_are_those_of_fp32(name):
    """Whatever the graph has inside, FP16 is built of it, runs, and differs by rounding alone."""
    text, stored, feeds = parts(name)
    graph, made = converted(text, stored)
    expected, found = run(graph, feeds), run(made.model, feeds)
    assert max(difference(f, e) for f, e in zip(found, expected, strict=True)) <= ALLOWED
    assert any(tensor.data_type == 10 for tensor in made.model.graph.initializer)


def test_norms_keep_their_squares_in_fp32():
    """In FP16 operator by operator, a norm of values whose squares are beyond FP16 is right, and so is one of zeros."""
    from onnx.reference import ReferenceEvaluator

    for name in ("a norm of large values", "a length of nothing", "a mean of many"):
        text, stored, feeds = parts(name)
        graph, made = converted(text, stored)
        found = ReferenceEvaluator(made.model).run(None, {"x": feeds["x"].astype(np.float32)})
        assert difference(found[0], run(graph, feeds)[0]) <= ALLOWED, name


BEYOND = {
    "weights": ("y = MatMul(x, large)", "MatMul", "1e+06"),
    "an offset": ("h = MatMul(x, w) y = Add(h, far)", "Add", "3e+05"),
    "a mask that is given out": (
        "(float[N,5,8] x) => (float[N,5,8] s, float[N,5,8] y) { h = MatMul(x, w) s = Add(h, mask) y = Softmax(s) }",
        "Add",
        "1e+09",
    ),
    "a mask of which the logarithm is left": ("h = MatMul(x, w) s = Add(h, mask) y = LogSoftmax(s)", "Add", "1e+09"),
    "a mask that is averaged, too": (
        "h = MatMul(x, w) s = Add(h, mask) p = Softmax(s) a = ReduceMean<axes=[2]>(s) y = Add(p, a)",
        "Add",
        "1e+09",
    ),
    "a mask that is scaled down": (
        "h = MatMul(x, w) s = Add(h, mask) t = Mul(s, thousandth) u = Mul(t, thousandth) y = Softmax(u)",
        "Add",
        "1e+09",
    ),
    "an offset before a softmax": ("h = MatMul(x, w) s = Add(h, far) y = Softmax(s)", "Add", "3e+05"),
    "a slope before a softmax": ("h = MatMul(x, w) s = Mul(h, far) y = Softmax(s)", "Mul", "3e+05"),
    "a mask inside of a branch": (
        "(float[N,5,8] x, bool c) => (float[N,5,8] y) { h = MatMul(x, w) y = If(c) <then_branch = t () => "
        "(float[N,5,8] a) { a = Add(h, far) }, else_branch = e () => (float[N,5,8] b) { b = Identity(h) }> }",
        "Add",
        "3e+05",
    ),
}


@pytest.mark.parametrize("name", BEYOND)
def test_a_constant_that_matters_and_does_not_fit_is_refused(name):
    """Operator, node, constant and value are named, FP16's end, and what to do; nothing is clamped without a word."""
    text, operator, value = BEYOND[name]
    everything = {"w": W, "large": W * 0 + 1e6, "far": 3e5, "mask": EVERY_SECOND, "thousandth": 1e-3}
    stored = {k: v for k, v in everything.items() if re.search(rf"\b{k}\b", text)}
    with pytest.raises(ConversionError) as caught:
        to_fp16(model(text, stored))
    assert re.search(
        rf"^{operator} '{operator}': constant '\w+' reaches {re.escape(value)}, beyond FP16's largest value 65504; "
        "leave fp16 out of this model's precisions, or rescale the constant",
        str(caught.value),
    )


def test_what_was_done_beyond_rounding_is_said():
    """Clamped masks, constants moved up from zero and nodes left in FP32 are listed, and only those."""
    text, stored, _ = parts("a mask of the lowest float")
    assert converted(text, stored)[1].clamped == ("constant 'lowest' of Where 'Where': -3.4e+38 to -30000",)
    made = converted("h = MatMul(x, w) y = Add(h, e)", {"w": W, "e": 1e-9})[1]
    assert made.moved == ("constant 'e': 1e-09 to FP16's smallest value 5.96e-08",)
    assert (made.clamped, made.kept_in_fp32) == ((), ())
    text, stored, _ = parts("float ids that are rounded and moved")
    assert converted(text, stored)[1].kept_in_fp32 == (
        "Identity 'Identity'",
        "Round 'Round'",
        "Reshape 'Reshape'",
        "Cast 'Cast'",
    )


def test_rows_that_a_mask_hides_entirely_stay_finite():
    """A row that two masks hide, with scores below zero, is no NaN in FP16: infinity less infinity would be one."""
    from onnx.reference import ReferenceEvaluator

    text = "h = MatMul(x, w) s = Add(h, a) t = Add(s, b) y = Softmax(t)"
    masks = np.zeros((5, 8))
    masks[1] = -1e9
    made = converted(text, {"w": W * 100, "a": masks, "b": masks})[1]
    (found,) = ReferenceEvaluator(made.model).run(None, {"x": X["x"].astype(np.float32)})
    assert np.isfinite(found).all()


def test_the_same_file_comes_of_the_same_graph():
    """A store can tell by its bytes whether an FP16 model is the one that was made before."""
    for name in ("branches with the same names", "attention", "a picture resized by its own size"):
        text, stored, _ = parts(name)
        first, second = (to_fp16(model(text, stored)).model.SerializeToString(deterministic=True) for _ in range(2))
        assert first == second


# What tf2onnx makes of TensorFlow


def everything(tf):
    """Make a module that computes, of 12 tokens of 8 features, what Keras and TensorFlow are asked for most."""
    import keras

    keras.utils.set_random_seed(3)
    module, make = tf.Module(), keras.layers
    module.layers = [
        make.Embedding(6000, 8),
        make.LSTM(6),
        make.GRU(6),
        make.Dense(8),
        make.Conv2D(3, 3, padding="same"),
        make.MultiHeadAttention(2, 4),
        make.LayerNormalization(),
        make.UnitNormalization(),
        make.UpSampling2D(3, interpolation="bilinear"),
    ]

    def f(x):
        embedding, lstm, gru, dense, convolution, attention, norm, unit, larger = module.layers
        embedded = embedding(x[:, :, 0] * 1000 + 4000)  # ids in floats, of which FP16 knows the even ones at best
        real = tf.reduce_sum(tf.abs(x), -1) > 3
        scores = tf.matmul(x, x, transpose_b=True) + (1 - tf.cast(real, tf.float32))[:, None] * -1e9
        hidden = dense(x)
        corners = tf.sigmoid(tf.reshape(hidden[:2], (48, 4)))
        loop = tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(h @ dense.kernel)), (0, hidden[:, 0]))
        return {
            "embedding": embedded[:, :, 0],
            "lstm": lstm(embedded),
            "gru": gru(x),
            "attention": tf.matmul(tf.nn.softmax(scores), x)[:, 0],
            "heads": attention(x, x, attention_mask=real[:, None])[:, 0],
            "norm": norm(hidden * 400)[:, 0],
            "unit": unit(hidden)[:, 0],
            "gelu": keras.activations.gelu(hidden, approximate=False)[:, 0],
            "chosen": tf.where(hidden > 0.1, hidden, 0.2 * hidden)[:, 0],
            "upsampled": larger(convolution(x[..., None]))[:, 5, :, 0],
            "branch": tf.cond(tf.reduce_mean(x) > 0, lambda: hidden * 2, lambda: hidden - 1)[:, 0],
            "loop": loop[1],
            "read again": tf.nn.softmax(loop[1]),
            "boxes": tf.image.non_max_suppression(corners, corners[:, 0], 5),
        }

    f(tf.zeros((2, 12, 8)))
    module.f = tf.function(f, input_signature=[tf.TensorSpec((None, 12, 8), tf.float32, "x")])
    return module


OUTPUTS = ["embedding", "lstm", "gru", "attention", "heads", "norm", "unit", "gelu", "chosen", "upsampled"]
OUTPUTS += ["branch", "loop", "read again", "boxes"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Convert all of that as one model, once; gives the answers in FP32 and FP16 by output, and what was done."""
    import onnx

    tf, folder = tensorflow(), tmp_path_factory.mktemp("layers")
    module = everything(tf)
    tf.saved_model.save(module, str(folder / "saved"), signatures={"serving_default": module.f})
    command = [
        sys.executable,
        "-m",
        "engines.formats.onnx.tf2onnx_command",
        "--saved-model",
        str(folder / "saved"),
        "--opset",
        "17",
    ]
    command += ["--output", str(folder / FILE), "--tag", "serve", "--signature_def", "serving_default"]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=True)
    graph = onnx.load(str(folder / FILE))
    made = to_fp16(graph)
    onnx.checker.check_model(made.model, full_check=True)
    x = {"x": np.round(np.random.default_rng(5).uniform(-1, 1, (6, 12, 8)), 3)}
    names = [output.name for output in graph.graph.output]
    return {n: (w, h) for n, w, h in zip(names, run(graph, x), run(made.model, x), strict=True)}, made


@pytest.mark.parametrize("output", OUTPUTS)
def test_layers_of_tensorflow_answer_as_in_fp32(built, output):
    """Of what tf2onnx makes of a SavedModel, every kind of layer is built and differs by rounding alone."""
    answers, _ = built
    assert set(answers) == set(OUTPUTS)
    wide, half = answers[output]
    assert difference(half, wide) <= ALLOWED


def test_layers_of_tensorflow_compute_in_fp16(built, tmp_path):
    """All layers with weights are in FP16, those inside of loops and branches too."""
    import onnx

    onnx.save(built[1].model, str(tmp_path / FILE))
    found = onnx_layers.layers(tmp_path / FILE)
    assert {layer.precision for layer in found} == {"fp16"}
    assert len(found) >= 7
    # Their squares leave FP16's range before anything else does.
    for norm in ("layer_normalization", "unit_normalization"):
        assert any(re.match(rf"Mul .*{norm}.*Square", node) for node in built[1].kept_in_fp32)
