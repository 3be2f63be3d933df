"""Compare an engine's outputs with all that is known of model and engine, and look for the cause where they differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from conformance.cause import Cause
from conformance.compare import Comparison
from conformance.diagnose import diagnose, missing_samples
from engines.errors import EngineError
from trial.outputs import Outputs, without
from trial.rules import Rule, compare_of, rule_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from engines.runner import Arrays, Runner


DIAGNOSED = 100
"""The most samples that the cause of a failure is looked for on: the engine is run many times for it."""

SPREAD = Cause.unknown("only all samples together are beyond the tolerance")


def cause(runner: Runner, given: Outputs, rule: Rule) -> Cause | None:
    """What most likely is wrong with what a runner answered; None where nothing can be said."""
    constants = runner.spec.constants
    rest = given.without(constants)
    if constants and rest.reference and compare_of(runner, rest, rule).passed:
        return Cause(f"only {', '.join(sorted(constants))} differs, which no input reaches: it was converted wrongly")
    for other in runner.unjudged:
        if compare_of(other, replace(given, actual=other(given.inputs)), rule).passed:
            return Cause(f"{other.way} agree on the same file, on this very processor: {other.advice}")
    # Answers that are remembered are the same in every call, whatever the engine does.
    return _of_samples(runner, rest, rule, lambda inputs: without(runner.anew(inputs), constants))


def _of_samples(runner: Runner, given: Outputs, rule: Rule, run: Callable[[Arrays], Arrays]) -> Cause | None:
    """Cause of what differs in outputs that have a batch axis, which are those that ``run`` gives."""
    sizes = {name: len(array) for name, array in given.actual.items() if name in given.reference and array.ndim}
    count = max((len(array) for array in given.reference.values()), default=0)
    if wrong := {n for n in sizes.values() if n != count}:
        return missing_samples(min(wrong), count, runner.batch_size)
    if any(n not in given.actual or given.actual[n].shape != a.shape for n, a in given.reference.items()):
        return None
    try:
        if count > DIAGNOSED:
            few = _around(given, compare_of(runner, given, rule))
            part, where = given.part(few), f"samples {few.start} to {few.stop - 1}"
            # A window that is right as it is shows nothing: what is wrong may be a few of all samples.
            if compare_of(runner, part, rule).passed:
                part, where = given.part(_worst(given)), f"the {DIAGNOSED} worst samples"
            if compare_of(runner, part, rule).passed:
                return SPREAD
            given = replace(part, actual=run(part.inputs))
            if compare_of(runner, given, rule).passed:
                return Cause(f"{where} are right in a call of their own: answers depend on the whole call")
        scores = runner.spec.probabilities
        return diagnose(
            given.inputs,
            given.actual,
            given.reference,
            run=run,
            alone=lambda others: without(runner.in_batches(others, 1), runner.spec.constants),
            agrees=lambda other: compare_of(runner, replace(given, actual=other), rule).passed,
            scores=scores.name if scores else None,
            batch=runner.batch_size,
            steps=runner.steps,
            ask=rule.ask,
            converted=runner.variant.precision if rule.converted else None,
            windows=rule.windows,
            parts=rule.parts,
            swamped=rule.swamped,
            integers=runner.variant.precision.startswith("int8"),
        )
    except EngineError as error:
        # What is tried to find the cause may be more than the engine bears; the verdict stands without it.
        return _refused(error)


def _refused(error: EngineError) -> Cause:
    return Cause.unknown(f"a check for it takes inputs that this engine refuses ({error})")


def cause_of_stress(runner: Runner, given: Outputs, rule: Rule, chain: Chain) -> Cause | None:
    """The same of inputs that are no real samples.

    Of a few of them any mistake may seem the cause, within the wide tolerance that they have. So the real samples are
    asked: where those agree, it is none that changes every answer.
    """
    samples = chain.samples.inputs
    shapes = {n: a.shape[1:] for n, a in given.actual.items()}
    if shapes != {n: a.shape[1:] for n, a in given.reference.items()}:
        return cause(runner, given, rule)
    try:
        real = Outputs(samples, runner(samples), chain.reference("samples", samples))
    except EngineError as error:
        return _refused(error)
    rule = rule_of(chain, runner.variant, "samples")
    if not compare_of(runner, real, rule).passed:
        return cause(runner, real, rule)
    bad = sum(int((~np.isfinite(a.reshape(len(a), -1))).any(axis=1).sum()) for a in given.actual.values())
    what = (
        "are answered with NaN or infinity, as by an overflow"
        if bad
        else "are answered differently, as by a clipped range"
    )
    return Cause(f"the {len(chain.samples)} real samples agree, within the tolerance; only inputs like these {what}")


def _worst(given: Outputs) -> NDArray[np.intp]:
    """The DIAGNOSED samples, in their order, that differ most in any output."""
    ranks = []
    for name, array in given.reference.items():
        difference = np.abs(given.actual[name].astype(np.float64) - array).reshape(len(array), -1).max(axis=1)
        ranks.append(np.argsort(np.argsort(difference, kind="stable")))
    return np.sort(np.argsort(np.max(ranks, axis=0), kind="stable")[-DIAGNOSED:])


def _around(given: Outputs, comparison: Comparison) -> slice:
    """DIAGNOSED samples around the first of the worst ones, or of those that are not finite."""
    count = comparison.samples
    wrong = [output.worst_sample for output in comparison.outputs if not output.passed]
    for array in given.actual.values():
        wrong += np.flatnonzero(~np.isfinite(array.reshape(count, -1)).all(axis=1))[:1].tolist()
    start = min(max(0, min(wrong, default=0) - DIAGNOSED // 2), count - DIAGNOSED)
    return slice(start, start + DIAGNOSED)
