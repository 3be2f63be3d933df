"""Which models of the zoo TensorRT for RTX builds, in which precision, and its reason where it does not.

    PYTHONPATH=tests python -m zoo.rtx --output docs/runs/rtx_zoo.json        # also writes docs/rtx_zoo.md

No GPU is needed. Models are made one after another, each in a process of its own, and so is every plan. What is there
in the artifact folder is kept, so that a run that was cut short goes on. ``--only NAME`` makes some of the rows anew.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.errors import ConversionError, EngineError
from engines.formats.tensorrt_rtx import packages, recipe, targets
from engines.progress import Lines, live
from engines.tools import installed_version
from engines.variant import Variant
from zoo import ZOO
from zoo.apart import told_by
from zoo.chains import chain_of
from zoo.entry import Entry
from zoo.pages import ROOT, folder_of_page
from zoo.rtx_page import page

BUILT, NO_ONNX, REFUSED, NOT_MADE = "built", "no ONNX", "refused", "not made"
"""What becomes of a plan: it is built; there is no ONNX to build it from; TensorRT refuses it; there is no model."""

MADE_WITH = ("tensorflow-cpu", "keras", "tf2onnx", "onnx", "onnxruntime", *packages.PACKAGES["tensorrt-rtx"])


def built(entry: Entry, folder: Path) -> dict[str, dict[str, Any]]:
    """What becomes of an entry's plan in each precision; the model is made in ``folder`` where it is not there."""
    precisions = f"onnx={','.join(recipe.SOURCES.values())} tensorrt-rtx={','.join(recipe.SOURCES)}"
    chain = chain_of(entry, folder, [precisions])
    found: dict[str, dict[str, Any]] = {}
    for precision, source in recipe.SOURCES.items():
        variant = Variant("tensorrt-rtx", precision, chain.spec.profiles[0])
        onnx, state = Variant("onnx", source), NO_ONNX
        try:
            chain.artifact(onnx)
            state = REFUSED
            artifact, bytes_ = chain.artifact(variant), chain.file(variant).stat().st_size
        except ConversionError as error:
            found[precision] = {"state": state, "reason": str(error).replace(f"{folder.resolve()}/", "")}
        else:
            details = artifact.details
            kept = {name: details[name] for name in ("weights_bytes", "layers", "warnings")}
            found[precision] = {"state": BUILT, "bytes": bytes_, "onnx_bytes": chain.file(onnx).stat().st_size, **kept}
    return found


def apart(entry: Entry, folder: Path) -> dict[str, dict[str, Any]]:
    """The same by a process of its own."""
    words = ["zoo.rtx", "--made", entry.name, "--artifacts", str(folder)]
    found = told_by(words, folder / f"{entry.name}.json")
    if isinstance(found, str):
        return {precision: {"state": NOT_MADE, "reason": found} for precision in recipe.SOURCES}
    return found


def write(path: Path, results: Mapping[str, Any]) -> None:
    """Write the results, and the page of the same name: beside them, or in ``docs`` where they are in ``docs/runs``."""
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder_of_page(path) / path.with_suffix(".md").name).write_text(page(results), encoding="utf-8")


def main() -> int:
    """Build what was asked for; the exit code is 1 where a model was not made."""
    parser = argparse.ArgumentParser(prog="PYTHONPATH=tests python -m zoo.rtx", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="what was found before stays in it")
    parser.add_argument("--only", action="append", choices=ZOO, metavar="NAME", help="this model; repeatable")
    parser.add_argument("--artifacts", type=Path, default=ROOT / "build" / "zoo", metavar="DIR")
    parser.add_argument("--made", choices=ZOO, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[Lines()])
    logging.getLogger("engines").setLevel(logging.INFO)
    options.artifacts.mkdir(parents=True, exist_ok=True)
    if options.made:
        found = built(ZOO[options.made], options.artifacts)
        (options.artifacts / f"{options.made}.json").write_text(json.dumps(found), encoding="utf-8")
        return 0
    if options.output is None:
        parser.error("give --output FILE.json")
    if reason := packages.cannot_build():
        raise EngineError(reason)
    results: dict[str, Any] = {"models": {}}
    if options.only and options.output.is_file():
        results = json.loads(options.output.read_text(encoding="utf-8"))
    results["made_with"] = {name: installed_version(name) for name in MADE_WITH}
    results["machine"] = f"{platform.system()}, Python {platform.python_version()}, no GPU needed"
    results["targets"] = list(targets.PORTABLE)
    chosen = [entry for entry in ZOO.values() if entry.name in (options.only or ZOO)]
    with live("TensorRT for RTX", len(chosen), "models") as advance:
        for entry in chosen:
            variants = apart(entry, options.artifacts)
            results["models"][entry.name] = {"title": entry.title, "refused": entry.refused, "variants": variants}
            results["models"] = {name: results["models"][name] for name in ZOO if name in results["models"]}
            write(options.output, results)
            states = ", ".join(f"{precision} {one['state']}" for precision, one in variants.items())
            logging.getLogger("engines").info("%s: %s", entry.name, states)
            advance(1)
    return int(any(one["state"] == NOT_MADE for m in results["models"].values() for one in m["variants"].values()))


if __name__ == "__main__":
    sys.exit(main())
