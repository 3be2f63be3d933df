"""``python -m commands export-triton``: write the model repository that Triton serves a model from."""

from __future__ import annotations

import argparse
from pathlib import Path

from commands.command import Call, Command, add_artifacts, add_data, add_model, told
from engines.chain import Chain
from engines.errors import EngineError
from engines.formats.served import repository
from engines.model.bundled import find_model
from engines.model.selection import find_data
from engines.model.toml import load_model
from engines.store import Store
from engines.tools import missing


def _options(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("repository", type=Path, metavar="DIR", help="the model repository, made where it is missing")
    parser.add_argument(
        "--backend",
        choices=list(repository.BACKENDS),
        default=next(iter(repository.BACKENDS)),
        help="what runs it in the server; python: ONNX Runtime in the server's Python (default: %(default)s)",
    )
    parser.add_argument("--precision", default="fp32", help="precision of the engine (default: %(default)s)")
    parser.add_argument("--version", type=_count, default=1, metavar="N", help="version of it (default: %(default)s)")
    parser.add_argument("--instances", type=_count, default=1, metavar="N", help="copies of it that run at once")
    parser.add_argument("--gpu", action="store_true", help="run them on the GPUs (TensorRT always does)")
    add_data(parser)
    add_artifacts(parser)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: 1 or more")
    return int(text)


def _export(options: argparse.Namespace, _: Call) -> None:
    if reason := missing("tritonclient"):
        raise EngineError(f"export-triton: {reason}")
    spec = load_model(find_model(options.model))
    store = Store(options.artifacts)
    chain = Chain(spec, find_data(spec, store, options.cifar10_dir, options.download), store)
    backend = repository.BACKENDS[options.backend]
    placed = repository.Placed(options.instances, options.gpu or backend.name == "tensorrt")
    model = repository.export(
        chain,
        options.repository,
        backend=backend,
        precision=options.precision,
        version=options.version,
        placed=placed,
    )
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
    print(f"tritonserver --model-repository={options.repository}")


COMMAND = Command(
    "export-triton",
    "write the model repository that Triton serves a model from",
    "Write a model's engine, and config.pbtxt from its description, as a model repository of Triton (docs/served.md). "
    "Another version is added beside those that are there.",
    _options,
    told(_export),
)
