"""What all variants of a model are tested with is read and opened once in a run, where a variant can run."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines.formats.native import program as native_program
from engines.variant import REFERENCE
from fixtures.chain import Shared, artifact_folder

ROOT = Path(__file__).resolve().parents[2]


class Counting:
    """Stands for a chain, and notes what is asked of it."""

    spec = SimpleNamespace(reference=REFERENCE)

    def __init__(self):
        self.calls = []

    @contextmanager
    def asked_runner(self, variant):
        """Open something, and close it."""
        self.calls.append(f"open {variant}")
        yield object()
        self.calls.append("close")


def test_the_savedmodel_is_opened_once_and_closed_at_the_end():
    """Every variant gets the same runner of the reference, which is open as long as the run lasts."""
    chain = Counting()
    with ExitStack() as opened:
        shared = Shared(chain, opened)
        assert chain.calls == []
        assert shared.reference_runner is shared.reference_runner
        assert chain.calls == [f"open {REFERENCE}"]
    assert chain.calls == [f"open {REFERENCE}", "close"]


@pytest.mark.parametrize("name", ["samples", "reference", "contrast", "drawn"])
def test_inputs_and_answers_are_read_once(shared_by_model, name):
    """Whichever variant asks, it gets the very same arrays."""
    for shared in shared_by_model.values():
        assert getattr(shared, name) is getattr(shared, name)


@pytest.mark.skipif(native_program.PROGRAMS["cpp10"].unavailable() is None, reason="the C++ program can run here")
def test_a_variant_that_cannot_run_loads_no_tensorflow(pytestconfig):
    """It is skipped before the SavedModel is opened, which would take seconds for each."""
    words = ["tests/test_consistency.py", "-k", "drawn_inputs and cpp10", "-p", "no:cacheprovider"]
    words += ["--model=digits_vgg", f"--artifacts={artifact_folder(pytestconfig)}"]
    code = f"import sys, pytest; print(int(pytest.main({words!r})), 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "3 skipped" in done.stdout, done.stdout + done.stderr
    assert done.stdout.endswith("\n0 False\n")
