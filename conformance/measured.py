"""Write rows of tolerances from what was measured, as TOML that a model's own file takes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from math import inf

from conformance.compare import FIGURES, KINDS
from conformance.reach import reach
from conformance.tolerances import BATCHING, FLOORS, HEADROOM, TABLE, Table, batching, row

Seen = Mapping[str, Mapping[str, float]]
"""The worst that was seen, by kind of input and figure."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def beyond(table: Table, variant: str, seen: Seen, moved: float) -> list[str]:
    """Figures that are more than a variant's row of the table allows; ``moved`` is by what batching moved."""
    found = []
    for kind, figures in seen.items():
        allowed = row(table, variant, kind).tolerance
        found += [f"{kind} {name}" for name, value in figures.items() if value > getattr(allowed, name)]
    return found + ([BATCHING] if moved > batching(table, variant)[0] else [])


def toml_rows(table: Table, variant: str, seen: Seen, moved: float, kinds: Collection[str] = KINDS) -> str:
    """Write the rows of a variant (its key in the table), each figure as [allowed, seen].

    ``kinds`` are those of the model's outputs: nothing allows more than their figures can reach.
    Rows that the model does not need are comments themselves. The reason is for whoever looked at them to write: the
    file is refused without.
    """
    most = {figure: inf if (known := reach(figure, kinds)) is None else known for figure in (*FIGURES, BATCHING)}
    needed = beyond(table, variant, seen, moved)
    key = variant if _BARE.fullmatch(variant) else json.dumps(variant)
    lines = [f"[tolerances.{key}]", 'why = ""  # say here why this model soundly differs by this much']
    for kind, figures in seen.items():
        pairs = ", ".join(f"{name} = {pair}" for name, pair in _pairs(kind, figures, most).items())
        lines.append(f"{kind} = {{ {pairs} }}")
    lines.append(f"{BATCHING} = {_pair(min(HEADROOM * _shown(moved), max(most[BATCHING], _shown(moved))), moved)}")
    if needed:
        return "\n".join([f"# {variant}: more than {TABLE} allows: {', '.join(needed)}", *lines])
    return "\n".join([f"# {variant}: within {TABLE}, needs no rows of its own", *(f"# {line}" for line in lines)])


def _pairs(kind: str, figures: Mapping[str, float], most: Mapping[str, float]) -> dict[str, str]:
    """Allow four times what was seen, or what may be allowed anyway; never more than answers can reach."""
    anyway = {**FLOORS[kind], "margin": HEADROOM * _shown(figures["max"])}
    allowed = {name: max(HEADROOM * _shown(value), anyway[name]) for name, value in figures.items()}
    return {name: _pair(min(allowed[name], max(most[name], _shown(value))), value) for name, value in figures.items()}


def _shown(value: float) -> float:
    return float(f"{value:.3g}")


def _pair(allowed: float, seen: float) -> str:
    # Four times three digits are four digits: what is written is within the headroom, too.
    return f"[{allowed:.4g}, {seen:.3g}]"
