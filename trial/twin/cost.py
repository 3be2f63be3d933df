"""What a run of a model costs: how many samples a twin can afford."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from trial.twin.plan import length_of_sum, products

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from trial.twin.graph import Graph

MOST, LEAST = 64, 8
"""The most samples of a run, and the fewest, however large the model is."""

PRODUCTS = 20 * 10**9
"""Multiplications of one run, at most: about a second of two cores."""

ANSWERS = 1 << 25
"""Numbers that a run answers, at most."""


def affordable(graph: Graph, outputs: Mapping[str, NDArray[Any]]) -> int:
    """How many samples a run has; ``outputs`` are the model's answers (N, …) to some."""
    numbers = sum(math.prod(array.shape[1:]) for array in outputs.values())
    each = max(1, sum(_products(graph)))
    return max(LEAST, min(MOST, PRODUCTS // each, ANSWERS // max(1, numbers)))


def _products(graph: Graph) -> list[int]:
    """Multiplications a sample of every sum of products; sizes that are not known count as one."""
    found = []
    for node in products(graph):
        shape = graph.shapes.get(node.output[0], ())
        terms = length_of_sum(graph, node, most=None)
        found.append(terms * math.prod(size or 1 for size in shape[1:]))
    return found
