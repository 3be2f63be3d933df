"""Whether two runs were measured on the same machine with the same software, and what speeds may then be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance.floors import SHARE

REFERENCE = ("tensorflow", "tensorflow-cpu")
"""The packages that run the reference."""

TOOLS = ("pytest", "pytest-benchmark", "pytest-xdist", "hypothesis", "polygraphy")
"""Packages that run no engine: their versions change no speed."""

MARGIN = 1.10
"""Slower is what takes more than 1.10 times as long: repeated runs on a quiet machine moved by up to 1.08."""

MARGIN_OF_RATIOS = 1 / SHARE
"""The same for a ratio of two engines, which has the noise of both and depends on the hardware: that of the floors."""


@dataclass(frozen=True)
class Basis:
    """What speeds are compared by: absolute ones, or ratios within a run, and the factor that counts as slower.

    ``differences`` are what differs between the runs, in words; ``same_reference`` says whether what runs the
    reference has the same version in both.
    """

    kind: str
    margin: float
    differences: tuple[str, ...]
    same_reference: bool

    @property
    def absolute(self) -> bool:
        """Whether seconds of one run are compared with seconds of the other."""
        return self.kind == "absolute"

    def describe(self) -> str:
        """Sentence on how speeds are compared and why."""
        percent = f"slower is what takes more than {self.margin:.2f} times as long"
        if self.absolute:
            return f"same CPU, GPU, driver and packages: seconds are compared; {percent}"
        what = ", ".join(self.differences)
        return (
            f"not the same {'hardware' if self.kind == 'other hardware' else 'software'} ({what}): "
            f"only speed-ups within each run are compared, no samples/s; {percent}, relative to the other engine"
        )


def compare_environments(old: Mapping[str, Any], new: Mapping[str, Any]) -> Basis:
    """Compare the ``environment`` of two results: CPU, cores and GPU, then driver, Python and packages."""
    hardware = _differing(_hardware(old), _hardware(new))
    software = _differing(_software(old), _software(new))
    same_reference = not _differing(*({n: p.get(n) for n in REFERENCE} for p in (old["packages"], new["packages"])))
    if hardware:
        return Basis("other hardware", MARGIN_OF_RATIOS, (*hardware, *software), same_reference)
    if software:
        return Basis("other software", MARGIN_OF_RATIOS, software, same_reference)
    return Basis("absolute", MARGIN, (), same_reference)


def _hardware(environment: Mapping[str, Any]) -> dict[str, Any]:
    gpu = environment["gpu"] or {}
    return {"CPU": environment["cpu"], "cores": environment["cores"], "GPU": gpu.get("name")}


def _software(environment: Mapping[str, Any]) -> dict[str, Any]:
    packages = {name: version for name, version in environment["packages"].items() if name not in TOOLS}
    gpu = environment["gpu"] or {}
    return {"driver": gpu.get("driver"), "Python": environment["python"], **packages}


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{name} {_shown(old.get(name))} → {_shown(new.get(name))}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    )


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
