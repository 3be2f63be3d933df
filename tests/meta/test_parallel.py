"""Several processes give the verdict of one, each on a GPU of its own; benchmarks refuse to run in parallel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.chain import artifact_folder
from fixtures.parallel import assign_device, assigned_device

ROOT = Path(__file__).resolve().parent.parent.parent
H200, T4 = "NVIDIA H200", "Tesla T4"


@pytest.mark.parametrize(
    "worker, visible, names, device",
    [
        ("", None, [H200, H200], None),
        ("gw0", None, [], None),
        ("gw0", None, [H200], "0"),
        ("gw0", None, [H200, H200], "0"),
        ("gw1", None, [H200, H200], "1"),
        ("gw2", None, [H200, H200], "0"),
        ("gw11", None, [H200] * 8, "3"),
        ("gw1", None, [H200, T4, H200], "2"),
        ("gw1", None, [H200, T4], "0"),
        ("gw0", "2,3", [H200] * 4, "2"),
        ("gw1", "2, 3", [H200] * 4, "3"),
        ("gw2", "2,3", [H200] * 4, "2"),
        ("gw1", "GPU-5ab3,GPU-77cd", [], "GPU-77cd"),
        ("gw1", "", [H200], None),
        ("gw1", "-1", [H200], None),
    ],
)
def test_workers_take_turns_on_the_gpus(worker, visible, names, device):
    """Worker N has GPU N, more workers than GPUs share them, and what the user made visible is kept to."""
    assert assigned_device(worker, visible, names) == device


def test_outside_a_worker_nothing_is_assigned():
    """A run in one process sees the GPUs that it was started with."""
    environment = {"PATH": "/bin"}
    assign_device(environment, [H200, H200])
    assert environment == {"PATH": "/bin"}


def test_gpus_are_counted_by_pci_address():
    """An index means the same GPU to NVML, which counted, and to CUDA, which runs."""
    environment = {"PYTEST_XDIST_WORKER": "gw1"}
    assign_device(environment, [H200, H200])
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def run(folder, *words, **environment):
    """Run pytest with this suite's plugins in a folder."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "CONFORMANCE", "CUDA_"))}
    inherited |= {"PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    done = subprocess.run(command, cwd=folder, env=inherited, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_workers_see_their_own_gpu(tmp_path):
    """In a real run of three workers each finds the GPU that is its turn in CUDA_VISIBLE_DEVICES."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_seen.py").write_text(
        "import os, pathlib, time, pytest\n"
        "@pytest.mark.parametrize('i', range(12))\n"
        "def test_seen(i):\n"
        "    name = os.environ['PYTEST_XDIST_WORKER']\n"
        "    pathlib.Path(name).write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "    time.sleep(0.05)\n"
    )
    code, output = run(tmp_path, "-p", "conftest", "-n", "3", CUDA_VISIBLE_DEVICES="4,6")
    assert code == pytest.ExitCode.OK, output
    assert {p.name: p.read_text() for p in tmp_path.glob("gw*")} == {"gw0": "4", "gw1": "6", "gw2": "4"}


@pytest.mark.parametrize("words", [["--benchmark-only"], ["-m", "benchmark"], ["-m", "consistency or benchmark"]])
def test_benchmarks_in_parallel_are_refused(words):
    """Where benchmarks are asked for, -n is a usage error that says what to run instead."""
    code, output = run(ROOT, "--model=digits_vgg", "-n", "2", *words)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "throughput cannot be measured in several processes at once" in output
    assert "pytest --benchmark-only" in output


def test_benchmarks_among_other_tests_are_skipped_in_parallel():
    """A run of everything in parallel skips the benchmarks, and says why."""
    words = ["tests/test_throughput.py", "-k", "onnx-fp32", "-rs"]
    code, output = run(ROOT, "--model=digits_vgg", "-n", "2", *words)
    assert code == pytest.ExitCode.OK
    assert "4 skipped" in output
    assert "throughput cannot be measured in several processes at once" in output


def table(output):
    """Cut the summary's rows out of what a run printed."""
    lines = output.partition("conformance: differences from the reference")[2].splitlines()
    return [line for line in lines if re.match("variant |digits_vgg-", line)]


ENGINES = ["tests/test_consistency.py", "tests/test_accuracy.py", "-k", "not savedmodel and not drawn_inputs"]
"""What is said of all engines, but for what needs TensorFlow, which each process would have to load."""


def test_four_processes_give_the_verdict_and_summary_of_one(request):
    """The table of `-n 4` is that of `-n 0`, figure by figure, and so is the exit code."""
    words = ["--model=digits_vgg", f"--artifacts={artifact_folder(request.config)}", *ENGINES]
    one, four = (run(ROOT, "-n", processes, *words) for processes in ("0", "4"))
    assert one[0] == four[0] == pytest.ExitCode.OK, four[1]
    assert len(table(one[1])) > 5
    assert table(four[1]) == table(one[1])
