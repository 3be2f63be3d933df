"""Version-compatible plans, the format ``tensorrt-vc``: built by TensorRT 8.6, and run by it and by newer runtimes.

The runner is TensorRT's own (engines/tensorrt/runner.py), on whichever runtime is installed.
"""

from __future__ import annotations

from engines.tensorrt import build, cannot_run, versions

FILE = build.PLAN


def unavailable() -> str | None:
    """Say why version-compatible plans cannot be run here; None where they can, built here or not."""
    return cannot_run()


def version() -> str | None:
    """Give the version and kind of the runtime, without importing it; None where none is installed."""
    found = versions.installed()
    return f"{found} ({versions.kind()} runtime)" if found else None
