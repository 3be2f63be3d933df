"""A cold run that is killed at a random moment, and the run behind it: the same artifacts, and nothing left over.

    PYTHONPATH=tests python -m faults.killed --times 100 --output killed.json

A first run that nobody kills tells what artifacts there are, what the model answers, and how long it takes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from engines.progress import live
from engines.store import Store
from faults.made import ROOT
from tests.meta.apart import environment_apart

MODEL = "digits_vgg"
COMMAND = (
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "--ignore=tests/meta",
    "-m",
    "consistency",
    f"--model={MODEL}",
)
LEFT_OVER = re.compile(r".*\.(partial|stale)")


def started(store: Path) -> subprocess.Popen[str]:
    """The main job on a store, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *COMMAND, f"--artifacts={store}"],
        cwd=ROOT,
        env=environment_apart(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def found(store: Path) -> dict[str, Any]:
    """What is in a store: names of artifacts, those whose files are not as recorded, left-overs, and the answers."""
    folder, read = store / MODEL, Store(store)
    names = sorted(path.name for path in folder.iterdir() if not LEFT_OVER.fullmatch(path.name))
    answers = folder / "reference-samples"
    with np.load(next(answers.glob("*.npz"))) as arrays:
        digest = hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays.files))).hexdigest()
    return {
        "names": names,
        "damaged": [name for name in names if read.recorded(MODEL, name) is None],
        "left_over": sorted(str(p.relative_to(store)) for p in store.rglob("*") if LEFT_OVER.fullmatch(p.name)),
        "answers": digest,
    }


def finished(store: Path) -> dict[str, Any]:
    """The main job to its end: the exit code, the last line, how long it took, and what is in the store then."""
    start = time.monotonic()
    process = started(store)
    output, _ = process.communicate()
    told = {"code": process.returncode, "said": output.strip().splitlines()[-1], "seconds": time.monotonic() - start}
    return told | found(store)


def killed(store: Path, after: float) -> bool:
    """Whether the main job was killed, with all of its processes, this many seconds after its start."""
    process = started(store)
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def differences(whole: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What a run behind a killed one left otherwise than one that nobody killed."""
    told = [f"exit code {after['code']}: {after['said']}"] if after["code"] else []
    told += [f"{n} is damaged" for n in after["damaged"]] + [f"{n} is left over" for n in after["left_over"]]
    told += [f"{n} is missing" for n in whole["names"] if n not in after["names"]]
    told += [f"{n} is one more" for n in after["names"] if n not in whole["names"]]
    return told + ([] if whole["answers"] == after["answers"] else ["the model gives other answers"])


def main() -> int:
    """Kill runs; the exit code is 1 where a run behind one left anything otherwise."""
    parser = argparse.ArgumentParser(
        prog="PYTHONPATH=tests python -m faults.killed", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--times", type=int, default=10, metavar="N", help="runs that are killed (10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (0)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.json")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        whole = finished(Path(folder) / "whole")
        if whole["code"]:
            parser.error(f"the run that nobody killed failed: {whole['said']}")
        runs = []
        with live("killed", options.times, "runs") as advance:
            for number in range(options.times):
                store = Path(folder) / str(number)
                after = float(rng.uniform(0, whole["seconds"]))
                died = killed(store, after)
                built = len(list((store / MODEL).glob("*"))) if (store / MODEL).is_dir() else 0
                wrong = differences(whole, finished(store))
                runs.append({"after": round(after, 2), "killed": died, "artifacts_then": built, "wrong": wrong})
                advance(1)
    told = {"model": MODEL, "seconds": round(whole["seconds"], 1), "artifacts": len(whole["names"]), "runs": runs}
    options.output.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return int(any(run["wrong"] for run in runs))


if __name__ == "__main__":
    sys.exit(main())
