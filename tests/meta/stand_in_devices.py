"""Has the suite run TensorRT's variants over stand-ins for GPUs (``-p tests.meta.stand_in_devices``), without a driver.

Each stand-in is a session of ONNX Runtime of its own, on the ONNX that the plan would be built from. All else is what
runs on GPUs: the option, the choice of GPUs, a process for each that opens the plan, and the dealing. ``STAND_IN_GPUS``
names the models of the GPUs that CUDA shows, two H200 unless it says otherwise. ``STAND_IN_GPU_FAULT`` plants one of
the faults in GPU 1.
"""

from __future__ import annotations

import os

import numpy as np

from engines.chain import Chain
from engines.errors import DeviceError
from engines.formats.onnx.runner import OnnxRunner
from engines.formats.tensorrt import driver, opening, packages
from engines.variant import Variant

FAULTS = ("full", "falls out", "other bits", "drops a row")
SOURCES = {"fp32": "fp32", "fp16": "fp16", "int8-qdq": "int8"}
CALLS = 3
"""Calls that a GPU which falls out still answers."""


class StandIn(OnnxRunner):
    """Runs the ONNX of a plan in its place, with what the runner of a GPU is asked for."""

    def __init__(self, spec, variant, path, batch_size=None, *, device, **settings):
        fault = os.environ.get("STAND_IN_GPU_FAULT", "")
        assert fault in {"", *FAULTS}
        self.device, self.fault, self.calls = device, fault if device == 1 else "", 0
        if self.fault == "full":
            raise DeviceError("the device is out of memory (0 MB of 150,000 MB free)")
        super().__init__(spec, variant, path, batch_size)

    def _batches(self, inputs, count):
        """Take samples one by one: of ONNX Runtime less is promised about batches than of TensorRT."""
        for i in range(count):
            yield {name: array[i : i + 1] for name, array in inputs.items()}

    def __call__(self, inputs):
        """Answer as ONNX Runtime does, but for the planted fault."""
        self.calls += 1
        if self.fault == "falls out" and self.calls > CALLS:
            raise DeviceError("CUDA failed: cuStreamSynchronize failed: CUDA_ERROR_LAUNCH_FAILED")
        found = super().__call__(inputs)
        if self.fault == "other bits":
            found = {name: np.nextafter(array, np.float32(1)) for name, array in found.items()}
        if self.fault == "drops a row":
            found = {name: array[:-1] for name, array in found.items()}
        return found


def on_device(spec, variant, plan, batch_size, keep, compatible, device, *, far=False):
    """Stand-in in the place of a plan's runner on one GPU, in that runner's process.

    What is measured on a GPU to run faster says nothing of it, and is left out.
    """
    return StandIn(spec, variant, plan, batch_size, device=device)


def pytest_configure():
    """Show stand-ins for GPUs, and take the ONNX for the plan of every variant of TensorRT."""
    artifact, file = Chain.artifact, Chain.file
    names = os.environ.get("STAND_IN_GPUS", "NVIDIA H200,NVIDIA H200").split(",")

    def source(variant):
        return Variant("onnx", SOURCES[variant.precision]) if variant.format == "tensorrt" else variant

    driver.devices = lambda *_: tuple(driver.Device(f"GPU-{i}", name) for i, name in enumerate(names))
    packages.unavailable = lambda: None
    packages.unsupported = lambda _: None
    packages.device = lambda: {"GPU": names[0], "compute capability": "9.0"}
    opening.on_device = on_device
    Chain.artifact = lambda self, variant: artifact(self, source(variant))
    Chain.file = lambda self, variant: file(self, source(variant))
