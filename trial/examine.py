"""The reference is examined before anything is compared with it: what makes it none would be booked on every engine.

One SavedModel stays loaded, and is asked on the first samples. Two calls give the same, in finite numbers, a row for
each sample. So they do for a sample alone and in a batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError
from engines.formats.code import code
from engines.model.samples import content_hash
from trial.rows import batching

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from engines.model.spec import OutputSpec
    from engines.runner import Arrays

    Calls = Callable[[Arrays], Mapping[str, NDArray[Any]]]

TOGETHER = 32
"""Samples that are called at once; as many as the reference's stored outputs come from."""

ALONE = 8
"""How many of these are called alone, too: a call each."""

DEEPER = 100
"""What batching may move the reference by, in multiples of its row, which was measured on nine layers.

Rounding grows with the depth and the length of sums: MobileNetV3-Small moves by twice the row. A sample that hangs on
the others of its batch moves by a hundredth of the largest output and more, thirty times what this allows. What lies
between is judged by the tests of batching.
"""

RARELY = 1 / 8
"""The share of samples whose integers or ranks rounding may change: two that are nearly equal change places."""

NAMES = {"savedmodel": "the SavedModel", "onnx": "the ONNX"}
"""What errors call a reference, by its format."""

FILE = "flaws.json"

CALLS, FINITE, AXIS, BATCH, RUNS = (
    "differs from call to call",
    "not finite",
    "no batch axis",
    "depends on its batch",
    "cannot be run",
)
"""What may be wrong with a reference."""

ADVICE = {
    CALLS: "export the model for inference: a state that it keeps between calls, a dropout or noise that was left on "
    "(training=True), and random numbers in the signature do this",
    FINITE: "look for a division by zero, a logarithm of zero or an overflow in the model, and whether these samples "
    "are prepared as those that it was trained on",
    AXIS: "leave it out of the signature, or repeat it for each sample of the batch",
    BATCH: "export the model for inference: BatchNormalization that was left in training (training=True), and means, "
    "maxima or sorting over the first axis do this",
    RUNS: "mend what TensorFlow says, or give samples that the model takes (--samples=FILE.npz)",
}
"""What to do about it."""


@dataclass(frozen=True)
class Flaw:
    """Why a SavedModel is no reference; ``what`` is CALLS, FINITE, AXIS, BATCH or RUNS.

    ``text`` names output, worst sample and figures in its first line, and what to do in the next.
    """

    what: str
    text: str


def examine(chain: Chain) -> tuple[Flaw, ...]:
    """Flaws of the reference of a model, by its first samples; empty where it can be trusted.

    They are stored: an environment without TensorFlow reads them. Raises StoreError where they are not there and cannot
    be found out here.
    """
    spec, samples = chain.spec, chain.samples
    inputs = samples.take(0, min(TOGETHER, len(samples))).inputs
    allowed, _ = batching(spec.reference.row_name, spec.tolerances, spec.source)

    def build(folder: Path) -> None:
        found = flaws(chain.calls(), spec.outputs, inputs, allowed, NAMES.get(spec.reference.format, "the reference"))
        (folder / FILE).write_text(json.dumps([asdict(flaw) for flaw in found]), encoding="utf-8")

    made_from = {"inputs": content_hash(inputs), **code("examiner", Path(__file__))}
    parameters = {"kinds": {o.name: o.kind for o in spec.outputs}, "allowed": allowed}
    stored = chain.of_reference("examined", made_from, parameters, build).file(FILE)
    return tuple(Flaw(**flaw) for flaw in json.loads(stored.read_text(encoding="utf-8")))


def flaws(
    calls: Calls, outputs: Sequence[OutputSpec], inputs: Arrays, allowed: float, who: str = NAMES["savedmodel"]
) -> tuple[Flaw, ...]:
    """Flaws of what ``calls`` answers to ``inputs``, arrays (N, …) by name: those of the first kind that there is.

    ``allowed`` is the row of batching, relative to the largest of an output. Two calls may differ by as much, a sample
    alone and in its batch by DEEPER times as much. ``who`` is what errors call the reference.
    """
    count = len(next(iter(inputs.values())))
    try:
        together = calls(inputs)
        alone = [calls({name: array[i : i + 1] for name, array in inputs.items()}) for i in range(min(ALONE, count))]
        again = calls(inputs)
    except RunnerError as error:
        return (_flaw(RUNS, f"{who} fails on the samples: {error}"),)
    of_samples = [o for o in outputs if o.kind != "constant"]
    # By the samples together or, where there are just as many rows by chance, by one alone.
    if found := [*_without_axis(who, of_samples, together, count)] or [*_without_axis(who, of_samples, alone[0], 1)]:
        return tuple(found)
    if found := [*_not_finite(who, outputs, together)]:
        return tuple(found)
    if found := [*_moved(CALLS, who, outputs, together, again, allowed)]:
        return tuple(found)
    joined = {o.name: np.concatenate([answer[o.name] for answer in alone]) for o in of_samples}
    return tuple(_moved(BATCH, who, of_samples, joined, together, DEEPER * allowed))


def _flaw(what: str, text: str) -> Flaw:
    return Flaw(what, f"{text}\n  what to do {ADVICE[what]}")


def _without_axis(who: str, outputs: Sequence[OutputSpec], answers: Arrays, count: int) -> Iterator[Flaw]:
    for output in outputs:
        if answers[output.name].shape[:1] != (count,):
            found = f"its shape is {answers[output.name].shape} on {count} sample{'' if count == 1 else 's'}"
            yield _flaw(AXIS, f"output {output.name!r} of {who} has no batch axis: {found}")


def _not_finite(who: str, outputs: Sequence[OutputSpec], answers: Arrays) -> Iterator[Flaw]:
    for output in outputs:
        array = answers[output.name]
        rows = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
        wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1)) if array.dtype.kind in "fc" else np.array([], int)
        if wrong.size:
            shown = "NaN" if np.isnan(rows[wrong[0]]).any() else "infinite"
            where = f" on {len(wrong)} of {len(rows)} samples, the first is sample {wrong[0]}"
            yield _flaw(
                FINITE, f"output {output.name!r} of {who} is {shown}{where if output.kind != 'constant' else ''}"
            )


WORDS = {
    CALLS: "answers differently from call to call",
    BATCH: "gives an answer for a sample that depends on its batch",
}


def _moved(
    what: str, who: str, outputs: Sequence[OutputSpec], first: Arrays, second: Arrays, allowed: float
) -> Iterator[Flaw]:
    """Outputs that are others the second time, of as many samples as the first time has."""
    for output in outputs:
        before = np.asarray(first[output.name])
        after = np.asarray(second[output.name])[: len(before)] if before.ndim else np.asarray(second[output.name])
        moved = _distances(before, after)
        # Of integers, and of lists in an order, rounding may swap two that are nearly equal, by any distance.
        exact = before.dtype.kind in "iub"
        limit = 0.0 if exact else allowed
        some = RARELY if what == BATCH and (exact or output.kind == "ranked") else 0.0
        if np.mean(moved > limit) > some:
            worst, whose, share = int(moved.argmax()), "", ""
            if output.kind != "constant":
                whose, share = f" of sample {worst}", f" ({int((moved > limit).sum())} of {len(moved)} samples do)"
            yield _flaw(
                what,
                f"{who} {WORDS[what]}: output {output.name!r}{whose} moves by {moved[worst]:.1e} of the largest; "
                f"allowed {limit:.1e}{share}",
            )


def _distances(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float64]:
    """Largest difference of each sample, relative to the largest magnitude of all; infinite where shapes differ."""
    if before.shape != after.shape:
        return np.full(max(len(np.atleast_1d(before)), 1), np.inf)
    a, b = (np.atleast_1d(x).astype(np.float64) for x in (before, after))
    scale = float(np.abs(a).max(initial=0.0)) or 1.0
    return np.asarray(np.abs(a - b).reshape(len(a), -1).max(axis=1, initial=0.0) / scale)
