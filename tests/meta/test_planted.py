"""Planted faults are caught by the real command, and sound changes pass it: see ``tests/faults``.

All where -m names ``meta``; else the few that every change of the suite is checked with.
"""

from __future__ import annotations

import pytest
from faults import CATALOGUE
from faults.command import run, together
from faults.made import Made

from fixtures.parallel import asks_for

pytestmark = pytest.mark.meta


def pytest_generate_tests(metafunc):
    """Parametrize over what one command is given: files of one model."""
    if "planted" in metafunc.fixturenames:
        whole = asks_for("meta", metafunc.config.getoption("-m") or "")
        chosen = together(change for change in CATALOGUE if whole or change.quick)
        metafunc.parametrize("planted", chosen, ids=[" + ".join(change.id for change in group) for group in chosen])


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
