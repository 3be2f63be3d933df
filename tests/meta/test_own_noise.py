"""The model's own noise: sound conversions are within it, a fault that the tables allow is not, and it says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from commands.__main__ import main
from conformance.compare import compare
from engines.model import selection
from engines.store import Store
from engines.variant import Variant
from fixtures.chain import artifact_folder
from trial.own_noise import OwnNoise, beyond
from trial.rules import output_kinds, rule_of
from trial.twin import TwinError

FP16 = Variant("onnx", "fp16")


@pytest.fixture(scope="module")
def artifacts(request):
    """Folder of this run's artifacts."""
    return artifact_folder(request.config)


@pytest.fixture(scope="module")
def own(artifacts):
    """Noise of the bundled digits model on the samples of its tests."""
    (chain,) = selection.chains(Store(artifacts), models=["digits_vgg"]).values()
    inputs = chain.samples.inputs
    return OwnNoise(chain, inputs, chain.reference("samples", inputs))


@pytest.mark.parametrize("name", ["onnx-fp32", "onnx-fp16", "onnx-int8", "tflite-fp32", "tflite-fp16", "tflite-int8"])
def test_sound_variants_are_within_the_noise(own, name):
    """Every variant of the bundled model that a CPU runs is within what its precision does to the model."""
    with own.chain.runner(Variant(*name.split("-"))) as runner:
        figures, problems = own.needed(runner, runner(own.inputs))
    assert problems == []
    assert beyond(own.of(runner.variant), figures) == []


def test_a_temperature_that_the_table_allows_is_beyond_the_noise(own):
    """Logits 0.15 % too large pass the FP16 row of this model, and not what FP16 does to it."""
    with own.chain.runner(FP16) as runner:
        actual = runner(own.inputs)
        (name,) = actual
        sure = actual[name].astype(np.float64) ** 1.0015
        sure = {name: (sure / sure.sum(axis=1, keepdims=True)).astype(np.float32)}
        figures, _ = own.needed(runner, sure)
    rule = rule_of(own.chain, FP16, "samples")
    assert compare(sure, own.reference, rule.tolerance, output_kinds(own.chain.spec)).passed
    assert any("slope" in line for line in beyond(own.of(FP16), figures))


def test_scores_are_judged_where_they_decide(own):
    """A score that crosses the threshold of its output is a flip, wherever that threshold is."""
    (output,) = own.chain.spec.outputs
    spec = replace(own.chain.spec, outputs=(replace(output, kind="scores", threshold=0.2),))
    scores = OwnNoise(replace(own.chain, spec=spec), own.inputs, own.reference)
    with scores.chain.runner(FP16) as runner:
        actual = {output.name: own.reference[output.name].copy()}
        # Far enough from 0.2 to count, and on the same side of 0.5 as before.
        sample, number = np.argwhere((actual[output.name] > 0.3) & (actual[output.name] < 0.45))[0]
        actual[output.name][sample, number] = 0.1
        figures, _ = scores.needed(runner, actual)
    assert next(f for f in figures[output.name] if f.name == "flips").needed > 0


def test_answers_that_are_not_finite_are_a_problem(own):
    """No figure tells of NaN: it is said in words."""
    with own.chain.runner(FP16) as runner:
        figures, problems = own.needed(runner, {n: np.full_like(a, np.nan) for n, a in own.reference.items()})
    assert figures == {}
    assert "NaN or infinite" in problems[0]


def test_a_format_whose_arithmetic_is_not_known_is_not_judged(own):
    """TensorRT's mixed INT8 has no twin: the message names the variant."""
    with pytest.raises(TwinError, match=r"tensorrt-int8\+fp16.*not known"):
        own.of(Variant("tensorrt", "int8+fp16"))


def test_the_command_tells_each_variant(artifacts, capsys):
    """Its lines name variant, twin and the figure that needs most; those that cannot run say why."""
    assert main(["noise", "digits_vgg", "--format=onnx", "--count=20", f"--artifacts={artifacts}"]) == 0
    text = capsys.readouterr().out
    for variant in ("onnx-fp32", "onnx-fp16", "onnx-int8"):
        assert f"{variant}: within its noise" in text
    assert main(["noise", "digits_vgg", "--format=savedmodel", f"--artifacts={artifacts}"]) == 1
    assert "no variant was judged" in capsys.readouterr().err


def test_a_count_of_nothing_is_refused(capsys):
    """The option, what was found, and what is allowed."""
    with pytest.raises(SystemExit, match="2"):
        main(["noise", "digits_vgg", "--count=0"])
    assert "--count=0; allowed: 1 or more" in capsys.readouterr().err
