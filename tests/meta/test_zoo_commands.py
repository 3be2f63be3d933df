"""The command that a user gives, on models of the zoo: what fails, how often, and in which words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from zoo import ZOO
from zoo.chains import chain_of
from zoo.entry import PASSES, VARIANTS, Cannot

from commands.__main__ import main
from engines.variant import Variant
from tests.meta.apart import environment_apart

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of the models, their artifacts, and the reports."""
    return tmp_path_factory.mktemp("commands")


def check(folder, name, *words):
    """Run the checks of an entry as a user does; gives the exit code, all that was printed, and the report's data."""
    model, report = folder / name, folder / f"{name}-report"
    if not model.is_dir():
        ZOO[name].write(model)
    options = [f"--saved-model={model / 'model'}", f"--samples={model / 'samples.npz'}", f"--report={report}"]
    options += [f"--artifacts={folder / 'build'}", "--ignore=tests/meta", "-p", "no:cacheprovider", *words]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "consistency or batching or accuracy", *options],
        cwd=ROOT,
        env=environment_apart(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, json.loads((report / "conformance.json").read_text("utf-8"))


def broken(document):
    """Variants that failed in a report, by their ids."""
    return {v["variant"] for v in document["variants"] if v["verdict"] == "failed"}


SAID = {
    "marks": "taken for scores",
    "logmel": None,
    "board": None,
    "two_heads": None,
    "scan": None,
    "thresholds": "shift",
    "coarse_to_fine": None,
    "padmask": "FAILED kl",
    "anchors": None,
    "grouped": None,
    "experts": None,
    "listing": "they vanish, and the SavedModel fails too with these rounded so",
    "topic_lstm": "TFLite's converter does not convert TensorListReserve of layer",
    "digits": None,
    "likeness": "NaN or infinite",
    "price": "beyond FP16's largest value 65504",
}
"""Kinds of models that people report: what the run says beside its table; None where nothing fails."""


@pytest.mark.parametrize("name", SAID)
def test_exactly_what_is_declared_fails(folder, name):
    """Every variant that is to pass does, in all tests, with plans of TensorRT for RTX; a limit is one failure."""
    entry = ZOO[name]
    code, output, document = check(folder, name)
    expected = {variant for variant in VARIANTS if entry.expectation(variant) != PASSES}
    assert bool(SAID[name]) == bool(expected), "words are looked for where something fails, and only there"
    assert broken(document) == expected, output
    assert code == (pytest.ExitCode.TESTS_FAILED if expected else pytest.ExitCode.OK)
    for variant in expected:
        if isinstance(entry.expectation(variant), Cannot):
            assert [f["variant"] for f in document["failures"]].count(variant) == 1
    assert not expected or SAID[name] in output, output


def test_made_up_inputs_that_are_spared_are_named_once(folder):
    """What the model answers by rounding in INT8 stands in one line, by the inputs' names, for both formats."""
    code, output, _ = check(folder, "grouped", "-k", "int8 and on_contrast")
    assert code == pytest.ExitCode.OK, output
    (said,) = [line for line in output.splitlines() if "made-up inputs spared" in line]
    start, *named = said.split("INT8: ")
    assert start == "grouped: made-up inputs spared, for the model itself answers them by rounding: "
    assert named == ["checkerboard; ", "coarse checkerboard"]


@pytest.mark.parametrize("name", ["tracker", "restless", "crowd"])
def test_a_savedmodel_that_is_no_reference_is_one_failure(folder, name):
    """The SavedModel fails once, in words; all variants of it are not judged, and none passes."""
    code, output, document = check(folder, name)
    assert code == pytest.ExitCode.TESTS_FAILED
    (failure,) = document["failures"]
    assert failure["variant"] == "savedmodel-fp32"
    assert ZOO[name].refused in failure["summary"]
    verdicts = {v["variant"]: v["verdict"] for v in document["variants"]}
    assert {verdicts[variant] for variant in VARIANTS} == {"not judged"}, output


@pytest.fixture(scope="module")
def quantized(folder):
    """INT8 files of the model of prices, by a name: as it is built, and with zeros for the last layer's weights."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    sound = chain_of(ZOO["price"], folder).file(Variant("onnx", "int8"))
    model = onnx.load(str(sound))
    makers = {name: node for node in model.graph.node for name in node.output}
    last = [node for node in model.graph.node if node.op_type in {"MatMul", "Gemm"}][-1]
    (weights,) = [t for t in model.graph.initializer if t.name == makers[last.input[1]].input[0]]
    weights.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weights)), weights.name))
    constant = folder / "constant.onnx"
    onnx.save(model, str(constant))
    return {"sound": sound, "constant": constant}


@pytest.mark.parametrize("which", ["sound", "constant"])
def test_an_onnx_that_answers_the_same_to_everything_fails(folder, quantized, which):
    """A price that is always 300,000 is within every difference that INT8 may have, and is found by what it lacks."""
    code, output, document = check(folder, "price", f"--onnx={quantized[which]}", "-k", "onnx")
    assert broken(document) == ({"onnx-int8"} if which == "constant" else set()), output
    assert code == (pytest.ExitCode.TESTS_FAILED if which == "constant" else pytest.ExitCode.OK)
    if which == "constant":
        assert "FAILED spread  needed 1.000e+00" in output


def test_what_one_precision_cannot_be_takes_no_other_from_whoever_builds(folder, capfd):
    """One that cannot be converted is named with its reason and fails the command, which builds all others."""
    model = folder / "price"
    if not model.is_dir():
        ZOO["price"].write(model)
    own = [f"--saved-model={model / 'model'}", f"--samples={model / 'samples.npz'}"]
    assert main(["build", *own, "--format=onnx", f"--artifacts={folder / 'build'}"]) == 1
    lines = {line.split()[0]: line for line in capfd.readouterr().out.splitlines()}
    assert "FAILED: " in lines["onnx-fp16"]
    assert "beyond FP16's largest value" in lines["onnx-fp16"]
    assert lines["onnx-int8"].endswith("model.onnx")
