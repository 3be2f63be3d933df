"""`pytest --report=DIR` as a user runs it, each time a process of its own: what the files say is what happened."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from engines.variant import Variant
from fixtures.chain import CHAINS
from fixtures.report import replace_file
from tests.meta.apart import environment_apart
from tests.meta.valid import validate

ROOT = Path(__file__).resolve().parents[2]
FAST = "tests/meta/test_device_floors.py"
"""Tests that need no framework: a run of them takes a second."""


class Command:
    """Runs pytest on the digits classifier, in the artifact folder of this run."""

    def __init__(self, config):
        artifacts = next(iter(config.stash[CHAINS].values())).store.root.resolve()
        self.words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--model=digits_vgg"]
        self.words.append(f"--artifacts={artifacts}")
        self.environment = environment_apart()

    def run(self, folder, *words, **environment):
        """Run pytest with a report; gives the exit code, the output, and the document (None: there is none)."""
        done = subprocess.run(
            [*self.words, f"--report={folder}", *words],
            cwd=ROOT,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr, read(folder)

    def start(self, folder, *words):
        """Start pytest with a report, without waiting for it."""
        command = [*self.words, f"--report={folder}", *words]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            # A shell that starts jobs in the background has them ignore Ctrl-C, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it does nothing else
        )


def read(folder):
    """Read and check the document of a report; None where there is none."""
    path = folder / "conformance.json"
    if not path.is_file():
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    validate(document)
    return document


@pytest.fixture(scope="session")
def command(pytestconfig):
    """The command."""
    return Command(pytestconfig)


@pytest.fixture
def before(tmp_path):
    """Folder in which the green report of an earlier run stands."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "report.html").write_text("✓ Passed", encoding="utf-8")
    (folder / "mine.txt").write_text("not the report's", encoding="utf-8")
    return folder


def test_a_run_that_compares_nothing_is_not_green(command, before):
    """The report of tests of the suite itself is incomplete; other files in the folder are left alone."""
    code, output, document = command.run(before, FAST)
    assert code == 0
    assert f"report: {before / 'report.html'}" in output
    assert (document["verdict"]["status"], document["verdict"]["complete"]) == ("incomplete", True)
    assert document["tests"]["passed"] == document["tests"]["collected"] > 3
    assert "Incomplete" in (before / "report.html").read_text(encoding="utf-8")
    assert sorted(p.name for p in before.iterdir()) == ["conformance.json", "mine.txt", "report.html", "summary.md"]


def test_a_run_of_nothing_is_not_green(command, before):
    """With everything deselected the report says that nothing was compared, and how much was left out."""
    code, _, document = command.run(before, FAST, "-k", "nosuchtest")
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert document["verdict"]["status"] == "incomplete"
    assert document["tests"]["deselected"] > 3
    assert "deselected" in document["verdict"]["sentences"][-1]


def test_a_file_that_cannot_be_collected_is_a_failure(command, before, tmp_path):
    """An error of collection fails the run, and stands in the report with its message."""
    bad = tmp_path / "test_bad.py"
    bad.write_text("import nosuchmodule\n", encoding="utf-8")
    code, _, document = command.run(before, f"--rootdir={ROOT}", FAST, bad)
    assert code == pytest.ExitCode.INTERRUPTED
    assert (document["verdict"]["status"], document["verdict"]["complete"]) == ("failed", False)
    (failure,) = document["failures"]
    assert failure["phase"] == "collect"
    assert "nosuchmodule" in failure["message"]


def test_a_folder_that_cannot_be_written_is_an_error_at_the_start(command, tmp_path):
    """A file in the way ends the run before anything is collected: option, path, and what is allowed."""
    taken = tmp_path / "taken"
    taken.write_text("", encoding="utf-8")
    for folder in (taken, taken / "below"):
        code, output, document = command.run(folder, FAST)
        assert code == pytest.ExitCode.USAGE_ERROR
        assert re.search(
            rf"ERROR: --report {re.escape(str(folder))}: cannot write there: .*; allowed: a folder", output
        )
        assert "passed" not in output
        assert document is None


@pytest.mark.parametrize(
    "words",
    [
        ["--onnx=/tmp/nosuch.onnx"],
        ["--require=nosuch-*"],
        ["-n", "2", "--onnx=/tmp/nosuch.onnx"],
        ["--benchmark-only", "-n", "2"],
    ],
    ids=["a file that is not there", "no such variant", "in several processes", "refused in several processes"],
)
def test_a_run_that_is_refused_leaves_no_green_report(command, before, words):
    """A mistake in the options takes the report of the run before away; other files in the folder are left alone."""
    code, output, _ = command.run(before, FAST, *words)
    assert code == pytest.ExitCode.USAGE_ERROR, output
    assert [p.name for p in before.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("word", ["--help", "--markers", "--fixtures", "--collect-only"])
def test_a_report_outlives_a_look_at_the_tests(command, before, word):
    """Where no test is to run there is nothing to report, and the report of the run before stays as it is."""
    code, output, _ = command.run(before, FAST, word)
    assert code == pytest.ExitCode.OK, output
    assert sorted(p.name for p in before.iterdir()) == ["mine.txt", "report.html"]
    assert (before / "report.html").read_text(encoding="utf-8") == "✓ Passed"


def test_a_report_is_compared_with_the_one_that_it_replaces(command, tmp_path):
    """A baseline in the folder of the report is read before it is replaced, and no mistake takes it away."""
    _, _, first = command.run(tmp_path, FAST)
    baseline = f"--baseline={tmp_path / 'conformance.json'}"
    code, output, _ = command.run(tmp_path, FAST, baseline, "--require=nosuch-*")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert read(tmp_path) == first
    assert [p.name for p in tmp_path.iterdir()] == ["conformance.json"]
    _, output, second = command.run(tmp_path, FAST, baseline)
    # These tests are of no variant.
    assert "nothing to compare: of the variants that ran in the old run (none)" in output
    assert second["command"] != first["command"]


def test_a_path_need_not_be_utf8(command, pytestconfig, tmp_path):
    """A byte that no encoding knows is shown by its number, in all files and in the summary of the CI job."""
    chain = pytestconfig.stash[CHAINS].get("digits_vgg")
    if chain is None:
        pytest.skip("digits_vgg is not under test")
    path = tmp_path / os.fsdecode(b"br\xff.onnx")
    path.write_bytes(chain.file(Variant("onnx", "fp32")).read_bytes())
    folder, target = tmp_path / "out", tmp_path / "steps.md"
    code, output, document = command.run(folder, FAST, f"--onnx={path}", GITHUB_STEP_SUMMARY=str(target))
    assert code == pytest.ExitCode.OK, output
    assert {v["variant"]: v["supplied"] for v in document["variants"]}["onnx-fp32"]["path"] == str(path)
    for file in (folder / "report.html", folder / "summary.md", target):
        assert "br\\udcff.onnx" in file.read_text(encoding="utf-8")
    assert not list(folder.glob(".*"))


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    """Whatever goes wrong while a file is written, it stays as it was, and no part of a new one stands beside it."""
    path = tmp_path / "report.html"
    path.write_text("before", encoding="utf-8")
    with pytest.raises(TypeError):
        replace_file(path, None)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == "before"


def test_the_summary_is_added_to_that_of_the_ci_job(command, before, tmp_path):
    """What $GITHUB_STEP_SUMMARY names is appended to, once a run; a summary that cannot be added is only said."""
    target = tmp_path / "steps.md"
    target.write_text("# Before\n", encoding="utf-8")
    command.run(before, FAST, GITHUB_STEP_SUMMARY=str(target))
    assert target.read_text(encoding="utf-8") == "# Before\n" + (before / "summary.md").read_text(encoding="utf-8")
    code, output, _ = command.run(before, FAST, GITHUB_STEP_SUMMARY=str(before))
    assert code == 0
    assert f"$GITHUB_STEP_SUMMARY {before}: the summary was not added" in output


@pytest.mark.parametrize(
    ("sign", "finished"), [(signal.SIGINT, True), (signal.SIGKILL, False)], ids=["Ctrl-C", "killed"]
)
def test_a_run_that_is_ended_leaves_no_green_report(command, before, sign, finished):
    """Ctrl-C writes what was found so far; a run that is killed has replaced the report of the run before."""
    process = command.start(before, "-m", "batching", "-k", "onnx", "-v")
    for line in process.stdout:
        if "PASSED" in line:
            break
    process.send_signal(sign)
    process.communicate(timeout=120)
    document = read(before)
    assert (document["verdict"]["status"], document["verdict"]["complete"]) == ("incomplete", False)
    assert "Incomplete" in (before / "report.html").read_text(encoding="utf-8")
    assert "did not finish" in document["verdict"]["sentences"][0]
    assert bool(document["tests"]["not_run"]) == bool(document["tests"]["passed"]) == finished
    assert not list(before.glob(".*"))


# A damaged engine: found, reported the same by one process and by several.


@pytest.fixture(scope="session")
def damaged(pytestconfig, tmp_path_factory):
    """An ONNX of the digits classifier with its last two classes exchanged."""
    import onnx
    from onnx import numpy_helper

    chain = pytestconfig.stash[CHAINS].get("digits_vgg")
    if chain is None:
        pytest.skip("digits_vgg is not under test")
    model = onnx.load(str(chain.file(Variant("onnx", "fp32"))))
    name = [n for n in model.graph.node if n.op_type == "Add"][-1].input[1]
    for node in model.graph.node:
        if node.op_type == "MatMul":
            weights = node.input[1]
    for tensor in model.graph.initializer:
        if tensor.name in {name, weights}:
            values = numpy_helper.to_array(tensor)[..., [0, 1, 2, 3, 4, 5, 6, 7, 9, 8]]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
    path = tmp_path_factory.mktemp("damaged") / "model.onnx"
    onnx.save(model, str(path))
    return path


WORDS = ("tests/test_consistency.py", "tests/test_accuracy.py", "-k", "not tflite")


@pytest.fixture(scope="session")
def alone(command, damaged, tmp_path_factory):
    """Exit code, folder and document of a run on the damaged engine, in one process."""
    folder = tmp_path_factory.mktemp("alone")
    words = (*WORDS, f"--onnx={damaged}", f"--junit-xml={folder / 'junit.xml'}")
    code, _, document = command.run(folder, *words)
    return code, folder, document


@pytest.mark.slow
def test_a_damaged_engine_is_reported_with_all_that_is_needed_to_act(alone):
    """Verdict, likely cause, replay, charts and pictures of the worst samples are in the data and on the page."""
    code, folder, document = alone
    assert code == pytest.ExitCode.TESTS_FAILED
    assert document["verdict"]["status"] == "failed"
    headline = document["verdict"]["sentences"][0]
    assert headline.startswith("1 of 2 tested variants is broken: onnx-fp32 of digits_vgg. ")
    assert headline.endswith("not tested.")
    failure = next(f for f in document["failures"] if "on_samples" in f["test"])
    assert (failure["model"], failure["variant"], failure["phase"]) == ("digits_vgg", "onnx-fp32", "call")
    assert "classes" in failure["likely"]
    assert failure["summary"] == "onnx-fp32 does not give the reference's answers for digits_vgg"
    assert failure["replay"].startswith("pytest 'tests/test_consistency.py::test_agrees_with_the_reference_on_samples[")
    drawn = next(p for p in document["pictures"] if p["variant"] == "onnx-fp32")
    assert drawn["samples"] == 360
    assert drawn["histogram"]["beyond"] > 0
    assert {r["class"] for r in drawn["agreement"] if r["same"] < r["samples"]} == {"8", "9"}
    assert drawn["worst"][0]["flip"]
    assert drawn["worst"][0]["image"].startswith("data:image/png;base64,")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert drawn["worst"][0]["image"] in page
    artifact = next(a for a in document["artifacts"] if a["variant"] == "onnx-fp32")
    assert set(artifact["made_from"]) == {"file", "engines.onnx code"}
    assert "tensorrt:" in {s["reason"].split(" ")[0] for s in document["skips"]}


RUN_BOUND = ("command", "started", "seconds")
"""What differs from run to run, as docs/report.md says; artifacts are those of one folder, so their times do not."""

PLANTED = """
import numpy as np
from engines.formats.tflite.runner import TFLiteRunner

run = TFLiteRunner.__call__

def planted(self, inputs):
    outputs = {name: array.copy() for name, array in run(self, inputs).items()}
    if "fp" in str(self.variant) and len(next(iter(inputs.values()))) in {7, 33, 360}:
        for array in outputs.values():
            array[-1] = np.nan
    return outputs

TFLiteRunner.__call__ = planted
"""
"""A floating-point TFLite that answers some batches with NaN."""

SELECTED = ("consistency.py", "batching.py", "accuracy.py")


def differences(one, other, place="document"):
    """Fields in which two documents differ, with both values."""
    if type(one) is not type(other) or not isinstance(one, (dict, list)):
        return [] if one == other else [f"{place}: {one!r} and {other!r}"]
    if isinstance(one, dict):
        keys = one.keys() | other.keys()
        pairs = [(f"{place}.{key}", one.get(key, "absent"), other.get(key, "absent")) for key in sorted(keys)]
    else:
        pairs = [
            (f"{place}[{i}]", a, b) for i, (a, b) in enumerate(itertools.zip_longest(one, other, fillvalue="none"))
        ]
    return [found for key, a, b in pairs for found in differences(a, b, key)]


def table(output):
    """Cut the summary out of what a run printed: a row for each variant, and what was skipped."""
    lines = output.partition("conformance: differences from the reference")[2].splitlines()
    return [line for line in lines if re.match(r"variant |digits_vgg-|\d+ variants", line)]


@pytest.mark.slow
def test_the_report_names_the_file_that_was_given(alone, damaged):
    """Path, size and hash are those of the file itself, and not those of the copy in the artifact folder."""
    _, _, document = alone
    supplied = {v["variant"]: v["supplied"] for v in document["variants"]}
    assert supplied.pop("onnx-fp32") == {
        "option": "--onnx",
        "path": str(damaged),
        "bytes": damaged.stat().st_size,
        "sha256": hashlib.sha256(damaged.read_bytes()).hexdigest(),
    }
    assert set(supplied.values()) == {None}
    (model,) = document["models"]
    assert re.fullmatch(r"TensorFlow \d+\.\d+\.\d+.*", model["reference_run_by"])


@pytest.mark.slow
def test_figures_of_a_failure_are_those_of_its_message(alone):
    """What the report says of inputs that failed is what that test's message says: samples, figures, classes."""
    _, _, document = alone
    messages = {f["test"]: f["message"] for f in document["failures"]}
    wrong = [c for c in document["comparisons"] if not c["passed"]]
    assert {c["inputs"] for c in wrong} == {"samples", "more samples", "contrast", "drawn"}
    for comparison in wrong:
        message = messages[comparison["test"]]
        assert f"inputs     {comparison['inputs']}, {comparison['samples']} samples" in message
        for name, (needed, allowed) in comparison["figures"].items():
            limit = "not judged" if (name, allowed) == ("flips", 1.0) else f"allowed {allowed:.3e}"
            assert f"{name:<7} needed {needed:.3e}   {limit}" in message
    drawn = next(p for p in document["pictures"] if p["variant"] == "onnx-fp32")
    assert drawn["flips"] == sum(r["samples"] - r["same"] for r in drawn["agreement"])
    # Only the last two classes are exchanged, so the engine gives such a sample the other one's.
    assert {w["label"] for w in drawn["worst"]} <= {"8", "9"}


@pytest.mark.slow
def test_four_processes_give_the_verdict_and_report_of_one(command, damaged, tmp_path):
    """Exit code, table and every field but times are those of `-n 0`, of sound and skipped variants and of broken ones.

    An ONNX with two classes exchanged fails by its figures, a TFLite with NaN in some batches without any.
    """
    (tmp_path / "planted.py").write_text(PLANTED, encoding="utf-8")
    words = [f"tests/test_{name}" for name in SELECTED] + [f"--onnx={damaged}", "-p", "planted"]
    words += ["-k", "(onnx or tflite or tensorrt-fp) and not drawn_inputs and not partition"]
    (one, printed, expected), (four, also, found) = (
        command.run(tmp_path / n, *words, "-n", n, PYTHONPATH=str(tmp_path)) for n in ("0", "4")
    )
    assert one == four == pytest.ExitCode.TESTS_FAILED, also
    for document in (expected, found):
        assert all(document.pop(name) for name in RUN_BOUND)
    assert differences(expected, found) == []
    assert table(also) == table(printed)
    # There was something to compare, of each kind.
    verdicts = {v["variant"]: v["verdict"] for v in expected["variants"]}
    names = ("onnx-fp32", "tflite-fp32", "tflite-int8", "tensorrt-fp32-b1.16.32")
    assert [verdicts[name] for name in names] == ["failed", "failed", "passed", "skipped"]
    wrong = {(c["variant"], c["inputs"]) for c in expected["comparisons"] if not c["passed"]}
    assert wrong == {("onnx-fp32", inputs) for inputs in ("samples", "more samples", "contrast", "drawn")} | {
        (f"tflite-{precision}", "more samples") for precision in ("fp32", "fp16")
    }
    assert {b["variant"] for b in expected["batching"] if b["problems"]} == {"tflite-fp32", "tflite-fp16"}
    assert len(table(printed)) > 5


PLUGINS = {
    "crash": """
import os
def pytest_runtest_setup(item):
    if "on_contrast" in item.nodeid:
        os._exit(139)
""",
    "in one": """
import os, time
def pytest_runtest_call(item):
    assert os.environ["PYTEST_XDIST_WORKER"] != "gw0", "in this process only"
    time.sleep(1)
""",
}


@pytest.mark.slow
def test_a_test_that_its_process_died_of_fails_its_variant(command, tmp_path):
    """The variant has failed in table and report, which says that it was a crash; the report is valid."""
    (tmp_path / "crashes.py").write_text(PLUGINS["crash"], encoding="utf-8")
    words = ("tests/test_consistency.py", "-k", "onnx-fp32 and (samples or contrast)", "-p", "crashes", "-n", "2")
    code, output, document = command.run(tmp_path, *words, PYTHONPATH=str(tmp_path))
    assert code == pytest.ExitCode.TESTS_FAILED
    assert re.search(r"^digits_vgg-onnx-fp32 .* FAILED$", output, re.M), output
    (failure,) = document["failures"]
    assert (failure["variant"], failure["phase"]) == ("onnx-fp32", "crash")
    assert {v["variant"]: v["verdict"] for v in document["variants"]}["onnx-fp32"] == "failed"


def test_a_test_that_fails_in_one_of_several_processes_has_failed(command, tmp_path):
    """With --dist=each every process runs every test, and one that passes it later does not make up for the other."""
    (tmp_path / "one.py").write_text(PLUGINS["in one"], encoding="utf-8")
    words = (FAST, "-k", "test_a_floor_is_its_share", "-p", "one", "--dist=each", "--tx=2*popen")
    code, _, document = command.run(tmp_path, *words, PYTHONPATH=str(tmp_path))
    assert code == pytest.ExitCode.TESTS_FAILED
    assert document["tests"]["failed"] == document["tests"]["collected"] > 0


@pytest.mark.slow
def test_a_run_that_stops_at_the_first_failure_says_what_never_ran(command, damaged, tmp_path):
    """With -x the report has failed, is not complete, and counts the tests that never ran."""
    _, _, document = command.run(tmp_path, "tests/test_consistency.py", "-k", "onnx", f"--onnx={damaged}", "-x")
    assert (document["verdict"]["status"], document["verdict"]["complete"]) == ("failed", False)
    assert document["tests"]["failed"] == 1
    assert document["tests"]["not_run"] > 0
    assert "never ran" in " ".join(document["verdict"]["sentences"])


@pytest.mark.slow
def test_junit_xml_holds_plain_properties(alone):
    """Every test of a variant names model and variant, and its figures as text: no property is a dump of data."""
    root = ElementTree.parse(alone[1] / "junit.xml").getroot()
    cases = {c.get("name"): {p.get("name"): p.get("value") for p in c.iter("property")} for c in root.iter("testcase")}
    found = cases["test_agrees_with_the_reference_on_samples[digits_vgg-onnx-fp32]"]
    assert (found["model"], found["variant"]) == ("digits_vgg", "onnx-fp32")
    assert float(found["needed over allowed on samples"]) > 1
    assert re.fullmatch(r"\d+/100", found["flipped samples"])
    assert re.fullmatch(r"\d\.\d+e[+-]\d+ of \d\.\d+e[+-]\d+ allowed", found["max on samples"])
    values = [value for properties in cases.values() for value in properties.values()]
    assert not any("{" in value or "base64" in value for value in values)
