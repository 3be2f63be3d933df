"""What the suite's own runs take, beside an earlier commit's: ``python -m commands bench --help``.

Both are run in turns on one machine, so that what else it does meets both. CPU seconds are those of all processes.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from commands import waited
from commands.command import Call, Command, told
from engines.book import PREFIX
from engines.errors import EngineError
from engines.machine import cores
from engines.progress import live

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path("docs/measurements.md")
BEGIN, END = "<!-- written by `python -m commands bench` -->", "<!-- end of what it writes -->"

FILLED, EMPTY, UNASKED = "filled by a run before", "empty", "filled, without any stored answers"
"""What the artifact folder of a run is."""


@dataclass(frozen=True)
class Task:
    """A run that is measured: pytest's words, and what the artifact folder holds when it starts."""

    name: str
    words: tuple[str, ...]
    folder: str = FILLED
    needs: str = ""
    """A variable that has to be set."""


TASKS = {
    task.name: task
    for task in (
        Task("warm", ("-m", "consistency")),
        Task("cold", ("-m", "consistency"), EMPTY),
        Task("collect", ("--collect-only",)),
        Task("cifar10", ("-m", "consistency or accuracy", "--model=cifar10_vgg"), UNASKED, "CIFAR10_DIR"),
        Task("own", ("tests/meta", "-m", "not slow")),
    )
}


@dataclass(frozen=True)
class Turn:
    """One run: CPU and wall seconds, and the peak memory of its largest process in MiB."""

    cpu: float
    wall: float
    memory: float


@dataclass
class Side:
    """A checkout, and its runs by the name of the task."""

    tree: Path
    folder: Path
    turns: dict[str, list[Turn]] = field(default_factory=dict)

    def run(self, task: Task, environment: Mapping[str, str]) -> Turn:
        """Run a task, in an artifact folder as it asks for; raises EngineError where the run fails."""
        if task.folder == EMPTY:
            shutil.rmtree(self.folder / task.name, ignore_errors=True)
        if task.folder == UNASKED:
            for path in self.folder.glob(f"{task.name}/*/{PREFIX}*"):
                shutil.rmtree(path)
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *task.words]
        return timed([*words, f"--artifacts={self.folder / task.name}"], self.tree, environment)


def timed(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Turn:
    """Run a command; what it took counts all that it started. Raises EngineError where it fails."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        start = time.perf_counter()
        words = [sys.executable, str(waited.__file__), *command]
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            last = next((line for line in reversed(output.read().splitlines()) if line.strip()), "nothing was printed")
            raise EngineError(f"{folder}: {' '.join(command[1:])} ended with {process.returncode}: {last}")
    # Linux counts kilobytes, macOS bytes.
    size = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return Turn(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / size)


def git(root: Path, *words: str) -> str:
    """What git prints; raises EngineError with what it says where it fails."""
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"git {' '.join(words)}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout.strip()


@contextmanager
def checked_out(root: Path, revision: str, folder: Path) -> Iterator[Path]:
    """A worktree of a revision, which is removed in the end."""
    git(root, "worktree", "add", "--detach", "--quiet", str(folder), revision)
    try:
        yield folder
    finally:
        git(root, "worktree", "remove", "--force", str(folder))


def in_turns(sides: Sequence[Side], tasks: Sequence[Task], turns: int, environment: Mapping[str, str]) -> None:
    """Run each task so many times on both sides, each first in every other turn; the runs that fill do not count."""
    for task in tasks:
        with live(f"bench: {task.name}", turns, "turns") as advance:
            if task.folder != EMPTY:
                for side in sides:
                    side.run(task, environment)
            for number in range(turns):
                for side in sides if number % 2 == 0 else reversed(sides):
                    side.turns.setdefault(task.name, []).append(side.run(task, environment))
                advance(1)


def table(this: Side, other: Side, tasks: Sequence[Task]) -> list[str]:
    """Rows of the table: medians of both, and the ratio of each turn by median, lowest and highest."""
    rows = [
        "| run | artifact folder | CPU s, this / other | ratio | wall s, this / other | ratio | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for task in tasks:
        ours, theirs = this.turns[task.name], other.turns[task.name]
        cells = [
            f"`pytest {' '.join(w if ' ' not in w else f'{chr(34)}{w}{chr(34)}' for w in task.words)}`",
            task.folder,
        ]
        for what in ("cpu", "wall"):
            pairs = [(getattr(a, what), getattr(b, what)) for a, b in zip(ours, theirs, strict=True)]
            medians = (statistics.median(side) for side in zip(*pairs, strict=True))
            cells += [" / ".join(f"{m:.1f}" for m in medians), spread([a / b for a, b in pairs])]
        cells.append(spread([a.memory / b.memory for a, b in zip(ours, theirs, strict=True)]))
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def spread(ratios: Sequence[float]) -> str:
    """Median of ratios, and the lowest and highest of them."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def section(rows: Sequence[str], this: str, other: str, turns: int) -> str:
    """The part of the page that is written."""
    times = "in one turn" if turns == 1 else f"in {turns} turns"
    text = f"Commit {this} beside {other}, {times} on {platform.machine()} with {cores()} cores, Python "
    text += f"{platform.python_version()}. Ratios are this commit's over the other's: the median (lowest to highest)."
    return "\n".join([BEGIN, "", text, "", *rows, "", END])


def placed(page: str, text: str) -> str:
    """The page with the text in place of what was written there before; raises EngineError where there is no place."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise EngineError(f"{PAGE}: there is no place for the table; expected the lines {BEGIN!r} and {END!r}")
    return before + text + after


def bench(
    root: Path, against: str, tasks: Sequence[Task], turns: int, folder: Path, artifacts: Path | None = None
) -> str:
    """Section on what the tasks take in a checkout as it is, beside a revision; raises EngineError.

    ``artifacts`` is a folder that both begin with a copy of; without it the runs that fill build everything.
    """
    for task in tasks:
        if task.needs and not os.environ.get(task.needs):
            raise EngineError(f"{task.name}: {task.needs} is not set; set it, or leave {task.name} out by --only")
    names = [git(root, "rev-parse", "--short", name) for name in ("HEAD", f"{against}^{{commit}}")]
    changed = " (with changes that are not committed)" if git(root, "status", "--porcelain", "-uno") else ""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with checked_out(root, against, folder / "tree") as tree:
        this, other = Side(root, folder / "this"), Side(tree, folder / "other")
        if artifacts is not None:
            for copy in (side.folder / task.name for side in (this, other) for task in tasks):
                shutil.copytree(artifacts, copy)
        in_turns((this, other), tasks, turns, environment)
    return section(table(this, other, tasks), names[0] + changed, names[1], turns)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", required=True, metavar="REV", help="the commit that this checkout is run beside")
    parser.add_argument(
        "--artifacts", type=Path, metavar="DIR", help="a filled folder, which both begin with a copy of (default: none)"
    )
    parser.add_argument("--turns", type=int, default=7, metavar="N", help="runs of each (default: %(default)s)")
    parser.add_argument(
        "--only",
        default=",".join(TASKS),
        metavar="NAMES",
        help="which runs, separated by commas (default: %(default)s)",
    )


@told
def _work(options: argparse.Namespace, call: Call) -> None:
    names = options.only.split(",")
    if unknown := [name for name in names if name not in TASKS]:
        call.parser.error(f"--only: there is no run {unknown[0]!r}; allowed: {', '.join(TASKS)}")
    if options.turns < 1:
        call.parser.error(f"--turns is {options.turns}; allowed: 1 or more")
    page = ROOT / PAGE
    placed(page.read_text(encoding="utf-8"), "")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        text = bench(
            ROOT, options.against, [TASKS[name] for name in names], options.turns, Path(folder), options.artifacts
        )
    page.write_text(placed(page.read_text(encoding="utf-8"), text), encoding="utf-8")
    print(text)


COMMAND = Command(
    "bench",
    "measure what the suite's runs take beside an earlier commit",
    "Run the suite in this checkout and in a worktree of another commit, in turns, and write what both take into "
    f"{PAGE}: a warm and a cold main job, collecting, 10,000 CIFAR-10 images, and the suite's own tests.",
    _options,
    _work,
    "example: {prog} --against HEAD~1 --only warm,collect",
)
