"""Parameters of a test, of which a few are for every change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def few(values: Iterable[Any], *kept: Any) -> list[Any]:
    """All values, those that are not ``kept`` with the mark ``slow``; raises ValueError where a kept one is missing."""
    found = list(values)
    if unknown := [value for value in kept if value not in found]:
        raise ValueError(f"{unknown[0]!r} is none of the values")
    return [value if value in kept else pytest.param(value, marks=pytest.mark.slow) for value in found]
