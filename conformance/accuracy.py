"""Accuracy against labels: whether it is better than chance at all, and what a variant loses of the reference's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNIFICANCE = 1e-3
"""Accuracy counts as better than chance where guessing would reach it less often than once in a thousand times."""

ALLOWED_DROP = {"fp32": 0.005, "fp16": 0.005, "int8": 0.015}
"""How much accuracy a variant may lose against the reference, by precision: half a point, and 1.5 points in INT8."""

COARSE_SAMPLES = 2
"""Losing this many samples is always allowed: one step of a hundred labels is a whole point by itself."""


def binomial_tail(successes: int, trials: int, probability: float) -> float:
    """Probability P(X ≥ successes) for X binomially distributed over ``trials``, each with ``probability`` in (0, 1).

    Summed in the logarithm (Γ by math.lgamma), exact to float64 rounding; no normal approximation, so that it also
    holds for a handful of samples.
    """
    if successes <= 0:
        return 1.0
    k = np.arange(successes, trials + 1)
    log_factorial = np.array([math.lgamma(i + 1) for i in range(trials + 1)])
    log_choose = log_factorial[trials] - log_factorial[k] - log_factorial[trials - k]
    terms = log_choose + k * math.log(probability) + (trials - k) * math.log1p(-probability)
    return float(min(1.0, np.exp(terms).sum()))


def chance_level(counts: Sequence[int]) -> float:
    """Accuracy that needs no model: the larger of one in so many classes and the share of the commonest label.

    ``counts`` says how many samples have the label of each class.
    """
    return max(1 / len(counts), max(counts) / sum(counts))


def least_correct(counts: Sequence[int]) -> int | None:
    """Fewest right samples that count as better than chance; None where even all would not do."""
    chance = chance_level(counts)
    if chance >= 1:
        return None
    count = sum(counts)
    # The tail falls with the number of successes, so the first that is rare enough is found by bisection.
    low, high = 0, count + 1
    while low < high:
        middle = (low + high) // 2
        if middle > count or binomial_tail(middle, count, chance) < SIGNIFICANCE:
            high = middle
        else:
            low = middle + 1
    return low if low <= count else None


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of a variant and of the reference on the same labels, and what is allowed.

    ``least`` is the number of right answers that guessing does not reach (None: the labels are too few to tell).
    ``strange`` says that all labels are of one class, which the reference finds no more often than any other would be.
    """

    samples: int
    correct: int
    reference_correct: int
    least: int | None
    allowed_drop: int
    strange: bool = False

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems, the reference's own accuracy included; empty where there are none."""
        return self.chance_problems + self.drop_problems

    @property
    def chance_problems(self) -> tuple[str, ...]:
        """Sentences on who is not better than guessing, or that nobody can tell; empty where both are better."""
        found = []
        if self.strange:
            found.append(
                f"all {self.samples} labels are of one class, and the reference itself has {self.reference_correct} "
                "right, no more than by chance: they seem to be of other samples"
            )
        elif self.least is None:
            found.append(f"{self.samples} labelled samples are too few to tell any accuracy from chance")
        else:
            for who, correct in (("the variant", self.correct), ("the reference itself", self.reference_correct)):
                if correct < self.least:
                    found.append(
                        f"{who} has {correct} of {self.samples} right ({correct / self.samples:.4f}), not better than "
                        f"chance: guessing reaches {self.least} less often than {SIGNIFICANCE:g} of the times"
                    )
        return tuple(found)

    @property
    def doubtful(self) -> bool:
        """Whether the reference itself finds the labels no more often than by chance: then these may be wrong."""
        return self.strange or (self.least is not None and self.reference_correct < self.least)

    @property
    def drop_problems(self) -> tuple[str, ...]:
        """Sentence on what was lost against the reference, where that is too much: any labels at all tell it."""
        drop = self.reference_correct - self.correct
        if drop <= self.allowed_drop:
            return ()
        return (
            f"{self.correct} of {self.samples} right ({self.correct / self.samples:.4f}), by the reference "
            f"{self.reference_correct} ({self.reference_correct / self.samples:.4f}): {drop} lost, "
            f"{self.allowed_drop} allowed",
        )


def measure_accuracy(actual: NDArray[Any], reference: NDArray[Any], labels: NDArray[Any], precision: str) -> Accuracy:
    """Compare the top-1 classes of two outputs (N, classes) with ``labels`` (N,), for a variant of ``precision``.

    A precision such as ``int8+fp16`` or ``int8-qdq`` is judged as what it starts with.
    Raises ValueError where the lengths differ, there are no samples, or a label is outside the classes.
    """
    if not len(actual) == len(reference) == len(labels) > 0:
        raise ValueError(f"{len(actual)} outputs, {len(reference)} reference outputs and {len(labels)} labels")
    classes = reference.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels from {labels.min()} to {labels.max()}; allowed: 0 to {classes - 1}")
    correct, reference_correct = (int((found.argmax(axis=1) == labels).sum()) for found in (actual, reference))
    return accuracy_of(np.bincount(labels, minlength=classes).tolist(), correct, reference_correct, precision)


def label_mistake(reference: NDArray[Any], labels: NDArray[Any]) -> str:
    """What most likely is wrong with labels (N,) that a reference's answers (N, classes) do not find."""
    count, classes = reference.shape
    found = reference.argmax(axis=1)
    for start in (1, -1):
        moved = (labels - start) % classes
        least = least_correct(np.bincount(moved, minlength=classes).tolist())
        right = int((found == moved).sum())
        if least is not None and right >= least:
            return f"labels count classes from {start}: counted from 0, the reference has {right} of {count} right"
    return "the labels are not those of these samples, or in another order than the samples"


def accuracy_of(counts: Sequence[int], correct: int, reference_correct: int, precision: str) -> Accuracy:
    """Accuracy by counts: of the labels of each class, and of the right answers of a variant and of the reference."""
    share = next(drop for name, drop in ALLOWED_DROP.items() if precision.startswith(name))
    return Accuracy(
        samples=sum(counts),
        correct=correct,
        reference_correct=reference_correct,
        least=least_correct(counts),
        allowed_drop=max(math.floor(share * sum(counts)), COARSE_SAMPLES),
        strange=_strange(counts, reference_correct),
    )


def _strange(counts: Sequence[int], found: int) -> bool:
    """Whether labels of one class tell that they are not those of the samples, of which ``found`` have that class.

    A model that knows anything finds them more often than one in so many classes; a few samples tell nothing of it.
    """
    count, chance = sum(counts), 1 / len(counts)
    if max(counts) < count or len(counts) < 2 or chance**count >= SIGNIFICANCE:
        return False
    return binomial_tail(found, count, chance) >= SIGNIFICANCE
