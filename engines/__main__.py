"""The line ``python -m engines``: hands over to the commands of ``python -m commands`` that make engines."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from commands import build, command, describe, export_csv, export_triton, list_models, train


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    return command.main(
        [
            train.COMMAND,
            build.COMMAND,
            export_csv.COMMAND,
            export_triton.COMMAND,
            list_models.COMMAND,
            describe.COMMAND,
        ],
        "python -m engines",
        "Make and inspect the engines of a model under test: SavedModel, ONNX, TFLite and TensorRT.",
        words,
    )


if __name__ == "__main__":
    sys.exit(main())
