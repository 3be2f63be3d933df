"""Documents of runs for the tests of the report: put together here, so that every kind of content is in them."""

from __future__ import annotations

import base64
import copy
import io
import json
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from conformance.cause import Cause
from conformance.compare import Tolerance, compare
from conformance.messages import Context, Difference, explain
from conformance.report.document import SCHEMA_VERSION, any_of
from conformance.report.pictures import picture, with_images
from conformance.report.verdict import verdict

ROOT = Path(__file__).resolve().parents[2]
DEVICE = json.loads((ROOT / "docs" / "results" / "h200.json").read_text(encoding="utf-8"))
"""What was measured on a GPU: its variants, and figures that no CPU run has."""

CPU = ("savedmodel-fp32", "onnx-fp32", "onnx-fp16", "onnx-int8", "tflite-fp32", "tflite-fp16", "tflite-int8")
ROWS = [row for row in DEVICE["rows"] if row["engine"] == "tensorrt" and "failed" not in row]
GPU = tuple(dict.fromkeys(row["variant"] for row in ROWS))
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ALLOWED = 7e-6
NONE = {"passed": 0, "failed": 0, "skipped": 0, "xfailed": 0}


@cache
def image(size=32):
    """Draw noise, which no compression makes small, as a data URI."""
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def outputs(samples=1000, classes=10, seed=0, noise=0.0):
    """Make probabilities of a reference, and the same with noise on the logits."""
    generator = np.random.default_rng(seed)
    logits = 4 * generator.standard_normal((samples, classes))
    made = []
    for values in (logits, logits + noise * generator.standard_normal(logits.shape)):
        exponentials = np.exp(values - values.max(axis=1, keepdims=True))
        made.append((exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32))
    return made


def drawn(noise):
    """Reduce made-up outputs to charts, with images."""
    reference, actual = outputs(noise=noise)
    labels = reference.argmax(axis=1)
    reduced = picture(actual, reference, "probabilities", ALLOWED, CLASSES, labels)
    return with_images(reduced, {w["sample"]: image() for w in reduced["worst"]})


def document(models=("cifar10_vgg",), variants=(*CPU, *GPU), broken="onnx-fp32"):
    """Put together a whole document of a run in which one variant is broken (None: none is)."""
    rows = [(m, v) for m in models for v in variants]
    bad = {(m, v): broken is not None and (m, v) == (models[0], broken) for m, v in rows}
    pictures = {False: drawn(1e-6), True: drawn(2.0)}
    replay = f"pytest 'tests/test_consistency.py::test_agrees[{models[0]}-{broken}]' --model={models[0]}"
    test = f"tests/test_consistency.py::test_agrees[{models[0]}-{broken}]"
    failure = {"test": test, "model": models[0], "variant": broken, "phase": "call", "replay": replay}
    failure |= {"summary": f"{broken} does not give the reference's answers", "likely": "the channels are swapped"}
    failure |= {"message": f"{broken} does not give the reference's answers\n    FAILED max  needed 9e-01"}
    result = {
        "schema_version": SCHEMA_VERSION,
        "verdict": {},
        "command": f"pytest --model={models[0]} --report=out",
        "started": "2026-11-21T01:00:00+00:00",
        "seconds": 132.4,
        "exit_code": int(broken is not None),
        "tests": {"collected": 120, "passed": 108, "failed": int(broken is not None), "skipped": 11 + (broken is None)}
        | {"xfailed": 0, "xpassed": 0, "deselected": 0, "not_run": 0},
        "environment": {
            "host": "somewhere",
            "system": "Linux",
            "cpu": "some CPU",
            "cores": 2,
            "python": "3.11.7",
            "packages": {"numpy": "2.4.6"},
            "engines": [{"format": "onnx", "engine": "ONNX Runtime 1.31.1", "unavailable": None}],
            "gpu": {
                "name": DEVICE["machine"]["GPU"],
                "compute_capability": "9.0",
                "driver": None,
                "memory_bytes": None,
            },
        },
        "models": [
            {
                "name": m,
                "description": "a classifier",
                "reference": "savedmodel-fp32",
                "reference_run_by": "TensorFlow 2.21.0",
                "outputs": [{"name": "dense_1", "kind": "probabilities"}],
                "data": {"source": "some images", "samples": 100, "labelled": True},
                "reference_accuracy": {"correct": 888, "samples": 1000},
            }
            for m in models
        ],
        "variants": [
            {
                "model": m,
                "variant": v,
                "format": v.split("-")[0],
                "precision": "int8-qdq" if "qdq" in v else v.split("-")[1],
                "profile": v.split("-")[-1][1:] if v.split("-")[-1].startswith("b") else None,
                "verdict": "failed" if bad[m, v] else "passed",
                "reason": None,
                "usage": 130381.2 if bad[m, v] else 0.4,
                "supplied": None,
                "checks": {
                    "consistency": NONE | {"passed": 5, "failed": int(bad[m, v])},
                    "batching": NONE | {"passed": 16},
                    "accuracy": NONE | {"passed": 1, "skipped": 1},
                },
            }
            for m, v in rows
        ],
        "artifacts": [
            {
                "model": m,
                "variant": v,
                "sha256": "ab" * 32,
                "bytes": 15_000_000,
                "files": {"model.bin": {"bytes": 15_000_000, "sha256": "cd" * 32}},
                "build_seconds": 3.2,
                "built": "2026-11-21T00:59:00+00:00",
                "made_from": {"savedmodel": "ef" * 32},
                "tools": {"onnx": "1.23.2", "tensorrt": None},
            }
            for m, v in rows
        ],
        "comparisons": [
            {
                "model": m,
                "variant": v,
                "inputs": inputs,
                "samples": 100,
                "figures": {"max": [0.89 if bad[m, v] else 2e-6, ALLOWED], "flips": [0.25 * bad[m, v], 0.01]},
                "flips": 25 * bad[m, v],
                "usage": 130381.2 if bad[m, v] else 0.4,
                "passed": not bad[m, v],
                "problems": [],
                "test": f"tests/test_consistency.py::test_agrees_on_{inputs}[{m}-{v}]",
            }
            for m, v in rows
            for inputs in ("samples", "contrast")
        ],
        "batching": [
            {"model": m, "variant": v, "largest": 0.0, "allowed": 2e-7, "problems": [], "passed": True} for m, v in rows
        ],
        "accuracy": [
            {"model": m, "variant": v, "samples": 1000, "correct": 761 if bad[m, v] else 888, "reference_correct": 888}
            | {"allowed_drop": 5, "least": 141, "passed": not bad[m, v]}
            for m, v in rows
        ],
        "benchmarks": [b for m in models for b in benchmarks(m, variants)],
        "floors": [
            {"model": models[0], "variant": "onnx-int8", "ratio": "onnx-int8 over onnx-fp32", "found": 2.4}
            | {"floor": 1.8, "seen": 3.0, "held": True, "reason": None}
        ],
        "skips": [
            {"model": models[0], "variant": "onnx-int8", "reason": "the quick test has all samples", "tests": 1},
            {"model": None, "variant": None, "reason": "no Chromium", "tests": 2},
        ],
        "known_failures": [
            {"test": "tests/test_x.py::test_y", "model": None, "variant": None, "reason": "known", "outcome": "passed"}
        ],
        "failures": [failure] if broken else [],
        "pictures": [{"model": m, "variant": v, "output": "dense_1", **pictures[bad[m, v]]} for m, v in rows],
    }
    result["verdict"] = verdict(result)
    return result


QUOTA = "CPU quota, in 3 of 5 periods"


def with_meters(made, rows=240, batch=32):
    """Document of a run that was sampled for an hour on two GPUs, one of which fell out; a batch size was throttled."""
    made = copy.deepcopy(made)
    units = {"load": "share", "memory": "bytes", "power": "watts", "clock": "hertz", "temperature": "celsius"}
    columns = [{"name": "processor", "unit": "cores", "of": None}, {"name": "memory", "unit": "bytes", "of": None}]
    columns += [{"name": name, "unit": unit, "of": f"GPU {n}"} for n in range(2) for name, unit in units.items()]
    scales = {"cores": 2.0, "bytes": 3e9, "share": 1.0, "watts": 690.0, "hertz": 1.98e9, "celsius": 71.0}
    generator = np.random.default_rng(0)

    def spread(unit):
        return [float(f"{value:.4g}") for value in np.sort(generator.uniform(0, scales[unit], 3))]

    made["meters"] = {
        "columns": columns,
        "rows": [
            [15.0 * i, 15.0 * (i + 1), ["CPU quota"] if i % 40 == 7 else []]
            + [None if c["of"] == "GPU 1" and i > rows // 2 else spread(c["unit"]) for c in columns]
            for i in range(rows)
        ],
        "measurements": [],
        "gpus": [
            {"name": f"GPU {n}", "model": DEVICE["machine"]["GPU"], "uuid": f"GPU-{n}", "power_limit_watts": 700.0}
            | {"memory_bytes": 150 * 10**9}
            for n in range(2)
        ],
        "problems": ["GPU 1 cannot be read: GPU is lost (not read any more after 1800 s)"],
    }
    for i, row in enumerate(made["benchmarks"]):
        row["throttled"] = [QUOTA] if row["batch"] == batch else []
        span = {"model": row["model"], "variant": row["variant"], "start": 100.0 + 10 * i, "end": 101.5 + 10 * i}
        test = f"tests/test_throughput.py::test_throughput[{row['model']}-{row['variant']}-{row['batch']}]"
        made["meters"]["measurements"].append(span | {"test": test, "throttled": row["throttled"]})
    return made


def with_supplied_file(made, path="/data/classifier v7.onnx", variant="onnx-fp32"):
    """Document with one variant as a user's own file: its artifact is a copy that nobody built."""
    made = copy.deepcopy(made)
    for row in made["variants"]:
        if row["variant"] == variant:
            row["supplied"] = {"option": "--onnx", "path": path, "bytes": 15_000_000, "sha256": "cd" * 32}
    for row in made["artifacts"]:
        if row["variant"] == variant:
            row |= {"made_from": {"file": "cd" * 32}, "tools": {}, "build_seconds": 0.108}
    return made


def with_wrong_answers_everywhere(made, variant="onnx-fp32"):
    """Document in which the speed tests of a variant failed too, before they timed anything."""
    made = copy.deepcopy(made)
    made["benchmarks"] = [b for b in made["benchmarks"] if b["variant"] != variant]
    row = next(v for v in made["variants"] if v["variant"] == variant)
    row["checks"] = {
        "consistency": NONE | {"passed": 3, "failed": 4},
        "batching": NONE | {"passed": 16},
        "accuracy": NONE | {"failed": 2},
        "benchmark": NONE | {"failed": 4},
    }
    made["failures"] = [{**made["failures"][0], "test": f"tests/test_x.py::test_{i}"} for i in range(10)]
    return made


FAILING = [
    *(f"test_consistency.py::test_agrees_with_the_reference_on_{inputs}" for inputs in ("samples", "contrast")),
    *(
        f"test_consistency.py::test_agrees_with_the_reference_on_{inputs}"
        for inputs in ("stored_draws", "drawn_inputs")
    ),
    "test_accuracy.py::test_accuracy_is_kept_and_better_than_chance",
    *["test_throughput.py::test_throughput"] * 4,
]
"""The tests that a variant fails whose answers are wrong: nine, of which four say the same."""


def with_every_variant_broken(made, variant="onnx-fp32"):
    """Document in which every variant is as broken as the one, each with all its messages."""
    made = copy.deepcopy(made)
    own = {"model": made["models"][0]["name"], "variant": variant}
    names = [{"model": v["model"], "variant": v["variant"]} for v in made["variants"]]
    for section in ("comparisons", "accuracy", "pictures"):
        rows = any_of(made[section], own)
        made[section] = [{**row, **name} for name in names for row in rows]
    for row in made["variants"]:
        row |= {"verdict": "failed", "usage": 130381.2}
        row["checks"] |= {"consistency": NONE | {"failed": 4}, "accuracy": NONE | {"failed": 1}}
        row["checks"] |= {"benchmark": NONE | {"failed": 4}}
    made["benchmarks"], made["failures"] = [], []
    reference, actual = outputs(100, noise=2.0)
    tolerance = Tolerance(ALLOWED, 1e-7, 1e-9, ALLOWED, 0.01, 1e-5, "FP32 rounding through 9 layers, " + 80 * "x")
    comparison = compare({"dense_1": actual}, {"dense_1": reference}, tolerance, {"dense_1": "probabilities"})
    for name in names:
        for i, test in enumerate(FAILING):
            case = f"{name['model']}-{name['variant']}" + (f"-{i}" if i > 4 else "")
            replay = f"pytest 'tests/{test}[{case}]' --model={name['model']} --onnx=/data/classifier.onnx"
            kind = test.split("_")[-1] if i < 4 else "samples"
            context = Context(name["model"], name["variant"], "fp32", kind, 32 if i < 4 else 128, CLASSES)
            difference = Difference(
                cause=Cause("the classes are permuted, " + 100 * "x"),
                replay=replay,
                context=context,
                comparison=comparison,
                actual={"dense_1": actual},
                reference={"dense_1": reference},
                tolerance=tolerance,
            )
            message = explain(difference)
            if i == 4:
                message = f"{name['variant']} of {name['model']}: 761 of 1000 right, by the reference 888"
            summary, *_ = message.splitlines()
            failure = {"test": f"tests/{test}[{case}]", **name, "phase": "call", "summary": summary}
            made["failures"].append({**failure, "likely": None, "message": message, "replay": replay})
    made["verdict"] = verdict(made)
    return made


def benchmarks(model, variants):
    """Make a row for each variant and batch; of GPU variants, those that were measured."""
    found = []
    for i, variant in enumerate(v for v in variants if v in CPU):
        for batch in (1, 32, 64, 128):
            rate = 300.0 * (i + 1) * (1 + np.log2(batch) / 8)
            found.append(
                {
                    "model": model,
                    "variant": variant,
                    "batch": batch,
                    "samples_per_second": rate,
                    "spread": 0.3 * (i == 1),
                }
                | {"rounds_seconds": [batch / rate] * 200, "stable": i != 1, "load_seconds": 0.04}
                | {"p50_ms": 1e3 * batch / rate, "p99_ms": 1.2e3 * batch / rate, "rounds": 200, "bytes": 15_000_000}
            )
    for row in ROWS:
        if row["variant"] in variants:
            yardsticks = {name: row[name] for name in ("limit_samples_per_s", "polygraphy_samples_per_s")}
            found.append(
                {"model": model, "variant": row["variant"], "batch": row["batch"], "rounds_seconds": [], "spread": None}
                | {"samples_per_second": row["samples_per_s"], "stable": None, "yardsticks": yardsticks}
                | {k: row[k] for k in ("p50_ms", "p99_ms", "load_seconds", "joules_per_1000_samples")}
                | {"device_memory_bytes": row["device_memory_bytes"]}
            )
    return found
