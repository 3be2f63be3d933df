"""SavedModel: exported with Keras or brought by the user, run through its signature under test.

This is the reference: every other format is compared with what comes out here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.errors import ConversionError
from engines.formats.savedmodel.packages import tensorflow

FILE = "saved_model"
"""The folder inside the artifact that is the SavedModel."""


def build_savedmodel(model: Any, folder: Path) -> dict[str, Any]:
    """Export a Keras model (its outputs a dict by name) to ``folder/saved_model``; returns details for the record.

    Raises ConversionError where the export lacks the ``serving_default`` signature that everything else relies on.
    """
    target = folder / FILE
    model.export(str(target), format="tf_saved_model", verbose=False)
    signatures = list(tensorflow().saved_model.load(str(target)).signatures)
    if "serving_default" not in signatures:
        raise ConversionError(f"Keras exported a SavedModel with the signatures {signatures}; expected serving_default")
    return {"signature": "serving_default", "parameters": int(model.count_params())}
