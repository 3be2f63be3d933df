"""The command line: ``python -m commands --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from commands import (
    bench,
    build,
    check_csv,
    command,
    cross_version,
    describe,
    device,
    diff,
    export_csv,
    export_triton,
    list_models,
    measure,
    merge,
    noise,
    train,
)

MODULES = (
    list_models,
    describe,
    train,
    build,
    export_csv,
    export_triton,
    check_csv,
    measure,
    noise,
    diff,
    merge,
    device,
    cross_version,
    bench,
)
COMMANDS = tuple(module.COMMAND for module in MODULES)

OLDER = """\
These lines do the same:
  python -m engines list|describe|train|build|export-csv|export-triton    those names
  python -m fixtures.check_csv                      check
  python -m fixtures.measure                        measure
  python -m conformance diff|merge                  diff, merge
  python -m fixtures.device_results                 device
  python -m fixtures.cross_version                  cross-version"""


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code, 2 where an option or a format's package cannot be used."""
    about = "Make, check, measure and compare the engines of a model under test, without pytest."
    return command.main(COMMANDS, "python -m commands", about, words, OLDER)


if __name__ == "__main__":
    sys.exit(main())
