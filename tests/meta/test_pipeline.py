"""The pipeline of TensorRT's runner without a device: samples of its own process, and those of another one."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from engines.errors import DeviceError
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.process.child import Child
from engines.process.runner import ProcessRunner
from engines.variant import Variant
from tests.meta.on_host import OnHost

SETTINGS = [(4, 8, 2), (4, 1, 0), (3, 16, 1), (16384, 4, 2)]
"""Batch, streams and copiers; a batch of 16,384 is sent in pieces."""

COUNTS = (1, 3, 4, 8, 9, 31, 33, 500, 1003, 40001)


@pytest.fixture(scope="module")
def spec():
    """Description of the small bundled model."""
    return load_model(find_model("digits_vgg"))


def samples(spec, count):
    """Samples whose first value is their number."""
    (item,) = spec.inputs
    array = np.full(spec.concrete_shape(item, count), 0.5, item.dtype)
    array[:, 0, 0, 0] = np.arange(count)
    return {item.name: array}


def answered(outputs):
    """The answers, a number a sample."""
    (array,) = outputs.values()
    return array[:, 0].tolist()


@pytest.mark.parametrize("batch, streams, copiers", SETTINGS)
def test_samples_are_answered_in_their_order(spec, batch, streams, copiers):
    """However many samples, batches in flight and copiers: each answer is in its place."""
    with OnHost(spec, batch, streams, copiers) as runner:
        for count in COUNTS:
            assert answered(runner(samples(spec, count))) == list(range(count))


@pytest.mark.parametrize("batch, streams, copiers", SETTINGS)
def test_samples_of_another_process_are_answered_in_their_order(spec, batch, streams, copiers):
    """The same where the copiers read them out of that process."""
    child = Child(partial(OnHost, spec, batch, streams, copiers))
    with ProcessRunner(spec, Variant("tensorrt", "fp32"), child) as runner:
        for count in COUNTS:
            assert answered(runner(samples(spec, count))) == list(range(count))


def test_a_device_that_fails_while_samples_are_read_says_so(spec):
    """The error comes out in the midst of a call, and the next call has its answers."""
    child = Child(partial(OnHost, spec, 4, 8, 2, fails_at=100))
    with ProcessRunner(spec, Variant("tensorrt", "fp32"), child) as runner:
        with pytest.raises(DeviceError, match="CUDA failed: it is gone"):
            runner(samples(spec, 9001))
        assert answered(runner(samples(spec, 1003))) == list(range(1003))
