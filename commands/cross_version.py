"""``python -m commands cross-version``: write the table of what every runtime answered on the same plans."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.command import DONE, FAILED, Call, Command, add_artifacts, add_model
from engines.errors import EngineError
from engines.formats import registry
from engines.formats.registry import variants
from engines.hashing import file_hash
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.store import Store
from trial.cross_version import difference, stored

if TYPE_CHECKING:
    from engines.model.spec import ModelSpec


def page(store: Store, spec: ModelSpec, command: str) -> str:
    """Write the table of all stored answers: for each plan, every runtime against the first one, in Markdown."""
    rows, devices = [], set()
    for variant in variants(spec):
        plan = store.recorded(spec.name, str(variant)) if variant.format in registry.shared() else None
        if plan is None:
            continue
        made_from = {"plan": file_hash(plan.file(registry.find(variant.format).file))}
        answers = sorted(
            stored(store, spec.name, variant, made_from), key=lambda a: (not a.runtime.startswith("trt"), a.runtime)
        )
        for one in answers:
            devices.add(json.dumps(one.details["device"], sort_keys=True))
            base = next(a for a in answers if a.inputs == one.inputs)
            if one is base:
                equal, largest, classes = "(compared with)", "", ""
            else:
                found = difference(one.outputs, base.outputs)
                equal = "bitwise" if not found.samples else f"{found.samples:,} samples differ"
                largest, classes = f"{found.largest:.1e}", str(found.classes)
            rows.append(
                f"| {variant} | {one.runtime} | {one.details['samples']:,} | {equal} | {largest} | {classes} "
                f"| {_timed(one.details, base.details)} | {one.details['plan_bytes'] / 1e6:.1f} |"
            )
    if not rows:
        raise EngineError(
            f"{store.root}: holds no answers on the plans of {spec.name}; run `pytest -m cross_version` first"
        )
    lines = [f"# {spec.name}: the same plans in every runtime", "", f"Written by `{command}`.", ""]
    lines += [f"- {key}: {value}" for device in sorted(devices) for key, value in json.loads(device).items()]
    lines += [
        "",
        "Each runtime is compared, bit by bit, with the first one of the same plan and samples. Throughput is the",
        "median of calls on all samples: `runner(inputs)` in Python, what the program itself reports in C++. `trt` is",
        "TensorRT itself, `lean` and `dispatch` are its smaller runtimes, `cpp-` before them the C++ programs.",
        "",
        "| plan | runtime | samples | answers | max difference | other classes | samples/s | against the first "
        "| load ms | plan MB |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    return "\n".join([*lines, *rows]) + "\n"


def _timed(details: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """Write the cells of what was timed: samples/s, how they compare with the first runtime's, and loading in ms."""
    speed, base = details.get("samples_per_second"), first.get("samples_per_second")
    if speed is None:
        return "not timed |  | "
    against = f"{100 * (speed / base - 1):+.1f} %" if base else ""
    return f"{speed:,.0f} | {against} | {details['load_seconds'] * 1e3:,.0f}"


def _options(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.md", help="where the table goes")
    add_artifacts(parser, "default: %(default)s")


def _work(options: argparse.Namespace, call: Call) -> int:
    try:
        spec = load_model(find_model(options.model))
        text = page(Store(options.artifacts), spec, f"{call.parser.prog} {options.model}")
        options.output.write_text(text, encoding="utf-8")
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"error: --output {options.output}: {error.strerror}; allowed: a file in a folder", file=sys.stderr)
        return FAILED
    return DONE


COMMAND = Command(
    "cross-version",
    "write the table of several runtimes",
    "Write the table of what every runtime answered on the same plans, from the artifact folder. "
    "Needs no GPU; `pytest -m cross_version` stores the answers.",
    _options,
    _work,
)
