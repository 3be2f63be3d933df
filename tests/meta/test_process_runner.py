"""Runners in processes of their own: answers, errors, deaths and what is left of them, with real processes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engines import dealing
from engines.dealing import DealingRunner
from engines.errors import DeviceError, RunnerError
from engines.far import FarArray
from engines.formats import registry
from engines.formats.tensorrt import devices, driver
from engines.model.bundled import find_model
from engines.model.spec import InputSpec, OutputSpec
from engines.model.toml import load_model
from engines.process import child as children
from engines.process import runner as process_runner
from engines.process import worker
from engines.process.channel import Channel
from engines.process.child import Child
from engines.process.memory import anonymous
from engines.process.messages import Probe
from engines.process.runner import ProcessRunner
from engines.variant import Variant
from tests.meta import in_processes

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0
BATCH = in_processes.BATCH
COPIED = 32 * 320 * BATCH
"""Samples of 32 batches: a call of some hundred is sent in several parts."""


@pytest.fixture(scope="module")
def spec():
    """Description of the small bundled model: one input (batch, 10, 8, 1), one output (batch, 10)."""
    return load_model(find_model("digits_vgg"))


@pytest.fixture(params=["it reads them", "they are sent"])
def way(request, monkeypatch):
    """How samples get to a process: it reads them here, or they are sent, where the system does not allow that."""
    monkeypatch.setattr(process_runner, "COPIED_BYTES", COPIED)
    if request.param == "they are sent":
        monkeypatch.setattr(children, "Probe", lambda there, _: Probe(there, b"of another process"))
    return request.param


@pytest.fixture
def start(way):
    """Start runners by their openers; all are closed at the end."""
    with contextlib.ExitStack() as stack:

        def call(spec, opener):
            variant = Variant("tensorrt", "fp32", spec.profiles[0])
            child = Child(opener)
            stack.callback(child.close, patience=0)
            made = ProcessRunner(spec, variant, child)
            stack.callback(made.close)
            return made

        yield call


@pytest.fixture
def runner(spec, start):
    """A runner in a process."""
    return start(spec, partial(in_processes.first, spec))


def samples(spec, firsts):
    """Samples by their first values."""
    (item,) = spec.inputs
    array = np.full(spec.concrete_shape(item, len(firsts)), 7, item.dtype)
    array.reshape(len(firsts), -1)[:, 0] = firsts
    return {item.name: array}


def answered(outputs):
    """The answers: one number a sample, which is in every place."""
    (array,) = outputs.values()
    assert (array == array[:, :1]).all()
    return array[:, 0].tolist()


# Answers.


@pytest.mark.parametrize("count", [1, 3, 4, 5, 39, 128, 129, 1001])
def test_every_sample_is_answered_in_its_place(runner, spec, count):
    """However many samples, less than a batch or many rings full: answers are in their order, run after run."""
    for _ in range(2):
        assert answered(runner(samples(spec, range(count)))) == list(range(count))


def test_it_is_another_process_and_says_what_the_runner_there_does(runner, way):
    """Settings, batch size and steps are those of the runner there, which runs in the child; so is how samples come."""
    assert ("copied twice" in runner.settings.get("samples", "")) is (way == "they are sent")
    assert int(runner.settings["pid"]) == runner.child.pid != os.getpid()
    assert (runner.batch_size, list(runner.steps.values())) == (BATCH, [0.5])


def test_strided_and_read_only_samples_are_taken(runner, spec):
    """Views are read by their strides, and what may not be written is not."""
    given = samples(spec, range(90))
    (name,) = given
    given[name].setflags(write=False)
    assert answered(runner({name: given[name][::-2]})) == list(range(89, 0, -2))
    assert answered(runner({name: np.asfortranarray(given[name])})) == list(range(90))


def test_a_slow_runner_is_waited_for(runner, spec):
    """Samples stay in their place until the runner has read them."""
    firsts = [*range(40), in_processes.SLOW, *range(41, 400)]
    assert answered(runner(samples(spec, firsts))) == firsts


def test_inputs_and_outputs_of_every_kind(start, spec):
    """Several inputs of whole numbers and truth values, sizes that change from call to call, outputs of any size."""
    kinds = {"a": "float32", "b": "int64", "c": "uint8", "d": "bool"}
    inputs = tuple(InputSpec(n, ("batch", "time", 3), dtype, (0, 1), n) for n, dtype in kinds.items())
    outputs = (
        OutputSpec("wide", ("batch", 40, 25), "float32", "values", "wide"),
        OutputSpec("ids", ("batch",), "int64", "integers", "ids"),
        OutputSpec("fixed", (5, 2), "float32", "constant", "fixed"),
    )
    several = replace(spec, inputs=inputs, outputs=outputs, dimensions={"time": (2, 5)})
    made = start(several, partial(in_processes.first, several))
    generator, kept = np.random.default_rng(0), []
    # The outputs of 17,500 are too large for the memory that is kept.
    for count, length in ((1, 2), (700, 5), (17_500, 2), (33, 3), (300, 2)):
        given = {n: generator.integers(0, 2, (count, length, 3)).astype(dtype) for n, dtype in kinds.items()}
        found = made(given)
        expected = sum(a[:, 0, 0].astype(np.float64) for a in given.values())
        assert (found["wide"].dtype, found["ids"].dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(found["wide"], np.broadcast_to(expected[:, None, None], (count, 40, 25)))
        np.testing.assert_array_equal(found["ids"], expected)
        np.testing.assert_array_equal(found["fixed"], np.arange(10).reshape(5, 2))
        # They are the caller's: what comes next does not change them.
        kept.append((found["ids"], expected))
    for ids, expected in kept:
        np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize("new", [True, False])
def test_messages_of_any_size_come_whole_and_in_order(monkeypatch, new):
    """Short ones in a packet, long ones in memory without a name, on an old system too; nothing is left open."""
    if not new:
        monkeypatch.delattr(os, "memfd_create")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left, right = Channel(ours), Channel(theirs)
    held = len(list(Path("/proc/self/fd").iterdir()))
    sent = [
        (1, 5),
        ("a", np.arange(3)),
        "b" * 100_000,
        {"c": np.arange(200_000), "d": np.zeros((0, 2))},
        (2, 6),
    ]
    for message in sent:
        left.send(message)
    assert right.waiting()
    found = [right.receive() for _ in sent]
    assert not right.waiting()
    assert (found[0], found[2], found[4]) == (sent[0], sent[2], sent[4])
    np.testing.assert_array_equal(found[1][1], [0, 1, 2])
    np.testing.assert_array_equal(found[3]["c"], np.arange(200_000))
    assert found[3]["d"].shape == (0, 2)
    found[3]["c"][0] = 1  # is the receiver's own
    assert len(list(Path("/proc/self/fd").iterdir())) == held
    left.close()
    with pytest.raises(EOFError):
        right.receive()
    right.close()


# Errors.


@pytest.mark.parametrize(
    "trick, kind, text",
    [
        (in_processes.REFUSED, RunnerError, r"^refuses the shape$"),
        (in_processes.GONE, DeviceError, r"^CUDA failed: it is gone$"),
        (in_processes.UNFORESEEN, RuntimeError, r"(?s)process failed:.*in_processes.py.*ZeroDivisionError: nobody"),
    ],
)
@pytest.mark.parametrize("place", [0, 50, 999])
def test_errors_come_as_what_they_are(runner, spec, trick, kind, text, place):
    """What the runner raises, at first or in the midst of a call, is raised here; the next call has its answers."""
    firsts = list(range(1000))
    firsts[place] = trick
    with pytest.raises(kind, match=text) as caught:
        runner(samples(spec, firsts))
    assert type(caught.value) is kind
    assert answered(runner(samples(spec, range(300)))) == list(range(300))


def test_wrong_inputs_are_refused_here(runner, spec):
    """What the spec does not take is never sent."""
    with pytest.raises(RunnerError, match=r"input .* is float64; takes "):
        runner({name: array.astype(np.float64) for name, array in samples(spec, [1]).items()})


@pytest.mark.parametrize(
    "trick, text",
    [
        (in_processes.KILLED, r"^its process was killed by SIGKILL$"),
        (in_processes.ENDED, r"^its process ended with exit code 3$"),
    ],
)
def test_a_process_that_ends_in_a_call_is_a_device_that_fails(start, spec, trick, text):
    """The call says how it ended, and so does every later one; closing what is left raises nothing."""
    made = start(spec, partial(in_processes.first, spec))
    for firsts in ([*range(500), trick, *range(500)], [1]):
        with pytest.raises(DeviceError, match=text):
            made(samples(spec, firsts))
    made.close()


@pytest.mark.parametrize(
    "trick, kind, text",
    [
        (in_processes.REFUSED, RunnerError, r"^refuses the shape$"),
        (in_processes.UNFORESEEN, RuntimeError, "ZeroDivisionError: nobody foresaw this"),
        (in_processes.ENDED, DeviceError, r"^its process ended with exit code 3$"),
    ],
)
def test_what_fails_in_opening_is_raised(start, spec, trick, kind, text):
    """A runner that cannot be made says why, as one in this process would."""
    with pytest.raises(kind, match=text):
        start(spec, partial(in_processes.tricky, trick, spec))


@pytest.mark.parametrize("times", [1, 3])
def test_an_interrupted_call_leaves_the_next_one_its_answers(runner, spec, monkeypatch, way, times):
    """Control-C in the midst of a call comes out, and no answer of that call is taken for one of the next."""
    receive, received = Child.receive, []

    def waits(self):
        received.append(1)
        if len(received) == (times if way == "they are sent" else 1):
            raise KeyboardInterrupt
        return receive(self)

    monkeypatch.setattr(Child, "receive", waits)
    with pytest.raises(KeyboardInterrupt):
        runner(samples(spec, range(1000)))
    assert answered(runner(samples(spec, range(500, 900)))) == list(range(500, 900))


@pytest.mark.parametrize("way", ["it reads them"], indirect=True)
def test_samples_that_are_gone_are_an_error_of_a_call_that_nobody_waits_for(start, spec, monkeypatch):
    """Who was interrupted frees its samples while they are read: the process says so, and answers the next call."""
    made = start(spec, partial(in_processes.first, spec))
    with monkeypatch.context() as patched:
        patched.setattr(FarArray, "of", lambda array: FarArray(os.getpid(), 0, array.dtype, array.shape))
        with pytest.raises(RuntimeError, match=r"cannot be read: Bad address"):
            made(samples(spec, range(300)))
    assert answered(made(samples(spec, range(9)))) == list(range(9))


def test_control_c_does_not_end_it(runner, spec):
    """The interrupt of a terminal goes to every process; who asked decides what ends."""
    os.kill(runner.child.pid, signal.SIGINT)
    assert answered(runner(samples(spec, range(9)))) == list(range(9))


def test_what_is_logged_there_is_logged_here(runner, spec, caplog):
    """Records come with logger, level and text, and nothing waits for them."""
    with caplog.at_level(logging.INFO, logger="engines"):
        runner(samples(spec, [in_processes.SAYS]))
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("engines.in_processes", "WARNING", "said in there")
    ]


# Several, and what is left of them.


@pytest.fixture
def deal_to(start, spec, monkeypatch):
    """Deal to so many runners in processes."""
    monkeypatch.setattr(dealing._log, "disabled", True)

    def call(count):
        runners = {f"GPU {i}": start(spec, partial(in_processes.first, spec)) for i in range(count)}
        return DealingRunner(runners)

    return call


def test_samples_of_a_killed_process_run_on_the_others(deal_to, spec):
    """The one that is killed in the midst of a call is told of; every sample is answered, in order."""
    with deal_to(2) as dealing_runner:
        victim = dealing_runner.devices["GPU 1"]
        stop = threading.Timer(0.1, os.kill, (victim.child.pid, signal.SIGKILL))
        stop.start()
        firsts = [*range(200), *[in_processes.SLOW] * 6, *range(206, 2000)]
        assert answered(dealing_runner(samples(spec, firsts))) == firsts
        stop.join()
        assert answered(dealing_runner(samples(spec, range(800)))) == list(range(800))
        assert dealing_runner.lost == {"GPU 1": "its process was killed by SIGKILL"}
        assert dealing_runner.dealt == {"GPU 0": 800, "GPU 1": 0}


def resources():
    """Descriptors, threads and shared memory with a name that this process holds."""
    threads = sorted(t.name for t in threading.enumerate())
    names = sorted(path.name for path in Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else []
    links = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(path.readlink().name.split(":")[0])
    return sorted(links), threads, [name for name in names if name.startswith(("psm_", "sem.mp"))]


def alive(pid):
    """Whether a process is there, and not only its exit code."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def gone(pid):
    """Wait until a process is there no more; whether it is so."""
    end = time.monotonic() + PATIENCE
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_nothing_is_left_once_they_are_closed(deal_to, spec):
    """Processes, descriptors, threads and memory are gone, those of one that was killed too."""
    before = resources()
    with deal_to(2) as dealing_runner:
        dealing_runner(samples(spec, range(30_000)))
        pids = [one.child.pid for one in dealing_runner.devices.values()]
        os.kill(pids[0], signal.SIGKILL)
        dealing_runner(samples(spec, range(100)))
        dealing_runner(samples(spec, range(100)))
    assert not any(map(alive, pids))
    assert resources() == before


def test_closing_waits_for_a_call_and_refuses_the_next(start, spec):
    """A call that is under way ends with its answers; afterwards the runner is closed."""
    made, found = start(spec, partial(in_processes.first, spec)), []
    call = threading.Thread(target=lambda: found.append(made(samples(spec, [in_processes.SLOW, 1]))), daemon=True)
    call.start()
    time.sleep(0.1)
    made.close()
    call.join(PATIENCE)
    assert [answered(outputs) for outputs in found] == [[in_processes.SLOW, 1]]
    with pytest.raises(RunnerError, match="closed"):
        made(samples(spec, [1]))


@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_with_the_process_that_started_it(busy):
    """Where that one is killed, between two calls or in the midst of one, this one does not outlive it."""
    script = f"""
        import sys
        from functools import partial
        import numpy as np
        from engines.model.bundled import find_model
        from engines.model.toml import load_model
        from engines.process.child import Child
        from engines.process.runner import ProcessRunner
        from engines.variant import Variant
        from tests.meta import in_processes, test_process_runner

        spec = load_model(find_model("digits_vgg"))
        variant = Variant("tensorrt", "fp32")
        made = ProcessRunner(spec, variant, Child(partial(in_processes.first, spec)))
        print(made.child.pid, flush=True)
        made(test_process_runner.samples(spec, [{in_processes.HANGS if busy else 1}]))
        sys.stdin.read()
        """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        assert alive(pid)
        parent.kill()
        assert gone(pid)


def test_a_connection_that_is_closed_is_its_end(monkeypatch):
    """Whoever started it may be gone without a word: then it ends as quietly."""
    monkeypatch.setattr(worker, "_end_with", lambda end: None)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    memories = [anonymous("samples"), anonymous("outputs")]
    worker.main(theirs.detach(), *memories)
    for memory in memories:
        os.close(memory)


# The GPUs of a host.


@pytest.fixture
def two_gpus(spec, monkeypatch):
    """The spec with both GPUs asked for, where CUDA shows two."""
    monkeypatch.setattr(driver, "devices", lambda: (driver.Device("GPU-0", "NVIDIA H200"),) * 2)
    return replace(spec, settings=registry.settings({"devices": ["all"]}))


def test_each_gpu_has_a_process(two_gpus):
    """Of several GPUs each has a process of its own, and none is this one."""
    one = partial(in_processes.on_device, two_gpus, None)
    with devices.opened(two_gpus, Variant("tensorrt", "fp32"), one) as opened:
        assert answered(opened(samples(two_gpus, range(300)))) == list(range(300))
        pids = {int(runner.settings["pid"]) for runner in opened.devices.values()}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_a_gpu_that_cannot_be_opened_is_named_and_leaves_nothing(two_gpus):
    """The error names the GPU; the processes of the others are gone, and all that was held for them."""
    before = resources()
    with pytest.raises(RunnerError, match=r"^GPU 1 \(NVIDIA H200\): the device is out of memory \(0 MB of "):
        devices.opened(two_gpus, Variant("tensorrt", "fp32"), partial(in_processes.on_device, two_gpus, 1))
    assert resources() == before
