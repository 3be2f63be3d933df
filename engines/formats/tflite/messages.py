"""What TFLite's converter met, in a line."""

from __future__ import annotations

from typing import Any

SHOWN = 3
"""How many operators are named; a table of words alone is three."""


def met(error: Exception) -> str | None:
    """Operators that could not be converted, each with its layer, and the reason of the first; None where unknown.

    A ConverterError lists what it met; the text of the error is that with the whole stack, or nothing.
    """
    found: dict[str, list[str]] = {}
    for one in getattr(error, "errors", []):
        if layer := _layer(one):
            named = f"{one.operator.name.removeprefix('tf.')} of layer {layer!r}"
            found.setdefault(named, []).append(one.error_message.strip().splitlines()[0])
    if not found:
        return None
    reasons = next(iter(found.values()))
    # The last is what stopped it; those before say that it is not legal, in one way or another.
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{', '.join(list(found)[:SHOWN])}{more} ({reasons[-1]})"


def _layer(one: Any) -> str:
    """Name of the layer that an operator comes from, without the functions that are called on the way."""
    return next((str(call.name).partition("@")[0] for call in one.location.call if call.name), "")
