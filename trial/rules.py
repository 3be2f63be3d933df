"""What a variant's outputs are judged by: its tolerance, kinds and scales of outputs, and causes to try."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.compare import ANY, ANYTHING, Comparison, Grid, Tolerance
from conformance.tolerances import HEADROOM
from engines import parts, windows
from engines.errors import EngineError
from engines.formats import registry
from trial.evidence import Evidence, asked_of
from trial.own_noise import own_noise
from trial.rows import row
from trial.scales import output_scales
from trial.twin import TwinError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from conformance.compare import Scale
    from conformance.noise import Noise
    from engines.chain import Chain
    from engines.model.spec import ModelSpec
    from engines.runner import Runner
    from engines.variant import Variant
    from trial.outputs import Outputs

    Arrays = Mapping[str, NDArray[Any]]


MANY = 16
"""The fewest stress inputs whose average says something of an engine: the contrast set has at least as many."""


@dataclass(frozen=True)
class Rule:
    """What outputs are judged by: what the precision does to the model, and the variant's row.

    Of outputs that ``noise`` is told of, ``tolerance`` is a ceiling; others are judged by it. ``scales`` are magnitudes
    of logits and values. ``why`` says in words what decides, ``untold`` why there is no noise where some was wanted.
    ``first`` are the samples that the noise is told on, ``spared`` the numbers of made-up inputs that the model itself
    answers by rounding, by which nothing was judged.

    ``converted``, ``ask``, ``windows``, ``parts`` and ``swamped`` are for the cause of a failure. The first is whether
    the engine was made from the SavedModel and is fed by its runner here. The second returns the SavedModel's outputs
    on other inputs, or None where it cannot. Two say which convolutions and poolings of a brought file, and which
    operators and constants, are not those of the model's own; the last what vanishes in a step of INT8.
    """

    tolerance: Tolerance
    scales: Mapping[str, Scale]
    converted: bool = False
    ask: Callable[[Arrays], Arrays | None] = lambda _: None
    windows: Callable[[], str] = str
    parts: Callable[[], str] = str
    swamped: Callable[[], str] = str
    noise: Noise | None = None
    why: str = ""
    first: Arrays = field(default_factory=dict)
    untold: str = ""
    spared: tuple[int, ...] = ()

    def tolerances(self, names: Iterable[str], count: int) -> dict[str, Tolerance]:
        """Tolerance of every output on so many inputs."""
        noise = self.noise
        known = noise.limits if noise else {}
        return {n: noise.tolerance(n, count, self.tolerance) if noise and n in known else self.tolerance for n in names}

    def aligned(self, inputs: Arrays) -> bool:
        """Whether inputs start with the samples that the noise is told on."""
        return bool(self.first) and all(
            name in inputs and np.array_equal(inputs[name][: len(array)], array) for name, array in self.first.items()
        )


EXACT = 0.01
"""The share of the variance of values that FP32 may lose: rounding loses a millionth, and any fault far more."""


def rule_of(chain: Chain, variant: Variant, kind: str, count: int = 0) -> Rule:
    """What a variant's outputs are judged by on ``count`` inputs of a kind: ``samples`` or ``stress``.

    That is what its precision does to the model, told by the model's twin. The row of the table is a ceiling where it
    was measured on this very model; elsewhere the next coarser precision's is, for samples. A tolerance in the model's
    own file wins over both. Without a twin the row decides alone.
    """
    tolerance = row(variant.row_name, kind, chain.spec.tolerances, chain.spec.source).tolerance
    if variant.precision == "fp32":
        tolerance = replace(tolerance, spread=EXACT, integers=0.0)
    tolerance = replace(tolerance, sum=allowed_sum(chain, variant, kind))
    rest = (
        output_scales(chain),
        _converted(chain, variant),
        lambda inputs: _asked(chain, inputs),
        lambda: other_windows(chain, variant),
        lambda: other_parts(chain, variant),
        lambda: swamped(chain, variant),
    )
    if kind in chain.spec.tolerances.get(variant.row_name, {}):
        why = f"{tolerance.why} ({chain.spec.source}: an own tolerance, which wins over what the model's twin tells)"
        return Rule(tolerance, *rest, why=why)
    try:
        noise = own_noise(chain, variant, kind)
    except TwinError as error:
        if kind == "stress" and variant.precision.startswith("int8") and not _measured(chain, variant):
            tolerance = _on_average(tolerance, count)
        why = f"{tolerance.why}; by this row of the table alone, for {error}"
        return Rule(tolerance, *rest, why=why, untold=str(error))
    if _measured(chain, variant) or (chain.spec.bundled and kind == "samples"):
        tolerance = replace(tolerance, why=f"the row of {variant.row_name}: {tolerance.why}")
    else:
        tolerance = _ceiling(tolerance, variant, kind)
    first = {name: array[: noise.samples] for name, array in chain.samples.inputs.items()} if kind == "samples" else {}
    capped = f"at most {tolerance.why}" if tolerance.max < ANY else "these inputs are no samples, and have no ceiling"
    return Rule(tolerance, *rest, noise, f"{noise.why}; {capped}", first)


def allowed_sum(chain: Chain, variant: Variant, kind: str) -> float:
    """How far probabilities of a variant may be from summing to one: each is rounded by 2^-11 of itself in FP16."""
    found = row(variant.row_name, kind, chain.spec.tolerances, chain.spec.source).tolerance.sum
    stored = variant.precision in registry.find(variant.format).stored_between
    own = chain.spec.bundled or kind in chain.spec.tolerances.get(variant.row_name, {})
    return max(found, HALF) if stored and not own else found


HALF = 2.0**-11
"""What rounding to FP16 moves a number by at most, relative to it."""


def _ceiling(own: Tolerance, variant: Variant, kind: str) -> Tolerance:
    """What no engine of a model that nobody measured may need, whatever its precision does to it.

    An FP32 engine that needs what FP16 needs is none, and so on. What INT8 may need has four times its own row.
    """
    if kind != "samples":
        found = replace(ANYTHING, sum=own.sum, integers=own.integers)
        return replace(found, spread=ANY) if variant.precision.startswith("int8") else found
    coarser = {"fp32": "onnx-fp16", "fp16": "onnx-int8"}.get(variant.precision)
    if coarser is not None:
        found, why = row(coarser, kind).tolerance, f"what {coarser} has in its row"
        return replace(found, sum=own.sum, spread=own.spread, integers=own.integers, why=why)
    most = {name: min(1.0, getattr(own, name) * times) for name, times in MOST.items()}
    return replace(own, **most, why=f"{HEADROOM:g} times the row of {variant.row_name}")


MOST: Mapping[str, float] = {"max": HEADROOM, "mean": HEADROOM, "kl": HEADROOM**2, "margin": ANY, "flips": HEADROOM}
"""By how many times a figure of INT8's row may grow at most: the divergence goes with the square of a difference."""


def _converted(chain: Chain, variant: Variant) -> bool:
    """Whether an engine was made from the SavedModel by the chain, and is fed by its runner.

    No C++ program is fed so, and what a server runs was made and put there by others.
    """
    format_ = registry.find(variant.format)
    return format_.fed_here and not format_.elsewhere and not chain.from_brought(variant)


def other_windows(chain: Chain, variant: Variant) -> str:
    """What differs between the convolutions and poolings of a brought file and those of the chain's own, in words.

    Empty where nothing does, where nothing was brought, and where the store has no file of the chain's own beside it.
    """
    format_ = registry.find(variant.format)
    brought, own = chain.brought_file(variant), _own(chain, variant, format_.precisions)
    return windows.differing(format_.windows(brought), format_.windows(own)) if brought and own else ""


def other_parts(chain: Chain, variant: Variant) -> str:
    """What differs between the operators of a brought file and those of the chain's own of that precision, in words."""
    format_ = registry.find(variant.format)
    brought, own = chain.brought_file(variant), _own(chain, variant)
    return parts.differing(format_.parts(brought), format_.parts(own)) if brought and own else ""


def swamped(chain: Chain, variant: Variant) -> str:
    """The first operator of a file in INT8 in whose step an input vanishes, in words; empty where there is none."""
    found = registry.find(variant.format).swamped(chain.file(variant)) if variant.precision.startswith("int8") else ()
    more = f" ({len(found) - 1} more such)" if len(found) > 1 else ""
    return f"{found[0]}{more}" if found else ""


def _own(chain: Chain, variant: Variant, precisions: Iterable[str] = ()) -> Path | None:
    """The chain's own file of a variant, or of another precision of those, where the store has it."""
    own = replace(chain, brought={})
    for precision in (variant.precision, *precisions):
        name = own.artifact_name(replace(variant, precision=precision))
        if artifact := chain.store.recorded(chain.spec.name, name):
            return artifact.file(registry.find(variant.format).file)
    return None


def _asked(chain: Chain, inputs: Arrays) -> Arrays | None:
    """The SavedModel's outputs on inputs that are tried for a cause; None where there is no TensorFlow."""
    try:
        return chain.reference("tried", inputs)
    except EngineError:
        return None


def _measured(chain: Chain, variant: Variant) -> bool:
    """Whether the variant's row for stress was measured on this model: it is bundled, and no file was brought."""
    return chain.spec.bundled and variant.format not in chain.brought


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
    return compare_by(runner.spec, given, rule, {name: Grid(*found) for name, found in runner.grids.items()})


def compare_by(spec: ModelSpec, given: Outputs, rule: Rule, grids: Mapping[str, Grid]) -> Comparison:
    """The same of answers whose engine is not at hand; ``grids`` says which outputs are integers inside."""
    sizes = [len(array) for name, array in given.reference.items() if name not in spec.constants]
    asked = asked_of(spec, rule, max(sizes, default=1))
    evidence = Evidence.of(spec, given.actual, given.reference, asked, grids)
    return evidence.judged(spec, rule, aligned=rule.aligned(given.inputs))
