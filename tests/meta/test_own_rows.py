"""A model's own tolerances that nothing can fail are refused, or told at the end of the run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conformance.compare import ANYTHING, FIGURES, KINDS, compare
from conformance.measured import toml_rows
from conformance.reach import REACH, reach
from conformance.tolerances import ToleranceError
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.variant import Variant
from tests.meta.apart import environment_apart
from trial.own_rows import check_own, fails_nothing
from trial.rows import table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]

INT8 = Variant("onnx", "int8")


def own(chain, **rows):
    """The chain of a model whose file has these rows for INT8."""
    return replace(chain, spec=replace(chain.spec, tolerances={"onnx-int8": {"why": "measured", **rows}}))


BEYOND = {
    "a difference above one": ({"samples": {"max": [1e9, 1e9]}}, r"samples\.max is .*; allowed: at most 1,"),
    "four times what is all": ({"stress": {"max": [2.0, 0.5]}}, r"stress\.max is \[2.0, 0.5\]; allowed: at most 1,"),
    "a mean above two distributions'": ({"samples": {"mean": [0.3, 0.3]}}, r"samples\.mean .* at most 0\.2,"),
    "more flips than samples": ({"samples": {"flips": [1.5, 1.5]}}, r"samples\.flips .* at most 1,"),
    "a lead above one": ({"samples": {"margin": [7.0, 7.0]}}, r"samples\.margin .* at most 1,"),
    "a divergence beyond its floor": ({"samples": {"kl": [50.0, 50.0]}}, r"samples\.kl .* at most 14,"),
    "a sum off by more than all": ({"samples": {"sum": [3.0, 3.0]}}, r"samples\.sum .* at most 1,"),
    "batches that move all": ({"batching": [1e9, 1e9]}, r"batching .* at most 1,"),
}


@pytest.mark.parametrize("what", BEYOND)
def test_an_own_tolerance_beyond_all_that_answers_can_need_is_refused(digits, what):
    """Probabilities have ends: one line names the file, the key, what was found and what is allowed."""
    rows, message = BEYOND[what]
    chain = own(digits, **rows)
    with pytest.raises(ToleranceError, match=message) as caught:
        check_own(chain.spec, INT8)
    assert str(caught.value).startswith(f"{digits.spec.source}: tolerances.onnx-int8.")
    assert "\n" not in str(caught.value)


MISTAKEN = {
    "batches without what was seen": ({"batching": [0.5]}, "mine.toml: onnx-int8.batching is [0.5]; allowed: "),
    "a difference under stress without it": (
        {"stress": {"max": [0.5]}},
        "mine.toml: tolerances.onnx-int8.stress.max is [0.5]; allowed: [allowed, seen]",
    ),
    "more than any kind of output needs": (
        {"samples": {"flips": [1.5, 1.5]}},
        "mine.toml: tolerances.onnx-int8.samples.flips is [1.5, 1.5]; allowed: at most 1, which is all that "
        "probabilities and values can need, so that more fails nothing; take what "
        "`python -m commands measure mine.toml` prints, or leave it out",
    ),
}


@pytest.mark.parametrize("what", MISTAKEN)
def test_a_mistake_in_an_own_tolerance_is_one_line_of_the_file(what):
    """Whatever kind of input it is for: the file, the key and what is allowed stand in the line."""
    rows, message = MISTAKEN[what]
    bundled = load_model(find_model("digits_vgg"))
    outputs = tuple(replace(bundled.outputs[0], name=kind, kind=kind) for kind in ("values", "probabilities"))
    own_rows = {"onnx-int8": {"why": "measured", **rows}}
    spec = replace(bundled, path=Path("mine.toml"), outputs=outputs, tolerances=own_rows)
    with pytest.raises(ToleranceError) as caught:
        check_own(spec, INT8)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_all_that_answers_can_need_is_taken_and_no_more():
    """A tolerance may reach as far as answers do; numbers without end have no such reach."""
    bundled = load_model(find_model("digits_vgg"))
    rows = {"onnx-int8": {"why": "measured", "samples": {"max": [1.0, 0.5]}, "batching": [1.0, 0.5]}}
    check_own(replace(bundled, tolerances=rows), INT8)
    values = tuple(replace(output, kind="values") for output in bundled.outputs)
    rows = {"onnx-int8": {"why": "measured", "samples": {"max": [9.0, 5.0], "kl": [9.0, 5.0]}}}
    check_own(replace(bundled, outputs=values, tolerances=rows), INT8)


def test_wide_tolerances_that_can_still_fail_are_taken(digits):
    """A coarse model's own row is its owner's business, as long as anything can fail by it."""
    rows = {"max": [0.99, 0.9], "mean": [0.19, 0.1], "kl": [9.0, 3.0], "margin": [0.9, 0.9], "flips": [0.9, 0.5]}
    chain = own(digits, samples=rows, batching=[0.5, 0.5])
    check_own(chain.spec, INT8)
    assert fails_nothing(chain, INT8) == []


def worst(kind):
    """Answers that are as far from the reference as this kind has them, and the reference."""
    one, other = np.eye(4, dtype=np.float32)[[0] * 9], np.eye(4, dtype=np.float32)[[1] * 9]
    if kind == "integers":
        return one.astype(np.int64), other.astype(np.int64)
    return (100 * one, 100 * other) if kind in {"logits", "values"} else (one, other)


@pytest.mark.parametrize("kind", ["probabilities", "scores", "logits", "values", "integers"])
def test_no_answer_of_its_kind_needs_more_than_the_reach(kind):
    """What is called the most that a figure can be is, for the answers that are furthest apart."""
    actual, reference = worst(kind)
    (found,) = compare({"a": actual}, {"a": reference}, ANYTHING, {"a": kind}).outputs
    for figure in (f for f in found.figures if f.name in FIGURES):
        assert figure.needed <= reach(figure.name, [kind]) + 1e-12, figure.name
    if kind == "probabilities":
        needed = {f.name: f.needed for f in found.figures}
        assert (needed["max"], needed["mean"], needed["flips"]) == (1, pytest.approx(0.2), 1)
        assert 13 < needed["kl"] <= 14
    assert set(REACH) == set(KINDS)


def test_the_reach_of_several_kinds_is_the_widest():
    """A figure may be as large as in any output that has it; where no kind has it there is no end to tell."""
    assert reach("max", ["probabilities", "logits"]) == np.inf
    assert reach("flips", ["values", "scores"]) == 1
    assert reach("kl", ["scores", "values"]) is None
    assert reach("max", []) is None


def test_numbers_without_end_are_told_by_the_spread_of_the_reference(digits):
    """Values may be any: a tolerance wider than the reference's answers are apart is named with its ratio."""
    values = tuple(replace(output, kind="values") for output in digits.spec.outputs)
    spec = replace(digits.spec, outputs=values)
    wide = own(replace(digits, spec=spec), samples={"max": [1e9, 1e9], "mean": [1e9, 1e9]}, batching=[5.0, 5.0])
    check_own(wide.spec, INT8)
    told = fails_nothing(wide, INT8)
    assert [sentence.split(" = ")[0] for sentence in told] == [
        "onnx-int8.samples.max",
        "onnx-int8.samples.mean",
        "onnx-int8.batching",
    ]
    assert "times the spread over the samples of the reference's 'dense_1': it can fail nothing" in told[0]
    narrow = own(replace(digits, spec=spec), samples={"max": [0.3, 0.2], "mean": [0.01, 0.01]}, batching=[1e-3, 1e-3])
    assert fails_nothing(narrow, INT8) == []


def test_a_tolerance_of_all_there_is_is_told(digits):
    """The largest difference of probabilities is one: a tolerance of one may be written, and fails nothing."""
    chain = own(digits, samples={"max": [1.0, 0.5]}, stress={"flips": [1.0, 0.5]})
    check_own(chain.spec, INT8)
    (sentence,) = fails_nothing(chain, INT8)
    assert sentence == (
        "onnx-int8.samples.max = 1 is all that max can be of the probabilities 'dense_1': it can fail nothing"
    )


def test_what_is_measured_is_never_printed_beyond_the_reach():
    """Rows that `measure` prints are accepted: four times what was seen is cut where answers end."""
    seen = {"samples": {"max": 0.4, "mean": 0.15, "kl": 5.0, "margin": 0.9, "flips": 0.5, "sum": 0.9}}
    own_rows = tomllib.loads(toml_rows(table(), "onnx-int8", seen, 0.4, {"probabilities"}))["tolerances"]["onnx-int8"]
    assert {name: pair[0] for name, pair in own_rows["samples"].items()} == {
        "max": 1, "mean": 0.2, "kl": 14, "margin": 1, "flips": 1, "sum": 1,
    }  # fmt: skip
    assert own_rows["batching"] == [1, 0.4]


WIDE = '\n[tolerances.onnx-fp32]\nwhy = "wide"\nsamples = {{ max = {max} }}\n'


def test_a_run_refuses_or_tells_it(digits, tmp_path):
    """`pytest` ends before anything runs, in one line; what is taken and can fail nothing is told at the end."""
    text = (ROOT / "fixtures" / "models" / "digits_vgg.toml").read_text(encoding="utf-8")
    text = text.replace('file = "', f'file = "{ROOT}/fixtures/models/')

    def run(content):
        (tmp_path / "mine.toml").write_text(content, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--model={tmp_path / 'mine.toml'}"]
        command += [
            f"--artifacts={digits.store.root}",
            "-q",
            "tests/test_consistency.py",
            "-k",
            "samples and onnx-fp32",
        ]
        return subprocess.run(command, cwd=ROOT, env=environment_apart(), capture_output=True, text=True, check=False)

    refused = run(text + WIDE.format(max="[1e9, 1e9]"))
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    assert "samples.max is [1000000000.0, 1000000000.0]; allowed: at most 1," in refused.stderr
    told = run(text + WIDE.format(max="[1.0, 1.0]"))
    assert "own tolerances that can fail nothing: onnx-fp32.samples.max = 1 is all" in told.stdout
