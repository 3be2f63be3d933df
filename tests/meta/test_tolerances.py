"""The tolerance table says both numbers and a reason for every variant, and allows no more than they bear."""

from __future__ import annotations

from math import inf

import pytest

from conformance.compare import FIGURES
from conformance.tolerances import FLOORS, HEADROOM, INPUT_KINDS, ToleranceError
from engines.formats import registry
from engines.variant import Variant
from trial.rows import batching, row

VARIANTS = [Variant(f, p) for f, precisions in registry.precisions().items() for p in precisions]


@pytest.mark.parametrize("kind", INPUT_KINDS)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_has_a_row_within_the_headroom(variant, kind):
    """No row allows more than four times the worst that was seen, and every row says why."""
    found = row(variant.row_name, kind)
    assert found.tolerance.why
    for name in FIGURES:
        allowed, seen = getattr(found.tolerance, name), found.seen[name]
        anyway = found.tolerance.max if name == "margin" else FLOORS[kind][name]
        assert seen <= allowed <= max(HEADROOM * seen, anyway)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.precision == "fp32"], ids=str)
def test_fp32_rows_are_at_rounding(variant):
    """An FP32 engine is allowed rounding of its arithmetic and nothing else: a hundred float32 roundings at most."""
    assert row(variant.row_name, "samples").tolerance.max <= 400 * 2**-24


OVERRIDE = {"onnx-int8": {"why": "measured", "samples": {"max": [0.3, 0.2]}}}


def test_a_model_overrides_single_figures():
    """An override changes the figure that it names and leaves the others of the row."""
    plain, changed = row("onnx-int8", "samples"), row("onnx-int8", "samples", OVERRIDE, "m.toml")
    assert (changed.tolerance.max, changed.seen["max"]) == (0.3, 0.2)
    assert changed.tolerance.mean == plain.tolerance.mean
    assert changed.tolerance.why == "measured"


BAD = {
    "no reason": ({"onnx-int8": {"samples": {"max": [0.3, 0.2]}}}, "tolerances.onnx-int8.why"),
    "an unknown figure": ({"onnx-int8": {"why": "x", "samples": {"rtol": [1, 1]}}}, "unknown figure"),
    "one number": ({"onnx-int8": {"why": "x", "samples": {"max": 0.3}}}, r"\[allowed, seen\]"),
    "more than the headroom": ({"onnx-int8": {"why": "x", "samples": {"max": [0.9, 0.2]}}}, "at most 4 times"),
    "less than was seen": ({"onnx-int8": {"why": "x", "samples": {"max": [0.1, 0.2]}}}, "seen ≤ allowed"),
    "no table of figures": (
        {"onnx-int8": {"why": "x", "samples": 5}},
        "samples is 5; allowed: a table of figures, max",
    ),
    "a margin before one number": (
        {"onnx-int8": {"why": "x", "samples": {"margin": [1e-6, 1e-6], "max": 0.5}}},
        r"max is 0.5; allowed: \[allowed, seen\]",
    ),
    "infinity": ({"onnx-int8": {"why": "x", "samples": {"flips": [inf, inf]}}}, "both finite"),
    "an unknown kind of input": ({"onnx-int8": {"why": "x", "photos": {}}}, "photos"),
    "an unknown variant": ({"onnx-int9": {"why": "x"}}, "onnx-int9"),
}


@pytest.mark.parametrize("bad", BAD)
def test_an_override_that_says_too_little_or_allows_too_much_is_refused(bad):
    """Errors name the model's file, the key, what was found and what is allowed."""
    overrides, message = BAD[bad]
    with pytest.raises(ToleranceError, match=message) as caught:
        row("onnx-int8", "samples", overrides, "m.toml")
    assert "m.toml" in str(caught.value)


def test_batching_may_not_be_anything():
    """Infinity would let every difference pass."""
    with pytest.raises(ToleranceError, match=r"batching is \[inf, inf\]; allowed: 0 ≤ seen ≤ allowed ≤ 4 times seen"):
        batching("onnx-int8", {"onnx-int8": {"why": "x", "batching": [inf, inf]}}, "m.toml")


def test_a_variant_without_a_row_is_an_error():
    """Nothing is compared against a default that nobody chose."""
    with pytest.raises(ToleranceError, match="no row for 'onnx-int4'"):
        row("onnx-int4", "samples")
