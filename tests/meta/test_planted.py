"""Planted faults are caught by the real command, and sound changes pass it: see ``tests/faults``.

All where -m names ``meta``; else the few that every change of the suite is checked with.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from faults import CATALOGUE
from faults.command import cause_of, run, together
from faults.made import Made
from faults.page_text import page

from fixtures.parallel import asks_for

pytestmark = pytest.mark.meta


def without(group):
    """Mark that skips what this machine lacks the engine of, and says so."""
    reason = group[0].unavailable
    return pytest.mark.skip(reason=reason) if reason else ()


def pytest_generate_tests(metafunc):
    """Parametrize over what one command is given: files of one model."""
    if "planted" in metafunc.fixturenames:
        whole = asks_for("meta", metafunc.config.getoption("-m") or "")
        chosen = together(change for change in CATALOGUE if whole or change.quick)
        cases = [pytest.param(group, marks=without(group)) for group in chosen]
        metafunc.parametrize("planted", cases, ids=[" + ".join(change.id for change in group) for group in chosen])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Models by name, each made once."""
    folder, known = tmp_path_factory.mktemp("planted"), {}

    def of(name):
        if name not in known:
            known[name] = Made.of(name, folder)
            known[name].ready()
        return known[name]

    return of


def test_what_is_planted_becomes_what_is_expected(made, planted):
    """A fault fails a test or is refused, one below the model's own noise and a sound change do not."""
    found = run(made(planted[0].model), planted)
    wrong = {change.id: found[change.id] for change in planted if found[change.id].state != change.expected}
    assert not wrong


def test_every_change_has_a_name_of_its_own():
    """The page, the JSON file and ``--only`` tell changes apart by their names."""
    names = [change.id for change in CATALOGUE]
    assert len(set(names)) == len(names)


def test_there_are_faults_and_sound_changes_of_all_kinds():
    """At least 120 faults over six models and 40 sound changes, so that none is lost unnoticed."""
    sound = [change for change in CATALOGUE if change.expected == "passes"]
    faults = [change for change in CATALOGUE if change.expected != "passes"]
    assert len(faults) >= 120
    assert len({change.model for change in faults}) >= 6
    assert len(sound) >= 40


FAULT = CATALOGUE[0]


@pytest.mark.parametrize(
    ("likely", "cause"),
    [
        ("", "none stated"),
        ("not found out: a check for it takes inputs that this engine refuses", "none stated"),
        ("the bias of class 1 is off", "right"),
        ("what is left is other weights, a lower precision than stated", "general"),
        ("images are mirrored", "wrong"),
    ],
)
def test_a_cause_is_right_only_where_it_names_the_fault(likely, cause):
    """One that lists all that is left counts apart, and what names another fault is wrong."""
    change = replace(FAULT, right=("bias", "other weights"))
    assert cause_of(change, likely) == cause
    # What was not even run has its error for a cause.
    assert cause_of(change, "", likely) == cause


def test_the_page_tells_what_was_not_caught_and_what_did_not_pass():
    """Neither a missed fault nor a sound change that fails is hidden among the others."""
    told = {"kind": "k", "model": "m", "variant": "onnx-fp32"}
    changes = [
        {**told, "name": "one", "expected": "caught", "state": "caught", "cause": "wrong", "proved": True},
        {**told, "name": "two", "expected": "caught", "state": "missed", "ratio": 3.0, "flips": 4},
        {**told, "name": "three", "expected": "passes", "state": "caught", "message": "FAILED max"},
    ]
    text = page({"changes": changes, "made_with": {"numpy": "2"}, "machine": "here"})
    assert "1 caught" in text
    assert "1 missed" in text
    assert "Wrong and told as tried: 1" in text
    assert "| two | `m` | onnx-fp32 | **missed** |" in text
    assert "| two | `m` | onnx-fp32 | missed | 3 | 4 |" in text
    assert "| three | `m` | onnx-fp32 | **caught**: FAILED max |" in text
