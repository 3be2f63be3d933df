"""A TFLite file, tried in a process of its own, which a damaged one, or a fault of LiteRT's, can end.

``python -m`` of this module is that process: it takes spec and samples on its input, and answers with a line of JSON.
"""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import RunnerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec

ROOT = Path(__file__).resolve().parents[3]


class EndedError(RunnerError):
    """LiteRT ends the process that loads and runs a file; ``signal`` is the name of what it ends by."""

    def __init__(self, path: Path, signal: str) -> None:
        super().__init__(
            f"{path}: LiteRT ends the process that loads and runs it ({signal}): the file is damaged, or LiteRT has a "
            "fault; expected one that LiteRT runs: convert it again"
        )
        self.signal = signal


def tried(path: Path, spec: ModelSpec, inputs: Mapping[str, NDArray[Any]] | None = None) -> str:
    """Precision that a file is judged as: int8, fp16 or fp32; the file is loaded and run to find it.

    It is run on two made-up samples, and on ``inputs`` by both sets of kernels.
    Raises RunnerError where LiteRT cannot load or run it or its signature is not the spec's, and EndedError where
    LiteRT ends the process.
    """
    command = [sys.executable, "-m", __name__, str(path.resolve())]
    given = pickle.dumps((spec, dict(inputs or {})))
    done = subprocess.run(command, input=given, capture_output=True, cwd=ROOT, check=False)
    if done.returncode < 0:
        raise EndedError(path, signal.Signals(-done.returncode).name)
    if done.returncode:
        raise RuntimeError(f"{path}: it could not be tried: {done.stderr.decode(errors='replace')}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "refused" in answer:
        raise RunnerError(str(answer["refused"]).replace(str(path.resolve()), str(path)))
    return str(answer["precision"])


def main() -> None:
    """Try the file that is named, and print what came of it."""
    from engines.formats.tflite.inspection import inspect, run

    path = Path(sys.argv[1])
    spec, inputs = pickle.load(sys.stdin.buffer)  # of the process that started this one
    try:
        answer = {"precision": inspect(path, spec)}
        if inputs:
            run(path, spec, answer["precision"], inputs)
    except RunnerError as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
