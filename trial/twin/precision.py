"""How each precision rounds: what a twin puts in the place of every rounding.

The numbers are root mean squares, measured or derived, of single operators; docs/noise.md has their sources. None of
them was fitted to the answers of a whole model: what is left between a twin and real engines is the rule's factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from trial.twin.errors import TwinError

NEAREST = 0.425
"""Root mean square of rounding to nearest, relative to the value, in unit roundoffs.

The error is uniform within half a step; mantissas fall off as 1/m between the powers of two, which makes it
(1/√3) · √(3 / (8 ln 2)).
"""

PER_SUM = 0.3
"""Error of a sum of n products in FP32, relative to the results' root mean square, is this times √n unit roundoffs.

The √n is the probabilistic bound; 0.3 is what matrix products of ONNX Runtime and NumPy show (n from 16 to 256).
"""

LONGEST = 256
"""Longer sums are no worse: libraries add them in blocks of about this many, and the blocks' sums to each other."""

TWO_SIDES = 2**0.5
"""Both the engine and the reference round in FP32, independently of each other."""


@dataclass(frozen=True)
class Precision:
    """Roundings of a precision.

    ``values`` and ``weights`` are unit roundoffs of results and stored weights, ``operands`` of what a product takes
    (TF32), ``moved`` of what is only moved (:func:`trial.twin.plan.stored`); 0 leaves them exact. ``sums`` is the unit
    roundoff in which sums are added. ``smallest`` is the smallest normal number: below it steps no longer shrink.
    ``largest`` is the largest finite weight. ``bits`` of 8 rounds to integer grids: ``throughout`` every result is on
    one, as in TFLite, else only what quantized operators take and give, symmetrically, as in Q/DQ graphs for ONNX
    Runtime and TensorRT; ``first`` those that inputs reach first as well. ``span`` is what share of the largest
    calibration value a sound calibration lets a grid reach, least and most. ``operators`` are the largest errors of
    functions that a device approximates, by operator: relative to the value, and absolute.
    """

    name: str
    values: float = 0.0
    weights: float = 0.0
    operands: float = 0.0
    moved: float = 0.0
    sums: float = 0.0
    smallest: float = 2.0**-126
    largest: float = 3.4028234663852886e38
    bits: int = 0
    throughout: bool = False
    first: bool = True
    span: tuple[float, float] = (1.0, 1.05)
    operators: Mapping[str, tuple[float, float]] = field(default_factory=dict)


ENTROPY = (0.9, 1.1)
"""Where TensorRT's entropy calibration ends a grid, as a share of the largest value in calibration.

Most tensors of 15 models lay there (docs/noise.md). What it narrows to a tenth, scores in front of an attention's mask,
is its failing: a sound conversion does not clip there.
"""

DEVICE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "Tanh": (1.1e-5, 0.0),
        "Mish": (0.0, 1.0e-5),
        "Softmax": (2.7e-6, 0.0),
        "LogSoftmax": (0.0, 3.3e-6),
        "Exp": (8.4e-7, 0.0),
        "Pow": (9.0e-7, 0.0),
        "Sigmoid": (8.7e-7, 0.0),
        "Softplus": (0.0, 2.3e-6),
        "Sin": (0.0, 1.2e-6),
        "Cos": (0.0, 1.2e-6),
        "Log": (0.0, 6.4e-7),
        "Elu": (0.0, 1.0e-7),
        "Celu": (0.0, 1.0e-7),
        "Selu": (6.0e-5, 0.0),
    }
)
"""Largest errors of functions that TensorRT approximates in FP32, each alone; docs/noise.md has the measurement.

Not their root mean square, which is a fifth of it: where a function is worst, all samples near there are.
"""

FP32_UNIT, HALF_UNIT, BRAIN_UNIT = 2.0**-24, 2.0**-11, 2.0**-8

PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        p.name: p
        for p in (
            Precision("fp32", values=FP32_UNIT * TWO_SIDES, sums=FP32_UNIT * TWO_SIDES),
            Precision("fp32-device", values=FP32_UNIT * TWO_SIDES, sums=FP32_UNIT * TWO_SIDES, operators=DEVICE),
            Precision("tf32", values=FP32_UNIT, sums=FP32_UNIT, weights=HALF_UNIT, operands=HALF_UNIT),
            Precision("fp16-weights", weights=HALF_UNIT, smallest=2.0**-14, largest=65504.0),
            Precision("fp16-moved", weights=HALF_UNIT, moved=HALF_UNIT, smallest=2.0**-14, largest=65504.0),
            Precision("fp16", values=HALF_UNIT, weights=HALF_UNIT, smallest=2.0**-14, largest=65504.0),
            Precision("bf16", values=BRAIN_UNIT, weights=BRAIN_UNIT),
            Precision("int8-symmetric", bits=8, first=False),
            Precision("int8-calibrated", bits=8, span=ENTROPY),
            Precision("int8-asymmetric", bits=8, throughout=True),
        )
    }
)
"""Every precision by its name."""


def find(precision: str | Precision) -> Precision:
    """Return a precision by its name, or one that is given as it is; raises TwinError for an unknown name."""
    if isinstance(precision, Precision):
        return precision
    if precision not in PRECISIONS:
        raise TwinError(f"no twin for precision {precision!r}; allowed: {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]
