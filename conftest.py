"""The options of the suite and the plugins that it consists of; nothing else."""

import pytest

from fixtures.options import options
from fixtures.plugins import refuse_blocked

pytest_plugins = [
    "fixtures.parallel",
    "fixtures.live",
    "fixtures.answers",
    "fixtures.chain",
    "fixtures.records",
    "fixtures.ledger",
    "fixtures.metering",
    "fixtures.lines",
    "fixtures.judge",
    "fixtures.cluster",
    "fixtures.alone",
    "fixtures.fp16",
    "fixtures.reporting",
    "fixtures.pictures",
    "fixtures.document",
    "fixtures.report",
    "fixtures.metrics",
    "fixtures.baseline",
    "fixtures.gate",
    "fixtures.not_judged",
    "fixtures.unselected",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options; each is described in the README."""
    group = parser.getgroup("conformance", "models, data and artifacts under test")
    for name, settings in options().items():
        group.addoption(name, **settings)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run without one of the plugins, before another one misses it."""
    refuse_blocked(config, pytest_plugins)
