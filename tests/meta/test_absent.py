"""What cannot run on this machine is told of once, and who checks a model does not wait for the suite's own tests."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from engines.formats.registry import unavailable
from engines.variant import Variant
from tests.meta.apart import environment_apart
from tests.meta.conftest import NOT_HERE

ROOT = Path(__file__).resolve().parents[2]

ABSENT = "digits_vgg-tensorrt-fp32-b1.16.32"

pytestmark = pytest.mark.skipif(
    unavailable(Variant("tensorrt", "fp32")) is None, reason="TensorRT can run here, so nothing is left out"
)


@cache
def collected(*words):
    """Count the tests that these words choose, by the variant of digits_vgg that they are of."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "--model=digits_vgg"]
    done = subprocess.run(
        [*command, *words], cwd=ROOT, env=environment_apart(), capture_output=True, text=True, check=True
    )
    tests = [line for line in done.stdout.splitlines() if "::" in line]
    return Counter(test.partition("[")[2].rstrip("]") for test in tests)


@pytest.mark.parametrize("marks", ["consistency", "batching and not slow", "accuracy and not slow"])
def test_every_variant_that_cannot_run_is_told_of_once(marks):
    """Whatever marks are asked for, a variant that cannot run is skipped by one test, and others have all of theirs."""
    found = collected("--ignore=tests/meta", "-m", marks)
    slow = collected("--ignore=tests/meta", "-m", f"{marks} and slow") if "slow" not in marks else Counter()
    assert found[ABSENT] - slow[ABSENT] == 1
    assert found["digits_vgg-onnx-fp32"] - slow["digits_vgg-onnx-fp32"] > 1 or "accuracy" in marks


def test_what_is_asked_for_by_name_is_there():
    """A test that is named, and every test of a variant that is required, is collected where it cannot run."""
    file = "tests/test_consistency.py"
    chosen, required = collected(file, "-k", "digits_vgg"), collected(file, "--require=tensorrt-fp32*")
    assert chosen[ABSENT] == required[ABSENT] > 1
    assert collected(f"{file}::test_outputs_are_finite_and_sum_to_one[{ABSENT}]") == {ABSENT: 1}


def test_no_test_of_this_folder_has_a_mark_that_leaves_the_folder_out(request):
    """``-m consistency`` may pass this folder by, since nothing in it is marked so."""
    items = [item for item in request.session.items if Path(__file__).parent in item.path.parents]
    assert {mark.name for item in items for mark in item.iter_markers()} & NOT_HERE == set()
