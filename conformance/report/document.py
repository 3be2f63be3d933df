"""The document of a run: its schema, its version, its rows, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Document = Mapping[str, Any]
"""What ``conformance.schema.json`` describes."""

SCHEMA = Path(__file__).with_name("conformance.schema.json")

SCHEMA_VERSION = 2
"""The version that ``conformance.schema.json`` describes."""

WIDTH = 118
"""What fits in this many characters stands on one line, so that tables of numbers stay readable and small."""


def schema() -> dict[str, Any]:
    """Read the JSON schema of the document."""
    content: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return content


def any_of(rows: Sequence[Mapping[str, Any]], variant: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows that belong to a variant, in their order."""
    return [r for r in rows if r["model"] == variant["model"] and r["variant"] == variant["variant"]]


def name_of(document: Document, row: Mapping[str, Any]) -> str:
    """Name of a row's variant, and of its model where several are under test."""
    return f"{row['variant']} of {row['model']}" if len(document["models"]) > 1 else str(row["variant"])


def throttled(document: Document) -> dict[str, list[str]]:
    """What throttled the timing of variants, in words that name the batches, by the variant's name."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in document["benchmarks"]:
        # Not in results of earlier versions.
        for what in row.get("throttled", ()):
            found.setdefault(name_of(document, row), {}).setdefault(what, []).append(f"{row['batch']:,}")
    return {name: [f"at batch {', '.join(b)}: {what}" for what, b in of.items()] for name, of in found.items()}


def as_json(document: Any) -> str:
    """Write a document as JSON for programs and people; ValueError for a number that is not finite."""
    return _written(document, 0) + "\n"


def _written(value: Any, depth: int) -> str:
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if len(line) + depth <= WIDTH or not isinstance(value, (dict, list)):
        return line
    inner = " " * (depth + 1)
    if isinstance(value, dict):
        rows = [f"{json.dumps(k, ensure_ascii=False)}: {_written(v, depth + 1)}" for k, v in value.items()]
        first, last = "{", "}"
    else:
        rows = [_written(v, depth + 1) for v in value]
        first, last = "[", "]"
    return first + "\n" + ",\n".join(inner + row for row in rows) + "\n" + " " * depth + last
