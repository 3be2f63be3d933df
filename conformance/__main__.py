"""The command line: ``python -m conformance --help``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from conformance.history.compare import compare_results
from conformance.history.files import HistoryError, read_results
from conformance.history.show import FORMATS

PASSED, FAILED, UNUSABLE = 0, 1, 2


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        prog="python -m conformance", description="Compare runs of the suite, and judge what other programs answered."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _describe_diff(commands)
    _describe_check_csv(commands)
    return top


def _describe_diff(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
        "--partial", action="store_true", help="the new run was meant to leave tests out: what it lacks is only noted"
    )
    diff.add_argument("--format", choices=list(FORMATS), default="text", help="default: %(default)s")


def _describe_check_csv(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser(
        "check-csv",
        help="judge the predictions that a program wrote as CSV",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compare a program's predictions (sample_id,class,confidence,p_0,…) with the SavedModel's answers\n"
        "to the samples that `python -m engines export-csv` wrote, by the tolerance of a variant.",
        epilog="example:\n"
        "  python -m engines export-csv cifar10_vgg --output exchange\n"
        "  trt8_infer --plan model.plan --csv exchange/test_samples.csv --output predictions.csv --json report.json\n"
        "  python -m conformance check-csv cifar10_vgg predictions.csv --variant tensorrt-fp16 --fed report.json\n\n"
        "exit code: 0 sound, 1 not, 2 a file or option cannot be used (docs/exchange.md)",
    )
    check.add_argument("model", metavar="MODEL", help="a bundled model, or the path of a .toml file")
    check.add_argument("predictions", type=Path, metavar="PREDICTIONS.csv", help="what the program wrote")
    check.add_argument(
        "--variant",
        required=True,
        help="the format and precision that the program ran, such as tensorrt-fp16: what it may differ by",
    )
    check.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="the N of export-csv (default: that of the only export in the artifact folder)",
    )
    check.add_argument(
        "--fed",
        type=Path,
        metavar="REPORT.json",
        help="the program's --json: proves by its fed_sha256 that the exported samples were fed",
    )
    check.add_argument(
        "--artifacts",
        type=Path,
        default=Path("build"),
        metavar="DIR",
        help="the artifact folder of export-csv (default: %(default)s)",
    )
    check.add_argument(
        "--cifar10-dir",
        type=Path,
        metavar="DIR",
        help="folder of CIFAR-10, python or binary layout (default: $CIFAR10_DIR)",
    )


def _diff(options: argparse.Namespace) -> int:
    try:
        old, new = (
            [read_results(path) for path in (first, *others)]
            for first, others in ((options.old, options.also_old), (options.new, options.also_new))
        )
        difference = compare_results(old, new, partial=options.partial)
    except HistoryError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    print(FORMATS[options.format](difference))
    return FAILED if difference.regressed else PASSED


def _check_csv(options: argparse.Namespace, replay: str) -> int:
    # Here, for it alone needs engines/ and samples: reports are compared where there is neither.
    from conformance.check_csv import Request, UnusableError, check

    chosen = {name: value for name, value in vars(options).items() if name != "command"}
    try:
        verdict = check(Request(**chosen, replay=replay))
    except UnusableError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    print(verdict.text)
    return PASSED if verdict.passed else FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 nothing is wrong, 1 something is, 2 unusable input."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parser().parse_args(words)
    if options.command == "diff":
        return _diff(options)
    return _check_csv(options, shlex.join(["python", "-m", "conformance", *words]))


if __name__ == "__main__":
    sys.exit(main())
