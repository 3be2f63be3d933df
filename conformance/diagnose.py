"""Point at the kind of trouble behind a failed comparison: try the usual mistakes and see which one explains it.

A mistake counts as the explanation only where undoing it makes the outputs agree within the same tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.compare import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

SAME_WEIGHTS_AGREEMENT = 0.5
"""Two trainings of a model share at least this many top-1 classes; unrelated outputs share about one in `classes`."""


def diagnose(
    inputs: Arrays,
    actual: Arrays,
    reference: Arrays,
    *,
    run: Callable[[Arrays], Arrays],
    agrees: Callable[[Arrays], bool],
    scores: str | None,
) -> str:
    """Say in one sentence what most likely is wrong.

    ``run`` runs the engine on other inputs, ``agrees`` judges outputs against the reference as the failed comparison
    was judged, and ``scores`` names the output of class scores, where there is one.
    """
    for sentence, outputs in _output_mistakes(actual, reference, scores):
        if agrees(outputs):
            return sentence
    for sentence, changed in _input_mistakes(inputs):
        if agrees(run(changed)):
            return sentence
    count = len(next(iter(inputs.values())))
    if count > 1:
        singles = [run({name: array[i : i + 1] for name, array in inputs.items()}) for i in range(count)]
        if agrees({name: np.concatenate([s[name] for s in singles]) for name in singles[0]}):
            return "right one by one and wrong in batches: a batch size is built into the engine"
    return _by_agreement(actual, reference, scores)


def _output_mistakes(actual: Arrays, reference: Arrays, scores: str | None) -> Iterator[tuple[str, Arrays]]:
    if scores is None or actual[scores].shape != reference[scores].shape:
        return
    p, q = actual[scores], reference[scores]

    def changed(values: NDArray[Any]) -> Arrays:
        return {**actual, scores: values.astype(p.dtype)}

    yield "the softmax is missing: the outputs are logits", changed(softmax(p))
    order = np.array([int(np.abs(p - q[:, [j]]).mean(axis=0).argmin()) for j in range(q.shape[1])])
    moved = np.flatnonzero(order != np.arange(len(order)))
    if len(moved) and len(set(order)) == len(order):
        where = ", ".join(f"class {j} is at {order[j]}" for j in moved[:4])
        yield f"the classes are permuted: {where}", changed(p[:, order])


def _input_mistakes(inputs: Arrays) -> Iterator[tuple[str, Arrays]]:
    def each(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Arrays:
        return {name: np.ascontiguousarray(change(array), array.dtype) for name, array in inputs.items()}

    images = all(array.ndim == 4 for array in inputs.values())
    if images and all(array.shape[3] > 1 for array in inputs.values()):
        yield "the input channels are swapped (RGB and BGR): reversing them agrees", each(lambda a: a[..., ::-1])
    scales: tuple[tuple[str, Callable[[NDArray[Any]], NDArray[Any]]], ...] = (
        ("inputs are expected 255 times as large, in [0, 255]", lambda a: a * 255),
        ("inputs are expected 255 times as small, in [0, 1]", lambda a: a / 255),
        ("inputs are expected in [-1, 1] instead of [0, 1]", lambda a: a * 2 - 1),
        ("inputs are expected in [0, 1] instead of [-1, 1]", lambda a: (a + 1) / 2),
    )
    for sentence, change in scales:
        yield f"{sentence}: scaling them so agrees", each(change)
    if images and all(array.shape[1] == array.shape[2] for array in inputs.values()):
        yield "height and width are swapped: transposing the images agrees", each(lambda a: a.swapaxes(1, 2))
    if images:
        yield (
            "channels are expected first (NCHW bytes in an NHWC shape): reordering them agrees",
            each(lambda a: a.transpose(0, 3, 1, 2).reshape(a.shape)),
        )


def _by_agreement(actual: Arrays, reference: Arrays, scores: str | None) -> str:
    if scores is None:
        return "no usual mistake explains it; the engine computes something else"
    p, q = actual[scores], reference[scores]
    if np.abs(p - p[:1]).max() <= 1e-6 * max(1.0, float(np.abs(p).max())) < float(np.abs(q - q[:1]).max()):
        return "every sample gets the same answer: the inputs do not reach the outputs, or are far outside the range"
    same, count = int((p.argmax(axis=1) == q.argmax(axis=1)).sum()), len(q)
    if same >= SAME_WEIGHTS_AGREEMENT * count:
        return (
            f"{same} of {count} top-1 classes agree but the values do not: other weights "
            "(another training run, a stale or damaged export, or a lower precision than stated)"
        )
    return f"only {same} of {count} top-1 classes agree: another model, other weights, or inputs prepared differently"
