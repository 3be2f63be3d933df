"""Where a model's conversion goes wrong: the first layer whose own error is beyond what its precision does there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SHAPE = "shape"
"""The figure of a tensor that has another shape than the model's: it is no number."""


@dataclass(frozen=True)
class Layer:
    """Own error of one tensor: what its layer makes of what it was given, beside what the FP32 graph makes of that.

    ``layer`` is its name for the model's user, ``maker`` what makes it in the file, in words. ``figure`` is the one of
    which most of what is ``allowed`` is ``needed``, as a share of the tensor's size.
    """

    layer: str
    maker: str
    figure: str
    needed: float
    allowed: float

    @property
    def usage(self) -> float:
        """Needed over allowed."""
        return self.needed / self.allowed if self.allowed else math.inf if self.needed else 0.0

    def __str__(self) -> str:
        """Words on what is beyond: ``conv2d_3 (ONNX node …, 0.12 of 0.004 allowed)``."""
        figures = "" if self.figure == SHAPE else f", {_short(self.needed)} of {_short(self.allowed)} allowed"
        return f"{self.layer} ({self.maker}{figures})"


@dataclass(frozen=True)
class Alone:
    """Error of the answers where one layer is as the file has it, and all others are in FP32.

    ``kept`` is the error that is left where this layer and all before it in the ranking are in FP32; None where nobody
    asked.
    """

    layer: str
    error: float
    kept: float | None = None


@dataclass(frozen=True)
class Location:
    """Where a file's error comes from.

    ``first`` is the first layer beyond its own noise. ``along`` are all tensors that were compared, in the order of the
    graph. ``ranking`` are a quantized file's layers by the error that each adds alone, and ``whole`` the error of all
    of them. ``unlocated`` says why nothing is told, ``notes`` what else is to be known.
    """

    first: Layer | None = None
    along: Sequence[Layer] = ()
    ranking: Sequence[Alone] = ()
    whole: float = 0.0
    unlocated: str = ""
    notes: Sequence[str] = ()

    @property
    def sentence(self) -> str:
        """One line on where it goes wrong, or why that is not told."""
        if self.unlocated:
            return f"not located: {self.unlocated}"
        if self.first:
            return f"first layer beyond its own noise: {self.first}"
        return f"no layer is beyond its own noise ({len(self.along)} tensors compared)"

    @property
    def advice(self) -> str:
        """What to keep in a higher precision, and what that would give; empty where there is no ranking."""
        if not self.ranking:
            return ""
        asked = [found for found in self.ranking if found.kept is not None]
        steps = ", ".join(f"{f.layer} ({_short(f.error)} alone; {_short(f.kept or 0.0)} left)" for f in asked)
        return f"in FP16 or FP32, the worst first: {steps}; with none answers are off by {_short(self.whole)}"

    def lines(self, named: bool = False) -> list[str]:
        """Lines for the message of a failure; ``named`` says that its cause names a layer already.

        That no layer is beyond its noise would deny such a cause. It does not: the noise knows what INT8 cannot hold.
        """
        found = [] if named and not self.first else [f"  located    {self.sentence}"]
        found += [f"             {note}" for note in self.notes]
        return found + ([f"  keep       {self.advice}"] if self.advice else [])

    def plain(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Location:
        """Location that :meth:`plain` gave."""
        first = plain["first"]
        return Location(
            **{
                **plain,
                "first": Layer(**first) if first else None,
                "along": tuple(Layer(**layer) for layer in plain["along"]),
                "ranking": tuple(Alone(**layer) for layer in plain["ranking"]),
                "notes": tuple(plain["notes"]),
            }
        )


SHOWN = 3
"""How many layers are named that are worth another precision."""


def _short(value: float) -> str:
    return f"{value:.2g}"
