"""What a model's outputs are measured in: their kinds, where they decide, and the magnitudes of the reference's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from conformance.compare import Scale

if TYPE_CHECKING:
    from engines.chain import Chain
    from engines.model.spec import ModelSpec

OWN_SCALE = ("probabilities", "scores", "integers")
"""The kinds of outputs whose differences are absolute."""


def output_kinds(spec: ModelSpec) -> dict[str, str]:
    """What each output of a model holds, as a comparison asks for it."""
    return {o.name: o.kind for o in spec.outputs}


def output_thresholds(spec: ModelSpec) -> dict[str, float]:
    """Where the scores of each output of a model decide."""
    return {o.name: o.threshold for o in spec.outputs}


def output_scales(chain: Chain) -> dict[str, Scale]:
    """Magnitudes of outputs that have no scale of their own: those of the reference's on the samples."""
    names = [o.name for o in chain.spec.outputs if o.kind not in OWN_SCALE]
    reference = chain.reference("samples", chain.samples.inputs) if names else {}
    return {name: Scale.of(reference[name]) for name in names}


def magnitude(scales: Mapping[str, Scale], output: str) -> float:
    """What differences of an output are divided by; 1 for those with a scale of their own, and where all is zero."""
    return (scales[output].largest if output in scales else 1.0) or 1.0
