"""Hypothesis strategies: inputs within a model's range, the same examples wherever they are drawn.

Hypothesis takes the constants of the modules that are loaded for likely: other examples in another script, and others
again once TensorFlow has written a module of its own. It takes none of whole numbers between -100 and 100, so that all
that is drawn here is made of these.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.model.ranges import Ends, Ranges
    from engines.model.spec import InputSpec, ModelSpec

TEXTURES = ("flat", "noise", "blocks", "spikes")

PARTS = 64
"""In how many parts a range is cut, whose edges are drawn."""


@st.composite
def _samples(draw: st.DrawFn, item: InputSpec, ends: Ends, shape: tuple[int, ...]) -> NDArray[Any]:
    """Draw one input for all samples: a texture, its seed and the part of the range it fills, for each sample."""
    result = np.empty(shape, item.dtype)
    edges = st.integers(0, PARTS).map(lambda edge: edge / PARTS)
    # By number: the sample of an input of shape (N,) is a single number, which no view of an array can be.
    for i in range(len(result)):
        part = draw(st.tuples(edges, edges), label=f"{item.name}: part of the range")
        texture = draw(st.sampled_from(TEXTURES), label=f"{item.name}: texture")
        seed = draw(st.tuples(*[st.integers(0, 63)] * 5), label=f"{item.name}: seed")
        result[i] = textured(ends, part, texture, seed, shape[1:])
    return result


def textured(
    ends: Ends, part: tuple[float, float], texture: str, seed: int | Sequence[int], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """One sample (…) of an input of one of TEXTURES, which fills a ``part`` of the range, in shares of it."""
    (low, high), (first, second) = ends, part
    values = np.asarray(np.random.default_rng(seed).random(shape))
    if texture == "flat":
        values[...] = 0.0
    elif texture == "blocks":
        values = np.round(values)
    elif texture == "spikes":
        values = np.where(values > 0.97, 1.0, 0.0)
    # Rounding may go beyond the upper end, and never below the lower one.
    filled = np.minimum(low + (high - low) * (first + (second - first) * values), high)
    return np.asarray(np.where(ends.whole, np.rint(filled), filled))


@st.composite
def model_inputs(draw: st.DrawFn, spec: ModelSpec, ranges: Ranges, max_samples: int = 4) -> dict[str, NDArray[Any]]:
    """Draw inputs of a model: one to ``max_samples`` samples, arrays (N, …) by input name, within ``ranges``."""
    count = draw(st.integers(1, max_samples), label="samples")
    return {i.name: draw(_samples(i, ranges[i.name], spec.concrete_shape(i, count))) for i in spec.inputs}


def drawn_inputs(spec: ModelSpec, ranges: Ranges, examples: int) -> dict[str, NDArray[Any]]:
    """Samples of ``examples`` draws of :func:`model_inputs` as one set of arrays, the same in every process."""
    collected: list[dict[str, NDArray[Any]]] = []

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(model_inputs(spec, ranges))
    def collect(inputs: dict[str, NDArray[Any]]) -> None:
        collected.append(inputs)

    collect()
    return {i.name: np.concatenate([c[i.name] for c in collected]) for i in spec.inputs}


@st.composite
def partitions(draw: st.DrawFn, count: int) -> list[tuple[int, int]]:
    """Draw a partition of ``count`` samples into consecutive batches, as (start, stop) pairs."""
    cuts = draw(st.sets(st.integers(1, count - 1)) if count > 1 else st.just(set()))
    edges = [0, *sorted(cuts), count]
    return list(itertools.pairwise(edges))
