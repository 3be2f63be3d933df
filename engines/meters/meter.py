"""What a meter is, and what throttles: the words that the other modules of this package share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class MeterError(Exception):
    """A meter cannot be read any more; the message names it and says what was found."""


@dataclass(frozen=True)
class Quantity:
    """What a meter reads: name and unit; ``of`` is the GPU, such as ``GPU 0``, and None for the processes."""

    name: str
    unit: str
    of: str | None = None


class Count(NamedTuple):
    """How often something was throttled so far, and of how many ``units``; ``of`` is None where nobody counts those."""

    seen: int
    of: int | None
    units: str

    def since(self, first: Count | None) -> Count:
        """What was added to an earlier count; all of it where there is none."""
        if first is None:
            return self
        return Count(self.seen - first.seen, None if self.of is None else self.of - (first.of or 0), self.units)

    def __str__(self) -> str:
        """Words for a person."""
        return f"{self.seen:,} {self.units}" if self.of is None else f"in {self.seen:,} of {self.of:,} {self.units}"


class Meter(Protocol):
    """Something that can be read again and again."""

    @property
    def quantities(self) -> Sequence[Quantity]:
        """What a reading holds, in its order."""

    def read(self) -> Sequence[float | None]:
        """One value for each quantity, None where this machine has none; raises MeterError."""

    def close(self) -> None:
        """Let go of what the meter holds."""


class Brake(Protocol):
    """Something that throttles processor or GPU, and counts it."""

    def counts(self) -> Mapping[str, Count]:
        """How often it has throttled so far, by what it is called for a person; raises MeterError."""
