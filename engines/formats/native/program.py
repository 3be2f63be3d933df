"""The C++ programs, built from the sources beside this file: where they are, and whether they can run here.

Each one runs TensorRT plans of its major version: ``trt8_infer`` those of the format ``tensorrt``, ``trt10_infer``
version-compatible ones (``tensorrt-vc``).
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engines.formats.tensorrt import build, driver, versions

ROOT = Path(__file__).resolve().parents[3]

FOLDER = ROOT / "build" / "native"
"""Where CMake puts the programs."""

BUILD_COMMAND = "cmake -S engines/native -B build/native && cmake --build build/native"

_TOLD = re.compile(r"TensorRT (?P<tensorrt>\S+) \((?P<library>\w+); headers \S+\), CUDA runtime (?P<cuda>\d+)\.\d+")


@dataclass(frozen=True)
class Told:
    """What a program tells of itself: its TensorRT library and its version, the major version of its CUDA runtime."""

    tensorrt: str
    library: str
    cuda: int


@cache
def told(path: Path) -> Told | None:
    """Ask a program for its versions; None where it does not start or says something else: running it tells why."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    found = _TOLD.search(done.stdout) if done.returncode == 0 else None
    return Told(found["tensorrt"], found["library"], int(found["cuda"])) if found else None


@dataclass(frozen=True)
class Program:
    """A C++ program: the format it stands for, its file name, and the TensorRT that it is linked with."""

    format: str
    name: str
    tensorrt: str
    allow_host_code: bool
    FILE: str = build.PLAN

    @property
    def variable(self) -> str:
        """The environment variable that names the program, where it is not where CMake puts it."""
        return self.name.upper()

    @property
    def path(self) -> Path:
        """Where the program is: what the environment variable names, or ``build/native`` in this project."""
        return Path(os.environ.get(self.variable) or FOLDER / self.name)

    def unavailable(self) -> str | None:
        """Why the program cannot run here; None where it can.

        A program that the environment variable names is asked for, so that its absence is an error of the runner.
        """
        if not os.environ.get(self.variable) and not self.path.is_file():
            return f"{self.name} is not built ({BUILD_COMMAND}; or name it by {self.variable})"
        if reason := driver.problem(versions.driver_needed(12)):
            return reason
        # A program that was built with a newer CUDA than the wheels' needs a driver of that major version.
        told_of = told(self.path)
        return driver.problem(told_of.cuda * 1000) if told_of else None

    def version(self) -> str:
        """Version of its TensorRT, which library that is, and where the program is."""
        told_of = told(self.path)
        return f"{told_of.tensorrt} ({told_of.library}, {self.path})" if told_of else f"{self.tensorrt} ({self.path})"


PROGRAMS = {
    "cpp8": Program("cpp8", "trt8_infer", "8", allow_host_code=False),
    "cpp10": Program("cpp10", "trt10_infer", "10", allow_host_code=True),
}
"""The programs by format. Plans of ``cpp10`` carry the lean runtime of their builder: host code, to be allowed."""
