"""CUDA for the runner: PyCUDA where it is installed; elsewhere cuda-python, which comes as a wheel."""

from __future__ import annotations

from functools import cache
from importlib import util
from typing import Any


@cache
def driver() -> Any:
    """PyCUDA's driver interface, or what stands in for the part of it that the runner uses; found once."""
    if util.find_spec("pycuda") is not None:
        import pycuda.driver

        return pycuda.driver
    from engines.formats.tensorrt import cuda_python

    return cuda_python


def missing() -> str | None:
    """Why nothing here can copy to a GPU and launch on it; None where something can."""
    if util.find_spec("cuda") is None or util.find_spec("cuda.bindings") is None:
        return "cuda-python is not installed (pip install -r requirements.txt)"
    return None
