"""The model's own FP32 graph, as what every layer of a file is compared with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from engines.inside import operation
from trial.twin.cut import cut, output, taken
from trial.twin.errors import TwinError
from trial.twin.graph import Graph, first_line, session
from trial.twin.operators import PRODUCTS, RECURRENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class OwnGraph:
    """FP32 graph of a model, and its names of the outputs, by the model's."""

    graph: Graph
    outputs: Mapping[str, str]

    @cached_property
    def makers(self) -> dict[str, Any]:
        """Node that makes each tensor."""
        return {name: node for node in self.graph.nodes for name in node.output if name}

    @cached_property
    def floats(self) -> dict[str, int]:
        """Places of the tensors of FP32 numbers that hang on an input, in the graph's order."""
        reached = set(self.graph.inputs)
        found: dict[str, int] = {}
        for node in self.graph.nodes:
            if reached.intersection(taken(node)):
                reached.update(node.output)
                found |= {name: len(found) for name in node.output if name and self.graph.is_float(name)}
        return found

    @cached_property
    def by_operation(self) -> dict[str, str]:
        """Tensors by the operation of the source model whose result they are; of several the last."""
        found: dict[str, str] = {}
        for name in self.floats:
            node = self.makers[name]
            names = (name, node.name) if len(node.output) == 1 else (name,)
            found |= dict.fromkeys((operation(n) for n in names if n), name)
        return found

    def operation(self, name: str) -> str:
        """Operation of the source model that a tensor is the result of."""
        return operation(self.makers[name].name or name)

    def before(self, target: str, compared: Collection[str]) -> set[str]:
        """Those of the compared tensors that a target is made of, with nothing compared in between; never itself."""
        return self._back(target, compared)[0]

    def within(self, target: str, compared: Collection[str]) -> list[str]:
        """Operations behind those, up to the target, in the graph's order: what it has its own error from."""
        makers = {self.makers[name].output[0]: self.makers[name] for name in self._back(target, compared)[1]}
        made = [(self.floats[name], node) for name, node in makers.items() if name in self.floats]
        summing = [node for _, node in sorted(made, key=lambda pair: pair[0]) if node.op_type in PRODUCTS | RECURRENT]
        return list(
            dict.fromkeys([*(operation(node.name or node.output[0]) for node in summing), self.operation(target)])
        )

    def _back(self, target: str, compared: Collection[str]) -> tuple[set[str], set[str]]:
        """Compared tensors that a target is made of, and all tensors behind them that it is made of, with itself."""
        found: set[str] = set()
        seen, left = {target}, list(taken(self.makers[target]))
        while left:
            name = left.pop()
            if name in compared:
                found.add(name)
            elif name in self.makers and name not in seen:
                seen.add(name)
                left += taken(self.makers[name])
        return found, seen

    def part(self, targets: Sequence[str], given: Collection[str] = ()) -> Part:
        """What computes targets from inputs, and from tensors that are given to it."""
        model = cut(self.graph.model, targets, given)
        outputs = {name: output(name, given) for name in targets}
        return Part(session(model), outputs, frozenset(i.name for i in model.graph.input))


@dataclass(frozen=True)
class Part:
    """Part of the own graph, opened: computes its ``targets``, whose outputs these are, of what it ``needs``."""

    opened: Any
    targets: Mapping[str, str]
    needs: frozenset[str]

    def __call__(self, feeds: Arrays, wanted: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """Targets, or those that are wanted of them; raises TwinError where ONNX Runtime fails."""
        names = list(wanted or self.targets)
        try:
            found = self.opened.run(
                [self.targets[n] for n in names], {n: a for n, a in feeds.items() if n in self.needs}
            )
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise TwinError(f"ONNX Runtime cannot run the FP32 graph: {first_line(error)}") from error
        return dict(zip(names, found, strict=True))
