"""FP16 engines of one's own model may differ by what FP16's rounding does to that model, and by no more."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.chain import Chain
from engines.formats.onnx.build import FILE
from engines.formats.onnx.fp16 import _session, rounded
from engines.formats.onnx.runner import OnnxRunner
from engines.formats.savedmodel.packages import tensorflow
from engines.model.brought import read_samples
from engines.model.bundled import find_model
from engines.model.derive import derive_spec
from engines.store import Store
from engines.variant import Variant
from tests.meta.apart import environment_apart
from trial import rounding
from trial.rounding import MOST, own_rule
from trial.rows import row
from trial.rules import Outputs, compare_of, rule_of

ROOT = Path(__file__).resolve().parents[2]
FP32, FP16 = Variant("onnx", "fp32"), Variant("onnx", "fp16")


@pytest.fixture(scope="module")
def steep(tmp_path_factory):
    """Function that saves a model, with samples, whose layers cancel values as large as told."""
    tf, known = tensorflow(), {}
    generator = np.random.default_rng(3)
    first, second = (generator.normal(size=size).astype(np.float32) for size in ((8, 16), (16, 4)))
    folder = tmp_path_factory.mktemp("steep")
    second = (second - second.mean(axis=0)) / 4
    np.savez(folder / "mine.npz", x=generator.random((200, 8), np.float32))

    def call(factor):
        if factor not in known:
            module = tf.Module()
            large = tf.constant(np.full(16, 4 * factor, np.float32))
            module.f = tf.function(lambda x: {"scores": tf.nn.softmax((x @ first + large) @ second)})
            signature = module.f.get_concrete_function(x=tf.TensorSpec((None, 8), tf.float32, "x"))
            saved = folder / f"steep{factor}"
            tf.saved_model.save(module, str(saved), signatures={"serving_default": signature})
            spec = derive_spec(saved, None)
            known[factor] = Chain(spec, read_samples(folder / "mine.npz", spec), Store(folder / "build"))
        return known[factor]

    return call


def outputs_of(chain, path=None):
    """Run the FP16 ONNX of a chain, or another file, on the samples."""
    samples = chain.samples.inputs
    with OnnxRunner(chain.spec, FP16, path or chain.file(FP16)) as runner:
        return runner, Outputs(samples, runner(samples), chain.reference("samples", samples))


def test_a_steep_model_may_differ_by_what_rounding_does_to_it(steep):
    """A sound FP16 engine that is beyond the row passes, and the reason says by what it was judged."""
    chain = steep(12)
    runner, given = outputs_of(chain)
    rule = rule_of(chain, FP16, "samples")
    assert not compare_of(runner, given, rule).passed
    own = own_rule(chain, FP16, "samples", rule, given.inputs)
    assert compare_of(runner, given, own).passed
    assert "or 4 times what rounding to FP16 does to this model's own FP32 ONNX" in own.tolerance.why
    assert own.tolerance.sum == rule.tolerance.sum


def test_what_is_wrong_with_a_steep_model_is_not_rounding(steep, tmp_path):
    """The same engine with its weights off by two percent fails by the wider rule, too."""
    import onnx
    from onnx import numpy_helper

    chain = steep(12)
    model = onnx.load(str(chain.file(FP16)))
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((values * np.float16(1.02)).astype(values.dtype), tensor.name))
    onnx.save(model, str(tmp_path / FILE))
    runner, given = outputs_of(chain, tmp_path / FILE)
    rule = rule_of(chain, FP16, "samples")
    assert not compare_of(runner, given, own_rule(chain, FP16, "samples", rule, given.inputs)).passed


def test_a_model_that_does_not_bear_fp16_fails(steep):
    """However far rounding moves a model, no figure is allowed more than so many times the row's."""
    chain = steep(60)
    runner, given = outputs_of(chain)
    rule = rule_of(chain, FP16, "samples")
    own = own_rule(chain, FP16, "samples", rule, given.inputs)
    for name, most in MOST.items():
        assert getattr(rule.tolerance, name) <= getattr(own.tolerance, name) <= most * getattr(rule.tolerance, name)
    assert own.tolerance.mean == MOST["mean"] * rule.tolerance.mean
    assert not compare_of(runner, given, own).passed


@pytest.mark.parametrize("variant", [FP32, Variant("onnx", "int8"), Variant("tensorrt", "int8+fp16")], ids=str)
def test_no_other_precision_is_allowed_more(steep, variant):
    """Rounding to FP16 excuses nothing in FP32, and INT8 has noise of its own."""
    chain = steep(12)
    assert own_rule(chain, variant, "samples", rule_of(chain, variant, "samples"), chain.samples.inputs) is None


def test_a_model_that_was_measured_keeps_its_rows(steep):
    """Bundled models, and kinds of input for which a model has a row of its own, are judged by those."""
    chain = steep(12)
    pair = [row("onnx-fp16", "samples").tolerance.max, 0.01]
    own = replace(chain.spec, tolerances={"onnx-fp16": {"why": "measured", "samples": {"max": pair}}})
    bundled = replace(chain, spec=replace(chain.spec, path=find_model("digits_vgg")))
    for other, kind in ((replace(chain, spec=own), "samples"), (bundled, "samples"), (bundled, "stress")):
        assert own_rule(other, FP16, kind, rule_of(chain, FP16, kind, 20), chain.samples.inputs) is None
    stress = rule_of(chain, FP16, "stress", 20)
    assert own_rule(replace(chain, spec=own), FP16, "stress", stress, chain.samples.inputs) is not None


def test_without_onnx_runtime_the_row_stands(steep, monkeypatch):
    """What cannot be run excuses nothing."""
    monkeypatch.setattr(rounding, "unavailable", lambda: "not installed")
    chain = steep(12)
    assert own_rule(chain, FP16, "samples", rule_of(chain, FP16, "samples"), chain.samples.inputs) is None


def test_a_brought_file_is_no_measure_of_itself(steep, tmp_path):
    """What rounding does is seen on the ONNX that is converted here, whatever file is under test."""
    chain = steep(12)
    (tmp_path / FILE).write_bytes(b"no ONNX")
    brought = replace(chain, brought={"onnx": tmp_path / FILE})
    rule = rule_of(chain, FP16, "samples")
    found, expected = (own_rule(c, FP16, "samples", rule, chain.samples.inputs) for c in (brought, chain))
    assert found.tolerance == expected.tolerance


def test_every_value_is_rounded_in_what_is_run(steep, tmp_path):
    """ONNX Runtime's optimizations leave the roundings in: answers are those of the operators one by one."""
    import onnx

    chain = steep(12)
    model = rounded(chain.file(FP32))
    onnx.save(model, str(tmp_path / FILE))
    inputs = chain.samples.inputs
    with OnnxRunner(chain.spec, FP32, tmp_path / FILE) as narrow, chain.runner(FP32) as plain:
        (found,), (exact,) = narrow(inputs).values(), plain(inputs).values()
        (expected,) = _session(model).run(None, narrow.feeds(inputs))
    assert np.array_equal(found, found.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=2**-11)
    assert 1e-4 < np.abs(found - exact).max() < 0.05


@pytest.mark.slow
def test_the_command_passes_a_sound_steep_model(steep):
    """`pytest --saved-model` passes the FP16 engines of a model that is steeper than the bundled ones."""
    chain = steep(12)
    words = [f"--saved-model={chain.spec.saved_model}", f"--samples={chain.store.root.parent / 'mine.npz'}"]
    words += ["-m", "consistency", "-k", "fp16", f"--artifacts={chain.store.root}", "-p", "no:cacheprovider"]
    environment = environment_apart()
    command = [sys.executable, "-m", "pytest", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "onnx-fp16 " in done.stdout
