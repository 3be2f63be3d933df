"""Reduce the outputs of a variant and of the reference to what the charts of a report show: small, plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.compare import softmax, top

if TYPE_CHECKING:
    from numpy.typing import NDArray

EDGES = np.linspace(-10, 2, 49)
"""Edges of the histogram's bins, base 10 logarithms: four bins a decade, the same for every variant."""

POINTS = 300
"""The largest number of samples in the scatter."""

WORST = 4
"""How many of the samples with the largest differences are shown."""

CLASSES = 20
"""The largest number of classes whose agreement is listed; those that agree least come first where there are more."""


def picture(
    actual: NDArray[Any],
    reference: NDArray[Any],
    kind: str,
    allowed: float,
    class_names: Sequence[str] = (),
    labels: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Reduce one output (N, …) of a variant and the reference's to a histogram, a scatter, agreement, worst samples.

    ``kind`` is the output's, one of :data:`conformance.compare.KINDS` with a batch axis, ``allowed`` the tolerance
    ``max`` that differences are held against. Those of outputs without a scale are relative to the reference's largest
    magnitude, as
    in :func:`conformance.compare.compare`. ``labels`` are the true classes of the samples, where they are known.
    Raises ValueError where shapes differ, there are no samples, or a value is not finite. There is nothing to draw
    then, and the comparison has said so already.
    """
    if actual.shape != reference.shape or actual.size == 0:
        raise ValueError(f"shapes {actual.shape} and {reference.shape}")
    difference = np.abs(actual.astype(np.float64) - reference.astype(np.float64))
    if kind not in ("probabilities", "scores", "integers"):
        difference /= float(np.abs(reference).max()) or 1.0
    if not np.isfinite(difference).all():
        raise ValueError("values that are not finite")
    result: dict[str, Any] = {
        "samples": len(reference),
        "histogram": _histogram(difference, allowed),
        "allowed_max": allowed,
        "flips": None,
        "scatter": [],
        "agreement": [],
    }
    by_sample = difference.reshape(len(difference), -1).max(axis=1)
    order = np.argsort(-by_sample, kind="stable")
    flipped = np.zeros(len(reference), bool)
    scores: tuple[NDArray[Any], NDArray[Any]] | None = None
    if kind in ("probabilities", "logits") and reference.ndim == 2:
        scores = (softmax(reference), softmax(actual)) if kind == "logits" else (reference, actual)
        expected, found = (s.argmax(axis=1) for s in scores)
        flipped = expected != found
        result["flips"] = int(flipped.sum())
        result["scatter"] = _scatter(scores[0], scores[1], flipped)
        result["agreement"] = _agreement(expected, flipped, class_names)
    result["worst"] = [
        {
            "sample": int(i),
            "difference": float(by_sample[i]),
            "expected": _top(scores[0][i], class_names) if scores else [],
            "got": _top(scores[1][i], class_names) if scores else [],
            "flip": bool(flipped[i]),
            "label": None if labels is None or not scores else _name(int(labels[i]), class_names),
            "image": None,
        }
        for i in order[:WORST]
    ]
    return result


def _histogram(difference: NDArray[np.float64], allowed: float) -> dict[str, Any]:
    some = difference[difference > 0]
    logarithms = np.clip(np.log10(some), EDGES[0], EDGES[-1])
    return {
        "edges_log10": [float(e) for e in EDGES],
        "counts": [int(n) for n in np.histogram(logarithms, EDGES)[0]],
        "zeros": int(difference.size - some.size),
        "beyond": int((difference > allowed).sum()),
    }


def _scatter(reference: NDArray[Any], actual: NDArray[Any], flipped: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Take all flips where they leave a third for others, and of what is more as much as there is room for, evenly."""
    sure, found = reference.max(axis=1), actual.max(axis=1)
    flips, others = np.flatnonzero(flipped), np.flatnonzero(~flipped)
    flips = _evenly(flips[np.argsort(-sure[flips], kind="stable")], max(POINTS * 2 // 3, POINTS - len(others)))
    others = _evenly(others, POINTS - len(flips))
    return [
        {
            "sample": int(i),
            "reference": round(float(sure[i]), 4),
            "variant": round(float(found[i]), 4),
            "flip": bool(flipped[i]),
        }
        for i in (*flips, *others)
    ]


def _evenly(values: NDArray[Any], count: int) -> NDArray[Any]:
    return values if len(values) <= count else values[np.linspace(0, len(values) - 1, count).astype(int)]


def _agreement(expected: NDArray[Any], flipped: NDArray[np.bool_], class_names: Sequence[str]) -> list[dict[str, Any]]:
    rows = [(int(c), int((expected == c).sum()), int((~flipped[expected == c]).sum())) for c in np.unique(expected)]
    if len(rows) > CLASSES:
        rows = sorted(rows, key=lambda row: row[2] / row[1])[:CLASSES]
    return [{"class": _name(c, class_names), "samples": n, "same": same} for c, n, same in rows]


def _top(scores: NDArray[Any], class_names: Sequence[str]) -> list[list[Any]]:
    return [[_name(c, class_names), round(p, 4)] for c, p in top(scores)]


def _name(index: int, class_names: Sequence[str]) -> str:
    return str(class_names[index]) if index < len(class_names) else f"class {index}"


def with_images(drawn: Mapping[str, Any], images: Mapping[int, str]) -> dict[str, Any]:
    """Put images (data URIs by sample) to the worst samples of a picture."""
    return {**drawn, "worst": [{**w, "image": images.get(w["sample"])} for w in drawn["worst"]]}
