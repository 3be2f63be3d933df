"""What a whole model or variant fails of, so that it is told once: what cannot be built, opened, or trusted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.errors import EngineError
    from engines.variant import Variant

BUILT, OPENED, TRUSTED = "built", "opened", "trusted"
"""What cannot be done: build the artifact of a variant, open a runner of one, and trust the reference."""


@dataclass(frozen=True)
class Unusable:
    """A variant of a model that cannot be BUILT or OPENED, or the reference that cannot be TRUSTED."""

    model: str
    variant: Variant
    how: str

    def __str__(self) -> str:
        """Words on it, which tell it from others."""
        return f"{self.variant} of {self.model} cannot be {self.how}"


@contextmanager
def blamed(unusable: Unusable, kind: type[EngineError]) -> Iterator[None]:
    """Note on an error of a kind what cannot be used for it, unless something further up the chain is to blame."""
    try:
        yield
    except kind as error:
        error.unusable = error.unusable or unusable
        raise
