"""The tolerance rows of every format: its own, or those of the format whose rows it takes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from conformance import tolerances
from conformance.tolerances import Row, Table
from engines.formats import registry

Overrides = Mapping[str, Mapping[str, Any]]


@cache
def table() -> Table:
    """All rows by name: ``onnx-int8``."""
    own = {name: tolerances.read_table(f.tolerances) for name, f in registry.formats().items() if f.rows is None}
    found: dict[str, Any] = {}
    for name, format_ in registry.formats().items():
        theirs = format_.rows or name
        for precision in format_.precisions:
            if (content := own.get(theirs, {}).get(f"{theirs}-{precision}")) is not None:
                found[f"{name}-{precision}"] = content
    return found


def row(name: str, kind: str, overrides: Overrides | None = None, source: str = "") -> Row:
    """Row of a name (``Variant.row_name``) for a kind of input; see :func:`conformance.tolerances.row`."""
    return tolerances.row(table(), name, kind, overrides, source)


def batching(name: str, overrides: Overrides | None = None, source: str = "") -> tuple[float, float]:
    """What batching may move an output by, of a row's name; see :func:`conformance.tolerances.batching`."""
    return tolerances.batching(table(), name, overrides, source)
