"""The execution providers of ONNX Runtime: the option ``--onnx-provider``, and sessions that use what was asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

from engines.errors import RunnerError
from engines.formats.option import Option

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
"""ONNX Runtime's names of its own execution providers."""

PLUGINS = {"NvTensorRTRTXExecutionProvider": "onnxruntime_ep_nv_tensorrt_rtx"}
"""Providers that come as packages of their own, and the module of each, which names the library to register."""

OPTION = Option(
    name="onnx-provider",
    metavar="PROVIDER",
    help=f"run ONNX files with this execution provider of ONNX Runtime, or fail (default: {CPU})",
    default=(CPU,),
)


def session(
    path: Path, provider: str, chosen: Mapping[str, str], options: Any, what: str, content: bytes | None = None
) -> Any:
    """Session of a file with a provider and its options; ``options`` are the session's own.

    What is loaded is the ``content``, where there is one.

    Raises RunnerError where the file cannot be loaded, the provider is not to be had, or another one is in use.
    """
    import onnxruntime as ort

    devices = _plugged_in(provider, what) if provider in PLUGINS else []
    if not devices and provider not in ort.get_available_providers():
        allowed = [*ort.get_available_providers(), *PLUGINS]
        raise RunnerError(f"{what}: provider {provider!r} is not in this build; allowed: {', '.join(allowed)}")
    if provider == CUDA:
        # NVIDIA's libraries, where they were installed as packages: ONNX Runtime does not look there by itself.
        ort.preload_dlls()
    try:
        if devices:
            options.add_provider_for_devices(devices, dict(chosen))
            opened = ort.InferenceSession(content or str(path), options)
        else:
            opened = ort.InferenceSession(content or str(path), options, providers=[(provider, dict(chosen))])
    except Exception as error:  # a dozen unrelated types
        raise RunnerError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    # ONNX Runtime adds the CPU provider behind any other; the first is the one that was asked for.
    if opened.get_providers()[0] != provider:
        raise RunnerError(f"{what}: asked for {provider}, in use is {opened.get_providers()[0]}")
    opened.disable_fallback()
    return opened


def _plugged_in(provider: str, what: str) -> list[Any]:
    """Devices of a provider that is a package of its own, its library registered; raises RunnerError without any."""
    import onnxruntime as ort

    module = PLUGINS[provider]
    if util.find_spec(module) is None:
        package = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
        raise RunnerError(f"{what}: {provider} is not installed; allowed: pip install {package}, or another provider")
    known = [device for device in ort.get_ep_devices() if device.ep_name == provider]
    if not known:
        try:
            ort.register_execution_provider_library(provider, importlib.import_module(module).get_library_path())
        except Exception as error:  # ONNX Runtime's own, which share no base, and OSError
            raise RunnerError(f"{what}: {provider} cannot be used here: {error}") from error
        known = [device for device in ort.get_ep_devices() if device.ep_name == provider]
    if not known:
        raise RunnerError(f"{what}: {provider} finds no device; allowed: a GPU that it supports, or another provider")
    return known
