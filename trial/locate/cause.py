"""Which of the layers that are beyond their noise a file is wrong by, and which only seem so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from trial.locate.answers import Answers
from trial.locate.errors import MEAN, allowed, figures, largest
from trial.locate.rank import MASK
from trial.own_noise import RUNS, SEED

if TYPE_CHECKING:
    from conformance.location import Layer
    from trial.locate.comparison import Compared

MATTERS = 0.5
"""Where a comparison failed, a layer is no cause that moves answers by less than this share of what its noise does.

The least of the planted faults that the rule finds moves them by 0.6 times that (docs/noise.md).
"""

MOST = 0.25
"""The first layer is the one that is named of those that move the answers by this share of what any of them does."""

FAR = 10.0
"""Where a comparison failed and no layer matters by its own, the first is named that is so many times beyond its noise.

The answers of a sure classifier hardly move on the few samples that are looked at, whatever is wrong before them.
"""

LAID_OTHERWISE = 4
"""How many operators in a row a converter computes in another layout."""

UNRELATED = 0.3
"""The share of a tensor's size from which on its error is taken for another tensor's values, not for rounding."""

TRIED = 16
"""How many of the layers beyond their noise are looked at twice."""


@dataclass
class Causes:
    """What was compared, tensor by tensor: ``found`` is the own error of each, beside what is allowed.

    Tensors that turn out not to be what their names say are taken out of it.
    """

    compared: Compared
    found: dict[str, Layer]
    failed: bool

    def first(self) -> str | None:
        """Name of the first tensor that the file is wrong by; None where there is none."""
        for _ in range(TRIED):
            effects = self._effects([n for n, layer in self.found.items() if layer.usage > 1][:TRIED])
            least = max(1.0, MOST * max(effects.values(), default=0.0))
            far = [n for n, effect in effects.items() if effect and self.failed and self.found[n].usage > FAR]
            name = next((n for n, effect in effects.items() if effect >= least), next(iter(far), None))
            if name is None:
                return None
            renamed = self._renamed(name)
            if renamed is None:
                return name
            behind = [n for n in self.found if self._before(n, self.found) & renamed and n not in renamed]
            self.found = {n: layer for n, layer in self.found.items() if n not in renamed}
            self.found |= self.compared.layers(behind, self.found)
        return None

    def _effects(self, names: list[str]) -> dict[str, float]:
        """By how much each tensor's own error moves the answers, in multiples of what makes it a cause.

        A mask may be -65,504 for minus infinity, and what is not chosen may be anything: neither makes a file wrong.
        """
        if not names or not self._answers.names:
            return dict.fromkeys(names, 1.0)
        expected, alone = self.compared.errors(names, self.found)
        effects = {}
        for name in names:
            with np.errstate(invalid="ignore", over="ignore"):
                error = np.asarray(alone[name] - expected[name], np.float32)
            plain = np.isfinite(error).all() and largest(error) < MASK
            moved = self._answers.moved({name: error}) if plain else self._answers.moved_by(name, alone[name])
            effects[name] = (
                max(moved[n] / self._least[n] if self._least[n] else np.inf for n in moved if moved[n])
                if any(moved.values())
                else 0.0
            )
        return effects

    def _renamed(self, name: str) -> set[str] | None:
        """Tensors that are not what their names say, this one the first; None where it is, and wrong.

        What is made of it is right where it is given as the file has it. Computed from what it is made of itself, in
        FP32, something behind has to be wrong: else nothing that follows is made of this tensor. A converter may go on
        in another order of numbers for some operators, none of whose tensors then is as its name says.
        """
        out = {name}
        for _ in range(LAID_OTHERWISE if self.found[name].needed > UNRELATED else 1):
            rest = [n for n in self.found if n not in out]
            behind = [n for n in rest if self._before(n, self.found) & out]
            if not behind or not out.isdisjoint(self._answers.names):
                return None
            wrong = {n for n, layer in self.compared.layers(behind, rest).items() if layer.usage > 1}
            if not wrong:
                return out
            out |= wrong
        return None

    def _before(self, name: str, given: Collection[str]) -> set[str]:
        return self.compared.own.before(name, given)

    @cached_property
    def _answers(self) -> Answers:
        # A number by itself would become a list of one.
        numbers = [n for n in self.found if self.compared.own.graph.shapes.get(n)]
        return Answers(self.compared.own, self.compared.feeds, numbers)

    @cached_property
    def _least(self) -> Mapping[str, float]:
        """By how much a tensor's own error has to move each answer to be a cause, as the figure MEAN.

        Of a comparison that did not fail that is by more than the precision may.
        """
        expected = self._answers.expected
        seen: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in expected}
        for precision, twin in self.compared.twins.items():
            for run in twin.each(self.compared.feeds, RUNS, SEED):
                for n, values in expected.items():
                    seen[n].setdefault(precision, []).append(figures(run[n], values, values))
        if not self.failed:
            return {n: allowed(runs)[MEAN] for n, runs in seen.items()}
        typical = {n: [np.median([run[MEAN] for run in of]) for of in runs.values()] for n, runs in seen.items()}
        return {n: MATTERS * float(max(medians)) for n, medians in typical.items()}
