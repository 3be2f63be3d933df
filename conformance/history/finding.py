"""What a comparison of two runs finds: one entry for each thing that changed; and how it names variants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Key = tuple[str, str]
"""A model's name and a variant's."""

REGRESSION, IMPROVEMENT, NOTE = "regression", "improvement", "note"
"""The kinds: what makes a comparison fail, what got better or is new, and what is only said."""


@dataclass(frozen=True)
class Finding:
    """One change: of which kind, what happened to what, from which value to which, by how much, and why it counts."""

    kind: str
    what: str
    subject: str
    old: str
    new: str
    change: str
    why: str


def named(model: str | None, variant: str | None) -> str:
    """Name of a variant of a model as everywhere, or the suite's own tests, which have none."""
    return "-".join(part for part in (model, variant) if part) or "the suite's own tests"


def by_variant(entries: Iterable[Mapping[str, Any]]) -> dict[Key, Mapping[str, Any]]:
    """Index entries of a report by model and variant."""
    return {(entry["model"], entry["variant"]): entry for entry in entries}
