"""Samples over the time of a run, in bounded memory: the longer it lasts, the more samples share a row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

MOST_ROWS = 240
"""So many rows at most, and half as many at least once there were so many: what a chart can show."""


@dataclass
class Spread:
    """Least, mean and largest of some values."""

    count: int
    least: float
    total: float
    most: float

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return self.total / self.count

    def with_(self, other: Spread) -> Spread:
        """Both together."""
        return Spread(
            self.count + other.count,
            min(self.least, other.least),
            self.total + other.total,
            max(self.most, other.most),
        )


@dataclass
class Row:
    """What was read between two times, in seconds since the run began; ``throttled`` names what throttled then."""

    start: float
    end: float
    spreads: Sequence[Spread | None]
    throttled: Collection[str] = ()
    samples: int = 1

    def with_(self, other: Row) -> Row:
        """Both together; ``other`` comes after."""
        pairs = zip(self.spreads, other.spreads, strict=True)
        spreads = [a.with_(b) if a and b else a or b for a, b in pairs]
        throttled = {*self.throttled, *other.throttled}
        return Row(self.start, other.end, spreads, throttled, self.samples + other.samples)


@dataclass
class Series:
    """The rows of a run. Where they become too many, each two neighbours become one, and later rows hold as much."""

    most: int = MOST_ROWS
    rows: list[Row] = field(default_factory=list)
    each: int = 1

    def add(self, start: float, end: float, values: Sequence[float | None], throttled: Collection[str] = ()) -> None:
        """Take in one sample."""
        row = Row(start, end, [None if v is None else Spread(1, v, v, v) for v in values], throttled)
        if self.rows and self.rows[-1].samples < self.each:
            self.rows[-1] = self.rows[-1].with_(row)
            return
        if len(self.rows) == self.most:
            pairs = zip(self.rows[::2], self.rows[1::2], strict=True)
            self.rows = [first.with_(second) for first, second in pairs]
            self.each *= 2
        self.rows.append(row)
