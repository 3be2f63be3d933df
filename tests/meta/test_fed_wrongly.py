"""Programs that feed something other than the samples are caught, and the message names what they fed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.chain import Chain
from engines.errors import RunnerError
from engines.formats.native import fed
from engines.formats.native.program import PROGRAMS, Told, told
from engines.formats.native.runner import NativeRunner
from engines.formats.onnx.runner import OnnxRunner
from engines.model import datasets, exchange
from engines.model.bundled import find_model
from engines.model.spec import BatchProfile
from engines.model.toml import load_model
from engines.variant import Variant
from fixtures.chain import CHAINS, artifact_folder
from tests.meta import stand_in
from tests.meta.few import few
from tests.meta.stand_in_plugin import SEPARATOR
from trial.causes import cause
from trial.outputs import Outputs
from trial.rules import compare_of, rule_of

INPUT, OUTPUT = "input_1", "dense_1"
VARIANT = Variant("cpp8", "fp32", BatchProfile(1, 16, 32))
ONNX = Variant("onnx", "fp32")
COUNT = 100
FEW = 36
"""Samples of a diagnosis in this process, which runs the engine a dozen times: a full batch, and four behind it."""

CAUSES = {
    "random data": (
        r"it was fed other data, such as random numbers",
        r"changing a sample changes no answer: as if fed data that has nothing to do with the samples",
    ),
    "other random data each time": (
        r"it was fed other data, such as random numbers",
        r"other answers each time: those of calls before, .* fed data that has nothing to do with the samples",
    ),
    "npy header": (
        r"the \.npy header \(128 bytes\) was read as pixels",
        r"as if the header of an \.npy was read as pixels",
    ),
    "skipped bytes": (
        r"128 bytes were skipped, as of an \.npy header",
        r"as if bytes were skipped for an \.npy header",
    ),
    "shifted column": (
        r"rows are shifted by one column: each starts with sample_id",
        r"rows are shifted by one column",
    ),
    "NCHW": (r"channels are fed first \(NCHW\)", r"channels are fed first \(NCHW\)"),
    "float64": (
        r"float64 bytes are fed, the engine takes float32",
        r"float64 bytes are fed to an engine that takes float32",
    ),
    "dropped remainder": (
        r"the last batch, of 4, was dropped: 96 of 100",
        r"96 of 100 samples have results; .*the last batch, of 4, was dropped",
    ),
}
"""The cause that each fault is named by: where the program says what it fed, and where it lies about it."""


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The stand-in as an executable."""
    return stand_in.program(tmp_path_factory.mktemp("program"))


def store_of(config):
    """Artifact store of this run."""
    return next(iter(config.stash[CHAINS].values())).store


@pytest.fixture(scope="session")
def cifar(pytestconfig):
    """Chain of the bundled CIFAR-10 classifier, on samples that need no data set."""
    spec = load_model(find_model("cifar10_vgg"))
    return Chain(spec, datasets.locate("photographs", input_name=INPUT), store_of(pytestconfig))


@pytest.fixture(scope="session")
def inputs(cifar):
    """A hundred samples, which leave four behind three full batches."""
    return cifar.dataset.test(COUNT).inputs


@pytest.fixture
def runner(cifar, program):
    """Open the runner of the stand-in, on the ONNX artifact for a plan."""
    with NativeRunner(cifar.spec, VARIANT, cifar.file(ONNX), program, 32) as opened:
        yield opened


@pytest.fixture
def fault(program):
    """Have a fault planted in the stand-in."""
    yield lambda name: stand_in.plant(program, name)
    stand_in.plant(program, "")


def test_a_sound_program_gives_what_the_engine_gives(cifar, runner, inputs):
    """Raw, through CSV, one by one: bit for bit what ONNX Runtime gives in Python, a hundred samples in four copies."""
    with OnnxRunner(cifar.spec, ONNX, cifar.file(ONNX), 32) as other:
        expected, alone = other(inputs)[OUTPUT], other.in_batches(inputs, 1)[OUTPUT]
    np.testing.assert_array_equal(runner(inputs)[OUTPUT], expected)
    assert (runner.copies.host_to_device, runner.copies.device_to_host) == (4, 4)
    np.testing.assert_array_equal(runner.through_csv(inputs)[OUTPUT], expected)
    np.testing.assert_array_equal(runner.in_batches(inputs, 1)[OUTPUT], alone)
    assert runner.copies.host_to_device == COUNT
    assert len(runner.timed(inputs, 3)["passes"]) == 3


@pytest.mark.parametrize("kind", few(CAUSES, "NCHW", "dropped remainder"))
def test_what_was_fed_is_told_by_its_hash(runner, inputs, fault, kind):
    """A program that says what it fed is refused before its answers are looked at, with the mistake by name."""
    fault(kind)
    with pytest.raises(
        RunnerError, match=r"(?s)fed the engine something other than the 100 samples.*likely +.*" + CAUSES[kind][0]
    ):
        runner(inputs)


@pytest.mark.parametrize("kind", few((kind for kind in CAUSES if kind != "dropped remainder"), "random data"))
def test_what_was_fed_is_told_by_the_answers(cifar, inputs, kind):
    """An engine that says nothing of it fails the comparison, and how its answers react names the mistake."""
    some = {INPUT: inputs[INPUT][:FEW]}
    reference = cifar.reference("fed-wrongly", some)
    with FedWrongly(kind, cifar) as runner:
        given, rule = Outputs(some, runner(some), reference), rule_of(cifar, VARIANT, "samples")
        assert not compare_of(runner, given, rule).passed
        likely = cause(runner, given, rule).text
    assert re.search(CAUSES[kind][1], likely), likely


class FedWrongly(OnnxRunner):
    """ONNX Runtime with one of the faults before it."""

    def __init__(self, kind, chain):
        super().__init__(chain.spec, ONNX, chain.file(ONNX), 32)
        self.fed = stand_in.FED[kind]

    def __call__(self, inputs):
        """Run what the fault makes of the samples."""
        return super().__call__({name: np.ascontiguousarray(self.fed(array)) for name, array in inputs.items()})


def test_a_sound_hash_has_no_mistake(inputs):
    """The search for a mistake makes none up: other data is called unrelated."""
    samples = inputs[INPUT]
    assert fed.mistake(samples, exchange.fed_hash(samples + np.float32(0.5)), 32) == fed.UNKNOWN


BAD = {
    "missing sample": r"99 of 100 samples have results; missing are 1, from 50 to 50$",
    "repeated sample": r"sample 0 has 2 rows of results; expected one",
    "reordered samples": r"not in the order of the samples: row 1 is sample 2",
    "another class": r"sample 3 has class \d; expected \d, whose score is the largest",
    "another confidence": r"sample 3 has confidence 0\.5; expected 0\.\d+, the score of its class",
    "killed": r"was killed by signal 9 \(SIGKILL\)",
    "silent": r"answered well, but wrote no report",
    "no report": r"answered well, but wrote no report",
    "bad report": r"its report is not JSON",
    "no hash": r"does not say what it fed to the engine",
    "host code": r"exit code 3, .*Cannot deserialize.*\n.*--allow-host-code of the C\+\+ program",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_program_that_goes_wrong_is_an_error(runner, inputs, fault, kind):
    """Results that are not one row a sample in order, and programs that die or say nothing, are told apart."""
    fault(kind)
    with pytest.raises(RunnerError, match=rf"^cpp8-fp32-b1\.16\.32 of cifar10_vgg: trt8_infer.*{BAD[kind]}"):
        runner(inputs)


def test_a_plan_that_cannot_be_loaded_is_an_error(cifar, program, inputs, tmp_path):
    """A plan of something else ends with the program's own words and exit code."""
    (tmp_path / "bad.plan").write_bytes(b"ftrt" + bytes(1000))
    message = r"exit code 3, CUDA or TensorRT failed: .*bad\.plan: cannot be loaded"
    opened = NativeRunner(cifar.spec, VARIANT, tmp_path / "bad.plan", program)
    with opened, pytest.raises(RunnerError, match=message):
        opened(inputs)


def test_a_batch_over_the_profile_is_an_error(cifar, program, inputs):
    """A batch larger than the plan's profile is refused by the program, with both numbers."""
    message = r"exit code 2, it refused what it was given: .*64 is over .*maximum of 32"
    opened = NativeRunner(cifar.spec, VARIANT, cifar.file(ONNX), program, 64)
    with opened, pytest.raises(RunnerError, match=message):
        opened(inputs)


def test_programs_that_are_none_are_refused(cifar, inputs, tmp_path):
    """A missing program, one that is not executable and one that is no program are told apart."""
    path, plan = tmp_path / "trt8_infer", cifar.file(ONNX)
    with pytest.raises(RunnerError, match=r"there is no program .*trt8_infer"):
        NativeRunner(cifar.spec, VARIANT, plan, path)
    path.write_bytes(b"\x7fnothing")
    with pytest.raises(RunnerError, match=r"trt8_infer is not executable"):
        NativeRunner(cifar.spec, VARIANT, plan, path)
    path.chmod(0o755)
    with (
        NativeRunner(cifar.spec, VARIANT, plan, path) as opened,
        pytest.raises(RunnerError, match=r"cannot be started"),
    ):
        opened(inputs)


def test_no_place_to_write_is_an_error(runner, inputs, monkeypatch):
    """A folder for temporary files that cannot be written to is named, with the variable that names another."""
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")
    with pytest.raises(RunnerError, match=r"no place for its samples: .*/proc/none.*TMPDIR names a folder"):
        runner(inputs)


def test_a_closed_runner_is_refused(runner, inputs):
    """A closed runner starts no process any more."""
    runner.close()
    with pytest.raises(RunnerError, match="closed"):
        runner(inputs)


def test_programs_say_why_they_cannot_run(monkeypatch, tmp_path):
    """Not built is a reason with the command that builds it; a program that is asked for by name has to be there."""
    monkeypatch.setattr("engines.formats.native.program.FOLDER", tmp_path)
    for name in ("TRT8_INFER", "TRT10_INFER"):
        monkeypatch.delenv(name, raising=False)
    assert PROGRAMS["cpp8"].unavailable().startswith("trt8_infer is not built (cmake -S engines/native")
    assert PROGRAMS["cpp10"].unavailable().startswith("trt10_infer is not built (cmake -S engines/native")
    monkeypatch.setattr("engines.formats.tensorrt.driver.problem", lambda needed: f"no driver for {needed}")
    monkeypatch.setenv("TRT8_INFER", str(tmp_path / "none"))
    assert PROGRAMS["cpp8"].unavailable() == "no driver for 12000"


def test_programs_need_a_driver_for_the_cuda_that_they_were_built_with(monkeypatch, program):
    """A driver older than the program's CUDA is a reason; a program that tells no version is for its runner to fail."""
    monkeypatch.setenv("TRT8_INFER", str(program))
    monkeypatch.setattr("engines.formats.tensorrt.driver.problem", lambda needed: "too old" if needed > 12080 else None)
    assert told(program) == Told("8.6.0", "nvinfer", 13)
    assert PROGRAMS["cpp8"].unavailable() == "too old"
    assert PROGRAMS["cpp8"].version() == f"8.6.0 (nvinfer, {program})"
    monkeypatch.setattr("engines.formats.tensorrt.driver.problem", lambda needed: "too old" if needed > 13000 else None)
    assert PROGRAMS["cpp8"].unavailable() is None
    monkeypatch.setenv("TRT8_INFER", sys.executable)
    assert told(Path(sys.executable)) is None
    assert PROGRAMS["cpp8"].unavailable() is None


# The same through the real command, each in a process of its own: `pytest -m "not slow"` leaves these out.


AGREES = ("tests/test_consistency.py", "-k", "test_agrees_with_the_reference_on_samples and cpp8-fp32")


LIED_ABOUT = ("NCHW", "npy header", "dropped remainder")
"""One fault of each way to find out: undoing it, seeing which answers a sample reaches, and counting answers."""


def causes_by_test(output):
    """What the run says of each failed test, by the fault that was planted in it."""
    _, *parts = re.split(r"^_+ test_agrees_with_the_reference_on_samples\[(.*)\] _+$", output, flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.slow
def test_the_command_names_what_was_fed(pytestconfig, program):
    """`pytest -m consistency` fails on a program that feeds something else, with the cause and without a traceback.

    Whatever it feeds, where it says so; and where it claims to have fed the samples.
    """
    expected = {kind: causes[0] for kind, causes in CAUSES.items()}
    expected |= {f"{kind}{stand_in.LIES}": CAUSES[kind][1] for kind in LIED_ABOUT}
    faults = {"STAND_IN_FAULTS": SEPARATOR.join(expected)}
    code, output = stand_in.run(artifact_folder(pytestconfig), program, *AGREES, **faults)
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "Traceback" not in output
    assert f"{len(expected)} failed" in output
    said = causes_by_test(output.partition("conformance: differences")[0])
    for fault, likely in expected.items():
        (words,) = (words for test, words in said.items() if test.startswith(f"{fault}-cifar10_vgg"))
        assert re.search(likely, words), words


@pytest.mark.slow
def test_the_command_names_a_dropped_remainder_of_any_engine(pytestconfig, program):
    """96 answers for 100 samples fail in Python engines too, with the batch that was dropped."""
    words = ("tests/test_consistency.py", "-k", "test_agrees_with_the_reference_on_samples and onnx-fp32")
    code, output = stand_in.run(artifact_folder(pytestconfig), program, *words, STAND_IN_ONNX="dropped remainder")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert re.search(r"likely +the last batch, of 4, was dropped: 96 of 100 samples have answers", output), output


@pytest.mark.slow
def test_the_command_passes_a_sound_program(pytestconfig, program):
    """Consistency and batching of a sound program pass, in all tests but those of many drawn examples."""
    chosen = "cpp8-fp32 and not drawn and not partition and not permuting and not repeated"
    words = ("-m", "consistency or batching", "-k", chosen, "--ignore=tests/meta")
    code, output = stand_in.run(artifact_folder(pytestconfig), program, *words, model="digits_vgg")
    assert code == pytest.ExitCode.OK, output
    assert re.search(r"digits_vgg-cpp8-fp32-b1\.16\.32 .* passed\n", output), output
