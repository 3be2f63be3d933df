"""``python -m commands diff``: compare the results of two runs of the suite."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from commands.command import DONE, FAILED, UNUSABLE, Call, Command
from conformance.history.compare import compare_results
from conformance.history.engine import Formats
from conformance.history.files import HistoryError, read_results
from conformance.history.show import WRITERS
from trial.facts import format_facts


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path, metavar="OLD.json", help="results of the earlier run")
    parser.add_argument("new", type=Path, metavar="NEW.json", help="results of the run that is judged")
    for state in ("old", "new"):
        parser.add_argument(
            f"--also-{state}",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help=f"another run of the {state} state on the same machine, to tell speed from noise; repeatable",
        )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="the new run was meant to leave things out: models, tests and figures that it lacks are only noted; a "
        "variant that one of its models no longer has is missing nevertheless",
    )
    parser.add_argument("--format", choices=list(WRITERS), default="text", help="default: %(default)s")


def diff(options: argparse.Namespace, formats: Formats) -> int:
    """Compare and print; returns the exit code: 0 nothing regressed, 1 something did, 2 unusable input.

    ``formats`` tell which artifacts are made for one GPU.
    """
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
    return FAILED if difference.regressed else DONE


def _work(options: argparse.Namespace, _: Call) -> int:
    return diff(options, format_facts())


COMMAND = Command(
    "diff",
    "compare two runs",
    "Compare two results of pytest --report=DIR (DIR/conformance.json): what got slower, less accurate, larger, newly "
    "skipped or failing, or is missing; and what got better.",
    _options,
    _work,
    "exit code: 0 nothing regressed, 1 something did, 2 a file or option cannot be used (docs/history.md)",
)
