"""Of several processes each has a GPU of its own, none breaks unseen, and benchmarks refuse to run in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines.errors import UnavailableError
from engines.formats.tensorrt import driver
from engines.formats.tensorrt.driver import Device
from fixtures.chain import artifact_folder
from fixtures.environment import environment
from fixtures.parallel import REFUSED, Gpus, asks_for, shared_out
from tests.meta.apart import environment_apart
from tests.meta.few import few

ROOT = Path(__file__).resolve().parent.parent.parent
H200 = [Device(f"GPU-{i}", "NVIDIA H200") for i in range(8)]
T4 = [Device(f"GPU-t{i}", "Tesla T4") for i in range(2)]


@pytest.mark.parametrize(
    "visible, devices, shared",
    [
        (None, [], ()),
        (None, H200[:1], ()),
        (None, H200[:2], ("GPU-0", "GPU-1")),
        (None, [H200[3], T4[0], H200[1]], ("GPU-3", "GPU-1")),
        (None, [H200[0], T4[0], T4[1]], ()),
        ("", [], ()),
        ("-1", [], ()),
        ("2,3", H200[2:4], ("GPU-2", "GPU-3")),
        ("0,2,-1,1", [H200[0], H200[2]], ("GPU-0", "GPU-2")),
        ("GPU-1,GPU-0", [H200[1], H200[0]], ("GPU-1", "GPU-0")),
        ("1,0", [T4[0], H200[0]], ()),
        ("MIG-5ab3", [Device("GPU-0", "NVIDIA H200 MIG 1g.18gb")], ()),
        ("MIG-5ab3, MIG-77cd", [Device("GPU-0", "NVIDIA H200 MIG 1g.18gb")], ("MIG-5ab3", "MIG-77cd")),
        (None, [Device("GPU-0", "NVIDIA H200 MIG 1g.18gb")], ()),
    ],
)
def test_gpus_of_one_model_are_shared_out(visible, devices, shared):
    """Workers have what CUDA shows, of the model that one process would take; one GPU is nothing to share out."""
    assert shared_out(visible, devices) == shared


def worker(number, **spec):
    """Stand in for a worker that is about to be started."""
    gateway = SimpleNamespace(id=f"gw{number}", spec=SimpleNamespace(popen=True, **spec))
    return SimpleNamespace(gateway=gateway, workerinput={})


def test_workers_take_turns_on_the_gpus():
    """Worker N has GPU N, more workers than GPUs share them evenly; a worker on another machine is told nothing."""
    gpus, workers = Gpus(("GPU-a", "GPU-b")), [worker(i) for i in range(5)]
    for node in workers:
        gpus.pytest_configure_node(node)
    assert [node.workerinput["gpu"] for node in workers] == ["GPU-a", "GPU-b", "GPU-a", "GPU-b", "GPU-a"]
    elsewhere = worker(5)
    elsewhere.gateway.spec.popen = None
    gpus.pytest_configure_node(elsewhere)
    assert elsewhere.workerinput == {}


def test_a_worker_that_replaces_another_has_its_gpu():
    """After a crash of gw1 of four, gw4 takes over the GPU that is free, and not that of gw0."""
    gpus, workers = Gpus([device.uuid for device in H200[:4]]), [worker(i) for i in range(5)]
    for node in workers[:4]:
        gpus.pytest_configure_node(node)
    gpus.pytest_testnodedown(workers[1])
    gpus.pytest_configure_node(workers[4])
    assert workers[4].workerinput["gpu"] == "GPU-1"


def test_cuda_says_which_gpus_there_are():
    """UUIDs are written as CUDA_VISIBLE_DEVICES takes them, in CUDA's order; where there is none, it says so."""
    names = [b"NVIDIA H200", b"Tesla T4"]

    def put(found):
        def call(value, *_):
            value._obj.value = found
            return 0

        return call

    def identity(value, handle):
        value._obj[:] = bytes(range(16 * handle.value, 16 * handle.value + 16))
        return 0

    def get(value, ordinal):
        return put(ordinal)(value)

    def name(text, size, handle):
        text.value = names[handle.value]
        return 0

    cuda = SimpleNamespace(
        cuInit=lambda flags: 0,
        cuDriverGetVersion=put(13000),
        cuDeviceGetCount=put(2),
        cuDeviceGet=get,
        cuDeviceGetName=name,
        cuDeviceGetUuid=identity,
    )
    assert driver.devices(lambda _: cuda) == (
        Device("GPU-00010203-0405-0607-0809-0a0b0c0d0e0f", "NVIDIA H200"),
        Device("GPU-10111213-1415-1617-1819-1a1b1c1d1e1f", "Tesla T4"),
    )
    cuda.cuDeviceGetCount = put(0)
    with pytest.raises(UnavailableError, match="finds no device"):
        driver.devices(lambda _: cuda)


def run(folder, *words, **environment):
    """Run pytest with this suite's plugins in a folder."""
    apart = environment_apart(**{"PYTHONPATH": str(ROOT), **environment})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    done = subprocess.run(command, cwd=folder, env=apart, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


SEEN = """
import os, pathlib, time, pytest

pathlib.Path(os.environ["PYTEST_XDIST_WORKER"]).write_text(os.environ["CUDA_VISIBLE_DEVICES"])

@pytest.mark.parametrize("i", range(12))
def test_seen(i):
    time.sleep(0.05)
    if i == 5 and "CRASHES" in os.environ:
        os._exit(1)
"""

FAKE = """
import os
from engines.errors import UnavailableError
from engines.formats.tensorrt import driver

def devices():
    if os.environ.get("CUDA_VISIBLE_DEVICES", "none") == os.environ.get("LOST"):
        raise UnavailableError("no device")
    return tuple(driver.Device(f"GPU-{i}", "NVIDIA H200") for i in range(3))

driver.devices = devices
"""


@pytest.fixture
def seen(tmp_path):
    """Run tests that note their worker's CUDA_VISIBLE_DEVICES where CUDA shows three GPUs."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_seen.py").write_text(SEEN)
    (tmp_path / "fake_gpus.py").write_text(FAKE)

    def call(*words, **environment):
        environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{tmp_path}"
        code, output = run(tmp_path, *words, "-p", "conftest", "--model=digits_vgg", **environment)
        return code, output, {p.name: p.read_text() for p in sorted(tmp_path.glob("gw*"))}

    return call


def test_workers_see_their_own_gpu(seen):
    """In a real run each worker has its GPU in CUDA_VISIBLE_DEVICES, and the header names them."""
    code, output, found = seen("-p", "fake_gpus", "-n", "3")
    assert code == pytest.ExitCode.OK, output
    assert found == {"gw0": "GPU-0", "gw1": "GPU-1", "gw2": "GPU-2"}
    assert "GPUs: workers take turns on GPU-0, GPU-1, GPU-2" in output


def test_a_crashed_worker_is_told_of_with_its_gpu_and_replaced_on_it(seen):
    """The failure names the GPU, and the worker that xdist starts after a crash finds that of the crashed one."""
    code, output, found = seen("-p", "fake_gpus", "-n", "3", CRASHES="1")
    assert code == pytest.ExitCode.TESTS_FAILED
    crashed, gpu = re.search(r"worker '(gw\d)' crashed while running .* \(on (GPU-\d)\)", output).groups()
    assert found["gw3"] == found[crashed] == gpu


@pytest.mark.slow
def test_a_worker_that_does_not_find_its_gpu_fails_the_run(seen):
    """One GPU of several that is lost is no missing capability, whose tests would only be skipped in that worker."""
    code, output, _ = seen("-p", "fake_gpus", "-n", "2", LOST="GPU-1")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "broke outside the tests: " in output
    assert "gw1 was given GPU-1, which CUDA does not show it: no device" in output


ENDS = {
    "dies": ("os._exit(1)", "gw0 broke outside the tests: Not properly terminated"),
    "raises": ("raise RuntimeError('no room')", "gw0 broke outside the tests: RuntimeError: no room"),
}


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_a_worker_that_breaks_outside_the_tests_fails_the_run(seen, tmp_path, end):
    """What one process would end with an error for is one of several too, though every test passed."""
    statement, said = ENDS[end]
    (tmp_path / "ends.py").write_text(
        f"import os\ndef pytest_sessionfinish():\n    if os.environ.get('PYTEST_XDIST_WORKER') == 'gw0': {statement}\n"
    )
    code, output, _ = seen("-p", "ends", "-n", "2", CUDA_VISIBLE_DEVICES="")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "12 passed, 1 error" in output
    assert said in output
    code, output, _ = seen("-p", "ends", "-p", "fake_gpus", "-n", "2")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert f"{said} (on GPU-0)" in output


def test_without_a_driver_nothing_is_assigned(seen):
    """Where CUDA shows no GPU, the variable stays as it was."""
    assert seen("-n", "2", CUDA_VISIBLE_DEVICES="")[2] == {"gw0": "", "gw1": ""}


def test_the_driver_and_memory_in_a_report_are_those_of_the_gpu_that_cuda_uses(monkeypatch):
    """NVML is asked by the address on the bus: its first GPU need not be CUDA's."""
    asked = []
    pynvml = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByPciBusId=lambda address: asked.append(address) or "second",
        nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total={"second": 7}[handle]),
    )
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    monkeypatch.setattr("engines.formats.tensorrt.packages.unavailable", lambda: None)
    monkeypatch.setattr("engines.formats.tensorrt.packages.device", lambda: {"GPU": "NVIDIA H200"})
    monkeypatch.setattr("engines.formats.tensorrt.driver.pci_bus_id", lambda: "0000:19:00.0")
    assert environment()["gpu"]["memory_bytes"] == 7
    assert asked == ["0000:19:00.0"]


@pytest.mark.parametrize(
    "expression, asked",
    [
        ("benchmark", True),
        ("consistency or benchmark", True),
        ("not (consistency and not benchmark)", True),
        ("not not benchmark", True),
        ("(tensorrt and benchmark(unit='ms'))", True),
        ("not benchmark", False),
        ("not (benchmark)", False),
        ("not(benchmark or slow)", False),
        ("consistency and not (slow or (benchmark))", False),
        ("benchmarks", False),
        ("", False),
        ("benchmark and", False),
    ],
)
def test_an_expression_that_excludes_benchmarks_does_not_ask_for_them(expression, asked):
    """However the exclusion is written, with parentheses or twice negated."""
    assert asks_for("benchmark", expression) == asked


@pytest.fixture
def digits(pytestconfig):
    """Choose the small model, and the artifacts of this run."""
    return ["--model=digits_vgg", f"--artifacts={artifact_folder(pytestconfig)}"]


@pytest.mark.parametrize("words", [["--benchmark-only"], ["-m", "benchmark"], ["-m", "consistency or benchmark"]])
def test_benchmarks_in_parallel_are_refused(words, digits):
    """Where benchmarks are asked for, -n is a usage error that says what to run instead."""
    code, output = run(ROOT, *digits, "-n", "2", *words)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {REFUSED}" in output
    assert "pytest --benchmark-only" in output


def test_a_selection_of_nothing_but_benchmarks_is_refused(tmp_path, digits):
    """Named by file or by -k, benchmarks alone are the same usage error, and no report of them is green."""
    words = ["tests/test_throughput.py", "-k", "onnx-fp32", f"--report={tmp_path}"]
    code, output = run(ROOT, *digits, "-n", "2", *words)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {REFUSED}" in output
    document = json.loads((tmp_path / "conformance.json").read_text(encoding="utf-8"))
    assert (document["exit_code"], document["verdict"]["status"]) == (4, "incomplete")
    assert "0 selected tests" not in " ".join(document["verdict"]["sentences"])


AMONG_OTHERS = ["tests/test_throughput.py", "tests/test_consistency.py", "-k", "onnx-fp32 and (throughput or builds)"]


def test_benchmarks_among_other_tests_are_skipped_in_parallel(digits):
    """A run of everything in parallel skips the benchmarks, and says why."""
    code, output = run(ROOT, *digits, "-n", "2", *AMONG_OTHERS, "-rs")
    assert code == pytest.ExitCode.OK, output
    assert "1 passed, 4 skipped" in output
    assert "throughput cannot be measured in several processes at once" in output


def test_excluding_benchmarks_runs_in_parallel(digits):
    """`-m "not (benchmark)"` leaves them out as it does in one process."""
    code, output = run(ROOT, *digits, "-n", "2", *AMONG_OTHERS, "-m", "not (benchmark)")
    assert code == pytest.ExitCode.OK, output
    assert "1 passed in" in output


@pytest.mark.parametrize("words", few([["--dist=loadfile"], ["--tx=2*popen"]], ["--dist=loadfile"]))
def test_options_of_xdist_that_start_no_process_do_not_refuse_benchmarks(words, digits):
    """A way to distribute without workers, as in addopts, is one process; so are workers without a way."""
    code, output = run(ROOT, *digits, "-m", "benchmark", "-k", "onnx-fp32", "--benchmark-disable", *words)
    assert code == pytest.ExitCode.OK, output
    assert REFUSED not in output
