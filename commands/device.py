"""Measure the engines of a model on this machine's GPU: ``python -m commands device --help``.

Writes a JSON file and the results page made from it. Every variant is compared with the reference before it is timed.
TensorRT 8.6 and newer versions of ONNX Runtime do not share a Python, so that two runs may fill one file.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.command import DONE, FAILED, Call, Command, add_artifacts, add_cifar10_dir
from commands.device_measure import Meter, measure_onnxruntime, measure_tensorrt, open_meter
from commands.device_page import page, write_floors
from conformance.tolerances import ToleranceError
from engines.chain import Chain
from engines.errors import EngineError, RunnerError, UnavailableError
from engines.formats.onnx import packages as onnx_packages
from engines.formats.onnx import runner as onnx_runner
from engines.formats.registry import unavailable
from engines.formats.tensorrt import driver
from engines.formats.tensorrt import packages as tensorrt_packages
from engines.model.bundled import bundled_names, find_model
from engines.model.selection import find_data
from engines.model.toml import load_model
from engines.progress import live
from engines.store import Store
from engines.tools import installed_version

if TYPE_CHECKING:
    from engines.variant import Variant

ENGINES = ("tensorrt", "onnxruntime")


def missing(engine: str) -> str | None:
    """Why an engine cannot use the GPU here; None where it can."""
    if engine == "tensorrt":
        return tensorrt_packages.unavailable()
    if reason := onnx_packages.unavailable() or driver.problem(0):
        return reason
    import onnxruntime as ort

    if onnx_runner.CUDA not in ort.get_available_providers():
        return f"this ONNX Runtime has no {onnx_runner.CUDA} (pip install -r requirements-gpu.txt)"
    return None


def chosen_engines(asked: str | None) -> list[str]:
    """Engines to measure: the one that was asked for, all, or (None) those that can run here.

    Raises UnavailableError where one that was asked for cannot, or none can.
    """
    reasons = {engine: missing(engine) for engine in ENGINES}
    wanted = [e for e in ENGINES if asked in {e, "all"} or (asked is None and reasons[e] is None)]
    for engine in wanted:
        if reasons[engine]:
            raise UnavailableError(f"{engine}: {reasons[engine]}")
    if not wanted:
        raise UnavailableError("; ".join(f"{engine}: {reason}" for engine, reason in reasons.items()))
    return wanted


def started(path: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """Results to add to: those of ``path``, or ``fresh`` ones where there is no such file.

    Raises RunnerError where the file has the results of another model, data or GPU, or is no file of results.
    """
    if not path.is_file():
        return fresh
    found = read_results(path)
    for what, before, now in (
        ("model", found["model"], fresh["model"]),
        ("data", found["data"], fresh["data"]),
        ("GPU", found["machine"]["GPU"], fresh["machine"]["GPU"]),
    ):
        if before != now:
            raise RunnerError(
                f"{path}: has results of the {what} {before!r}, this is {now!r}; allowed: another --output"
            )
    return {**found, "machine": fresh["machine"]}


def read_results(path: Path) -> dict[str, Any]:
    """Read a file of results; raises RunnerError where it is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunnerError(f"{path}: cannot be read as results: {error}") from error
    if not isinstance(found, dict) or not {"model", "data", "machine", "engines", "rows"} <= set(found):
        raise RunnerError(f"{path}: is no file of results of this command")
    return found


def describe(engine: str, command: str) -> dict[str, Any]:
    """What an engine's rows were measured with: versions, command and time."""
    names = ("pycuda", "cuda-bindings", "polygraphy") if engine == "tensorrt" else ("onnx",)
    own = {"TensorRT": tensorrt_packages.version()} if engine == "tensorrt" else {"ONNX Runtime": _loaded_version()}
    return {
        "command": command,
        "Python": platform.python_version(),
        **own,
        **{name: installed_version(name) for name in (*names, "numpy")},
        "measured": datetime.now(timezone.utc).isoformat(timespec="minutes"),
    }


def _loaded_version() -> str:
    """Version of the ONNX Runtime that runs: beside onnxruntime-gpu, onnxruntime may be installed too."""
    import onnxruntime

    return str(onnxruntime.__version__)


def write(path: Path, results: dict[str, Any]) -> None:
    """Write the file of results and its page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(page(results), encoding="utf-8")


def run(engine: str, chain: Chain, meter: Meter, results: dict[str, Any], output: Path) -> None:
    """Measure one engine's variants in place of what ``results`` has of it, and write after each variant."""
    format_, measure = ("tensorrt", measure_tensorrt) if engine == "tensorrt" else ("onnx", measure_onnxruntime)
    variants: list[Variant] = [v for v in chain.variants if v.format == format_ and unavailable(v) is None]
    if not variants:
        raise RunnerError(f"{chain.spec.source}: has no variant of format {format_!r} that {engine} can run")
    others = [r for r in results["rows"] if r["engine"] != engine]
    rows: list[dict[str, Any]] = []
    with live(engine, len(variants), "variants") as advance:
        for variant in variants:
            for row in measure(chain, variant, meter):
                rows.append(row)
                # Written as it grows: a run that is cut short has measured something.
                results["rows"] = rows + others if engine == ENGINES[0] else others + rows
                write(output, results)
            advance(1)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", help=f"a bundled model ({', '.join(bundled_names())}) or the path of a .toml file"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.json",
        help="also writes FILE.md; rows of an engine that is not measured now stay in the file",
    )
    parser.add_argument(
        "--engine",
        choices=[*ENGINES, "all"],
        help="what to measure (default: what can use the GPU in this environment)",
    )
    add_cifar10_dir(parser)
    add_artifacts(parser, "default: %(default)s")
    parser.add_argument(
        "--floors",
        type=Path,
        metavar="FILE.json",
        help="measure nothing: write FILE.md and the floors of conformance/device_floors.toml anew from FILE.json",
    )


def _work(options: argparse.Namespace, call: Call) -> int:
    """Measure and write; the exit code is 1 where nothing could be measured or a variant failed."""
    if (options.floors is None) == (options.model is None or options.output is None):
        call.parser.error("give a model and --output FILE.json, or --floors FILE.json alone")
    try:
        if options.floors is not None:
            results = read_results(options.floors)
            write_floors(results, options.floors)
            write(options.floors, results)
            return DONE
        results = measure_all(options, call.parser.prog)
    except (EngineError, ToleranceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    failed = [r for r in results["rows"] if "failed" in r]
    for r in failed:
        print(f"error: {r['variant']} at batch {r['batch']} was not timed: {r['failed']}", file=sys.stderr)
    return FAILED if failed else DONE


def measure_all(options: argparse.Namespace, prog: str) -> dict[str, Any]:
    """Results of what the options ask for, which are written already; ``prog`` is how the command is called."""
    engines = chosen_engines(options.engine)
    spec = load_model(find_model(options.model))
    store = Store(options.artifacts)
    chain = Chain(spec, find_data(spec, store, options.cifar10_dir), store)
    described, meter = open_meter()
    fresh: dict[str, Any] = {
        "model": spec.name,
        "data": f"{chain.dataset.name}, {chain.dataset.test_count:,} test samples",
        "machine": {**tensorrt_packages.device(), **described},
        "engines": {},
        "rows": [],
    }
    results = started(options.output, fresh)
    for engine in engines:
        command = f"{prog} {options.model} --engine {engine}"
        results["engines"][engine] = describe(engine, command)
        run(engine, chain, meter, results, options.output)
    return results


COMMAND = Command(
    "device",
    "measure a model's engines on this GPU",
    "Measure a model's TensorRT variants and ONNX Runtime's CUDA execution provider on this GPU.",
    _options,
    _work,
)
