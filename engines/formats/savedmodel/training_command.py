"""Training in a process of its own: ``python -m engines.formats.savedmodel.training_command FILE.toml WEIGHTS.npz``."""

from __future__ import annotations

import sys
from pathlib import Path

from engines.errors import EngineError
from engines.formats.savedmodel import training
from engines.model.datasets import locate
from engines.model.toml import load_model


def main(description: Path, weights: Path) -> int:
    """Train the described architecture and write its weights; returns the exit code."""
    try:
        spec = load_model(description)
        item = spec.inputs[0]
        data = locate(spec.dataset, input_name=item.name, value_range=item.range)
        model, _ = training.train(spec, data.train(), data.test(), verbose=False)
        training.save_weights(model, weights)
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
