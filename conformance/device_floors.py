"""Throughput floors of GPU engines: what was seen on a device, in ``device_floors.toml``, holds on that device only."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = Path(__file__).with_name("device_floors.toml")

SHARES: Mapping[str, float] = {"samples_per_s": 0.8, "over_synchronous": 0.7, "share_of_limit": 0.7}
"""The figures that have floors, and how much of what was seen has to be reached.

- ``samples_per_s``: of ``runner(inputs)``, everything counted.
- ``over_synchronous``: how many times as many as one stream that copies, runs and waits in turn.
- ``share_of_limit``: over the same engine without any copy.

Ratios get less: both of their sides vary.
"""

NOT_SLOWER = 0.9
"""The only floor for every model and device: keeping several batches on their way is not slower than waiting for each.

How much it gains depends on both: a device that computes for 15 ms a batch hardly notices the copies.
"""

KEYS: Mapping[str, type] = {"device": str, "model": str, "variant": str, "batch": int, "source": str}


class FloorError(Exception):
    """A row of floors is incomplete, or says something unknown."""


@dataclass(frozen=True)
class DeviceFloor:
    """One floor of a model's variant at a batch, on a device (None: on any): ``figure`` has to be ``least`` or more.

    ``seen`` is what was measured, and ``source`` where: a file of results in this repository, or who reported it.
    """

    device: str | None
    model: str
    variant: str
    batch: int
    source: str
    figure: str
    seen: float
    least: float

    def __str__(self) -> str:
        """Name such as ``over_synchronous of tensorrt-fp16-b1.16.32 at batch 32 on NVIDIA H200``."""
        return f"{self.figure} of {self.variant} at batch {self.batch} on {self.device or 'any device'}"


@cache
def device_floors() -> tuple[DeviceFloor, ...]:
    """Read all floors of the file; raises FloorError for a row that is incomplete or unknown."""
    return tuple(floor for table in read_rows() for floor in parse(table))


def read_rows(path: Path = TABLE) -> list[dict[str, Any]]:
    """Read the rows as the file has them."""
    with path.open("rb") as file:
        rows: list[dict[str, Any]] = tomllib.load(file).get("floors", [])
    return rows


def parse(table: Mapping[str, Any]) -> tuple[DeviceFloor, ...]:
    """Turn a row of the file into floors, one a figure; raises FloorError as :func:`device_floors` does."""
    for key, kind in KEYS.items():
        if type(table.get(key)) is not kind or table[key] == "":
            raise FloorError(f"{TABLE.name}: {key} is {table.get(key)!r} in {dict(table)}; allowed: {kind.__name__}")
    if table["batch"] < 1:
        raise FloorError(f"{TABLE.name}: batch is {table['batch']} in {dict(table)}; allowed: 1 or more")
    figures = {name: seen for name, seen in table.items() if name not in KEYS}
    if unknown := sorted(set(figures) - set(SHARES)):
        raise FloorError(f"{TABLE.name}: unknown key {unknown[0]}; allowed: {', '.join([*KEYS, *SHARES])}")
    if not figures:
        raise FloorError(f"{TABLE.name}: {dict(table)} has no figure; allowed: one or more of {', '.join(SHARES)}")
    for name, seen in figures.items():
        if type(seen) not in {int, float} or not math.isfinite(seen) or seen <= 0:
            raise FloorError(f"{TABLE.name}: {name} is {seen!r} in {dict(table)}; allowed: a number above 0")
    row = {key: table[key] for key in KEYS}
    return tuple(
        DeviceFloor(**row, figure=name, seen=float(seen), least=SHARES[name] * seen) for name, seen in figures.items()
    )


def floors_for(model: str, variant: str, batch: int, device: str) -> tuple[DeviceFloor, ...]:
    """Floors that a variant has to reach at a batch on a device: those seen there, and the one that holds on any."""
    anywhere = DeviceFloor(None, model, variant, batch, "a rule", "over_synchronous", 1.0, NOT_SLOWER)
    wanted = (model, variant, batch, device)
    return (anywhere, *(f for f in device_floors() if (f.model, f.variant, f.batch, f.device) == wanted))
