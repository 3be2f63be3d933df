"""Verdicts by the model's own noise: sound conversions pass, and faults that rows allow fail."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from commands.__main__ import main
from conformance.bounds import CONFIDENCE, runs_needed
from conformance.compare import ANYTHING, compare
from conformance.noise import SAFE, noise_of
from conformance.tolerances import ToleranceError
from engines.chain import Chain
from engines.formats import registry
from engines.formats.onnx.build import FILE
from engines.formats.onnx.runner import OnnxRunner
from engines.formats.onnx.scales import mismatched, symmetric_by_channel
from engines.formats.savedmodel.packages import tensorflow
from engines.model import selection
from engines.model.brought import read_samples
from engines.model.derive import derive_spec
from engines.store import Store
from engines.variant import Variant
from fixtures.chain import artifact_folder
from tests.meta.apart import environment_apart
from trial import batching, judged, sets
from trial.batching import Steady, steady
from trial.bearable import Bearable
from trial.judged import compared
from trial.outputs import Outputs
from trial.own_noise import DOUBTED_RUNS, RUNS, noise_at, noise_in, own_inputs, own_noise, precisions
from trial.rows import row
from trial.rules import rule_of
from trial.scales import output_kinds
from trial.twin import Twin, TwinError, twin

ROOT = Path(__file__).resolve().parents[2]
FP32, FP16, INT8 = Variant("onnx", "fp32"), Variant("onnx", "fp16"), Variant("onnx", "int8")


@pytest.fixture(scope="module")
def artifacts(request):
    """Folder of this run's artifacts."""
    return artifact_folder(request.config)


@pytest.fixture(scope="module")
def digits(artifacts):
    """Chain of the bundled digits model."""
    (chain,) = selection.chains(Store(artifacts), models=["digits_vgg"]).values()
    return chain


def answered(chain, variant, path=None):
    """What a variant answers on the samples, by its own file or another one; and its runner."""
    samples = chain.samples.inputs
    with OnnxRunner(chain.spec, variant, path) if path else chain.runner(variant) as runner:
        return runner, Outputs(samples, runner(samples), chain.reference("samples", samples))


def failed(comparison):
    """Names of the figures that are beyond what is allowed."""
    return {f.name for o in comparison.outputs for f in o.figures if not f.passed}


@pytest.mark.parametrize("name", ["onnx-fp32", "onnx-fp16", "onnx-int8", "tflite-fp32", "tflite-fp16", "tflite-int8"])
def test_sound_variants_are_within_the_noise(digits, name):
    """Every variant of the bundled model that a CPU runs is within what its precision does to the model."""
    runner, given = answered(digits, Variant(*name.split("-")))
    rule, comparison = compared(digits, runner, "samples", given)
    assert rule.noise is not None
    assert failed(comparison) == set()
    assert {"shift", "slope", "worst", "excess", "net"} <= {f.name for f in comparison.outputs[0].figures}


def test_a_temperature_that_the_row_allows_fails_with_its_ratio_to_the_noise(digits):
    """Logits 0.15 % too large pass the FP16 row of this model, and not what FP16 does to it; the figure says so."""
    runner, given = answered(digits, FP16)
    (name,) = given.actual
    sure = given.actual[name].astype(np.float64) ** 1.0015
    given = replace(given, actual={name: (sure / sure.sum(axis=1, keepdims=True)).astype(np.float32)})
    by_row = compare(given.actual, given.reference, row("onnx-fp16", "samples").tolerance, output_kinds(digits.spec))
    assert by_row.passed
    _, comparison = compared(digits, runner, "samples", given)
    assert "slope" in failed(comparison)
    assert "times what FP16 does to this model (" in comparison.outputs[0].figure("slope").beside


def test_a_slope_that_is_beyond_alone_is_asked_for_by_many_runs(digits, monkeypatch):
    """Few samples may make it what it is: the twin is run more often, and on those; a wrong slope still fails."""
    runner, given = answered(digits, FP16)
    (name,) = given.actual
    sure = given.reference[name].astype(np.float64) ** 1.0015
    given = replace(given, actual={name: (sure / sure.sum(axis=1, keepdims=True)).astype(np.float32)})
    asked, run = [], judged.noise_at

    def counted(*words):
        asked.append(words[-2])
        return run(*words)

    monkeypatch.setattr(judged, "noise_at", counted)
    _, comparison = compared(digits, runner, "samples", given)
    assert failed(comparison) == {"slope"}
    assert asked[-1] == DOUBTED_RUNS
    assert set(asked[:-1]) <= {RUNS}


@pytest.mark.parametrize(("times", "runs"), [(1.6, [RUNS, DOUBTED_RUNS]), (4.0, [RUNS])])
def test_a_made_up_input_that_is_a_little_beyond_is_asked_for_by_many_runs(digits, monkeypatch, times, runs):
    """It may then reach what nearly all runs would; one that is far beyond is not doubted, and neither passes so."""
    noise, asked, run = own_noise(digits, INT8, "stress"), [], judged.noise_at
    inputs, answers = own_inputs(digits, "stress")
    (name,) = noise.limits
    actual, share = answers()[name].copy(), times * noise.limits[name]["max"].allowed
    actual[3] = (1 - share) * actual[3] + share * np.eye(10)[actual[3].argmin()]

    def counted(*words):
        asked.append(words[-2:])
        return run(*words)

    monkeypatch.setattr(judged, "noise_at", counted)
    with digits.runner(INT8) as runner:
        compared(digits, runner, "stress", Outputs(inputs, {name: actual}, answers()))
    assert [asked_runs for asked_runs, _ in asked[: len(runs)]] == runs
    assert [confidence for _, confidence in asked[: len(runs)]] == [CONFIDENCE, SAFE][: len(runs)]


def test_runs_are_made_once_and_kept_in_the_store(digits, monkeypatch):
    """Another process finds the answers of the runs in the store: no twin is run again."""
    first = noise_in(digits, "fp32", "samples")
    monkeypatch.setattr(twin.Twin, "of", lambda *_: pytest.fail("a twin was made again"))
    again = noise_in(replace(digits, known={}), "fp32", "samples")
    assert again.limits == first.limits
    assert len(again.runs) >= 8


@pytest.mark.parametrize("kind", ["samples", "stress"])
def test_where_no_twin_can_be_run_what_is_stored_decides(digits, monkeypatch, kind):
    """Without ONNX Runtime, as beside TensorRT alone, stored runs decide; a failure says what that may miss."""
    runner, given = answered(digits, Variant("onnx", "int8"))
    own_noise(digits, runner.variant, kind)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (name,) = given.actual
    rule, comparison = compared(digits, runner, kind, replace(given, actual={name: np.roll(given.actual[name], 1, 1)}))
    assert rule.noise is not None
    assert not comparison.passed
    assert "a twin might allow more, but digits_vgg: no twin is run: ONNX Runtime is not installed" in rule.why


def test_runs_at_the_inputs_that_an_engine_answers_worst_are_kept_until_it_is_others(digits, monkeypatch):
    """An engine that has not changed costs no runs of the twin again; other inputs, or another place, do."""
    noise, (_, given) = own_noise(digits, INT8, "samples"), answered(digits, INT8)
    few, others = given.part(np.arange(3)), given.part(np.arange(3, 6))
    run, asked = Twin.runs, []
    monkeypatch.setattr(Twin, "runs", lambda self, *rest: asked.append(rest) or run(self, *rest))
    first = noise_at(digits, noise, few, "onnx-int8.here.furthest-0")
    again = noise_at(replace(digits, known={}), noise, few, "onnx-int8.here.furthest-0")
    assert len(asked) == 1
    assert again.limits == first.limits == noise_at(digits, noise, few).limits
    other = noise_at(digits, noise, others, "onnx-int8.here.furthest-0")
    assert other.limits == noise_at(digits, noise, others).limits != first.limits
    assert len(asked) == 4


def test_a_bundled_model_is_allowed_no_more_than_its_row(digits):
    """The rows were measured on it: they are a ceiling of what its twin tells."""
    for variant in (FP32, FP16, INT8):
        rule, own = rule_of(digits, variant, "samples"), row(str(variant), "samples").tolerance
        (found,) = rule.tolerances(["dense_1"], 100).values()
        for figure in ("max", "mean", "kl", "margin", "flips", "sum"):
            assert getattr(found, figure) <= getattr(own, figure)


def test_an_own_tolerance_wins_and_says_so(digits):
    """A row in the model's own file decides alone, and the reason names the file."""
    pair = [row("onnx-fp16", "samples").tolerance.max, 0.01]
    own = replace(digits.spec, tolerances={"onnx-fp16": {"why": "measured", "samples": {"max": pair}}})
    rule = rule_of(replace(digits, spec=own), FP16, "samples")
    assert rule.noise is None
    assert "an own tolerance, which wins over what the model's twin tells" in rule.why
    assert str(own.source) in rule.why
    assert rule_of(replace(digits, spec=own), FP16, "stress").noise is not None


def test_textures_leave_what_hypothesis_drew_in_the_store(digits, monkeypatch):
    """References of the tests' draws stay where a command judges: another machine reads them, and can make none."""
    names = []
    monkeypatch.setattr(sets, "bearable", lambda chain, name, *_: names.append(name) or Bearable((), {}, {}, ()))
    assert [found.name for found in sets.Sets(digits).every][-2:] == ["contrast", "drawn"]
    assert names == ["contrast", "textures"]


def test_a_format_whose_arithmetic_is_not_known_is_judged_by_its_row(digits, monkeypatch):
    """An arithmetic that nobody stated has no twin: the reason names the variant, and the row decides."""
    variant = next(v for v in digits.variants if v.precision == "int8+fp16")
    monkeypatch.setattr(registry.find("tensorrt"), "arithmetics", {})
    with pytest.raises(TwinError, match=r"tensorrt-int8\+fp16.*: how it computes has no twin"):
        own_noise(digits, variant, "samples")
    rule = rule_of(digits, variant, "samples")
    assert rule.noise is None
    assert "by this row of the table alone, for tensorrt-int8+fp16" in rule.why


def test_a_refusal_is_kept_in_the_store(digits, monkeypatch):
    """A model that has no twin is found out once: the store holds the line that says why."""

    def refuse(*_):
        raise TwinError("output 'p' is unstable in bf16")

    monkeypatch.setattr(twin.Twin, "of", refuse)
    for _ in range(2):
        with pytest.raises(TwinError, match="unstable in bf16"):
            noise_in(replace(digits, known={}), "bf16", "samples")
        monkeypatch.setattr(twin.Twin, "of", lambda *_: pytest.fail("it was asked again"))


@pytest.mark.parametrize(("wrong", "passed"), [((3,), True), ((3, 5), False)], ids=["only there", "elsewhere, too"])
def test_a_made_up_input_that_the_model_answers_by_rounding_is_spared(digits, monkeypatch, wrong, passed):
    """An engine may answer otherwise where the twin's own runs do, and nowhere else because of it."""
    count, pixels = 40, digits.spec.inputs[0].name
    inputs = {i.name: np.zeros(digits.spec.concrete_shape(i, count), i.dtype) for i in digits.spec.inputs}
    (name,) = kinds = output_kinds(digits.spec)
    reference = {name: np.full((count, 10), 0.1, np.float32)}
    reference[name][:, 0] += np.linspace(0.1, 0.2, count, dtype=np.float32)

    def noise(rows):
        """Noise of runs that give input 3 another class, and move others by FP32's rounding."""
        draw = np.random.default_rng(0)
        runs = []
        for number in range(8):
            run = reference[name][rows] + draw.normal(size=(len(rows), 10), scale=1e-7).astype(np.float32)
            run[rows == 3] = np.roll(reference[name][3], number % 3)
            runs.append({name: run.astype(np.float32)})
        return noise_of({name: reference[name][rows]}, runs, kinds, "fp32", single=True)

    rule = replace(rule_of(digits, FP32, "stress"), noise=noise(np.arange(8, count)), tolerance=ANYTHING)
    monkeypatch.setattr(judged, "rule_of", lambda *_: rule)
    monkeypatch.setattr(
        judged, "noise_at", lambda _, __, given, *___: noise(given.inputs[pixels][:, 0, 0, 0].astype(int))
    )
    inputs[pixels][:, 0, 0, 0] = np.arange(count)
    actual = {name: reference[name].copy()}
    for at in wrong:
        actual[name][at] = np.roll(actual[name][at], 1)
    found, comparison = judged.compared_by(digits, FP32, "stress", Outputs(inputs, actual, reference), {})
    assert comparison.passed is passed
    assert found.spared == (3,)


@pytest.mark.parametrize(("wrong", "passed"), [((3,), True), ((3, 5), False)], ids=["only there", "elsewhere, too"])
def test_in_int8_what_the_model_answers_by_rounding_excuses_no_other_input(digits, monkeypatch, wrong, passed):
    """An input that runs give another class lets any difference pass; where no run does, another class fails."""
    count, pixels = 40, digits.spec.inputs[0].name
    inputs = {i.name: np.zeros(digits.spec.concrete_shape(i, count), i.dtype) for i in digits.spec.inputs}
    inputs[pixels][:, 0, 0, 0] = np.arange(count)
    (name,) = kinds = output_kinds(digits.spec)
    reference = {name: np.full((count, 10), 0.01, np.float32)}
    reference[name][:, 0] = 0.91

    def noise(rows):
        """Noise of runs that give input 3 another class, and move others by a few hundredths."""
        draw = np.random.default_rng(0)
        runs = [reference[name][rows] + draw.normal(size=(len(rows), 10), scale=0.02) for _ in range(8)]
        for number, run in enumerate(runs):
            run[rows == 3] = np.roll(reference[name][3], number % 3)
        answers = [{name: run.astype(np.float32)} for run in runs]
        return noise_of({name: reference[name][rows]}, answers, kinds, "int8-symmetric", single=True)

    rule = replace(rule_of(digits, INT8, "stress"), noise=noise(np.arange(count)), tolerance=ANYTHING)
    assert rule.tolerances([name], count)[name].max > 1
    monkeypatch.setattr(judged, "rule_of", lambda *_: rule)
    monkeypatch.setattr(
        judged, "noise_at", lambda _, __, given, *___: noise(given.inputs[pixels][:, 0, 0, 0].astype(int))
    )
    actual = {name: reference[name].copy()}
    for at in wrong:
        actual[name][at] = np.roll(actual[name][at], 1)
    found, comparison = judged.compared_by(digits, INT8, "stress", Outputs(inputs, actual, reference), {})
    assert comparison.passed is passed
    assert found.spared == (3,)
    if not passed:
        assert failed(comparison) == {"max"}
        assert found.why.startswith(judged.SETTLED)
        assert comparison.outputs[0].worst_sample == 5


def test_in_int8_an_input_that_fails_an_engine_was_asked_for_by_many_runs(digits, monkeypatch):
    """One of eight runs may be needed to see that an input is answered by rounding: 64 of them see it, and spare it."""
    (name,) = kinds = output_kinds(digits.spec)
    inputs = {i.name: np.zeros(digits.spec.concrete_shape(i, 8), i.dtype) for i in digits.spec.inputs}
    reference = {name: np.full((8, 10), 0.01, np.float32)}
    reference[name][:, 0] = 0.91
    asked = []

    def noise(rows, count=8, every=10):
        """Noise of runs of which every tenth gives each input another class, or every second."""
        asked.append((len(rows), count))
        runs = [reference[name][rows] + np.float32(0.001 * (number % 3)) for number in range(count)]
        runs = [np.roll(run, 1, axis=1) if number % every == every - 1 else run for number, run in enumerate(runs)]
        answers = [{name: run} for run in runs]
        return noise_of({name: reference[name][rows]}, answers, kinds, "int8-symmetric", single=True)

    rule = replace(rule_of(digits, INT8, "stress"), noise=noise(np.arange(8), every=2), tolerance=ANYTHING)
    monkeypatch.setattr(judged, "rule_of", lambda *_: rule)
    monkeypatch.setattr(
        judged,
        "noise_at",
        lambda _, __, given, ___, *count: noise(np.arange(len(given.inputs[next(iter(inputs))])), *count),
    )
    actual = {name: reference[name].copy()}
    actual[name][[2, 5]] = np.roll(actual[name][[2, 5]], 1, axis=1)
    given = Outputs(inputs, actual, reference)
    found, comparison = judged.compared_by(digits, INT8, "stress", given, {})
    assert asked[1:] == [(2, 8), (2, judged.DOUBTED_RUNS)]
    assert comparison.passed
    assert found.spared == (2, 5)


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


def test_a_steep_model_may_differ_by_what_rounding_does_to_it(steep):
    """A sound FP16 engine that is beyond the row passes, and the reason says by what it was judged."""
    chain = steep(12)
    runner, given = answered(chain, FP16)
    by_row = compare(given.actual, given.reference, row("onnx-fp16", "samples").tolerance, output_kinds(chain.spec))
    assert not by_row.passed
    rule, comparison = compared(chain, runner, "samples", given)
    assert failed(comparison) == set()
    assert rule.why.startswith("2 times what FP16 does to this model (99 % of 8 runs of its twin, 64 samples)")


def test_what_is_wrong_with_a_steep_model_is_not_rounding(steep, tmp_path):
    """The same engine with its weights off by two percent fails."""
    import onnx
    from onnx import numpy_helper

    chain = steep(12)
    model = onnx.load(str(chain.file(FP16)))
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((values * np.float16(1.02)).astype(values.dtype), tensor.name))
    onnx.save(model, str(tmp_path / FILE))
    runner, given = answered(chain, FP16, tmp_path / FILE)
    assert failed(compared(chain, runner, "samples", given)[1])


def test_a_model_that_does_not_bear_fp16_fails(steep):
    """However far rounding moves a model, no figure is allowed more than the next coarser precision's row."""
    chain = steep(2000)
    runner, given = answered(chain, FP16)
    rule, comparison = compared(chain, runner, "samples", given)
    (found,) = rule.tolerances(["scores"], 100).values()
    coarser = row("onnx-int8", "samples").tolerance
    assert found.mean == coarser.mean
    assert failed(comparison)


def test_batching_may_move_an_answer_by_what_fp32_does_to_the_model(steep, digits):
    """A steep model's limit is its own FP32 noise; a bundled one keeps its row; one file's own row wins."""
    chain = steep(12)
    usual = row("onnx-fp32", "samples")
    assert usual
    found = steady(chain, FP32)["scores"]
    noise = noise_in(chain, "fp32", "samples")
    assert found.allowed == noise.of("scores", 100)["max"].allowed > 4.8e-7
    assert "what FP32 does to this model" in found.why
    assert steady(digits, FP32)["dense_1"].allowed == 4.8e-7
    assert steady(chain, Variant("onnx", "fp16"))["scores"].allowed > found.allowed
    own = replace(chain.spec, tolerances={"onnx-fp32": {"why": "measured", "batching": [1e-3, 1e-3]}})
    assert steady(replace(chain, spec=own), FP32)["scores"].allowed == 1e-3


def test_integers_may_tip_in_one_sample_of_ten():
    """What INT8 does to a sample is allowed of few samples; of many, or by more, their batch is at work."""
    limit = Steady(1e-6, tipped=1e-2)
    few, many, far = np.zeros(40), np.zeros(40), np.zeros(40)
    few[:4], many[:5], far[0] = 5e-3, 5e-3, 2e-2
    assert not limit.beyond(few).any()
    assert limit.beyond(many).sum() == 5
    assert limit.beyond(far).sum() == 1
    assert Steady(1e-6).beyond(few).sum() == 4
    # Of fewer than ten samples one may, and no second one; what is allowed may be needed to the last bit.
    assert Steady(0.25, tipped=0.5).beyond(np.array([0.5, 0.25, 0.0])).tolist() == [False, False, False]
    assert Steady(0.25, tipped=0.5).beyond(np.array([0.5, 0.375, 0.25])).tolist() == [True, True, False]
    assert Steady(0.25).beyond(np.array([0.125, 0.0, 0.0])).tolist() == [False, False, False]
    assert Steady(0.25).beyond(np.array([0.25, 0.0, 0.5])).tolist() == [False, False, True]


def change(path, folder, function):
    """Copy of an ONNX whose graph was changed."""
    import onnx

    model = onnx.load(str(path))
    function(model.graph)
    onnx.save(model, str(folder / FILE))
    return folder / FILE


def test_a_scale_that_is_written_and_not_read_is_a_fault(digits, tmp_path):
    """A quantization's scale that is not its dequantization's is named, in any layer; a sound file has none."""
    from onnx import numpy_helper

    path = digits.file(INT8)
    assert mismatched(path) == []
    assert symmetric_by_channel(path)

    def wider(graph):
        node = next(n for n in graph.node if n.op_type == "QuantizeLinear")
        (scale,) = (t for t in graph.initializer if t.name == node.input[1])
        changed = numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.145), "wider")
        graph.initializer.append(changed)
        node.input[1] = "wider"

    (found,) = mismatched(change(path, tmp_path, wider))
    assert "is quantized with scale" in found

    def asymmetric(graph):
        node = next(n for n in graph.node if n.op_type == "QuantizeLinear")
        graph.initializer.append(numpy_helper.from_array(np.int8(3), "three"))
        node.input[2] = "three"

    changed = change(path, tmp_path, asymmetric)
    assert "zero point 3 and dequantized with 0" in mismatched(changed)[0]
    assert not symmetric_by_channel(changed)


def test_the_suite_catches_the_scale_of_an_early_layer(digits, tmp_path, artifacts):
    """The test of scales fails by itself where a brought file has such a fault, and passes a sound one."""
    from onnx import numpy_helper

    def wider(graph):
        node = next(n for n in graph.node if n.op_type == "QuantizeLinear")
        (scale,) = (t for t in graph.initializer if t.name == node.input[1])
        graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.001), "wider"))
        node.input[1] = "wider"

    for function, code, words in ((wider, 1, "is quantized with scale"), (lambda _: None, 0, "1 passed")):
        path = change(digits.file(INT8), tmp_path, function)
        command = [sys.executable, "-m", "pytest", "--model=digits_vgg", f"--onnx={path}", f"--artifacts={artifacts}"]
        command += ["tests/test_consistency.py", "-k", "dequantized_by_the_same", "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=ROOT, env=environment_apart(), capture_output=True, text=True, check=False)
        assert (done.returncode, words in done.stdout) == (code, True), done.stdout


def test_the_command_tells_each_variant(artifacts, capsys):
    """Its lines name variant, twin and the figure that needs most; those that cannot run say why."""
    assert main(["noise", "digits_vgg", "--format=onnx", "--count=100", f"--artifacts={artifacts}"]) == 0
    text = capsys.readouterr().out
    for variant in ("onnx-fp32", "onnx-fp16", "onnx-int8"):
        assert f"{variant}: within its noise" in text
    assert main(["noise", "digits_vgg", "--format=none", f"--artifacts={artifacts}"]) == 1
    assert "no variant was judged" in capsys.readouterr().err


def test_building_everything_keeps_what_a_machine_without_tensorflow_is_judged_by(digits, artifacts):
    """The twins of TensorRT's precisions are stored where it cannot run: where it does, nothing may make them."""
    assert main(["build", "digits_vgg", f"--artifacts={artifacts}"]) == 0
    assert {"fp32-device", "fp16", "int8-calibrated", "int8-symmetric"} <= set(precisions(digits))
    stored = digits.store.names("digits_vgg")
    for precision in precisions(digits):
        assert [n for n in stored if n.startswith(f"twin-{precision}-samples-")], precision
        assert [n for n in stored if n.startswith(f"twin-{precision}-stress-")], precision


def test_a_count_of_nothing_is_refused(capsys):
    """The option, what was found, and what is allowed."""
    with pytest.raises(SystemExit, match="2"):
        main(["noise", "digits_vgg", "--count=0"])
    assert "--count=0; allowed: 1 or more" in capsys.readouterr().err


def test_a_twin_is_run_as_often_as_its_bounds_need():
    """The others of each run are as many as the confidence asks for."""
    assert runs_needed() + 1 == RUNS


def test_integers_keep_the_row_of_batching(monkeypatch):
    """What rounding does to an integer is told by how often it differs, which says nothing of how far it may move."""
    answers = {"p": np.full((9, 3), 1 / 3, np.float32), "n": np.arange(9)}
    runs = [{**answers, "p": answers["p"] + np.float32(k * 1e-7)} for k in range(1, 10)]
    noise = noise_of(answers, runs, {"p": "probabilities", "n": "integers"}, "fp32")
    outputs = [SimpleNamespace(name="p"), SimpleNamespace(name="n")]
    spec = SimpleNamespace(bundled=False, tolerances={}, outputs=outputs, source="mine")
    monkeypatch.setattr(batching, "noise_in", lambda *_: noise)
    found = batching.steady(SimpleNamespace(spec=spec, samples=range(9)), FP32)
    assert found["n"] == Steady(batching._row(spec, FP32, ""))
    assert found["p"].allowed > found["n"].allowed


def noise_like(precision, **allowed):
    """Noise of nine samples that allows each output a largest difference; ``n`` holds integers."""

    def of(name, count):
        return {"max": SimpleNamespace(allowed=allowed[name])} if count == 9 else {}

    kinds = {name: "integers" if name == "n" else "values" for name in allowed}
    return SimpleNamespace(precision=precision, factor=2.0, limits=allowed, kinds=kinds, of=of)


def of_outputs(*names, **told):
    """What batching asks a chain for: nine samples, and a model with these outputs that is no bundled one."""
    outputs = [SimpleNamespace(name=name) for name in names]
    spec = {"bundled": False, "tolerances": {}, "outputs": outputs, "source": "mine.toml"}
    return SimpleNamespace(spec=SimpleNamespace(**spec | told), samples=range(9))


FP32_DOES = "2 times what FP32 does to this model"


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (FP32, {"p": Steady(1e-5, 0.0, FP32_DOES), "n": Steady(4.8e-7), "q": Steady(4.8e-7)}),
        (
            FP16,
            {
                "p": Steady(3e-3, 0.0, "2 times what FP16 does to this model"),
                "n": Steady(9.6e-7),
                "q": Steady(9.6e-7),
            },
        ),
        (INT8, {"p": Steady(1e-5, 2e-2, FP32_DOES), "n": Steady(0.0), "q": Steady(4.8e-7, 1e-7, FP32_DOES)}),
    ],
    ids=str,
)
def test_batching_is_allowed_what_adding_in_another_order_does(monkeypatch, variant, expected):
    """FP32's noise, or FP16's own where layers store it; INT8's own may tip few samples; the row is the least."""
    chain = of_outputs("p", "n", "q")
    fp32 = noise_like("fp32", p=1e-5, n=9.0, q=4.8e-7)
    own = {FP16: noise_like("fp16-moved", p=3e-3, n=9.0, q=0.0), INT8: noise_like("int8-symmetric", p=2e-2, q=1e-7)}
    told = {(id(chain), "fp32", "samples"): fp32}
    told |= {(id(chain), variant_, "samples"): noise for variant_, noise in own.items()}
    monkeypatch.setattr(batching, "noise_in", lambda chain_, *rest: told[(id(chain_), *rest)])
    monkeypatch.setattr(batching, "own_noise", lambda chain_, *rest: told[(id(chain_), *rest)])
    assert steady(chain, variant) == expected


def test_what_was_measured_on_a_model_wins_over_its_twin(monkeypatch):
    """Bundled models keep the rows, and others a row of their own, which the file names; no twin is asked."""
    for name in ("noise_in", "own_noise"):
        monkeypatch.setattr(batching, name, lambda *_: pytest.fail("a twin was asked"))
    bundled = of_outputs("p", bundled=True)
    assert steady(bundled, FP32) == {"p": Steady(4.8e-7)}
    # Kernels that nobody measured keep what TensorFlow's do, and integers what they do everywhere.
    assert steady(bundled, FP32, "other kernels") == {"p": Steady(3.1e-6)}
    assert steady(bundled, INT8, "other kernels") == {"p": Steady(0.0)}
    own = {"onnx-fp32": {"why": "measured", "batching": [1e-3, 1e-3]}}
    assert steady(of_outputs("p", tolerances=own), FP32) == {"p": Steady(1e-3)}
    wrong = {"onnx-fp32": {"why": "measured", "batching": [1, 2]}}
    with pytest.raises(ToleranceError, match=r"^mine\.toml: onnx-fp32\.batching is \[1, 2\]; allowed: "):
        steady(of_outputs("p", tolerances=wrong), FP32)


def test_a_model_without_a_twin_keeps_the_row_of_batching(monkeypatch):
    """What rounding does to it is not known."""

    def refuse(*_):
        raise TwinError("no twin")

    monkeypatch.setattr(batching, "noise_in", refuse)
    assert steady(of_outputs("p", "n"), FP32) == {"p": Steady(4.8e-7), "n": Steady(4.8e-7)}


def test_ranked_answers_are_compared_in_the_same_order():
    """Rows of a list may change places in a batch; those of other outputs may not, nor may their values move."""
    scores, boxes = np.float32([[0.9, 0.8, 0.1], [0.7, 0.5, 0.2]]), np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    alone = {"scores": scores, "boxes": boxes, "v": boxes, "n": np.float32(3)}
    moved = {"scores": scores[:, [1, 0, 2]], "boxes": boxes[:, [1, 0, 2]], "v": boxes[:, [1, 0, 2]], "n": np.float32(5)}
    kinds = {"scores": "ranked", "boxes": "ranked", "v": "values", "n": "constant"}
    spec = SimpleNamespace(outputs=[SimpleNamespace(name=name, kind=kind) for name, kind in kinds.items()])
    found = batching.distances(moved, alone, spec)
    assert [found[name].max() for name in kinds] == [0, 0, 4, 2]
    assert [array.dtype for array in found.values()] == [np.float64] * 4
    assert batching.by_sample(found["v"]).tolist() == [4, 4]
