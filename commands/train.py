"""``python -m commands train``: train a bundled architecture again."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

from commands.command import Call, Command, add_data, add_model, told
from engines.errors import EngineError
from engines.formats.savedmodel import training
from engines.model import datasets, samples
from engines.model.bundled import find_model
from engines.model.spec import ModelSpec
from engines.model.toml import load_model


def _options(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where the weights go (default: MODEL.weights.npz in this folder; the bundled weights are never replaced)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress display")


def _dataset(spec: ModelSpec, options: argparse.Namespace) -> samples.Dataset:
    return datasets.locate(
        spec.dataset,
        cifar10_dir=options.cifar10_dir,
        download=options.download,
        input_name=spec.inputs[0].name,
        value_range=spec.inputs[0].range,
    )


def _output(spec: ModelSpec, options: argparse.Namespace) -> Path:
    output: Path = options.output or Path(f"{spec.name}.weights.npz")
    if spec.weights is not None and output.resolve() == spec.weights.path.resolve():
        raise EngineError(f"--output {output} is the weights file of {spec.source}; allowed: another file")
    if not output.resolve().parent.is_dir():
        raise EngineError(
            f"--output {output}: the folder {output.resolve().parent} does not exist; allowed: a file in one"
        )
    return output


def _train(options: argparse.Namespace, call: Call) -> None:
    spec = load_model(find_model(options.model))
    output = _output(spec, options)
    dataset = _dataset(spec, options)
    train, held_out = dataset.train(), dataset.test()
    print(f"{spec.name}: training on {len(train)} samples of {dataset.source}", file=sys.stderr)
    start = time.monotonic()
    model, accuracy = training.train(spec, train, held_out, verbose=not options.quiet)
    seconds = time.monotonic() - start
    sha256 = training.save_weights(model, output)
    print(
        f"{output}: accuracy {accuracy:.4f} on {len(held_out)} held-out samples, {seconds:.0f} s\n"
        f"sha256 {sha256}\n"
        f"made by `{call.line}` with {training.backend()}, "
        f"Python {platform.python_version()}, seed {spec.training.seed if spec.training else None}"
    )


COMMAND = Command(
    "train",
    "train a bundled architecture again",
    "Train a model, with the seed of its TOML file.",
    _options,
    told(_train),
)
