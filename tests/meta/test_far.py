"""Arrays of another process: what is read of them, and what is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.far import FarArray, copy, let_children_read

ROOT = Path(__file__).resolve().parents[2]

READS = """
import pickle, sys
found = pickle.load(sys.stdin.buffer)
print([[name, str(array.here().tolist())] for name, array in found])
"""


def told(arrays):
    """What a process of its own reads of arrays of this one, as text."""
    let_children_read()
    command = [sys.executable, "-c", READS]
    return subprocess.run(
        command, input=pickle.dumps(arrays), cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool"])
def test_another_process_reads_rows_as_they_are(dtype):
    """Whole arrays, slices and slices of slices have the values that they have here; none have none."""
    array = np.arange(24).reshape(6, 2, 2).astype(dtype)
    far = FarArray.of(array)
    parts = {"all": (far, array), "some": (far[1:4], array[1:4]), "of those": (far[1:4][2:9], array[1:4][2:9])}
    parts |= {"none": (far[5:5], array[5:5]), "from the end": (far[-2:], array[-2:])}
    found = told([(name, one) for name, (one, _) in parts.items()])
    assert found.strip() == str([[name, str(expected.tolist())] for name, (_, expected) in parts.items()])


def test_it_is_copied_as_an_array_of_this_process_is():
    """A copy takes either, into whatever is contiguous."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    for source in (array, FarArray.of(array)):
        target = np.zeros((5, 4), np.float32)
        copy(target[1:4], source)
        np.testing.assert_array_equal(target, [[0] * 4, *array.tolist(), [0] * 4])


@pytest.mark.parametrize(
    "target", [np.zeros((3, 3), np.float32), np.zeros((3, 4), np.float64), np.zeros((4, 3), np.float32).T]
)
def test_another_shape_dtype_or_order_is_refused(target):
    """Bytes are never taken for those of another array."""
    with pytest.raises(ValueError, match="cannot take float32 \\(3, 4\\)"):
        FarArray.of(np.zeros((3, 4), np.float32)).read(target)


def test_an_array_with_strides_is_refused():
    """Only contiguous arrays lie where their bytes are counted from."""
    with pytest.raises(ValueError, match="expected a contiguous one"):
        FarArray.of(np.zeros((4, 4))[:, ::2])


def test_memory_that_is_not_there_is_an_error():
    """An address of nothing, and a process of nobody, are told in words of the system."""
    with pytest.raises(OSError, match=f"process {os.getpid()} cannot be read: Bad address"):
        FarArray(os.getpid(), 0, np.dtype(np.uint8), (8,)).here()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    with pytest.raises(OSError, match="cannot be read: No such process"):
        FarArray(ended.pid, 4096, np.dtype(np.uint8), (8,)).here()
