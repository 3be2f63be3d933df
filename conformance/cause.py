"""The likely cause of a failure, as an object: what is known of it beside its sentence is never read out of that."""

from __future__ import annotations

from dataclasses import dataclass

NOT_FOUND = "not found out: "
"""How the sentence begins that names no cause, but says why there is none."""


@dataclass(frozen=True)
class Cause:
    """What most likely is wrong, in one sentence.

    ``proved`` is a cause that was tried, and is the whole trouble. ``found`` is False where ``text`` names no cause,
    but says why there is none. ``located`` is True where it names the part of the file that is wrong.
    """

    text: str
    proved: bool = False
    found: bool = True
    located: bool = False

    @classmethod
    def unknown(cls, why: str) -> Cause:
        """Words on why no cause was found, where one was looked for."""
        return cls(f"{NOT_FOUND}{why}", found=False)
