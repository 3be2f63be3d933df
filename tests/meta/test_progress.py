"""What takes long shows one live line on a terminal, past pytest's capture, and nothing but quiet lines elsewhere."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from engines import progress
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.runner import Runner
from engines.variant import REFERENCE
from fixtures.live import PART, run_shown
from tests.meta.apart import environment_apart

ROOT = Path(__file__).resolve().parent.parent.parent
ERASED = "\r\x1b[K"

NESTED = """
import logging, time
from engines.progress import Lines, live
logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[Lines()])
with live("building all"):
    time.sleep(1)
    with live("calibration", 4, "batches") as advance:
        for _ in range(4):
            time.sleep(0.3)
            advance(1)
    time.sleep(0.5)
    logging.info("calibrated")
    time.sleep(0.5)
print("done")
"""


def on_terminal(*command, cwd=ROOT):
    """Run a command on a pseudo-terminal; gives its exit code and all that it wrote there."""
    leader, follower = pty.openpty()
    environment = environment_apart(PYTHONPATH=str(ROOT))
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, stdin=follower, stdout=follower, stderr=follower, close_fds=True
    )
    os.close(follower)
    parts = []

    def read():
        while True:
            try:
                parts.append(os.read(leader, 4096))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    code = process.wait(timeout=120)
    reader.join()
    os.close(leader)
    return code, b"".join(parts).decode()


def screen(text):
    """Lines that a terminal shows after ``text``, for the few sequences that the live line uses."""
    rows, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[\d*[A-Za-z]|[^\x1b]", text):
        if piece == "\n":
            row, rows = row + 1, rows + [""] * (row + 2 - len(rows))
        elif piece == "\r":
            column = 0
        elif piece == "\x1b[K":
            rows[row] = rows[row][:column]
        elif piece == "\x1b[A":
            row -= 1
        elif found := re.fullmatch(r"\x1b\[(\d+)C", piece):
            column += int(found[1])
        elif not piece.startswith("\x1b"):
            rows[row] = rows[row][:column].ljust(column) + piece + rows[row][column + 1 :]
            column += 1
    return rows


def test_a_terminal_shows_one_line_that_goes_away():
    """The line says what is under way and how far; what is inside takes its place, log lines stand by themselves."""
    code, output = on_terminal(sys.executable, "-c", NESTED)
    assert code == 0, output
    drawn = [text for text in output.split(ERASED) if text.strip()]
    assert any(text.startswith("building all: [00:00]") for text in drawn)
    assert any(re.match(r"calibration: +75%.*3/4", text) for text in drawn)
    assert screen(output) == ["calibrated", "done", ""]


def test_without_a_terminal_there_is_no_line():
    """In a pipe, as in CI, nothing is drawn; log lines are all there is."""
    done = subprocess.run([sys.executable, "-c", NESTED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "calibrated\n")


@pytest.fixture
def logged(monkeypatch, caplog):
    """Messages that are logged of progress, which stay out of what this run prints."""
    logger = logging.getLogger(progress.__name__)
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    caplog.set_level("INFO", logger=logger.name)
    return caplog


def test_a_log_says_now_and_then_how_far_something_is(monkeypatch, logged):
    """Where there is no terminal, a long comparison leaves a line every half minute, with what is done of how much."""
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    with progress.shown_on(io.StringIO(), lambda: 0), progress.live("comparison", 10_000, "samples") as advance:
        advance(4096)
    assert logged.messages == ["comparison: 4,096 of 10,000 samples"]


def test_a_short_wait_is_not_worth_a_log_line(logged):
    """What is done within half a minute is not mentioned."""
    with progress.shown_on(io.StringIO(), lambda: 0), progress.live("comparison", 10, "samples") as advance:
        advance(10)
    assert logged.messages == []


@pytest.mark.parametrize("capture", ["fd", "sys", "no"])
def test_the_line_passes_the_capture_of_a_test_run(tmp_path, capture):
    """While a test runs, its line stands below the dots, which go on where they were."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_long.py").write_text(
        "import time\n"
        "from engines.progress import live\n"
        "def test_short(): pass\n"
        "def test_long():\n"
        "    with live('comparing', 2, 'samples') as advance:\n"
        "        time.sleep(1.0)\n"
        "        advance(1)\n"
        "        time.sleep(0.4)\n"
        "def test_last(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", f"--capture={capture}"]
    code, output = on_terminal(*command, cwd=tmp_path)
    assert code == 0, output
    assert re.search(r"\n\r\x1b\[Kcomparing: +0%.*0/2", output)
    assert re.search(r"\r\x1b\[Kcomparing: +50%.*1/2", output)
    left = [line.strip() for line in screen(output)]
    assert any(re.fullmatch(r"test_long\.py \.\.\.( +\[100%\])?", line) for line in left), left
    assert "comparing" not in "".join(left)


def test_without_a_reporter_there_is_no_line(tmp_path):
    """With `-p no:terminal` the run goes on without: nobody would know where the dots stand."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_short.py").write_text("def test_short(): pass\n")
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-p", "no:terminal"]
    assert on_terminal(*command, cwd=tmp_path) == (0, "")


class Echo(Runner):
    """Answers with its input's sums, and notes the sizes of the batches that it was given."""

    def __init__(self, spec, batch_size):
        super().__init__(spec, REFERENCE, batch_size)
        self.sizes = []

    def _run(self, inputs):
        (array,) = inputs.values()
        self.sizes.append(len(array))
        return {o.name: array.reshape(len(array), -1)[:, :10] for o in self.spec.outputs}

    def _release(self):
        pass


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_running_with_progress_makes_the_same_batches(batch_size):
    """Samples are cut into the batches that one call would make, with the same outputs, remainder included."""
    spec = load_model(find_model("digits_vgg"))
    item = spec.inputs[0]
    count = 2 * PART + 5
    inputs = {item.name: np.random.default_rng(1).random(spec.concrete_shape(item, count), np.float32)}
    once, shown = Echo(spec, batch_size), Echo(spec, batch_size)
    expected = once(inputs)
    for name, array in run_shown(shown, inputs).items():
        np.testing.assert_array_equal(array, expected[name])
    assert shown.sizes == once.sizes


def test_progress_follows_standard_error(monkeypatch):
    """Where standard error was replaced and closed, as a captured test's is, the next work finds the new one."""
    monkeypatch.setattr(progress, "_terminal", None)
    for _ in range(2):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.live("work"):
            assert progress._terminal.stream is stream
        stream.close()
