"""A file compared with the model's own graph, tensor by tensor, each beside what its precision does to it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from conformance.location import Layer
from trial.locate.errors import added, allowed, figures, largest
from trial.locate.layers import layer_of, named
from trial.locate.match import Match, candidates, matched
from trial.own_noise import RUNS, SEED
from trial.twin.graph import exact
from trial.twin.plan import end_of_layer, products, rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.inside import Inside
    from trial.locate.graph import OwnGraph, Part
    from trial.twin import Twin

    Arrays = Mapping[str, NDArray[Any]]

NUMBERS = 1 << 25
"""Numbers of all tensors of a pass, on each side: 128 MiB."""


@dataclass(frozen=True)
class Compared:
    """A file, the own graph, and a few inputs that both are given.

    These are ``inputs`` by the model's names, and ``feeds`` by the graph's.
    ``twins`` are by precision, the file's own one first. ``names`` are those of the layers for the model's user, and
    ``matches`` are the tensors of the own graph that the file has, in the graph's order.
    """

    inside: Inside
    inputs: Arrays
    own: OwnGraph
    feeds: Arrays
    twins: Mapping[str, Twin]
    names: Mapping[str, str]
    matches: Mapping[str, Match] = field(default_factory=dict)

    def matched(self) -> Compared:
        """The same, once it is found out which tensor is which."""
        one = {n: a[:1] for n, a in self.inputs.items()}
        _, shown = self.inside(one, [tensor.name for tensor in self.inside.tensors])
        tensors = [t for t in self.inside.tensors if candidates(t, self.own)]
        names = list(dict.fromkeys(n for t in tensors for n in candidates(t, self.own) if n in self.own.floats))
        if not names:
            return self
        expected = self.own.part(names)({n: a[:1] for n, a in self.feeds.items()})
        found = matched(tensors, self.own, shown, expected)
        return replace(self, matches={m.own: m for m in found if m.own not in self._inside_layers})

    @cached_property
    def _inside_layers(self) -> set[str]:
        """Tensors that the twin takes for the inside of a layer that is rounded at its end only."""
        graph, twin = self.own.graph, next(iter(self.twins.values()))
        if not twin.precision.bits:
            return set()
        there = {name for node in twin.model.graph.node for name in node.output}
        made = set(rounded(graph)) if twin.precision.throughout else {n.output[0] for n in products(graph)}
        ends = {name for name in made if end_of_layer(graph, name, activation=False) == name}
        return {n for n in made if exact(n) not in there and (twin.precision.throughout or n not in ends)}

    def layers(self, targets: Sequence[str], given: Collection[str]) -> dict[str, Layer]:
        """Own error of every target, of tensors that are given to it, beside what is allowed."""
        found: dict[str, Layer] = {}
        whole = self.own.part(self._ordered({*targets, *given}))
        for group in self._groups(targets, given):
            found |= self._of_group(group, given, whole)
        return found

    def _groups(self, targets: Sequence[str], given: Collection[str]) -> Iterator[list[str]]:
        """Targets in passes, none of which keeps more than NUMBERS of them and of what they are made of."""
        count = len(next(iter(self.inputs.values())))
        group: list[str] = []
        kept: set[str] = set()
        for target in targets:
            more = kept | {target, *self.own.before(target, given)}
            if group and sum(self.matches[n].numbers for n in more) * count > NUMBERS:
                yield group
                group, more = [], {target, *self.own.before(target, given)}
            group.append(target)
            kept = more
        if group:
            yield group

    def _of_group(self, targets: list[str], given: Collection[str], whole: Part) -> dict[str, Layer]:
        needed = self._ordered({*targets, *(n for t in targets for n in self.own.before(t, given))})
        expected = whole(self.feeds, needed)
        actual = self.shown(needed, expected)
        made = self.own.part(targets, given)({**self.feeds, **actual})
        limits = self._allowed(targets, given, expected)
        found = {}
        for name in targets:
            # What a broken layer is followed by may be far larger, and its rounding with it.
            size = max(made[name], expected[name], key=largest)
            errors = figures(actual[name], made[name], size)
            worst = max(errors, key=lambda f: errors[f] / limits[name][f])
            match = self.matches[name]
            found[name] = Layer(self.layer(name, given), match.tensor.maker, worst, errors[worst], limits[name][worst])
        return found

    def shown(self, names: Sequence[str], expected: Arrays) -> dict[str, NDArray[Any]]:
        """Tensors of the file by the own graph's names, laid out as there."""
        inner = [self.matches[name].tensor.name for name in names]
        _, shown = self.inside(self.inputs, inner)
        return {n: self.matches[n].as_own(shown[i], expected[n].shape) for n, i in zip(names, inner, strict=True)}

    def _allowed(self, targets: Sequence[str], given: Collection[str], expected: Arrays) -> dict[str, dict[str, float]]:
        """What is allowed of every target's figures, by what runs of the twins have of the same part."""
        seen: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in targets}
        for precision, twin in self.twins.items():
            part = twin.part(targets, given)
            for run in part.each({**self.feeds, **expected}, RUNS, SEED):
                for name in targets:
                    of = figures(run[name], expected[name], expected[name])
                    seen[name].setdefault(precision, []).append(of)
        return {name: allowed(runs) for name, runs in seen.items()}

    def layer(self, name: str, given: Collection[str]) -> str:
        """Layers that a tensor has its own error from: those behind what is given, and what the file made one of."""
        merged = [o for o in self.matches[name].tensor.operations if o in self.own.by_operation or named(o, self.names)]
        *before, last = self.own.within(name, given)
        return " + ".join(
            dict.fromkeys(layer_of(o, self.names) for o in [*before, *sorted(merged, key=self._place), last])
        )

    def _place(self, operation: str) -> int:
        return self.own.floats[self.own.by_operation[operation]] if operation in self.own.by_operation else 0

    def errors(self, names: Sequence[str], given: Collection[str]) -> tuple[Arrays, Arrays]:
        """Tensors as the own graph has them, and with the file's own errors in them, but none from before."""
        needed = self._ordered({*names, *(n for name in names for n in self.own.before(name, given))})
        expected = self.own.part(needed)(self.feeds)
        shown = self.shown(needed, expected)
        made = self.own.part(names, given)({**self.feeds, **shown})
        return {n: expected[n] for n in names}, {n: added(expected[n], shown[n], made[n]) for n in names}

    def of_first(self, count: int) -> Compared:
        """The same on the first inputs only."""
        inputs, feeds = ({n: a[:count] for n, a in arrays.items()} for arrays in (self.inputs, self.feeds))
        return replace(self, inputs=inputs, feeds=feeds)

    def _ordered(self, names: Collection[str]) -> list[str]:
        return sorted(names, key=self.own.floats.__getitem__)
