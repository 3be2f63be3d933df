"""Programs that need TensorFlow, each in a process of its own that has it from the start: loading it takes seconds."""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engines.formats.savedmodel.apart import context


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code, minus the signal's number where that ended it, and all that it printed."""

    code: int
    printed: str


def program(module: str, words: Sequence[str], environment: Mapping[str, str]) -> Ended:
    """Run a module as ``python -m`` does, with these words behind it and these variables set beside the others."""
    with tempfile.NamedTemporaryFile(prefix="printed-") as printed:
        process = context().Process(target=_run, args=(printed.name, module, list(words), dict(environment)))
        process.start()
        process.join()
        return Ended(process.exitcode, printed.read().decode(errors="replace"))


def _run(printed: str, module: str, words: list[str], environment: dict[str, str]) -> None:
    with open(printed, "wb") as file:  # noqa: PTH123 - its number is what is wanted
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.update(environment)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
