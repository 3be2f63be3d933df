"""Timing and floors: figures are those of the durations, ratios hold, and a slow engine is told as such."""

from __future__ import annotations

import importlib.util
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conformance.floors import SHARE, Floor, FloorError, bundled_floors, parse_floor
from conformance.timing import UNSTABLE, durations, latency, side_by_side
from engines.chain import Chain
from engines.formats.registry import variants
from engines.model import datasets
from engines.model.bundled import bundled_names, find_model
from engines.model.samples import Samples
from engines.model.toml import load_model
from engines.variant import Variant
from fixtures.chain import CHAINS
from fixtures.records import FloorFound

THROUGHPUT = Path(__file__).resolve().parents[1] / "test_throughput.py"
ENGINE = Variant("onnx", "fp32")


def test_figures_are_those_of_the_durations():
    """Median, 99th percentile, spread and throughput are what their definitions give, worked by hand."""
    result = latency([0.005, 0.001, 0.003, 0.002, 0.004], batch=32)
    assert (result.batch, result.rounds) == (32, 5)
    assert result.p50 == pytest.approx(0.003)
    assert result.p99 == pytest.approx(0.00496)
    assert result.spread == pytest.approx((0.004 - 0.002) / 0.003)
    assert result.samples_per_second == pytest.approx(32 / 0.003)


SPREADS = {
    "the same every time": ([0.01] * 9, True),
    "one outlier": ([0.01] * 99 + [1.0], True),
    "just within": ([0.009, 0.009, 0.01, 0.011, 0.011], True),
    "just beyond": ([0.0089, 0.0089, 0.01, 0.011, 0.011], False),
    "two speeds": ([0.01, 0.02] * 10, False),
    "a single call": ([0.01], True),
}


@pytest.mark.parametrize("spread", SPREADS)
def test_what_scatters_is_marked_unstable(spread):
    """The middle half of the durations decides: outliers do not count, two speeds do."""
    seconds, stable = SPREADS[spread]
    assert latency(seconds, 1).stable is stable
    assert (latency(seconds, 1).spread <= UNSTABLE) is stable


def test_no_durations_are_an_error():
    """Nothing measured is no figure."""
    with pytest.raises(ValueError, match=r"^no durations to summarize$"):
        latency([], 1)


LASTING = {
    "as many as asked for": ({"least": 3}, 3),
    "until the time is over": ({"least": 3, "seconds": 14.0}, 5),
    "until it is over to the second": ({"least": 3, "seconds": 15.0}, 5),
    "none where neither calls nor time are asked for": ({"least": 0}, 0),
    "at least so many, whatever they last": ({"least": 7, "seconds": 14.0}, 7),
    "at most so many, though there is time": ({"least": 2, "most": 4, "seconds": 14.0}, 4),
}


@pytest.mark.parametrize("lasting", LASTING)
def test_single_calls_are_timed_as_long_as_asked(lasting, monkeypatch):
    """Every call has its own duration, in order, on the next of the inputs; how many there are is as asked."""
    asked, count = LASTING[lasting]
    now, given = [100.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def call(inputs):
        given.append(inputs)
        # 1, 2, 3, … seconds: four calls last ten, five fifteen.
        now[0] += len(given)

    assert durations(call, ["a", "b", "c"], **asked) == list(range(1, count + 1))
    assert given == list("abcabcabc"[:count])


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for the calls of :class:`Lasting`: no other load of the machine is measured."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


class Lasting:
    """A call of known duration on a clock, which counts how often it is made."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.calls = clock, seconds, 0

    def __call__(self):
        """Take the time."""
        self.calls += 1
        self.clock[0] += self.seconds


RATIOS = {
    "four times as fast": (0.005, 32, 0.020, 32, 4.0),
    "as fast": (0.010, 32, 0.010, 32, 1.0),
    "four times as slow": (0.020, 32, 0.005, 32, 0.25),
    "as fast a call for eight times the samples": (0.010, 32, 0.010, 4, 8.0),
    "a slower call that is worth it": (0.020, 32, 0.005, 1, 8.0),
}


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_ratio_is_that_of_samples_per_second(clock, ratio):
    """Known durations give their ratio, whichever side is faster and whatever the batches."""
    fast_seconds, fast_batch, slow_seconds, slow_batch, expected = RATIOS[ratio]
    fast, slow = Lasting(clock, fast_seconds), Lasting(clock, slow_seconds)
    result = side_by_side(fast, slow, fast_batch=fast_batch, slow_batch=slow_batch, seconds=0.1)
    assert result.value == pytest.approx(expected)
    assert result.low <= result.value <= result.high


@pytest.mark.parametrize(("fast_calls", "slow_calls"), [(4, 1), (1, 4), (1, 1)])
def test_both_sides_of_a_round_last_as_long(clock, fast_calls, slow_calls):
    """The shorter call is made as often as fits into one longer call, beside one of each that does not count."""
    fast, slow = Lasting(clock, 0.020 / fast_calls), Lasting(clock, 0.020 / slow_calls)
    rounds = side_by_side(fast, slow, fast_batch=1, slow_batch=1, seconds=0.0, least_rounds=6).rounds
    assert rounds == 6
    # Two calls of each find out how long they last; each turn starts with one that is not measured.
    assert slow.calls == 2 + rounds * (1 + slow_calls)
    assert fast.calls == 2 + rounds * (1 + fast_calls)
    assert side_by_side(fast, slow, fast_batch=1, slow_batch=1, seconds=0.0).rounds == 5


def test_a_measurement_lasts_as_long_as_asked(clock):
    """More rounds are made until the time is over, and no more."""
    start = clock[0]
    # Each round has two calls of each side, after two that find out how long they last.
    result = side_by_side(
        Lasting(clock, 0.01), Lasting(clock, 0.01), fast_batch=1, slow_batch=1, seconds=0.30, least_rounds=1
    )
    assert result.rounds == 8
    assert clock[0] - start == pytest.approx(0.04 + 8 * 0.04)
    # Rounds of a second each: the third would begin when the time is over.
    sides = Lasting(clock, 0.25), Lasting(clock, 0.25)
    assert side_by_side(*sides, fast_batch=1, slow_batch=1, seconds=2.0, least_rounds=1).rounds == 2


# The floors.


@pytest.mark.parametrize("floor", bundled_floors(), ids=lambda f: f"{f.model}: {f}")
def test_a_floor_is_sixty_percent_of_what_was_seen(floor):
    """Every floor is that share of its measurement, names variants of a bundled model, and says why."""
    assert floor.ratio / floor.seen == pytest.approx(SHARE, abs=0.02)
    assert floor.model in bundled_names()
    known = {str(v) for v in variants(load_model(find_model(floor.model)))}
    assert {floor.fast, floor.slow} <= known
    assert (floor.fast, floor.fast_batch) != (floor.slow, floor.slow_batch)
    assert floor.why.strip()
    # What a precision or a batch gains on a GPU depends on which it is.
    assert (floor.device is None) == (not floor.fast.startswith("tensorrt"))


def test_the_floors_that_matter_are_there():
    """INT8 over FP32 for ONNX and TFLite, batches over single samples, and ONNX over the SavedModel have floors."""
    found = {(f.fast, f.fast_batch, f.slow, f.slow_batch) for f in bundled_floors()}
    assert found >= {
        ("onnx-int8", 32, "onnx-fp32", 32),
        ("tflite-int8", 32, "tflite-fp32", 32),
        ("onnx-fp32", 32, "onnx-fp32", 1),
        ("onnx-fp32", 32, "savedmodel-fp32", 32),
    }


GOOD = {
    "fast": "onnx-fp32",
    "fast_batch": 64,
    "slow": "onnx-fp32",
    "slow_batch": 1,
    "ratio": 0.6,
    "seen": 1,
    "why": "batches are not slower than single samples",
}


def test_a_floor_is_read_as_written():
    """A model's own floor has its figures, needs no CPU feature unless it says so, and is named by both sides."""
    floor = parse_floor(GOOD, "mine", "mine.toml")
    assert floor == Floor("mine", "onnx-fp32", 64, "onnx-fp32", 1, 0.6, 1.0, (), GOOD["why"], None)
    assert all(type(figure) is float for figure in (floor.ratio, floor.seen))
    other = parse_floor({**GOOD, "ratio": 1, "seen": 2, "cpu": ["a", "b"], "device": "d"}, "mine", "mine.toml")
    assert (other.ratio, other.seen, other.cpu, other.device) == (1.0, 2.0, ("a", "b"), "d")
    assert all(type(figure) is float for figure in (other.ratio, other.seen))
    assert str(floor) == "onnx-fp32 at batch 64 over onnx-fp32 at batch 1"
    # Bundled ones are in one file, and name their model; a floor may be all that was seen.
    assert parse_floor({**GOOD, "model": "mine"}, "mine", "floors.toml") == floor
    assert parse_floor({**GOOD, "ratio": 1}, "mine", "mine.toml").ratio == 1.0


FLAGS = "allowed: a list of CPU flags, of which one is needed"
NAME = "allowed: the name of a GPU, as its driver gives it"
BAD = {
    "no ratio": ({"ratio": None}, "floors.ratio is None; allowed: number"),
    "a ratio of text": ({"ratio": "0.6"}, "floors.ratio is '0.6'; allowed: number"),
    "a ratio of zero": ({"ratio": 0}, "floors.ratio is 0; allowed: above 0, at most seen"),
    "a ratio above what was seen": ({"ratio": 1.1}, "floors.ratio is 1.1; allowed: above 0, at most seen"),
    "a ratio that is no number": ({"ratio": float("nan")}, "floors.ratio is nan; allowed: above 0, at most seen"),
    "a truth value": ({"seen": True}, "floors.seen is True; allowed: number"),
    "half a batch": ({"fast_batch": 1.5}, "floors.fast_batch is 1.5; allowed: int"),
    "a batch of none": ({"slow_batch": 0}, "floors.slow_batch is 0; allowed: 1 or more"),
    "a negative batch": ({"fast_batch": -32}, "floors.fast_batch is -32; allowed: 1 or more"),
    "no reason": ({"why": None}, "floors.why is None; allowed: str"),
    "no other side": ({"slow": None}, "floors.slow is None; allowed: str"),
    "an unknown key": (
        {"spread": 0.1},
        "unknown key floors.spread; allowed: fast, fast_batch, slow, slow_batch, ratio, seen, why, cpu, device",
    ),
    "a CPU flag that is no list": ({"cpu": "avx2"}, f"floors.cpu is 'avx2'; {FLAGS}"),
    "a device that is a number": ({"device": 0}, f"floors.device is 0; {NAME}"),
    "a device without a name": ({"device": ""}, f"floors.device is ''; {NAME}"),
    "a CPU flag that is a number": ({"cpu": [2]}, f"floors.cpu is [2]; {FLAGS}"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_floor_that_is_described_wrongly_is_refused(bad):
    """Errors name the file, the key, what was found and what is allowed."""
    changes, message = BAD[bad]
    content = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    with pytest.raises(FloorError) as caught:
        parse_floor(content, "mine", "mine.toml")
    assert str(caught.value) == f"mine.toml: {message}"


def test_a_floor_says_which_cpu_feature_is_missing():
    """One of the flags is enough; where there is none of them, all are named."""
    floor = parse_floor({**GOOD, "cpu": ["avx512_vnni", "avx_vnni"]}, "mine", "mine.toml")
    assert floor.missing_cpu(["sse4_2", "avx_vnni"]) is None
    assert floor.missing_cpu(["sse4_2", "avx2"]) == "the CPU has none of avx512_vnni, avx_vnni"
    assert floor.missing_cpu([]) == "the CPU has none of avx512_vnni, avx_vnni"
    assert parse_floor(GOOD, "mine", "mine.toml").missing_cpu([]) is None


def test_a_floor_holds_on_the_device_it_was_seen_on_only():
    """A floor with a device says where it was seen and what is here; one without holds anywhere."""
    floor = parse_floor({**GOOD, "device": "NVIDIA H200"}, "mine", "mine.toml")
    assert floor.missing_device("NVIDIA H200") is None
    assert floor.missing_device("NVIDIA L4") == "it was seen on NVIDIA H200, here is NVIDIA L4"
    assert floor.missing_device(None) == "it was seen on NVIDIA H200, here is no GPU"
    assert parse_floor(GOOD, "mine", "mine.toml").missing_device(None) is None


# The floors' own check, with engines of known slowness.

MACHINE = {"name": "a machine, 2 cores", "flags": ["avx2"], "device": None}


@pytest.fixture(scope="session")
def throughput():
    """Module of the throughput tests, loaded for itself so that its figures can be shortened here."""
    spec = importlib.util.spec_from_file_location("throughput_under_test", THROUGHPUT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SECONDS = 0.05
    return module


@pytest.fixture(scope="session")
def digits(pytestconfig):
    """Chain of the bundled digits classifier, in the artifact folder of this run."""
    spec = load_model(find_model("digits_vgg"))
    store = next(iter(pytestconfig.stash[CHAINS].values())).store
    return Chain(spec, datasets.locate(spec.dataset, input_name=spec.inputs[0].name), store)


def unthrottled():
    """Watch a measurement that nothing throttles."""
    return tuple


class Slowed:
    """A runner that sleeps before every call."""

    def __init__(self, runner, seconds):
        self.runner, self.variant, self.seconds = runner, runner.variant, seconds

    def __call__(self, inputs):
        """Sleep and run."""
        time.sleep(self.seconds)
        return self.runner(inputs)


@pytest.fixture
def keep():
    """What stands for ``record``; ``records`` holds what it was given."""

    def call(value):
        assert isinstance(value, FloorFound)
        call.records.append(value)

    call.records = []
    return call


def test_without_benchmarks_a_variant_is_compared_and_skipped(throughput):
    """Under --benchmark-disable the comparison still counts; nothing is timed, and the skip says by which option."""
    compared, off, samples = (
        [],
        SimpleNamespace(disabled=True),
        Samples({"x": np.ones((3, 1), np.float32)}, None),
    )
    runner = SimpleNamespace(in_batches=lambda inputs, batch: {"y": inputs["x"] * batch})
    with pytest.raises(pytest.skip.Exception, match="benchmarks are off: by --benchmark-disable"):
        throughput.test_throughput(
            chain=None,
            timed_runner=(runner, 0.0),
            samples=samples,
            reference={"y": np.zeros((3, 1))},
            judge_outputs=lambda *given: compared.append(given),
            machine=MACHINE,
            benchmark=off,
            record=None,
            watch_throttling=unthrottled,
            batch=2,
        )
    # The runner that would be timed, three samples and the one that fills the second batch.
    assert [(by, name, outputs["y"].tolist()) for by, _, outputs, _, name in compared] == [
        (runner, "samples", [[2.0]] * 3),
        (runner, "timed samples", [[2.0]]),
    ]


def test_a_slow_engine_misses_its_floor(digits, throughput, keep):
    """The failure says what was measured, its spread, the floor with its reason, the machine, and what throttled it."""

    def throttled():
        return lambda: ("CPU quota, in 3 of 5 periods",)

    record = {}
    with (
        digits.runner(ENGINE, batch_size=128) as runner,
        pytest.raises(pytest.fail.Exception, match="misses its floor") as caught,
    ):
        throughput.check_floors(digits, Slowed(runner, 0.02), digits.samples, 32, MACHINE, record, keep, throttled)
    message = str(caught.value)
    assert message.startswith("digits_vgg: onnx-fp32 at batch 32 over ")
    for words in (r"measured  0\.\d\d times", r"spread    \d\.\d\d to \d\.\d\d \(quartiles of \d+ rounds\)"):
        assert re.search(words, message)
    floor = next(f for f in bundled_floors() if f.model == "digits_vgg" and f"{f} misses" in message)
    assert f"floor     {floor.ratio:.2f} (60 % of the {floor.seen:.2f} seen): {floor.why}" in message
    assert "machine   a machine, 2 cores" in message
    assert "throttled CPU quota, in 3 of 5 periods" in message
    assert record[str(floor)]["ratio"] < floor.ratio
    assert [list(r.throttled) for r in keep.records if r.ratio == str(floor)] == [["CPU quota, in 3 of 5 periods"]]
    assert [(r.ratio, r.held) for r in keep.records if r.ratio == str(floor)] == [(str(floor), False)]


def test_a_sound_engine_keeps_a_floor_of_its_own_file(digits, throughput, keep):
    """Floors in a model's TOML file are checked like the bundled ones, and their ratio is recorded."""
    chain = replace(digits, spec=replace(digits.spec, floors=({**GOOD, "ratio": 0.01},)))
    record = {}
    with chain.runner(ENGINE, batch_size=128) as runner:
        throughput.check_floors(chain, runner, chain.samples, 64, MACHINE, record, keep, unthrottled)
        (measured,) = record.values()
        assert measured["low"] <= measured["ratio"] <= measured["high"]
        assert [(r.floor, r.held) for r in keep.records] == [(0.01, True)]
        slowed = replace(chain, spec=replace(chain.spec, floors=({**GOOD, "ratio": 50, "seen": 50},)))
        with pytest.raises(pytest.fail.Exception, match=GOOD["why"]):
            throughput.check_floors(slowed, Slowed(runner, 0.01), chain.samples, 64, MACHINE, {}, keep, unthrottled)


NOT_APPLIED = {
    "another CPU": ({"cpu": ["avx512_vnni"]}, "the CPU has none of avx512_vnni"),
    "another GPU": ({"device": "NVIDIA H200"}, "it was seen on NVIDIA H200, here is no GPU"),
    "a slow side that is not under test": ({"slow": "onnx-fp64"}, "onnx-fp64 is not under test"),
    "a slow side that cannot run here": ({"slow": "tensorrt-fp32-b1.16.32"}, "tensorrt-fp32-b1.16.32: "),
}


@pytest.mark.parametrize("missing", NOT_APPLIED)
def test_a_floor_is_not_applied_and_says_why(missing, digits, throughput, keep, monkeypatch):
    """Where what a gain rests on, or the slow side, is missing, nothing is measured and the record has the reason."""
    change, reason = NOT_APPLIED[missing]
    # The same on a machine that has a GPU.
    monkeypatch.setattr("engines.formats.tensorrt.packages.unavailable", lambda: "there is no GPU")
    chain = replace(digits, spec=replace(digits.spec, floors=({**GOOD, **change},)))
    record = {}
    with chain.runner(ENGINE, batch_size=128) as runner:
        throughput.check_floors(chain, Slowed(runner, 1.0), chain.samples, 64, MACHINE, record, keep, unthrottled)
    ((floor, said),) = record.items()
    assert floor == f"onnx-fp32 at batch 64 over {change.get('slow', 'onnx-fp32')} at batch 1"
    assert said.startswith(f"not applied: {reason}")
    ((held, told),) = [(r.held, r.reason) for r in keep.records]
    assert held is None
    assert said == f"not applied: {told}"
