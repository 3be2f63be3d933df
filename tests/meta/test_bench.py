"""What the suite's runs take is measured in turns beside another commit's, and written where it stood before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands import bench
from commands.__main__ import main
from engines.errors import EngineError

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = "def pytest_addoption(parser):\n    parser.addoption('--artifacts')\n"


def burning(seconds):
    """A test that takes so many CPU seconds in a process of its own, and sleeps as long."""
    burn = f"import time; end = {seconds}\nwhile time.process_time() < end: pass"
    return f"import subprocess, sys, time\ndef test_it():\n    subprocess.run([sys.executable, '-c', {burn!r}])\n"


def commit(root, text):
    """Commit a test file, and give the hash."""
    (root / "test_it.py").write_text(text)
    for words in (("add", "."), ("commit", "-qm", "a test")):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=root, check=True)
    return bench.git(root, "rev-parse", "--short", "HEAD")


@pytest.fixture
def repository(tmp_path):
    """A project with two commits, of which the second takes less CPU time; gives the folder and both hashes."""
    root = tmp_path / "repository"
    root.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / "conftest.py").write_text(CONFTEST)
    return root, commit(root, burning(1.0)), commit(root, burning(0.0))


def test_both_commits_are_run_in_turns(repository, tmp_path):
    """The table has both hashes and less than half of the CPU time; the worktree is gone in the end."""
    root, before, now = repository
    text = bench.bench(root, before, [bench.Task("it", ("test_it.py",))], 1, tmp_path / "work")
    assert f"Commit {now} beside {before}, in one turn" in text
    row = next(line for line in text.splitlines() if line.startswith("| `pytest test_it.py`"))
    cells = [cell.strip() for cell in row.split("|")]
    ours, theirs = map(float, cells[3].split(" / "))
    assert theirs - ours > 0.6, "the CPU time of a process that the run started counts"
    assert bench.git(root, "worktree", "list").count("\n") == 0


def test_both_may_begin_with_a_filled_folder(repository, tmp_path):
    """Each gets a copy of its own: what one of them writes there is not in the other's way."""
    root, _, before = repository
    (tmp_path / "filled" / "model").mkdir(parents=True)
    code = "from pathlib import Path\ndef test_it(pytestconfig):\n"
    commit(root, f"{code}    (Path(pytestconfig.getoption('--artifacts')) / 'model').rmdir()\n")
    with pytest.raises(EngineError, match=r"ended with 1"):
        bench.bench(root, before, [bench.Task("it", ("test_it.py",))], 1, tmp_path / "work", tmp_path / "filled")
    assert (tmp_path / "filled" / "model").is_dir()
    assert not (tmp_path / "work" / "this" / "it" / "model").exists()
    assert (tmp_path / "work" / "other" / "it" / "model").is_dir()


def test_a_run_that_fails_ends_the_measurement(repository, tmp_path):
    """What failed is no time: the error names the tree, the command and the last line."""
    root, before, _ = repository
    commit(root, "def test_it(): assert False\n")
    with pytest.raises(EngineError, match=r"pytest .*test_it.py.* ended with 1: 1 failed"):
        bench.bench(root, before, [bench.Task("it", ("test_it.py",))], 1, tmp_path / "work")
    assert bench.git(root, "worktree", "list").count("\n") == 0


def test_an_unknown_commit_is_refused(repository, tmp_path):
    """Nothing is run: git's own line says what it does not know."""
    with pytest.raises(EngineError, match=r"git rev-parse .*nowhere"):
        bench.bench(repository[0], "nowhere", [], 1, tmp_path / "work")


def test_each_side_goes_first_in_every_other_turn(tmp_path):
    """A machine that gets slower from run to run is to blame neither side; the run that fills counts for none."""
    order = []

    class Noted(bench.Side):
        def run(self, task, environment):
            order.append(self.tree.name)
            return bench.Turn(1.0, 1.0, 1.0)

    sides = Noted(tmp_path / "a", tmp_path), Noted(tmp_path / "b", tmp_path)
    bench.in_turns(sides, [bench.Task("warm", ()), bench.Task("cold", (), bench.EMPTY)], 3, {})
    assert "".join(order) == "ab" + "abbaab" + "abbaab"
    assert [len(side.turns[name]) for side in sides for name in ("warm", "cold")] == [3] * 4


def test_folders_are_as_the_task_asks(tmp_path):
    """A cold run starts with an empty folder, and one of all images without stored answers; a warm one keeps them."""
    (tmp_path / "tests.py").write_text("")
    left = {}
    for folder in (bench.EMPTY, bench.UNASKED, bench.FILLED):
        path = tmp_path / "artifacts" / "it" / "model"
        for name in ("answers-onnx-fp32.samples", "onnx-fp32"):
            (path / name).mkdir(parents=True, exist_ok=True)
        with pytest.raises(EngineError, match="ended with"):
            bench.Side(tmp_path, tmp_path / "artifacts").run(bench.Task("it", ("--nothing",), folder), os.environ)
        left[folder] = sorted(p.name for p in path.iterdir()) if path.exists() else []
    assert left == {
        bench.EMPTY: [],
        bench.UNASKED: ["onnx-fp32"],
        bench.FILLED: ["answers-onnx-fp32.samples", "onnx-fp32"],
    }


def test_the_table_has_medians_and_the_spread_of_ratios(tmp_path):
    """Ratios are those of turns, which the same noise met; medians are of each side alone."""
    this, other = (bench.Side(tmp_path, tmp_path) for _ in range(2))
    this.turns["warm"] = [bench.Turn(1, 10, 50), bench.Turn(2, 30, 60), bench.Turn(4, 20, 50)]
    other.turns["warm"] = [bench.Turn(4, 10, 100), bench.Turn(4, 60, 100), bench.Turn(5, 40, 100)]
    row = bench.table(this, other, [bench.TASKS["warm"]])[-1]
    assert row.split(" | ")[2:] == [
        "2.0 / 4.0",
        "0.50 (0.25 to 0.80)",
        "20.0 / 40.0",
        "0.50 (0.50 to 1.00)",
        "0.50 (0.50 to 0.60) |",
    ]


def test_the_page_keeps_what_stands_around_the_table():
    """What was written there before goes; a page without the place for it is refused."""
    page = f"# One\n\n{bench.BEGIN}\nold\n{bench.END}\n\n## Two\n"
    text = bench.section(["| new |"], "a", "b", 7)
    assert bench.placed(page, text) == f"# One\n\n{text}\n\n## Two\n"
    assert bench.placed(bench.placed(page, text), text) == bench.placed(page, text)
    with pytest.raises(EngineError, match="no place for the table"):
        bench.placed("# One\n", text)
    assert bench.placed((bench.ROOT / bench.PAGE).read_text(encoding="utf-8"), text)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only=warm,hot"], "--only: there is no run 'hot'; allowed: warm, cold, collect, cifar10, own"),
        (["--turns=0"], "--turns is 0; allowed: 1 or more"),
    ],
)
def test_what_cannot_be_measured_is_refused(capsys, words, told):
    """A misspelt run and no turns end the command before anything runs."""
    with pytest.raises(SystemExit):
        main(["bench", "--against=HEAD", *words])
    assert told in capsys.readouterr().err


def test_a_run_that_lacks_its_data_is_refused(capsys, monkeypatch):
    """Without CIFAR-10 there are no 10,000 images to measure: the line says what to set."""
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    assert main(["bench", "--against=HEAD", "--only=cifar10"]) == 1
    assert "cifar10: CIFAR10_DIR is not set; set it, or leave cifar10 out by --only" in capsys.readouterr().err


def test_memory_is_that_of_the_largest_process(tmp_path):
    """In MiB, of a process that the run started, too."""
    inner = [sys.executable, "-c", "b = bytearray(200 << 20)"]
    outer = [sys.executable, "-c", f"import subprocess; subprocess.run({inner!r})"]
    # In a process of its own: Linux counts what a process has when it forks as the child's, and pytest's may be large.
    code = f"import os; from commands import bench; print(bench.timed({outer!r}, {str(tmp_path)!r}, os.environ).memory)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 200 < float(done.stdout) < 260


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere who outlives a command is nobody's child")
def test_time_of_what_outlives_the_command_counts(tmp_path):
    """A process that goes on when the command has ended is waited for, and what it takes is told."""
    burn = "import time\nwhile time.process_time() < 0.8: pass"
    outlived = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}], start_new_session=True)"
    assert bench.timed([sys.executable, "-c", outlived], tmp_path, os.environ).cpu > 0.8


def test_the_code_of_a_command_comes_through(tmp_path):
    """What waits for all of it ends as the command itself does."""
    with pytest.raises(EngineError, match="ended with 3: "):
        bench.timed([sys.executable, "-c", "print('the last line'); raise SystemExit(3)"], tmp_path, os.environ)
