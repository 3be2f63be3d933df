"""TensorFlow in a process of its own: what it says is what it says here, and it ends with who asks it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from engines.errors import RunnerError, SpecError
from engines.formats.savedmodel import apart, forked
from engines.formats.savedmodel.format import FORMAT
from engines.model.derive import derive_spec
from engines.variant import REFERENCE
from tests.meta.apart import environment_apart

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ended():
    """Whatever was kept apart in this test ends with it."""
    yield
    apart.keep_apart(False)


def told(chain):
    """All that is asked of a SavedModel: its description, its answers in three ways, and its runner's settings."""
    path, inputs = chain.file(REFERENCE), chain.samples.inputs
    spec = derive_spec(path, None)
    with FORMAT.open(chain.spec, REFERENCE, path, 7) as runner:
        runs = runner(inputs)
        settings = runner.settings, runner.batch_size
    answers = FORMAT.reference(chain.spec, path, inputs), FORMAT.calls(chain.spec, path)(inputs), runs
    return (spec.inputs, spec.outputs, settings), answers


def test_what_is_asked_apart_is_what_is_asked_here(digits, ended):
    """Description, reference and runner say the same in a process of its own, to the last bit, and errors come back."""
    here, ours = told(digits)
    apart.keep_apart()
    other = apart.ask(os.getpid)
    assert other != os.getpid()
    there, theirs = told(digits)
    assert there == here
    for one, two in zip(ours, theirs, strict=True):
        assert one.keys() == two.keys()
        assert all(one[name].tobytes() == two[name].tobytes() for name in one)
    with pytest.raises(SpecError, match=r"its signatures are .*; expected 'other' among them"):
        derive_spec(digits.file(REFERENCE), None, "other")
    apart.keep_apart(False)
    assert apart.ask(os.getpid) == os.getpid()
    assert not Path(f"/proc/{other}").exists()


def test_a_process_that_dies_is_told_and_replaced(digits, ended):
    """A question that kills the process is one line; the next one is answered, but by nothing that was open there."""
    apart.keep_apart()
    before = apart.ask(os.getpid)
    runner = FORMAT.open(digits.spec, REFERENCE, digits.file(REFERENCE))
    with pytest.raises(RunnerError, match=r"ended before it answered \(raise_signal\); it may need more memory"):
        apart.ask(signal.raise_signal, signal.SIGKILL)
    assert apart.ask(os.getpid) != before
    with pytest.raises(RunnerError, match="what it had opened is gone"):
        runner(digits.samples.inputs)
    runner.close()


ASKING = """
import os, sys, time
from pathlib import Path
from engines.formats.savedmodel import apart
from engines.model.derive import derive_spec

if __name__ == "__main__":
    apart.keep_apart()
    derive_spec(Path(sys.argv[1]), None)
    print("tensorflow" in sys.modules, apart.ask(os.getpid), flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_it_ends_with_who_asked(digits, tmp_path):
    """Who asks has no TensorFlow; where it is killed, the process that has it ends by itself."""
    script = tmp_path / "asking.py"
    script.write_text(ASKING)
    command = [sys.executable, str(script), str(digits.file(REFERENCE))]
    environment = environment_apart(PYTHONPATH=str(ROOT))
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as asking:
        imported, pid = asking.stdout.readline().split()
        assert Path(f"/proc/{pid}").exists()
        asking.kill()
    assert imported == "False"
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


TELL = """
import sys

def pytest_unconfigure(config):
    print("TensorFlow is here:", "tensorflow" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; pip install -r requirements-cluster.txt"
)
@pytest.mark.parametrize(("marks", "here"), [("consistency or accuracy", False), ("consistency or benchmark", True)])
def test_a_run_with_a_cluster_has_no_tensorflow_in_its_process(digits, tmp_path, marks, here):
    """The process that hands out parts describes and asks a SavedModel elsewhere, unless TensorFlow is to be timed."""
    shards = tmp_path / "shards"
    shards.mkdir()
    samples = digits.dataset.test()
    np.savez(shards / "0.npz", **samples.inputs, labels=samples.labels)
    (tmp_path / "tell.py").write_text(TELL)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "tell", "--cluster=auto"]
    command += [f"--saved-model={digits.file(REFERENCE)}", f"--samples={shards}", f"--artifacts={tmp_path / 'store'}"]
    command += ["-m", marks, "-k", "savedmodel-fp32 and not 64 and not 128", "tests"]
    environment = environment_apart(PYTHONPATH=str(tmp_path))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"TensorFlow is here: {here}" in done.stdout


def test_a_program_in_a_process_that_has_tensorflow_ends_as_one_of_its_own(tmp_path, monkeypatch):
    """Its exit code and all that it prints come back, by any means; its words and variables are not this process'."""
    (tmp_path / "said.py").write_text(
        "import os, sys\n"
        "assert __name__ == '__main__'\n"
        "print(sys.argv, os.environ['SAID'], 'tensorflow' in sys.modules, flush=True)\n"
        "os.write(2, b'by its number\\n')\n"
        "os.kill(os.getpid(), 9) if sys.argv[1] == 'killed' else sys.exit(int(sys.argv[1]))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = list(sys.argv)
    for word, code in (("0", 0), ("3", 3), ("killed", -9)):
        found = forked.program("said", [word], {"SAID": "here"})
        assert found.code == code
        assert found.printed.endswith(f"said.py', '{word}'] here True\nby its number\n")
    assert "SAID" not in os.environ
    assert sys.argv == words
