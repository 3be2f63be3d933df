"""Accuracy against labels: whether it is better than chance at all, and what a variant loses of the reference's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Found(NamedTuple):
    """How many answers are right, and how many there are of each class."""

    correct: int
    classes: tuple[int, ...]

    @classmethod
    def of(cls, answers: NDArray[Any], labels: NDArray[Any]) -> Found:
        """The same of scores (N, classes) and labels (N,)."""
        first = answers.argmax(axis=1)
        return cls(int((first == labels).sum()), counted(first, answers.shape[1]))


def counted(classes: NDArray[Any], count: int) -> tuple[int, ...]:
    """How many samples (N,) are of each of so many classes."""
    return tuple(map(int, np.bincount(classes, minlength=count)))


def chance_level(labels: Sequence[int], answers: Sequence[int]) -> float:
    """Accuracy that needs no look at the samples: that of the same answers, dealt out to them anyhow.

    Both count samples by class. Who always answers the commonest class has its share; who learned to find rare ones
    answers it less often, and has less. Labels of one class alone tell nothing: 1.
    """
    count = sum(labels)
    if max(labels) == count:
        return 1.0
    return max(sum(a * b for a, b in zip(labels, answers, strict=True)) / count**2, 0.5 / count)


def least_correct(labels: Sequence[int], answers: Sequence[int]) -> int | None:
    """Fewest right samples that count as better than chance; None where even all would not do."""
    chance = chance_level(labels, answers)
    if chance >= 1:
        return None
    count = sum(labels)
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

    ``least`` and ``reference_least`` are the numbers of right answers that guessing does not reach, by as many answers
    of each class as each of them gives (None: the labels are too few to tell).
    ``strange`` says that all labels are of one class, which the reference finds no more often than any other would be.
    """

    samples: int
    correct: int
    reference_correct: int
    least: int | None
    allowed_drop: int
    strange: bool = False
    reference_least: int | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems, the reference's own accuracy included; empty where there are none."""
        return self.chance_problems + self.drop_problems

    @property
    def tells(self) -> bool:
        """Whether there are labels enough to tell an accuracy from chance."""
        return self.least is not None and self.reference_least is not None

    @property
    def chance_problems(self) -> tuple[str, ...]:
        """Sentences on who is not better than guessing, or that nobody can tell; empty where both are better."""
        found = []
        if self.strange:
            found.append(
                f"all {self.samples} labels are of one class, and the reference itself has {self.reference_correct} "
                "right, no more than by chance: they seem to be of other samples"
            )
        elif self.least is None or self.reference_least is None:
            found.append(f"{self.samples} labelled samples are too few to tell any accuracy from chance")
        else:
            ours = "the variant", self.correct, self.least
            theirs = "the reference itself", self.reference_correct, self.reference_least
            for who, correct, least in (ours, theirs):
                if correct < least:
                    found.append(
                        f"{who} has {correct} of {self.samples} right ({correct / self.samples:.4f}), not better than "
                        f"chance: guessing reaches {least} less often than {SIGNIFICANCE:g} of the times"
                    )
        return tuple(found)

    @property
    def doubtful(self) -> bool:
        """Whether the reference itself finds the labels no more often than by chance: then these may be wrong."""
        return self.strange or (self.reference_least is not None and self.reference_correct < self.reference_least)

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
    return accuracy_of(counted(labels, classes), Found.of(actual, labels), Found.of(reference, labels), precision)


def label_mistake(reference: NDArray[Any], labels: NDArray[Any]) -> str:
    """What most likely is wrong with labels (N,) that a reference's answers (N, classes) do not find."""
    count, classes = reference.shape
    found = reference.argmax(axis=1)
    answers = counted(found, classes)
    for start in (1, -1):
        moved = (labels - start) % classes
        least = least_correct(counted(moved, classes), answers)
        right = int((found == moved).sum())
        if least is not None and right >= least:
            return f"labels count classes from {start}: counted from 0, the reference has {right} of {count} right"
    return "the labels are not those of these samples, or in another order than the samples"


def accuracy_of(labels: Sequence[int], found: Found, reference: Found, precision: str) -> Accuracy:
    """Accuracy by counts: of the labels of each class, and of what a variant and the reference answered."""
    share = next(drop for name, drop in ALLOWED_DROP.items() if precision.startswith(name))
    return Accuracy(
        samples=sum(labels),
        correct=found.correct,
        reference_correct=reference.correct,
        least=least_correct(labels, found.classes),
        allowed_drop=max(math.floor(share * sum(labels)), COARSE_SAMPLES),
        strange=_strange(labels, reference.correct),
        reference_least=least_correct(labels, reference.classes),
    )


def _strange(counts: Sequence[int], found: int) -> bool:
    """Whether labels of one class tell that they are not those of the samples, of which ``found`` have that class.

    A model that knows anything finds them more often than one in so many classes; a few samples tell nothing of it.
    """
    count, chance = sum(counts), 1 / len(counts)
    if max(counts) < count or len(counts) < 2 or chance**count >= SIGNIFICANCE:
        return False
    return binomial_tail(found, count, chance) >= SIGNIFICANCE
