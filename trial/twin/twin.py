"""The twin itself: made once from a model's FP32 graph, run as often as asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trial.twin.cost import affordable
from trial.twin.cut import cut, output
from trial.twin.errors import TwinError
from trial.twin.graph import Graph, exact, first_line, session
from trial.twin.grids import Grids, add_grids
from trial.twin.noise import add_noise, seeded
from trial.twin.plan import declared
from trial.twin.precision import Precision, find
from trial.twin.weights import beyond, drawn_in_float, drawn_on_grid, stored_in_float

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

BATCH = 32
"""Samples that are run at once: what bounds the memory."""


WHOLE = 1 << 30
"""The batch of a part: what is given to it need not have a row for each sample, so that it is never cut."""


@dataclass(frozen=True)
class Twin:
    """FP32 graph whose roundings are random ones of ``precision``.

    ``declared`` are sentences on operators that it does not see into. ``called`` maps the model's inputs to those of
    the twin's graph, ``outputs`` the outputs, and ``batch`` is how many samples one call takes: the model's own number
    where that is fixed. ``samples`` is how many a run can afford.
    """

    precision: Precision
    declared: tuple[str, ...]
    model: Any
    called: Mapping[str, str]
    outputs: Mapping[str, str]
    weights: Mapping[str, Callable[[np.random.Generator], NDArray[np.float32]]]
    grids: Grids | None
    batch: int
    samples: int

    @classmethod
    def of(
        cls,
        model: Any,
        precision: str | Precision,
        calibration_inputs: Arrays | None = None,
        answers: Arrays | None = None,
    ) -> Twin:
        """Make the twin of an onnx.ModelProto in FP32.

        ``calibration_inputs``, arrays (N, …) by the graph's input names, are what INT8 finds its ranges with.
        ``answers`` of the model (N, …) tell how many numbers a run has to keep.
        Raises TwinError where ONNX Runtime cannot run the model, it draws random numbers, or INT8 has no samples.
        """
        chosen = find(precision)
        graph = Graph.of(model)
        sentences = (*declared(graph), *beyond(graph, chosen))
        inputs, size, samples = graph.inputs, _batch(graph), affordable(graph, answers or {})
        grids = None
        if chosen.bits:
            if calibration_inputs is None:
                raise TwinError(f"a twin in {chosen.name} needs calibration samples")
            grids = add_grids(graph, chosen, calibration_inputs, size)
        else:
            add_noise(graph, chosen)
        weights = _weights(graph, chosen, grids)
        graph.feed(weights)
        known = {i.name for i in graph.model.graph.input}
        called = {name: name if name in known else exact(name) for name in inputs}
        return cls(chosen, sentences, graph.model, called, {n: n for n in graph.outputs}, weights, grids, size, samples)

    def runs(self, inputs: Arrays, k: int, seed: int = 0) -> list[dict[str, NDArray[Any]]]:
        """Outputs (N, …) by graph output name of ``k`` runs on ``inputs`` (N, …); the same for the same seed.

        Raises TwinError where ONNX Runtime cannot run the inputs, or answers that are finite in one run are not in
        another.
        """
        found = list(self.each(inputs, k, seed))
        _check_finite(found, self.precision.name)
        return found

    def each(self, inputs: Arrays, k: int, seed: int = 0) -> Iterator[dict[str, NDArray[Any]]]:
        """The same, run after run, so that none has to be kept; answers that are not finite are given as they are."""
        return (self._run(inputs, seed, run) for run in range(k))

    def part(self, targets: Sequence[str], given: Collection[str]) -> Twin:
        """Twin of what computes ``targets`` from tensors that are ``given`` to it, all by the model's own names.

        Its runs take the given tensors that it needs and the model's inputs, and give the targets. Where only what
        products take and give is on a grid, a tensor is one before it is rounded: the rounding belongs to what takes
        it. Elsewhere it is one as it is stored.
        """
        raw = {name for node in self.model.graph.node for name in node.output}
        before = self.grids is not None and not self.precision.throughout

        def place(name: str) -> str:
            return exact(name) if before and exact(name) in raw else name

        taken = {place(n) for n in given}
        model = cut(self.model, [place(n) for n in targets], taken)
        needed = {i.name for i in model.graph.input}
        called = {n: inside for n, inside in self.called.items() if inside in needed}
        called |= {n: place(n) for n in given if place(n) in needed}
        weights = {n: draw for n, draw in self.weights.items() if n in needed}
        return replace(
            self,
            model=model,
            called=called,
            outputs={n: output(place(n), taken) for n in targets},
            weights=weights,
            batch=WHOLE,
        )

    def _run(self, inputs: Arrays, seed: int, run: int) -> dict[str, NDArray[Any]]:
        """One run: weights and grids are drawn once, as an engine has one of each, and errors for every sample."""
        generator = np.random.default_rng([seed, 2, run])
        drawn = {name: draw(generator) for name, draw in self.weights.items()}
        # Of a part all grids are drawn, so that each is that of the whole twin's run.
        needed = {i.name for i in self.model.graph.input}
        drawn |= {n: a for n, a in (self.grids.drawn(generator) if self.grids else {}).items() if n in needed}
        opened = self._opened(drawn, [seed, run])
        parts = []
        for feeds in self._batches(inputs):
            try:
                parts.append(opened.run(list(self.outputs.values()), feeds))
            except Exception as error:  # as at loading
                raise TwinError(f"ONNX Runtime cannot run the twin: {first_line(error)}") from error
        sizes = [len(feeds[next(iter(self.called.values()))]) for feeds in self._batches(inputs)]
        return {name: _joined([part[i] for part in parts], sizes) for i, name in enumerate(self.outputs)}

    def _opened(self, drawn: Arrays, seed: list[int]) -> Any:
        """Session of one run: what was drawn is constant in it, since ONNX Runtime packs constant weights once."""
        import onnx
        from onnx import numpy_helper

        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        kept = [value for value in model.graph.input if value.name not in drawn]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in drawn.items())
        seeded(model, seed)
        return session(model)

    def _batches(self, inputs: Arrays) -> Iterator[dict[str, NDArray[Any]]]:
        count = len(inputs[next(iter(self.called))])
        for start in range(0, count, self.batch):
            yield {inside: inputs[name][start : start + self.batch] for name, inside in self.called.items()}


def _batch(graph: Graph) -> int:
    """Samples of one call: the model's own number where its inputs fix one."""
    fixed = [graph.shapes[name][0] for name in graph.inputs if graph.shapes.get(name)]
    return next((size for size in fixed if size), BATCH)


def _weights(
    graph: Graph, precision: Precision, grids: Grids | None
) -> dict[str, Callable[[np.random.Generator], NDArray[np.float32]]]:
    """How the weights of a run are drawn, by name."""
    if grids:
        return {name: _on_grid(graph.constants[name], axes) for name, axes in grids.weights.items()}
    return {name: _in_float(graph.constants[name], precision) for name in stored_in_float(graph, precision)}


def _on_grid(
    values: NDArray[Any], axes: tuple[int, ...] | None
) -> Callable[[np.random.Generator], NDArray[np.float32]]:
    return lambda generator: drawn_on_grid(values, axes, generator)


def _in_float(values: NDArray[Any], precision: Precision) -> Callable[[np.random.Generator], NDArray[np.float32]]:
    return lambda generator: drawn_in_float(values, precision, generator)


def _joined(parts: list[NDArray[Any]], sizes: list[int]) -> NDArray[Any]:
    """Answers of all batches one after another; those of an output without a batch axis once."""
    if any(not part.ndim or len(part) != size for part, size in zip(parts, sizes, strict=True)):
        return parts[0]
    return np.concatenate(parts)


def _check_finite(runs: list[dict[str, NDArray[Any]]], precision: str) -> None:
    """Refuse runs that do not agree on where an answer is finite."""
    for name, first in runs[0].items() if runs else ():
        if first.dtype.kind == "f" and any((np.isfinite(r[name]) != np.isfinite(first)).any() for r in runs[1:]):
            raise TwinError(
                f"output {name!r} is unstable in {precision}: NaN or infinite in some runs and not in others"
            )
