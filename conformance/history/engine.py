"""Which engines a run is about, and what a comparison has to know of their formats.

A variant's id is for people and files. What it consists of stands beside it in the results: nothing takes an id apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from conformance.history.files import HistoryError
from conformance.history.finding import Key, named
from conformance.report.document import Document

PLAIN = "fp32"
"""The precision that the others of a format are related to."""

_OWNED = ("artifacts", "benchmarks")
"""The sections whose comparison depends on the format of what their entries belong to."""


@dataclass(frozen=True)
class FormatFacts:
    """What results do not say of a format.

    ``device_bound``: its artifacts are made for the GPU that is there when they are built, and run on it. On another
    GPU such an artifact is another program, whose size says nothing; and the CPU's reference no yardstick of its speed.
    """

    device_bound: bool


Formats = Mapping[str, FormatFacts]
"""What is known of formats, by name. One that is not listed has artifacts that are the same everywhere."""

NOTHING_KNOWN: Formats = MappingProxyType({})
"""No format is bound to a device, as far as one knows."""


@dataclass(frozen=True)
class Engine:
    """A variant of a model as results describe it; the same in two runs where model and id are the same."""

    model: str
    variant: str
    format: str = field(compare=False)
    precision: str = field(compare=False)
    profile: str | None = field(compare=False)

    def __str__(self) -> str:
        return named(self.model, self.variant)

    def is_plain_of(self, other: Engine) -> bool:
        """Whether this is FP32 of the other's model, format and batch profile (of itself, where that is FP32)."""
        own, others = ((e.model, e.format, e.profile) for e in (self, other))
        return self.precision == PLAIN and own == others

    def device_bound(self, formats: Formats) -> bool:
        """Whether its artifact is made for the GPU that it was built on, as far as ``formats`` tell."""
        return self.format in formats and formats[self.format].device_bound


def read_engines(document: Document) -> dict[Key, Engine]:
    """Read the engines of a run, by model and variant.

    Raises HistoryError where the run measured or built what is none of its variants.
    """
    engines = {
        (v["model"], v["variant"]): Engine(v["model"], v["variant"], v["format"], v["precision"], v["profile"])
        for v in document["variants"]
    }
    for section in _OWNED:
        for index, entry in enumerate(document[section]):
            if (entry["model"], entry["variant"]) not in engines:
                raise HistoryError(
                    f"the run of {document['started']}: {section}[{index}] is of "
                    f"{named(entry['model'], entry['variant'])}, which is not among its variants; "
                    "allowed: what pytest --report=DIR writes, unedited"
                )
    return engines
