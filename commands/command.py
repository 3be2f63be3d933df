"""A command and how it is run: by ``python -m commands NAME``, or by the older line that it had before."""

from __future__ import annotations

import argparse
import functools
import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.chain import Chain
from engines.errors import EngineError
from engines.formats.registry import FormatError, formats
from engines.model import selection
from engines.model.bundled import bundled_names
from engines.progress import Lines
from engines.store import Store

DONE, FAILED, UNUSABLE = 0, 1, 2


@dataclass(frozen=True)
class Call:
    """How a command was called: the parser of its options, whose ``prog`` the user typed, and the whole line."""

    parser: argparse.ArgumentParser
    line: str


Work = Callable[[argparse.Namespace, Call], int]


@dataclass(frozen=True)
class Command:
    """A command: its name, a line on it, its options, and the work, which returns the exit code.

    ``example`` stands below the options; ``{prog}`` in it is what the user typed.
    """

    name: str
    help: str
    description: str
    options: Callable[[argparse.ArgumentParser], None]
    work: Work
    example: str = ""

    def main(self, words: Sequence[str] | None = None, prog: str = "") -> int:
        """Run this command alone, under the name ``prog``; returns the exit code."""
        prog = prog or f"python -m commands {self.name}"

        def parser() -> argparse.ArgumentParser:
            return self.describe(argparse.ArgumentParser(prog=prog))

        return _run(parser, prog, words)

    def describe(self, parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        """Describe the command to its parser, which is returned."""
        if "\n" in self.description + self.example:
            parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.description = self.description or None
        parser.epilog = self.example.replace("{prog}", parser.prog) or None
        self.options(parser)
        parser.set_defaults(command=self, parser=parser)
        return parser


def main(commands: Sequence[Command], prog: str, description: str, words: Sequence[str] | None, more: str = "") -> int:
    """Run one of several commands, which the first word names; returns the exit code.

    ``more`` stands below the list of commands.
    """

    def parser() -> argparse.ArgumentParser:
        top = argparse.ArgumentParser(prog=prog, description=description)
        if more:
            top.epilog, top.formatter_class = more, argparse.RawDescriptionHelpFormatter
        parsers = top.add_subparsers(dest="name", required=True, metavar="COMMAND")
        for command in commands:
            command.describe(parsers.add_parser(command.name, help=command.help))
        return top

    return _run(parser, prog, words)


def _run(parser: Callable[[], argparse.ArgumentParser], prog: str, words: Sequence[str] | None) -> int:
    words = sys.argv[1:] if words is None else list(words)
    try:
        # Some of the options are named by formats, and a command that left one out would tell half of the truth.
        formats()
    except FormatError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    options = parser().parse_args(words)
    command: Command = options.command
    return command.work(options, Call(options.parser, f"{prog} {shlex.join(words)}"))


def told(work: Callable[[argparse.Namespace, Call], int | None]) -> Work:
    """Work that prints what the engines' modules log, and one line in place of an EngineError; None is DONE."""

    @functools.wraps(work)
    def run(options: argparse.Namespace, call: Call) -> int:
        logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[Lines()])
        logging.getLogger("engines").setLevel(logging.INFO)
        try:
            return work(options, call) or DONE
        except EngineError as error:
            print(f"error: {error}", file=sys.stderr)
            return FAILED

    return run


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a model."""
    parser.add_argument("model", help=f"a bundled model ({', '.join(bundled_names())}) or the path of a .toml file")


def add_own_model(parser: argparse.ArgumentParser) -> None:
    """Add what chooses a model, bundled or one's own, its samples and a format: what :func:`chosen_chain` reads."""
    add_model_and_samples(parser)
    parser.add_argument("--format", help="only the variants of this format")
    add_cifar10_dir(parser)
    add_artifacts(parser)


def add_model_and_samples(parser: argparse.ArgumentParser) -> None:
    """Add what chooses a model, bundled or one's own, and its samples."""
    parser.add_argument(
        "model", nargs="?", help=f"a bundled model ({', '.join(bundled_names())}) or the path of a .toml file"
    )
    parser.add_argument("--saved-model", type=Path, metavar="DIR", help="a SavedModel of your own")
    parser.add_argument(
        "--samples",
        type=Path,
        metavar="FILE.npz",
        help="samples of your own: arrays by input name, and optional integer labels",
    )


def chosen_chain(
    options: argparse.Namespace,
    call: Call,
    settings: Mapping[str, Sequence[str] | None] | None = None,
    download: bool = False,
) -> Chain:
    """Chain of the model that the options of :func:`add_own_model` choose; ends the process where they choose none.

    ``settings`` are the values of the formats' own options, ``download`` is whether CIFAR-10 may be fetched.
    """
    if options.model is None and options.saved_model is None:
        call.parser.error("there is no model; give a bundled model's name, a .toml file, or --saved-model=DIR")
    (chain,) = selection.chains(
        Store(options.artifacts),
        models=[options.model] if options.model else (),
        saved_model=options.saved_model,
        samples=options.samples,
        settings=settings,
        cifar10_dir=options.cifar10_dir,
        download=download,
    ).values()
    return chain


def add_cifar10_dir(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where CIFAR-10 is."""
    parser.add_argument(
        "--cifar10-dir",
        type=Path,
        metavar="DIR",
        help="folder of CIFAR-10, python or binary layout (default: $CIFAR10_DIR)",
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where CIFAR-10 is, and whether to fetch it."""
    add_cifar10_dir(parser)
    parser.add_argument("--download", action="store_true", help="download CIFAR-10 (163 MiB) where it is not found")


def add_artifacts(parser: argparse.ArgumentParser, help_: str = "artifact folder (default: %(default)s)") -> None:
    """Add the option that names the artifact folder."""
    parser.add_argument("--artifacts", type=Path, default=Path("build"), metavar="DIR", help=help_)
