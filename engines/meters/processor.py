"""What throttles the processor: quotas of control groups, as containers have them, and heat. Linux counts both."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from engines.meters.meter import Count

QUOTA, HEAT = "CPU quota", "CPU heat"

PROCESS = Path("/proc/self")
CORES = Path("/sys/devices/system/cpu")


class Quota:
    """Counts in how many periods a control group of this process, or one above it, was stopped by its CPU quota.

    ``cpu.stat`` has them as nr_periods and nr_throttled, in both versions of control groups (Linux,
    Documentation/admin-guide/cgroup-v2.rst and Documentation/scheduler/sched-bwc.rst). Each group has its own quota.
    """

    def __init__(self, process: Path = PROCESS) -> None:
        self._files = cpu_stats(process)

    def counts(self) -> Mapping[str, Count]:
        """Periods with and without a stop, of all groups together; nothing where no group is counted."""
        seen = of = 0
        found = False
        for path in self._files:
            try:
                values = dict(line.split(maxsplit=1) for line in path.read_text(encoding="ascii").splitlines())
                seen, of = seen + int(values["nr_throttled"]), of + int(values["nr_periods"])
            except (OSError, KeyError, ValueError):
                continue  # a root group has none of these lines
            found = True
        return {QUOTA: Count(seen, of, "periods")} if found else {}


def cpu_stats(process: Path = PROCESS) -> list[Path]:
    """Files ``cpu.stat`` of the control groups that a process is in, up to where each hierarchy is mounted."""
    try:
        groups = [line.split(":", 2) for line in (process / "cgroup").read_text(encoding="utf-8").splitlines()]
        mounts = [line.split() for line in (process / "mountinfo").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []
    found = []
    for mount in mounts:
        # man 5 proc: root of the mount, mount point; behind a hyphen type, source and options.
        root, point, hyphen = mount[3], mount[4], mount.index("-")
        kind, options = mount[hyphen + 1], mount[hyphen + 3].split(",")
        if kind not in {"cgroup", "cgroup2"} or (kind == "cgroup" and "cpu" not in options):
            continue
        for _, controllers, path in groups:
            if controllers == "" if kind == "cgroup2" else "cpu" in controllers.split(","):
                found += _upwards(path, root, Path(point))
    return [path for path in dict.fromkeys(found) if path.is_file()]


def _upwards(path: str, root: str, point: Path) -> list[Path]:
    """Files ``cpu.stat`` of a group and of all above it that a mount shows; of one that it hides its own top's."""
    group = PurePosixPath(path)
    inside = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
    return [point / part / "cpu.stat" for part in (inside, *inside.parents)]


class Heat:
    """Counts how often the cores that this process may use were throttled by heat, one by one or as a package.

    Linux, Documentation/ABI/testing/sysfs-devices-system-cpu: thermal_throttle, on Intel's processors. Virtual machines
    have none of it.
    """

    NAMES = ("core_throttle_count", "package_throttle_count")

    def __init__(self, cores: Path = CORES) -> None:
        own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        folders = [cores / f"cpu{core}" / "thermal_throttle" for core in sorted(own)]
        self._files: Sequence[Path] = [f / name for f in folders for name in self.NAMES if (f / name).is_file()]

    def counts(self) -> Mapping[str, Count]:
        """Times that any core was throttled; a package's count stands at each of its cores, so the largest counts."""
        if not self._files:
            return {}
        found: dict[str, list[int]] = {name: [0] for name in self.NAMES}
        for path in self._files:
            try:
                found[path.name].append(int(path.read_text(encoding="ascii")))
            except (OSError, ValueError):
                continue  # a core that was taken offline
        cores, packages = (found[name] for name in self.NAMES)
        return {HEAT: Count(sum(cores) + max(packages), None, "times")}
