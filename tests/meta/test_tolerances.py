"""The tolerance table says both numbers and a reason for every variant, and allows no more than they bear."""

from __future__ import annotations

from math import inf

import pytest

from conformance import tolerances as rows
from conformance.compare import FIGURES
from conformance.tolerances import FLOORS, HEADROOM, INPUT_KINDS, ToleranceError
from engines.formats import registry
from engines.variant import Variant
from trial.rows import batching, row, table

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


BAD_PAIRS = {
    "no list": 1e-6,
    "one number": [1e-6],
    "three numbers": [2e-6, 1e-6, 1e-6],
    "a text": ["2e-6", 1e-6],
    "truth": [True, True],
    "a table": {"allowed": 1e-6},
}


@pytest.mark.parametrize("bad", BAD_PAIRS)
def test_batching_is_a_pair_of_numbers(bad):
    """What is no pair is refused by the file that says it, its key, and what was found."""
    content = {"onnx-int8": {"why": "x", "batching": BAD_PAIRS[bad]}}
    with pytest.raises(ToleranceError) as caught:
        batching("onnx-int8", content, "m.toml")
    assert str(caught.value) == f"m.toml: onnx-int8.batching is {BAD_PAIRS[bad]!r}; allowed: [allowed, seen]"


def test_batching_of_a_model_is_its_own_pair():
    """An override replaces both numbers, in their order; other variants keep their row's."""
    own = {"onnx-int8": {"why": "x", "batching": [3e-6, 1e-6]}}
    assert batching("onnx-int8", own, "m.toml") == (3e-6, 1e-6)
    assert batching("onnx-fp32", own, "m.toml") == batching("onnx-fp32")
    for pair in ([1e-6, 3e-6], [5e-6, 1e-6], [-1e-6, -1e-6]):
        with pytest.raises(ToleranceError, match=r"^m\.toml: .*allowed: 0 ≤ seen ≤ allowed ≤ 4 times seen, finite"):
            batching("onnx-int8", {"onnx-int8": {"why": "x", "batching": pair}}, "m.toml")
    with pytest.raises(ToleranceError, match=r"^m\.toml: tolerances\.onnx-int9 is for no known variant"):
        batching("onnx-int8", {"onnx-int9": {"why": "x"}}, "m.toml")
    with pytest.raises(ToleranceError, match=r"^tolerances\.toml: x\.batching is None; allowed"):
        rows.batching({"x": {**table()["onnx-int8"], "batching": None}}, "x")


def test_the_margin_may_be_as_much_as_the_largest_difference_in_any_order():
    """A difference of that size flips a class that leads by no more, wherever the two stand in the file."""
    for figures in ({"margin": [0.3, 0.0], "max": [0.3, 0.2]}, {"max": [0.3, 0.2], "margin": [0.3, 0.0]}):
        own = {"onnx-int8": {"why": "x", "samples": figures}}
        assert row("onnx-int8", "samples", own, "m.toml").tolerance.margin == 0.3
        more = {"onnx-int8": {"why": "x", "samples": {**figures, "margin": [0.31, 0.0]}}}
        with pytest.raises(ToleranceError, match=r"margin is \[0\.31, 0\.0\]; .* or up to 0\.3 anyway"):
            row("onnx-int8", "samples", more, "m.toml")


def test_a_file_of_rows_is_read_whole(tmp_path):
    """Rows come by their names, and what is no TOML is named with its file."""
    path = tmp_path / "tolerances.toml"
    path.write_text('[mine-fp32]\nwhy = "ä"\nbatching = [2.0, 1.0]\n', encoding="utf-8")
    assert rows.read_table(path) == {"mine-fp32": {"why": "ä", "batching": [2.0, 1.0]}}
    path.write_text("[mine", encoding="utf-8")
    with pytest.raises(ToleranceError, match=r"tolerances\.toml: cannot be read"):
        rows.read_table(path)
    with pytest.raises(ToleranceError, match=r"^tolerances\.toml: x\.why is None; allowed: the reason"):
        rows.row({"x": {}}, "x", "samples")


def test_what_is_unknown_is_named_with_all_that_is_known():
    """Lists of what is allowed are separated as one reads them."""
    found = {
        ("onnx-int8", "photos"): "kind of input 'photos'; allowed: samples, stress",
        ("onnx-int4", "samples"): "it has cpp10-fp16, cpp10-fp32, ",
    }
    for (name, kind), text in found.items():
        with pytest.raises(ToleranceError) as caught:
            row(name, kind)
        assert text in str(caught.value)
    for own, text in (
        ({"onnx-int9": {"why": "x"}}, "allowed: cpp10-fp16, cpp10-fp32, "),
        ({"onnx-int8": {"why": "x", "photos": {}}}, "tolerances.onnx-int8.photos; allowed: samples, stress, batching"),
        ({"onnx-int8": {"why": "x", "samples": {"rtol": [1, 1]}}}, "allowed: max, mean, kl, margin, flips, sum"),
        ({"onnx-int8": {"why": "x", "samples": 5}}, "a table of figures, max, mean, kl, margin, flips, sum"),
        ({"onnx-int8": {"why": 7}}, "onnx-int8.why is 7; allowed"),
    ):
        with pytest.raises(ToleranceError) as caught:
            row("onnx-int8", "samples", own, "m.toml")
        assert text in str(caught.value)


def test_batching_of_a_row_that_is_wrong_is_refused():
    """A pair that is right excuses no wrong figure beside it."""
    own = {"onnx-int8": {"why": "x", "samples": 5, "batching": [3e-6, 1e-6]}}
    with pytest.raises(ToleranceError, match=r"^m\.toml: tolerances\.onnx-int8\.samples is 5; allowed"):
        batching("onnx-int8", own, "m.toml")
