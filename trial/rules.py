"""What a variant's outputs are judged by: its tolerance, kinds and scales of outputs, and causes to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.compare import ANY, Comparison, Grid, Scale, Tolerance, compare
from engines.errors import EngineError
from engines.formats import registry
from trial.rows import row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from engines.model.spec import ModelSpec
    from engines.runner import Runner
    from engines.variant import Variant

    Arrays = Mapping[str, NDArray[Any]]


MANY = 16
"""The fewest stress inputs whose average says something of an engine: the contrast set has at least as many."""


@dataclass(frozen=True)
class Outputs:
    """What an engine answered on inputs, and what the reference did; all by name, (N, …)."""

    inputs: Arrays
    actual: Arrays
    reference: Arrays

    def part(self, few: slice | NDArray[np.intp]) -> Outputs:
        """Some of the samples, of outputs that all have a batch axis."""
        return Outputs(
            *({n: a[few] for n, a in arrays.items()} for arrays in (self.inputs, self.actual, self.reference))
        )

    def without(self, names: frozenset[str]) -> Outputs:
        """The same without some outputs, such as those that have no batch axis."""
        return Outputs(self.inputs, *(without(arrays, names) for arrays in (self.actual, self.reference)))


def without(outputs: Arrays, names: frozenset[str]) -> dict[str, NDArray[Any]]:
    """Outputs but for some, by name."""
    return {name: array for name, array in outputs.items() if name not in names}


@dataclass(frozen=True)
class Rule:
    """What outputs are judged by: the variant's tolerance, and the magnitudes of logits and values.

    ``converted`` and ``ask`` are for the cause of a failure. The one is whether the engine was made from the SavedModel
    and is fed by its runner here. The other returns the SavedModel's outputs on other inputs, or None where it cannot.
    """

    tolerance: Tolerance
    scales: Mapping[str, Scale]
    converted: bool = False
    ask: Callable[[Arrays], Arrays | None] = lambda _: None


OWN_SCALE = ("probabilities", "scores", "integers")
"""The kinds of outputs whose differences are absolute."""

EXACT = 0.01
"""The share of the variance of values that FP32 may lose: rounding loses a millionth, and any fault far more."""


def output_kinds(spec: ModelSpec) -> dict[str, str]:
    """What each output of a model holds, as a comparison asks for it."""
    return {o.name: o.kind for o in spec.outputs}


def output_thresholds(spec: ModelSpec) -> dict[str, float]:
    """Where the scores of each output of a model decide."""
    return {o.name: o.threshold for o in spec.outputs}


def output_scales(chain: Chain) -> dict[str, Scale]:
    """Magnitudes of outputs that have no scale of their own: those of the reference's on the samples."""
    names = [o.name for o in chain.spec.outputs if o.kind not in OWN_SCALE]
    reference = chain.reference("samples", chain.samples.inputs) if names else {}
    return {name: Scale.of(reference[name]) for name in names}


def magnitude(scales: Mapping[str, Scale], output: str) -> float:
    """What differences of an output are divided by; 1 for those with a scale of their own, and where all is zero."""
    return (scales[output].largest if output in scales else 0.0) or 1.0


def rule_of(chain: Chain, variant: Variant, kind: str, count: int = 0) -> Rule:
    """What a variant's outputs are judged by on ``count`` inputs of a kind: ``samples`` or ``stress``."""
    tolerance = row(variant.row_name, kind, chain.spec.tolerances, chain.spec.source).tolerance
    if variant.precision == "fp32":
        tolerance = replace(tolerance, spread=EXACT, integers=0.0)
    if kind == "stress" and variant.precision.startswith("int8") and not _measured(chain, variant):
        tolerance = _on_average(tolerance, count)
    return Rule(tolerance, output_scales(chain), _converted(chain, variant), lambda inputs: _asked(chain, inputs))


def _converted(chain: Chain, variant: Variant) -> bool:
    """Whether an engine was made from the SavedModel by the chain, and is fed by its runner: no C++ program is."""
    return registry.find(variant.format).fed_here and not chain.from_brought(variant)


def _asked(chain: Chain, inputs: Arrays) -> Arrays | None:
    """The SavedModel's outputs on inputs that are tried for a cause; None where there is no TensorFlow."""
    try:
        return chain.reference("tried", inputs)
    except EngineError:
        return None


def _measured(chain: Chain, variant: Variant) -> bool:
    """Whether the variant's row for stress was measured on this model: it is bundled, or has a row of its own."""
    own = "stress" in chain.spec.tolerances.get(variant.row_name, {})
    return own or (chain.spec.bundled and variant.format not in chain.brought)


def _on_average(tolerance: Tolerance, count: int) -> Tolerance:
    """Let the averages of many stress inputs decide alone, and of few nothing but their form.

    What INT8 makes of inputs beyond its calibrated range is the model's own. Of thirteen soundly quantized models three
    gave some drawn noise another class, with leads of up to 1.0. They kept to the averages of the rows. Those are
    one-dimensional convolutions, a transformer, and steep logits.
    """
    averages = {} if count >= MANY else {"mean": ANY, "kl": ANY}
    why = f"{tolerance.why}; on average of {MANY} and more stress inputs, since this model's rows were not measured"
    return replace(tolerance, max=ANY, margin=ANY, flips=ANY, spread=ANY, why=why, **averages)


def compare_of(runner: Runner, given: Outputs, rule: Rule) -> Comparison:
    """Compare what a runner answered with the reference, knowing which of its outputs are integers inside."""
    grids = {name: Grid(*found) for name, found in runner.grids.items()}
    return compare(
        given.actual,
        given.reference,
        rule.tolerance,
        output_kinds(runner.spec),
        scales=rule.scales,
        grids=grids,
        thresholds=output_thresholds(runner.spec),
    )
