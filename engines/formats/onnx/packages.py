"""The packages that make and run ONNX files."""

from __future__ import annotations

from importlib import util

from engines.tools import installed_version

PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "onnx": ("onnx",),
    "tf2onnx": ("tf2onnx",),
}


def unavailable() -> str | None:
    """Why ONNX models cannot be run here; None where they can."""
    if util.find_spec("onnxruntime") is None:
        return "ONNX Runtime is not installed (pip install -r requirements.txt)"
    return None


def version() -> str | None:
    """ONNX Runtime's version, without importing it; None where it is not installed."""
    return installed_version(*PACKAGES["onnxruntime"])
