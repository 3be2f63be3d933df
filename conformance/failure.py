"""A failed judgement, as data: what whoever reads of it needs beside its text, which is made last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from conformance.cause import Cause


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What is known of a failure, whatever failed: this much crosses to another process, and into a report.

    ``own_model`` are words on a model of one's own, which may need tolerances of its own. ``replay`` is the command
    that runs again what failed. Either is empty where there is nothing to tell.
    """

    cause: Cause | None = None
    own_model: str = ""
    replay: str = ""

    def plain(self) -> dict[str, Any]:
        """The same as plain data, without what only the text is made of."""
        known = {field.name: getattr(self, field.name) for field in fields(Failure)}
        return {**known, "cause": asdict(self.cause) if self.cause else None}

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Failure:
        """Failure that :meth:`plain` gave."""
        cause = plain["cause"]
        return Failure(**{**plain, "cause": Cause(**cause) if cause else None})

    @property
    def likely(self) -> str | None:
        """What may be the cause, in words for a report; None where nothing was found."""
        said = [self.cause.text] if self.cause and self.cause.found else []
        said += [f"it {self.own_model}"] if self.own_model else []
        return "; or none: ".join(said) or None
