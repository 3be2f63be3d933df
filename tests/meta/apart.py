"""Environment of a process that a test starts: apart from the run that the test itself stands in."""

from __future__ import annotations

import os

INHERITED = ("PYTEST_", "CONFORMANCE_", "CUDA_VISIBLE_DEVICES", "CIFAR10_DIR", "GITHUB_")


def environment_apart(**added: str) -> dict[str, str]:
    """Variables of this process without those by which a run is told what to do, and with these.

    pytest-benchmark takes xdist's variables for a run in several processes, and warns of it, which is an error here.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith(INHERITED)} | added
