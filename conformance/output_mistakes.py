"""The usual mistakes with an engine's outputs, each undone: what it would have answered without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.compare import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

FEWEST = 8
"""Of how many samples something has to be seen at least that is only measured: of one or two anything may be so."""

SAME_WEIGHTS_AGREEMENT = 0.5
"""Two trainings of a model share at least this many top-1 classes; unrelated outputs share about one in `classes`."""

SHIFTED = 0.9
"""The least share of answers that are those of a sample so many places on: the ends of batches are not."""

NOTHING = 1e-30
"""A probability below this tells nothing of its logit any more: it is near the end of what a float holds."""


def output_mistakes(actual: Arrays, reference: Arrays, scores: str | None) -> Iterator[tuple[str, Arrays]]:
    """Each mistake, in words, with the outputs once it is undone; ``scores`` names that of class scores, if any."""
    shaped = [name for name, q in reference.items() if actual[name].shape == q.shape]
    for one, other in combinations(shaped, 2):
        if actual[one].shape == actual[other].shape:
            exchanged = {**actual, one: actual[other], other: actual[one]}
            yield f"the outputs {one!r} and {other!r} are exchanged: with them put back", exchanged
    for name in shaped:
        p, q = actual[name], reference[name]
        if q.ndim > 1 and q.shape[-1] > 1 and (name == scores or _distributions(_rows(q))):
            for sentence, rows in _score_mistakes(_rows(p), _rows(q)):
                yield sentence, {**actual, name: rows.reshape(p.shape).astype(p.dtype)}
        elif q.ndim > 1 and q.size and q.min() >= 0 and q.max() <= 1:
            for sentence, rows in _decision_mistakes(_rows(p), _rows(q), name):
                yield sentence, {**actual, name: rows.reshape(p.shape).astype(p.dtype)}
    for name in shaped:
        one, each = ("class", "logit") if name == scores else ("number", "value")
        what = f"every {each} of {name!r} is"
        for sentence, values in _linear_mistakes(actual[name], reference[name], what, one):
            yield sentence, {**actual, name: values.astype(actual[name].dtype)}
    if (back := _put_back(actual, reference, shaped)) and len(shaped) == len(reference):
        yield back


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    """Array as rows of its last axis."""
    return array.reshape(-1, array.shape[-1])


def _score_mistakes(p: NDArray[Any], q: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Class scores ``p`` with each usual mistake undone, where ``q`` are the reference's."""
    yield "the softmax is missing: the outputs are logits; with a softmax", softmax(p)
    if _distributions(p):
        logarithms = np.log(p.astype(np.float64))
        if _distributions(q):
            # Probabilities sum to one, which tells the constant that a softmax forgets.
            rest = (1 - logarithms.sum(axis=1, keepdims=True)) / p.shape[1]
            yield "a softmax too many: the outputs had one twice; with one undone", logarithms + rest
            yield from _logit_mistakes(p, q)
        else:
            rest = (q.astype(np.float64) - logarithms).mean(axis=1, keepdims=True)
            yield (
                "a softmax too many: the outputs are probabilities instead of logits; with it undone",
                logarithms + rest,
            )
    elif _distributions(q) and p.size and p.min() >= 0 and p.max() <= 1:
        yield "each class has a sigmoid for the softmax: with a softmax", softmax(_odds(p))
    order = np.array([int(np.abs(p - q[:, [j]]).mean(axis=0).argmin()) for j in range(q.shape[1])])
    moved = np.flatnonzero(order != np.arange(len(order)))
    if len(moved) and len(set(order)) == len(order):
        where = ", ".join(f"class {j} is at {order[j]}" for j in moved[:4])
        yield f"the classes are permuted: {where}; with them put back", p[:, order]


def _logit_mistakes(p: NDArray[Any], q: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Probabilities ``p`` with a temperature, or a bias, taken out of their logits, as fitted to those of ``q``.

    Rows of which a probability is nothing at all do not count.
    """
    told = (p > NOTHING).all(axis=1) & (q > NOTHING).all(axis=1)
    if told.sum() < FEWEST:
        return
    # Logits are known but for a constant, which is taken off.
    ours, theirs = (np.log(np.maximum(rows, NOTHING).astype(np.float64)) for rows in (p, q))
    ours, theirs = (rows - rows.mean(axis=1, keepdims=True) for rows in (ours, theirs))
    slope = float((ours[told] * theirs[told]).sum() / (theirs[told] ** 2).sum())
    if slope > 0:
        undone = softmax(ours / slope)
        if _explains(undone, p, q):
            yield f"the softmax has a temperature of {1 / slope:.3g}: with that undone", undone
    bias = np.median(ours[told] - theirs[told], axis=0)
    undone = softmax(ours - bias)
    if _explains(undone, p, q):
        yield _biases(bias - np.median(bias), "class"), undone


def _decision_mistakes(p: NDArray[Any], q: NDArray[Any], name: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Scores ``p`` that are decided one by one with a mistake of their sigmoid undone, where ``q`` is the reference."""
    if p.min() < 0 or p.max() > 1:
        yield f"the sigmoid of {name!r} is missing: the outputs are logits; with a sigmoid", _sigmoid(p)
        return
    told = ((p > NOTHING) & (p < 1) & (q > NOTHING) & (q < 1)).all(axis=1)
    if told.sum() < FEWEST:
        return
    ours, theirs = _odds(p), _odds(q)
    if (theirs[told] ** 2).sum():
        slope = float((ours[told] * theirs[told]).sum() / (theirs[told] ** 2).sum())
        if slope > 0 and _explains(undone := _sigmoid(ours / slope), p, q):
            yield f"the sigmoid of {name!r} has a temperature of {1 / slope:.3g}: with that undone", undone
    bias = np.median(ours[told] - theirs[told], axis=0)
    if _explains(undone := _sigmoid(ours - bias), p, q):
        yield _biases(bias, "number"), undone


def _biases(bias: NDArray[Any], what: str) -> str:
    """Sentence on biases of a last layer that are off: those that are by a good part of the largest."""
    off = np.flatnonzero(np.abs(bias) > LEFT * np.abs(bias).max())
    off = off[np.argsort(-np.abs(bias[off]), kind="stable")]
    named = ", ".join(f"that of {what} {j} is {_more(float(bias[j]))}" for j in off[:3])
    return f"the last layer's bias is off: {named}{', and more' if len(off) > 3 else ''}; with that undone"


def _explains(undone: NDArray[Any], p: NDArray[Any], q: NDArray[Any]) -> bool:
    """Whether hardly any difference is left where a number that was fitted is undone."""
    wrong = np.abs(p.astype(np.float64) - q).mean()
    return bool(np.abs(undone.astype(np.float64) - q).mean() <= LEFT * wrong)


def _odds(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Logits of scores in [0, 1]."""
    inside = np.clip(scores.astype(np.float64), NOTHING, 1 - 1e-12)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _sigmoid(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values.astype(np.float64)))


def _more(value: float) -> str:
    return f"{abs(value):.3g} too {'large' if value > 0 else 'small'}"


def _put_back(actual: Arrays, reference: Arrays, names: list[str]) -> tuple[str, Arrays] | None:
    """Answers that are those of other samples, each put where it belongs; None where they are not such."""
    told = [name for name in names if reference[name].ndim > 1]
    if not told or not FEWEST <= (count := len(reference[told[0]])) <= MOST_SORTED:
        return None
    p, q = actual[told[0]].reshape(count, -1), reference[told[0]].reshape(count, -1)
    if p.shape != q.shape:
        return None
    owners = np.array([int(np.abs(row - q).mean(axis=1).argmin()) for row in p])
    # Answers that are turned around the end, as by a buffer that is written on at its beginning, are shifted as well.
    by = (owners - np.arange(count)) % count
    moved = np.flatnonzero(by)
    if not len(moved):
        return None
    most = int(np.bincount(by[moved]).argmax())
    if (by == most).mean() >= SHIFTED:
        shift = most - count if most > count // 2 else most
        sign = "-+"[int(shift > 0)]
        sentence = f"the answers are shifted: answer k is that of sample k {sign} {abs(shift)}; beside those of these"
    elif len(set(owners)) == count:
        where = ", ".join(f"answer {k} is that of sample {owners[k]}" for k in moved[:4])
        sentence = f"the answers are in another order than the samples: {where}; with them put back"
    else:
        return None
    # Of a sample that has no answer at all there is none to put back: each is put as far from its own right answer as
    # it is from that of the sample which it belongs to.
    outputs = {
        name: array + (reference[name] - reference[name][owners]).astype(array.dtype) if name in names else array
        for name, array in actual.items()
    }
    return sentence, outputs


def _distributions(scores: NDArray[Any]) -> bool:
    """Whether rows are probabilities, which sum to one."""
    return bool(scores.size and scores.min() >= 0 and np.abs(scores.sum(axis=1, dtype=np.float64) - 1).max() <= 1e-3)


LEFT = 0.1
"""The share of a mean difference that counts for little: what may be left of it where a fitted number is its cause."""


def _linear_mistakes(p: NDArray[Any], q: NDArray[Any], what: str, one: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Logits or values with a constant, a factor, and both undone, where that leaves hardly any difference.

    Probabilities have neither: they sum to one. ``what`` begins the sentence.
    """
    if len(q) < FEWEST or (q.ndim == 2 and q.shape[1] > 1 and _distributions(q)):
        return
    ours, theirs = p.astype(np.float64), q.astype(np.float64)
    centred = theirs - theirs.mean()
    slope = float((centred * ours).sum() / (centred**2).sum())
    factor = float((ours * theirs).sum() / (theirs**2).sum())

    constant, rest = float((ours - theirs).mean()), float((ours - slope * theirs).mean())
    for sentence, values in (
        (f"{_more(constant)}: with that undone", ours - constant),
        (f"{factor:.3g} times what it should be: with that undone", ours / factor),
        (f"{slope:.3g} times what it should be, and then {_more(rest)}: with both undone", (ours - rest) / slope),
    ):
        if _explains(values, p, q):
            yield f"{what} {sentence}", values
    if q.ndim == 2 and q.shape[1] > 1:
        bias = np.median(ours - theirs, axis=0)
        if _explains(ours - bias, p, q):
            yield _biases(bias, one), ours - bias


MOST_SHIFTED = 128
"""By how many samples answers may be off to be found so: a batch."""

MOST_SORTED = 1000
"""Among how many samples the one that an answer belongs to is looked for: every answer is compared with each."""


def order_mistakes(actual: Arrays, reference: Arrays, scores: str) -> Iterator[tuple[str, Arrays, Arrays]]:
    """Parts of outputs and reference that would have to agree, were all answers those of other samples: shifted."""
    p, q = actual[scores], reference[scores]
    ours, theirs = p.argmax(axis=1), q.argmax(axis=1)
    for by, sign in product(range(1, min(len(p) // 2, MOST_SHIFTED) + 1), "-+"):
        later, earlier = slice(by, None), slice(None, -by)
        mine, its = (later, earlier) if sign == "-" else (earlier, later)
        # Classes are looked at first, which is cheaper by far.
        if (ours[mine] == theirs[its]).mean() >= SAME_WEIGHTS_AGREEMENT:
            yield (
                f"the answers are shifted: answer k is that of sample k {sign} {by}",
                {scores: p[mine]},
                {scores: q[its]},
            )


FEWEST_OFF = 0.1
"""The least share of a reference's numbers that are none of a rounding's, where answers are taken for rounded."""


def rounded(actual: Arrays, reference: Arrays) -> str:
    """Sentence that all answers are the reference's with few decimals, as a program or a server that prints them has.

    Empty where they are not, or where the reference's own have no more.
    """
    floats = [name for name, q in reference.items() if q.dtype.kind == "f" and q.size and actual[name].shape == q.shape]
    for decimals in range(1, 7):
        step, off, apart = 10.0**-decimals, [], []
        for name in floats:
            p, q = actual[name].astype(np.float64), reference[name].astype(np.float64)
            # What the nearest number of FP32 may be off by; beyond that grid nothing can be told.
            least = float(np.finfo(np.float32).eps * np.abs(q).max())
            on = np.abs(p - np.round(p, decimals)) <= least
            apart.append(bool(on.all() and least < step / 8 and np.abs(p - q).max() <= 0.6 * step))
            off.append(float(np.mean(np.abs(q - np.round(q, decimals)) > least)))
        if floats and all(apart) and max(off) > FEWEST_OFF:
            return f"the answers are rounded to {decimals} decimals: they are the reference's, but for less than that"
    return ""
