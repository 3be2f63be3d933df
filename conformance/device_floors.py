"""Throughput floors of GPU engines, in ``device_floors.toml``: ratios that hold on any GPU, absolute ones by device."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = Path(__file__).with_name("device_floors.toml")

YARDSTICKS = ("limit", "synchronous")
"""What a ratio is taken over: the engine without copies, and one stream that copies, runs and waits in turn."""


class FloorError(Exception):
    """A floor is incomplete, or not what was seen bears."""


@dataclass(frozen=True)
class DeviceFloor:
    """One floor of a model's variant at a batch: ``least`` of ``unit``, and the figure ``seen`` that it comes from.

    ``over`` names the yardstick of a ratio; ``device`` the only device an absolute floor (samples/s) holds on.
    """

    model: str
    variant: str
    batch: int
    least: float
    seen: float
    over: str | None
    device: str | None

    def __str__(self) -> str:
        """Give ``tensorrt-fp16-b1.16.32 at batch 32 over synchronous``, or ``… on NVIDIA H200``."""
        return f"{self.variant} at batch {self.batch} " + (f"over {self.over}" if self.over else f"on {self.device}")


@cache
def device_floors() -> tuple[DeviceFloor, ...]:
    """Read all floors; raises FloorError for one that is incomplete or lies above what was seen."""
    with TABLE.open("rb") as file:
        tables: list[dict[str, Any]] = tomllib.load(file)["floors"]
    return tuple(parse(table) for table in tables)


def parse(table: dict[str, Any]) -> DeviceFloor:
    """Turn a table of the file into a floor; raises FloorError as :func:`device_floors` does."""
    known = {"model", "variant", "batch", "least", "seen", "over", "device"}
    if unknown := sorted(set(table) - known):
        raise FloorError(f"{TABLE.name}: unknown key {unknown[0]}; allowed: {', '.join(sorted(known))}")
    if missing := sorted(known - {"over", "device"} - set(table)):
        raise FloorError(f"{TABLE.name}: a floor lacks {missing[0]}: {table}")
    if ("over" in table) == ("device" in table) or table.get("over", YARDSTICKS[0]) not in YARDSTICKS:
        raise FloorError(f"{TABLE.name}: {table}; allowed: either device, or over = {' | '.join(YARDSTICKS)}")
    floor = DeviceFloor(**{"over": None, "device": None, **table})
    if not 0 < floor.least <= floor.seen:
        raise FloorError(f"{TABLE.name}: {floor} is {floor.least}; allowed: above 0, at most the {floor.seen} seen")
    return floor
