"""The packages that make and run SavedModels."""

from __future__ import annotations

import os
from importlib import util
from typing import Any

from engines.tools import installed_version

PACKAGES = {"tensorflow": ("tensorflow-cpu", "tensorflow"), "keras": ("keras",)}


def unavailable() -> str | None:
    """Why SavedModels cannot be made or run here; None where they can."""
    if util.find_spec("tensorflow") is None:
        return "TensorFlow is not installed (pip install -r requirements.txt)"
    return None


def version() -> str | None:
    """TensorFlow's version, without importing it; None where it is not installed."""
    return installed_version(*PACKAGES["tensorflow"])


def tensorflow() -> Any:
    """Import TensorFlow with its start-up chatter off (a user's own setting of it wins)."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    return tf
