"""The GPUs that plans are built for, by compute capability: the option ``--rtx-target``."""

from __future__ import annotations

from engines.formats.option import Option
from engines.formats.tensorrt.header import GPUS

HERE = "here"
"""The GPU of this machine, whichever it is; TensorRT asks its driver."""

PORTABLE = ("8.6", "8.9", "12.0")
"""What is built where nothing else is asked for: one plan for the RTX 30, 40 and 50 series."""


def refuse(value: str) -> str | None:
    """Why a value is no target; None where it is one."""
    if value in {*GPUS, HERE}:
        return None
    allowed = f"allowed: {', '.join(GPUS)} and {HERE} (the GPU of this machine)"
    if value in {"9.0", "10.0", "10.3", "11.0"}:
        return f"TensorRT for RTX makes no plans for the data centre GPUs of compute capability {value}; {allowed}"
    return f"there is no such target; {allowed}"


OPTION = Option(
    name="rtx-target",
    metavar="CAPABILITY",
    help="build tensorrt-rtx plans for GPUs of this compute capability (7.5, 8.0, 8.6, 8.9, 12.0 or 12.1), or for the "
    "one that is 'here'; repeatable: one plan runs on all of them (default: 8.6, 8.9 and 12.0)",
    default=PORTABLE,
    refuse=refuse,
    repeatable=True,
)


def name(target: str) -> str:
    """Name of a target in TensorRT's ``ComputeCapability``: ``SM86``."""
    return "CURRENT" if target == HERE else f"SM{target.replace('.', '')}"
