"""Point at the kind of trouble behind a failed comparison: try the usual mistakes and see which one explains it.

A mistake counts as the explanation only where undoing it makes the outputs agree within the same tolerance. Where that
is as narrow as the rounding of what is undone, it counts where it leaves next to nothing of the difference. Where it
cannot be undone, as with what an integer input has lost, it counts only where it alone makes the reference itself fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.cause import Cause
from conformance.input_mistakes import by_steps, input_mistakes
from conformance.output_mistakes import FEWEST, LEFT, SAME_WEIGHTS_AGREEMENT, order_mistakes, output_mistakes, rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

PROBED = 2
"""How many samples are changed, one after the other, to see which answers change with them."""


def diagnose(
    inputs: Arrays,
    actual: Arrays,
    reference: Arrays,
    *,
    run: Callable[[Arrays], Arrays],
    alone: Callable[[Arrays], Arrays],
    agrees: Callable[[Arrays], bool],
    scores: str | None,
    batch: int | None = None,
    steps: Mapping[str, float] | None = None,
    ask: Callable[[Arrays], Arrays | None] | None = None,
    converted: str | None = None,
    windows: Callable[[], str] = str,
    parts: Callable[[], str] = str,
    swamped: Callable[[], str] = str,
    integers: bool = False,
) -> Cause:
    """What most likely is wrong, or that nothing explains it.

    - ``run`` runs the engine on other inputs; ``alone`` does so with every sample in a batch of its own.
    - ``agrees`` judges outputs against the reference as the failed comparison was judged.
    - ``scores`` names the output of class scores, where there is one.
    - ``batch`` is how many samples the engine is given at once (None: all).
    - ``steps`` holds the step of each input that is integer inside the engine.
    - ``ask`` gives the reference's outputs on other inputs, or None where it cannot be asked.
    - ``converted`` is the precision of an engine that was just made from the reference and is fed by the caller. It is
      None for one whose weights, or whose feeding, are somebody else's.
    - ``integers`` says that the engine computes in integers, whose rounding hides what a single value does.
    - ``windows`` says which convolutions and poolings of a file are others than those of the model's own, if any, and
      ``parts`` which operators, options and constants are. ``swamped`` names an operator whose step in INT8 is larger
      than all that one of its inputs can hold.
    """
    # Engines that are fed rubbish answer with NaN and infinity, which must not get in the way of finding out.
    with np.errstate(all="ignore"):
        count = len(next(iter(inputs.values())))
        for sentence, outputs in _tried(inputs, actual, reference, run, scores):
            if found := _explained(sentence, count, agrees(outputs), _left_of(outputs, actual, reference)):
                return found
        if lost := by_steps(inputs, steps or {}, ask, agrees):
            return lost
        if told := windows():
            return Cause(f"its windows are not those of the model's own file: {told}", located=True)
        sentence = _stuck(actual, reference, scores)
        if not sentence:
            single = alone(inputs)
            right = count > 1 and agrees(single)
            influenced = _by_influence(
                inputs,
                actual,
                run,
                batch or count,
                by_batch=lambda: _accounts_for(single, actual, reference),
                # What is right one by one is fed what it is to be fed.
                fed_elsewhere=converted is None and not right,
                single=not integers,
            )
            sentence = f"{influenced}{_commonest(actual, scores)}" if influenced else ONE_BY_ONE * right
            if not sentence and converted and _unsteady(run(inputs), actual, reference):
                sentence = EACH_TIME
        sentence = sentence or _not_finite(actual) or rounded(actual, reference)
        if not sentence and (told := parts()):
            return Cause(f"it is not the model's own file: {told}", located=True)
        if not sentence and (told := swamped()):
            return Cause(told, located=True)
        return Cause(sentence) if sentence else _left(actual, reference, agrees, scores, converted)


def _left(
    actual: Arrays, reference: Arrays, agrees: Callable[[Arrays], bool], scores: str | None, converted: str | None
) -> Cause:
    """What may be wrong where nothing that was tried explains it."""
    if scores is None:
        why = _converted(converted) if converted else f"what is left is {OTHER_WEIGHTS}"
        return Cause.unknown(f"no usual mistake explains it; {why}")
    if len(reference) > 1 and agrees({**reference, scores: actual[scores]}):
        return Cause.unknown(f"the class scores {scores!r} agree, and what differs is another output")
    return Cause(_by_agreement(actual[scores], reference[scores], converted))


def diagnose_answers(
    actual: Arrays, reference: Arrays, *, agrees: Callable[[Arrays, Arrays], bool], scores: str
) -> Cause:
    """What most likely is wrong, where there are answers only and nothing can be run again.

    ``agrees`` judges outputs by a reference, both of the same samples, as the failed comparison was judged, and
    ``scores`` names the output of class scores.
    """
    # Scores may be anything finite.
    with np.errstate(all="ignore"):
        for sentence, outputs in output_mistakes(actual, reference, scores):
            left = _left_of(outputs, actual, reference)
            if found := _explained(sentence, len(reference[scores]), agrees(outputs, reference), left):
                return found
        for sentence, outputs, expected in order_mistakes(actual, reference, scores):
            if agrees(outputs, expected):
                return Cause(sentence)
        return Cause(_by_answers(actual, reference, agrees, scores))


def _by_answers(actual: Arrays, reference: Arrays, agrees: Callable[[Arrays, Arrays], bool], scores: str) -> str:
    """What answers look like that no single mistake explains."""
    often = _commonest(actual, scores)
    if last := _wrong_at_the_end(actual, reference, agrees, scores):
        return f"all answers but the last {last} are right: as if the last batch was not run, or not all of it"
    if _constant(actual, reference, scores):
        return f"every sample gets the same answer{often}: the samples do not reach the engine"
    if often and not _commonest(reference, scores):
        return f"as if fed data that has nothing to do with the samples, such as random numbers{often}"
    told = _by_agreement(actual[scores], reference[scores])
    return f"{told}; or samples that were fed changed: answers cannot tell"


def missing_samples(found: int, expected: int, batch: int) -> Cause | None:
    """Reason for ``found`` answers to ``expected`` samples in batches of ``batch``; None where unknown."""
    rest = expected % batch
    if rest and found == expected - rest:
        return Cause(f"the last batch, of {rest}, was dropped: {found} of {expected} samples have answers")
    if found == -(-expected // batch) * batch:
        return Cause(
            f"the last batch, of {rest}, was answered as a full one of {batch}: {found} answers for {expected} samples"
        )
    return None


AGAIN = "right when the same inputs are run once more: its answers change from run to run"


def _tried(
    inputs: Arrays, actual: Arrays, reference: Arrays, run: Callable[[Arrays], Arrays], scores: str | None
) -> Iterator[tuple[str, Arrays]]:
    """Each mistake, with the outputs once it is undone; those first that need no run."""
    yield from output_mistakes(actual, reference, scores)
    # Before any change of the inputs: it would seem to be what made them right.
    yield AGAIN, run(inputs)
    for sentence, changed in input_mistakes(inputs):
        yield sentence, run(changed)


def _explained(sentence: str, count: int, agrees: bool, left: float) -> Cause | None:
    """Cause of a failure on ``count`` samples by a mistake that was undone; None where it is not the trouble.

    Only one without which they agree is proved: ``left`` is the share of the difference that another one leaves.
    """
    if agrees and sentence == AGAIN:
        return Cause(sentence)
    if agrees:
        what = f"({count} sample{'' if count == 1 else 's'})"
        return Cause(f"{sentence}, its answers agree with the reference, within the tolerance {what}", proved=True)
    if left > HARDLY:
        return None
    return Cause(f"{sentence}, next to nothing is left of the difference ({left:.1g} of it)")


HARDLY = 1e-3
"""The share of a mean difference that is next to nothing: what rounding leaves where a mistake is undone."""


def _left_of(outputs: Arrays, actual: Arrays, reference: Arrays) -> float:
    """The share of the mean difference that is left, of the output that has the most; 1 where nothing can be told."""
    shares = [0.0]
    for name, right in reference.items():
        wrong = float(np.abs(actual[name].astype(np.float64) - right).mean())
        still = float(np.abs(outputs[name].astype(np.float64) - right).mean())
        if not (np.isfinite(wrong) and np.isfinite(still)):
            return 1.0
        if wrong or still:
            shares.append(still / wrong if wrong else 1.0)
    return max(shares) if len(shares) > 1 else 1.0


def _wrong_at_the_end(actual: Arrays, reference: Arrays, agrees: Callable[[Arrays, Arrays], bool], scores: str) -> int:
    """Fewest samples at the end without which the rest agree; 0 where they are not the trouble.

    They are not where half of the samples would not do, nor where the classes at the end mostly agree.
    """
    count = len(actual[scores])

    def sound(kept: int) -> bool:
        return agrees({n: a[:kept] for n, a in actual.items()}, {n: a[:kept] for n, a in reference.items()})

    low, high = count - count // 2, count
    if not sound(low):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sound(middle) else (low, middle)
    same = actual[scores][low:].argmax(axis=1) == reference[scores][low:].argmax(axis=1)
    return count - low if same.mean() < SAME_WEIGHTS_AGREEMENT else 0


ONE_BY_ONE = (
    "right one by one and wrong in batches: a batch size is built into the engine, or its program mixes up the answers "
    "of a batch, or does not write all of them"
)

EACH_TIME = "the same samples get other answers each time: those of calls before, or with noise in them"
UNRELATED = "as if fed data that has nothing to do with the samples"


def _by_influence(
    inputs: Arrays,
    actual: Arrays,
    run: Callable[[Arrays], Arrays],
    batch: int,
    *,
    by_batch: Callable[[], bool],
    fed_elsewhere: bool,
    single: bool,
) -> str:
    """Change one sample at a time and see which answers change: what reaches the engine shows how it was fed.

    Needs no sound engine. Empty where every sample changes its own answer and no other, by its first value and by its
    last one, which are not asked for where not ``single``. Of an engine that is not ``fed_elsewhere`` only what it
    computes itself is said. ``by_batch`` says whether the batch accounts for what is wrong.
    """
    count = len(next(iter(inputs.values())))
    if count < FEWEST or not all(array.ndim > 1 for array in inputs.values()):
        return ""
    if _changed(run(inputs), actual):
        return f"{EACH_TIME}; or {UNRELATED}" if fed_elsewhere else ""

    def moved(which: int, part: slice) -> set[int]:
        arrays = {name: array.copy() for name, array in inputs.items()}
        for array in arrays.values():
            chosen = array[which].reshape(-1)[part]
            low, high = _far(array)
            upwards = np.arange(which, which + len(chosen)) % 2 == 1
            chosen[:] = np.where(upwards, high, low)
        return _changed(run(arrays), actual)

    probes = [count // 4 + i for i in range(PROBED)]
    whole = [moved(k, slice(None)) for k in probes]
    coupled = all(_within_its_batch(found, k, batch) for found, k in zip(whole, probes, strict=True))
    if coupled and by_batch():
        return COUPLED
    size = min(array[0].size for array in inputs.values())
    return _by_reach(whole, probes, moved, size if single else 0) if fed_elsewhere else ""


def _by_reach(
    whole: Sequence[set[int]], probes: Sequence[int], moved: Callable[[int, slice], set[int]], size: int
) -> str:
    """Sentence on how an engine is fed, by the answers that change with each probed sample, and with ``moved``.

    ``size`` is how many values a sample has; 0 where single ones are not asked for.
    """
    if not any(whole):
        return f"changing a sample changes no answer: {UNRELATED}"
    for expected, sentence in REACHES:
        if whole == [expected(k) for k in probes]:
            return sentence
    unread = [name for name, (end, _) in ENDS.items() if size and not any(moved(k, end) for k in probes)]
    if len(unread) != 1:
        return ""
    # Rounding, a ReLU or a stride may hide any single value: then others are hidden as well.
    (name,) = unread
    others = (ENDS[name][1], *(slice(size * part // 4, size * part // 4 + 1) for part in (1, 2, 3)))
    return UNREAD.format(name=name) if all(any(moved(k, one) for k in probes) for one in others) else ""


def _far(array: NDArray[Any]) -> tuple[Any, Any]:
    """Two values far outside the range of an input, in both directions: one that is read at all then shows.

    Integers may be the indices of something, which has nothing beyond them: of those, the least and the largest.
    """
    if array.dtype.kind != "f":
        return array.min(), array.max()
    far = min(1e3 * max(1.0, float(np.abs(array).max())), float(np.finfo(array.dtype).max) / 4)
    return -far, far


COUPLED = (
    "changing a sample changes other answers of its batch too: something is computed over the batch, as by a softmax "
    "over the batch, a BatchNorm in training mode, or a scale that is taken from the inputs"
)


FED_WRONGLY = 2
"""The most answers that change with a sample where only its bytes are fed to the wrong place: see REACHES."""


def _within_its_batch(moved: set[int], sample: int, batch: int) -> bool:
    """Whether a sample moves more answers than it could by wrong feeding, and all of them of its own batch.

    Not all have to move: what a softmax rounds to zero stays zero.
    """
    start = sample // batch * batch
    return len(moved) > FED_WRONGLY and moved <= set(range(start, start + batch))


def _accounts_for(others: Arrays, actual: Arrays, reference: Arrays) -> bool:
    """Whether outputs are as far from others of the same engine as to count beside what they differ from the right.

    What a dynamic quantization moves is not what is wrong with other weights. NaN and infinity are left out.
    """
    for name, right in reference.items():
        moved, wrong = np.abs(others[name] - actual[name]), np.abs(actual[name] - right)
        both = np.isfinite(moved) & np.isfinite(wrong)
        if both.any() and moved[both].mean() > LEFT * wrong[both].mean():
            return True
    return False


REACHES: tuple[tuple[Callable[[int], set[int]], str], ...] = (
    (
        lambda k: {2 * k, 2 * k + 1},
        "sample k changes the answers 2 k and 2 k + 1: float64 bytes are fed to an engine that takes float32",
    ),
    (lambda k: {k // 2}, "sample k changes the answer k / 2: float32 bytes were read as float64"),
    (
        lambda k: {k, k + 1},
        "sample k changes the answer k + 1 too: samples are fed late, as if the header of an .npy was read as pixels",
    ),
    (
        lambda k: {k - 1, k},
        "sample k changes the answer k - 1 too: samples are fed early, as if bytes were skipped for an .npy header",
    ),
)
"""Which answers change with sample k, and what that means."""

ENDS: Mapping[str, tuple[slice, slice]] = {
    "last": (slice(-1, None), slice(-2, -1)),
    "first": (slice(0, 1), slice(1, 2)),
}
"""The two ends of a sample's values, each with the value beside it."""

UNREAD = (
    "the {name} value of a sample changes no answer: rows are shifted by one column, as if sample_id was read as a "
    "pixel, or a pixel as sample_id; or the engine does not look at that value"
)


def _changed(outputs: Arrays, before: Arrays) -> set[int]:
    """Numbers of the samples whose outputs are not, bit for bit, what they were before."""
    found: set[int] = set()
    for name, array in before.items():
        if outputs[name].shape != array.shape:
            return set(range(len(array)))
        same = (outputs[name] == array) | (np.isnan(outputs[name]) & np.isnan(array))
        found |= {int(i) for i in np.flatnonzero(~same.reshape(len(array), -1).all(axis=1))}
    return found


def _unsteady(again: Arrays, actual: Arrays, reference: Arrays) -> bool:
    """Whether answers differ from call to call by a part of what is wrong; threads may move the last bits."""
    return any(
        again[name].shape != p.shape or np.abs(again[name] - p).max() > np.abs(p - reference[name]).max() / 10
        for name, p in actual.items()
        if p.dtype.kind == "f" and p.size and p.shape == reference[name].shape
    )


def _commonest(actual: Arrays, scores: str | None) -> str:
    """Add that most samples get one class, where they do: a reader knows that symptom first."""
    if scores is None or not len(actual[scores]):
        return ""
    counts = np.bincount(actual[scores].argmax(axis=1))
    most = int(counts.argmax())
    return f"; {counts[most]} of {len(actual[scores])} get class {most}" if counts[most] > counts.sum() / 2 else ""


def _finite(actual: Arrays) -> NDArray[np.bool_]:
    """Whether all outputs are finite, for each sample."""
    rows = [np.isfinite(array.reshape(len(array), -1)).all(axis=1) for array in actual.values()]
    return np.asarray(np.logical_and.reduce(rows))


def _not_finite(actual: Arrays) -> str:
    """Sentence on how many samples are answered with NaN or infinity; empty where none are."""
    bad = np.flatnonzero(~_finite(actual))
    if not len(bad):
        return ""
    return (
        f"{len(bad)} of {len(_finite(actual))} samples are answered with NaN or infinity, the first is {bad[0]}: an "
        "overflow, as FP16 has beyond 65504, a division by zero, or memory that was never written"
    )


def _constant(actual: Arrays, reference: Arrays, scores: str | None) -> bool:
    """Whether the class scores, or else all outputs that tell samples apart, are the same for every sample."""

    def spread(values: NDArray[Any]) -> float:
        return float(np.abs(values - values[:1]).max()) if values.size else 0.0

    names = [scores] if scores else list(reference)
    least = {name: 1e-6 * max(1.0, float(np.abs(actual[name]).max(initial=0.0))) for name in names}
    told = [name for name in names if spread(reference[name]) > least[name]]
    return bool(told) and all(spread(actual[name]) <= least[name] for name in told)


def _stuck(actual: Arrays, reference: Arrays, scores: str | None) -> str:
    """Sentence that no sample is answered, or all are alike; empty where answers tell samples apart."""
    if _constant(actual, reference, scores):
        return "every sample gets the same answer: the inputs do not reach the outputs, or are far outside the range"
    return "" if _finite(actual).any() else _not_finite(actual)


OTHER_WEIGHTS = (
    "other weights (another training run, a stale or damaged export), a lower precision than stated, a layer that was "
    "converted wrongly, or inputs prepared a little differently"
)


def _by_agreement(p: NDArray[Any], q: NDArray[Any], converted: str | None = None) -> str:
    """What the shares of equal top-1 classes of scores ``p`` and the reference's ``q`` say."""
    same, count = int((p.argmax(axis=1) == q.argmax(axis=1)).sum()), len(q)
    if same >= SAME_WEIGHTS_AGREEMENT * count:
        why = _converted(converted) if converted else OTHER_WEIGHTS
        return f"{same} of {count} top-1 classes agree but the values do not: {why}"
    why = (
        _converted(converted)
        if converted
        else "another model, other weights, a layer that was converted wrongly, or inputs prepared differently"
    )
    return f"only {same} of {count} top-1 classes agree: {why}"


def _converted(precision: str) -> str:
    """Sentence on what is left where an engine was just made from the reference: its weights and inputs are right."""
    own = "the weights are the SavedModel's own, so what is left is"
    steep = "the model is steeper or deeper than those that the tolerance was measured on"
    if precision == "fp32":
        return f"{own} a layer that was converted wrongly, or rounding, where {steep}"
    return (
        f"{own} rounding to {precision}, where {steep} or has values that {precision} cannot hold or tell apart, or a "
        "layer that was converted wrongly"
    )
