"""Answers of several runtimes on one plan: what is equal, what differs, what no longer counts, and the table of it."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from commands.cross_version import COMMAND
from engines.chain import Chain
from engines.formats.registry import variants
from engines.hashing import file_hash
from engines.model.bundled import find_model
from engines.model.datasets import locate
from engines.model.samples import content_hash
from engines.model.toml import load_model
from engines.store import Recipe, Store
from engines.variant import Variant
from fixtures.chain import artifact_folder
from tests.meta import stand_in
from trial.cross_version import FILE, Difference, difference, stored

SPEC = load_model(find_model("digits_vgg"))
PLAN = next(v for v in variants(SPEC) if v.row_name == "tensorrt-fp32")
ANSWERS = {"dense_1": np.linspace(0, 1, 40, dtype=np.float32).reshape(4, 10)}


@pytest.fixture
def store(tmp_path):
    """Store with a plan."""
    result = Store(tmp_path / "build")
    write_plan(result, b"plan")
    return result


def write_plan(store, content):
    """Put a plan of this content into a store; gives its hash."""
    recipe = Recipe({"x": str(content)})
    artifact = store.get(
        SPEC.name, str(PLAN), recipe, lambda folder: (folder / "model.plan").write_bytes(content) and None
    )
    return file_hash(artifact.file("model.plan"))


def answer(store, runtime, outputs, plan, speed=1000.0, inputs="same"):
    """Put a runtime's answers into a store, as the test of an environment does; without speed, untimed."""

    def build(folder):
        np.savez(folder / FILE, **outputs)
        return {
            **({"samples_per_second": speed, "load_seconds": 0.0125} if speed else {}),
            "plan_bytes": 21_400_000,
            "samples": len(outputs["dense_1"]),
            "device": {"GPU": "a GPU"},
        }

    recipe = Recipe({"plan": plan, "inputs": inputs, "outputs": content_hash(outputs)}, {"speed": speed})
    store.get(SPEC.name, f"outputs-{PLAN}-{runtime}", recipe, build)


def test_a_single_bit_is_a_difference():
    """Answers are compared by their bits: the next float32, and a zero of the other sign, differ."""
    other = {"dense_1": ANSWERS["dense_1"].copy()}
    assert difference(other, ANSWERS).samples == 0
    other["dense_1"][2, 3] = np.nextafter(other["dense_1"][2, 3], np.float32(2))
    found = difference(other, ANSWERS)
    assert (found.samples, found.classes) == (1, 0)
    assert 0 < found.largest < 1e-6
    other["dense_1"][0, 0] = -0.0
    assert difference(other, ANSWERS).samples == 2
    other["dense_1"][1, 0] = 9
    assert difference(other, ANSWERS).classes == 1
    assert difference({"dense_1": ANSWERS["dense_1"][:3]}, ANSWERS).samples == 4


def test_only_answers_on_the_same_plan_and_samples_count(store):
    """Answers on a plan that was built again since, or on other samples, are not compared with."""
    plan = file_hash(store.recorded(SPEC.name, str(PLAN)).file("model.plan"))
    answer(store, "trt8.6.0", ANSWERS, plan)
    answer(store, "cpp-trt8.6.0", ANSWERS, plan, inputs="other")
    assert [a.runtime for a in stored(store, SPEC.name, PLAN, {"plan": plan, "inputs": "same"})] == ["trt8.6.0"]
    both = stored(store, SPEC.name, PLAN, {"plan": plan})
    assert {a.runtime: a.inputs for a in both} == {"trt8.6.0": "same", "cpp-trt8.6.0": "other"}
    # All that answers are made from may be asked for; others made from the same plan are not of this variant.
    made_from = {"plan": plan, "inputs": "same", "outputs": content_hash(ANSWERS)}
    assert [a.runtime for a in stored(store, SPEC.name, PLAN, made_from)] == ["trt8.6.0"]
    other = next(v for v in variants(SPEC) if v.row_name == "tensorrt-fp16")
    assert stored(store, SPEC.name, other, {"plan": plan}) == []
    assert stored(store, SPEC.name, PLAN, {"plan": write_plan(store, b"another plan")}) == []
    program = Variant("cpp8", PLAN.precision, PLAN.profile)
    assert len(stored(store, SPEC.name, program, {"plan": plan})) == 2


def test_the_table_has_every_runtime(store, tmp_path, capsys):
    """Each runtime is a row beside the first one: equal or not, by how much, how fast, and how large the plan is."""
    path = tmp_path / "table.md"
    words = ["digits_vgg", f"--output={path}", f"--artifacts={store.root}"]
    assert COMMAND.main(words) == 1
    assert "holds no answers on the plans of digits_vgg" in capsys.readouterr().err
    plan = file_hash(store.recorded(SPEC.name, str(PLAN)).file("model.plan"))
    other = {"dense_1": ANSWERS["dense_1"].copy()}
    other["dense_1"][1, 9] -= np.float32(0.125)
    answer(store, "trt8.6.0", ANSWERS, plan)
    answer(store, "cpp-trt8.6.0", ANSWERS, plan, speed=1100.0)
    answer(store, "lean10.16.1", other, plan, speed=990.0)
    answer(store, "dispatch10.16.1", ANSWERS, plan, speed=None)
    assert COMMAND.main(words) == 0
    assert path.read_text().splitlines()[-4:] == [
        f"| {PLAN} | trt8.6.0 | 4 | (compared with) |  |  | 1,000 | +0.0 % | 12 | 21.4 |",
        f"| {PLAN} | cpp-trt8.6.0 | 4 | bitwise | 0.0e+00 | 0 | 1,100 | +10.0 % | 12 | 21.4 |",
        f"| {PLAN} | dispatch10.16.1 | 4 | bitwise | 0.0e+00 | 0 | not timed |  |  | 21.4 |",
        f"| {PLAN} | lean10.16.1 | 4 | 1 samples differ | 1.2e-01 | 1 | 990 | -1.0 % | 12 | 21.4 |",
    ]
    assert COMMAND.main([words[0], f"--output={tmp_path / 'none' / 'table.md'}", words[2]]) == 1
    assert "--output" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_compares_with_what_others_stored(pytestconfig, tmp_path):
    """`pytest -m cross_version` stores answers and passes alone, beside equal ones, and fails beside other ones."""
    program, variant = stand_in.program(tmp_path), Variant("cpp8", PLAN.precision, PLAN.profile)
    chain = Chain(SPEC, locate(SPEC.dataset, input_name="input_1"), Store(artifact_folder(pytestconfig)))
    samples = chain.dataset.test()
    chain.reference(f"accuracy-{len(samples)}", samples.inputs)
    plan = chain.file(Variant("onnx", "fp32"))
    folder = tmp_path / "build"
    shutil.copytree(chain.store.root / SPEC.name, folder / SPEC.name)

    def command(*more):
        words = ("tests/test_cross_version.py", "-m", "cross_version", "-k", "every_runtime and cpp8-fp32", *more)
        return stand_in.run(folder, program, *words, model="digits_vgg")

    code, output = command("-n", "1")
    assert code == pytest.ExitCode.OK, output
    assert f"digits_vgg-{variant} in cpp-trt8.6.0, 360 samples, beside: no other runtime stored yet" in output
    store, made_from = Store(folder), {"plan": file_hash(plan), "inputs": content_hash(samples.inputs)}
    (own,) = stored(store, SPEC.name, variant, made_from)
    assert "samples_per_second" not in own.details, "processes of -n time each other"
    answer(store, "trt8.6.0", own.outputs, made_from["plan"], inputs=made_from["inputs"])
    answer(store, "lean10.16.1", own.outputs, made_from["plan"], inputs="others")
    code, output = command()
    assert code == pytest.ExitCode.OK, output
    others = "trt8.6.0; not compared, for it answered other samples: lean10.16.1"
    assert f"digits_vgg-{variant} in cpp-trt8.6.0, 360 samples, beside: {others}" in output
    (own,) = (one for one in stored(store, SPEC.name, variant, made_from) if one.runtime.startswith("cpp"))
    assert own.details["samples_per_second"] > 0
    other = {"dense_1": own.outputs["dense_1"].copy()}
    other["dense_1"][7] = other["dense_1"][7][::-1]
    answer(store, "trt8.6.0", other, made_from["plan"], inputs=made_from["inputs"])
    code, output = command()
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert re.search(
        rf"{re.escape(str(variant))} of digits_vgg in cpp-trt8\.6\.0 differs from\n"
        r" +trt8\.6\.0: 1 of 360 samples differ",
        output,
    )


def test_differences_are_those_of_all_outputs():
    """Samples that differ in any output, the largest difference of all, and the most classes of one, by hand."""
    expected = {"a": np.float32(np.eye(4, 3)), "b": np.arange(16, dtype=np.float32).reshape(4, 2, 2)}
    expected["a"][2, 0] = np.nan
    found = {name: array.copy() for name, array in expected.items()}
    assert difference(found, expected) == Difference(0, 0.0, 0)
    found["a"][1, 2], found["b"][1, 0, 1], found["b"][3] = 1.5, 4.0, 14.5
    # Samples 1 and 3; of b the last one by 2.5 at most; a's second sample has its third class.
    assert difference(found, expected) == Difference(2, 2.5, 1)
    assert difference(found, {"a": expected["a"]}) == Difference(1, 1.5, 1)
    found["a"][0, 0] = np.nan
    assert difference(found, expected) == Difference(3, float("inf"), 1)
    assert difference({"a": found["a"][:, :2]}, {"a": expected["a"]}) == Difference(4, float("inf"), 4)


def test_infinities_that_are_equal_are_no_difference():
    """They are the same bits; of the other sign, or beside a number, they differ without end."""
    expected = {"a": np.float32([[np.inf, 0], [-np.inf, 1], [2, 3]])}
    assert difference({"a": expected["a"].copy()}, expected) == Difference(0, 0.0, 0)
    for at, value in (((0, 0), -np.inf), ((1, 0), 5), ((2, 1), np.inf)):
        found = {"a": expected["a"].copy()}
        found["a"][at] = value
        assert (difference(found, expected).samples, difference(found, expected).largest) == (1, np.inf)
