"""How far a variant's answers on the samples are from the reference's: on the most samples that were run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance.report.document import Document, any_of

REAL = ("samples", "more samples")
"""The inputs of comparisons on real samples, of which the second are the first and others."""


@dataclass(frozen=True)
class OnSamples:
    """How many of how many samples change class, and the largest difference of an element.

    ``judged`` is the comparison of an agreement test, on the first of the same samples: of several the one that failed,
    and on the most. ``output`` is the one that the
    figures are of; None where they are the comparison's own, of all outputs.
    """

    judged: Mapping[str, Any]
    samples: int
    flips: int
    largest: float | None
    output: str | None = None

    @property
    def more(self) -> bool:
        """Whether these are more samples than those of the agreement test."""
        return self.samples > int(self.judged["samples"])


def on_samples(document: Document, variant: Mapping[str, Any]) -> OnSamples | None:
    """Figures of a variant on the most samples; None where none was compared."""
    real = [c for c in any_of(document["comparisons"], variant) if c["inputs"] in REAL]
    judged = max(real, key=lambda c: (not c["passed"], c["samples"]), default=None)
    if judged is None:
        return None
    picture = picture_of(document, variant)
    if picture and picture["samples"] > judged["samples"] and reaches(picture, judged):
        largest = picture["worst"][0]["difference"]
        return OnSamples(judged, picture["samples"], changed(picture), largest, picture["output"])
    return OnSamples(judged, judged["samples"], judged["flips"], judged["figures"].get("max", (None,))[0])


def picture_of(document: Document, variant: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Content of a variant's charts; None where there are none."""
    return next(iter(any_of(document["pictures"], variant)), None)


def reaches(picture: Mapping[str, Any], judged: Mapping[str, Any]) -> bool:
    """Whether a picture, of one output, shows as much as a comparison of all outputs found wrong."""
    largest = judged["figures"].get("max", (None,))[0]
    return (
        largest is not None
        and any(row["difference"] >= largest for row in picture["worst"])
        and changed(picture) >= judged["flips"]
    )


def changed(picture: Mapping[str, Any]) -> int:
    """Count the samples of a picture that change class; an older document says so of up to twenty classes only."""
    if picture.get("flips") is not None:
        return int(picture["flips"])
    return sum(row["samples"] - row["same"] for row in picture["agreement"])


def kinds(document: Document, variant: Mapping[str, Any]) -> dict[str, str]:
    """Kind of each output of a variant's model, by its name; empty in an older document."""
    models = (m for m in document["models"] if m["name"] == variant["model"])
    return {o["name"]: o["kind"] for m in models for o in m.get("outputs", ())}


def of_output(document: Document, variant: Mapping[str, Any], output: str | None) -> str:
    """Name of an output where the model has several, as in `` of output 'boxes'``; else empty."""
    return f" of output {output!r}" if output is not None and len(kinds(document, variant)) > 1 else ""
