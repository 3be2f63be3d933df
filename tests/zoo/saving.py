"""SavedModels and samples, written where an entry's folder wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL, SAMPLES = "model", "samples.npz"


def save_keras(model: Any, folder: Path) -> None:
    """Export a Keras model as users do, to ``folder/model``; its outputs keep the names of a dictionary."""
    model.export(str(folder / MODEL), verbose=False)


def save_module(module: Any, folder: Path, **signatures: Any) -> None:
    """Save a tf.Module to ``folder/model`` with the signatures given; with none, its call is ``serving_default``."""
    import tensorflow as tf

    chosen = signatures or {"serving_default": module.__call__}
    tf.saved_model.save(module, str(folder / MODEL), signatures=chosen)


def save_samples(folder: Path, **arrays: NDArray[Any]) -> None:
    """Write samples by input name, and ``labels`` where there are any, to ``folder/samples.npz``."""
    np.savez(folder / SAMPLES, **arrays)
