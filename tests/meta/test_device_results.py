"""Results measured on a GPU: batches, samples, the command and its errors, the page and the floors made from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from commands import device, device_measure
from commands.device_measure import Meter, measure_onnxruntime, measure_tensorrt
from commands.device_page import floor_rows, page, write_floors
from conformance.device_floors import TABLE, read_rows
from engines.chain import Chain
from engines.errors import RunnerError, UnavailableError
from engines.formats.onnx import runner as onnx_runner
from engines.model import datasets
from engines.model.bundled import find_model
from engines.model.spec import BatchProfile
from engines.model.toml import load_model
from engines.variant import Variant
from fixtures.chain import CHAINS
from trial.many import SAMPLES, batches_of, timed_inputs

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "h200.json"


def read(path):
    """Read a file of results."""
    return json.loads(path.read_text(encoding="utf-8"))


BATCHES = {
    "the bundled profiles, the first": ([(1, 16, 32), (1, 64, 128), (1, 1024, 1024)], 0, [1, 32]),
    "the bundled profiles, the second": ([(1, 16, 32), (1, 64, 128), (1, 1024, 1024)], 1, [128]),
    "the bundled profiles, the last": ([(1, 16, 32), (1, 64, 128), (1, 1024, 1024)], 2, [1024]),
    "a small profile": ([(1, 8, 16)], 0, [1, 16]),
    "a profile between two": ([(1, 16, 32), (1, 40, 64)], 1, [64]),
    "single samples only": ([(1, 1, 1)], 0, [1]),
    "no profile of its own": ([(1, 64, 128), (1, 1024, 1024), (1, 16, 32)], None, [1024]),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_every_variant_is_measured_at_a_batch_of_its_own(kind):
    """Each profile is measured at the batches it was made for, at its largest where that is none of the usual ones.

    A variant without one is measured as that of the largest is.
    """
    profiles, which, expected = BATCHES[kind]
    profiles = tuple(BatchProfile(*p) for p in profiles)
    spec = replace(load_model(find_model("cifar10_vgg")), profiles=profiles)
    profile = None if which is None else profiles[which]
    assert batches_of(spec, Variant("tensorrt", "fp32", profile)) == expected


def test_a_plan_is_judged_by_the_row_of_its_precision(monkeypatch, digits):
    """A batch profile has no tolerances of its own: `commands device` judges each plan before it is timed."""

    class Sound:
        """A plan's runner that gives the reference's answers; no GPU is asked."""

        def __init__(self, *given):
            self.settings = {"streams": "1"}

        def __enter__(self):
            return self

        def __exit__(self, *raised):
            pass

        def __call__(self, inputs):
            return digits.reference("samples", inputs)

        def close(self):
            pass

    samples = digits.samples
    chain = SimpleNamespace(
        spec=digits.spec,
        artifact=lambda variant: SimpleNamespace(seconds=1.0, details={"layers": {}, "convolutions": {}}),
        file=lambda variant: RESULTS,
        runner=Sound,
        dataset=SimpleNamespace(test=lambda: samples),
        reference=lambda name, inputs: digits.reference("samples", inputs),
    )
    monkeypatch.setattr(device_measure, "TensorRTRunner", Sound)
    monkeypatch.setattr(device_measure, "_timed", lambda *given: {})
    monkeypatch.setattr(device_measure, "_against_yardsticks", lambda *given: {})
    variant = Variant("tensorrt", "fp16", digits.spec.profiles[0])
    row = next(measure_tensorrt(chain, variant, Meter(lambda: None, lambda: 0)))
    assert (row["variant"], row["tolerances"], "failed" in row) == (str(variant), "tensorrt-fp16", False)


@pytest.mark.parametrize(
    ("given", "batch", "expected"), [(320, 1024, SAMPLES), (12_000, 32, SAMPLES), (7, 4096, 16384)]
)
def test_as_many_samples_are_timed_as_a_batch_needs(given, batch, expected):
    """However few samples there are, several whole batches are timed: the samples over and over."""
    inputs = {"x": np.arange(given, dtype=np.float32)[:, np.newaxis], "y": np.arange(given, dtype=np.float32)}
    timed = timed_inputs(inputs, batch)
    assert {name: len(array) for name, array in timed.items()} == {"x": expected, "y": expected}
    np.testing.assert_array_equal(timed["y"], np.arange(expected) % given)


# The command.


def fresh(**changes):
    """Results without rows."""
    results = {"model": "m", "data": "d", "machine": {"GPU": "g"}, "engines": {}, "rows": []}
    return {**results, **changes}


def test_a_second_run_adds_to_the_file(tmp_path):
    """Rows of the other engine stay; without a file the results are new ones."""
    path = tmp_path / "r.json"
    assert device.started(path, fresh()) == fresh()
    path.write_text(json.dumps(fresh(rows=[{"engine": "tensorrt"}])), encoding="utf-8")
    assert device.started(path, fresh(machine={"GPU": "g", "driver": "2"})) == fresh(
        rows=[{"engine": "tensorrt"}], machine={"GPU": "g", "driver": "2"}
    )


@pytest.mark.parametrize("change", [{"model": "other"}, {"data": "other"}, {"machine": {"GPU": "other"}}])
def test_results_of_something_else_are_not_mixed(tmp_path, change):
    """A file of another model, other data or another GPU is refused with what it has."""
    path = tmp_path / "r.json"
    path.write_text(json.dumps(fresh(**change)), encoding="utf-8")
    with pytest.raises(RunnerError, match=r"'other'.*; allowed: another --output"):
        device.started(path, fresh())


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_a_file_that_is_no_results_is_one_error(tmp_path, capsys, content):
    """No traceback: the file is named, and the exit code is 1."""
    (tmp_path / "r.json").write_text(content, encoding="utf-8")
    assert device.COMMAND.main(["--floors", str(tmp_path / "r.json")]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'r.json'}: ")


def test_without_any_engine_the_reasons_are_given(monkeypatch):
    """Where nothing can use the GPU each engine's reason is in the error; one that was asked for is never left out."""
    monkeypatch.setattr(device, "missing", {"tensorrt": "no plan"}.get)
    assert device.chosen_engines(None) == ["onnxruntime"]
    for asked in ("tensorrt", "all"):
        with pytest.raises(UnavailableError, match="tensorrt: no plan"):
            device.chosen_engines(asked)
    monkeypatch.setattr(device, "missing", lambda engine: f"no {engine}")
    with pytest.raises(UnavailableError, match="tensorrt: no tensorrt; onnxruntime: no onnxruntime"):
        device.chosen_engines(None)


def test_floors_are_written_from_results(tmp_path):
    """New figures replace those of their device and model; the comment and the other rows stay as they are."""
    path, table, results = tmp_path / "r.json", tmp_path / "floors.toml", read(RESULTS)
    table.write_text(TABLE.read_text(encoding="utf-8"), encoding="utf-8")
    results["rows"][1]["samples_per_s"] = 123456.7
    write_floors(results, path, table)
    before, after = read_rows(), read_rows(table)
    assert after[0] == {**before[0], "source": str(path), "samples_per_s": 123457}
    assert [r for r in after if "H200" not in r["device"]] == [r for r in before if "H200" not in r["device"]]
    assert len(after) == len(before)
    write_floors(read(RESULTS), RESULTS, table)
    assert table.read_text(encoding="utf-8") == TABLE.read_text(encoding="utf-8")


def test_what_failed_is_marked_and_gives_no_floors():
    """A variant that does not agree has no figures: the page says so, and no floors are written."""
    results = read(RESULTS)
    timed = {"samples_per_s", "share_of_limit", "over_synchronous", "p50_ms", "accuracy"}
    results["rows"][1] = {k: v for k, v in results["rows"][1].items() if k not in timed} | {"failed": "max 1\nof | 0"}
    assert "| tensorrt-fp32-b1.16.32 | 32 | FAILED: max 1; of / 0 |" in page(results)
    with pytest.raises(RunnerError, match=r"r.json: tensorrt-fp32-b1.16.32 failed its comparison"):
        floor_rows(results, "r.json")


@pytest.fixture(scope="session")
def digits(pytestconfig):
    """Chain of the bundled digits classifier, in the artifact folder of this run."""
    spec = load_model(find_model("digits_vgg"))
    store = next(iter(pytestconfig.stash[CHAINS].values())).store
    return Chain(spec, datasets.locate(spec.dataset, input_name=spec.inputs[0].name), store)


METER = Meter(joules=lambda: None, used=lambda: 0)
"""A GPU that counts no energy; this machine need not have one."""


def test_onnxruntime_is_measured_after_it_agreed(digits, monkeypatch):
    """Rows have the comparison and the timing of a real session, here the CPU's, and make a page."""
    monkeypatch.setattr("commands.device_measure.SECONDS", 0.01)
    monkeypatch.setattr("commands.device_measure.LATENCY_CALLS", 8)
    rows = list(measure_onnxruntime(digits, Variant("onnx", "fp32"), METER, onnx_runner.CPU))
    assert [(r["variant"], r["batch"]) for r in rows] == [("onnx-fp32", b) for b in (32, 128, 1024)]
    for r in rows:
        assert r["settings"]["provider"] == onnx_runner.CPU
        assert r["samples_per_s"] > 0
        assert 0 < r["p50_ms"] <= r["p99_ms"]
        assert r["max_difference"] < 1e-5
        assert r["accuracy"] > 0.9
    assert "| onnx-fp32 | 1,024 |" in page(fresh(rows=rows))


def test_what_does_not_agree_is_not_timed(digits, monkeypatch):
    """An engine of other answers gives a row that says what is wrong, and no figures."""
    monkeypatch.setattr(onnx_runner.OnnxRunner, "_run", wrong)
    rows = list(measure_onnxruntime(digits, Variant("onnx", "fp32"), METER, onnx_runner.CPU))
    assert len(rows) == 3
    for r in rows:
        assert "FAILED: max" in r["failed"]
        assert "samples_per_s" not in r


def wrong(runner, inputs):
    """Answer the first class, always."""
    count = len(next(iter(inputs.values())))
    return {o.name: np.eye(o.shape[1], dtype=np.float32)[np.zeros(count, int)] for o in runner.spec.outputs}
