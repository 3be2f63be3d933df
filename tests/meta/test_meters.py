"""Meters read what is there, name what throttles, keep a run of hours small, and give up what fails, once."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import stand_in_nvml

from engines.errors import UnavailableError
from engines.formats.tensorrt import driver
from engines.meters.gpu import BECAUSE, SLOWDOWN, THROTTLED, GpuMeter
from engines.meters.meter import Count, MeterError, Quantity
from engines.meters.process import ProcessMeter
from engines.meters.processor import HEAT, QUOTA, Heat, Quota, cpu_stats
from engines.meters.sampler import PERIOD_S, Sampler
from engines.meters.series import Series
from fixtures.metering import Metering
from tests.meta.apart import environment_apart

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        """Seconds."""
        return self.now


class Planted:
    """A meter and brake that reads what a test sets; an exception is raised."""

    quantities = (Quantity("load", "share", "GPU 0"),)

    def __init__(self):
        self.value, self.count, self.closed = 0.0, Count(0, 0, "looks"), 0

    def read(self):
        """One value."""
        if isinstance(self.value, Exception):
            raise self.value
        return [self.value]

    def counts(self):
        """One brake."""
        return {"GPU 0 power brake": self.count}

    def close(self):
        """Count how often."""
        self.closed += 1


# The series.


@pytest.mark.parametrize("samples", [1, 7, 8, 9, 100, 86_400])
def test_a_run_of_any_length_keeps_few_rows_and_loses_nothing(samples):
    """Rows stay few and of one length, cover all the time without a gap, and keep least, mean and largest."""
    series = Series(most=8)
    for i in range(samples):
        series.add(i / 2, (i + 1) / 2, [float(i), None], {"heat"} if i == samples // 2 else ())
    rows = series.rows
    assert len(rows) == samples if samples <= 8 else 4 <= len(rows) <= 8
    assert (rows[0].start, rows[-1].end) == (0.0, samples / 2)
    assert len({row.samples for row in rows[:-1]}) <= 1
    assert all(a.end == b.start for a, b in itertools.pairwise(rows))
    spreads = [row.spreads[0] for row in rows]
    assert sum(s.count for s in spreads) == samples
    assert sum(s.total for s in spreads) == samples * (samples - 1) / 2
    assert (min(s.least for s in spreads), max(s.most for s in spreads)) == (0, samples - 1)
    assert {row.spreads[1] for row in rows} == {None}
    assert [row.start <= samples // 2 / 2 < row.end for row in rows] == [bool(row.throttled) for row in rows]


# The sampler.


def test_samples_are_told_in_time_since_the_run_began():
    """A sample spans the time since the one before; the last value of each quantity is at hand."""
    clock, meter = Clock(), Planted()
    sampler = Sampler([meter], [], clock=clock, origin=90.0)
    for value, at in ((0.5, 100.5), (0.9, 101.0)):
        meter.value, clock.now = value, at
        sampler.sample()
    assert [(row.start, row.end, row.spreads[0].mean) for row in sampler.series.rows] == [
        (10, 10.5, 0.5),
        (10.5, 11, 0.9),
    ]
    assert sampler.latest == {Planted.quantities[0]: 0.9}


def test_what_throttles_is_named_for_the_measurement_and_the_moment_it_happened_in():
    """A measurement has what was counted between its begin and end, and nothing of before or after."""
    clock, planted = Clock(), Planted()
    planted.count = Count(3, 5, "looks")
    sampler = Sampler([planted], [planted], clock=clock, origin=100.0)
    before = sampler.watch("before")
    assert before() == ()
    during = sampler.watch("during")
    planted.count, clock.now = Count(5, 9, "looks"), 101.0
    sampler.sample()
    assert during() == ("GPU 0 power brake, in 2 of 4 looks",)
    planted.count, clock.now = Count(5, 11, "looks"), 102.0
    sampler.sample()
    assert sampler.watch("after")() == ()
    assert [(s.test, s.start, s.end, bool(s.throttled)) for s in sampler.spans] == [
        ("before", 0, 0, False),
        ("during", 0, 1, True),
        ("after", 2, 2, False),
    ]
    assert [sorted(row.throttled) for row in sampler.series.rows] == [["GPU 0 power brake"], []]


def test_a_meter_that_fails_is_given_up_once_and_the_run_goes_on():
    """One sentence names it; others are read on, and all are closed once."""
    clock, good, bad = Clock(), Planted(), Planted()
    sampler = Sampler([good, bad], [bad], clock=clock, origin=98.0)
    good.value, bad.value = 0.25, MeterError("GPU 0 cannot be read: GPU is lost")
    for _ in range(3):
        sampler.sample()
    bad.value = 0.5
    sampler.sample()
    assert sampler.problems == ["GPU 0 cannot be read: GPU is lost (not read any more after 2 s)"]
    assert [(row.spreads[0].mean, row.spreads[1]) for row in sampler.series.rows] == [(0.25, None)] * 4
    sampler.stop()
    sampler.stop()
    assert (good.closed, bad.closed) == (1, 1)


def test_the_thread_reads_by_itself_and_ends():
    """Started, it samples at its period without being asked; stopped, no thread is left."""
    planted = Planted()
    sampler = Sampler([planted], [])
    sampler.start()
    until = time.monotonic() + 60 * PERIOD_S
    while len(sampler.series.rows) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    sampler.stop()
    assert len(sampler.series.rows) >= 2
    assert not any(thread.name == "meters" for thread in threading.enumerate())
    assert planted.closed == 1


# Processor and memory.

PSUTIL = pytest.mark.skipif(importlib.util.find_spec("psutil") is None, reason="psutil is not installed")
BUSY = "import time\nprint(flush=True)\nx = bytearray(64 << 20)\nwhile time.process_time() < 30: pass"


@PSUTIL
def test_processes_that_were_started_count_with_their_processor_time_and_memory():
    """A process that keeps a core busy and holds 64 MB adds what it uses; ended, its memory is gone."""
    meter = ProcessMeter()
    _, alone = meter.read()
    child = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        until, most, used = time.monotonic() + 30, 0.0, 0.0
        while time.monotonic() < until and (most < alone + (60 << 20) or used < 0.2):
            time.sleep(0.1)
            cores, memory = meter.read()
            most = max(most, memory)
            used = meter.processor_seconds
            assert 0 <= cores <= 1.5 * (os.cpu_count() or 1)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert most >= alone + (60 << 20)
    assert used >= 0.2
    assert meter.read()[1] < most - (60 << 20)


def test_without_psutil_the_meter_says_what_is_missing(monkeypatch):
    """A missing package is a missing capability, with the command that installs it."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(UnavailableError, match=r"psutil is not installed \(pip install -r requirements.txt\)"):
        ProcessMeter()


# What throttles the processor.


def planted_groups(folder, mounts, groups, stats):
    """Write the files of a process and of the groups that it is in; gives the folder of the process."""
    process = folder / "self"
    process.mkdir()
    (process / "cgroup").write_text("".join(f"{line}\n" for line in groups))
    (process / "mountinfo").write_text("".join(f"{line.format(root=folder)}\n" for line in mounts))
    for path, (periods, throttled) in stats.items():
        (folder / path).mkdir(parents=True, exist_ok=True)
        (folder / path / "cpu.stat").write_text(
            f"usage_usec 5\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 9\n"
        )
    return process


VERSIONS = {
    "version 2, a group within another": (
        ["30 23 0:26 / {root}/fs rw - cgroup2 cgroup2 rw", "9 1 0:9 / /proc rw - proc proc rw"],
        ["0::/pod/container"],
        {"fs/pod/container": (10, 2), "fs/pod": (10, 1), "fs/other": (10, 9)},
        (3, 20),
    ),
    "version 1, processor beside others": (
        [
            "31 23 0:27 / {root}/fs/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct",
            "32 23 0:28 / {root}/fs/memory rw - cgroup cgroup rw,memory",
        ],
        ["5:memory:/other", "4:cpu,cpuacct:/pod", "0::/"],
        {"fs/cpu/pod": (7, 4), "fs/cpu/other": (9, 9), "fs/memory/pod": (9, 9)},
        (4, 7),
    ),
    "a mount that shows a container's group as its top": (
        ["30 23 0:26 /docker/1a2b {root}/fs ro - cgroup cgroup rw,cpu"],
        ["4:cpu:/docker/1a2b/inner"],
        {"fs/inner": (6, 4), "fs": (6, 1)},
        (5, 12),
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_quota_is_counted_in_the_groups_of_the_process_alone(tmp_path, version):
    """Both versions of control groups: the process' own group and those above it, and no others."""
    mounts, groups, stats, (seen, of) = VERSIONS[version]
    quota = Quota(planted_groups(tmp_path, mounts, groups, stats))
    assert quota.counts() == {QUOTA: Count(seen, of, "periods")}


def test_without_control_groups_nothing_is_said_of_a_quota(tmp_path):
    """No files, and the root group, whose cpu.stat counts no periods, are no quota that never throttled."""
    assert Quota(tmp_path).counts() == {}
    process = planted_groups(tmp_path, ["30 23 0:26 / {root}/fs rw - cgroup2 cgroup2 rw"], ["0::/"], {"fs": (0, 0)})
    assert Quota(process).counts() == {QUOTA: Count(0, 0, "periods")}
    (tmp_path / "fs" / "cpu.stat").write_text("usage_usec 5\n")
    assert Quota(process).counts() == {}


def processor_group():
    """Folder of a control group of this process in which one with a quota can be made; None where there is none."""
    for path in cpu_stats():
        folder = path.parent
        if os.access(folder, os.W_OK) and (folder / "cpu.cfs_quota_us").is_file():
            return folder
    return None


THROTTLED_CHILD = """
import os, sys, time
from engines.meters.processor import Quota
from engines.meters.sampler import Sampler
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
sampler = Sampler([], [Quota()])
def burn(seconds):
    start = time.process_time()
    while time.process_time() - start < seconds: pass
quiet = sampler.watch("quiet"); time.sleep(0.3); print(list(quiet()))
busy = sampler.watch("busy"); burn(0.1); print(list(busy()))
"""


@pytest.mark.skipif(
    processor_group() is None, reason="no control group can be made here: that takes root and version 1"
)
def test_a_real_quota_is_named():
    """A process that may use a fifth of a core is throttled while it computes, and not while it sleeps."""
    folder = processor_group() / f"meters-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "cpu.cfs_period_us").write_text("50000")
        (folder / "cpu.cfs_quota_us").write_text("10000")
        done = subprocess.run(
            [sys.executable, "-c", THROTTLED_CHILD, str(folder)],
            cwd=ROOT,
            env=environment_apart(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        folder.rmdir()
    assert done.returncode == 0, done.stderr
    quiet, busy = done.stdout.splitlines()
    assert quiet == "[]"
    assert busy.startswith("['CPU quota, in ")


def test_heat_is_counted_on_the_cores_of_this_process(tmp_path):
    """Cores add up, a package's count, which stands at each of its cores, counts once, and other cores do not count."""
    (own, *others) = sorted(os.sched_getaffinity(0))
    assert Heat(tmp_path).counts() == {}
    for core, cores, package in ((own, 5, 7), *((other, 1, 7) for other in others[:1]), (4000, 90, 90)):
        folder = tmp_path / f"cpu{core}" / "thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{cores}\n")
        (folder / "package_throttle_count").write_text(f"{package}\n")
    heat = Heat(tmp_path)
    assert heat.counts() == {HEAT: Count(5 + len(others[:1]) + 7, None, "times")}
    assert str(heat.counts()[HEAT].since(Count(10, None, "times"))) == f"{2 + len(others[:1])} times"


# GPUs.


@pytest.fixture
def nvml(monkeypatch):
    """Stand-in for the library."""
    library = stand_in_nvml.Library()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


def opened():
    """Meter of the stand-in's GPU."""
    return GpuMeter("GPU 0", stand_in_nvml.UUID)


def test_readings_of_a_gpu_are_in_base_units(nvml):
    """Shares, bytes, watts, hertz and degrees, whatever NVML counts in; what it opens it closes."""
    meter = opened()
    assert meter.read() == [0.93, 3e9, 512.345, 1980e6, 61]
    assert [q.unit for q in meter.quantities] == ["share", "bytes", "watts", "hertz", "celsius"]
    assert (meter.power_limit_watts, meter.memory_bytes, nvml.opened) == (700, 150 * 10**9, 1)
    meter.close()
    assert nvml.opened == 0


REASONS = {
    "an idle GPU": (0x01, set()),
    "clocks that somebody set": (0x102, set()),
    "the power limit, which is usual under load": (0x04, set()),
    "sync boost": (0x10, set()),
    "software slows it for heat": (0x20, {"heat (software slowdown)"}),
    "hardware slows it for heat, and says so twice": (0x48, {"heat (hardware slowdown)"}),
    "the power supply brakes it, and hardware says so twice": (0x88, {"power brake"}),
    "hardware alone": (0x0C, {"hardware slowdown"}),
    "heat in both ways": (0x68, {"heat (software slowdown)", "heat (hardware slowdown)"}),
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_throttles_a_gpu_is_told_from_what_is_usual(nvml, reason):
    """Heat, the power brake and hardware slowdowns throttle; the power limit, idling and set clocks do not."""
    mask, expected = REASONS[reason]
    meter = opened()
    meter.counts()
    nvml.reasons = mask
    counts = meter.counts()
    assert {name for name, count in counts.items() if count.seen} == {f"GPU 0 {what}" for what in expected}
    assert {(count.of, count.units) for count in counts.values()} == {(2, "looks")}


def test_an_old_driver_is_asked_by_the_old_name(nvml):
    """Where the driver lacks the new function, the old one tells the same."""
    nvml.broken["reasons"] = stand_in_nvml.NVMLError_FunctionNotFound()
    nvml.reasons = 0x80
    assert opened().counts()["GPU 0 power brake"].seen == 1


def test_what_a_gpu_does_not_have_is_no_failure(nvml):
    """A quantity that is not supported is None, reasons that are not told throttle nothing; all else is read."""
    unsupported = stand_in_nvml.NVMLError_NotSupported()
    nvml.broken = dict.fromkeys(("power", "limit", "reasons"), unsupported)
    meter = opened()
    assert meter.read() == [0.93, 3e9, None, 1980e6, 61]
    assert (meter.counts(), meter.power_limit_watts) == ({}, None)


def test_a_lost_gpu_is_named(nvml):
    """Any other error names the GPU and NVML's words, for readings as for what throttles."""
    meter = opened()
    nvml.broken = dict.fromkeys(("load", "reasons"), stand_in_nvml.NVMLError("GPU is lost"))
    for ask in (meter.read, meter.counts):
        with pytest.raises(MeterError, match="GPU 0 cannot be read: GPU is lost"):
            ask()
    with pytest.raises(MeterError, match="GPU 3 cannot be read: Not Found"):
        GpuMeter("GPU 3", "GPU-other")


@pytest.mark.parametrize(
    "error", [stand_in_nvml.NVMLError_LibraryNotFound("no library"), stand_in_nvml.NVMLError_DriverNotLoaded("none")]
)
def test_a_missing_library_or_driver_is_a_missing_capability(nvml, error, monkeypatch):
    """It is told apart from a GPU that fails, as a missing package is."""
    nvml.broken["init"] = error
    with pytest.raises(UnavailableError, match="NVIDIA's management library is missing"):
        opened()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(
        UnavailableError, match=r"nvidia-ml-py is not installed \(pip install -r requirements-gpu.txt\)"
    ):
        opened()


@PSUTIL
def test_what_cannot_be_read_is_told_once_and_the_run_goes_on(nvml, monkeypatch):
    """Of two GPUs without nvidia-ml-py one line says so, of a GPU that NVML refuses one names it; none of no GPU."""
    told = SimpleNamespace(lines=[], write_line=lambda line, **_: told.lines.append(line))

    def lines(*uuids):
        gpus = tuple(driver.Device(uuid, "NVIDIA H200") for uuid in uuids)
        monkeypatch.setattr(driver, "devices", lambda: gpus)
        metering, told.lines = Metering(None), []
        metering.sampler = metering._opened()
        metering.pytest_terminal_summary(told)
        assert [meter.uuid for meter, _ in metering.gpus] == [
            u for u in uuids if u == stand_in_nvml.UUID and not missing
        ]
        return told.lines

    missing = False
    assert lines(stand_in_nvml.UUID) == []
    assert lines("GPU-other", stand_in_nvml.UUID) == ["not metered: GPU 0 cannot be read: Not Found"]
    missing = True
    for package in ("pynvml", "psutil"):
        monkeypatch.setitem(sys.modules, package, None)
    without = ["processor and memory: psutil is not installed (pip install -r requirements.txt)"]
    without.append("GPUs: nvidia-ml-py is not installed (pip install -r requirements-gpu.txt)")
    assert lines(stand_in_nvml.UUID, "GPU-other") == [f"not metered: {line}" for line in without]

    def none():
        raise UnavailableError("there is no NVIDIA driver")

    monkeypatch.setattr(driver, "devices", none)
    metering = Metering(None)
    metering._opened()
    assert metering.missing == without[:1]


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="nvidia-ml-py is not installed")
def test_the_stand_in_has_the_names_of_nvidias_library():
    """Every function, error and constant that it stands in for is there, and the bits of the reasons are NVIDIA's."""
    import pynvml

    assert [name for name in dir(stand_in_nvml.Library) if not name.startswith("_") and not hasattr(pynvml, name)] == []
    assert pynvml.NVML_CLOCK_SM == stand_in_nvml.CLOCK
    assert pynvml.NVML_TEMPERATURE_GPU == stand_in_nvml.CELSIUS
    assert {
        bit: getattr(pynvml, f"nvmlClocksEventReason{name}")
        for bit, name in zip(
            THROTTLED, ("SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown", "HwSlowdown"), strict=True
        )
    } == {bit: bit for bit in THROTTLED}
    assert BECAUSE & SLOWDOWN == 0


def no_gpu():
    """Reason why no GPU can be read here; None where one can."""
    if importlib.util.find_spec("pynvml") is None:
        return "needs a GPU to read: nvidia-ml-py is not installed"
    try:
        driver.devices()
    except UnavailableError as error:
        return f"needs a GPU to read: {error}"
    return None


@pytest.mark.skipif(no_gpu() is not None, reason=no_gpu() or "")
def test_a_real_gpu_is_read():
    """Load is a share, memory below what there is, power, clock and heat as of a machine that runs."""
    meter = GpuMeter("GPU 0", driver.devices()[0].uuid)
    load, memory, power, clock, celsius = meter.read()
    assert 0 <= load <= 1
    assert 0 < memory < meter.memory_bytes
    assert power is None or 1 < power < 3000
    assert clock is None or 1e8 < clock < 1e10
    assert celsius is None or 5 < celsius < 120
    assert all(name.startswith("GPU 0 ") for name in meter.counts())
    meter.close()
