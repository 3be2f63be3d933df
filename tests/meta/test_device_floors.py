"""The floors of GPU engines are complete, below what was seen, and for variants that exist."""

from __future__ import annotations

import pytest

from conformance.device_floors import FloorError, device_floors, parse
from engines.model import find_model, load_model
from engines.variant import variants

GOOD = {"model": "m", "variant": "v", "batch": 32, "least": 1.0, "seen": 2.0, "over": "limit"}


def test_every_floor_is_for_a_variant_that_exists():
    """A floor for a misspelt variant or a batch beyond its profile would hold nothing."""
    assert device_floors()
    for floor in device_floors():
        known = {str(v): v for v in variants(load_model(find_model(floor.model)))}
        assert floor.variant in known
        assert floor.batch <= known[floor.variant].profile.max


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"least": 3.0}, "at most the 2.0 seen"),
        ({"least": 0.0}, "above 0"),
        ({"over": "polygraphy"}, r"over = limit \| synchronous"),
        ({"device": "NVIDIA H200"}, "either device, or over"),
        ({"rate": 1}, "unknown key rate"),
    ],
)
def test_a_floor_that_says_too_little_is_refused(change, message):
    """Errors name the file, what was found and what is allowed."""
    assert str(parse(GOOD)) == "v at batch 32 over limit"
    with pytest.raises(FloorError, match=message):
        parse({**GOOD, **change})


@pytest.mark.parametrize("key", ["model", "variant", "batch", "least", "seen"])
def test_a_floor_that_lacks_a_key_is_refused(key):
    """Every key but the kind of floor is needed."""
    with pytest.raises(FloorError, match=f"lacks {key}"):
        parse({name: value for name, value in GOOD.items() if name != key})
