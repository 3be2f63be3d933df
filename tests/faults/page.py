"""Gives every planted change to the real command, and writes down what became of it: a JSON file, and its page.

PYTHONPATH=tests python -m faults.page --output docs/runs/detection.json
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from zoo.pages import folder_of_page

from engines.formats.tensorrt import driver
from engines.progress import Lines, live
from engines.tools import installed_version
from faults import CATALOGUE
from faults.change import CAUGHT, Change
from faults.command import REFUSED, Outcome, cause_of, cpu_seconds, run, together
from faults.made import ROOT, Made
from faults.page_text import page

MADE_WITH = ("tensorflow", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "numpy", "pytest")


LONGEST = 260
"""The most characters of a message and of a cause that are kept."""


def record(change: Change, outcome: Outcome) -> dict[str, Any]:
    """A change and what became of it, for the JSON file; of a plan with the device that it ran on."""
    what = {name: getattr(change, name) for name in ("name", "kind", "model", "variant")}
    if change.format == "tensorrt":
        what["device"] = f"{driver.device()['GPU']}, TensorRT {installed_version('tensorrt')}"
    return what | {name: _short(value) for name, value in outcome.told().items()}


def _short(value: Any) -> Any:
    """Text that is cut where it is long, and a number of three digits."""
    if isinstance(value, float):
        return float(f"{value:.3g}")
    return value[:LONGEST] if isinstance(value, str) else value


def judged(known: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What is known of changes, in the catalogue's order, each with whether the cause that was told is right."""
    found = [(c, known[c.id]) for c in CATALOGUE if c.id in known]
    told = []
    for change, one in found:
        refusal = one.get("message", "") if list(one.get("tests", ())) == [REFUSED] else ""
        cause = {"cause": cause_of(change, one.get("likely", ""), refusal)} if one["state"] == CAUGHT else {}
        told.append(one | {"expected": change.expected} | cause | ({"why": change.why} if change.why else {}))
    return told


def outcomes(changes: Iterable[Change], folder: Path, processes: int) -> Iterable[tuple[Change, Outcome]]:
    """What becomes of changes, each as it is known; models and sound files are made in ``folder`` first."""
    groups = together(changes)
    made = {}
    for change in (c for group in groups for c in group):
        if change.model not in made:
            made[change.model] = Made.of(change.model, folder)
            made[change.model].ready()
    with ThreadPoolExecutor(processes) as pool:
        running = {pool.submit(run, made[group[0].model], group): group for group in groups}
        for done in as_completed(running):
            yield from ((change, done.result()[change.id]) for change in running[done])


def write(path: Path, results: dict[str, Any]) -> None:
    """Write the results, a change a line, and the page: beside them, or in ``docs`` where they are in ``docs/runs``."""
    results = results | {n: round(results[n]) for n in ("cpu_seconds", "seconds") if n in results}
    lines = ",\n".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in results["changes"])
    head = json.dumps({n: v for n, v in results.items() if n != "changes"}, separators=(",", ":"))
    path.write_text(f'{head[:-1]},"changes":[\n{lines}\n]}}\n', encoding="utf-8")
    (folder_of_page(path) / path.with_suffix(".md").name).write_text(page(results), encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """Results of a file; those of none where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"changes": []}


def main() -> int:
    """Run what was asked for; the exit code is 1 where a change became something else than is expected."""
    parser = argparse.ArgumentParser(prog="PYTHONPATH=tests python -m faults.page", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, metavar="FILE.json", required=True)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only", action="append", metavar="WORDS", help="changes whose id has these; others stay")
    which.add_argument(
        "--rest", action="store_true", help="changes that the file lacks, after a run that was cut short"
    )
    which.add_argument("--page", action="store_true", help="the page alone, of what is in the file")
    parser.add_argument("--artifacts", type=Path, default=ROOT / "build" / "faults", metavar="DIR")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="commands at once; default: 2")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[Lines()])
    parts = options.only or options.rest or options.page
    results = read(options.output) if parts else {"changes": []}
    known = {f"{c['model']}-{c['variant']}: {c['name']}": c for c in results["changes"]}
    chosen = [c for c in CATALOGUE if not options.only or any(words in c.id for words in options.only)]
    if options.only and not chosen:
        parser.error(f"--only {' '.join(options.only)}: no change has these words in its id")
    if options.rest:
        chosen = [c for c in chosen if c.id not in known]
    if options.page:
        write(options.output, results | {"changes": judged(known)})
        return 0
    elsewhere = [c for c in chosen if c.unavailable]
    for format_ in sorted({c.format for c in elsewhere}):
        left_out = [c for c in elsewhere if c.format == format_]
        logging.getLogger("engines").warning(
            "%d changes of %s are left out, and stay as they were: %s", len(left_out), format_, left_out[0].unavailable
        )
    chosen = [c for c in chosen if not c.unavailable]
    results["made_with"] = {name: installed_version(name) for name in MADE_WITH}
    results["machine"] = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    options.artifacts.mkdir(parents=True, exist_ok=True)
    spent = results.get("cpu_seconds", 0) - cpu_seconds(), results.get("seconds", 0) - time.monotonic()
    unexpected = []
    with live("Planted changes", len(chosen), "changes") as advance:
        for change, found in outcomes(chosen, options.artifacts, options.processes):
            known[change.id] = record(change, found)
            if found.state != change.expected:
                unexpected.append(change.id)
            if not options.only:
                results["cpu_seconds"], results["seconds"] = spent[0] + cpu_seconds(), spent[1] + time.monotonic()
            # What was found is kept where the run is cut short.
            write(options.output, results | {"changes": judged(known)})
            advance(1)
    for id_ in unexpected:
        logging.getLogger("engines").warning("%s: %s", id_, known[id_]["state"])
    return int(bool(unexpected))


if __name__ == "__main__":
    sys.exit(main())
