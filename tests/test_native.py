"""What the C++ programs promise beside their answers: few copies, and errors that say what is wrong."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack

import numpy as np
import pytest

from engines.errors import RunnerError
from engines.formats.native.program import PROGRAMS
from engines.formats.native.runner import NativeRunner
from engines.formats.tensorrt import versions
from engines.formats.tensorrt.runner import TensorRTRunner
from engines.model import exchange
from engines.variant import Variant
from fixtures.chain import CHAINS

pytestmark = [pytest.mark.tensorrt, pytest.mark.formats("cpp8", "cpp10", precisions=("fp32",), first_profile=True)]

REFUSED = r"exit code 3, .*TensorRT \S+ cannot load it as a plan; .*; TensorRT (says: \S|gives no message)"
"""What a program says of a plan that TensorRT refuses, and of nothing else: not of a missing driver."""


@pytest.fixture
def open_program(chain, variant):
    """Open further runners of the variant's program, on any plan, for the time of the test."""
    with ExitStack() as stack:

        def call(plan, batch_size=None, allow_host_code=PROGRAMS[variant.format].allow_host_code):
            program = PROGRAMS[variant.format].path
            opened = NativeRunner(chain.spec, variant, plan, program, batch_size, allow_host_code=allow_host_code)
            return stack.enter_context(opened)

        yield call


def test_hundred_samples_are_four_copies(runner, samples):
    """A hundred samples at batch 32 cross to the device in four copies, and back in four."""
    runner(samples.inputs)
    batches = -(-len(samples) // runner.batch_size)
    assert (runner.copies.host_to_device, runner.copies.device_to_host) == (batches, batches)


def test_the_report_tells_the_streams_that_there_were(runner, samples):
    """A single batch has one stream, whatever number would have been tried with more of them."""
    runner.timed({name: array[: runner.batch_size] for name, array in samples.inputs.items()}, 2)
    assert runner.report["streams"] == 1


@pytest.mark.parametrize("words", [("--streams", "1"), ("--no-graphs",)], ids=["one stream", "no graphs"])
def test_settings_change_no_answer(chain, variant, runner, samples, tmp_path, words):
    """One batch at a time, and batches enqueued without CUDA graphs, give the same bits; the remainder too."""
    program, name = PROGRAMS[variant.format], chain.spec.inputs[0].name
    samples.inputs[name].tofile(tmp_path / "samples")
    command = [program.path, "--plan", chain.file(variant), "--raw", tmp_path / "samples", *words]
    command += ["--allow-host-code"] if program.allow_host_code else []
    subprocess.run([*command, "--output", tmp_path / "results.csv"], check=True)
    results = exchange.read_results(tmp_path / "results.csv", runner.classes)
    np.testing.assert_array_equal(results.probabilities, runner(samples.inputs)[runner.output.name])


def test_a_batch_over_the_profile_is_refused(open_program, chain, variant, samples):
    """A batch of one more than the plan's profile takes is an error, not an answer."""
    most = variant.profile.max
    enough = {name: np.concatenate([array] * (most // len(array) + 1)) for name, array in samples.inputs.items()}
    with pytest.raises(RunnerError, match=rf"exit code 2, .*--batch: found {most + 1}; "):
        open_program(chain.file(variant), most + 1)(enough)


def test_the_plan_is_loaded_once_for_all_calls(open_program, chain, variant, samples):
    """Calls, refused ones among them, are of one process, which gives the same bits in each."""
    most = variant.profile.max
    runner = open_program(chain.file(variant), most + 1)
    expected = runner.in_batches(samples.inputs, most)[runner.output.name]
    loaded = runner.report["load_seconds"]
    with pytest.raises(RunnerError, match="answered with exit code 2, "):
        runner(samples.inputs)
    np.testing.assert_array_equal(runner.in_batches(samples.inputs, most)[runner.output.name], expected)
    assert runner.report["load_seconds"] == loaded


@pytest.mark.parametrize("damage", ["empty", "truncated", "no plan"])
def test_a_damaged_plan_is_refused(open_program, chain, variant, samples, tmp_path, damage):
    """A plan that is empty, cut in half or no plan at all is an error with one line of the program's own."""
    content = chain.file(variant).read_bytes()
    bad = {"empty": b"", "truncated": content[: len(content) // 2], "no plan": b"no plan" * 1000}[damage]
    (tmp_path / "bad.plan").write_bytes(bad)
    said = r"exit code 2, .*bad\.plan: the file is empty" if damage == "empty" else REFUSED
    with pytest.raises(RunnerError, match=said):
        open_program(tmp_path / "bad.plan")(samples.inputs)


@pytest.mark.formats("cpp10", precisions=("fp32",), first_profile=True)
def test_a_plan_of_the_other_major_version_is_refused(open_program, chain, variant, samples):
    """A plan of TensorRT 8.6 that is not version-compatible does not run in 10, and TensorRT says so."""
    other = chain.store.recorded(chain.spec.name, str(Variant("tensorrt", variant.precision, variant.profile)))
    if other is None:
        pytest.skip(f"the store holds no plan of tensorrt-{variant.precision}, which TensorRT 8.6 builds")
    with pytest.raises(RunnerError, match=REFUSED):
        open_program(other.file("model.plan"))(samples.inputs)


@pytest.mark.formats("cpp10", precisions=("fp32",), first_profile=True)
def test_host_code_has_to_be_allowed(open_program, chain, variant, samples):
    """A version-compatible plan is refused without --allow-host-code, and the error names that option."""
    with pytest.raises(RunnerError, match=r"(?s)exit code 3, .*--allow-host-code"):
        open_program(chain.file(variant), allow_host_code=False)(samples.inputs)


@pytest.mark.formats("tensorrt-vc", precisions=("fp32",), first_profile=True)
def test_host_code_has_to_be_allowed_in_python(chain, variant):
    """The same in Python: the error names the parameter that allows it."""
    with pytest.raises(RunnerError, match=r"allow_host_code=True"):
        TensorRTRunner(chain.spec, variant, chain.file(variant))


def test_a_runtime_too_new_refuses_the_plans(pytestconfig):
    """TensorRT 11 refuses version-compatible plans of 8.6 in words of its own, and the error adds who runs them."""
    if versions.too_new(versions.installed() or "") is None:
        pytest.skip("there is no TensorRT 11 here, which refuses plans of 8.6")
    plans = [
        (chain.spec, variant, stored.file("model.plan"))
        for chain in pytestconfig.stash[CHAINS].values()
        for variant in chain.variants
        if variant.format == "tensorrt-vc" and (stored := chain.store.recorded(chain.spec.name, str(variant)))
    ]
    if not plans:
        pytest.skip("the store holds no version-compatible plan, which TensorRT 8.6 builds")
    for spec, variant, plan in plans:
        with pytest.raises(RunnerError, match=r"(?s)cannot load it as a plan:\n +\S.*run in TensorRT 8\.6 to 10"):
            TensorRTRunner(spec, variant, plan, allow_host_code=True)
