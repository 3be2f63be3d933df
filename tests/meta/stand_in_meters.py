"""Plants what throttles (``-p tests.meta.stand_in_meters``): a GPU that is read, and heat while batch 32 is timed.

The GPU is a stand-in's, for none may be there. The heat is counted in files as Linux has them, in the folder that
``STAND_IN_HEAT`` names.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from engines.formats.tensorrt import driver
from engines.meters.processor import Heat
from tests.meta import stand_in_nvml

FOLDER = Path(os.environ["STAND_IN_HEAT"])
GPU = "stand-in GPU"


def pytest_configure():
    """Put the stand-ins in their places."""
    # Not before: pytest rewrites the suite's plugins as it imports them.
    import fixtures.metering

    folder = FOLDER / f"cpu{min(os.sched_getaffinity(0))}" / "thermal_throttle"
    folder.mkdir(parents=True)
    (folder / "core_throttle_count").write_text("7")
    fixtures.metering.Heat = lambda: Heat(FOLDER)
    sys.modules["pynvml"] = stand_in_nvml.Library()
    driver.devices = lambda *_: (driver.Device(stand_in_nvml.UUID, GPU),)


@pytest.fixture(autouse=True)
def hot(request):
    """Count heat on and on while a test of batch 32 runs."""
    (count,) = FOLDER.glob("cpu*/thermal_throttle/core_throttle_count")
    over = threading.Event()

    def heat():
        value = int(count.read_text())
        while not over.wait(0.02):
            value += 1
            other = count.with_suffix(".new")
            other.write_text(str(value))
            other.rename(count)

    thread = threading.Thread(target=heat)
    if request.node.nodeid.endswith("-32]"):
        thread.start()
    yield
    over.set()
    if thread.ident is not None:
        thread.join()
