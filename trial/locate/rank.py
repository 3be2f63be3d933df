"""Layers of a quantized file by the error that each adds alone, and what is left where the worst are not quantized."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.location import SHOWN, Alone
from trial.locate.errors import MEAN, figures
from trial.twin.cut import own
from trial.twin.graph import session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trial.locate.graph import OwnGraph

    Arrays = Mapping[str, NDArray[Any]]

BEYOND_NUMBERS = 1e30
"""An error as large is that of a mask, which stands for infinity: added to one, nothing is left of it."""


def ranked(
    graph: OwnGraph, feeds: Arrays, errors: Arrays, layers: Mapping[str, str], answers: Sequence[str]
) -> tuple[tuple[Alone, ...], float]:
    """Layers by the error of the answers where only that layer has the file's own errors, the largest first.

    ``errors`` are those by tensor (N, …), ``layers`` the layer of each. The second is the error where all have theirs.
    All are root mean squares over that of the answers, of the answer that is furthest off.
    """
    added = {n: e for n, e in errors.items() if e.ndim and np.isfinite(e).all() and np.abs(e).max() < BEYOND_NUMBERS}
    opened = session(_with_errors(graph, added, answers))
    expected = dict(zip(answers, opened.run(list(answers), {**feeds, **_fed(added, ())}), strict=True))

    def error(chosen: Collection[str]) -> float:
        """Error of the answers where tensors of these layers have their own errors."""
        names = [name for name in added if layers[name] in chosen]
        found = opened.run(list(answers), {**feeds, **_fed(added, names)})
        return max(figures(f, expected[n], expected[n])[MEAN] for n, f in zip(answers, found, strict=True))

    every = list(dict.fromkeys(layers[name] for name in added))
    alone = {layer: error([layer]) for layer in every}
    order = sorted((layer for layer in every if alone[layer] > 0), key=lambda layer: -alone[layer])
    kept = [error(order[place + 1 :]) for place in range(min(SHOWN, len(order)))]
    # Of those that are not named what would be left is not asked.
    left = [*kept, *[None] * (len(order) - len(kept))]
    found = tuple(Alone(layer, alone[layer], rest) for layer, rest in zip(order, left, strict=True))
    return found, error(every)


def _fed(errors: Arrays, chosen: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """Errors that are added, zero for those that are not chosen."""
    return {_added(n): e if n in chosen else np.zeros(1, np.float32) for n, e in errors.items()}


def _added(name: str) -> str:
    return f"{name}/added"


def _with_errors(graph: OwnGraph, names: Collection[str], answers: Sequence[str]) -> Any:
    """Own graph that adds an input to each of the named tensors."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.ModelProto()
    model.CopyFrom(graph.graph.model)
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in names:
                node.output[place] = own(name)
                nodes.append(helper.make_node("Add", [own(name), _added(name)], [name]))
                model.graph.input.append(helper.make_tensor_value_info(_added(name), TensorProto.FLOAT, None))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in answers)
    del model.graph.value_info[:]
    return model
