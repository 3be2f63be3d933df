"""The first layer of a file whose own error is beyond what its precision does to that layer.

Each layer is given what the file itself computes before it, in the model's own FP32 graph. What the two make of that
differs by the layer's own error alone. The same layer of the twin, given what the FP32 graph computes, shows how large
that may be. So no error is booked on a layer that only passes it on, and none hides behind those before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.location import SHAPE, Alone, Layer, Location
from engines.errors import EngineError, StoreUnusableError
from engines.formats import registry
from engines.progress import live
from trial.locate.errors import MEAN, allowed, figures
from trial.locate.graph import OwnGraph
from trial.locate.layers import layer_names, layer_of
from trial.locate.match import Match, candidates, matched
from trial.locate.rank import ranked
from trial.own_noise import FP32, RUNS, SEED, twin_of
from trial.twin import PRECISIONS, Twin
from trial.twin.graph import Graph, exact
from trial.twin.plan import end_of_layer, products, rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from engines.inside import Inside
    from engines.variant import Variant
    from trial.outputs import Outputs

    Arrays = Mapping[str, NDArray[Any]]

SAMPLES = 16
"""The most samples that are looked at: half of them where the file is furthest off."""

NUMBERS = 1 << 25
"""Numbers of all tensors of a pass, on each side: 128 MiB."""

MATTERS = 0.5
"""Where a comparison failed, a layer is no cause that moves answers by less than this share of what its noise does.

The least of the planted faults that the rule finds moves them by 0.6 times that (docs/noise.md).
"""

RANKED = 8
"""The most samples that a ranking of layers is told of."""

LAID_OTHERWISE = 4
"""How many operators in a row a converter computes in another layout."""

UNRELATED = 0.3
"""The share of a tensor's size from which on its error is taken for another tensor's values, not for rounding."""

TRIED = 16
"""How many layers beyond their noise are looked at twice, until one is the first."""


def located(chain: Chain, variant: Variant, given: Outputs, *, failed: bool) -> Location:
    """Where a variant's error on inputs comes from; what keeps it from being told is told, and never raised.

    Of a comparison that ``failed`` the layer is looked for that best explains it. Of one that did not, a layer is named
    only if its own error alone moves the answers by more than its precision may.
    """
    try:
        return _located(chain, variant, given, failed=failed)
    except StoreUnusableError:
        raise
    except EngineError as error:
        return Location(unlocated=str(error).splitlines()[0])


def _located(chain: Chain, variant: Variant, given: Outputs, *, failed: bool) -> Location:
    own_chain = replace(chain, brought={})
    brought, format_ = chain.brought_file(variant), registry.find(variant.format)
    path = chain.file(variant)
    precision = format_.arithmetic(variant, chain.spec, brought)
    if precision not in PRECISIONS:
        return Location(unlocated=f"how {variant} computes has no twin")
    if path == own_chain.file(FP32):
        return Location(unlocated=f"{variant} is the very graph that others are compared with")
    with live(f"{variant}: layers looked into"):
        inside = format_.inside(chain.spec, variant, path)
        if inside is None:
            return Location(unlocated=f"{format_.label} shows no tensors between layers")
        with inside:
            search = _Search.of(own_chain, variant, inside, inside.arithmetic or str(precision), given, failed)
            return search.location()


@dataclass
class _Search:
    """Comparison of a file with the own graph, tensor by tensor, on a few inputs."""

    chain: Chain
    variant: Variant
    inside: Inside
    inputs: Arrays
    own: OwnGraph
    feeds: Arrays
    twins: Mapping[str, Twin]
    failed: bool
    matches: dict[str, Match] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, chain: Chain, variant: Variant, inside: Inside, precision: str, given: Outputs, failed: bool
    ) -> _Search:
        import onnx

        twins = {p: twin_of(chain, p, given.inputs, given.reference) for p in dict.fromkeys((precision, "fp32"))}
        twin, feeds, outputs = twins[precision]
        few = _few(given, min(SAMPLES, twin.samples, twin.batch))
        graph = Graph.of(onnx.load(str(chain.file(FP32))))
        inputs = {n: a[few] for n, a in given.inputs.items()}
        own = OwnGraph(graph, outputs)
        found = cls(
            chain,
            variant,
            inside,
            inputs,
            own,
            {n: a[few] for n, a in feeds.items()},
            {p: made for p, (made, _, _) in twins.items()},
            failed,
        )
        found.notes += _other_answers(inside, given, few)
        return found

    def location(self) -> Location:
        """Where the error comes from."""
        self._match()
        if not self.matches:
            return Location(unlocated="no tensor of the file has the name of one of the model")
        misfits = [name for name, match in self.matches.items() if match.shapes]
        given = dict.fromkeys(name for name in self.matches if name not in misfits)
        found = self._compared(list(given), given)
        first = self._first(found, given)
        if misfits and (first is None or self.own.floats[misfits[0]] < self.own.floats[first]):
            match = self.matches[misfits[0]]
            other = Layer(self._layer(match.own), f"{match.tensor.maker}, {match.shapes}", SHAPE, np.inf, 0.0)
            return Location(other, tuple(found.values()), notes=self.notes)
        ranking, whole = self._ranked(list(given)) if self.variant.precision.startswith("int8") else ((), 0.0)
        layer = found[first] if first else None
        return Location(layer, tuple(found.values()), ranking, whole, notes=() if layer else self.notes)

    def _match(self) -> None:
        one = {n: a[:1] for n, a in self.inputs.items()}
        _, shown = self.inside(one, [tensor.name for tensor in self.inside.tensors])
        tensors = [t for t in self.inside.tensors if candidates(t, self.own)]
        names = list(dict.fromkeys(n for t in tensors for n in candidates(t, self.own) if n in self.own.floats))
        if names:
            expected = self.own.part(names)({n: a[:1] for n, a in self.feeds.items()})
            found = matched(tensors, self.own, shown, expected)
            self.matches = {m.own: m for m in found if m.own not in self._inside_layers}

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

    def _compared(self, targets: Sequence[str], given: Collection[str]) -> dict[str, Layer]:
        """Own error of every target, of tensors that are given to it, beside what is allowed."""
        found: dict[str, Layer] = {}
        whole = self.own.part(sorted({*targets, *given}, key=self.own.floats.__getitem__))
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

    def _of_group(self, targets: list[str], given: Collection[str], whole: Any) -> dict[str, Layer]:
        needed = sorted(
            {*targets, *(n for t in targets for n in self.own.before(t, given))}, key=self.own.floats.__getitem__
        )
        expected = whole(self.feeds, needed)
        actual = self.shown(needed, expected)
        made = self.own.part(targets, given)({**self.feeds, **actual})
        limits = self._allowed(targets, given, expected)
        found = {}
        for name in targets:
            # What a broken layer is followed by may be far larger, and its rounding with it.
            size = (
                made[name]
                if np.nanmax(np.abs(made[name]), initial=0) > np.abs(expected[name]).max(initial=0)
                else expected[name]
            )
            errors = figures(actual[name], made[name], size)
            worst = max(errors, key=lambda f: errors[f] / limits[name][f])
            match = self.matches[name]
            found[name] = Layer(self._layer(name), match.tensor.maker, worst, errors[worst], limits[name][worst])
        return found

    def shown(self, names: Sequence[str], expected: Arrays, inputs: Arrays | None = None) -> dict[str, NDArray[Any]]:
        """Tensors of the file by the own graph's names, laid out as there."""
        inner = [self.matches[name].tensor.name for name in names]
        _, shown = self.inside(self.inputs if inputs is None else inputs, inner)
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

    def _ranked(self, names: Sequence[str]) -> tuple[tuple[Alone, ...], float]:
        """Layers by the error that each adds alone, on as many of the samples as all errors of fit in memory."""
        count = len(next(iter(self.inputs.values())))
        some = max(1, min(count, RANKED, NUMBERS // max(1, sum(self.matches[n].numbers for n in names))))
        if not self.answers:
            return (), 0.0
        feeds, inputs = ({n: a[:some] for n, a in arrays.items()} for arrays in (self.feeds, self.inputs))
        expected = self.own.part(names)(feeds)
        shown = self.shown(names, expected, inputs)
        made = self.own.part(names, names)({**feeds, **shown})
        errors = {n: np.asarray(shown[n] - made[n], np.float32) for n in names}
        return ranked(self.own, feeds, errors, {n: self._layer(n) for n in names}, self.answers)

    def _first(self, found: dict[str, Layer], given: dict[str, None]) -> str | None:
        """The first tensor that is wrong; those that are not what their names say are taken out of both."""
        harmless: set[str] = set()
        for _ in range(TRIED):
            name = next((n for n in given if found[n].usage > 1 and n not in harmless), None)
            if name is None:
                return None
            if not self._matters(name, given):
                harmless.add(name)
                continue
            renamed = self._renamed(name, found, given)
            if renamed is None:
                return name
            for other in renamed:
                del given[other], found[other]
            found |= self._compared([n for n in given if self.own.before(n, self.matches) & renamed], given)
        return None

    def _renamed(self, name: str, found: Mapping[str, Layer], given: Collection[str]) -> set[str] | None:
        """Tensors that are not what their names say, this one the first; None where it is, and wrong.

        What is made of it is right where it is given as the file has it. Computed from what it is made of itself, in
        FP32, something behind has to be wrong: else nothing that follows is made of this tensor. A converter may go on
        in another order of numbers for some operators, none of whose tensors then is as its name says.
        """
        out = {name}
        for _ in range(LAID_OTHERWISE if found[name].needed > UNRELATED else 1):
            rest = [n for n in given if n not in out]
            behind = [n for n in rest if self.own.before(n, given) & out]
            if not behind or not out.isdisjoint(self.answers):
                return None
            wrong = {n for n, layer in self._compared(behind, rest).items() if layer.usage > 1}
            if not wrong:
                return out
            out |= wrong
        return None

    def _matters(self, name: str, given: Collection[str]) -> bool:
        """Whether a tensor's own error moves the answers by a good part of what the precision does.

        A mask may be -65,504 for minus infinity, and what is not chosen may be anything: neither makes a file wrong.
        """
        if not self.answers:
            return True
        moved = self.own.part(self.answers, {name})({**self.feeds, name: self.alone(name, given)})
        return any(figures(moved[n], self.expected[n], self.expected[n])[MEAN] > self.least[n] for n in self.answers)

    def alone(self, name: str, given: Collection[str]) -> NDArray[np.float32]:
        """A tensor of the own graph with the file's own error in it, and none from before."""
        needed = [name, *self.own.before(name, given)]
        expected = self.own.part(needed)(self.feeds)
        shown = self.shown(needed, expected)
        made = self.own.part([name], given)({**self.feeds, **shown})[name]
        # Of numbers as large as a mask's the difference would leave nothing.
        added = expected[name] + (shown[name] - made)
        return np.asarray(np.where(made == expected[name], shown[name], added), np.float32)

    @cached_property
    def answers(self) -> list[str]:
        """Outputs of the own graph that hold FP32 numbers and hang on the inputs."""
        return [name for name in dict.fromkeys(self.own.outputs.values()) if name in self.own.floats]

    @cached_property
    def expected(self) -> Arrays:
        """The own graph's answers."""
        return self.own.part(self.answers)(self.feeds)

    @cached_property
    def least(self) -> Mapping[str, float]:
        """By how much a layer's own error has to move each answer to be a cause, as the figure MEAN."""
        seen: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in self.answers}
        for precision, twin in self.twins.items():
            for run in twin.each(self.feeds, RUNS, SEED):
                for n in self.answers:
                    of = figures(run[n], self.expected[n], self.expected[n])
                    seen[n].setdefault(precision, []).append(of)
        if not self.failed:
            return {n: allowed(runs)[MEAN] for n, runs in seen.items()}
        return {
            n: MATTERS * max(np.median([run[MEAN] for run in of]) for of in runs.values()) for n, runs in seen.items()
        }

    def _layer(self, name: str) -> str:
        return layer_of(self.own.operation(name), layer_names(self.chain))


def _few(given: Outputs, count: int) -> NDArray[np.intp]:
    """Samples to look at: half of them those where the file is furthest off, the others the first ones."""
    total = len(next(iter(given.inputs.values())))
    worst: dict[int, None] = {}
    for name, array in given.reference.items():
        actual = given.actual.get(name)
        if actual is not None and actual.shape == array.shape and array.ndim and len(array) == total:
            apart = np.abs(actual.astype(np.float64) - array).reshape(total, -1).max(axis=1)
            worst |= dict.fromkeys(np.argsort(-np.nan_to_num(apart, nan=np.inf), kind="stable")[: count // 2].tolist())
    chosen = list(dict.fromkeys([*list(worst)[: max(1, count // 2)], *range(total)]))[:count]
    return np.array(sorted(chosen), np.intp)


def _other_answers(inside: Inside, given: Outputs, few: NDArray[np.intp]) -> list[str]:
    """Sentences on the engine that shows its tensors where it answers otherwise than the one that was judged."""
    answers, _ = inside({n: a[few] for n, a in given.inputs.items()}, [])
    found = []
    for name, array in answers.items():
        actual, reference = given.actual.get(name), given.reference.get(name)
        total = len(next(iter(given.inputs.values())))
        if actual is None or reference is None or array.dtype.kind != "f" or actual.shape[:1] != (total,):
            continue
        ours, theirs = (
            np.nan_to_num(np.abs(a.astype(np.float64) - actual[few]), nan=np.inf).max(initial=0.0)
            for a in (array, reference[few])
        )
        if ours > theirs / 2 and theirs > 0:
            found.append(f"{inside.way} answers {name!r} otherwise, by up to {ours:.2g}: the fault may be in the other")
    return found
