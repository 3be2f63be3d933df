"""The first layer of a file whose own error is beyond what its precision does to that layer.

Each layer is given what the file itself computes before it, in the model's own FP32 graph. What the two make of that
differs by the layer's own error alone. The same layer of the twin, given what the FP32 graph computes, shows how large
that may be. So no error is booked on a layer that only passes it on, and none hides behind those before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.location import SHAPE, Layer, Location
from engines.errors import EngineError, StoreUnusableError
from engines.formats import registry
from engines.progress import live
from trial.locate.cause import Causes
from trial.locate.comparison import Compared
from trial.locate.graph import OwnGraph
from trial.locate.layers import layer_names
from trial.locate.rank import ranked
from trial.own_noise import FP32, twin_of
from trial.twin import PRECISIONS
from trial.twin.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from engines.inside import Inside
    from engines.variant import Variant
    from trial.outputs import Outputs

    Arrays = Mapping[str, NDArray[Any]]

SAMPLES = 16
"""The most samples that are looked at: half of them where the file is furthest off."""


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
    if path == own_chain.file(FP32):
        return Location(unlocated=f"{variant} is the very graph that others are compared with")
    with live(f"{variant}: layers looked into"):
        inside = format_.inside(chain.spec, variant, path)
        if inside is None:
            return Location(unlocated=f"{format_.label} shows no tensors between layers")
        with inside:
            precision = format_.arithmetic(variant, chain.spec, brought)
            if precision not in PRECISIONS:
                return Location(unlocated=f"how {variant} computes has no twin, which would tell the noise of a layer")
            return _location(own_chain, variant, inside, inside.arithmetic or str(precision), given, failed=failed)


def _location(
    chain: Chain, variant: Variant, inside: Inside, precision: str, given: Outputs, *, failed: bool
) -> Location:
    """Where the error of a file comes from that shows its tensors, and computes in a precision of the twin's."""
    import onnx

    made = {p: twin_of(chain, p, given.inputs, given.reference) for p in dict.fromkeys((precision, "fp32"))}
    twin, feeds, outputs = made[precision]
    few = _few(given, min(SAMPLES, twin.samples, twin.batch))
    inputs, fed = ({n: a[few] for n, a in arrays.items()} for arrays in (given.inputs, feeds))
    own = OwnGraph(Graph.of(onnx.load(str(chain.file(FP32)))), outputs)
    twins = {p: found for p, (found, _, _) in made.items()}
    compared = Compared(inside, inputs, own, fed, twins, layer_names(chain)).matched()
    if not compared.matches:
        return Location(unlocated="no tensor of the file has the name of one of the model")
    misfits = [name for name, match in compared.matches.items() if match.shapes]
    given_names = [name for name in compared.matches if name not in misfits]
    causes = Causes(compared, compared.layers(given_names, given_names), failed)
    first = causes.first()
    along = tuple(causes.found.values())
    if misfits and (first is None or own.floats[misfits[0]] < own.floats[first]):
        match = compared.matches[misfits[0]]
        layer = compared.layer(match.own, given_names)
        return Location(Layer(layer, f"{match.tensor.maker}, {match.shapes}", SHAPE, np.inf, 0.0), along)
    ranking, whole = ranked(compared, list(causes.found)) if variant.precision.startswith("int8") else ((), 0.0)
    if first is not None:
        return Location(causes.found[first], along, ranking, whole)
    return Location(None, along, ranking, whole, notes=_other_answers(inside, given, few) if failed else ())


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
            told = f"by {inside.way}, in which layers are compared, {name!r} differs by up to {ours:.2g}"
            found.append(f"{told}: the fault may be in the kernels that fail")
    return found
