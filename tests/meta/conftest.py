"""What several files of these tests are given."""

from __future__ import annotations

import pytest

from fixtures.chain import CHAINS

NOT_HERE = {"consistency", "batching", "accuracy", "tensorrt"}
"""Marks that no test of this folder has."""


def pytest_ignore_collect(config):
    """Leave this folder out where ``-m`` asks for what none of its tests is: to import it takes as long as the rest."""
    words = set(config.getoption("markexpr").split()) - {"and", "or"}
    return True if words and words <= NOT_HERE else None


@pytest.fixture(scope="session")
def digits(pytestconfig):
    """Chain of the bundled digits classifier."""
    chain = pytestconfig.stash[CHAINS].get("digits_vgg")
    if chain is None:
        pytest.skip("digits_vgg is not under test")
    return chain
