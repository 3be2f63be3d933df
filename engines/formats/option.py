"""An option of a format: declared by the command lines, checked once, and read by the format that has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.errors import SpecError

if TYPE_CHECKING:
    from engines.model.spec import ModelSpec


@dataclass(frozen=True)
class Option:
    """One option ``--name VALUE`` of a format; ``default`` are the values where it is not given.

    ``refuse`` says why a value is not allowed, and what is; None where it is. Where it is ``repeatable``, it may be
    given several times, each with one value. ``for_one_model`` is one that says something of the only model under test.
    """

    name: str
    metavar: str
    help: str
    default: tuple[str, ...]
    refuse: Callable[[str], str | None] = lambda value: None
    repeatable: bool = False
    for_one_model: bool = False

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What declares it, to argparse and to pytest."""
        return {"action": "append", "metavar": self.metavar, "help": self.help}

    def values(self, spec: ModelSpec) -> tuple[str, ...]:
        """Values for a model under test: the given ones, or the default."""
        return spec.settings.get(self.name) or self.default

    def checked(self, given: Sequence[str]) -> tuple[str, ...]:
        """Given values, each once, in their order; raises SpecError for one that is not allowed."""
        for value in given:
            if reason := self.refuse(value):
                raise SpecError(f"--{self.name} {value}: {reason}")
        chosen = tuple(dict.fromkeys(given))
        if len(chosen) > 1 and not self.repeatable:
            raise SpecError(f"--{self.name} is given as {' and as '.join(chosen)}; allowed: one of them")
        return chosen
