"""The command line: ``python -m engines --help``."""

from __future__ import annotations

import argparse
import logging
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engines.chain import SAMPLE_COUNT, Chain
from engines.errors import EngineError
from engines.exports import export_csv, export_data, export_samples
from engines.formats import registry
from engines.formats.registry import unavailable, variants
from engines.formats.savedmodel import training
from engines.model import datasets, exchange, samples
from engines.model.bundled import bundled_names, find_model
from engines.model.selection import find_data
from engines.model.spec import ModelSpec
from engines.model.toml import load_model
from engines.progress import Lines
from engines.store import Store
from engines.variant import Variant

DEFAULT_STORE = Path("build")


def _built() -> list[str]:
    """Formats with engines of their own: programs run those of others."""
    return sorted(
        name for name, f in registry.formats().items() if f.artifact(Variant(name, f.precisions[0])).format == name
    )


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        prog="python -m engines",
        description="Make and inspect the engines of a model under test: SavedModel, ONNX, TFLite and TensorRT.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train", help="train a bundled architecture again", description="Train a model, with the seed of its TOML file."
    )
    _model_options(train)
    train.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where the weights go (default: MODEL.weights.npz in this folder; the bundled weights are never replaced)",
    )
    train.add_argument("--quiet", action="store_true", help="no progress display")

    build = commands.add_parser(
        "build",
        help="build artifacts of a model",
        description="Build a model's artifacts into the artifact folder; what is there and still valid is kept.",
    )
    _model_options(build)
    build.add_argument("--format", choices=_built(), help="only this format (default: all that the model names)")
    build.add_argument("--precision", help="only this precision, such as fp32, fp16 or int8 (default: all)")
    for option in registry.options().values():
        build.add_argument(f"--{option.name}", **option.arguments)
    build.add_argument("--all", action="store_true", help="every format and precision (the default)")
    build.add_argument(
        "--artifacts", type=Path, default=DEFAULT_STORE, metavar="DIR", help="artifact folder (default: %(default)s)"
    )

    export = commands.add_parser(
        "export-csv",
        help="write samples, labels and expected answers as CSV",
        description="Write test samples, their labels and the SavedModel's answers as CSV files for other programs "
        "(docs/exchange.md), as the artifact csv-N with the SHA-256 of each file.",
    )
    _model_options(export)
    export.add_argument("--samples", type=int, metavar="N", help=f"how many test samples (default: {SAMPLE_COUNT})")
    export.add_argument("--output", type=Path, metavar="DIR", help="also copy the files to this folder")
    export.add_argument(
        "--artifacts", type=Path, default=DEFAULT_STORE, metavar="DIR", help="artifact folder (default: %(default)s)"
    )

    list_ = commands.add_parser("list", help="list models and their variants")
    list_.add_argument("model", nargs="*", help=f"default: {', '.join(bundled_names())}")
    return top


def _model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help=f"a bundled model ({', '.join(bundled_names())}) or the path of a .toml file")
    command.add_argument(
        "--cifar10-dir",
        type=Path,
        metavar="DIR",
        help="folder of CIFAR-10, python or binary layout (default: $CIFAR10_DIR)",
    )
    command.add_argument("--download", action="store_true", help="download CIFAR-10 (163 MiB) where it is not found")


def _dataset(spec: ModelSpec, options: argparse.Namespace) -> samples.Dataset:
    return datasets.locate(
        spec.dataset,
        cifar10_dir=options.cifar10_dir,
        download=options.download,
        input_name=spec.inputs[0].name,
        value_range=spec.inputs[0].range,
    )


def _train(options: argparse.Namespace) -> None:
    spec = load_model(find_model(options.model))
    output = options.output or Path(f"{spec.name}.weights.npz")
    if spec.weights is not None and output.resolve() == spec.weights.path.resolve():
        raise EngineError(f"--output {output} is the weights file of {spec.source}; allowed: another file")
    if not output.resolve().parent.is_dir():
        raise EngineError(
            f"--output {output}: the folder {output.resolve().parent} does not exist; allowed: a file in one"
        )
    dataset = _dataset(spec, options)
    samples, held_out = dataset.train(), dataset.test()
    print(f"{spec.name}: training on {len(samples)} samples of {dataset.source}", file=sys.stderr)
    start = time.monotonic()
    model, accuracy = training.train(spec, samples, held_out, verbose=not options.quiet)
    seconds = time.monotonic() - start
    sha256 = training.save_weights(model, output)
    print(
        f"{output}: accuracy {accuracy:.4f} on {len(held_out)} held-out samples, {seconds:.0f} s\n"
        f"sha256 {sha256}\n"
        f"made by `python -m engines {shlex.join(sys.argv[1:])}` with {training.backend()}, "
        f"Python {platform.python_version()}, seed {spec.training.seed if spec.training else None}"
    )


def _not_built(variant: Variant, spec: ModelSpec) -> str | None:
    """Why a variant is not built here: it can run nowhere near, and is of no use elsewhere, or cannot be made."""
    if registry.buildable(variant, spec):
        return None
    return unavailable(variant) or registry.find(variant.format).unbuildable(variant, spec)


def _build(options: argparse.Namespace) -> None:
    given = {name: vars(options)[name.replace("-", "_")] for name in registry.options()}
    spec = replace(load_model(find_model(options.model)), settings=registry.settings(given))
    built = [v for v in variants(spec) if v.format in _built()]
    chosen = [v for v in built if options.format in {None, v.format} and options.precision in {None, v.precision}]
    if not chosen:
        raise EngineError(
            f"{spec.name}: no variant of --format {options.format or 'any'} --precision {options.precision or 'any'}; "
            f"allowed: {', '.join(map(str, built))}"
        )
    store = Store(options.artifacts)
    chain = Chain(spec, find_data(spec, store, options.cifar10_dir, options.download), store)
    width = max(len(str(variant)) for variant in chosen)
    print(f"{'variant':<{width}} {'MB':>7} {'built in':>9}  path")
    for variant in chosen:
        if options.format is None and (reason := _not_built(variant, spec)):
            # Whoever asks for all gets all that this machine can build, and is told of the rest.
            print(f"{variant!s:<{width}} {'-':>7} {'-':>9}  not built: {reason}")
            continue
        artifact, path = chain.artifact(variant), chain.file(variant)
        layers = artifact.details.get("layers", {})
        more = f"  layers: {', '.join(f'{count} {name}' for name, count in layers.items())}" if layers else ""
        size = path.stat().st_size if path.is_file() else artifact.size
        print(f"{variant!s:<{width}} {size / 1e6:>7.2f} {artifact.seconds:>7.1f} s  {path}{more}", flush=True)
    if options.format is None and options.precision is None:
        for exported in (export_samples(chain), export_data(chain)):
            print(f"{exported.record['name']:<{width}} {exported.size / 1e6:>7.2f} {'':>9}  {exported.folder}")


def _export_csv(options: argparse.Namespace) -> None:
    spec = load_model(find_model(options.model))
    if options.output is not None and options.output.exists() and not options.output.is_dir():
        raise EngineError(f"--output {options.output} is a file; allowed: a folder, which is made where it is missing")
    store = Store(options.artifacts)
    chain = Chain(spec, find_data(spec, store, options.cifar10_dir, options.download), store)
    artifact = export_csv(chain, len(chain.samples) if options.samples is None else options.samples)
    folder = artifact.folder
    if options.output is not None:
        folder = options.output
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in artifact.record["files"]:
                shutil.copyfile(artifact.file(name), folder / name)
        except OSError as error:
            raise EngineError(f"--output {folder}: cannot be written: {error.strerror}; allowed: a folder") from error
    for name, file in artifact.record["files"].items():
        print(f"{folder / name}  {file['size'] / 1e6:.2f} MB  sha256 {file['sha256']}")
    if not artifact.details["labelled"]:
        print(f"no {exchange.LABELS}: {chain.dataset.unlabelled_reason}")


def _list(options: argparse.Namespace) -> None:
    for name in options.model or bundled_names():
        spec = load_model(find_model(name))
        print(f"{spec.name}: {spec.description} ({spec.source})")
        for variant in variants(spec):
            print(f"  {variant!s:<30} {unavailable(variant) or ''}".rstrip())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 1 with the reason on standard error."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[Lines()])
    logging.getLogger("engines").setLevel(logging.INFO)
    try:
        {"train": _train, "build": _build, "export-csv": _export_csv, "list": _list}[options.command](options)
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
