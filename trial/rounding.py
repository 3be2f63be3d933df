"""What FP16 engines of a model that nobody measured may differ by: what rounding to FP16 does to the model itself.

How far FP16's rounding moves an answer depends on how steep a model is, and the table was measured on the bundled ones.
So an FP16 engine of one's own model may be beyond its row. The model's FP32 ONNX is then run with all weights and
values rounded to FP16. What that moves is what such an engine may need.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.compare import ANYTHING, compare
from conformance.tolerances import HEADROOM
from engines.errors import EngineError
from engines.formats.onnx.build import FILE
from engines.formats.onnx.fp16 import rounded
from engines.formats.onnx.packages import unavailable
from engines.formats.onnx.runner import OnnxRunner
from engines.variant import Variant
from trial.rules import Rule, output_kinds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.compare import Scale
    from engines.chain import Chain

FP32 = Variant("onnx", "fp32")

MOST: Mapping[str, float] = {
    "max": HEADROOM,
    "mean": HEADROOM,
    "kl": HEADROOM**2,
    "margin": HEADROOM,
    "flips": HEADROOM,
}
"""By how many times a figure of the row may grow at most: the divergence goes with the square of a difference."""


def own_rule(chain: Chain, variant: Variant, kind: str, rule: Rule, inputs: Mapping[str, NDArray[Any]]) -> Rule | None:
    """The wider rule for an FP16 engine on inputs of a kind; None where the model was measured or cannot be.

    Every figure is allowed four times what rounding alone does, as a row is four times what was seen. No figure is
    allowed more than MOST times the row. A model that FP16 moves further does not bear FP16, and its engine fails.
    """
    if variant.precision != "fp16" or chain.spec.bundled or kind in chain.spec.tolerances.get(variant.row_name, {}):
        return None
    seen = moved_by_rounding(chain, inputs, rule.scales)
    if seen is None:
        return None
    # A difference of that size flips a class that leads by no more.
    seen = {**seen, "margin": seen["max"]}
    allowed = {}
    for name, most in MOST.items():
        row = getattr(rule.tolerance, name)
        allowed[name] = min(max(row, HEADROOM * seen.get(name, 0.0)), most * row)
    allowed["flips"] = min(allowed["flips"], 1.0)
    why = f"{rule.tolerance.why}; or {HEADROOM:g} times what rounding to FP16 does to this model's own FP32 ONNX"
    return replace(rule, tolerance=replace(rule.tolerance, why=why, **allowed))


def moved_by_rounding(
    chain: Chain, inputs: Mapping[str, NDArray[Any]], scales: Mapping[str, Scale]
) -> dict[str, float] | None:
    """Figures of the FP32 ONNX in FP16's steps against the same without; None where there is no such ONNX.

    It is converted from the SavedModel, whatever file was brought: what is judged has no part in what it is judged by.
    """
    if unavailable():
        return None
    import onnx

    own = replace(chain, brought={})
    try:
        path = own.file(FP32)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / FILE
            onnx.save(rounded(path), str(file))
            with own.runner(FP32) as plain, OnnxRunner(own.spec, FP32, file) as narrow:
                comparison = compare(narrow(inputs), plain(inputs), ANYTHING, output_kinds(own.spec), scales=scales)
    except EngineError:
        return None
    if comparison.problems:
        return None
    figures = [figure for output in comparison.outputs for figure in output.figures]
    return {name: max(f.needed for f in figures if f.name == name) for name in {f.name for f in figures}}
