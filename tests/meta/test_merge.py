"""Results of several devices become one matrix, which never calls a variant tested that no device has tested."""

from __future__ import annotations

import copy
import json

import pytest

from conformance.__main__ import main
from conformance.report.document import as_json
from tests.meta.report_documents import CPU, document

SOUND = document(models=("cifar10_vgg",), variants=CPU, broken="")


def of_device(name, verdicts=None, status="passed"):
    """Results as a machine with this GPU writes them; ``verdicts`` by variant take the place of what they have."""
    made = copy.deepcopy(SOUND)
    made["environment"]["gpu"] = dict.fromkeys(("compute_capability", "driver", "memory_bytes")) | {"name": name}
    made["verdict"]["status"] = status
    for variant in made["variants"]:
        variant["verdict"] = (verdicts or {}).get(variant["variant"], "passed")
    return made


@pytest.fixture
def run(tmp_path, capsys):
    """Function that writes results, merges them, and returns exit code and output."""

    def call(*documents, words=()):
        paths = [tmp_path / f"{number}.json" for number in range(len(documents))]
        for path, made in zip(paths, documents, strict=True):
            path.write_text(as_json(made), encoding="utf-8")
        code = main(["merge", *map(str, paths), *words])
        return code, *capsys.readouterr()

    return call


def test_sound_results_pass(run):
    """What passed on every device passes, with a row for each variant and a column for each device."""
    code, out, _ = run(of_device("NVIDIA H200"), of_device("NVIDIA L4"))
    assert code == 0
    assert "[1] NVIDIA H200: passed" in out
    assert "[2] NVIDIA L4: passed" in out
    assert all(f"cifar10_vgg-{variant} " in out for variant in CPU)


@pytest.mark.parametrize("verdict", ["skipped", "not run", "not judged", "not compared"])
def test_what_no_device_tested_is_named(run, verdict):
    """A variant that each device left to the others is incomplete, not passed; one device is enough for it."""
    left = {CPU[1]: verdict}
    code, out, _ = run(of_device("A", left), of_device("B", left))
    assert (code, f"tested nowhere: cifar10_vgg-{CPU[1]}" in out) == (1, True)
    assert run(of_device("A", left), of_device("B"))[0] == 0


def test_a_throttled_speed_is_told_from_others(run):
    """Behind samples a second stands that the fastest measurement was throttled; in JSON, too."""
    hot = of_device("NVIDIA L4")
    for row in hot["benchmarks"]:
        row["throttled"] = ["GPU 0 power brake, in 2 of 4 looks"] if row["variant"] == CPU[1] else []
    _, out, _ = run(of_device("NVIDIA H200"), hot)
    timed = {row["variant"] for row in hot["benchmarks"]}
    assert CPU[1] in timed
    lines = [line for line in out.splitlines() if "/s throttled" in line]
    assert [line.split()[0] for line in lines] == [f"cifar10_vgg-{CPU[1]}"]
    rows = json.loads(run(of_device("NVIDIA H200"), hot, words=["--format=json"])[1])["rows"]
    assert {row["variant"]: [cell["throttled"] for cell in row["cells"]] for row in rows}[CPU[1]] == [False, True]


@pytest.mark.parametrize("status", ["failed", "incomplete"])
def test_one_bad_device_is_enough(run, status):
    """A run that failed, or did not come to its end, on one device is the verdict on all."""
    code, out, _ = run(of_device("A"), of_device("B", status=status))
    assert (code, f"verdict on 2 devices: {status}" in out) == (1, True)


def test_json_is_what_programs_read(run):
    """The JSON has the status, and a cell for each variant and device."""
    _, out, _ = run(of_device("A"), of_device("B", {CPU[1]: "skipped"}), words=["--format=json"])
    found = json.loads(out)
    (row,) = (r for r in found["rows"] if r["variant"] == CPU[1])
    assert found["status"] == "passed"
    assert [cell["verdict"] for cell in row["cells"]] == ["passed", "skipped"]
    assert [d["device"] for d in found["devices"]] == ["A", "B"]


def fewer_samples(made):
    made["models"][0]["data"]["samples"] -= 1


def other_reference(made):
    made["models"][0]["reference"] = "onnx-fp32"


def other_version(made):
    made["schema_version"] = 99


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda made: made["environment"]["gpu"].update(name="A"), "is of A, as"),
        (fewer_samples, "samples, in"),
        (other_reference, "the reference 'onnx-fp32'"),
        (other_version, "schema_version is 99"),
    ],
)
def test_what_cannot_be_joined_is_refused(run, change, said):
    """Results of one device twice, of other samples or another reference, and what is no result: one line, exit 2."""
    other = of_device("B")
    change(other)
    code, _, err = run(of_device("A"), other)
    assert (code, said in err, len(err.splitlines())) == (2, True, 1)


def test_one_result_is_no_matrix(run):
    """A matrix needs two devices at least."""
    assert run(of_device("A"))[0] == 2
