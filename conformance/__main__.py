"""The command line: ``python -m conformance --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from conformance.history.compare import compare_results
from conformance.history.engine import NOTHING_KNOWN, Formats
from conformance.history.files import HistoryError, read_results
from conformance.history.show import WRITERS

NOTHING_REGRESSED, REGRESSED, UNUSABLE = 0, 1, 2


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="python -m conformance", description="Compare the results of runs of the suite.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    diff = commands.add_parser(
        "diff",
        help="compare two runs",
        description="Compare two results of pytest --report=DIR (DIR/conformance.json): what got slower, less "
        "accurate, larger, newly skipped or failing, or is missing; and what got better.",
        epilog="exit code: 0 nothing regressed, 1 something did, 2 a file or option cannot be used (docs/history.md)",
    )
    diff.add_argument("old", type=Path, metavar="OLD.json", help="results of the earlier run")
    diff.add_argument("new", type=Path, metavar="NEW.json", help="results of the run that is judged")
    for state in ("old", "new"):
        diff.add_argument(
            f"--also-{state}",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help=f"another run of the {state} state on the same machine, to tell speed from noise; repeatable",
        )
    diff.add_argument(
        "--partial",
        action="store_true",
        help="the new run was meant to leave things out: models, tests and figures that it lacks are only noted; a "
        "variant that one of its models no longer has is missing nevertheless",
    )
    diff.add_argument("--format", choices=list(WRITERS), default="text", help="default: %(default)s")
    return top


def main(arguments: Sequence[str] | None = None, formats: Formats = NOTHING_KNOWN) -> int:
    """Run a command; returns the exit code: 0 nothing regressed, 1 something did, 2 unusable input.

    ``formats`` tell which artifacts are made for one GPU: this package knows no formats of its own.
    """
    options = parser().parse_args(arguments)
    try:
        old, new = (
            [read_results(path) for path in (first, *others)]
            for first, others in ((options.old, options.also_old), (options.new, options.also_new))
        )
        difference = compare_results(old, new, partial=options.partial, formats=formats)
    except HistoryError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    print(WRITERS[options.format](difference))
    return REGRESSED if difference.regressed else NOTHING_REGRESSED


if __name__ == "__main__":
    sys.exit(main())
