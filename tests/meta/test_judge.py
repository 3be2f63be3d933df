"""What a comparison records and says is what it found, also where there is no figure to record."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.compare import ANY, FIGURES, Figure, Tolerance
from engines.errors import RunnerError
from engines.formats.onnx.runner import OnnxRunner
from engines.model.samples import Samples
from engines.variant import Variant
from fixtures.chain import Case, Way, artifact_folder
from fixtures.ledger import RECORDS, Ledger, properties
from fixtures.records import Batching, Compared, sent
from fixtures.reporting import Table
from tests.meta.apart import environment_apart
from tests.meta.valid import validate
from trial import rules
from trial.causes import SPREAD, cause
from trial.judged import BEYOND, CANNOT, FAILS, PASSES, judged
from trial.outputs import Outputs
from trial.rules import Rule, compare_of, rule_of
from trial.sets import Sets
from trial.twin import TwinError

ROOT = Path(__file__).resolve().parents[2]
ONNX = Variant("onnx", "fp32")


class Dropping(OnnxRunner):
    """Leaves out the last batch where it is not full."""

    def __call__(self, inputs):
        """Run what fills batches."""
        whole = len(next(iter(inputs.values()))) // self.batch_size * self.batch_size
        return super().__call__({name: array[:whole] for name, array in inputs.items()})


class Refusing(OnnxRunner):
    """Runs the samples, to answers that nothing explains, and nothing else."""

    ran = False

    def __call__(self, inputs):
        """Run once."""
        if self.ran:
            raise RunnerError("the device is lost")
        self.ran = True
        draw = np.random.default_rng(0)
        return {name: draw.permuted(array, axis=1) for name, array in super().__call__(inputs).items()}


@pytest.mark.parametrize(
    "kind, likely",
    [
        (Dropping, r"^the last batch, of 4, was dropped: 96 of 100 samples have answers$"),
        (Refusing, r"^not found out: a check for it takes inputs that this engine refuses \(.*the device is lost\)$"),
    ],
)
def test_the_likely_cause_of_an_engine_that_bears_no_trying(digits, kind, likely):
    """Missing answers are counted without another run, and an engine that refuses another one is said to."""
    samples = digits.samples.inputs
    with kind(digits.spec, ONNX, digits.file(ONNX), 32) as runner:
        given = Outputs(samples, runner(samples), digits.reference("samples", samples))
        found = cause(runner, given, rule_of(digits, ONNX, "samples")).text
    assert re.search(likely, found), found


class Sometimes(OnnxRunner):
    """Answers some samples wrongly, whatever else is in the call: one by the most, and most behind the first 100."""

    wrong = (5, 40, *range(120, 360, 12))

    def __call__(self, inputs):
        """Turn around the answers to those samples, wherever they are, also where pixels are moved or scaled."""
        (array,) = inputs.values()
        outputs = super().__call__(inputs)
        for place, sample in enumerate(array):
            if (values := self.pixels(sample)) in self.known:
                factor = 2 if values == self.known[0] else 1
                outputs["dense_1"][place] = outputs["dense_1"][place][::-1] * factor
        return outputs

    @staticmethod
    def pixels(sample):
        """What a sample is known by, in any order and of any range."""
        values = np.sort(sample, axis=None)
        return np.round((values - values[0]) / (values[-1] - values[0]), 3).tobytes()


FLIPS = Rule(Tolerance(max=ANY, mean=ANY, kl=ANY, margin=ANY, flips=0.04, sum=ANY, why="only their share counts"), {})


def test_faults_that_are_spread_over_the_samples_are_not_blamed_on_the_call(digits):
    """Where the samples around the worst one are few enough to pass as they are, more of the wrong ones are asked."""
    samples = digits.dataset.test(360).inputs
    (array,) = samples.values()
    with Sometimes(digits.spec, ONNX, digits.file(ONNX), 32) as runner:
        runner.known = [runner.pixels(array[i]) for i in runner.wrong]
        given = Outputs(samples, runner(samples), digits.reference("accuracy-360", samples))
        assert not compare_of(runner, given, FLIPS).passed
        assert compare_of(runner, given.part(slice(0, 100)), FLIPS).passed
        found = cause(runner, given, FLIPS).text
    assert found.startswith(f"{100 - len(runner.wrong)} of 100 top-1 classes agree but the values do not"), found


def test_flips_that_no_hundred_samples_show_have_no_cause(digits):
    """Where the samples that differ most are not those that flip, nothing can be tried, which is said."""
    reference = np.random.default_rng(0).dirichlet(np.ones(10), 1000).astype(np.float32)
    actual, order = reference.copy(), np.argsort(reference, axis=1)
    flipped, moved = np.arange(200, 1000, 16), np.arange(1, 1000, 2)
    actual[flipped, order[flipped, -2]] = reference[flipped, order[flipped, -1]] + np.float32(1e-3)
    actual[moved, order[moved, -1]] += np.where(moved == 1, 2, 1)
    with OnnxRunner(digits.spec, ONNX, digits.file(ONNX), 32) as runner:
        given = Outputs({}, {"dense_1": actual}, {"dense_1": reference})
        assert not compare_of(runner, given, FLIPS).passed
        assert cause(runner, given, FLIPS) == SPREAD


# What the process with the terminal makes of what it is told, in the order in which processes finish.


M = Case("m", ONNX)


def comparison(samples, **keys):
    """Write what a comparison on drawn inputs recorded."""
    content = {"inputs": "drawn", "samples": samples, "flips": 0, "problems": [], "usage": 0.5, "figures": {}}
    return Compared(**{**content, "passed": True, **keys})


def told(ledger, case, records=(), skipped=None, test="tests/test_x.py::test_y", when="teardown"):
    """Report a phase of a test of a case, its end if not said: what it recorded, or why it was skipped."""
    report = pytest.TestReport(
        test,
        ("tests/test_x.py", 1, "test_y"),
        {},
        "skipped" if skipped else "passed",
        ("file", 1, f"Skipped: {skipped}") if skipped else None,
        when,
        user_properties=properties(case),
    )
    setattr(report, RECORDS, sent(records))
    ledger.pytest_runtest_logreport(report)


@pytest.mark.parametrize(
    "records, kept",
    [
        ([comparison(166, usage=np.inf, problems=["NaN"]), comparison(1, usage=np.inf, problems=["NaN"])], 0),
        ([comparison(4, usage=np.inf, problems=["NaN"]), comparison(4, usage=np.inf, problems=["shape"])], 1),
        ([comparison(4, figures={"max": [1e-3, 2e-3]}), comparison(4, figures={"max": [9e-4, 2e-3]})], 0),
        ([comparison(4, usage=0.9), comparison(166)], 0),
    ],
)
def test_the_worst_of_several_comparisons_does_not_depend_on_their_order(records, kept):
    """Of two equally bad comparisons always the same one stands in the table."""
    for order in (records, records[::-1]):
        ledger = Ledger([M])
        for record in order:
            told(ledger, M, [record])
        found = ledger.comparisons[M]["drawn"]
        assert found == replace(records[kept], test="tests/test_x.py::test_y")


def test_of_two_tests_that_found_the_same_the_first_by_name_is_told():
    """Whichever process finished first."""
    names = ["tests/test_a.py::test_b", "tests/test_c.py::test_d"]
    for order in (names, names[::-1]):
        ledger = Ledger([M])
        for name in order:
            told(ledger, M, [comparison(4)], test=name)
        assert ledger.comparisons[M]["drawn"].test == names[0]


def test_why_variants_were_skipped_does_not_depend_on_the_order():
    """A variant is skipped for the reason of most of its tests, and the first and last named are those of the chain."""
    cases = [Case(model, ONNX) for model in "abc"]
    reasons = ("no GPU", "no GPU", "benchmarks are off")
    skips = [(case, reason, f"t.py::test_{i}[{case}]") for case in cases for i, reason in enumerate(reasons)]
    for order in (skips, skips[::-1]):
        ledger, terminal = Ledger(cases), Mock()
        for case, reason, test in order:
            told(ledger, case, skipped=reason, test=test)
        Table(ledger).pytest_terminal_summary(terminal)
        assert terminal.write_line.call_args.args == ("3 variants, a-onnx-fp32 to c-onnx-fp32, skipped: no GPU",)


@pytest.mark.parametrize(
    "test, whose",
    [
        ("test_agrees[m-onnx-int8]", "m-onnx-int8"),
        ("test_agrees[m-onnx-int8-qdq]", "m-onnx-int8-qdq"),
        ("test_a_batch[m-onnx-int8-32]", "m-onnx-int8"),
        ("test_a_batch[32-m-onnx-int8]", "m-onnx-int8"),
        ("test_of_none", None),
    ],
)
def test_a_crash_belongs_to_the_variant_of_its_test(test, whose):
    """The id of the test that a process died of is all that xdist reports."""
    ledger = Ledger([Case("m", Variant("onnx", precision)) for precision in ("int8", "int8-qdq")])
    report = SimpleNamespace(user_properties=[])
    ledger.pytest_handlecrashitem(f"tests/test_x.py::{test}", report)
    assert dict(report.user_properties).get("case") == whose


def test_batches_that_agree_with_each_other_say_nothing_of_the_reference():
    """A variant of which only batches were compared passed its tests, but was not compared."""
    ledger = Ledger([M])
    for records, verdict in (([Batching(0.0, 0.0, [])], "not compared"), ([comparison(4)], "passed")):
        for when in ("call", "teardown"):
            told(ledger, M, records, when=when)
        assert ledger.verdict(M) == verdict


# What is planted in the engine, as a plugin of a run of its own.

PLANTED = """
import numpy as np
from engines.formats.onnx.runner import OnnxRunner

run = OnnxRunner.{method}

def planted(self, inputs, *size):
    outputs = run(self, inputs, *size)
    {fault}
    return outputs

OnnxRunner.{method} = planted
"""

FAULTS = {
    "a sample too many": (
        "outputs = outputs if size != (7,) else {n: np.concatenate([a, a[:1]]) for n, a in outputs.items()}",
        "batches of 7: dense_1: shape (101, 10); expected (100, 10)",
    ),
    "another dtype": (
        "outputs = outputs if size != (7,) else {n: a.astype(np.float64) for n, a in outputs.items()}",
        "batches of 7: dense_1: dtype float64; expected float32",
    ),
    "no output": ("outputs = outputs if size != (7,) else {}", "batches of 7: missing outputs: dense_1"),
    "NaN": (
        "outputs = outputs if size != (7,) else {n: a * np.where(np.arange(100) == 6, np.nan, 1)[:, None].astype('f')"
        " for n, a in outputs.items()}",
        "batches of 7: dense_1: 10 of 1000 elements of the output are NaN or infinite, the first at (6, 0)",
    ),
}


def planted_run(folder, config, method, fault, tests, file="tests/test_batching.py"):
    """Run tests of an ONNX with a fault in a method of its runner; gives the exit code and the output."""
    (folder / "planted.py").write_text(PLANTED.replace("{method}", method).replace("{fault}", fault), encoding="utf-8")
    environment = environment_apart(PYTHONPATH=str(folder))
    words = [*file.split(), "-k", f"onnx-fp32 and ({tests})", "-p", "planted", "-p", "no:cacheprovider"]
    words += ["--model=digits_vgg", f"--artifacts={artifact_folder(config)}", f"--report={folder}"]
    command = [sys.executable, "-m", "pytest", *words, f"--junit-xml={folder / 'junit.xml'}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("digits")
def test_batches_that_cannot_be_compared_have_no_figure(pytestconfig, tmp_path, fault):
    """Beside FAILED stands no `bitwise`: table, data, page and JUnit XML say what is wrong."""
    planted, problem = FAULTS[fault]
    code, output = planted_run(tmp_path, pytestconfig, "in_batches", planted, "batch_gives and (-2 or -7 or -16)")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "1 failed, 2 passed" in output
    assert re.search(r"^digits_vgg-onnx-fp32 .* no figure .* FAILED$", output, re.M), output
    document = json.loads((tmp_path / "conformance.json").read_text(encoding="utf-8"))
    validate(document)
    (record,) = document["batching"]
    assert (record["largest"], record["problems"], record["passed"]) == (None, [problem], False)
    assert (
        f"What batches give cannot be compared with single samples: {problem}." in document["verdict"]["sentences"][1]
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<dt>batched or alone</dt><dd>{problem}</dd>" in page
    assert "bitwise" not in page
    assert f'<property name="batching" value="{problem}"' in (tmp_path / "junit.xml").read_text(encoding="utf-8")


@pytest.mark.usefixtures("digits")
def test_a_run_that_ends_before_anything_is_batched_has_no_figure(pytestconfig, tmp_path):
    """Where the engine refuses to run, nothing was compared, and nothing is called bitwise."""
    refused = "raise RuntimeError('the device is lost')"
    code, output = planted_run(
        tmp_path, pytestconfig, "in_batches", f"if size == (7,): {refused}", "batch_gives and -7"
    )
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert re.search(r"^digits_vgg-onnx-fp32 [ -]+ FAILED$", output, re.M), output
    assert json.loads((tmp_path / "conformance.json").read_text(encoding="utf-8"))["batching"] == []


@pytest.mark.usefixtures("digits")
def test_the_example_that_is_shown_is_one_that_fails(pytestconfig, tmp_path):
    """What an earlier example found does not fail a later one: the partition in the message has the fault itself."""
    fault = "if len(next(iter(inputs.values()))) == 4: outputs = {n: a + np.float32(1e-3) for n, a in outputs.items()}"
    code, output = planted_run(tmp_path, pytestconfig, "__call__", fault, "any_partition")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "  4 of 12 samples differ: " in output


@given(data=st.data())
def _fails_of_a_drawn_number(data, fixture):
    """Fail as the tests of batches do, after a draw."""
    pytest.fail(f"{data.draw(st.integers(0, 9))} is wrong", pytrace=False)


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_failure_of_drawn_inputs_is_told_however_long_its_fixtures_are(length):
    """What Hypothesis warns of while it prints the arguments takes no failure's place: 0, the simplest, is told."""
    with pytest.raises(pytest.fail.Exception, match=r"^0 is wrong"):
        _fails_of_a_drawn_number(fixture="x" * length)


def test_arrays_of_fixtures_are_not_printed_with_a_failure():
    """Samples and single answers are named without their numbers, which a failure of drawn inputs would print."""
    arrays = {f"output_{n}": np.zeros((100, 10), np.float32) for n in range(40)}
    assert len(repr(Way(None, arrays))) < 100
    assert repr(Samples(arrays, None, "the digits")) == "Samples(origin='the digits')"


# Counted from the last of 360, since the batches of the first hundred are not run again.
LATE = {
    "answers of other samples": (
        "outputs = {n: np.concatenate([a[:-210], a[-210:-200][::-1], a[-200:]]) for n, a in outputs.items()}",
        r"top-1 flips \d+ of 360: sample 15\d: ",
    ),
    "NaN": (
        "outputs = {n: np.where(np.arange(-len(a), 0)[:, None] == -160, np.float32('nan'), a)"
        " for n, a in outputs.items()}",
        r"10 of 3600 elements of the output are NaN or infinite, the first at \(200, 0\)",
    ),
}


@pytest.mark.parametrize("fault", LATE)
@pytest.mark.usefixtures("digits")
def test_what_is_wrong_behind_the_first_hundred_samples_fails(pytestconfig, tmp_path, fault):
    """Wrong answers that the first hundred samples do not show fail consistency, and accuracy whatever is right."""
    planted, message = LATE[fault]
    tests = "on_samples or more_samples or kept_and_better"
    files = "tests/test_consistency.py tests/test_accuracy.py"
    code, output = planted_run(tmp_path, pytestconfig, "__call__", planted, tests, files)
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "2 failed, 1 passed" in output, output
    # Where CI is set, pytest repeats the messages in its summary: each is looked for below its test's heading.
    sections = re.split(r"^_+ (\w+)\[.* _+$|^=+ short test summary info =+$", output, flags=re.M)
    found = dict(zip(sections[1:-2:2], sections[2:-2:2], strict=True))
    assert set(found) == {
        "test_agrees_with_the_reference_on_more_samples",
        "test_accuracy_is_kept_and_better_than_chance",
    }, output
    for text in found.values():
        assert re.search(message, text), output
        assert re.search("^  likely     samples 1.. to .* right in a call of their own: answers depend", text, re.M), (
            output
        )


@pytest.mark.usefixtures("digits")
def test_what_is_wrong_beyond_the_first_profile_fails(pytestconfig, tmp_path):
    """An engine that answers the 33rd sample of a batch wrongly fails at such batches, and is not timed at them."""
    fault = "outputs = {n: np.concatenate([a[:32], a[32:, ::-1]]) for n, a in outputs.items()}"
    tests = "batch_gives and (-32 or -33) or throughput and (-64)"
    files = "tests/test_batching.py tests/test_throughput.py"
    code, output = planted_run(tmp_path, pytestconfig, "_run", fault, tests, files)
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "2 failed, 1 passed" in output, output
    assert re.search(r"^FAILED .*test_a_batch_gives_what_single_samples_give\[digits_vgg-onnx-fp32-33\]", output, re.M)
    assert re.search(r"^FAILED .*test_throughput\[digits_vgg-onnx-fp32-64\]", output, re.M)
    assert json.loads((tmp_path / "conformance.json").read_text(encoding="utf-8"))["benchmarks"] == []


BRIGHT = {
    "another answer": ("a[:, ::-1]", "only inputs like these are answered differently, as by a clipped range"),
    "NaN": ("a * np.float32('nan')", "only inputs like these are answered with NaN or infinity, as by an overflow"),
}


@pytest.mark.parametrize("fault", BRIGHT)
@pytest.mark.usefixtures("digits")
def test_what_only_unusual_inputs_show_is_told_so(pytestconfig, tmp_path, fault):
    """Of a white image alone any usual mistake may seem the cause; that the real samples agree rules them out."""
    planted, likely = BRIGHT[fault]
    planted = (
        "white = (inputs['input_1'].min(axis=(1, 2, 3)) > 0.99)[:, None]\n"
        f"    outputs = {{n: np.where(white, {planted}, a) for n, a in outputs.items()}}"
    )
    code, output = planted_run(
        tmp_path, pytestconfig, "_run", planted, "on_samples or on_contrast", "tests/test_consistency.py"
    )
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "1 failed, 1 passed" in output, output
    assert f"  likely     the 100 real samples agree, within the tolerance; {likely}" in output, output


@pytest.mark.usefixtures("digits")
def test_an_engine_of_nan_is_not_called_one_of_other_weights(pytestconfig, tmp_path):
    """Samples that are answered with NaN are counted, and what NaN comes from is named."""
    planted = (
        "outputs = {n: np.where(a.argmax(axis=1)[:, None] == 3, np.float32('nan'), a) for n, a in outputs.items()}"
    )
    code, output = planted_run(tmp_path, pytestconfig, "_run", planted, "on_samples", "tests/test_consistency.py")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert re.search(
        r"likely +\d+ of 100 samples are answered with NaN or infinity, the first is \d+: an overflow", output
    )


ALONE = {
    "NaN": (
        "for a in outputs.values(): a[a.argmax(axis=1) == 3, 4] = np.nan",
        r"samples: output 'dense_1' is nan at \[4\] of sample \d+ \(NaN or infinite in \d+ of 100 samples\); "
        "expected finite numbers",
    ),
    "beyond one": (
        "for a in outputs.values(): a[0, :2] = 1.25, -0.25",
        r"samples: output 'dense_1' is -0.25 at \[1\] of sample 0; probabilities are no less than 0",
    ),
    "a sum": (
        "if len(next(iter(inputs.values()))) != 100: outputs = {n: a * np.float32(0.99) for n, a in outputs.items()}",
        r"contrast: output 'dense_1' sums to 0.9[89]\d* in sample \d+ \(.+\); probabilities sum to one within 1.0e-05",
    ),
}


@pytest.mark.parametrize("fault", ALONE)
@pytest.mark.usefixtures("digits")
def test_outputs_that_are_wrong_by_themselves_are_told_in_one_line(pytestconfig, tmp_path, fault):
    """Output, value, place and sample stand in one line, and how to run it again in the next; no source, no trace."""
    planted, words = ALONE[fault]
    code, output = planted_run(
        tmp_path, pytestconfig, "__call__", planted, "outputs_are_finite", "tests/test_consistency.py"
    )
    assert code == pytest.ExitCode.TESTS_FAILED, output
    (said,) = re.findall(r"^onnx-fp32 of digits_vgg, .*\n  replay     pytest .*$", output, re.M)
    assert re.fullmatch(f"onnx-fp32 of digits_vgg, {words}", said.splitlines()[0]), said
    assert "Error" not in output, output


def test_int8_without_a_twin_is_judged_on_average_under_stress(digits, monkeypatch):
    """Beyond its calibrated range INT8 is the model's own; a bundled one, FP32, and real samples keep every figure."""

    def refuse(*_):
        raise TwinError("none")

    monkeypatch.setattr(rules, "own_noise", refuse)
    elsewhere = replace(digits, spec=replace(digits.spec, path=ROOT / "elsewhere.toml"))
    int8, average = Variant("onnx", "int8"), ("mean", "kl", "sum")
    for chain, variant, kind, count, deciding in (
        (elsewhere, int8, "stress", 64, average),
        (elsewhere, int8, "stress", 3, ("sum",)),
        (elsewhere, int8, "samples", 3, ("max", "mean", "kl", "margin", "flips", "sum")),
        (elsewhere, ONNX, "stress", 3, ("max", "mean", "kl", "margin", "sum")),
        (digits, int8, "stress", 3, ("max", "mean", "kl", "margin", "sum")),
    ):
        tolerance = rule_of(chain, variant, kind, count).tolerance
        figures = [Figure(name, 0.0, getattr(tolerance, name)) for name in FIGURES]
        assert tuple(f.name for f in figures if f.judged) == deciding, (variant, kind, count)
    row = rule_of(elsewhere, int8, "samples").tolerance
    for count, deciding in ((rules.MANY, True), (rules.MANY - 1, False)):
        rule = rule_of(elsewhere, int8, "stress", count)
        assert (rule.tolerance.mean < ANY, rule.tolerance.kl < ANY) == (deciding, deciding)
        assert (rule.tolerance.spread, rule.tolerance.flips, rule.tolerance.sum) == (ANY, ANY, row.sum)
        assert "; on average of 16 and more stress inputs, since this model's rows were not measured; by" in rule.why


def rolled(self, inputs):
    """Answers of the next class: each for itself looks as it should."""
    return {name: np.roll(array, 1, axis=1) for name, array in OnnxRunner.sound_run(self, inputs).items()}


def doubled(self, inputs):
    """Answers that are no probabilities, and hang on the batch."""
    return {name: array * len(array) for name, array in OnnxRunner.sound_run(self, inputs).items()}


def refused(self, inputs):
    """An engine that does not run."""
    raise RunnerError("it does not run")


@pytest.mark.parametrize(
    ("fault", "state", "words"),
    [
        (None, PASSES, ()),
        (rolled, BEYOND, ("samples: dense_1: FAILED: max", "drawn: dense_1: FAILED: max")),
        (doubled, FAILS, ("sum", "batch")),
        (refused, CANNOT, ("it does not run",)),
    ],
)
def test_a_variant_is_judged_without_pytest(digits, monkeypatch, fault, state, words):
    """What became of it, in the same words: it passes, is beyond what is allowed, is wrong by itself, or cannot run."""
    if fault is not None:
        monkeypatch.setattr(OnnxRunner, "sound_run", OnnxRunner._run, raising=False)
        monkeypatch.setattr(OnnxRunner, "_run", fault)
    verdict = judged(digits, Variant("onnx", "fp16"), Sets(digits))
    assert verdict.state == state, verdict.text
    assert all(word in verdict.text for word in words), verdict.text
    if state == PASSES:
        assert verdict.text == ""
        assert {kind: 0 < used <= 1 for kind, used in verdict.used.items()} == {"samples": True, "stress": True}
