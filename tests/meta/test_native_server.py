"""A C++ program that keeps its plan loaded: one process for all calls; every end of it is told, and none is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from engines.errors import RunnerError
from engines.formats.native.program import BUILD_COMMAND
from engines.formats.native.runner import NativeRunner
from engines.formats.native.server import Server
from engines.variant import Variant
from tests.meta import stand_in

READY = "echo 0 0"
"""What a program says once its plan is loaded."""

ASKED = "dd bs=65536 count=1 > /dev/null 2>&1"
"""Reads a request, as a command of a shell."""

SOUND = f"{READY}; {ASKED}; echo 1 0; {ASKED}; echo 2 0; {ASKED}"


@pytest.fixture
def serve(tmp_path):
    """Start programs that go wrong on purpose, each given as a script, and end them with the test."""
    opened = []

    def call(script):
        program = tmp_path / "trt8_infer"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
        opened.append(Server("cpp8 of m: trt8_infer", program, Path("m.plan"), allow_host_code=False))
        return opened[-1]

    yield call
    for one in opened:
        one.close()


def gone(process):
    """Whether a process ends within some seconds."""
    for _ in range(200):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def in_all(words):
    """Words as a pattern of a whole message."""
    return f"^cpp8 of m: trt8_infer{words}$"


def test_requests_are_asked_of_one_process_until_it_is_closed(serve, tmp_path):
    """What is asked arrives as words that end with zero bytes, and the process ends with its server."""
    heard = tmp_path / "heard"
    server = serve(
        f"echo $$ > {tmp_path}/pid; echo $* >> {heard}; {READY}; head -c 9 >> {heard}; echo 1 0; cat >> {heard}"
    )
    server.run(["--a", "b c"], "the first")
    process = int((tmp_path / "pid").read_text())
    os.kill(process, 0)
    assert not server.ended
    server.close()
    assert server.ended
    assert gone(process)
    assert heard.read_bytes() == b"--serve --plan m.plan\n--a\0b c\0\0"


WRONG = {
    "killed": ("kill -9 $$", r"was killed by signal 9 \(SIGKILL\): \(it wrote nothing to standard error\)"),
    "crashed": ("echo at 0x7f >&2; kill -SEGV $$", r"was killed by signal 11 \(SIGSEGV\): at 0x7f"),
    "ended": ("exit 0", r"ended with exit code 0 and without an answer: \(it wrote nothing .*"),
    "failed": (
        "echo no memory >&2; exit 1",
        r"ended with exit code 1, it ran out of memory, or .* fault itself: no memory",
    ),
    "another code": ("exit 77", r"ended with exit code 77, no code that it should end with: .*"),
    "half an answer": ("printf '2 '; exit 3", r"ended with exit code 3, CUDA or TensorRT failed: .*"),
    "garbage": (
        "echo Warning: a library; echo 2 0; cat",
        r"wrote 'Warning: a library.* to .*; expected \"2 0\", or 2, an .*",
    ),
    "two answers": ("printf '2 0\\n2 0\\n'; cat", r"wrote '2 0\\n2 0' to standard output; expected .*"),
    "the answer before": ("echo 1 0; cat", r"wrote '1 0' to standard output; expected .*"),
    "an error without words": ("echo 2 2; cat", r"wrote '2 2' to standard output; expected .*"),
    "bytes": ("printf '\\377\\n'; cat", r"wrote '\\\\xff' to standard output; expected .*"),
    "no end": ("head -c 3000000 /dev/zero | tr '\\0' w; cat", r"wrote 'w{200}' to standard output; expected .*"),
    "silent": ("exec 1>&-; exec sleep 60", r"closed its standard input or output, and was ended"),
    "hangs": ("exec sleep 60", r"gave no answer within 0.2 s, and was ended"),
    "device": ("echo 2 3 CUDA: lost; cat", r"answered with exit code 3 and ended, CUDA or TensorRT failed: CUDA: lost"),
    "memory": ("echo 2 1 out of memory; cat", r"answered with exit code 1 and ended, it ran out of .*: out of memory"),
}
"""What a program does with its second request, and what is told of it."""

LATE = {"silent": "GRACE_S", "hangs": "PATIENCE_S"}
"""What is waited for in vain, so that it need not be long. Others have all the time that a busy machine takes."""


@pytest.mark.parametrize("kind", WRONG)
def test_a_program_that_goes_wrong_in_a_request_is_told_with_it(serve, monkeypatch, tmp_path, kind):
    """Whatever it does in place of an answer is one error that names the request, and the end of the process."""
    script, told = WRONG[kind]
    server = serve(f"echo $$ > {tmp_path}/pid; echo before >&2; {READY}; {ASKED}; echo 1 0; {ASKED}; {script}")
    server.run(["--raw", "a"], "32 samples")
    if kind in LATE:
        monkeypatch.setattr(f"engines.formats.native.server.{LATE[kind]}", 0.2)
    with pytest.raises(RunnerError, match=in_all(rf", in request 2 \(100 samples in batches of 32\), {told}")):
        server.run(["--raw", "b"], "100 samples in batches of 32")
    assert server.ended
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_program_that_takes_no_requests_is_told(serve, monkeypatch):
    """A request that nobody reads is an error as one that nobody answers is, and ends the process."""
    server = serve(f"exec 0<&-; {READY}; exec sleep 60")
    monkeypatch.setattr("engines.formats.native.server.GRACE_S", 0.2)
    told = r", in request 1 \(a sample\), closed its standard input or output, and was ended"
    with pytest.raises(RunnerError, match=in_all(told)):
        server.run([], "a sample")
    assert server.ended


def test_a_refused_request_leaves_the_process_there(serve):
    """What a program refuses is told in its words, and the next request is run."""
    server = serve(f"{READY}; {ASKED}; echo 1 2 --batch: found 64; {ASKED}; echo 2 0; cat")
    refused = (
        r", in request 1 \(64 samples\), answered with exit code 2, it refused what it was given: --batch: found 64"
    )
    with pytest.raises(RunnerError, match=in_all(refused)):
        server.run(["--batch", "64"], "64 samples")
    assert not server.ended
    server.run(["--batch", "32"], "64 samples")


def test_a_program_that_dies_while_nothing_is_asked_is_told(serve):
    """A process that ended between requests is an error of the next one, which is not blamed for it."""
    server = serve(f"{READY}; {ASKED}; echo 1 0; echo so tired >&2; exit 1")
    server.run([], "a sample")
    server._process.wait(10)
    with pytest.raises(RunnerError, match=in_all(r", between requests 1 and 2, ended with exit code 1, .*: so tired")):
        server.run([], "another sample")
    assert server.ended


UNREADY = {
    "older": (
        "echo 'trt8_infer: found the option \"--serve\"; allowed: --plan, --csv; --help explains' >&2; exit 2",
        rf" is of an older build, which has no --serve; build it anew: {re.escape(BUILD_COMMAND)}",
    ),
    "no plan": (
        "echo 'trt8_infer: m.plan: cannot be read' >&2; exit 2",
        r", while it loaded the plan, ended with exit code 2, it refused what it was given: trt8_infer: m\.plan: .*",
    ),
    "another program": (
        "echo hello; cat",
        r", while it loaded the plan, wrote 'hello' to standard output; expected .*",
    ),
    "hangs": ("exec sleep 60", r", while it loaded the plan, gave no answer within 0.2 s, and was ended"),
}


@pytest.mark.parametrize("kind", UNREADY)
def test_a_program_that_does_not_come_to_serve_is_told(serve, monkeypatch, kind):
    """A program without --serve is one line that says to build it; one that fails or hangs as it loads is told so."""
    if kind in LATE:
        monkeypatch.setattr(f"engines.formats.native.server.{LATE[kind]}", 0.2)
    script, told = UNREADY[kind]
    with pytest.raises(RunnerError, match=in_all(told)):
        serve(script)


def test_a_program_may_write_much_to_standard_error(serve):
    """Ten million bytes that nobody reads stop neither side, and the last of them are told where it fails."""
    flood = "head -c 10000000 /dev/zero | tr '\\0' w >&2"
    server = serve(f"{flood}; {READY}; {ASKED}; {flood}; echo 1 0; {ASKED}; {flood}; echo the end >&2; exit 1")
    server.run([], "a sample")
    with pytest.raises(RunnerError, match=in_all(r", in request 2 .*: w{3992}the end")):
        server.run([], "a sample")


def test_an_interrupted_request_ends_the_process(serve, tmp_path):
    """After Ctrl-C no answer comes later, which the next request would take for its own."""
    server = serve(f"trap '' INT; echo $$ > {tmp_path}/pid; {SOUND}; exec sleep 60")
    server.run([], "a sample")
    server.run([], "a sample")

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            server.run([], "a sample")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert server.ended
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_program_that_does_not_end_is_killed(serve, monkeypatch, tmp_path):
    """A program that stays when its input ends is not waited for without end."""
    monkeypatch.setattr("engines.formats.native.server.GRACE_S", 0.2)
    server = serve(f"echo $$ > {tmp_path}/pid; {SOUND}; exec sleep 60")
    server.close()
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("end", ["killed", "forgotten"])
def test_no_process_outlives_who_started_it(tmp_path, end):
    """A program ends with a Python that SIGKILL ends, and with one that ends without closing anything."""
    program = tmp_path / "trt8_infer"
    program.write_text(f"#!/bin/sh\n{READY}\nexec cat > /dev/null\n", encoding="utf-8")
    program.chmod(0o755)
    code = f"""
import sys, time
from pathlib import Path
from engines.formats.native.server import Server
server = Server("it", Path({str(program)!r}), Path("m.plan"), allow_host_code=False)
print(server._process.pid, flush=True)
time.sleep(60 if {end == "killed"} else 0)
"""
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        process = int(parent.stdout.readline())
        if end == "killed":
            parent.kill()
        parent.wait()
    assert gone(process)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The stand-in as an executable that tells each of its starts."""
    folder = tmp_path_factory.mktemp("program")
    inner = folder / "inner"
    inner.mkdir()
    path = folder / "trt8_infer"
    path.write_text(f'#!/bin/sh\necho $$ >> {folder}/starts\nexec {stand_in.program(inner)} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_runner_asks_one_process_until_it_dies(digits, program):
    """Calls of every kind, one of them refused, are one process; after one that kills it a new one answers the same.

    Nothing of an earlier call is ever taken for an answer, and no process is left behind.
    """
    plan = digits.file(Variant("onnx", "fp32"))
    inputs = digits.dataset.test(70).inputs
    inner = program.parent / "inner" / "trt8_infer"

    def started():
        return [int(line) for line in (program.parent / "starts").read_text().split()]

    with NativeRunner(digits.spec, Variant("cpp8", "fp32"), plan, program, 64) as runner:
        with pytest.raises(
            RunnerError, match=r"in request 1 \(70 samples in batches of 64\), answered with exit code 2"
        ):
            runner(inputs)
        runner.batch_size = 32
        expected = runner(inputs)[runner.output.name]
        np.testing.assert_array_equal(runner.through_csv(inputs)[runner.output.name], expected)
        assert len(runner.timed(inputs, 2)["passes"]) == 2
        runner.in_batches(inputs, 7)
        assert runner.copies.host_to_device == 10
        assert len(started()) == 1
        stand_in.plant(inner, "silent")
        with pytest.raises(RunnerError, match=r"answered well, but wrote no report"):
            runner(inputs)
        stand_in.plant(inner, "killed")
        died = r"in request 7 \(70 samples in batches of 32\), was killed by signal 9 \(SIGKILL\): its last words$"
        with pytest.raises(RunnerError, match=died):
            runner(inputs)
        assert len(started()) == 1
        stand_in.plant(inner, "")
        np.testing.assert_array_equal(runner(inputs)[runner.output.name], expected)
        assert len(started()) == 2
        assert gone(started()[0])
    assert gone(started()[1])
