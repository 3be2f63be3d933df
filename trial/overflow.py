"""Values of an FP16 ONNX that do not fit FP16, and what becomes of the answers without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.cause import Cause
from engines.formats.onnx.fp16 import InFp16
from engines.formats.onnx.fp32_parts import FP16_LARGEST
from trial.outputs import Outputs, without
from trial.rules import Rule, compare_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


OVERFLOW = Cause("an overflow, which ONNX Runtime does not show on a CPU: there it computes FP16 graphs in FP32")


def lost_in_fp16(
    engine: InFp16, inputs: Mapping[str, NDArray[Any]], rule: Rule, name: str, sample_names: Sequence[str] = ()
) -> str:
    """What does not fit FP16 and how far that changes the answers to ``inputs``; empty where they survive it.

    They survive where, by the rule, they are those of the same graph without FP16's limits. What becomes infinite may
    be meant to (a mask), or make no difference (only its tanh is taken).
    """
    constants = engine.plain.spec.constants
    plain, limited = (without(run(inputs), constants) for run in (engine.plain, engine.limited))
    # Answers that are not finite in FP32 either are for other tests to find.
    finite = np.logical_and.reduce([np.isfinite(a.reshape(len(a), -1)).all(axis=1) for a in plain.values()])
    samples = np.flatnonzero(finite)
    if not samples.size:
        return ""
    plain, limited = ({key: array[samples] for key, array in outputs.items()} for outputs in (plain, limited))
    comparison = compare_of(engine.limited, Outputs(inputs, limited, plain), rule)
    if comparison.passed:
        return ""
    differences = [np.abs(limited[key] - array).reshape(len(samples), -1).max(axis=1) for key, array in plain.items()]
    # A NaN is as far off as it gets.
    apart = np.nan_to_num(np.max(differences, axis=0), nan=np.inf, posinf=np.inf)
    worst_first = samples[np.argsort(-apart, kind="stable")]
    for worst in map(int, worst_first):
        if found := engine.overflows({key: array[worst : worst + 1] for key, array in inputs.items()}):
            break
    else:
        # A steep model is moved that far by FP32's rounding, as the one graph is not optimized as the other.
        return ""
    first, *others = found
    named = f" ({sample_names[worst]})" if sample_names else ""
    judged = f"{engine.plain.variant} of {engine.plain.spec.name}"
    lines = [
        f"{judged} keeps values in FP16 that do not fit there, and its answers hang on them",
        f"  inputs     {name}, {len(finite)} samples",
        f"  tensor     {first.tensor!r}, the output of {first.operator}, reaches {first.largest:.6g} on sample {worst}"
        f"{named}; FP16 ends at {FP16_LARGEST:.0f}",
    ]
    if others:
        largest = max(other.largest for other in others)
        lines.append(f"             {len(others)} behind it do not fit either, up to {largest:.6g}")
    lines += [f"  in FP16    {line}" for line in comparison.describe().splitlines()]
    lines += [
        f"  likely     {OVERFLOW.text}",
        "  what to do keep that part in FP32 (the FP16 converter's node_block_list) or scale its values down;",
        "             or use BF16 or FP32, and leave fp16 out of the model's precisions",
    ]
    return "\n".join(lines)
