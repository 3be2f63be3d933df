"""``python -m commands list``: list models and their variants."""

from __future__ import annotations

import argparse

from commands.command import Call, Command, told
from engines.formats.registry import unavailable, variants
from engines.model.bundled import bundled_names, find_model
from engines.model.toml import load_model


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="*", help=f"default: {', '.join(bundled_names())}")


def _list(options: argparse.Namespace, _: Call) -> None:
    for name in options.model or bundled_names():
        spec = load_model(find_model(name))
        print(f"{spec.name}: {spec.description} ({spec.source})")
        for variant in variants(spec):
            print(f"  {variant!s:<30} {unavailable(variant) or ''}".rstrip())


COMMAND = Command("list", "list models and their variants", "", _options, told(_list))
