"""The first bytes of a plan: which TensorRT made it, for which GPUs, and whether all of it is there.

TensorRT says of a foreign plan little more than that a tag differs. The layout is nowhere described: it was read off
plans of TensorRT for RTX 1.7.1.116. Numbers are little-endian; the header takes 64 bytes:

    0   "vtrt"          28  "vtrt"
    16  size of plan    32  GPUs, a bit each, in the order of GPUS
    24  version, 4 B    56  bytes of the weights
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engines.errors import RunnerError

SIZE = 64
"""Bytes of a header."""

TAG = b"vtrt"
"""What a plan of TensorRT for RTX begins with."""

STANDARD = (b"ftrt", b"ptrt")
"""What a plan of the standard TensorRT begins with; the second until 8.4."""

GPUS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""The compute capabilities that a plan may be for, in the order of their bits."""

OLDEST_STANDARD = 8
"""The oldest major version of the standard TensorRT that makes version-compatible plans; RTX counts from 1."""


@dataclass(frozen=True)
class Header:
    """What a plan of TensorRT for RTX records: version, bytes of plan and weights, compute capabilities."""

    version: str
    size: int
    weights: int
    targets: tuple[str, ...]


def read(content: bytes) -> Header | None:
    """Header of a plan of TensorRT for RTX; None for any other bytes."""
    if len(content) < SIZE or content[:4] != TAG or content[28:32] != TAG or content[24] >= OLDEST_STANDARD:
        return None
    bits = int.from_bytes(content[32:36], "little")
    return Header(
        version=".".join(str(number) for number in content[24:28]),
        size=int.from_bytes(content[16:24], "little"),
        weights=int.from_bytes(content[56:64], "little"),
        targets=tuple(gpu for bit, gpu in enumerate(GPUS) if bits >> bit & 1),
    )


def no_plan_of_rtx(content: bytes) -> str | None:
    """Why bytes are no plan of TensorRT for RTX; None where nothing speaks against it."""
    if not content:
        return "the plan is empty"
    if content[:4] in STANDARD:
        return "it is a plan of the standard TensorRT (format tensorrt), which TensorRT for RTX does not run"
    found = read(content)
    if found is None and content[:4] == TAG and len(content) >= SIZE and content[24] >= OLDEST_STANDARD:
        return f"it is a plan of the standard TensorRT {content[24]}, which TensorRT for RTX does not run"
    if found is None:
        return f"it is no plan: it has {len(content):,} bytes and begins with {content[:8]!r}"
    if found.size != len(content):
        return f"the plan has {len(content):,} bytes, its header says {found.size:,}: it is truncated or was changed"
    return None


def of_another_version(content: bytes, version: str) -> str | None:
    """Why a version of TensorRT for RTX may refuse a plan of another one; None for a plan of its own."""
    found = read(content)
    if found is None or found.version == version:
        return None
    return f"it is a plan of TensorRT for RTX {found.version}, and {version} is installed: build it again"


def plan_of_rtx(content: bytes) -> str | None:
    """What to say of a plan of TensorRT for RTX that the standard TensorRT was given; None for any other bytes."""
    found = read(content)
    if found is None:
        return None
    return f"it is a plan of TensorRT for RTX {found.version}, which that one alone runs (format tensorrt-rtx)"


def plan_bytes(path: Path) -> bytes:
    """Bytes of a plan's file; raises RunnerError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunnerError(f"{path}: the plan cannot be read: {error.strerror}; expected a TensorRT plan") from error
