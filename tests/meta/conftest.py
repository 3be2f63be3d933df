"""What several files of these tests are given."""

from __future__ import annotations

import pytest

from fixtures.chain import CHAINS


@pytest.fixture(scope="session")
def digits(pytestconfig):
    """Chain of the bundled digits classifier."""
    chain = pytestconfig.stash[CHAINS].get("digits_vgg")
    if chain is None:
        pytest.skip("digits_vgg is not under test")
    return chain
