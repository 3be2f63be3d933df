"""Required variants fail where they would be skipped, and a glob that requires nothing is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.gate import globs, required, unmatched
from engines.formats.tensorrt import packages as tensorrt_packages
from fixtures.chain import artifact_folder
from tests.meta.apart import environment_apart
from tests.meta.few import few

ROOT = Path(__file__).resolve().parent.parent.parent


def test_globs_come_from_options_and_environment():
    """Options and the environment add up, separated by spaces or commas."""
    assert globs(["a"], {"CONFORMANCE_REQUIRE": "b-*, c"}) == ("a", "b-*", "c")
    assert globs([], {}) == ()


def test_required_names_the_glob():
    """A variant is required by its own id or by that of its case."""
    assert required(["onnx-*", "tensorrt-*"], "tensorrt-fp16-b1.16.32", "m-tensorrt-fp16-b1.16.32") == "tensorrt-*"
    assert required(["m-tensorrt-*"], "tensorrt-fp16-b1.16.32", "m-tensorrt-fp16-b1.16.32") == "m-tensorrt-*"
    assert required(["tensorrt-int8*"], "tensorrt-fp16-b1.16.32", "m-tensorrt-fp16-b1.16.32") is None


def test_unmatched_globs_are_found():
    """A glob that matches nothing is named."""
    assert unmatched(["tensorrt-*", "tensort-*"], ["tensorrt-fp32-b1.16.32"]) == ["tensort-*"]


def pytest_run(*words, environment=None):
    """Run pytest on the digits classifier in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--model", "digits_vgg", *words]
    inherited = environment_apart(**environment or {})
    return subprocess.run(command, cwd=ROOT, env=inherited, capture_output=True, text=True, check=False)


def run(*options, environment=None):
    """Run one quick TensorRT test in a process of its own."""
    words = ["tests/test_tensorrt.py", "-k", "metadata and tensorrt-fp32", *options]
    return pytest_run(*words, environment=environment)


def test_a_glob_that_matches_nothing_is_a_usage_error():
    """A typing error in --require stops the run and lists what there is."""
    done = run("--require", "tensort-*")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--require tensort-* matches no variant; there are savedmodel-fp32" in done.stderr


@pytest.mark.skipif(
    tensorrt_packages.unavailable() is None, reason="TensorRT can run here, so nothing would be skipped"
)
@pytest.mark.parametrize("environment", few([False, True], True))
def test_a_required_variant_that_cannot_run_fails(environment):
    """What is skipped without --require fails with it, and says why it cannot run; the environment does the same."""
    assert run().returncode == 0
    done = run(environment={"CONFORMANCE_REQUIRE": "tensorrt-*"}) if environment else run("--require", "tensorrt-*")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "is required (--require tensorrt-*), but cannot run here: " + tensorrt_packages.unavailable() in done.stdout
    assert "  replay     pytest -k digits_vgg-tensorrt-fp32-b1.16.32 --require=digits_vgg-tensorrt-fp32-" in done.stdout


BUILDS = ["tests/test_consistency.py", "-k", "test_builds and onnx-fp32"]
"""One quick test, of one variant."""


@pytest.mark.parametrize(
    "processes, glob, untested",
    [
        ("0", "digits_vgg-onnx-fp32", None),
        pytest.param("2", "onnx-fp32", None, marks=pytest.mark.slow),
        ("0", "onnx-*", "digits_vgg-onnx-fp16, digits_vgg-onnx-int8"),
        ("2", "tflite-int8", "digits_vgg-tflite-int8"),
    ],
)
def test_a_required_variant_that_no_test_ran_fails_the_run(request, processes, glob, untested):
    """Required means tested: a variant whose tests were all deselected is named, with and without xdist."""
    artifacts = f"--artifacts={artifact_folder(request.config)}"
    done = pytest_run(*BUILDS, "-n", processes, artifacts, "--require", glob)
    if untested is None:
        assert done.returncode == pytest.ExitCode.OK, done.stdout
    else:
        assert done.returncode == pytest.ExitCode.TESTS_FAILED
        assert f"--require {glob}: no test of these variants ran in this run: {untested}" in done.stdout


SKIPS = """
import pytest

def pytest_runtest_call(item):
    if "agrees" in item.nodeid:
        pytest.skip("not today")
"""


@pytest.mark.parametrize(
    "tests, problem",
    [
        (
            "builds or on_samples",
            "what compares these variants with the reference was skipped: digits_vgg-onnx-fp32 (not",
        ),
        ("builds", None),
    ],
)
def test_a_required_variant_is_not_tested_by_what_is_left_where_comparisons_are_skipped(
    request, tmp_path, tests, problem
):
    """A test that builds it is no test of its answers, where those that compare them skip themselves at run time."""
    (tmp_path / "skips.py").write_text(SKIPS, encoding="utf-8")
    words = ["tests/test_consistency.py", "-k", f"onnx-fp32 and ({tests})", "--require", "onnx-fp32", "-p", "skips"]
    artifacts = f"--artifacts={artifact_folder(request.config)}"
    done = pytest_run(*words, artifacts, environment={"PYTHONPATH": str(tmp_path)})
    if problem is None:
        assert done.returncode == pytest.ExitCode.OK, done.stdout
    else:
        assert done.returncode == pytest.ExitCode.TESTS_FAILED
        assert f"--require onnx-fp32: {problem} today)" in done.stdout


@pytest.mark.parametrize("words", [["-k", "no_such_test"], ["-m", "slow", "tests/test_batching.py"]])
def test_a_run_without_any_test_of_a_required_variant_fails(words):
    """Where -k and -m leave nothing at all, the exit code is that of a failure and names the glob."""
    done = pytest_run(*words, "--require", "onnx-*")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "--require onnx-*: no test of these variants ran" in done.stdout


CUT_SHORT = {
    "in a test": "pytest_runtest_call(item)",
    "after a test": "pytest_runtest_teardown(item)",
    "while collecting": "pytest_collection(session)",
    "set-up only": "--setup-only",
    "a plan, in two processes": "--setup-plan -n 2",
}
"""What ends a run with exit code 0 before all of its tests: a hook that calls ``pytest.exit``, or options."""


@pytest.mark.parametrize("where", few(CUT_SHORT, "in a test", "a plan, in two processes"))
def test_a_run_that_ends_before_its_tests_fails(request, tmp_path, where):
    """Whatever cut it short with exit code 0, the run fails, in its report too, and says how many tests did not run."""
    words = [f"--artifacts={artifact_folder(request.config)}", f"--report={tmp_path}"]
    if CUT_SHORT[where].startswith("--"):
        words += CUT_SHORT[where].split()
    else:
        hook = f"import pytest\n\ndef {CUT_SHORT[where]}:\n    pytest.exit('bye', returncode=0)\n"
        (tmp_path / "ends.py").write_text(hook, encoding="utf-8")
        words += ["-p", "ends"]
    done = pytest_run(*BUILDS, *words, environment={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    selected = where != "while collecting"
    assert ("\n1 of 1 selected tests did not run, the first is " in done.stdout) == selected
    assert ("\nit ended before any test was selected" in done.stdout) != selected
    document = json.loads((tmp_path / "conformance.json").read_text(encoding="utf-8"))
    assert (document["exit_code"], document["verdict"]["status"]) == (1, "failed")


def test_listing_fixtures_is_no_run():
    """`--fixtures` collects tests and runs none, which is no error."""
    done = pytest_run(*BUILDS, "--fixtures")
    assert done.returncode == pytest.ExitCode.OK
    assert "1 error" not in done.stdout


@pytest.mark.parametrize(
    "words, environment",
    [
        (["-p", "no:fixtures.gate"], {}),
        (["-p", "no:fixtures.chain"], {}),
        (["-p", "no:conformance-gate"], {}),
        (["-p", "no:conformance-baseline", "--baseline=none.json"], {}),
        ([], {"PYTEST_ADDOPTS": "-p no:fixtures.baseline"}),
    ],
)
def test_no_part_of_the_suite_can_be_blocked(words, environment):
    """The option to leave out a plugin is a usage error that names the part, wherever the option comes from."""
    done = pytest_run(*BUILDS, *words, environment=environment)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    blocked = words[1] if words else "no:fixtures.baseline"
    assert f"ERROR: -p {blocked}, from the command line, addopts or PYTEST_ADDOPTS, leaves out a part" in done.stderr


def test_collecting_only_requires_nothing():
    """`--collect-only` runs no tests, so it misses none."""
    assert pytest_run(*BUILDS, "--collect-only", "--require", "onnx-*").returncode == pytest.ExitCode.OK
