"""Values that vanish in a step of INT8, as a mask of minus a billion makes those that it is added to vanish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engines.inside import operation


@dataclass(frozen=True)
class Held:
    """What one tensor of integers can hold: least and largest number; ``constant`` where the file has its values."""

    name: str
    least: float
    most: float
    constant: bool = False

    @property
    def furthest(self) -> float:
        """The end of its range that is further from zero."""
        return max(self.least, self.most, key=abs)


@dataclass(frozen=True)
class Swamped:
    """An operator that puts two tensors into one with a step of INT8 in which all of ``lost`` is the same number."""

    operator: str
    name: str
    step: float
    by: Held
    lost: Held

    def __str__(self) -> str:
        """One sentence with what to do."""
        return (
            f"{self.by.furthest:.3g} in '{operation(self.by.name)}' takes the whole INT8 range of {self.operator} "
            f"'{operation(self.name)}', whose step is {self.step:.2g}: all that '{operation(self.lost.name)}' can hold "
            f"({self.lost.least:.3g} to {self.lost.most:.3g}) is less than a step, and vanishes; before a "
            "softmax a mask of -30 does as much, and all else is to be kept in float"
        )


def swamped(operator: str, name: str, step: float, inputs: Sequence[Held]) -> Iterator[Swamped]:
    """Inputs of an operator that are less than one step of its result, where another one is why it is so coarse.

    A constant may be as small as it likes: it is there so that nothing is divided by zero.
    """
    for lost in inputs:
        for by in inputs:
            if not lost.constant and lost.most - lost.least < step and by.most - by.least >= STEPS / 2 * step:
                yield Swamped(operator, name, step, by, lost)


STEPS = 255
"""How many steps eight bits have."""
