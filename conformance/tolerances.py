"""The tolerance table: one row for each format, precision and kind of input.

The rows are read from the ``tolerances.toml`` of formats.

A row states for every figure what is allowed beside the worst that was seen, and why. A model may override figures of
a row in its own TOML file, under ``[tolerances.<variant>.<kind of input>]``, with a ``why`` of its own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.compare import FIGURES, Tolerance
from conformance.shown import shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = "tolerances.toml"
"""The name of the files that hold the rows, each beside its format."""

INPUT_KINDS = ("samples", "stress")
"""Real samples; and stress: the contrast set and drawn inputs, which no model was trained or calibrated on."""

BATCHING = "batching"
"""The key of what batching may do: one pair for all kinds of input."""

HEADROOM = 4.0
"""Nothing allows more than this many times the worst that was seen."""


FLOORS: Mapping[str, Mapping[str, float]] = {
    "samples": {"max": 0.0, "mean": 0.0, "kl": 1e-9, "margin": 0.0, "flips": 0.01, "sum": 1e-5},
    "stress": {"max": 0.0, "mean": 0.0, "kl": 1e-9, "margin": 0.0, "flips": 1.0, "sum": 1e-5},
}
"""What may be allowed whatever was seen, because the figure is zero or a count on a sound engine.

``kl``: what float32 rounding of the probabilities gives by itself. ``margin`` may also be as large as ``max``: a
difference of that size flips a class that leads by no more. ``flips``: one of a hundred samples; drawn inputs may
come singly, where one flip is all, so there the margin decides. ``sum``: ten float32 roundings (each at most 2^-24)
with room for other orders.
"""


class ToleranceError(Exception):
    """A row is missing, incomplete, or allows more than its measurement bears."""


@dataclass(frozen=True)
class Row:
    """One row: what is allowed, and for each figure the worst that was seen."""

    tolerance: Tolerance
    seen: Mapping[str, float]


Table = Mapping[str, Any]
"""The rows' content by their names: ``onnx-int8``."""


def read_table(path: Path) -> Table:
    """Rows of a file, by name; raises ToleranceError where it is no TOML."""
    try:
        with path.open("rb") as file:
            table: Table = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ToleranceError(f"{path}: cannot be read: {error}; allowed: one table for each row") from error
    return table


def row(
    table: Table, name: str, kind: str, overrides: Mapping[str, Mapping[str, Any]] | None = None, source: str = ""
) -> Row:
    """Row of a name for a kind of input, with a model's overrides applied.

    ``source`` names the file that the overrides come from. Raises ToleranceError where there is no such row, a figure
    is unknown or not ``[allowed, seen]``, an override has no ``why``, or more is allowed than the headroom.
    """
    if kind not in INPUT_KINDS:
        raise ToleranceError(f"kind of input {kind!r}; allowed: {', '.join(INPUT_KINDS)}")
    if name not in table:
        raise ToleranceError(f"{TABLE} has no row for {shown(name)}; it has {', '.join(sorted(table))}")
    figures = dict(_read(table[name], kind, TABLE, name))
    for other in overrides or {}:
        if other not in table:
            raise ToleranceError(
                f"{source}: tolerances.{other} is for no known variant; allowed: {', '.join(sorted(table))}"
            )
    changed = (overrides or {}).get(name, {})
    if changed:
        figures |= _read(changed, kind, source, f"tolerances.{name}")
    if missing := [f for f in (*FIGURES, "why") if f not in figures]:
        raise ToleranceError(f"{TABLE}: {name}.{kind} lacks {', '.join(missing)}")
    why = figures.pop("why")
    return Row(
        Tolerance(**{figure: float(pair[0]) for figure, pair in figures.items()}, why=why),
        {figure: float(pair[1]) for figure, pair in figures.items()},
    )


def batching(
    table: Table, name: str, overrides: Mapping[str, Mapping[str, Any]] | None = None, source: str = ""
) -> tuple[float, float]:
    """Largest change of an output by batching that is allowed, and that was seen; zero asks for bitwise equality.

    Raises ToleranceError as :func:`row` does.
    """
    row(table, name, INPUT_KINDS[0], overrides, source)
    content = (overrides or {}).get(name, {})
    where = source if BATCHING in content else TABLE
    pair = content.get(BATCHING, table[name].get(BATCHING))
    if not (isinstance(pair, list) and len(pair) == 2 and all(type(v) in {int, float} for v in pair)):
        raise ToleranceError(f"{where}: {name}.{BATCHING} is {shown(pair)}; allowed: [allowed, seen]")
    allowed, seen = float(pair[0]), float(pair[1])
    if not 0 <= seen <= allowed <= HEADROOM * seen < math.inf:
        raise ToleranceError(
            f"{where}: {name}.{BATCHING} is {shown(pair)}; "
            f"allowed: 0 ≤ seen ≤ allowed ≤ {HEADROOM:g} times seen, finite"
        )
    return allowed, seen


def _read(content: Mapping[str, Any], kind: str, source: str, key: str) -> dict[str, Any]:
    """Read the figures of one kind of input, and the reason; each figure is [allowed, seen]."""
    if unknown := sorted(set(content) - {*INPUT_KINDS, BATCHING, "why"}):
        raise ToleranceError(
            f"{source}: unknown key {key}.{unknown[0]}; allowed: {', '.join(INPUT_KINDS)}, {BATCHING}, why"
        )
    why = content.get("why")
    if not isinstance(why, str) or not why.strip():
        raise ToleranceError(f"{source}: {key}.why is {shown(why)}; allowed: the reason for this row, in words")
    result: dict[str, Any] = {"why": why}
    figures = content.get(kind, {})
    if not isinstance(figures, dict):
        raise ToleranceError(
            f"{source}: {key}.{kind} is {shown(figures)}; allowed: a table of figures, {', '.join(FIGURES)}"
        )
    # The largest first: the margin may be as much.
    for name, pair in sorted(figures.items(), key=lambda item: item[0] != "max"):
        where = f"{source}: {key}.{kind}.{name} is {shown(pair)}"
        if name not in FIGURES:
            raise ToleranceError(f"{source}: unknown figure {key}.{kind}.{name}; allowed: {', '.join(FIGURES)}")
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(v) in {int, float} for v in pair)):
            raise ToleranceError(f"{where}; allowed: [allowed, seen]")
        allowed, seen = pair
        if not 0 <= seen <= allowed < math.inf:
            raise ToleranceError(f"{where}; allowed: 0 ≤ seen ≤ allowed, both finite")
        anyway = result["max"][0] if name == "margin" and "max" in result else FLOORS[kind][name]
        if allowed > HEADROOM * seen and allowed > anyway:
            raise ToleranceError(
                f"{where}; allowed: at most {HEADROOM:g} times what was seen, or up to {anyway:g} anyway"
            )
        result[name] = pair
    return result
