"""What FP16 cannot hold is found where it changes an ONNX engine's answers, and only there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from engines.chain import Chain
from engines.formats.onnx.fp16 import InFp16, kept_in_fp16
from engines.formats.onnx.runner import OnnxRunner
from engines.model import datasets
from engines.model.bundled import find_model
from engines.model.toml import load_model, parse_model
from engines.variant import Variant
from fixtures.chain import CHAINS, Shared
from tests.meta.apart import environment_apart
from trial.overflow import lost_in_fp16
from trial.rows import row
from trial.rules import Rule

ROOT = Path(__file__).resolve().parents[2]
FP16 = Variant("onnx", "fp16")
CLASSES = 4
RULE = Rule(row(FP16.row_name, "samples").tolerance, {})


@pytest.fixture(scope="module")
def spec():
    """Describe a model of four features in [0, 1] that gives as many probabilities; files may call its input x."""
    content = {
        "name": "tiny",
        "source": {"saved_model": "nowhere"},
        "inputs": [{"name": "features", "shape": ["batch", CLASSES]}],
        "outputs": [{"name": "y", "shape": ["batch", CLASSES], "kind": "probabilities"}],
        "data": {"dataset": "photographs"},
    }
    return parse_model(content, Path("tiny.toml"))


TIMES = '<domain: "mine", opset_import: ["" : 17]> times (a, f) => (b) { b = Mul(a, f) }'
"""A function that any graph here may call."""


def written(path, body, stored):
    """Write an ONNX file from the text of its nodes; ``stored`` gives its FP16 tensors by name."""
    import onnx
    from onnx import numpy_helper

    graph = f"g (float[N,4] x) => (float[N,4] y) {{ {body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "mine" : 1]> {graph} {TIMES}')
    tensors = {name: np.asarray(values, np.float16) for name, values in stored.items()}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors.items())
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def samples(count=6):
    """Make features in [0, 1], those of sample 3 the largest by far."""
    values = np.random.default_rng(0).uniform(0.1, 0.2, (count, CLASSES)).astype(np.float32)
    values[3:4] *= 5
    return {"features": values}


BEFORE, AFTER = "h = Cast<to=10>(x)", "s = Softmax(r) y = Cast<to=1>(s)"
"""The cast of the input to FP16, and the softmax of FP16 scores."""

SURVIVES = {
    "values that just fit": (f"{BEFORE} b = Mul(h, large) r = Div(b, large) {AFTER}", {"large": 65000}),
    "values that FP16 rounds to its largest": (
        f"{BEFORE} z = Sub(h, h) a = Add(z, large) b = Add(a, eight) c = Sub(b, large) d = Div(c, large) r = Add(h, d) "
        f"{AFTER}",
        {"large": 65504, "eight": 8},
    ),
    "a mask of the lowest value": (
        f"{BEFORE} b = Mul(h, scale) r = Add(b, mask) {AFTER}",
        {"scale": -40, "mask": [0, 0, -65504, -65504]},
    ),
    "a mask of minus infinity": (f"{BEFORE} r = Add(h, mask) {AFTER}", {"mask": [0, 0, -np.inf, -np.inf]}),
    "an infinity that FP32 has too": (f"{BEFORE} z = Sub(h, h) l = Log(z) e = Exp(l) r = Add(h, e) {AFTER}", {}),
    "a cube of which the tanh is taken": (
        f"{BEFORE} b = Mul(h, large) c = Mul(b, b) d = Mul(c, b) t = Tanh(d) r = Add(h, t) {AFTER}",
        {"large": 300},
    ),
    "that part kept in FP32": (
        f"{BEFORE} w = Cast<to=1>(h) k = Cast<to=1>(large) b = Mul(w, k) c = Mul(b, k) d = Div(c, k) e = Div(d, k) "
        f"r = Cast<to=10>(e) {AFTER}",
        {"large": 60000},
    ),
    "a loop whose body declares FP16": (
        f"{BEFORE} n = Constant<value = int64 {{2}}>() yes = Constant<value = bool {{1}}>() "
        "r = Loop(n, yes, h) <body = b (int64 i, bool c, float16[N,4] s) => (bool d, float16[N,4] t) "
        f"{{ d = Identity(c) t = Add(s, s) }}> {AFTER}",
        {},
    ),
    "a type that an attribute gives": (f"{BEFORE} e = EyeLike<dtype=10>(h) r = Add(h, e) {AFTER}", {}),
    "nothing in FP16": ("b = Mul(x, x) y = Softmax(b)", {}),
}

NOT_FINITE = "elements of the output are NaN or infinite"
BACK = f"d = Div(c, large) r = Div(d, four) {AFTER}"
"""Undoes a multiplication by both constants."""

LOST = {
    "a product": (f"{BEFORE} b = Mul(h, large) c = Mul(b, four) {BACK}", 60000, ("c", "Mul", 240e3), NOT_FINITE),
    "negative values": (f"{BEFORE} b = Mul(h, large) c = Mul(b, four) {BACK}", -60000, ("c", "Mul", 240e3), NOT_FINITE),
    "what a function gives": (
        f"{BEFORE} b = Mul(h, large) c = mine.times(b, four) {BACK}",
        60000,
        ("c", "Mul", 240e3),
        NOT_FINITE,
    ),
    "beside a mask of minus infinity": (
        f"{BEFORE} m = Add(h, mask) b = Mul(m, large) c = Mul(b, four) {BACK}",
        60000,
        ("c", "Mul", 240e3),
        NOT_FINITE,
    ),
    "an input": (
        f"l = Cast<to=1>(large) f = Cast<to=1>(four) i = Mul(x, l) j = Mul(i, f) c = Cast<to=10>(j) {BACK}",
        60000,
        ("c", "Cast", 240e3),
        NOT_FINITE,
    ),
    "a constant in a node": (
        f"{BEFORE} k = Constant<value = float {{4}}>() f = Cast<to=10>(k) b = Mul(h, large) c = Mul(b, f) {BACK}",
        60000,
        ("c", "Mul", 240e3),
        NOT_FINITE,
    ),
    "what a branch gives": (
        f"{BEFORE} yes = Constant<value = bool {{1}}>() c = If(yes) <then_branch = t () => (float16[N,4] a) "
        "{ p = Mul(h, large) k = Constant<value = float {4}>() f = Cast<to=10>(k) a = Mul(p, f) }, "
        "else_branch = e () => (float16[N,4] o) { o = Identity(h) }> "
        f"{BACK}",
        60000,
        ("c", "If", 240e3),
        NOT_FINITE,
    ),
    "a variance, after which every class is as likely": (
        f"{BEFORE} b = Mul(h, large) c = Mul(b, b) m = ReduceMean<axes=[1], keepdims=1>(c) q = Sqrt(m) d = Div(b, q) "
        f"r = Mul(d, four) {AFTER}",
        600,
        ("c", "Mul", 600**2),
        "FAILED: max",
    ),
}


def real(path, inputs):
    """Compute in FP16 what a graph has in FP16, operator by operator, with NumPy."""
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        return ReferenceEvaluator(str(path)).run(None, {"x": inputs["features"]})[0]


@pytest.mark.parametrize("sound", SURVIVES)
def test_what_changes_no_answer_passes(spec, tmp_path, sound):
    """Masks, infinities that are meant, saturated functions and parts in FP32 pass; NumPy's FP16 says so, too."""
    path = written(tmp_path / "sound.onnx", *SURVIVES[sound])
    tensors = kept_in_fp16(path)
    assert bool(tensors) == (sound != "nothing in FP16")
    with InFp16(spec, FP16, path, tensors) as engine:
        assert lost_in_fp16(engine, samples(), RULE, "samples") == ""
        plain = engine.plain(samples())["y"]
    np.testing.assert_allclose(real(path, samples()), plain, atol=0.02)


@pytest.mark.parametrize("overflow", LOST)
def test_what_changes_answers_is_named(spec, tmp_path, overflow):
    """The message has the first tensor that does not fit, its operator, value and sample; NumPy's FP16 is as wrong."""
    body, large, (tensor, operator, factor), found = LOST[overflow]
    path = written(tmp_path / "overflow.onnx", body, {"large": large, "four": 4, "mask": [0, 0, 0, -np.inf]})
    with InFp16(spec, FP16, path, kept_in_fp16(path)) as engine:
        lost = lost_in_fp16(engine, samples(), RULE, "contrast", [f"number {i}" for i in range(6)])
        plain, limited = (runner(samples())["y"] for runner in (engine.plain, engine.limited))
    reached = re.search(
        rf"tensor +'{tensor}', the output of {operator}, reaches (\S+) on sample 3 \(number 3\); ", lost
    )
    assert reached, lost
    power = 2 if "variance" in overflow else 1
    assert float(reached[1]) == pytest.approx(factor * samples()["features"].max() ** power, rel=1e-4)
    assert found in lost
    assert "keep that part in FP32" in lost
    np.testing.assert_allclose(limited, real(path, samples()), atol=0.02)
    assert np.isfinite(plain).all()


def test_an_overflow_is_found_behind_a_sample_that_rounding_moves_further(spec, tmp_path, monkeypatch):
    """The sample that is furthest off may hold nothing beyond FP16: those behind it are looked at, too."""
    body, large, _, _ = LOST["a variance, after which every class is as likely"]
    path = written(tmp_path / "overflow.onnx", body, {"large": large, "four": 4, "mask": [0, 0, 0, -np.inf]})
    with InFp16(spec, FP16, path, kept_in_fp16(path)) as engine:
        run = OnnxRunner.__call__

        def moved(runner, inputs):
            answers = {name: array.copy() for name, array in run(runner, inputs).items()}
            if runner is engine.limited:
                # No rounding is so large on demand: another class, for certain, of a sample that fits.
                answers["y"][0] = np.eye(CLASSES)[answers["y"][0].argmin()]
            return answers

        monkeypatch.setattr(OnnxRunner, "__call__", moved)
        assert "on sample 3" in lost_in_fp16(engine, samples(), RULE, "samples")


def test_answers_that_fp32_lacks_too_are_left_to_other_tests(spec, tmp_path):
    """A sample that is NaN in FP32 is none that FP16 lost; one that it did lose beside it is found all the same."""
    nan = f"{BEFORE} b = Mul(h, large) c = Mul(b, four) z = Sub(x, half) l = Log(z) k = Cast<to=10>(l) d = Add(c, k)"
    for four, lost in ((1, ""), (4, "on sample 3")):
        body = f"half = Constant<value = float {{0.15}}>() {nan} e = Div(d, large) r = Div(e, four) {AFTER}"
        path = written(tmp_path / f"{four}.onnx", body, {"large": 60000, "four": four})
        with InFp16(spec, FP16, path, kept_in_fp16(path)) as engine:
            finite = np.isfinite(engine.plain(samples())["y"]).all(axis=1)
            assert 0 < finite.sum() < 6
            found = lost_in_fp16(engine, samples(), RULE, "samples")
        assert lost in found
        assert bool(found) == bool(lost)


def overflow_inside(path, target):
    """Scale what the first fully connected layer gives beyond FP16's range and back; write that to ``target``."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path))
    graph = model.graph
    place, product = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "MatMul")
    (name,) = product.output
    product.output[0] = "before"
    for constant, value in (("large", 60000), ("more", 300)):
        graph.initializer.append(numpy_helper.from_array(np.float16(value), constant))
    steps = [("Mul", "before", "large", "far"), ("Mul", "far", "more", "beyond")]
    steps += [("Div", "beyond", "large", "near"), ("Div", "near", "more", name)]
    for number, (kind, *inputs, output) in enumerate(steps, place + 1):
        graph.node.insert(number, helper.make_node(kind, inputs, [output]))
    onnx.save(model, str(target))
    return target


@pytest.mark.slow
def test_the_command_fails_an_overflow(pytestconfig, tmp_path):
    """`pytest --onnx=FILE` fails by the test that looks for it, and its replay command stands in the message."""
    spec = load_model(find_model("digits_vgg"))
    store = next(iter(pytestconfig.stash[CHAINS].values())).store
    chain = Chain(spec, datasets.locate(spec.dataset, input_name=spec.inputs[0].name), store)
    path = overflow_inside(chain.file(FP16), tmp_path / "overflow.onnx")
    with ExitStack() as opened:
        shared = Shared(chain, opened)
        _ = shared.reference, shared.contrast, shared.drawn
    shutil.copytree(store.root / spec.name, tmp_path / "build" / spec.name)
    words = ["-m", "consistency", "-k", "onnx and not drawn_inputs", "-p", "no:cacheprovider", f"--model={spec.name}"]
    command = [sys.executable, "-m", "pytest", *words, f"--onnx={path}", f"--artifacts={tmp_path / 'build'}"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment_apart(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    test = "tests/test_consistency.py::test_answers_survive_what_fp16_cannot_hold[digits_vgg-onnx-fp16]"
    # Where ONNX Runtime computes in FP16, other tests fail, too.
    assert test in re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    assert "tensor     'far', the output of Mul, reaches" in done.stdout
    assert f"  replay     pytest '{test}' --model={spec.name} --onnx={path}" in done.stdout
