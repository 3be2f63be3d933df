"""What batching may move a sample's answer by, and what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.compare import name_problems, structural_problems
from conformance.noise import spoken
from conformance.ranked import aligned
from engines.formats import registry
from engines.variant import REFERENCE
from trial.examine import DEEPER
from trial.own_noise import noise_in, own_noise
from trial.rows import batching
from trial.scales import magnitude, output_scales
from trial.twin import TwinError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Chain
    from engines.model.spec import ModelSpec
    from engines.runner import Runner
    from engines.variant import Variant
    from trial.sets import Set

    Arrays = Mapping[str, NDArray[Any]]

BATCH = 7
"""The batch that single samples are compared with: it divides none of the counts of samples."""

HALF_STEP = 2.0**-10
"""What FP16's rounding may move it by: a step of the largest value, where an engine adds in another order."""

RARELY = 1 / 10
"""The share of samples in which a sum in another order may tip a value to the next integer of a grid."""


@dataclass(frozen=True)
class Steady:
    """What an output of a sample may differ by in a batch and alone, in units of its magnitude.

    ``tipped`` is what one sample in ten may, where values are rounded to integers behind sums in FP32; ``why`` says
    what both rest on.
    """

    allowed: float
    tipped: float = 0.0
    why: str = ""

    def beyond(self, moved: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which samples moved too far, of what each did (N,)."""
        far = moved > self.allowed
        if far.sum() <= max(1, len(moved) * RARELY):
            far &= moved > self.tipped
        return far


def steady(chain: Chain, variant: Variant, way: str = "") -> dict[str, Steady]:
    """What batching may do to each output of a variant; ``way`` is other than the usual one where named.

    It is the row's, or what adding in another order does to this model: what FP32 does to it, as its twin tells. FP16
    between layers rounds what that moves to its next step. Integers keep the row. So do bundled models: theirs were
    measured on them. So does a model that has a row of its own.
    """
    spec = chain.spec
    usual = _row(spec, variant, way)
    found = dict.fromkeys((o.name for o in spec.outputs), Steady(usual))
    if spec.bundled or "batching" in spec.tolerances.get(variant.row_name, {}):
        return found
    stored = variant.precision in registry.find(variant.format).stored_between
    try:
        rounding = own_noise(chain, variant, "samples") if stored else noise_in(chain, "fp32", "samples")
        tipped = own_noise(chain, variant, "samples") if variant.precision.startswith("int8") else None
    except TwinError:
        return found
    count = len(chain.samples)
    for name in rounding.limits:
        if rounding.kinds[name] == "integers":
            continue
        moved, more = rounding.of(name, count)["max"], tipped.of(name, count)["max"] if tipped else None
        why = f"{rounding.factor:g} times what {spoken(rounding.precision)} does to this model"
        allowed = max(usual, moved.allowed)
        found[name] = Steady(allowed, more.allowed if more else 0.0, why if allowed > usual else "")
    return found


def _row(spec: ModelSpec, variant: Variant, way: str) -> float:
    """What the row allows."""
    usual, _ = batching(variant.row_name, spec.tolerances, spec.source)
    if not way or variant.precision.startswith("int8"):
        return usual
    # Kernels that nobody measured may add in another order for another batch, as TensorFlow's do; integers have none.
    return max(usual, batching(REFERENCE.row_name)[0])


def moved_by_batching(chain: Chain, runner: Runner, given: Set) -> tuple[list[str], list[str]]:
    """What batches of BATCH, and all samples at once, do to what samples answer alone.

    First what no rounding does, then what is beyond what is allowed alone.
    """
    alone = runner.in_batches(given.inputs, 1)
    cut = {f"batches of {BATCH}": runner.in_batches(given.inputs, BATCH), "one batch": runner(given.inputs)}
    limits, rounding = steady(chain, runner.variant, runner.way), _most_of_rounding(runner.variant)
    scales = output_scales(chain)
    wrong: list[str] = []
    wide: list[str] = []
    for what, outputs in cut.items():
        if problems := different(outputs, alone, chain.spec):
            wrong += [f"{what}: {problem}" for problem in problems]
            continue
        for name, difference in distances(outputs, alone, chain.spec).items():
            moved = by_sample(difference) / magnitude(scales, name)
            if limits[name].beyond(moved).any():
                needed = float(moved.max())
                told = f"{what}: {name!r} moves by {needed:.2e} of {limits[name].allowed:.2e} allowed"
                (wide if needed < rounding else wrong).append(told)
    return wrong, wide


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


def by_sample(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest difference of every sample, (N,)."""
    return np.asarray(difference.reshape(len(difference), -1).max(axis=1), np.float64)
