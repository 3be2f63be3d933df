"""Required variants fail where they would be skipped, and a glob that requires nothing is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.gate import globs, required, unmatched
from engines import tensorrt

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


def run(*options, environment=None):
    """Run one quick TensorRT test in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--model", "digits_vgg"]
    command += ["tests/test_tensorrt.py", "-k", "metadata and tensorrt-fp32", *options]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )


def test_a_glob_that_matches_nothing_is_a_usage_error():
    """A typing error in --require stops the run and lists what there is."""
    done = run("--require", "tensort-*")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--require tensort-* matches no variant; there are savedmodel-fp32" in done.stderr


@pytest.mark.skipif(tensorrt.unavailable() is None, reason="TensorRT can run here, so nothing would be skipped")
@pytest.mark.parametrize("environment", [False, True])
def test_a_required_variant_that_cannot_run_fails(environment):
    """What is skipped without --require fails with it, and says why it cannot run; the environment does the same."""
    assert run().returncode == 0
    done = run(environment={"CONFORMANCE_REQUIRE": "tensorrt-*"}) if environment else run("--require", "tensorrt-*")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "is required (--require tensorrt-*), but cannot run here: " + tensorrt.unavailable() in done.stdout
