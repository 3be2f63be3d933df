"""What the bits of an engine's answers hang on beside the engine itself: processor, system, packages, variables."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

CPUINFO, CACHES = Path("/proc/cpuinfo"), Path("/sys/devices/system/cpu/cpu0/cache")

PROCESSOR = ("vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags", "CPU implementer")
PROCESSOR_ARM = ("CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features")
"""What Linux says of a processor that kernels are chosen by; the second are ARM's.

Beside them count the sizes of the caches, by which sums are cut into blocks."""

VARIABLES = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "EIGEN_", "TF_", "XLA_", "ORT_", "XNNPACK_"),
    *("TFLITE_", "GLIBC_TUNABLES", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "MALLOC_", "PYTHONPATH"),
)
"""What variables of the environment begin with that choose kernels, threads or libraries."""

SPOKEN = ("TF_CPP_", "TF_ENABLE_DEPRECATION")
"""And of these, what chooses only what is said."""

TERRAFORM = (
    *("TF_VAR_", "TF_TOKEN_", "TF_CLI_", "TF_HTTP_", "TF_STATE_", "TF_CLOUD_", "TF_REGISTRY_", "TF_PLUGIN_", "TF_LOG"),
    *("TF_DATA_DIR", "TF_WORKSPACE", "TF_INPUT", "TF_IN_AUTOMATION", "TF_REATTACH_PROVIDERS", "TF_IGNORE"),
)
"""What begins as TensorFlow's do, and is Terraform's: there are secrets among these, and no kernel looks at them."""


def machine() -> dict[str, str]:
    """Processor, cores, system, numerics and variables of this process (``$NAME``), by name.

    A runtime chooses its kernels by them, so that another one may answer with other bits.
    """
    return {
        "processor": _processor(CPUINFO, CACHES),
        "cores": str(cores()),
        "system": f"{platform.system()} {platform.machine()} {'-'.join(platform.libc_ver())}",
        "python": f"{sys.implementation.name} {platform.python_version()}",
        "denormals": denormals(),
        **STARTED,
    }


def cores() -> int:
    """Logical CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def told(field: str, info: Path = CPUINFO) -> str:
    """What Linux says under a name of the first processor that has it; empty where nothing does."""
    try:
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


@cache
def _processor(info: Path, caches: Path) -> str:
    """Name of the processor, and a hash of all that tells what it can do."""
    try:
        text = info.read_text(encoding="utf-8", errors="replace")
        sizes = [path.read_text(encoding="utf-8").strip() for path in sorted(caches.glob("index*/size"))]
    except OSError:
        return platform.processor() or platform.machine()
    return processor(text, sizes)


def processor(text: str, caches: Sequence[str] = ()) -> str:
    """The same of what Linux says in ``/proc/cpuinfo``; of cores of several kinds all that differ count."""
    kinds: dict[tuple[tuple[str, str], ...], None] = {}
    for block in text.strip().split("\n\n"):
        pairs = ((key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in block.splitlines()))
        kinds.setdefault(tuple((key, value) for key, value in pairs if key in (*PROCESSOR, *PROCESSOR_ARM)))
    found = [dict(kind) for kind in kinds if kind]
    named = next((kind["model name"] for kind in found if "model name" in kind), platform.machine())
    return f"{named}, {hashlib.sha256(repr((list(kinds), list(caches))).encode()).hexdigest()[:16]}"


def denormals() -> str:
    """Whether this thread keeps numbers below the smallest normal one: a library that is loaded may switch it off."""
    smallest = np.array([np.finfo(np.float32).tiny], np.float32)
    return "kept" if (smallest * np.float32(0.5))[0] > 0 else "flushed to zero"


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that choose kernels, threads or libraries: ``$NAME`` and its value."""
    said = (*SPOKEN, *TERRAFORM)
    return {f"${k}": environment[k] for k in sorted(environment) if k.startswith(VARIABLES) and not k.startswith(said)}


STARTED = variables(os.environ)
"""What was set when this was imported: libraries set some of their own later, which changes nothing any more."""


@cache
def package(names: tuple[str, ...]) -> str:
    """The first of these distributions that is installed: its version, and a hash of the files that it came with.

    Two builds of one version, from two indexes, are told apart by that.
    """
    for name in names:
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        listed = found.read_text("RECORD") or ""
        return f"{name} {found.version}, {hashlib.sha256(listed.encode()).hexdigest()[:16]}"
    return "not installed"
