"""The real command on planted changes, in a process of its own, and what became of each of them."""

from __future__ import annotations

import json
import math
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conformance.noise import leeway
from engines.tools import last_lines
from faults.change import CAUGHT, CHECKS, MISSED, ON_SAMPLES, PASSES, WITHIN_FACTOR, WITHIN_NOISE, Change
from faults.made import ROOT, Made
from faults.serving import TOLD
from tests.meta.apart import environment_apart

REFUSED = "refused at once"
"""The test that catches what the command does not even take."""

ON_REAL_SAMPLES = {"samples", "more samples"}
"""The inputs of comparisons on which a changed class counts."""

NO_VERDICT = "no verdict"
"""The state of a change whose command broke off."""

RIGHT, GENERAL, WRONG, NONE = "right", "general", "wrong", "none stated"
"""What a likely cause is, beside what was planted; a general one lists what is left, and the fault is among that."""

LISTED = ("other weights", "converted wrongly", "lower precision")
"""What a cause that lists all that is left may say of a fault in a layer."""


def cause_of(change: Change, likely: str, refusal: str = "") -> str:
    """Whether a stated cause of a change is right; what is refused at once has its ``refusal`` for one."""
    likely = likely or refusal
    if not likely or likely.startswith("not found out"):
        return NONE
    said = {words for words in change.right if words in likely}
    return WRONG if not said else RIGHT if said - set(LISTED) else GENERAL


@dataclass(frozen=True)
class Outcome:
    """What became of a change: ``state`` is one of CAUGHT, PASSES, WITHIN_NOISE and MISSED.

    ``tests`` failed of it, ``figure`` is the first that was beyond what is allowed, ``needed`` the most that any figure
    needed of what is allowed, ``ratio`` the same of the model's own noise where no test failed. ``likely`` is the
    stated cause, ``proved`` whether it is told as tried.
    """

    state: str
    tests: tuple[str, ...] = ()
    figure: str = ""
    message: str = ""
    likely: str = ""
    proved: bool = False
    needed: float | None = None
    flips: int | None = None
    ratio: float | None = None

    def told(self) -> dict[str, Any]:
        """The same for a JSON file, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value not in ("", (), None, False)}


def together(changes: Iterable[Change]) -> list[tuple[Change, ...]]:
    """Changes that one command is given: one of each format, of one model."""
    groups: list[tuple[Change, ...]] = []
    waiting: dict[tuple[str, bool], list[list[Change]]] = {}
    for change in changes:
        if change.alone:
            groups.append((change,))
            continue
        open_ = waiting.setdefault((change.model, change.expected == PASSES), [])
        place = next((g for g in open_ if change.format not in {c.format for c in g}), None)
        if place is None:
            open_.append([change])
        else:
            place.append(change)
    return [*(tuple(g) for model in waiting.values() for g in model), *groups]


def run(made: Made, changes: Sequence[Change]) -> dict[str, Outcome]:
    """What became of each change that the command was given, by its id.

    What is to be caught has the tests on samples first. What these do not catch, and what is to pass, has all.
    """
    found = _run(made, changes, ON_SAMPLES) if all(change.on_samples for change in changes) else {}
    left = [change for change in changes if change.id not in found or found[change.id].state != CAUGHT]
    found |= _run(made, left, "") if left else {}
    # Where the command refuses one file, it has said nothing of the other.
    apart = [change for change in left if len(left) > 1 and found[change.id].state == NO_VERDICT]
    return found | {id_: outcome for change in apart for id_, outcome in run(made, [change]).items()}


def _run(made: Made, changes: Sequence[Change], tests: str) -> dict[str, Outcome]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        words = [word for change in changes for word in change.plant(made, folder)]
        chosen = [f"{c.format}={c.precision}" for c in changes if c.format != "served"]
        # A plan that is built now is built from a file of these.
        beside = ["onnx=fp32,int8"] if any(c.format in {"tensorrt", "served"} for c in changes) else []
        precisions = " ".join([*beside, *chosen])
        given = {word.partition("=")[0] for word in words}
        # Other samples are described anew; all else is as it was described once, by the command that does so.
        named = made.saved_model if "--samples" in given else made.described
        words += [word for word in named if word.partition("=")[0] not in given]
        words += [f"--precisions={precisions}", f"--report={folder / 'report'}"]
        if "--artifacts" not in given:
            words.append(f"--artifacts={made.store_in(folder)}")
        selected = "(" + " or ".join(c.variant for c in changes) + ")" + (f" and ({tests})" if tests else "")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--ignore=tests/meta"]
        done = subprocess.run(
            [*command, "-m", CHECKS, "-k", selected, *words],
            cwd=ROOT,
            env=environment_apart(PLANTED=changes[0].name, SERVED=str(folder / TOLD)),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=900,
            check=False,
        )
        said = (done.stdout + done.stderr).replace(scratch, "FOLDER")
        if done.returncode == 4:  # pytest.ExitCode.USAGE_ERROR
            return {change.id: refused(change, changes, said) for change in changes}
        report = folder / "report" / "conformance.json"
        if done.returncode not in {0, 1} or not report.is_file():
            why = f"exit code {done.returncode}: {last_lines(said)}"
            return {change.id: Outcome(NO_VERDICT, message=why) for change in changes}
        document = json.loads(report.read_text("utf-8").replace(scratch, "FOLDER"))
    return {change.id: outcome(change, document, made) for change in changes}


def refused(change: Change, changes: Sequence[Change], said: str) -> Outcome:
    """What became of a change where the command ends at once with one line."""
    if "unrecognized arguments" in said:
        raise ValueError(f"{change.id}: the command itself is wrong: {last_lines(said)}")
    (line,) = [line for line in said.splitlines() if line.startswith("ERROR")]
    message = line.removeprefix("ERROR: ")
    mine = f"--{change.format} " in message or len(changes) == 1
    return _judged((REFUSED,), message, "", "") if mine else Outcome(NO_VERDICT, message=message)


def outcome(change: Change, document: dict[str, Any], made: Made) -> Outcome:
    """What became of a change, as the report's document says."""

    def mine(variant: str) -> bool:
        """Whether it is the change's: a plan's id has its batch profile behind that, a served model's its name."""
        return variant == change.variant or variant.startswith(f"{change.variant}-")

    failures = [f for f in document["failures"] if f["variant"] is None or mine(f["variant"])]
    compared = [c for c in document["comparisons"] if mine(c["variant"])]
    usages = [v["usage"] for v in document["variants"] if mine(v["variant"])]
    needed = max((u for u in usages if u is not None), default=None)
    flips = max((c["flips"] or 0 for c in compared if c["inputs"] in ON_REAL_SAMPLES), default=0)
    if not failures:
        ratio = _ratio(change.precision, compared)
        return Outcome(_unnoticed(change, ratio, flips, made), needed=needed, flips=flips, ratio=ratio)
    tests = tuple(dict.fromkeys(re.split(r"::|\[", f["test"])[1] if "::" in f["test"] else f["test"] for f in failures))
    # The cause that is told of the samples is told of all that is known; of few inputs many would fit.
    first = next((f for f in failures if "_on_samples" in f["test"]), failures[0])
    failed = re.search(r"FAILED (\w+) .*", first["message"])
    said = " ".join(failed[0].split()) if failed else first["summary"]
    found = _judged(tests, said, failed[1] if failed else "", first["likely"] or "")
    return Outcome(**{**asdict(found), "needed": needed, "flips": flips})


def _ratio(precision: str, compared: Sequence[dict[str, Any]]) -> float:
    """How many times the model's own noise a file needs: the most of all figures, whose limits are a multiple of it."""
    shares = [
        found[0] / found[1] * leeway(name, TWINS[precision])
        for one in compared
        for name, found in one["figures"].items()
        if found[0] is not None and found[1]
    ]
    return max(shares, default=math.inf)


def _unnoticed(change: Change, ratio: float, flips: int, made: Made) -> str:
    """State of a change that no test tells of."""
    if change.expected == PASSES:
        return PASSES
    if change.data or flips > made.flips(change.variant):
        return MISSED
    return WITHIN_NOISE if ratio <= 1 else WITHIN_FACTOR


def _judged(tests: tuple[str, ...], message: str, figure: str, likely: str) -> Outcome:
    return Outcome(CAUGHT, tests, figure, message.splitlines()[0], likely, "agree with the reference" in likely)


TWINS = {"fp32": "fp32", "fp16": "fp16", "int8": "int8-symmetric", "int8-qdq": "int8-symmetric"}
"""A twin's precision for each precision: all of one have the same leeway."""


def cpu_seconds() -> float:
    """CPU time of the processes that were started so far and ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
