"""Has the suite run the stand-in for the C++ programs (``-p tests.meta.stand_in_plugin``), without any driver.

The ``cpp8`` variants take the ONNX artifact for their plan. Each test runs once with each fault that
``STAND_IN_FAULTS`` names; ``STAND_IN_ONNX`` names a fault for the ONNX runner.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.chain import Chain
from engines.formats import registry
from engines.formats.onnx.runner import OnnxRunner
from engines.formats.tensorrt import driver
from engines.variant import Variant
from tests.meta.stand_in import MOST, plant

SEPARATOR = ";"
"""Stands between the faults that ``STAND_IN_FAULTS`` names."""

if FAULTS := os.environ.get("STAND_IN_FAULTS"):

    @pytest.fixture(autouse=True, params=FAULTS.split(SEPARATOR))
    def planted(request):
        """Plant each of the faults in turn in the program that the test asks."""
        program = Path(os.environ["TRT8_INFER"])
        plant(program, request.param)
        yield
        plant(program, "")


def pytest_configure():
    """Ask for no driver, and take the ONNX artifact for the plan of every program."""
    artifact, file, batches = Chain.artifact, Chain.file, OnnxRunner._batches

    def source(variant):
        return Variant("onnx", "fp32") if registry.find(variant.format).artifact(variant) != variant else variant

    driver.problem = lambda *_: None
    driver.device = lambda: {"GPU": "stand-in", "compute capability": "9.0"}
    Chain.artifact = lambda self, variant: artifact(self, source(variant))
    Chain.file = lambda self, variant: file(self, source(variant))
    if os.environ.get("STAND_IN_ONNX") == "dropped remainder":
        OnnxRunner._batches = lambda self, inputs, count: batches(self, inputs, max(1, count // MOST) * MOST)
