"""How a report writes numbers for a person."""

from __future__ import annotations

LOUD = 100
"""A ratio above this is only said to be above: a figure whose tolerance is tiny would shout down those that matter."""


def number(value: float | None, digits: int = 2) -> str:
    """Write a number for a person: plain where it is short (0.042, 3.1, 1,316), else with an exponent (8.9e-06)."""
    if value is None:
        return "not finite"
    if value == 0:
        return "0"
    # What is shown decides on the form: 999.7 is shown as 1,000, and not with an exponent.
    rounded = float(f"{value:.{digits - 1}e}")
    if not 1e-3 <= abs(rounded) < 1e7:
        return f"{value:.{digits - 1}e}"
    return f"{rounded:,.{digits}g}" if abs(rounded) < 10**digits else f"{value:,.0f}"


def apart(found: float | None, allowed: float, digits: int = 2) -> tuple[str, str]:
    """Write what was found and what is allowed, with as many digits as tell the two apart."""
    while number(found, digits) == number(allowed, digits) and found != allowed:
        digits += 1
    return number(found, digits), number(allowed, digits)


def duration(seconds: float) -> str:
    """Write ``42 s`` or, from two minutes on, ``3 min 0 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes > 1 else f"{round(seconds)} s"


def plural(count: int, word: str) -> str:
    """Write ``1 test`` or ``3 tests``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def percent(part: int, whole: int) -> str:
    """Write a share in percent; one that is not quite all or not quite nothing is never rounded to that."""
    share = 100 * part / whole
    near = part not in {0, whole} and not 0.05 <= share < 99.95
    return (
        f"{share:.0f} %"
        if part in {0, whole}
        else f"{min(max(share, 0.01), 99.99) if near else share:.{2 if near else 1}f} %"
    )


def ratio(value: float) -> str:
    """Write found over allowed, such as ``0.26 ×``; a value that rounds to one is not rounded to the other side."""
    if value > LOUD:
        return f"> {LOUD} ×"
    if value >= 10:
        return f"{value:.0f} ×"
    places = 2
    while places < 15 and value != 1 and float(f"{value:.{places}f}") == 1:
        places += 1
    return f"{value:.{places}f} ×"
