"""The error of a twin that cannot be made or run."""

from __future__ import annotations

from engines.errors import EngineError


class TwinError(EngineError):
    """The model has no twin; one line says why."""
