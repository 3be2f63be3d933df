"""``python -m commands describe``: print the description that is derived of a SavedModel or an ONNX file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from commands.command import Call, Command, told
from engines.model import options as chosen
from engines.model.derive import derive_onnx, derive_spec
from engines.model.paths import is_file
from engines.model.spec import SIGNATURE
from engines.model.written import written


def describe(
    path: Path,
    samples: Path | None = None,
    signature: str = SIGNATURE,
    precisions: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> str:
    """TOML of what is derived of a SavedModel's folder, or of an ONNX file, for ``--model``.

    ``precisions`` and ``kinds`` are texts as the options of those names take them. Raises SpecError where it cannot be
    described, DataError where the samples cannot be read.
    """
    spec = derive_onnx(path, samples) if is_file(path) else derive_spec(path, samples, signature)
    spec = chosen.with_precisions(chosen.with_kinds(spec, kinds), precisions)
    shown = "" if samples is None else f" and {samples}"
    use = f"pytest --model=THIS.toml --samples={samples or 'FILE.npz'}"
    return f"# Derived from {path}{shown}; docs/models.md explains each line.\n# Use: {use}\n{written(spec)}"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="DIR", help="a SavedModel's folder, or an FP32 ONNX file")
    parser.add_argument("--samples", type=Path, metavar="FILE.npz|DIR", help="samples: arrays by input name, or shards")
    parser.add_argument("--signature", default=SIGNATURE, metavar="NAME", help="signature (default: %(default)s)")
    parser.add_argument("--precisions", action="append", default=[], metavar="LIST", help="as in onnx=fp32,int8")
    parser.add_argument("--kind", action="append", default=[], metavar="OUTPUT=KIND", help="what an output holds")


def _describe(options: argparse.Namespace, _: Call) -> None:
    print(describe(options.path, options.samples, options.signature, options.precisions, options.kind), end="")


COMMAND = Command(
    "describe",
    "print the description of a SavedModel or an ONNX file",
    "Print what is derived of a SavedModel or an ONNX file: TOML with comments, for pytest --model (docs/models.md).",
    _options,
    told(_describe),
)
