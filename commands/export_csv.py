"""``python -m commands export-csv``: write samples, labels and expected answers as CSV."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from commands.command import Call, Command, add_artifacts, add_data, add_model, told
from engines.chain import SAMPLE_COUNT, Chain
from engines.errors import EngineError
from engines.exports import export_csv
from engines.model import exchange
from engines.model.bundled import find_model
from engines.model.selection import find_data
from engines.model.toml import load_model
from engines.store import Artifact, Store


def _options(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    parser.add_argument("--samples", type=int, metavar="N", help=f"how many test samples (default: {SAMPLE_COUNT})")
    parser.add_argument("--output", type=Path, metavar="DIR", help="also copy the files to this folder")
    add_artifacts(parser)


def _export(options: argparse.Namespace, _: Call) -> None:
    spec = load_model(find_model(options.model))
    if options.output is not None and options.output.exists() and not options.output.is_dir():
        raise EngineError(f"--output {options.output} is a file; allowed: a folder, which is made where it is missing")
    store = Store(options.artifacts)
    chain = Chain(spec, find_data(spec, store, options.cifar10_dir, options.download), store)
    artifact = export_csv(chain, len(chain.samples) if options.samples is None else options.samples)
    folder = artifact.folder if options.output is None else _copied(artifact, options.output)
    for name, file in artifact.record["files"].items():
        print(f"{folder / name}  {file['size'] / 1e6:.2f} MB  sha256 {file['sha256']}")
    if not artifact.details["labelled"]:
        print(f"no {exchange.LABELS}: {chain.dataset.unlabelled_reason}")


def _copied(artifact: Artifact, folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in artifact.record["files"]:
            shutil.copyfile(artifact.file(name), folder / name)
    except OSError as error:
        raise EngineError(f"--output {folder}: cannot be written: {error.strerror}; allowed: a folder") from error
    return folder


COMMAND = Command(
    "export-csv",
    "write samples, labels and expected answers as CSV",
    "Write test samples, their labels and the SavedModel's answers as CSV files for other programs "
    "(docs/exchange.md), as the artifact csv-N with the SHA-256 of each file.",
    _options,
    told(_export),
)
