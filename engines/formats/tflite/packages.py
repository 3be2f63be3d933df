"""The packages that run TFLite files; TensorFlow makes them."""

from __future__ import annotations

from importlib import util

from engines.tools import installed_version

PACKAGES = {"ai-edge-litert": ("ai-edge-litert",)}


def unavailable() -> str | None:
    """Why TFLite models cannot be run here; None where they can."""
    if util.find_spec("ai_edge_litert") is None:
        return "LiteRT is not installed (pip install -r requirements.txt)"
    return None


def version() -> str | None:
    """LiteRT's version, without importing it; None where it is not installed."""
    return installed_version(*PACKAGES["ai-edge-litert"])
