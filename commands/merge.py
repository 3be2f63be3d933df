"""``python -m commands merge``: join the results of machines that share nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from commands.command import DONE, FAILED, UNUSABLE, Call, Command
from conformance.history.files import HistoryError, read_results
from conformance.merge import WRITERS, merge


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS.json", help="results, one of each device")
    parser.add_argument("--format", choices=list(WRITERS), default="text", help="default: %(default)s")


def _work(options: argparse.Namespace, _: Call) -> int:
    try:
        if twice := {str(path) for path in options.results if options.results.count(path) > 1}:
            raise HistoryError(f"{min(twice)} is given twice; allowed: each once")
        matrix = merge({str(path): read_results(path) for path in options.results})
    except HistoryError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    print(WRITERS[options.format](matrix))
    return DONE if matrix.status == "passed" else FAILED


COMMAND = Command(
    "merge",
    "join results of several devices",
    "Join results of pytest --report=DIR (DIR/conformance.json) of machines that share nothing, one for each device, "
    "into a matrix of variants and devices.",
    _options,
    _work,
    "exit code: 0 all passed, and every variant was tested somewhere; 1 not so; 2 a file cannot be used",
)
