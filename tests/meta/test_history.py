"""Two runs compared: planted regressions are found, repeated sound runs pass, and other files are refused."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from commands.__main__ import main
from conformance import timing
from conformance.compare import ANY
from conformance.history.compare import compare_results
from conformance.history.engine import FormatFacts
from conformance.history.environment import MARGIN, MARGIN_OF_RATIOS, Basis
from conformance.history.files import HistoryError, read_results
from conformance.history.finding import IMPROVEMENT, NOTE, REGRESSION
from conformance.history.speed import compare_speeds, read_speeds, together
from conformance.history.statistics import holm, rank_test, share_bound, sign_test
from conformance.report.document import SCHEMA_VERSION
from fixtures.chain import artifact_folder
from tests.meta.apart import environment_apart
from tests.meta.few import few

ROOT = Path(__file__).resolve().parent.parent.parent
VARIANTS = ("savedmodel-fp32", "onnx-fp32", "onnx-fp16", "onnx-int8", "tflite-fp32", "tflite-int8")
BATCHES = (1, 32, 64, 128)


def rounds(batch, factor=1.0, count=40, seed=0):
    """Seconds of rounds that scatter by a few per cent, with a heavy tail."""
    generator = np.random.default_rng([seed, batch])
    noise = np.exp(generator.normal(0, 0.02, count)) + 0.05 * generator.pareto(3, count)
    return (1e-5 * batch * factor * noise).tolist()


def results():
    """Results of a run that passed, as pytest --report writes them: one model, six variants."""
    names = [{"model": "m", "variant": v} for v in VARIANTS]
    counts = {"failed": 0, "skipped": 0, "xfailed": 0}
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": {"status": "passed", "complete": True, "sentences": ["All passed."]},
        "command": "pytest",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 10.0,
        "exit_code": 0,
        "tests": {**counts, "collected": 60, "passed": 60, "xpassed": 0, "deselected": 0, "not_run": 0},
        "environment": {
            "host": "h",
            "system": "Linux",
            "cpu": "a CPU",
            "cores": 2,
            "python": "3.11.7",
            "packages": {"tensorflow": "2.21.0", "onnxruntime": "1.31.1"},
            "engines": [],
            "gpu": None,
        },
        "models": [
            {
                "name": "m",
                "description": "a model",
                "reference": "savedmodel-fp32",
                "data": {"source": "CIFAR-10", "samples": 100, "labelled": True},
                "reference_accuracy": {"correct": 8878, "samples": 10_000},
            }
        ],
        "variants": [
            {
                **name,
                "format": name["variant"].split("-")[0],
                "precision": name["variant"].split("-")[1],
                "profile": None,
                "verdict": "passed",
                "reason": None,
                "usage": 0.3,
                "checks": {"consistency": {**counts, "passed": 6}, "accuracy": {**counts, "passed": 2}},
            }
            for name in names
        ],
        "artifacts": [
            {
                **name,
                "sha256": "0" * 64,
                "bytes": 100_000,
                "files": {},
                "build_seconds": 1.0,
                "built": "2026-01-01T00:00:00",
                "made_from": {},
                "tools": {},
            }
            for name in names
        ],
        "comparisons": [
            {
                **name,
                "inputs": inputs,
                "samples": 100,
                "figures": {"max": [1e-3, 1e-2], "mean": [1e-5, 1e-4], "kl": [1e-7, 1e-6], "flips": [0.01, 0.04]},
                "flips": 1,
                "usage": 0.25,
                "passed": True,
                "problems": [],
            }
            for name in names
            for inputs in ("samples", "contrast")
        ],
        "batching": [{**name, "largest": 0.0, "allowed": 1e-6, "problems": [], "passed": True} for name in names],
        "accuracy": [
            {
                **name,
                "samples": 10_000,
                "correct": 8878,
                "reference_correct": 8878,
                "allowed_drop": 50,
                "least": 1100,
                "passed": True,
            }
            for name in names
        ],
        "benchmarks": [
            {
                **name,
                "batch": batch,
                "samples_per_second": 1e5,
                "samples_per_round": batch,
                "rounds_seconds": rounds(batch, seed=index),
                "spread": 0.1,
                "stable": True,
                "p50_ms": 1.0,
                "p99_ms": 2.0,
                "busy_elsewhere": 0.0,
            }
            for index, name in enumerate(names)
            for batch in BATCHES
        ],
        "floors": [],
        "skips": [],
        "known_failures": [],
        "failures": [],
        "pictures": [],
    }


def entries(document, section, variant="onnx-int8"):
    """Entries of a variant in a section, to be changed in place."""
    return [entry for entry in document[section] if entry["variant"] == variant]


def slow_down(document, factor, variant="onnx-int8", batches=BATCHES):
    """Make a variant's rounds take ``factor`` times as long."""
    for entry in entries(document, "benchmarks", variant):
        if entry["batch"] in batches:
            entry["rounds_seconds"] = [seconds * factor for seconds in entry["rounds_seconds"]]


def slowed(document, factor, batches=BATCHES):
    """Results with INT8 slower, and all others as they are."""
    benchmarks = [dict(entry) for entry in document["benchmarks"]]
    changed = {**document, "benchmarks": benchmarks}
    slow_down(changed, factor, batches=batches)
    return changed


def lose(document, count, variant="onnx-int8"):
    entries(document, "accuracy", variant)[0]["correct"] -= count


def lose_everywhere(document, count):
    document["models"][0]["reference_accuracy"]["correct"] -= count
    for entry in document["accuracy"]:
        entry["correct"] -= count
        entry["reference_correct"] -= count


def grow(document, factor, variant="onnx-int8"):
    entries(document, "artifacts", variant)[0]["bytes"] = round(100_000 * factor)


def need(document, figure, needed, variant="onnx-int8"):
    entries(document, "comparisons", variant)[0]["figures"][figure][0] = needed


def flip(document, count, variant="onnx-int8"):
    entries(document, "comparisons", variant)[0]["flips"] = count


def unbatch(document, largest):
    entries(document, "batching")[0]["largest"] = largest


def skip(document, reason="onnx: not installed", variant="onnx-int8"):
    entry = entries(document, "variants", variant)[0]
    entry.update(verdict="skipped", reason=reason)
    for check in entry["checks"].values():
        check["skipped"], check["passed"] = check["passed"], 0
    document["skips"].append({"model": "m", "variant": variant, "reason": reason, "tests": 8})
    for section in ("accuracy", "comparisons", "batching", "benchmarks", "artifacts"):
        document[section] = [entry for entry in document[section] if entry["variant"] != variant]


def fail(document, test="tests/test_consistency.py::test_agrees[m-onnx-int8]"):
    failure = {"test": test, "model": "m", "variant": "onnx-int8", "phase": "call", "summary": "differs by 0.5"}
    document["failures"].append({**failure, "likely": None, "message": "differs by 0.5", "replay": f"pytest {test}"})
    document["verdict"]["status"] = "failed"
    entries(document, "variants")[0]["verdict"] = "failed"


def leave_unjudged(document, variant="onnx-int8"):
    entry = entries(document, "variants", variant)[0]
    entry.update(verdict="not judged", reason="tf2onnx does not know Lgamma")
    for check in entry["checks"].values():
        check["not_judged"], check["passed"] = check["passed"], 0
    reason = {"model": "m", "variant": variant, "reason": entry["reason"]}
    document["not_judged"] = [{**reason, "tests": 8}]
    for section in ("accuracy", "comparisons", "batching", "benchmarks", "artifacts"):
        document[section] = [entry for entry in document[section] if entry["variant"] != variant]


def fail_to_build(document):
    leave_unjudged(document)
    entries(document, "variants")[0].update(verdict="failed", reason=None)
    fail(document, "tests/test_consistency.py::test_builds[m-onnx-int8]")
    document["failures"][0]["unusable"] = "built"


def know(document):
    test = "tests/test_consistency.py::test_agrees[m-onnx-int8]"
    known = {"test": test, "model": "m", "variant": "onnx-int8", "reason": "issue 1", "outcome": "failed as known"}
    document["known_failures"].append(known)


def drop_variant(document, variant="onnx-int8"):
    for section in ("variants", "accuracy", "comparisons", "batching", "benchmarks", "artifacts"):
        document[section] = [entry for entry in document[section] if entry["variant"] != variant]


def drop_tests(document):
    entries(document, "variants")[0]["checks"]["consistency"]["passed"] -= 1


def drop_batch(document):
    document["benchmarks"] = [e for e in document["benchmarks"] if (e["variant"], e["batch"]) != ("onnx-int8", 128)]


WORSE = {
    "20 per cent slower": (lambda d: slow_down(d, 1.2), "slower"),
    "one point of accuracy on 10,000 samples": (lambda d: lose(d, 100), "less accurate"),
    "one point of the reference's accuracy": (lambda d: lose_everywhere(d, 100), "less accurate"),
    "a file 10 per cent larger": (lambda d: grow(d, 1.1), "larger"),
    "differences three times as large": (lambda d: need(d, "max", 3.1e-3), "less accurate"),
    "differences that are not finite": (lambda d: need(d, "kl", None), "less accurate"),
    "eight flips for one": (lambda d: flip(d, 12), "more flips"),
    "batching no longer bitwise": (lambda d: unbatch(d, 5e-7), "less accurate"),
    "batches that cannot be compared": (lambda d: unbatch(d, None), "less accurate"),
    "a variant skipped": (skip, "newly skipped"),
    "a test failing": (fail, "newly failing"),
    "a variant not judged": (leave_unjudged, "newly not judged"),
    "a variant that is not built, all that hangs on it left out": (fail_to_build, "newly failing"),
    "a test declared a known failure": (know, "newly a known failure"),
    "a variant gone": (drop_variant, "missing"),
    "a test gone": (drop_tests, "missing"),
    "a measurement gone": (drop_batch, "missing"),
}


@pytest.mark.parametrize("fault", WORSE)
def test_a_planted_regression_is_found(fault):
    """Each fault is a regression of the variant it was planted in, of the right kind, and of nothing else."""
    plant, what = WORSE[fault]
    old, new = results(), results()
    plant(new)
    difference = compare_results([old], [new])
    found = difference.of(REGRESSION)
    assert {f.what for f in found} == {what}
    assert {f.subject for f in found} == {"m-savedmodel-fp32" if "reference" in fault else "m-onnx-int8"}
    assert difference.regressed


@pytest.mark.parametrize(
    "fault",
    [name for name, (_, what) in WORSE.items() if what in {"slower", "larger", "newly failing", "newly not judged"}],
)
def test_the_reverse_of_a_regression_is_better(fault):
    """What is a regression one way is an improvement the other way, and does not fail."""
    plant, _ = WORSE[fault]
    old, new = results(), results()
    plant(old)
    difference = compare_results([old], [new])
    assert not difference.regressed
    assert {f.subject for f in difference.of(IMPROVEMENT)} == {"m-onnx-int8"}


def skip_by_option(document):
    reason = "Skipping non-benchmark (--benchmark-only active)."
    document["skips"] += [{"model": "m", "variant": v, "reason": reason, "tests": 8} for v in VARIANTS]
    document["accuracy"], document["batching"] = [], []


SOUND = {
    "the same again": lambda d: None,
    "4 per cent slower": lambda d: slow_down(d, 1.04),
    "slower at one batch, as if disturbed": lambda d: slow_down(d, 1.9, batches=(64,)),
    "slower at two batches": lambda d: slow_down(d, 1.9, batches=(64, 128)),
    "two samples lost": lambda d: lose(d, 2),
    "a tenth of a point lost": lambda d: lose(d, 10),
    "a file 4 per cent larger": lambda d: grow(d, 1.04),
    "differences larger, within a quarter of the tolerance": lambda d: need(d, "max", 2.4e-3),
    "a few more flips": lambda d: flip(d, 4),
    "told to run benchmarks only": skip_by_option,
}


@pytest.mark.parametrize("change", SOUND)
def test_what_is_sound_passes(change):
    """Changes within the noise, or that the run was told to make, are no regressions."""
    old, new = results(), results()
    SOUND[change](new)
    difference = compare_results([old], [new])
    assert [f for f in difference.findings if f.kind == REGRESSION] == []


@pytest.mark.parametrize("batches", [(128,), (64, 128)])
def test_a_slowdown_of_few_batches_is_named_and_a_second_report_proves_two(batches):
    """One or two slow measurements are a suspicion that is noted; a second report that has two is proof."""
    old, new = results(), results()
    slow_down(new, 1.3, batches=batches)
    slow_down(new, 1.09, batches=[b for b in BATCHES if b not in batches])
    suspicion = compare_results([old], [new])
    assert [f.what for f in suspicion.findings] == ["perhaps slower"]
    again = compare_results([old], [new, copy.deepcopy(new)])
    assert again.regressed is (len(batches) > 1)
    assert not compare_results([old], [new, results()]).regressed


@pytest.mark.parametrize(
    ("factor", "batches", "busy", "regressed"),
    [
        (3.0, (1, 32, 64), 0.0, True),
        (10.0, (1,), 0.0, True),
        (2.4, (1,), 0.0, False),
        (6.0, (1,), 1.0, True),
        (4.0, (1,), 1.0, False),
    ],
)
def test_more_than_any_disturbance_takes_needs_no_other_batch(factor, batches, busy, regressed):
    """Beyond 2.5 times what others explain, batches that are as fast as before excuse nothing; within, they do."""
    old, new = results(), results()
    slow_down(new, factor, batches=batches)
    for entry in new["benchmarks"]:
        entry["busy_elsewhere"] = busy
    difference = compare_results([old], [new])
    assert {(f.what, f.subject) for f in difference.findings if "slower" in f.what} == {
        ("slower" if regressed else "perhaps slower", "m-onnx-int8")
    }
    assert difference.regressed is regressed
    said = {"more than disturbance explains, whatever the others say" in f.why for f in difference.of(REGRESSION)}
    assert said == ({True} if regressed else set())


def test_losing_ten_times_at_one_batch_is_found_across_machines():
    """A ratio has the disturbances of both its engines: four times at one batch is none, ten times is a loss."""
    old, new = results(), results()
    move(new, cpu="another CPU")
    slow_down(new, 4.0, batches=(1,))
    assert not compare_results([old], [new]).regressed
    assert not compare_results([old] * 4, [new] * 4).regressed
    slow_down(new, 2.5, batches=(1,))
    found = compare_results([old], [new]).of(REGRESSION)
    assert [(f.what, f.subject) for f in found] == [("slower", "m-onnx-int8")]


def test_many_reports_judge_each_batch_alone():
    """A slowdown of one batch counts where each of four reports shows it against each of four old ones, and is told."""
    old, new = results(), results()
    slow_down(new, 1.5, batches=(1,))
    assert compare_results([old] * 4, [new] * 4).regressed
    for before, after in (([old] * 3, [new] * 4), ([old] * 4, [new] * 3), ([old] * 4, [new] * 3 + [old])):
        assert not compare_results(before, after).regressed
    # One of the old runs was disturbed there as much.
    difference = compare_results([old] * 3 + [new], [new] * 4)
    assert not difference.regressed
    assert [(f.what, f.subject) for f in difference.findings] == [("perhaps slower", "m-onnx-int8")]
    assert "where each of 4 reports is slower than each of 4 old ones" in difference.findings[0].why


def test_reports_that_lack_a_measurement_do_not_confirm_it():
    """Two slow batches of one report are a suspicion, whatever other reports of the state say of other batches."""
    old, new = results(), results()
    slow_down(new, 1.3, batches=(64, 128))
    slow_down(new, 1.09, batches=(1, 32))
    other = copy.deepcopy(new)
    assert compare_results([old], [new, other]).regressed
    other["benchmarks"] = [entry for entry in other["benchmarks"] if entry["batch"] != 64]
    assert not compare_results([old], [new, other]).regressed


def test_a_slower_machine_is_not_the_engines_fault():
    """Where the SavedModel is slower too, by as much, that is said; and an engine that lost more is still found."""
    old, new = results(), results()
    for variant in VARIANTS:
        slow_down(new, 1.8, variant)
    difference = compare_results([old], [new])
    assert not difference.regressed
    assert [f.what for f in difference.of(NOTE)] == ["slower machine"]
    slow_down(new, 1.9)
    assert [(f.what, f.subject) for f in compare_results([old], [new]).of(REGRESSION)] == [("slower", "m-onnx-int8")]


TOOK = {"savedmodel-fp32": 2.18, "onnx-fp32": 1.04, "onnx-fp16": 1.0, "onnx-int8": 0.97, "tflite-int8": 1.02}
"""How many times as long variants of digits_vgg took in one of two real runs of the same state."""


@pytest.mark.parametrize("took", [{"savedmodel-fp32": 2.0}, TOOK], ids=["SavedModel twice", "a real run"])
def test_a_slower_savedmodel_alone_is_no_slower_machine(took):
    """Where the others kept their times TensorFlow was slower: that is said, and nothing is faster or slower."""
    old, new = results(), results()
    for variant, factor in took.items():
        slow_down(new, factor, variant)
    found = compare_results([old], [new]).findings
    assert [(f.kind, f.what, f.subject) for f in found] == [(NOTE, "slower reference", "m-savedmodel-fp32")]
    found = compare_results([new], [old]).findings
    assert [(f.kind, f.what, f.subject) for f in found] == [(NOTE, "faster reference", "m-savedmodel-fp32")]


@pytest.mark.parametrize("factor", [1.2, 3.0])
def test_a_slower_savedmodel_alone_excuses_nothing(factor):
    """A variant that lost its speed in a run in which TensorFlow was slower, too, is found as in any other."""
    old, new = results(), results()
    slow_down(new, 2.0, "savedmodel-fp32")
    slow_down(new, factor)
    found = compare_results([old], [new])
    assert [(f.what, f.subject) for f in found.of(REGRESSION)] == [("slower", "m-onnx-int8")]
    assert {f.what for f in found.findings} == {"slower", "slower reference"}


def test_what_lost_more_than_a_slower_machine_is_listed():
    """Where half of the others are slower with the SavedModel, what lost more than that is a suspicion, not silence."""
    old, new = results(), results()
    slow_down(new, 2.0, "savedmodel-fp32")
    for variant in ("onnx-fp32", "onnx-fp16", "onnx-int8"):
        slow_down(new, 3.0, variant)
    difference = compare_results([old], [new])
    assert [(f.what, f.subject) for f in difference.findings] == [
        ("slower machine", "m-savedmodel-fp32"),
        *(("perhaps slower", f"m-onnx-{precision}") for precision in ("fp32", "fp16", "int8")),
    ]
    assert all(took in difference.findings[0].why for took in ("onnx-int8 3.00", "tflite-fp32 1.00"))
    assert {f.kind for f in difference.findings} == {NOTE}


@pytest.mark.parametrize("factor", [1.4, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_slower_machine_that_slows_engines_differently_raises_no_alarm(factor, seed):
    """Everything takes longer, each variant by up to 15 % more or less: that is the machine, and it is said."""
    old, new = results(), results()
    generator = np.random.default_rng(seed)
    for variant in VARIANTS:
        slow_down(new, factor * generator.uniform(0.85, 1.15), variant)
    difference = compare_results([old], [new])
    assert not {f.what for f in difference.findings} & {"slower", "faster"}
    assert "slower machine" in {f.what for f in difference.of(NOTE)}


def test_faster_on_a_slower_machine_is_what_took_less_time():
    """What kept its times while all others lost them is not faster; what took less time is."""
    old, new = results(), results()
    for variant in VARIANTS:
        slow_down(new, 1.0 if variant == "tflite-int8" else 0.8 if variant == "onnx-int8" else 2.0, variant)
    found = compare_results([old], [new]).of(IMPROVEMENT)
    assert [(f.what, f.subject) for f in found] == [("faster", "m-onnx-int8")]
    assert "slower machine" not in found[0].old


UNSURE = {
    "all others": (("onnx-fp32", "onnx-fp16", "onnx-int8", "tflite-fp32", "tflite-int8"), VARIANTS, False),
    "one engine": (("onnx-fp32", "onnx-fp16", "onnx-int8"), VARIANTS, True),
    "both others": (("onnx-fp16", "onnx-int8"), ("savedmodel-fp32", "onnx-fp16", "onnx-int8"), True),
}


@pytest.mark.parametrize("what", UNSURE)
def test_a_savedmodel_that_is_not_surely_slower_needs_nearly_all_others(what):
    """As a disturbed one looks, slower but at one batch size: three quarters of the others, and three, have to be."""
    slower, measured, regressed = UNSURE[what]
    old, new = results(), results()
    slow_down(new, 1.5, "savedmodel-fp32", batches=(32, 64, 128))
    for variant in slower:
        slow_down(new, 1.3, variant)
    for document in (old, new):
        document["benchmarks"] = [entry for entry in document["benchmarks"] if entry["variant"] in measured]
    difference = compare_results([old], [new])
    assert difference.regressed is regressed
    assert ("slower machine" in {f.what for f in difference.findings}) is not regressed


def test_what_others_took_excuses_as_much_and_no_more():
    """A core taken by others explains that calls take twice as long, but not three times; and it is said."""
    old, new = results(), results()
    for entry in new["benchmarks"]:
        entry["busy_elsewhere"] = 1.0
    slow_down(new, 1.9)
    difference = compare_results([old], [new])
    assert not difference.regressed
    assert ("speed not judged", "m-onnx-int8") in {(f.what, f.subject) for f in difference.of(NOTE)}
    slow_down(new, 1.5)
    assert [(f.what, f.subject) for f in compare_results([old], [new]).of(REGRESSION)] == [("slower", "m-onnx-int8")]


def throttle(document, batches=BATCHES, variant="onnx-int8"):
    """Have a variant's measurements throttled."""
    for entry in entries(document, "benchmarks", variant):
        if entry["batch"] in batches:
            entry["throttled"] = ["CPU quota, in 3 of 5 periods"]


@pytest.mark.parametrize("which", ["old", "new"])
def test_what_was_throttled_is_no_baseline_and_no_regression_and_is_noted(which):
    """Twice as long is not judged where either run was throttled; a note says at which batches, and by what."""
    states = {"old": results(), "new": results()}
    slow_down(states[which], 2.0)
    throttle(states[which])
    difference = compare_results([states["old"]], [states["new"]])
    assert not difference.regressed
    found = [f for f in difference.findings if f.subject == "m-onnx-int8"]
    assert [(f.kind, f.what) for f in found] == [(NOTE, "throttled")]
    batches = f"batch {', '.join(map(str, BATCHES))} (CPU quota)"
    assert (found[0].old, found[0].new) == ((batches, "") if which == "old" else ("", batches))


def test_throttling_hides_neither_other_batches_nor_other_reports():
    """Three batches that were not throttled still fail what is slower, and so does a second report that was not."""
    old, new = results(), results()
    slow_down(new, 2.0)
    throttle(new, BATCHES[:1])
    assert [f.what for f in compare_results([old], [new]).of(REGRESSION)] == ["slower"]
    throttle(new)
    second = slowed(results(), 2.0)
    assert compare_results([old], [new]).of(REGRESSION) == ()
    assert [f.what for f in compare_results([old], [new, second]).of(REGRESSION)] == ["slower"]


def move(document, **changes):
    """Measure on another machine: everything is 2.5 times as fast."""
    for key, value in changes.items():
        document["environment"][key] = value
    for variant in VARIANTS:
        slow_down(document, 0.4, variant)


ELSEWHERE = {
    "another CPU": {"cpu": "another CPU"},
    "more cores": {"cores": 64},
    "another GPU": {"gpu": {"name": "NVIDIA H200", "compute_capability": "9.0", "driver": "1", "memory_bytes": 1}},
    "another Python": {"python": "3.12.1"},
    "another ONNX Runtime": {"packages": {"tensorflow": "2.21.0", "onnxruntime": "1.32.0"}},
    "another TensorFlow": {"packages": {"tensorflow": "2.22.0", "onnxruntime": "1.31.1"}},
}


@pytest.mark.parametrize("where", ELSEWHERE)
def test_across_machines_ratios_are_compared(where):
    """On another machine samples/s say nothing, and an engine that lost its speed-up is found; both are said."""
    old, new = results(), results()
    move(new, **ELSEWHERE[where])
    difference = compare_results([old], [new])
    assert difference.findings == ()
    assert "no samples/s" in difference.basis.describe()
    slow_down(new, 2.0)
    found = compare_results([old], [new]).of(REGRESSION)
    assert [(f.what, f.subject) for f in found] == [("slower", "m-onnx-int8")]
    assert "times the samples/s of " in found[0].old


def test_across_machines_losing_what_batches_gain_is_found():
    """Where batches no longer gain over single samples, FP32 of an engine is slower though nothing else relates it."""
    old, new = results(), results()
    move(new, cpu="another CPU")
    for document in (old, new):
        document["benchmarks"] = entries(document, "benchmarks", "onnx-fp32")
    slow_down(new, 2.5, "onnx-fp32", batches=(32, 64, 128))
    found = compare_results([old], [new]).of(REGRESSION)
    assert [f.what for f in found if "single samples" in f.old] == ["slower"]


WIDENED = {
    "a figure": (lambda d: entries(d, "comparisons")[0]["figures"]["max"], 3.1e-3, "max on samples 1.0e-02 → 4.0e-02"),
    "batching": (lambda d: entries(d, "batching")[0], 5e-7, "batching 1.0e-06 → 4.0e-06"),
}


@pytest.mark.parametrize("what", WIDENED)
def test_a_wider_tolerance_hides_no_loss_and_is_noted(what):
    """What grew is judged by the narrower tolerance of both runs; that more is allowed now is said in any case."""
    place, worse, said = WIDENED[what]
    needed, allowed = ("largest", "allowed") if what == "batching" else (0, 1)
    old, new = results(), results()
    place(new)[allowed] *= 4
    difference = compare_results([old], [new])
    assert [(f.kind, f.what, f.subject, f.change) for f in difference.findings] == [
        (NOTE, "wider tolerance", "m-onnx-int8", said)
    ]
    place(new)[needed] = worse
    assert [(f.what, f.subject) for f in compare_results([old], [new]).of(REGRESSION)] == [
        ("less accurate", "m-onnx-int8")
    ]
    assert "wider tolerance" not in {f.what for f in compare_results([new], [old]).findings}


NOT_JUDGED = {
    "anything finite": ("max", 3.9, ANY, "max on samples 3.9e+00 → not judged"),
    "every class changed": ("flips", 0.04, 1.0, "flips on samples 4.0e-02 → not judged"),
    "neither before": ("flips", 1.0, ANY, None),
    "not before": ("max", ANY, 3.9, None),
}


@pytest.mark.parametrize("what", NOT_JUDGED)
def test_what_is_not_judged_has_no_tolerance(what):
    """Where anything is allowed the note says so, not by which number; and only where it was not so before."""
    figure, before, after, said = NOT_JUDGED[what]
    old, new = results(), results()
    for document, allowed in ((old, before), (new, after)):
        entries(document, "comparisons")[0]["figures"][figure][1] = allowed
    found = compare_results([old], [new]).findings
    assert [(f.what, f.change) for f in found] == ([("wider tolerance", said)] if said else [])


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        (0.9, "9000% of the tolerance"),
        (1.1, "more than 100 times the tolerance"),
        (1.8e7, "more than 100 times the tolerance"),
        (None, "more than 100 times the tolerance"),
    ],
)
def test_how_far_beyond_its_tolerance_a_broken_run_is_has_an_end(needed, said):
    """Of outputs that have nothing to do with the reference's, the share of the tolerance is not spelled out."""
    old, new = results(), results()
    need(new, "max", needed)
    assert [f"and {said} (" in f.why for f in compare_results([old], [new]).of(REGRESSION)] == [True]
    assert [f"and {said} (" in f.why for f in compare_results([new], [old]).of(IMPROVEMENT)] == [True]


FORMATS = {name: FormatFacts(device_bound=True) for name in ("tensorrt", "tensorrt-vc", "cpp8", "cpp10")}


def become(document, variant, format_, precision, profile=None):
    """Make another engine of a variant, in every section."""
    name = f"{format_}-{precision}{f'-b{profile}' if profile else ''}"
    for entry in entries(document, "variants", variant):
        entry.update(format=format_, precision=precision, profile=profile)
    for section in ("variants", "accuracy", "comparisons", "batching", "benchmarks", "artifacts"):
        for entry in entries(document, section, variant):
            entry["variant"] = name


def on_gpus(*names):
    """Make results of a machine with each GPU; of the same speed."""
    made = [results() for _ in names]
    for document, name in zip(made, names, strict=True):
        document["environment"]["gpu"] = {"name": name, "compute_capability": None, "driver": "1", "memory_bytes": None}
    return made


def test_plans_for_another_gpu_may_be_larger():
    """A TensorRT plan is made for one GPU: on another its size is only noted."""
    old, new = on_gpus("NVIDIA H200", "NVIDIA L4")
    for document in (old, new):
        become(document, "onnx-int8", "tensorrt", "fp16", "1.16.32")
    grow(new, 2, "tensorrt-fp16-b1.16.32")
    difference = compare_results([old], [new], formats=FORMATS)
    assert [f.what for f in difference.findings] == ["larger"]
    assert not difference.regressed


PROGRAMS = [("tensorrt-vc", "fp16"), ("cpp8", "int8+fp16"), ("cpp10", "int8-qdq")]


@pytest.mark.parametrize(("format_", "precision"), PROGRAMS)
def test_what_is_made_for_another_gpu_may_be_larger_whatever_runs_it(format_, precision):
    """The plans of C++ programs, and those for several versions, are made for one GPU as TensorRT's own are."""
    old, new = on_gpus("NVIDIA H200", "NVIDIA L4")
    for document in (old, new):
        become(document, "onnx-int8", format_, precision, "1.16.32")
    grow(new, 2, f"{format_}-{precision}-b1.16.32")
    difference = compare_results([old], [new], formats=FORMATS)
    assert [(f.kind, f.what, f.why) for f in difference.findings] == [
        (NOTE, "larger", "made for another GPU (NVIDIA H200 → NVIDIA L4)")
    ]


@pytest.mark.parametrize("why", ["an ONNX file", "the same GPU", "nothing known of the format"])
def test_what_another_gpu_does_not_explain_is_no_note(why):
    """A file that no GPU is built into, a plan of the same GPU, and a format of which nothing is known have grown."""
    old, new = on_gpus("NVIDIA H200", "NVIDIA H200" if why == "the same GPU" else "NVIDIA L4")
    for document in (old, new):
        become(document, "onnx-int8", *(("onnx", "fp16+x") if why == "an ONNX file" else ("cpp8", "fp16", "1.16.32")))
    grow(new, 2, "onnx-fp16+x" if why == "an ONNX file" else "cpp8-fp16-b1.16.32")
    formats = {} if why == "nothing known of the format" else FORMATS
    assert [f.what for f in compare_results([old], [new], formats=formats).of(REGRESSION)] == ["larger"]


BOTH = {"onnx-fp32": ("tensorrt", "fp32"), "tflite-fp32": ("tensorrt-vc", "fp32")}
RELATED = {
    "for several versions": (BOTH, ("tensorrt-vc", "fp16"), "tensorrt-vc-fp32"),
    "TensorRT's own beside it": (BOTH, ("tensorrt", "fp16"), "tensorrt-fp32"),
    "nothing else": ({"tflite-fp32": ("tensorrt-vc", "fp32")}, ("tensorrt-vc", "fp16"), "tensorrt-vc-fp32"),
    "a precision of two words": (
        {"onnx-fp32": ("cpp10", "fp32", "1.16.64"), "tflite-fp32": ("cpp10", "fp32", "1.16.32")},
        ("cpp10", "int8-qdq", "1.16.32"),
        "cpp10-fp32-b1.16.32",
    ),
    "a precision of two parts": (
        {"onnx-fp32": ("cpp10", "fp32", "1.16.64"), "tflite-fp32": ("cpp8", "fp32", "1.16.64")},
        ("cpp8", "int8+fp16", "1.16.64"),
        "cpp8-fp32-b1.16.64",
    ),
}


@pytest.mark.parametrize("what", RELATED)
def test_across_machines_an_engine_is_related_to_fp32_of_its_own_format(what):
    """Not to that of another format whose name begins alike, nor of another batch profile."""
    others, own, related = RELATED[what]
    old, new = results(), results()
    move(new, cpu="another CPU")
    slow_down(new, 2.0)
    for document in (old, new):
        for variant, engine in others.items():
            become(document, variant, *engine)
        become(document, "onnx-int8", *own)
    (found,) = compare_results([old], [new], formats=FORMATS).of(REGRESSION)
    assert (found.what, found.subject) == ("slower", f"m-{own[0]}-{own[1]}{f'-b{own[2]}' if own[2:] else ''}")
    assert f"times the samples/s of {related} at batch" in found.old


@pytest.mark.parametrize("format_", ["tensorrt", "tensorrt-vc", "cpp8", "onnx"])
def test_on_other_hardware_what_is_made_for_a_gpu_is_not_related_to_the_cpu(format_):
    """Without its own FP32 a GPU's engine is related to its single samples alone; one of the CPU to the reference."""
    old, new = results(), results()
    move(new, cpu="another CPU")
    slow_down(new, 2.0)
    for document in (old, new):
        become(document, "onnx-int8", format_, "int8")
        document["benchmarks"] = [e for e in document["benchmarks"] if e["variant"] != "onnx-fp32"]
    found = [f for f in compare_results([old], [new], formats=FORMATS).findings if "speed" not in f.what]
    assert [f.what for f in found] == (["slower"] if format_ == "onnx" else [])


def test_a_measurement_of_no_listed_variant_is_refused():
    """What a report measures or has built, and does not list among its variants, cannot be told: that is an error."""
    for section in ("artifacts", "benchmarks"):
        new = results()
        entries(new, section)[0]["variant"] = "cpp8-fp16"
        with pytest.raises(HistoryError, match=rf"{section}\[\d+\] is of m-cpp8-fp16, .* allowed: "):
            compare_results([results()], [new])


@pytest.mark.parametrize(("lost", "regressed"), [(20, False), (21, True)])
def test_losing_two_in_a_thousand_is_no_regression_however_sure(lost, regressed):
    """Where engines hardly ever flip, a loss of a few samples is no accident, but up to 0.2 % it does not count."""
    old, new = results(), results()
    for document in (old, new):
        for entry in document["comparisons"]:
            entry["samples"] = 10_000
    lose(new, lost)
    assert compare_results([old], [new]).regressed is regressed


def test_other_samples_are_not_compared():
    """Accuracy and differences on other samples are left out, and it is said."""
    old, new = results(), results()
    new["models"][0]["data"]["source"] = "photographs"
    lose(new, 500)
    need(new, "max", 1.0)
    difference = compare_results([old], [new])
    assert [f.what for f in difference.findings] == ["other samples"]


@pytest.mark.parametrize("status", ["failed", "incomplete"])
def test_a_baseline_that_did_not_pass_is_used_and_reported(status):
    """A failed or unfinished baseline is compared with, and the comparison says so."""
    old, new = results(), results()
    if status == "failed":
        fail(old)
        fail(new)
    old["verdict"]["status"] = status
    difference = compare_results([old], [new])
    assert not difference.regressed
    assert f"{status} baseline" in {f.what for f in difference.of(NOTE)}
    grow(new, 1.1)
    assert compare_results([old], [new]).regressed


def test_a_partial_run_is_compared_as_far_as_it_went():
    """What a partial run was not asked for is noted; what it ran is judged, and a variant that is gone is missing."""
    old, new = results(), results()
    drop_tests(new)
    new["accuracy"] = []
    difference = compare_results([old], [new], partial=True)
    assert not difference.regressed
    assert {f.what for f in difference.findings} == {"not selected"}
    grow(new, 1.1)
    drop_variant(new, "tflite-int8")
    found = compare_results([old], [new], partial=True).of(REGRESSION)
    assert {(f.what, f.subject) for f in found} == {("larger", "m-onnx-int8"), ("missing", "m-tflite-int8")}


def without_an_engine(document, tests):
    """Leave a variant that cannot run here ``tests`` tests, all skipped; and the suite's own tests as many."""
    reason = "onnx: not installed"
    skip(document, reason)
    entries(document, "variants")[0]["checks"] = {
        "consistency": {"failed": 0, "xfailed": 0, "passed": 0, "skipped": tests}
    }
    document["skips"] = [{"model": m, "variant": v, "reason": reason, "tests": tests} for m, v in OWNERS]


OWNERS = [("m", "onnx-int8"), (None, None)]


@pytest.mark.parametrize("skipped", [(5, 8), (8, 5)], ids=["more tests", "fewer tests"])
def test_a_run_of_other_tests_skips_other_numbers_of_them(skipped):
    """What never ran on either side is neither newly skipped nor no longer, however many tests each run selected."""
    old, new = results(), results()
    for document, tests in zip((old, new), skipped, strict=True):
        without_an_engine(document, tests)
    assert not {f.what for f in compare_results([old], [new], partial=True).findings} & {
        "newly skipped",
        "no longer skipped",
    }


def test_a_variant_that_cannot_run_any_more_is_found_in_a_partial_run():
    """Of two tests that are left, one was skipped before and both are now: fewer skips than before, one of them new."""
    old, new = results(), results()
    old["skips"] = [{"model": "m", "variant": "onnx-int8", "reason": "no labels", "tests": 4}]
    without_an_engine(new, 2)
    new["skips"] = new["skips"][:1]
    found = compare_results([old], [new], partial=True).of(REGRESSION)
    assert [(f.what, f.subject, f.why) for f in found] == [("newly skipped", "m-onnx-int8", "onnx: not installed")]
    found = compare_results([new], [old], partial=True).of(IMPROVEMENT)
    assert ("no longer skipped", "m-onnx-int8") in {(f.what, f.subject) for f in found}


def test_tests_of_the_suite_itself_that_are_newly_skipped_are_found():
    """They belong to no variant: those of them that ran are what the variants' tests leave of all."""
    old, new = results(), results()
    new["skips"] = [{"model": None, "variant": None, "reason": "no browser", "tests": 3}]
    new["tests"].update(passed=57, skipped=3)
    found = compare_results([old], [new]).of(REGRESSION)
    assert [(f.what, f.subject, f.old, f.new) for f in found] == [
        ("newly skipped", "the suite's own tests", "12 tests ran", "9")
    ]


def test_others_are_watched_on_the_own_cores(tmp_path, monkeypatch):
    """Ticks of other processes on this process' cores count, idle ones, other cores and its own do not."""
    counts = tmp_path / "stat"
    core = min(os.sched_getaffinity(0))
    ticks = os.sysconf("SC_CLK_TCK")

    def write(busy):
        # user nice system idle iowait irq softirq steal guest guest_nice
        own = f"cpu{core} {busy * ticks // 2} 0 {busy * ticks // 4} 999 999 0 0 {busy * ticks // 4} 0 0"
        counts.write_text(f"cpu 1 1 1 1 1 1 1 1 1 1\n{own}\ncpu9999 {busy * 77} 0 0 0 0 0 0 0 0 0\nintr 1\n", "ascii")

    write(1000)
    monkeypatch.setattr(timing, "PROCESSOR_TIMES", counts)
    monkeypatch.setattr(timing.os, "times", lambda: os.times_result((0.0, 0.0, 0.0, 0.0, 0.0)))
    clock = iter([100.0, 100.1, 104.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    busy = timing.watch_others()
    write(1002)
    assert busy() is None
    assert busy() == pytest.approx(0.5)


def test_what_cannot_be_watched_is_not_known(tmp_path, monkeypatch):
    """Where the system counts nothing, nothing is said."""
    monkeypatch.setattr(timing, "PROCESSOR_TIMES", tmp_path / "none")
    assert timing.watch_others()() is None


# The command line.


def written(folder, name, document):
    """Write a document to a file."""
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return str(path)


def edited(*path, to):
    """Results with one value replaced, or removed where ``to`` is ellipsis."""
    document = inner = results()
    for key in path[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return document


def test_results_of_the_first_version_are_read(tmp_path):
    """A baseline from before problems of batching were written down is compared like any other."""
    document = edited("schema_version", to=1)
    for row in document["batching"]:
        del row["problems"]
    assert read_results(Path(written(tmp_path, "old.json", document))) == results()


UNUSABLE = {
    "no JSON": ("{", "is no JSON"),
    "NaN": (json.dumps(edited("seconds", to=math.nan)), "NaN is no number"),
    "lists in lists": ("[" * 100_000, "is no JSON (maximum recursion depth"),
    "lists in lists in a place of text": (
        json.dumps(results()).replace('"pytest"', "[" * 500 + "]" * 500),
        "command is a list of 1; allowed: string",
    ),
    "a list": ("[]", "holds a list; allowed: results of schema_version 1 or 2"),
    "another version": (edited("schema_version", to=3), "schema_version is 3; allowed: results of schema_version 1 or"),
    "no version": (edited("schema_version", to=...), "schema_version is None"),
    "a lacking section": (edited("benchmarks", to=...), "the file lacks 'benchmarks'"),
    "a lacking key": (edited("benchmarks", 3, "batch", to=...), "benchmarks[3] lacks 'batch'"),
    "another type": (edited("benchmarks", 3, "batch", to="32"), 'benchmarks[3].batch is "32"; allowed: integer'),
    "no time": (edited("benchmarks", 0, "rounds_seconds", 0, to=0.0), "rounds_seconds[0] is 0.0; allowed: above 0"),
    "an unknown verdict": (
        edited("variants", 0, "verdict", to="fine"),
        'variants[0].verdict is "fine"; allowed: passed',
    ),
    "another model": (edited("models", 0, "name", to="other"), "the old run tested m, the new one other"),
    "other variants": (edited("variants", to=[]), "none is among those of the new"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_unusable_input_is_refused(what, tmp_path, capsys):
    """Exit code 2, and an error that names the file, what was found and what is allowed; nothing is compared."""
    content, message = UNUSABLE[what]
    old, new = written(tmp_path, "old.json", results()), written(tmp_path, "new.json", content)
    assert main(["diff", old, new]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert message in error
    assert "allowed" in error
    assert "new.json" in error or what in {"another model", "other variants"}


def test_a_missing_file_is_refused(tmp_path, capsys):
    """A file that is not there is named."""
    assert main(["diff", str(tmp_path / "none.json"), str(tmp_path / "none.json")]) == 2
    assert "none.json: cannot be read (No such file or directory)" in capsys.readouterr().err


def test_a_partial_run_may_lack_all_but_variants_of_its_models(tmp_path, capsys):
    """As its help says, `--partial` notes what was left out; a variant that is not even listed fails."""
    with pytest.raises(SystemExit):
        main(["diff", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "a variant that one of its models no longer has is missing nevertheless" in told
    new = results()
    drop_tests(new)
    new["accuracy"] = []
    old = results()
    for document, code in ((new, 0), (copy.deepcopy(new), 1)):
        if code:
            drop_variant(document, "tflite-int8")
        paths = written(tmp_path, "old.json", old), written(tmp_path, "new.json", document)
        assert main(["diff", *paths, "--partial"]) == code
        assert ("m-tflite-int8 missing" in capsys.readouterr().out) is bool(code)


def test_further_reports_are_of_the_same_machine(tmp_path, capsys):
    """Reports of other machines are refused as further runs of one state."""
    first, other = (
        written(tmp_path, "a.json", results()),
        written(tmp_path, "b.json", edited("environment", "cpu", to="x")),
    )
    assert main(["diff", first, first, "--also-new", other]) == 2
    assert "differ in CPU a CPU → x" in capsys.readouterr().err


@pytest.mark.parametrize("format_", ["text", "markdown", "json"])
@pytest.mark.parametrize("regressed", [False, True])
def test_the_exit_code_and_every_format_say_what_regressed(format_, regressed, tmp_path, capsys):
    """0 or 1, and in each format the variant, what, both values and how much."""
    new = results()
    if regressed:
        grow(new, 1.1)
    paths = written(tmp_path, "old.json", results()), written(tmp_path, "new.json", new)
    assert main(["diff", *paths, "--format", format_]) == int(regressed)
    out = capsys.readouterr().out
    assert ("nothing regressed" in out) is not regressed
    if regressed:
        for part in ("m-onnx-int8", "larger", "100,000 bytes", "110,000 bytes", "+10.0%"):
            assert part in out
    if format_ == "json":
        assert json.loads(out)["regressed"] is regressed
    if format_ == "text" and regressed:
        assert (
            "  m-onnx-int8 larger: 100,000 bytes → 110,000 bytes; +10.0%; artifacts may grow by 5%" in out.splitlines()
        )


# The statistics.


def test_the_rank_test_is_exact():
    """The p-value is the share of all orders of the values that are as extreme, counted one by one."""
    high, low = [3.0, 4.5, 6.0], [1.0, 4.0, 5.0, 2.0]
    wins = sum(a > b for a in high for b in low)
    orders = [
        sum(a > b for a in chosen for b in set(range(7)) - set(chosen))
        for chosen in itertools.combinations(range(7), 3)
    ]
    assert rank_test(high, low) == pytest.approx(np.mean([count >= wins for count in orders]))
    assert rank_test(high, high) > 0.5
    assert rank_test([], low) == 1.0
    assert rank_test([2.4, 2.5], [1.0, 1.1], margin=3.0) == 1.0
    assert rank_test([7.0] * 20, [1.0] * 20) == pytest.approx(1 / math.comb(40, 20))


def test_the_sign_test_is_that_of_coins():
    """Losing 3 of 3 is one of eight throws; the more answers differ, the less sure the loss; gains are no loss."""
    assert sign_test(3, 3) == pytest.approx(1 / 8)
    assert sign_test(3, 0) == pytest.approx(1 / 8)
    assert sign_test(2, 4) == pytest.approx(5 / 16)
    assert sign_test(10, 10) < sign_test(10, 100) < sign_test(10, 1000)
    assert sign_test(-5, 10) == 1.0


def test_a_share_is_bounded_as_few_samples_allow():
    """0 of 100 bear up to 3 % (the exact bound is 1 − 0.05^(1/100)); all of them bear everything."""
    assert share_bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100), rel=1e-6)
    assert 0.05 < share_bound(5, 100) < 0.11
    assert share_bound(100, 100) == 1.0


def test_holm_steps_down():
    """The smallest p-value has to beat alpha over all, the next alpha over one fewer, until the first that does not."""
    assert holm([0.04, 0.01, 0.02], 0.05) == [True, True, True]
    assert holm([0.04, 0.02, 0.02], 0.05) == [False, False, False]
    assert holm([0.6, 0.01, 0.03], 0.05) == [False, True, False]
    assert holm([], 0.05) == []


def simulated(generator, recorded=True):
    """Measure all engines once on a shared machine, as 2 cores behaved: drift, heavy tails, disturbed stretches.

    The whole run drifts by up to 4 %, each measurement by 1 %; rounds scatter by 2 %, wander, and one in twenty is much
    longer. Others take a core during one measurement in eight or more, and then often during the next. It takes 1.4 to
    1.9 times as long from beginning to end, or nothing comes of it. Now and then the two threads of ONNX Runtime share
    a core. All batches but the smallest then take 1.2 to 1.7 times as long, and nothing was recorded.
    """
    measured, busy, count = [], False, 100
    drift = np.exp(generator.uniform(-0.02, 0.02))
    for variant in VARIANTS:
        misplaced = generator.uniform(1.2, 1.7) if "onnx" in variant and generator.random() < 0.02 else 1.0
        for batch in BATCHES:
            busy = generator.random() < (0.5 if busy else 0.12 if recorded else 0.04)
            slowed = generator.uniform(1.4, 1.9) if busy and generator.random() < 0.7 else 1.0
            walk = np.cumsum(generator.normal(0, 0.002, count))
            seconds = np.exp(generator.normal(0, 0.02, count) + walk + generator.normal(0, 0.01))
            seconds += (generator.random(count) < 0.05) * generator.pareto(1.5, count)
            taken = 1e-5 * batch * drift * slowed * (misplaced if batch > 1 else 1.0) * seconds
            cores = max(0.0, busy * 1.0 + generator.normal(0, 0.05)) if recorded else None
            entry = {"model": "m", "variant": variant, "batch": batch, "busy_elsewhere": cores}
            measured.append({**entry, "rounds_seconds": taken.tolist()})
    return {"environment": {"cores": 2}, "variants": results()["variants"], "artifacts": [], "benchmarks": measured}


RUNS = 120


@cache
def simulated_runs(recorded=True):
    """Results of :data:`RUNS` simulated runs."""
    generator = np.random.default_rng(20)
    return [simulated(generator, recorded) for _ in range(RUNS)]


@cache
def simulated_speeds(recorded=True, factor=1.0, batches=BATCHES):
    """Measurements of each of those runs; with INT8 ``factor`` times as slow."""
    return [read_speeds(slowed(document, factor, batches)) for document in simulated_runs(recorded)]


def drawn(counts):
    """Draw the reports of two states from the simulated runs, :data:`PAIRS` times: gives their indices."""
    generator = np.random.default_rng(21)
    for _ in range(PAIRS):
        chosen = generator.choice(RUNS, sum(counts), replace=False)
        yield chosen[: counts[0]], chosen[counts[0] :]


def slower_found(old, new, kind="absolute"):
    """Which variants a comparison of speeds alone finds slower."""
    basis = Basis(kind, MARGIN if kind == "absolute" else MARGIN_OF_RATIOS, (), True)
    found = compare_speeds(together(old), together(new), basis, {"m": "savedmodel-fp32"})
    return {f.subject for f in found if f.kind == REGRESSION}


PAIRS = 300


@pytest.mark.parametrize("recorded", [True, False], ids=["others recorded", "others not recorded"])
@pytest.mark.parametrize("kind", ["absolute", "other software", "other hardware"])
@pytest.mark.parametrize(
    "counts", few([(1, 1), (1, 2), (2, 2), (4, 4)], (1, 1)), ids=lambda c: f"{c[0]} and {c[1]} reports"
)
def test_repeated_sound_runs_hardly_ever_seem_slower(counts, kind, recorded):
    """Of 300 simulated comparisons of a state with itself, 1 % alarm at most; 2 % where others are not recorded."""
    runs = simulated_speeds(recorded)
    alarms = [slower_found([runs[i] for i in old], [runs[i] for i in new], kind) for old, new in drawn(counts)]
    assert sum(map(bool, alarms)) <= PAIRS * (0.01 if recorded else 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("reports", [1, 2])
def test_a_slower_machine_hardly_ever_makes_variants_seem_slower(reports):
    """Of 300 simulated comparisons with a machine on which everything takes twice as long, 2 % alarm at most."""
    before = simulated_speeds()
    after = [read_speeds(twice_as_long(document)) for document in simulated_runs()]
    alarms = [slower_found([before[i] for i in old], [after[i] for i in new]) for old, new in drawn((reports, reports))]
    assert sum(map(bool, alarms)) <= PAIRS * 0.02


def twice_as_long(document):
    """Results of a machine on which everything takes twice as long."""
    return {
        **document,
        "benchmarks": [
            {**entry, "rounds_seconds": [2 * seconds for seconds in entry["rounds_seconds"]]}
            for entry in document["benchmarks"]
        ],
    }


@pytest.mark.parametrize(
    ("factor", "batches", "reports", "least"),
    [
        (1.2, BATCHES, 1, 0.5),
        (1.2, BATCHES, 2, 0.9),
        (1.2, BATCHES, 4, 0.97),
        (3.0, (1, 32, 64), 1, 0.97),
        (10.0, (1,), 1, 0.97),
        (1.5, (1,), 4, 0.5),
    ],
)
def test_a_slowdown_is_found_on_a_disturbed_machine(factor, batches, reports, least):
    """Of simulated runs with one engine slower, most are found; of several reports or large ones, nearly all."""
    before, after, found = simulated_speeds(), simulated_speeds(factor=factor, batches=batches), 0
    for old, new in drawn((reports, reports)):
        found += "m-onnx-int8" in slower_found([before[i] for i in old], [after[i] for i in new])
    assert found / PAIRS >= least


# The option.


@pytest.fixture(scope="module")
def run(request):
    """Function that runs a few quick tests in a process of its own, with options."""
    folder = artifact_folder(request.config).resolve()

    def call(*options):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--model=digits_vgg"]
        command += [f"--artifacts={folder}", "tests/test_consistency.py", "tests/test_accuracy.py"]
        command += ["-k", "onnx-fp32 and (agrees or chance) and not drawn", *options]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment_apart())

    return call


@pytest.fixture(scope="module")
def baseline(run, tmp_path_factory):
    """Record a baseline of the quick tests, as a user does."""
    folder = tmp_path_factory.mktemp("baseline")
    done = run(f"--report={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "conformance.json"


@pytest.mark.parametrize("processes", few([(), ("-n", "2")], ()), ids=["one process", "pytest-xdist"])
def test_a_run_is_compared_with_its_baseline(run, baseline, tmp_path, processes):
    """The same run again passes and says it is partial; against a better baseline it fails, with the reason."""
    same = run(f"--baseline={baseline}", *processes)
    assert same.returncode == 0, same.stdout + same.stderr
    assert f"compared with {baseline}" in same.stdout
    assert "nothing regressed" in same.stdout
    assert "a partial run: only what ran is compared" in same.stdout

    better = json.loads(baseline.read_text(encoding="utf-8"))
    artifact = next(a for a in better["artifacts"] if a["variant"] == "onnx-fp32")
    artifact["bytes"] = round(artifact["bytes"] / 1.1)
    path = written(tmp_path, "better.json", better)
    worse = run(f"--baseline={path}", f"--report={tmp_path / 'report'}", *processes)
    assert worse.returncode == pytest.ExitCode.TESTS_FAILED
    assert "digits_vgg-onnx-fp32 larger: " in worse.stdout
    assert "1 larger: the run fails for it" in worse.stdout
    # The report of the run says the same as its exit code.
    assert json.loads((tmp_path / "report" / "conformance.json").read_text(encoding="utf-8"))["exit_code"] == 1


def test_an_unusable_baseline_stops_the_run_at_once(run, tmp_path):
    """A baseline of another version is refused before any test runs."""
    done = run(f"--baseline={written(tmp_path, 'new.json', edited('schema_version', to=3))}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "schema_version is 3; allowed: results of schema_version 1 or 2" in done.stderr
    assert "passed" not in done.stdout


def test_collecting_only_compares_nothing(run, baseline):
    """`--collect-only` runs no tests, so none of them got worse."""
    done = run(f"--baseline={baseline}", "--collect-only")
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    assert "compared with" not in done.stdout


def test_a_baseline_of_another_model_fails_the_run(run, tmp_path):
    """Nothing to compare is an error that names both models, not a pass."""
    done = run(f"--baseline={written(tmp_path, 'other.json', results())}")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "nothing to compare: the old run tested m, the new one digits_vgg" in done.stdout
