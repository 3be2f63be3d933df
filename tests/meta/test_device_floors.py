"""The floors of GPU engines are complete, for what exists, and one with the results that they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands.device_page import floor_rows, page
from conformance.device_floors import (
    NOT_SLOWER,
    SHARES,
    TABLE,
    DeviceFloor,
    FloorError,
    device_floors,
    floors_for,
    parse,
    read_rows,
)
from engines.formats.registry import variants
from engines.model.bundled import find_model
from engines.model.toml import load_model
from trial.many import batches_of

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "docs" / "results").glob("*.json"))
REPORTED = {"NVIDIA GeForce RTX 3050 Ti Laptop GPU"}
"""The devices whose figures are no results of this suite."""

GOOD = {"device": "d", "model": "m", "variant": "v", "batch": 32, "source": "s", "samples_per_s": 1000}


def read(path):
    """Read a file of results."""
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_floor_is_for_a_variant_batch_and_device_that_are_measured():
    """A floor for a misspelt variant or device, or a batch that is never measured, would hold nothing."""
    devices = {read(path)["machine"]["GPU"] for path in RESULTS} | REPORTED
    assert device_floors()
    for floor in device_floors():
        spec = load_model(find_model(floor.model))
        known = {str(v): v for v in variants(spec)}
        assert floor.variant in known
        assert floor.batch in batches_of(spec, known[floor.variant])
        assert floor.batch > 1
        assert floor.device in devices


def test_a_file_without_rows_has_none(tmp_path):
    """Rows are read as the file has them; an empty file is a list without any."""
    path = tmp_path / "floors.toml"
    path.write_text("")
    assert read_rows(path) == []
    path.write_text("[[floors]]\nbatch = 1\n")
    assert read_rows(path) == [{"batch": 1}]


def test_a_floor_is_its_share_of_what_was_seen():
    """Absolute figures have to reach 80 % of what was seen, ratios 70 %, and what holds anywhere is no gain at all."""
    assert SHARES == {"samples_per_s": 0.8, "over_synchronous": 0.7, "share_of_limit": 0.7}
    for floor in device_floors():
        assert floor.least == pytest.approx({"samples_per_s": 0.8}.get(floor.figure, 0.7) * floor.seen)
    assert NOT_SLOWER < 1


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_floors_and_page_are_those_of_the_results(path):
    """What the floors call seen, and what the page says, is what the file of results has: all are written from it."""
    results, source = read(path), path.relative_to(ROOT).as_posix()
    assert [row for row in read_rows() if row["source"] == source] == floor_rows(results, source)
    assert path.with_suffix(".md").read_text(encoding="utf-8") == page(results)


def test_floors_from_no_results_say_where_they_are_from():
    """What was not measured with this suite is said to be so, beside the figures and in the file's first lines."""
    measured = {path.relative_to(ROOT).as_posix() for path in RESULTS}
    others = [row for row in read_rows() if row["source"] not in measured]
    assert {row["device"] for row in others} == REPORTED
    assert all(row["source"].startswith("reported by ") for row in others)
    assert "never seen with this suite" in TABLE.read_text(encoding="utf-8").split("[[floors]]")[0]


def test_floors_hold_on_their_device_only():
    """Another device has only the floor that holds anywhere: batches under way together are not slower than in turn."""
    floor = device_floors()[0]
    own = floors_for(floor.model, floor.variant, floor.batch, floor.device)
    assert floor in own
    assert own[0].device is None
    (anywhere,) = floors_for("mine", floor.variant, floor.batch, floor.device)
    assert [f.device for f in floors_for(floor.model, floor.variant, floor.batch, "another GPU")] == [None]
    expected = DeviceFloor(
        None, "mine", floor.variant, floor.batch, "a rule", "over_synchronous", seen=1.0, least=NOT_SLOWER
    )
    assert anywhere == expected
    assert str(anywhere) == f"over_synchronous of {floor.variant} at batch {floor.batch} on any device"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples_per_s": 0}, "samples_per_s is 0 in {row}; allowed: a number above 0"),
        ({"samples_per_s": "1000"}, "samples_per_s is '1000' in {row}; allowed: a number above 0"),
        ({"samples_per_s": float("nan")}, "samples_per_s is nan in {row}; allowed: a number above 0"),
        ({"samples_per_s": float("inf")}, "samples_per_s is inf in {row}; allowed: a number above 0"),
        (
            {"over_polygraphy": 2.0},
            "unknown key over_polygraphy; allowed: device, model, variant, batch, source, samples_per_s, "
            "over_synchronous, share_of_limit",
        ),
        ({"batch": 0}, "batch is 0 in {row}; allowed: 1 or more"),
        ({"batch": -1}, "batch is -1 in {row}; allowed: 1 or more"),
        ({"batch": True}, "batch is True in {row}; allowed: int"),
        ({"device": ""}, "device is '' in {row}; allowed: str"),
    ],
)
def test_a_floor_that_says_something_else_is_refused(change, message):
    """Errors name the file, what was found and what is allowed."""
    assert [str(f) for f in parse(GOOD)] == ["samples_per_s of v at batch 32 on d"]
    with pytest.raises(FloorError) as caught:
        parse({**GOOD, **change})
    assert str(caught.value) == f"device_floors.toml: {message}".replace("{row}", str({**GOOD, **change}))


@pytest.mark.parametrize("key", GOOD)
def test_a_floor_that_lacks_a_key_is_refused(key):
    """Every key is needed, and one figure at least."""
    row = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(FloorError) as caught:
        parse(row)
    kind = "int" if key == "batch" else "str"
    said = f"{key} is None in {row}; allowed: {kind}"
    if key == "samples_per_s":
        said = f"{row} has no figure; allowed: one or more of samples_per_s, over_synchronous, share_of_limit"
    assert str(caught.value) == f"device_floors.toml: {said}"


def test_a_row_is_a_floor_for_each_figure():
    """Every figure has its share, and all else is the row's; a batch of one is one."""
    assert parse({**GOOD, "batch": 1, "share_of_limit": 0.5}) == (
        DeviceFloor("d", "m", "v", 1, "s", "samples_per_s", 1000.0, 800.0),
        DeviceFloor("d", "m", "v", 1, "s", "share_of_limit", 0.5, 0.35),
    )
