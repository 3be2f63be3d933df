"""A listed failure is reported and lets the run pass; whatever else is wrong, with a test or an entry, does not."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.known_failures import KnownFailure, KnownFailureError, load, unlisted_models
from conformance.shown import shown
from fixtures.chain import artifact_folder
from tests.meta.apart import environment_apart
from tests.meta.few import few

ROOT = Path(__file__).resolve().parent.parent.parent

ENTRY = """
[[known_failures]]
test = "test_kinds.py::test_wrong"
reason = "a kernel adds in another order"
link = "https://example.org/1"
"""

TESTS = """
import pytest
from hypothesis import given, strategies as st
from engines.errors import ConversionError

@pytest.fixture
def unbuilt():
    raise ConversionError("the converter failed")

@pytest.fixture
def required():
    pytest.fail("is required, but cannot run here", pytrace=False)

@pytest.fixture
def unclosed():
    yield
    assert False, "left open"

def test_right(): pass
def test_wrong(): assert 1 == 2
def test_judged(): pytest.fail("does not agree", pytrace=False)
def test_crash(): raise RuntimeError("crashed")
def test_build(unbuilt): pass
def test_build_itself(): raise ConversionError("the converter failed")
def test_required(required): pass
def test_left_open(unclosed): pass
def test_skipped(): pytest.skip("no device")

@pytest.mark.xfail
def test_marked(): assert 1 == 2
@pytest.mark.xfail
def test_marked_right(): pass
@pytest.mark.xfail(run=False)
def test_not_run(): pass
def test_excused(): pytest.xfail("later")

@given(number=st.integers(0, 100))
def test_drawn(number):
    assert number < 50, "large"
    if number > 20:
        pytest.fail("middling")

@given(number=st.integers(0, 100))
def test_drawn_crash(number):
    assert number < 50, "large"
    if number > 20:
        raise RuntimeError("crashed")
"""


def entry(test="test_wrong", **keys):
    """Write an entry about a test of the small project."""
    content = {"reason": "a known bug", "link": "https://example.org/1", **keys}
    lines = [f'test = "test_kinds.py::{test}"', *(f"{key} = {value!r}" for key, value in content.items())]
    return "\n[[known_failures]]\n" + "\n".join(lines) + "\n"


@pytest.fixture
def project(tmp_path):
    """Run pytest with this suite's plugins on a folder of tests that fail in every way."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_kinds.py").write_text(TESTS)
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    # Wide enough for what the summary says of each test.
    environment = environment_apart(PYTHONPATH=str(ROOT), COLUMNS="200")

    def run(known, *words):
        (tmp_path / "known_failures.toml").write_text(known)
        command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


KEYS = "; allowed: test, reason, link, and optionally model, fails, versions, device"
IDS = "; allowed: a test id as pytest prints it, tests/test_x.py::test_y[z]"
LISTS = '; allowed: a list such as ["tensorrt>=10,<11", "python<3.12"]'
HEADERS = "; allowed: entries that start with [[known_failures]]"
WRONG = ", entry 1 (test_kinds.py::test_wrong): "


@pytest.mark.parametrize(
    "known, problem",
    [
        ("[[known_failures]\n", ": not TOML: <…>"),
        ("a = " + 20_000 * "[", ": not TOML: <…>"),
        ("a = 1\nb = 2\n", f": unknown key 'a'{HEADERS}"),
        ("[[known_failure]]\n", f": unknown key 'known_failure'{HEADERS}"),
        ("known_failures = 1\n", f": known_failures is no list of entries{HEADERS}"),
        ("known_failures = [1]\n", f": known_failures is no list of entries{HEADERS}"),
        ("[[known_failures]]\nreason = 'r'\nlink = 'https://e.org'\n", f", entry 1: has no test{KEYS}"),
        (
            "[[known_failures]]\ntest = 1\nreason = 'r'\nlink = 'https://e.org'\n",
            ", entry 1: test is 1; allowed: some text",
        ),
        (
            entry() + entry(test="test_right", why="r"),
            f", entry 2 (test_kinds.py::test_right): unknown key 'why'{KEYS}",
        ),
        (ENTRY.replace("reason", "# reason"), f"{WRONG}has no reason{KEYS}"),
        (ENTRY.replace("link", "# link"), f"{WRONG}has no link{KEYS}"),
        (entry(reason=" "), f"{WRONG}reason is ' '; allowed: some text"),
        (entry(link="later"), f"{WRONG}link is 'later'; allowed: an address, https://…"),
        (
            entry(link="see https://example.org"),
            f"{WRONG}link is 'see https://example.org'; allowed: an address, https://…",
        ),
        (entry(fails="always"), f"{WRONG}fails is 'always'; allowed: assertion, conversion"),
        (ENTRY + "device = 1\n", f"{WRONG}device is 1; allowed: some text"),
        (
            ENTRY + ENTRY,
            ", entry 2 (test_kinds.py::test_wrong): already listed by {path}, entry 1 (test_kinds.py::test_wrong)",
        ),
        (
            ENTRY.replace("test_kinds.py::", "test_gone.py::"),
            f", entry 1 (test_gone.py::test_wrong): there is no file 'test_gone.py' in {{root}}{IDS}",
        ),
        (ENTRY.replace("::test_wrong", ""), f", entry 1 (test_kinds.py): it names a file and no test{IDS}"),
        (
            ENTRY.replace("test_kinds.py::", "kinds.py::"),
            f", entry 1 (kinds.py::test_wrong): 'kinds.py' is no test_*.py, so no test is looked for in it{IDS}",
        ),
        (
            ENTRY.replace("test_kinds.py::", "::"),
            f", entry 1 (::test_wrong): '' is no test_*.py, so no test is looked for in it{IDS}",
        ),
        *(
            (
                ENTRY.replace("test_kinds.py::", f"{path}::"),
                f", entry 1 ({path}::test_wrong): '{path}' is not the shortest path from {{root}}{IDS}",
            )
            for path in ("folder/../test_kinds.py", "./test_kinds.py", "../test_kinds.py", "/test_kinds.py")
        ),
        (entry(versions="tensorrt>=10"), f"{WRONG}versions is 'tensorrt>=10'{LISTS}"),
        (ENTRY + "versions = [1]\n", f"{WRONG}versions is [1]{LISTS}"),
        (entry(versions=["tensorrt>=>10"]), f"{WRONG}versions has 'tensorrt>=>10': <…>{LISTS}"),
        (entry(versions=["tensorrt"]), f"{WRONG}versions has 'tensorrt'{LISTS}"),
        (entry(versions=["tensorrt[all]>=10"]), f"{WRONG}versions has 'tensorrt[all]>=10'{LISTS}"),
        (entry(versions=["a @ https://example.org"]), f"{WRONG}versions has 'a @ https://example.org'{LISTS}"),
        (
            entry(versions=["tensorrt>=10; python_version > '3'"]),
            f"""{WRONG}versions has "tensorrt>=10; python_version > '3'"{LISTS}""",
        ),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, known, problem):
    """The error names the file, the entry, what was found and what is allowed."""
    for name in ("test_kinds.py", "kinds.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder").mkdir()
    path = tmp_path / "known.toml"
    path.write_text(known)
    with pytest.raises(KnownFailureError) as caught:
        load(path, tmp_path)
    # What others say of TOML and of versions hangs on their versions; of several lines the first is told.
    others = shown(str(caught.value.__cause__).splitlines()[0]) if "<…>" in problem else ""
    said = problem.replace("{path}", str(path)).replace("{root}", str(tmp_path)).replace("<…>", others)
    assert str(caught.value) == f"{path}{said}"


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path):
    """A folder is no file, and bytes that are no UTF-8 are no TOML."""
    with pytest.raises(KnownFailureError) as caught:
        load(tmp_path, tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory; allowed: a TOML file"
    (tmp_path / "known.toml").write_bytes(b"\xff")
    with pytest.raises(KnownFailureError, match=re.escape(f"{tmp_path / 'known.toml'}: not TOML: ")):
        load(tmp_path / "known.toml", tmp_path)


def test_an_entry_is_what_the_file_says(tmp_path):
    """Every key has its place; what is left out is an assertion of no model, anywhere; no entries are none."""
    (tmp_path / "test_kinds.py").write_text("")
    (tmp_path / "known.toml").write_text(ENTRY + entry("test_right", model="m", fails="conversion", device="CPU"))
    first, second = load(tmp_path / "known.toml", tmp_path)
    source = f"{tmp_path / 'known.toml'}, entry"
    assert first == KnownFailure(
        test="test_kinds.py::test_wrong",
        reason="a kernel adds in another order",
        link="https://example.org/1",
        source=f"{source} 1 (test_kinds.py::test_wrong)",
        model="",
        fails="assertion",
        versions=(),
        device="",
    )
    assert (second.model, second.fails, second.device, second.path) == ("m", "conversion", "CPU", "test_kinds.py")
    assert unlisted_models([second, first, second, replace(second, model="n")], ["n"]) == ("m",)
    (tmp_path / "known.toml").write_text("")
    assert load(tmp_path / "known.toml", tmp_path) == ()
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / "one" / "two" / "test_deep.py").write_text("")
    (tmp_path / "known.toml").write_text(ENTRY.replace("test_kinds.py", "one/two/test_deep.py"))
    assert [known.path for known in load(tmp_path / "known.toml", tmp_path)] == ["one/two/test_deep.py"]


@pytest.mark.parametrize(
    "keys, installed, reason",
    [
        ({}, {}, None),
        ({"versions": ["tensorrt>=10,<11"]}, {"tensorrt": "10.16.1.11"}, None),
        ({"versions": ["tensorrt>=10,<11"]}, {"tensorrt": "8.6.0"}, "it is about tensorrt<11,>=10, here is 8.6.0"),
        ({"versions": ["tensorrt>=10"]}, {"tensorrt": None}, "it is about tensorrt>=10, which is not installed here"),
        ({"versions": ["tensorflow>=2.17"]}, {"tensorflow": "2.17.0+nv25.2"}, None),
        ({"versions": ["onnxruntime==1.31.1"]}, {"onnxruntime": "1.31.1"}, None),
        ({"versions": ["onnxruntime>=1.31"]}, {"onnxruntime": "1.32.0.dev20260101"}, None),
        (
            {"versions": ["tensorrt>=10", "python<3.12"]},
            {"tensorrt": "10.1", "python": "3.12.1"},
            "it is about python<3.12, here is 3.12.1",
        ),
        ({"device": "NVIDIA H200*"}, {}, None),
        ({"device": "NVIDIA T4"}, {}, "it is about device NVIDIA T4, here is NVIDIA H200"),
    ],
)
def test_an_entry_holds_only_where_its_conditions_do(tmp_path, keys, installed, reason):
    """All versions and the device have to be those of the entry, else it says which is not."""
    (tmp_path / "test_kinds.py").write_text("")
    (tmp_path / "known.toml").write_text(entry(**keys))
    (known,) = load(tmp_path / "known.toml", tmp_path)
    assert known.not_here(installed, lambda: "NVIDIA H200") == reason


@pytest.mark.parametrize(
    "name, installed, said",
    [
        ("tensort", {"tensorrt": "10", "python": "3"}, "versions names 'tensort'; allowed: python, tensorrt"),
        (
            "tensorrt",
            {"tensorrt": "unknown"},
            "tensorrt here has the version 'unknown', which cannot be compared with tensorrt>=10; "
            "leave tensorrt out of versions",
        ),
    ],
)
def test_a_condition_that_cannot_be_checked_is_refused(tmp_path, name, installed, said):
    """A package of another name, and a version that is none, are errors and not conditions that never hold."""
    (tmp_path / "test_kinds.py").write_text("")
    (tmp_path / "known.toml").write_text(entry(versions=[f"{name}>=10"]))
    (known,) = load(tmp_path / "known.toml", tmp_path)
    with pytest.raises(KnownFailureError) as caught:
        known.not_here(installed, lambda: "CPU")
    assert str(caught.value) == f"{tmp_path / 'known.toml'}, entry 1 (test_kinds.py::test_wrong): {said}"


def test_a_malformed_file_is_a_usage_error(project):
    """Nothing runs, and the exit code is that of a usage error."""
    code, output = project(entry(why="not"))
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "known_failures.toml, entry 1 (test_kinds.py::test_wrong): unknown key 'why'" in output


def test_a_missing_file_is_a_usage_error(project):
    """A file that is named and not there lists nothing, which is not what was asked for."""
    code, output = project("", "--known-failures=other.toml")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "other.toml: cannot be read: No such file" in output


EXPECTED = {
    "test_wrong": {},
    "test_judged": {},
    "test_drawn": {},
    "test_build": {"fails": "conversion"},
    "test_build_itself": {"fails": "conversion"},
}
"""Tests that fail in the way that their entry says."""


@pytest.mark.parametrize("processes", few(["0", "2"], "2"))
def test_listed_failures_let_the_run_pass(project, processes):
    """Each is expected, counted as such, and the summary gives its reason and link; with and without xdist."""
    known = "".join(entry(test, **keys) for test, keys in EXPECTED.items())
    code, output = project(known, "-n", processes, *(f"test_kinds.py::{test}" for test in EXPECTED))
    assert code == pytest.ExitCode.OK, output
    assert f"{len(EXPECTED)} xfailed" in output
    section = output.partition("known failures =")[2]
    for test in EXPECTED:
        assert f"test_kinds.py::{test}\n  a known bug\n  https://example.org/1" in section


UNEXPECTED = [
    {
        "test_crash": ({}, "FAILED", "RuntimeError: crashed"),
        "test_drawn_crash": ({}, "FAILED", "ExceptionGroup: Hypothesis found 2 distinct failures"),
        "test_build": ({}, "ERROR", "ConversionError: the converter failed"),
        "test_build_itself": ({}, "FAILED", "ConversionError: the converter failed"),
        "test_required": ({}, "ERROR", "Failed: is required, but cannot run here"),
        "test_left_open": ({}, "ERROR", "AssertionError: left open"),
        "test_wrong": ({"fails": "conversion"}, "FAILED", "assert 1 == 2"),
    },
    {"test_required": ({"fails": "conversion"}, "ERROR", "Failed: is required, but cannot run here")},
]
"""Tests that fail in another way than their entry says: its keys, and what the run says of the test."""


@pytest.mark.parametrize("tests", UNEXPECTED, ids=["usual kinds", "required"])
def test_failures_of_another_kind_are_not_swallowed(project, tests):
    """Crashes, build errors, errors of fixtures and required variants fail as if the test were not listed."""
    known = "".join(entry(test, **keys) for test, (keys, _, _) in tests.items())
    code, output = project(known, *(f"test_kinds.py::{test}" for test in tests))
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "xfailed" not in output
    for test, (_, outcome, said) in tests.items():
        assert re.search(rf"^{outcome} test_kinds\.py::{test} - .*{re.escape(said)}", output, re.M), output


@pytest.mark.parametrize(
    "known, test, said",
    [
        ("", "test_marked", "assert 1 == 2"),
        ("", "test_marked_right", "the test passes"),
        ("", "test_not_run", "NOTRUN"),
        ("", "test_excused", "later"),
        (entry("test_marked"), "test_marked", "assert 1 == 2"),
        (entry("test_marked_right"), "test_marked_right", "the test passes"),
    ],
)
def test_xfail_is_no_way_around_the_list(project, known, test, said):
    """A marker or a call of pytest's own excuses nothing, listed or not: it has no link, and never becomes stale."""
    code, output = project(known, f"test_kinds.py::{test}")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "xfail excuses nothing here" in output
    assert "allowed: an entry in known_failures.toml" in output
    assert said in output
    assert re.search(r"= 1 (failed|error) in", output)


@pytest.mark.parametrize("processes", few(["0", "2"], "0"))
def test_a_listed_test_that_passes_fails_the_run(project, processes):
    """The entry is stale; the error names it and what to do."""
    code, output = project(entry("test_right"), "-n", processes, "test_kinds.py::test_right")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "known_failures.toml, entry 1 (test_kinds.py::test_right): the entry is stale, the test passes" in output


def test_an_unlisted_failure_still_fails(project):
    """An entry excuses its own test and no other."""
    code, output = project(ENTRY, "-k", "test_wrong or test_judged")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "1 failed" in output
    assert "1 xfailed" in output


def test_where_the_conditions_do_not_hold_the_test_fails(project):
    """An entry about another version excuses nothing, and the summary says why."""
    code, output = project(entry(versions=["python<3"]), "test_kinds.py::test_wrong")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "test_kinds.py::test_wrong runs as any other test: it is about python<3, here is" in output


def test_runxfail_shows_a_listed_failure_as_it_is(project):
    """With --runxfail the failure is shown as what it is, with its traceback."""
    code, output = project(ENTRY, "--runxfail", "test_kinds.py::test_wrong")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "assert 1 == 2" in output


def test_a_skipped_test_stays_skipped(project):
    """Where the test cannot run, nothing is known of the entry: neither a known failure nor stale."""
    code, output = project(entry("test_skipped"), "test_kinds.py::test_skipped")
    assert code == pytest.ExitCode.OK
    assert "1 skipped" in output
    assert "none of the listed tests failed in this run" in output


@pytest.mark.parametrize(
    "words, looked_for",
    [
        ([], True),
        pytest.param(["test_kinds.py"], True, marks=pytest.mark.slow),
        pytest.param(["."], True, marks=pytest.mark.slow),
        (["-k", "test_other"], True),
        pytest.param(["--ignore=test_other.py"], True, marks=pytest.mark.slow),
        (["-n", "2", "-k", "test_other"], True),
        (["--collect-only"], True),
        (["test_other.py"], False),
        pytest.param(["test_kinds.py::test_skipped"], False, marks=pytest.mark.slow),
        (["--ignore=test_kinds.py"], False),
    ],
)
def test_an_entry_without_a_test_fails_the_run_that_collects_its_file(project, words, looked_for):
    """A stale id is an error wherever its file was collected, whatever -k leaves; other runs do not look for it."""
    code, output = project(entry("test_gone"), *words)
    assert ("entry 1 (test_kinds.py::test_gone): there is no such test" in output) == looked_for
    if looked_for:
        assert code == pytest.ExitCode.TESTS_FAILED
        assert re.search(r"ERROR at gate of .*known_failures\.toml, entry 1", output)
    elif "--ignore=test_kinds.py" in words or "test_other.py" in words:
        assert code == pytest.ExitCode.OK


MODEL_ENTRY = """
[[known_failures]]
test = "tests/test_consistency.py::{test}[{model}-{variant}]"
model = "{model}"
reason = "the tolerance was narrowed on purpose"
link = "https://example.org/2"
"""


@pytest.fixture(scope="session")
def narrow(tmp_path_factory):
    """Description of the digits classifier with a tolerance that its FP16 ONNX does not keep."""
    text = (ROOT / "fixtures" / "models" / "digits_vgg.toml").read_text(encoding="utf-8")
    text += textwrap.dedent(
        """
        [tolerances.onnx-fp16]
        why = "narrowed on purpose"
        samples = { max = [1e-12, 1e-12] }
        """
    )
    path = tmp_path_factory.mktemp("narrow") / "digits_vgg.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def suite(narrow, request, tmp_path):
    """Run one comparison of this suite, on the model that does not keep its tolerance."""
    environment = environment_apart()

    def run(known, *words):
        path = tmp_path / "known.toml"
        path.write_text(known)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_consistency.py", *words]
        command += [f"--model={narrow}", f"--artifacts={artifact_folder(request.config)}", f"--known-failures={path}"]
        command += ["-k", "reference_on_samples and (onnx-fp16 or onnx-fp32)"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


SAMPLES_TEST = "test_agrees_with_the_reference_on_samples"


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_known_disagreement_of_a_variant_is_named_in_the_table(suite, processes):
    """The row of a variant that is known to disagree says so, and the run passes."""
    known = MODEL_ENTRY.format(test=SAMPLES_TEST, model="digits_vgg", variant="onnx-fp16")
    code, output = suite(known, "-n", processes)
    assert code == pytest.ExitCode.OK, output
    assert re.search(r"^digits_vgg-onnx-fp16 .* known failure$", output, re.M)
    assert re.search(r"^digits_vgg-onnx-fp32 .* passed$", output, re.M)


def test_the_same_disagreement_fails_where_it_is_not_listed(suite):
    """Without its entry the variant fails."""
    code, output = suite("")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert re.search(r"^digits_vgg-onnx-fp16 .* FAILED$", output, re.M)


@pytest.mark.parametrize(
    "known, said",
    [
        (MODEL_ENTRY.format(test=SAMPLES_TEST, model="digits_vgg", variant="onnx-fp17"), "there is no such test"),
        (
            MODEL_ENTRY.format(test=SAMPLES_TEST, model="digits_vgg", variant="onnx-fp16").replace("model", "# model"),
            "model is ''; allowed for this test: model = \"digits_vgg\"",
        ),
    ],
)
def test_an_entry_of_a_model_under_test_has_to_match(suite, known, said):
    """A variant that does not exist, and a test of a model whose entry names none, are errors."""
    code, output = suite(known)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert said in output


def test_entries_of_other_models_are_not_looked_for(suite):
    """A model that is not under test has no tests to match; the summary names it."""
    entries = MODEL_ENTRY.format(test=SAMPLES_TEST, model="digits_vgg", variant="onnx-fp16")
    entries += MODEL_ENTRY.format(test=SAMPLES_TEST, model="other", variant="onnx-fp16")
    code, output = suite(entries)
    assert code == pytest.ExitCode.OK, output
    assert "not looked for, as these models are not under test: other" in output
