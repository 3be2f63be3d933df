"""The command-line options of the suite and the plugins that it consists of; nothing else."""

from pathlib import Path

import pytest

from engines.formats.registry import formats, options
from fixtures.plugins import refuse_blocked

pytest_plugins = [
    "fixtures.parallel",
    "fixtures.live",
    "fixtures.chain",
    "fixtures.judge",
    "fixtures.fp16",
    "fixtures.reporting",
    "fixtures.pictures",
    "fixtures.report",
    "fixtures.baseline",
    "fixtures.gate",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options; each is described in the README."""
    group = parser.getgroup(
        "conformance",
        "models, data and artifacts under test (write paths with =, as in --onnx=/data/model.onnx: "
        "pytest takes a bare path outside this folder for tests)",
    )
    group.addoption(
        "--model",
        action="append",
        metavar="NAME|FILE.toml",
        help="model under test: a bundled name or a TOML file; repeatable (default: every bundled model)",
    )
    group.addoption(
        "--saved-model",
        type=Path,
        metavar="DIR",
        help="a SavedModel of your own with one input, described from its serving_default signature",
    )
    for format_ in formats().values():
        if format_.suffix:
            group.addoption(
                f"--{format_.name}",
                type=Path,
                metavar="FILE",
                help=f"check this {format_.suffix} file, made elsewhere, instead of converting",
            )
    for option in options().values():
        group.addoption(f"--{option.name}", **option.arguments)
    group.addoption(
        "--samples",
        type=Path,
        metavar="FILE.npz",
        help="samples of your own: arrays by input name, and optional integer labels",
    )
    group.addoption("--artifacts", type=Path, metavar="DIR", help="artifact folder (default: build, beside pytest.ini)")
    group.addoption(
        "--cifar10-dir",
        type=Path,
        metavar="DIR",
        help="folder of CIFAR-10, official python or binary layout (default: $CIFAR10_DIR, then Keras' cache)",
    )
    group.addoption(
        "--require",
        action="append",
        default=[],
        metavar="GLOB",
        help="a variant that matches and would be skipped fails instead; repeatable, as in --require 'tensorrt-*' "
        "(also: $CONFORMANCE_REQUIRE, several separated by spaces)",
    )
    group.addoption(
        "--report",
        type=Path,
        metavar="DIR",
        help="write report.html, conformance.json and summary.md there at the end of the run (see docs/report.md)",
    )
    group.addoption(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="compare with the conformance.json of an earlier run at the end; what got worse fails the run "
        "(see docs/history.md)",
    )
    group.addoption(
        "--known-failures",
        type=Path,
        metavar="FILE",
        help="tests that are known to fail, with reason and link; one that passes fails the run "
        "(default: known_failures.toml beside pytest.ini, if it is there)",
    )
    group.addoption("--download", action="store_true", help="download CIFAR-10 (163 MiB) where it is not found")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run without one of the plugins, before another one misses it."""
    refuse_blocked(config, pytest_plugins)
