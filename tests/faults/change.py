"""What a planted change is: to what of which model, and what is to become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.formats import registry
from engines.variant import Variant

if TYPE_CHECKING:
    from faults.made import Made

CAUGHT, PASSES = "caught", "passes"
"""What is expected of a change: a test fails, or the command refuses the file; or none does."""

WITHIN_NOISE, WITHIN_FACTOR, MISSED = "within noise", "within its factor", "missed"
"""The states of a fault that nothing tells of. All figures of the first are below what sound rounding does to the
model, and no more classes change than the sound file changes. Those of the second are so up to the factor by which an
engine may be beyond that noise. A fault that is expected to be such says why."""

CHECKS = "consistency or batching or accuracy"
"""The marks of the tests that a change is given to, as those of a user's own model are."""

ON_SAMPLES = "builds or signature or same_scale or sum_to_one or reference_on_samples"
"""The tests that a fault is given to first: what fails on samples fails on all other inputs too, and takes longer."""


@dataclass(frozen=True)
class Change:
    """One change, to one file of one model.

    ``kind`` is what it is made to, and ``variant`` the format and precision of what is changed and judged.
    ``plant(made, folder)`` makes it, and returns the words of the command that bring it. ``right`` are words of which
    a likely cause has to hold one, if it names any. ``alone`` is a change that is no file of a format, so that no
    other may stand in the same command. One of ``data`` is to samples or labels.
    ``why`` tells, of a change that is within the noise, why it is none that matters. ``quick`` ones are among the few
    that every change of the suite is checked with. ``needs`` tells why what else it takes is not there.
    """

    name: str
    kind: str
    model: str
    variant: str
    plant: Callable[[Made, Path], list[str]]
    right: tuple[str, ...] = ()
    expected: str = CAUGHT
    alone: bool = False
    data: bool = False
    quick: bool = False
    why: str = ""
    needs: Callable[[], str | None] | None = None

    @property
    def on_samples(self) -> bool:
        """Whether tests on samples may be enough: not for what is to pass, nor for labels, which they do not read."""
        return self.expected != PASSES and not self.data

    @property
    def format(self) -> str:
        """Format of the file that is changed."""
        return self.variant.partition("-")[0]

    @property
    def precision(self) -> str:
        """Precision of the file that is changed."""
        return self.variant.partition("-")[2]

    @property
    def unavailable(self) -> str | None:
        """Why what is changed cannot be run on this machine; None where it can."""
        return registry.unavailable(Variant(self.format, self.precision)) or (self.needs() if self.needs else None)

    @property
    def id(self) -> str:
        """Name of the change among all."""
        return f"{self.model}-{self.variant}: {self.name}"
