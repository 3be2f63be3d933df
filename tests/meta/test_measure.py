"""Tolerances of one's own: what is measured is printed as a file that is accepted once somebody said why."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from commands import measure
from conformance.cause import Cause
from conformance.compare import FIGURES, Tolerance, compare
from conformance.diagnose import OTHER_WEIGHTS
from conformance.measured import beyond, toml_rows
from conformance.tolerances import INPUT_KINDS, ToleranceError
from engines.errors import ConversionError
from engines.formats.savedmodel.packages import tensorflow
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.variant import REFERENCE
from fixtures.judge import _own_tolerances
from trial.rows import batching, row, table
from trial.rules import Rule

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VARIANTS = ["onnx-int8", "tensorrt-int8+fp16"]


def seen_at(factor, variant="onnx-int8"):
    """Figures that are this many times what the table allows a variant."""
    return {k: {f: factor * getattr(row(variant, k).tolerance, f) for f in FIGURES} for k in INPUT_KINDS}


@pytest.mark.parametrize("factor", [1.37, 7.77777, 1234.567])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_printed_is_accepted_once_it_says_why(variant, factor):
    """Rows of a model that needs more are TOML that is refused without a reason, and read as measured with one."""
    seen = seen_at(factor, variant)
    seen["samples"]["flips"] = seen["stress"]["flips"] = 0.3
    text = toml_rows(table(), variant, seen, 3.14159e-7)
    with pytest.raises(ToleranceError, match="why is ''; allowed: the reason for this row, in words"):
        row(variant, "samples", tomllib.loads(text)["tolerances"], "mine.toml")
    own = tomllib.loads(text.replace('why = ""', 'why = "measured"'))["tolerances"]
    for kind in INPUT_KINDS:
        found = row(variant, kind, own, "mine.toml")
        assert found.seen == {n: pytest.approx(v, rel=5e-3) for n, v in seen[kind].items()}
        assert found.tolerance.max == pytest.approx(4 * seen[kind]["max"], rel=5e-3)
        assert found.tolerance.flips == 1, "there are no more flips than samples"
    assert batching(variant, own, "mine.toml") == (4 * 3.14e-7, 3.14e-7)


@pytest.mark.parametrize("kinds", ["logits", "values"])
def test_outputs_without_probabilities_have_rows_of_their_own_figures(kinds):
    """Logits have no sum and values no classes: what was not seen is not printed, and keeps the table's row."""
    names = {"logits": ("max", "mean", "kl", "margin", "flips"), "values": ("max", "mean")}[kinds]
    seen = {kind: {n: figures[n] for n in names} for kind, figures in seen_at(3).items()}
    own = tomllib.loads(toml_rows(table(), "onnx-int8", seen, 0.0).replace('""', '"measured"'))["tolerances"]
    assert set(own["onnx-int8"]["samples"]) == set(names)
    assert row("onnx-int8", "samples", own).tolerance.sum == row("onnx-int8", "samples").tolerance.sum


def test_rows_that_a_model_does_not_need_are_comments():
    """Within the table nothing is to be pasted; beyond it, the figures that are so are named."""
    assert beyond(table(), "onnx-int8", seen_at(1.0), 0.0) == []
    text = toml_rows(table(), "onnx-int8", seen_at(1.0), 0.0)
    assert tomllib.loads(text) == {}
    assert "# samples = { max = [1.4, 0.35]" in text
    seen = seen_at(0.5)
    seen["stress"]["kl"] = 9.0
    assert toml_rows(table(), "onnx-int8", seen, 1e-9).startswith(
        "# onnx-int8: more than tolerances.toml allows: stress kl, batching\n[tolerances.onnx-int8]\n"
    )


def test_figures_beyond_the_table_are_those_of_all_kinds_of_input():
    """Each kind of input is told, in order; batching is beyond what is allowed, not beyond what was seen."""
    allowed, seen = batching("onnx-fp16")
    assert seen < allowed
    assert beyond(table(), "onnx-fp16", seen_at(1.0, "onnx-fp16"), allowed) == []
    found = seen_at(1.0, "onnx-fp16")
    found["samples"]["max"] *= 2
    found["stress"]["kl"] *= 2
    assert beyond(table(), "onnx-fp16", found, np.nextafter(allowed, 1)) == ["samples max", "stress kl", "batching"]


def test_a_lead_may_be_as_large_as_the_largest_difference():
    """Four times the largest difference is printed for it where its own is less; what has no end is not cut."""
    seen = {"samples": {"max": 0.05, "mean": 0.01, "margin": 0.02, "kl": 9.0}}
    for kinds, kl in (({"probabilities"}, 14), ({"values", "scores"}, 36)):
        text = toml_rows(table(), "onnx-int8", seen, 1.0, kinds)
        own = tomllib.loads(text)["tolerances"]["onnx-int8"]
        assert own["samples"] == {"max": [0.2, 0.05], "mean": [0.04, 0.01], "margin": [0.2, 0.02], "kl": [kl, 9.0]}


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Save a model of logits and samples of it; gives the folder of both."""
    tf, folder = tensorflow(), tmp_path_factory.mktemp("mine")
    module = tf.Module()
    module.f = tf.function(lambda x: {"scores": x @ tf.constant(np.eye(7, 3, dtype=np.float32) * 9)})
    signature = module.f.get_concrete_function(x=tf.TensorSpec((None, 7), tf.float32, "x"))
    tf.saved_model.save(module, str(folder / "mine"), signatures={"serving_default": signature})
    samples = np.random.default_rng(0).random((40, 7), np.float32) * 30
    np.savez(folder / "mine.npz", x=samples, labels=samples[:, :3].argmax(axis=1))
    return folder


def measured(folder, capsys, *words):
    """Run the command on the reference's own variant; gives the exit code and what it printed."""
    common = [f"--samples={folder / 'mine.npz'}", f"--artifacts={folder / 'build'}", "--drawn=5", "--format=savedmodel"]
    code = measure.COMMAND.main([*words, *common])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_a_saved_model_is_measured_and_described(mine, capsys):
    """--saved-model and --samples are taken as pytest takes them, and what is printed is a whole model file."""
    code, text = measured(mine, capsys, f"--saved-model={mine / 'mine'}")
    assert code == 0, text
    assert f"40 samples of {mine / 'mine.npz'}, labelled: 40 samples, 100 in a row" in text
    assert "# savedmodel-fp32: accuracy 1.0000, " in text
    (mine / "mine.toml").write_text(text, encoding="utf-8")
    spec = load_model(mine / "mine.toml")
    assert (spec.name, spec.saved_model) == ("mine", mine / "mine")
    assert [(i.name, i.shape) for i in spec.inputs] == [("x", ("batch", 7))]
    assert [(o.name, o.kind) for o in spec.outputs] == [("scores", "logits")]
    code, text = measured(mine, capsys, str(mine / "mine.toml"), "--count=30")
    assert code == 0, text
    assert "labelled: 30 samples" in text
    assert "source.saved_model" not in text


def test_a_variant_that_fails_does_not_hide_the_others(mine, capsys, monkeypatch):
    """What can be measured is; what failed is said beside it and at the end, with the reason and an exit code."""
    whole = measure.measured

    def failing(chain, variant, sets):
        if variant.format == "savedmodel":
            raise ConversionError("no such operator")
        return whole(chain, REFERENCE, sets)

    monkeypatch.setattr(measure, "measured", failing)
    words = [f"--saved-model={mine / 'mine'}", f"--samples={mine / 'mine.npz'}", f"--artifacts={mine / 'build'}"]
    assert measure.COMMAND.main([*words, "--drawn=5"]) == 1
    printed = capsys.readouterr()
    assert "# savedmodel-fp32: not measured: it failed\n" in printed.out
    assert "# onnx-fp32: accuracy 1.0000, " in printed.out
    assert printed.err.endswith("error: savedmodel-fp32: no such operator\n")


@pytest.mark.parametrize("count", [110, 360])
def test_the_last_samples_are_measured(count):
    """Windows reach to the end, also where that is no whole step behind the one before."""
    spec = load_model(find_model("digits_vgg"))
    (output,) = spec.outputs
    expected = np.tile(np.eye(1, 10, dtype=np.float32), (count, 1))
    actual = expected.copy()
    actual[-1] = np.roll(actual[-1], 1)
    runner, part = SimpleNamespace(grids={}, spec=spec), measure.Set("samples", {}, {output.name: expected}, 100)
    found = measure.worst(runner, {output.name: actual}, part, {})
    assert (found["max"], found["flips"]) == (1.0, 0.01)


def test_stress_that_is_judged_by_the_twin_has_no_row(mine, capsys):
    """INT8 of a model of one's own needs no row for single made-up inputs, until it has one."""
    common = [f"--samples={mine / 'mine.npz'}", f"--artifacts={mine / 'build'}", "--drawn=5", "--format=onnx"]
    assert measure.COMMAND.main([f"--saved-model={mine / 'mine'}", *common]) == 0
    text = capsys.readouterr().out
    assert "# onnx-int8: stress inputs are judged without a row" in text
    rows = text.split("# onnx-int8: ", 2)[-1]
    assert "samples = {" in rows
    assert "stress = {" not in rows
    own = '\n[tolerances.onnx-int8]\nwhy = "measured"\nstress = { max = [0.1, 0.05] }\n'
    described = text.split("# savedmodel")[0].split("# onnx-fp32")[0]
    (mine / "own.toml").write_text(described + own, encoding="utf-8")
    assert measure.COMMAND.main([str(mine / "own.toml"), *common]) == 0
    text = capsys.readouterr().out
    assert "# onnx-int8: stress inputs are judged without a row" not in text
    assert "stress = {" in text.split("# onnx-int8: ", 2)[-1]


def test_bad_options_are_one_error(mine, capsys):
    """Without a model, with two, or with samples that do not fit, nothing is measured."""
    with pytest.raises(SystemExit):
        measured(mine, capsys)
    assert "there is no model; give a bundled model's name" in capsys.readouterr().err
    code, text = measured(mine, capsys, "digits_vgg", f"--saved-model={mine / 'mine'}")
    assert (code, text.count("error: ")) == (1, 1)
    assert "are both given" in text
    code, text = measured(mine, capsys, "digits_vgg")
    assert (code, text.count("error: ")) == (1, 1)
    assert "mine.npz: holds ['labels', 'x']; expected ['input_1']" in text


def test_a_failure_by_little_names_where_own_tolerances_are_described():
    """A model of one's own that needs under four times what is allowed is told of; a bundled one or a wrong one not."""
    bundled = load_model(find_model("digits_vgg"))
    own = replace(bundled, path=bundled.path.parent.parent / "mine.toml")
    allowed = Tolerance(max=0.1, mean=1, kl=9, margin=1, flips=1, sum=1)
    reference = {"scores": np.float32([[0.5, 0.5]])}

    def compared(difference):
        actual = {"scores": np.float32([[0.5 + difference, 0.5 - difference]])}
        return compare(actual, reference, allowed, {"scores": "probabilities"})

    likely, by_row = Cause(OTHER_WEIGHTS), Rule(allowed, {})
    line = _own_tolerances(own, by_row, compared(0.2), likely)
    assert line.startswith("needs under 4 times what is allowed")
    assert "docs/models.md#tolerances-for-your-model" in line
    assert _own_tolerances(bundled, by_row, compared(0.2), likely) == ""
    assert _own_tolerances(own, by_row, compared(0.45), likely) == ""
    assert _own_tolerances(own, by_row, compared(np.nan), likely) == ""
    assert _own_tolerances(own, by_row, compared(0.2), replace(likely, proved=True)) == ""
    # Where the model's own twin has told what rounding does to it, more is no rounding.
    assert _own_tolerances(own, replace(by_row, noise=object()), compared(0.2), likely) == ""
