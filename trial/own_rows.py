"""A model's own tolerances: refused where they are beyond what answers can reach, told where they can fail nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from conformance.compare import Scale
from conformance.reach import DIFFERENCES, reach, times_apart
from conformance.shown import shown
from conformance.tolerances import BATCHING, INPUT_KINDS, ToleranceError
from trial.rows import batching, row
from trial.scales import output_kinds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from engines.model.spec import ModelSpec
    from engines.variant import Variant


def check_own(spec: ModelSpec, variant: Variant) -> None:
    """Refuse what a model's file allows a variant and no table can: see rows, and beyond what a figure can reach.

    Raises ToleranceError in one line with file, key, what was found and what is allowed.
    """
    name = variant.row_name
    batching(name, spec.tolerances, spec.source)
    for kind in INPUT_KINDS:
        row(name, kind, spec.tolerances, spec.source)
    kinds = sorted(set(output_kinds(spec).values()))
    for key, figure, pair in _own(spec, name):
        most = reach(figure, kinds)
        if most is not None and pair[0] > most:
            raise ToleranceError(
                f"{spec.source}: tolerances.{name}.{key} is {shown(pair)}; allowed: at most {most:.4g}, which is all "
                f"that {' and '.join(kinds)} can need, so that more fails nothing; take what "
                f"`python -m commands measure {spec.argument}` prints, or leave it out"
            )


def fails_nothing(chain: Chain, variant: Variant) -> list[str]:
    """Sentences on a model's own tolerances of a variant that let any answer pass, by output and figure.

    Numbers without end are measured by how far the reference's answers to the samples are apart.
    """
    spec, name = chain.spec, variant.row_name
    reference = chain.reference("samples", chain.samples.inputs) if name in spec.tolerances else {}
    told = []
    for key, figure, (allowed, _) in _own(spec, name):
        kind_of_input = key.partition(".")[0]
        if kind_of_input == "stress" and figure not in DIFFERENCES:
            # Made-up inputs may have any class: the other figures are at their reach in the tables as well.
            continue
        for output in spec.outputs:
            most = reach(figure, [output.kind])
            if most is None:
                continue
            if why := _idle(figure, allowed, most, output.kind, reference[output.name]):
                told.append(f"{name}.{key} = {allowed:g} is {why} {output.name!r}: it can fail nothing")
    return told


def _own(spec: ModelSpec, name: str) -> Iterator[tuple[str, str, list[float]]]:
    """Key, figure and [allowed, seen] of each number that a model's file has for a row."""
    own = spec.tolerances.get(name, {})
    for kind in INPUT_KINDS:
        yield from ((f"{kind}.{figure}", figure, pair) for figure, pair in own.get(kind, {}).items())
    if BATCHING in own:
        yield BATCHING, BATCHING, own[BATCHING]


def _idle(figure: str, allowed: float, most: float, kind: str, reference: NDArray[np.generic]) -> str:
    """What an allowed number is beside all that an output can need; empty where it can fail something."""
    if np.isfinite(most):
        return f"all that {figure} can be of the {kind}" if allowed >= most else ""
    values = reference.astype(np.float64)
    scale = Scale.of(values)
    if figure == BATCHING and kind == "integers":
        scale = Scale(1.0, 1.0)
    # Rows of a list have no fixed place, and a constant has one answer.
    placed = kind not in {"ranked", "constant"}
    apart = float(np.ptp(values, axis=0).max()) if placed else float(np.abs(values).max())
    times = times_apart(figure, allowed, apart, scale.largest or 1.0, scale.mean or 1.0)
    if times < 1:
        return ""
    return f"{times:.3g} times {'the spread over the samples' if placed else 'the largest number'} of the reference's"
