"""The throughput floors: ratios between two engines of one model, in ``floors.toml`` or in a model's own TOML file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from conformance.shown import shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = Path(__file__).with_name("floors.toml")

SHARE = 0.6
"""A floor is this share of what was measured: low enough for other machines, high enough to notice a lost gain."""


class FloorError(Exception):
    """A floor is described wrongly."""


@dataclass(frozen=True)
class Floor:
    """``fast`` at ``fast_batch`` processes at least ``ratio`` times as many samples a second as ``slow``.

    ``seen`` is the ratio that was measured. ``cpu`` names CPU flags of which one is needed (none: any CPU will do).
    ``device`` is the only GPU that it holds on (none: it does not depend on one).
    """

    model: str
    fast: str
    fast_batch: int
    slow: str
    slow_batch: int
    ratio: float
    seen: float
    cpu: tuple[str, ...]
    why: str
    device: str | None = None

    def __str__(self) -> str:
        """Name such as ``onnx-int8 at batch 32 over onnx-fp32 at batch 32``."""
        return f"{self.fast} at batch {self.fast_batch} over {self.slow} at batch {self.slow_batch}"

    def missing_cpu(self, flags: Sequence[str]) -> str | None:
        """CPU feature that the floor needs and ``flags`` lacks, in words; None where nothing is missing."""
        if not self.cpu or set(self.cpu) & set(flags):
            return None
        return f"the CPU has none of {', '.join(self.cpu)}"

    def missing_device(self, device: str | None) -> str | None:
        """Sentence that the floor is for another GPU than ``device`` (None: there is none), or None where it holds."""
        if self.device is None or self.device == device:
            return None
        return f"it was seen on {self.device}, here is {device or 'no GPU'}"


_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "fast": str,
    "fast_batch": int,
    "slow": str,
    "slow_batch": int,
    "ratio": (int, float),
    "seen": (int, float),
    "why": str,
}


def parse_floor(content: Mapping[str, Any], model: str, source: str) -> Floor:
    """Read one ``[[floors]]`` table of a model; raises FloorError naming source, key and what is allowed."""
    for key, kind in _KEYS.items():
        if not isinstance(content.get(key), kind) or isinstance(content.get(key), bool):
            raise FloorError(
                f"{source}: floors.{key} is {shown(content.get(key))}; allowed: {getattr(kind, '__name__', 'number')}"
            )
    if unknown := sorted(set(content) - {*_KEYS, "cpu", "device", "model"}):
        raise FloorError(f"{source}: unknown key floors.{unknown[0]}; allowed: {', '.join(_KEYS)}, cpu, device")
    cpu = content.get("cpu", [])
    if not isinstance(cpu, list) or not all(isinstance(flag, str) for flag in cpu):
        raise FloorError(f"{source}: floors.cpu is {shown(cpu)}; allowed: a list of CPU flags, of which one is needed")
    device = content.get("device")
    if device is not None and not (isinstance(device, str) and device):
        raise FloorError(
            f"{source}: floors.device is {shown(device)}; allowed: the name of a GPU, as its driver gives it"
        )
    for key in ("fast_batch", "slow_batch"):
        if content[key] < 1:
            raise FloorError(f"{source}: floors.{key} is {shown(content[key])}; allowed: 1 or more")
    if not 0 < content["ratio"] <= content["seen"]:
        raise FloorError(f"{source}: floors.ratio is {shown(content['ratio'])}; allowed: above 0, at most seen")
    figures = {key: content[key] for key in _KEYS}
    figures |= {"ratio": float(content["ratio"]), "seen": float(content["seen"])}
    return Floor(**figures, model=model, cpu=tuple(cpu), device=device)


@cache
def bundled_floors() -> tuple[Floor, ...]:
    """Read the floors of the bundled models."""
    with TABLE.open("rb") as file:
        tables = tomllib.load(file).get("floors", [])
    return tuple(parse_floor(table, str(table.get("model")), TABLE.name) for table in tables)
