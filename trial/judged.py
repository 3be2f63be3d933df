"""One variant built, run and judged, without pytest: what its tests ask, and the first thing that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.compare import name_problems, structural_problems
from conformance.ranked import aligned
from engines.errors import ConversionError, RunnerError
from engines.formats.onnx.fp16 import InFp16, kept_in_fp16
from engines.variant import REFERENCE
from trial.examine import DEEPER
from trial.overflow import lost_in_fp16
from trial.rounding import own_rule
from trial.rows import batching, row
from trial.rules import Outputs, compare_of, magnitude, output_scales, rule_of
from trial.sets import RESIZED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.compare import Comparison
    from engines.chain import Chain
    from engines.model.spec import ModelSpec
    from engines.runner import Runner
    from engines.variant import Variant
    from trial.rules import Rule
    from trial.sets import Set, Sets

    Arrays = Mapping[str, NDArray[Any]]

PASSES, CANNOT, WIDE, FAILS = "passes", "cannot", "wide", "fails"
"""What becomes of a variant: it agrees; it cannot be built or run; figures alone are beyond its row; or more."""

HALF_STEP = 2.0**-10
"""What FP16's rounding may move it by: a step of the largest value, where an engine adds in another order."""

BATCH = 7
"""The batch that single samples are compared with: it divides none of the counts of samples."""


@dataclass(frozen=True)
class Verdict:
    """What became of a variant, and in words why; ``usage`` is the largest needed over allowed of all figures."""

    state: str
    text: str = ""
    usage: float = 0.0


def compared(chain: Chain, runner: Runner, kind: str, given: Outputs) -> tuple[Rule, Comparison]:
    """Compare outputs with the reference's on inputs of a kind, ``samples`` or ``stress``; and by which rule.

    Where an FP16 engine of one's own model is beyond its row, by the wider rule of what rounding does to that model.
    """
    rule = rule_of(chain, runner.variant, kind, len(next(iter(given.inputs.values()))))
    comparison = compare_of(runner, given, rule)
    beyond = not comparison.passed and not comparison.problems
    if beyond and (own := own_rule(chain, runner.variant, kind, rule, given.inputs)):
        return own, compare_of(runner, given, own)
    return rule, comparison


def judged(chain: Chain, variant: Variant, sets: Sets) -> Verdict:
    """Build, run and judge a variant on all sets, in every way to run it; what is no engine's limit is raised."""
    found = _Found()
    try:
        with chain.runner(variant) as runner:
            for one in (runner, *runner.beside):
                found.judge(chain, one, sets)
        if variant.format == "onnx":
            found.wrong += _lost_in_fp16(chain, variant, sets)
    except (ConversionError, RunnerError) as error:
        return Verdict(CANNOT, str(error))
    return found.verdict


@dataclass
class _Found:
    """What is wrong with a variant, and what only is beyond its row."""

    wrong: list[str] = field(default_factory=list)
    wide: list[str] = field(default_factory=list)
    usage: float = 0.0

    def judge(self, chain: Chain, runner: Runner, sets: Sets) -> None:
        """Add what is found of one way to run it."""
        by = f", by {runner.way}" if runner.way else ""
        for given in sets.every:
            outputs = runner(given.inputs)
            problems = unsound(chain, runner, given, outputs)
            _, comparison = compared(chain, runner, given.kind, Outputs(given.inputs, outputs, given.reference))
            self.usage = max(self.usage, comparison.usage)
            self.wrong += [f"{given.name}{by}: {problem}" for problem in (*problems, *comparison.problems)]
            if not comparison.passed and not comparison.problems:
                spread = comparison.figure("spread")
                # No row says what of the spread may be lost: answers that are nearly constant are wrong by themselves.
                lost = spread is not None and not spread.passed
                (self.wrong if lost else self.wide).append(f"{given.name}{by}: {comparison.describe()}")
        wrong, wide = moved_by_batching(chain, runner, sets.samples)
        self.wrong += wrong
        self.wide += wide

    @property
    def verdict(self) -> Verdict:
        """What became of it."""
        state = FAILS if self.wrong else WIDE if self.wide else PASSES
        return Verdict(state, "\n".join([*self.wrong, *self.wide]), self.usage)


def unsound(chain: Chain, runner: Runner, given: Set, outputs: Arrays) -> list[str]:
    """What is wrong with outputs by themselves that no comparison tells: shapes, and scores beyond [0, 1]."""
    spec, count = chain.spec, len(next(iter(given.inputs.values())))
    allowed = row(runner.variant.row_name, given.kind, spec.tolerances, spec.source).tolerance.sum
    found = []
    for output in spec.outputs:
        array = outputs[output.name]
        expected = spec.concrete_shape(output, count)
        if given.name != RESIZED and array.shape != expected:
            found.append(f"{output.name!r} has the shape {array.shape}; expected {expected}")
        elif output.kind in {"probabilities", "scores"}:
            # Each of those that are integers inside may be off by a step.
            step = runner.grids[output.name].step if output.name in runner.grids else 0.0
            if array.min() < 0 or array.max() > 1 + max(allowed, step):
                found.append(f"{output.name!r} has {output.kind} from {array.min():g} to {array.max():g}")
    return found


def moved_by_batching(chain: Chain, runner: Runner, given: Set) -> tuple[list[str], list[str]]:
    """What batches of BATCH, and all samples at once, do to what samples answer alone.

    First what no rounding does, then what is beyond the row alone: FP32's parts of an engine may add in another order.
    """
    alone = runner.in_batches(given.inputs, 1)
    cut = {f"batches of {BATCH}": runner.in_batches(given.inputs, BATCH), "one batch": runner(given.inputs)}
    allowed, rounding = allowed_of_batching(chain.spec, runner.variant, runner.way), _most_of_rounding(runner.variant)
    scales = output_scales(chain)
    wrong: list[str] = []
    wide: list[str] = []
    for what, outputs in cut.items():
        if problems := different(outputs, alone, chain.spec):
            wrong += [f"{what}: {problem}" for problem in problems]
            continue
        for name, difference in distances(outputs, alone, chain.spec).items():
            needed = float(difference.max()) / magnitude(scales, name)
            if needed > allowed:
                told = f"{what}: {name!r} moves by {needed:.2e} of {allowed:.2e} allowed"
                (wide if needed < rounding else wrong).append(told)
    return wrong, wide


def allowed_of_batching(spec: ModelSpec, variant: Variant, way: str = "") -> float:
    """What batching may move an answer by, relative to the largest; ``way`` is other than the usual one where named."""
    usual, _ = batching(variant.row_name, spec.tolerances, spec.source)
    if not way or variant.precision.startswith("int8"):
        return usual
    # Kernels that nobody measured may add in another order for another batch, as TensorFlow's do; integers have none.
    return max(usual, batching(REFERENCE.row_name)[0])


def _most_of_rounding(variant: Variant) -> float:
    """What rounding moves an answer by at most, whatever the row says."""
    return HALF_STEP if variant.precision == "fp16" else DEEPER * batching(REFERENCE.row_name)[0]


def different(actual: Arrays, alone: Arrays, spec: ModelSpec) -> list[str]:
    """Why outputs have no difference from those of single samples: names, shapes, dtypes, NaN."""
    return name_problems(actual, alone) or [
        problem
        for name, array in alone.items()
        for problem in structural_problems(name, actual[name], array, constant=name in spec.constants)
    ]


def distances(actual: Arrays, alone: Arrays, spec: ModelSpec) -> dict[str, NDArray[np.float64]]:
    """Differences of outputs from those of single samples, by name, ranked ones in the same order."""
    actual = aligned(actual, alone, [o.name for o in spec.outputs if o.kind == "ranked"])
    both = {o.name: (np.atleast_1d(actual[o.name]), np.atleast_1d(alone[o.name])) for o in spec.outputs}
    return {name: np.abs(got.astype(np.float64) - expected) for name, (got, expected) in both.items()}


def _lost_in_fp16(chain: Chain, variant: Variant, sets: Sets) -> Iterator[str]:
    """What an ONNX keeps in FP16 though it does not fit there, set by set."""
    path = chain.file(variant)
    if not (tensors := kept_in_fp16(path)):
        return
    with InFp16(chain.spec, variant, path, tensors) as engine:
        for given in (g for g in sets.every if g.name in {"samples", "contrast"}):
            rule = rule_of(chain, variant, given.kind, len(next(iter(given.inputs.values()))))
            if lost := lost_in_fp16(engine, given.inputs, rule, given.name, given.names):
                yield f"{given.name}: {lost}"
