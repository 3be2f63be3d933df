"""Compare an engine's outputs with the reference's.

Probabilities saturate and hide errors, so no single figure decides. A comparison needs all of:

- ``max``: the largest absolute difference of any element,
- ``mean``: a tenth of the mean absolute difference over the mean magnitude. Ten probabilities have a mean of a tenth:
  for ten classes it is the mean absolute difference, and for three, for a thousand, and for logits the same thing,
- ``kl``: the mean over samples of the Kullback-Leibler divergence of the output from the reference, in nats,
- ``margin``: a top-1 flip is allowed only where the reference itself was undecided, that is, where its lead of the
  first class over the second is at most this,
- ``flips``: the share of samples whose top-1 class differs,
- ``sum``: how far the probabilities of a sample are from summing to one.

Largest differences of logits and values are relative to the largest magnitude of the reference's output: such outputs
have no scale of their own. Probabilities that an engine gives as integers are multiples of a step. Mean, divergence and
sum are then judged by the reference rounded to that step: no engine can do better. What must never pass does not
depend on a tolerance: missing, extra or empty outputs, wrong shapes or dtypes, NaN and infinity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIGURES = ("max", "mean", "kl", "margin", "flips", "sum")
"""The figures of a comparison, in the order in which they are shown."""

KL_FLOOR = 1e-6
"""Probabilities below this count as this in the divergence: integer outputs have zeros, with infinite logarithms."""

ANY = 1e9
"""A tolerance of this allows anything finite: the figure is shown and decides nothing."""

KINDS = ("probabilities", "logits", "values")

MEAN_OF_ROWS = 0.1
"""The mean of ten probabilities, which the rows of tolerances.toml were measured on; see ``mean`` above."""

COARSEST = 1 / 100
"""Probabilities in larger steps than this are not rounded but lost: eight bits over [0, 1] have steps of 1/255."""


@dataclass(frozen=True)
class Tolerance:
    """What is allowed, figure by figure (see the module), and why."""

    max: float
    mean: float
    kl: float
    margin: float
    flips: float
    sum: float
    why: str = ""

    def __post_init__(self) -> None:
        """Refuse what would let everything pass."""
        for name in FIGURES:
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"tolerance {name} is {value!r}; allowed: a finite number ≥ 0")


@dataclass(frozen=True)
class Scale:
    """The largest and the mean magnitude of logits or values."""

    largest: float
    mean: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Scale:
        """Measure an output."""
        magnitudes = np.abs(values.astype(np.float64))
        return cls(float(magnitudes.max()), float(magnitudes.mean()))

    def or_larger(self, other: Scale | None) -> Scale:
        """Larger of each."""
        return Scale(max(self.largest, other.largest), max(self.mean, other.mean)) if other else self


@dataclass(frozen=True)
class Grid:
    """The values that an output can take which is integer inside the engine: multiples of a step within two ends."""

    step: float
    low: float
    high: float

    def nearest(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Round values to what the output can say."""
        steps = np.round((values.astype(np.float64) - self.low) / self.step)
        return np.clip(self.low + steps * self.step, self.low, self.high)


@dataclass(frozen=True)
class Figure:
    """One figure of a comparison: what the outputs would have needed, and what is allowed."""

    name: str
    needed: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether what is needed is allowed; NaN never is."""
        return bool(self.needed <= self.allowed)

    @property
    def judged(self) -> bool:
        """Whether it decides: where all classes may change, or anything is allowed, other figures do alone."""
        return not (self.allowed >= ANY or (self.name == "flips" and self.allowed >= 1))

    def __str__(self) -> str:
        """Line such as ``max 2.1e-03 of 5.0e-03 allowed``."""
        return f"{self.name} {self.needed:.2e} of {self.allowed:.2e} allowed"


@dataclass(frozen=True)
class Flip:
    """A sample whose top-1 class differs, and the reference's lead of its first class over its second there."""

    sample: int
    expected: int
    actual: int
    margin: float


@dataclass(frozen=True)
class OutputComparison:
    """One output compared: its figures, where it differs most, and its flips (largest margin first).

    ``unit`` is the magnitude that ``max`` is given in: 1 for probabilities, the largest one for logits and values.
    """

    output: str
    kind: str
    samples: int
    figures: tuple[Figure, ...]
    worst_index: tuple[int, ...]
    worst_actual: float
    worst_expected: float
    flips: tuple[Flip, ...]
    unit: float

    @property
    def passed(self) -> bool:
        """Whether every figure is within what is allowed."""
        return all(f.passed for f in self.figures)

    @property
    def worst_sample(self) -> int:
        """The sample to look at first: the worst flip where the margin failed, else the worst element's."""
        failed = {f.name for f in self.figures if not f.passed}
        return self.flips[0].sample if "margin" in failed and self.flips else self.worst_index[0]

    def figure(self, name: str) -> Figure | None:
        """Find a figure by name; None where this kind of output has none."""
        return next((f for f in self.figures if f.name == name), None)


@dataclass(frozen=True)
class Comparison:
    """The verdict on ``samples`` samples: ``passed`` is true only where nothing is wrong with any output."""

    outputs: tuple[OutputComparison, ...]
    problems: tuple[str, ...]
    samples: int

    @property
    def passed(self) -> bool:
        """Whether there is no problem and every output is within its tolerance (and there is one at all)."""
        return not self.problems and bool(self.outputs) and all(o.passed for o in self.outputs)

    def figure(self, name: str) -> Figure | None:
        """Worst value of a figure over the outputs, by needed over allowed; None where no output has it."""
        found = [f for o in self.outputs if (f := o.figure(name))]
        # Where all may flip, needed over allowed is none.
        return max(found, key=lambda f: (_usage(f), f.needed), default=None)

    @property
    def flips(self) -> int:
        """How many samples change class, in one output or in several."""
        return len({flip.sample for output in self.outputs for flip in output.flips})

    @property
    def usage(self) -> float:
        """The largest needed/allowed of all figures: above one fails; infinite where there is a problem."""
        return np.inf if self.problems else max((_usage(f) for o in self.outputs for f in o.figures), default=np.inf)

    def describe(self) -> str:
        """One line for each output: what is wrong, or how close it came."""
        lines = list(self.problems)
        for output in self.outputs:
            failed = [str(f) for f in output.figures if not f.passed]
            text = "; ".join(failed or [str(f) for f in output.figures])
            lines.append(f"{output.output}: {'FAILED: ' if failed else 'passed: '}{text}")
        return "\n".join(lines)


def _usage(figure: Figure) -> float:
    if not figure.judged and np.isfinite(figure.needed):
        return 0.0
    if figure.allowed == 0:
        return 0.0 if figure.needed == 0 else np.inf
    return figure.needed / figure.allowed if np.isfinite(figure.needed) else np.inf


def compare(
    actual: Mapping[str, NDArray[Any]],
    reference: Mapping[str, NDArray[Any]],
    tolerance: Tolerance,
    kinds: Mapping[str, str],
    *,
    scales: Mapping[str, Scale] | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> Comparison:
    """Compare outputs by name with the reference's.

    Both map output names to arrays (N, …); ``kinds`` says of each output whether it holds ``probabilities``,
    ``logits`` or ``values``. ``scales`` gives magnitudes that logits and values are known to reach: a few samples may
    have small ones only. ``grids`` says of which outputs are integers inside the engine. Never raises for what an
    engine may get wrong: that is a problem in the result.
    Raises ValueError for an unknown kind or an output without one.
    """
    for name in reference:
        if kinds.get(name) not in KINDS:
            raise ValueError(f"output {name!r} is of kind {kinds.get(name)!r}; allowed: {', '.join(KINDS)}")
    problems = name_problems(actual, reference)
    outputs = []
    for name in reference:
        if name in actual:
            found = structural_problems(name, actual[name], reference[name])
            problems += found
            if not found:
                scale, grid = (scales or {}).get(name), (grids or {}).get(name)
                outputs.append(
                    _compare_output(name, actual[name], reference[name], tolerance, kinds[name], scale, grid)
                )
    samples = max((len(array) for array in reference.values()), default=0)
    return Comparison(tuple(outputs), tuple(problems), samples)


def name_problems(actual: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> list[str]:
    """Problems with the names: outputs that are missing, and those that should not be there."""
    problems = [] if reference else ["the reference has no outputs"]
    if missing := sorted(set(reference) - set(actual)):
        problems.append(f"missing outputs: {', '.join(missing)}")
    if extra := sorted(set(actual) - set(reference)):
        problems.append(f"extra outputs: {', '.join(extra)}")
    return problems


def structural_problems(name: str, actual: NDArray[Any], reference: NDArray[Any]) -> list[str]:
    """Problems with an output whatever the tolerance: shape, dtype, emptiness, NaN and infinity."""
    if not isinstance(actual, np.ndarray):
        return [f"{name}: is {type(actual).__name__}; expected an array"]
    if actual.dtype != reference.dtype:
        return [f"{name}: dtype {actual.dtype}; expected {reference.dtype}"]
    if actual.shape != reference.shape:
        return [f"{name}: shape {actual.shape}; expected {reference.shape}"]
    if actual.size == 0 or not actual.ndim:
        return [f"{name}: no samples, shape {actual.shape}; nothing was compared"]
    for who, array in (("output", actual), ("reference", reference)):
        bad = ~np.isfinite(array)
        if bad.any():
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            share = f"{int(bad.sum())} of {bad.size}"
            return [f"{name}: {share} elements of the {who} are NaN or infinite, the first at {first}"]
    return []


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Turn logits (N, classes) into probabilities, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float64)


def kl_divergence(actual: NDArray[Any], reference: NDArray[Any], floor: float = KL_FLOOR) -> NDArray[np.float64]:
    """Divergence KL(reference ‖ actual) per sample, in nats, for probabilities (N, classes).

    Both are clipped at ``floor`` from below and normalized again, so that it is finite and never negative.
    """
    p = np.clip(reference.astype(np.float64), floor, None)
    q = np.clip(actual.astype(np.float64), floor, None)
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return np.asarray((p * np.log(p / q)).sum(axis=1), np.float64)


def margins(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Lead of the first class over the second per sample, (N,) float64, for probabilities (N, classes ≥ 2)."""
    top = np.partition(probabilities.astype(np.float64), -2, axis=1)
    return np.asarray(top[:, -1] - top[:, -2], np.float64)


def top(probabilities: NDArray[Any], count: int = 3) -> list[tuple[int, float]]:
    """First classes of one sample with their values, the highest first."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(int(i), float(probabilities[i])) for i in order]


def _compare_output(
    name: str,
    actual: NDArray[Any],
    reference: NDArray[Any],
    tolerance: Tolerance,
    kind: str,
    scale: Scale | None,
    grid: Grid | None,
) -> OutputComparison:
    difference, unit = np.abs(actual.astype(np.float64) - reference.astype(np.float64)), 1.0
    if kind == "probabilities":
        needed = {"max": float(difference.max())}
        needed |= _of_distributions(actual, reference, grid if grid and grid.step <= COARSEST else None)
    else:
        scale = Scale.of(reference).or_larger(scale)
        # A reference of zeros has no scale; then differences stay as they are.
        unit = scale.largest or 1.0
        needed = {"max": float(difference.max()) / unit}
        needed["mean"] = float(difference.mean()) / (scale.mean or 1.0) * MEAN_OF_ROWS
    flips: tuple[Flip, ...] = ()
    if kind != "values":
        p, q = (softmax(reference), softmax(actual)) if kind == "logits" else (reference, actual)
        expected, found, lead = p.argmax(axis=1), q.argmax(axis=1), margins(p)
        flipped = np.flatnonzero(expected != found)
        flipped = flipped[np.argsort(-lead[flipped], kind="stable")]
        flips = tuple(Flip(int(i), int(expected[i]), int(found[i]), float(lead[i])) for i in flipped)
        if kind == "logits":
            needed["kl"] = float(kl_divergence(q, p).mean())
        needed["margin"] = flips[0].margin if flips else 0.0
        needed["flips"] = len(flips) / len(p)
    worst = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
    return OutputComparison(
        output=name,
        kind=kind,
        samples=len(reference),
        figures=tuple(Figure(n, needed[n], getattr(tolerance, n)) for n in FIGURES if n in needed),
        worst_index=worst,
        worst_actual=float(actual[worst]),
        worst_expected=float(reference[worst]),
        flips=flips,
        unit=unit,
    )


def _of_distributions(actual: NDArray[Any], reference: NDArray[Any], grid: Grid | None) -> dict[str, float]:
    """All figures of probabilities (N, classes) that depend on the number of classes, and on a grid."""
    q = actual.astype(np.float64)
    p = grid.nearest(reference) if grid else reference.astype(np.float64)
    # An integer output has nothing to say below half a step, and either sum may be off by that for each class.
    floor = max(KL_FLOOR, grid.step / 2) if grid else KL_FLOOR
    classes = q.shape[1]
    rounding = classes * grid.step if grid else 0.0
    off = np.abs(q.sum(axis=1) - (p.sum(axis=1) if grid else 1.0))
    return {
        "mean": float(np.abs(q - p).mean()) * classes * MEAN_OF_ROWS,
        "kl": float(kl_divergence(q, p, floor).mean()),
        "sum": max(0.0, float(off.max()) - rounding),
    }
