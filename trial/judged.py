"""One variant built, run and judged, without pytest: what its tests ask, and the first thing that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.compare import name_problems, structural_problems
from conformance.ranked import aligned
from conformance.tolerances import HEADROOM
from engines.errors import ConversionError, RunnerError
from engines.formats.onnx.fp16 import InFp16, kept_in_fp16
from trial.overflow import lost_in_fp16
from trial.rounding import own_rule
from trial.rows import batching, row
from trial.rules import Outputs, compare_of, magnitude, output_scales, rule_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.compare import Comparison
    from engines.chain import Chain
    from engines.model.spec import ModelSpec, OutputSpec
    from engines.runner import Runner
    from engines.variant import Variant
    from trial.rules import Rule
    from trial.sets import Set, Sets

    Arrays = Mapping[str, NDArray[Any]]

PASSES, CANNOT, WIDE, FAILS = "passes", "cannot", "wide", "fails"
"""What becomes of a variant: it agrees; it cannot be built or run; figures alone are beyond its row; or more."""

FP32 = "onnx-fp32"
"""Row by whose batching it is told whether FP32's rounding may have moved an answer."""

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
    """Build, run and judge a variant on all sets; what else than an engine's limit goes wrong is raised."""
    try:
        with chain.runner(variant) as runner:
            wrong: list[str] = []
            wide: list[str] = []
            usage = 0.0
            for given in sets.every:
                outputs = runner(given.inputs)
                problems = unsound(chain, runner, given, outputs)
                _, comparison = compared(chain, runner, given.kind, Outputs(given.inputs, outputs, given.reference))
                usage = max(usage, comparison.usage)
                wrong += [f"{given.name}: {problem}" for problem in (*problems, *comparison.problems)]
                if not comparison.passed and not comparison.problems:
                    wide.append(f"{given.name}: {comparison.describe()}")
            moved, little = moved_by_batching(chain, runner, sets.samples)
            wrong, wide = wrong + moved, wide + little
            if variant.format == "onnx":
                wrong += [*_lost_in_fp16(chain, variant, sets)]
    except (ConversionError, RunnerError) as error:
        return Verdict(CANNOT, str(error))
    state = FAILS if wrong else WIDE if wide else PASSES
    return Verdict(state, "\n".join([*wrong, *wide]), usage)


def unsound(chain: Chain, runner: Runner, given: Set, outputs: Arrays) -> list[str]:
    """What is wrong with outputs by themselves: shape, dtype, NaN, scores beyond [0, 1], sums of probabilities."""
    spec, count = chain.spec, len(next(iter(given.inputs.values())))
    sized = given.name != "samples at another size"
    allowed = row(runner.variant.row_name, given.kind, spec.tolerances, spec.source).tolerance.sum
    found = []
    for output in spec.outputs:
        array = outputs[output.name]
        expected = spec.concrete_shape(output, count)
        if (sized and array.shape != expected) or array.dtype != np.dtype(output.dtype):
            found.append(f"{output.name!r} is {array.dtype} {array.shape}; expected {output.dtype} {expected}")
        elif not np.isfinite(array).all():
            found.append(f"{output.name!r} has NaN or infinite values")
        else:
            found += _beyond(output, array, allowed, runner)
    return found


def _beyond(output: OutputSpec, array: NDArray[Any], allowed: float, runner: Runner) -> Iterator[str]:
    """What is wrong with finite scores or probabilities: each of those that are integers may be off by a step."""
    if output.kind not in {"probabilities", "scores"}:
        return
    step = runner.grids[output.name].step if output.name in runner.grids else 0.0
    rounding = max(allowed, array.shape[1] * step if output.kind == "probabilities" else step)
    if array.min() < 0 or array.max() > 1 + rounding:
        yield f"{output.name!r} has {output.kind} from {array.min():g} to {array.max():g}"
    if output.kind == "probabilities" and np.abs(array.sum(1, dtype=np.float64) - 1).max() > rounding:
        yield f"{output.name!r} has probabilities that do not sum to one"


def moved_by_batching(chain: Chain, runner: Runner, given: Set) -> tuple[list[str], list[str]]:
    """What batches of BATCH, and all samples at once, do to what samples answer alone.

    First what no rounding does, then what is beyond the row alone: FP32's parts of an engine may add in another order.
    """
    alone = runner.in_batches(given.inputs, 1)
    cut = {f"batches of {BATCH}": runner.in_batches(given.inputs, BATCH), "one batch": runner(given.inputs)}
    allowed, _ = batching(runner.variant.row_name, chain.spec.tolerances, chain.spec.source)
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
                rounding = needed < HEADROOM * batching(FP32)[0]
                (wide if rounding else wrong).append(f"{what}: {name!r} moves by {needed:.2e} of {allowed:.2e} allowed")
    return wrong, wide


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
