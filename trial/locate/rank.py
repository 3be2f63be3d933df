"""Layers of a quantized file by the error that each adds alone, and what is left where the worst are not quantized."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from conformance.location import SHOWN, Alone
from trial.locate.answers import Answers
from trial.locate.comparison import NUMBERS
from trial.locate.errors import largest

if TYPE_CHECKING:
    from trial.locate.comparison import Compared

SAMPLES = 8
"""The most samples that a ranking of layers is told of."""

MASK = 1e30
"""An error as large is that of a mask, which stands for infinity: added to one, nothing is left of it."""


def ranked(compared: Compared, names: Sequence[str]) -> tuple[tuple[Alone, ...], float]:
    """Layers by the error of the answers where only that layer has the file's own errors, the largest first.

    ``names`` are the tensors that were compared. The second is the error where all layers have theirs. All are root
    mean squares over that of the answers, of the answer that is furthest off.
    """
    few = compared.of_first(max(1, min(SAMPLES, NUMBERS // sum(compared.matches[n].numbers for n in names))))
    expected, alone = few.errors(names, names)
    with np.errstate(invalid="ignore", over="ignore"):
        errors = {n: np.asarray(alone[n] - expected[n], np.float32) for n in names}
    errors = {n: e for n, e in errors.items() if e.ndim and np.isfinite(e).all() and largest(e) < MASK}
    answers = Answers(few.own, few.feeds, list(errors))
    if not answers.names:
        return (), 0.0
    layers = {n: compared.layer(n, names) for n in errors}

    def error(chosen: Collection[str]) -> float:
        """Error of the answers where tensors of these layers have their own errors."""
        return max(answers.moved({n: e for n, e in errors.items() if layers[n] in chosen}).values())

    every = list(dict.fromkeys(layers.values()))
    each = {layer: error([layer]) for layer in every}
    order = sorted((layer for layer in every if each[layer] > 0), key=lambda layer: -each[layer])
    # Of those that are not named it is not asked what would be left.
    left = [error(order[place + 1 :]) if place < SHOWN else None for place in range(len(order))]
    found = tuple(Alone(layer, each[layer], rest) for layer, rest in zip(order, left, strict=True))
    return found, error(every)
