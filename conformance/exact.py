"""Sums of floating-point numbers that hang on no order: whole numbers, which are rounded once, at the end.

``a + b + c`` rounds after every step, so that the order of the terms shows in the last bits, and so does where a list
was cut. A float64 is a whole multiple of 2^-1074, though. Cut into digits of BITS bits at fixed places, numbers are
whole in every place, and whole numbers add up exactly: in any order, in any parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST = -1074
"""The exponent of the smallest float64: all others are multiples of it."""

BITS = 24
"""Bits of a digit: 2^29 of them add up exactly in a float64."""

HIGH, LOW = 27, 26
"""Bits of the two parts of a float64's mantissa."""

BLOCK = 1 << 14
"""How many numbers are cut at once: what they are cut into stays in the processor's cache."""

FEW = 32
"""No more numbers than these are faster summed up one by one."""

Columns = Mapping[int, "NDArray[np.int64]"]
"""Sums of the digits at each place that has any, place by place: one sum for each column."""


def _digits(values: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Places and the whole digits (float64) there, so that values are the sum of digit · 2^(LEAST + BITS · place)."""
    rest = values.astype(np.float64)
    while largest := float(np.abs(rest).max(initial=0.0)):
        place = (math.frexp(largest)[1] - 1 - LEAST) // BITS
        unit = math.ldexp(1.0, LEAST + BITS * place)
        # Division by a power of two is exact, but below the smallest number, which is no whole digit anyway.
        digit = np.trunc(rest / unit)
        yield place, digit
        rest -= digit * unit


def total(values: NDArray[Any]) -> int:
    """Exact sum of finite numbers of any shape, in multiples of 2^LEAST."""
    flat = values.reshape(-1)
    if len(flat) <= FEW:
        ratios = [number.as_integer_ratio() for number in flat.astype(np.float64).tolist()]
        return sum(above << (1 - LEAST - below.bit_length()) for above, below in ratios)
    return sum(_of_block(flat[start : start + BLOCK]) for start in range(0, len(flat), BLOCK))


def _of_block(values: NDArray[Any]) -> int:
    """The same of a block: whole mantissas, cut in two, are summed up by their exponent."""
    mantissas, exponents = np.frexp(values.astype(np.float64))
    mantissas *= 1 << HIGH
    high = np.trunc(mantissas)
    mantissas -= high
    mantissas *= 1 << LOW
    least = int(exponents.min())
    exponents -= least
    # Sums of so few numbers of 27 bits are whole, and exact, in float64.
    sums = zip(np.bincount(exponents, high).tolist(), np.bincount(exponents, mantissas).tolist(), strict=True)
    found = 0
    for place, (above, below) in enumerate(sums, least - HIGH - LOW - LEAST):
        whole = (int(above) << LOW) + int(below)
        found += whole << place if place >= 0 else whole >> -place
    return found


def mean(sum_: int, count: int) -> float:
    """Mean of ``count`` numbers by their :func:`total`, rounded once (to the nearest float64)."""
    return sum_ / (count << -LEAST)


def columns(values: NDArray[Any]) -> dict[int, NDArray[np.int64]]:
    """Exact sums over the first axis of finite numbers (N, columns)."""
    found: dict[int, NDArray[np.int64]] = {}
    rows = max(1, BLOCK // max(values.shape[1], 1))
    for start in range(0, len(values), rows):
        part = {p: digit.sum(axis=0).astype(np.int64) for p, digit in _digits(values[start : start + rows])}
        found = added(found, part)
    return found


def added(one: Columns, other: Columns) -> dict[int, NDArray[np.int64]]:
    """Sums of the columns of both."""
    found = dict(one)
    for place, sums in other.items():
        found[place] = found[place] + sums if place in found else sums
    return found


def whole(sums: Columns, count: int) -> list[int]:
    """Sums of so many columns, in multiples of 2^LEAST."""
    found = [0] * count
    for place, digits in sums.items():
        found = [sum_ + (digit << BITS * place) for sum_, digit in zip(found, digits.tolist(), strict=True)]
    return found


def rounded(sums: Columns, count: int) -> NDArray[np.float64]:
    """Sums (columns,) of so many columns as float64, the same whatever parts they came from."""
    # From the smallest place on: every order would do, as long as it is always the same.
    found = np.zeros(count)
    for place in sorted(sums):
        found += sums[place] * math.ldexp(1.0, LEAST + BITS * place)
    return found
