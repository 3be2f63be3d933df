"""Engines that are wrong in the usual ways are caught, with the kind of trouble in the message; sound ones pass."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from faults import graph, graph_edits

from engines.chain import Chain
from engines.errors import EngineError
from engines.formats.onnx.runner import OnnxRunner
from engines.formats.tflite.runner import TFLiteRunner
from engines.model import datasets
from engines.model.brought import brought_engine
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.store import Store
from engines.variant import REFERENCE, Variant
from fixtures.chain import CHAINS, Shared
from tests.meta.apart import environment_apart
from trial.causes import cause
from trial.outputs import Outputs
from trial.rules import compare_of, rule_of

ROOT = Path(__file__).resolve().parents[2]
INPUT, OUTPUT = "input_1", "dense_1"
ONNX, TFLITE = Variant("onnx", "fp32"), Variant("tflite", "fp32")


def chain_of(spec, config):
    """Chain of a model in the artifact folder of this run, on samples that need no CIFAR-10."""
    store = next(iter(config.stash[CHAINS].values())).store
    data = "photographs" if spec.dataset == "cifar10" else spec.dataset
    return Chain(spec, datasets.locate(data, input_name=INPUT), store)


@pytest.fixture(scope="session")
def cifar(pytestconfig):
    """Chain of the bundled CIFAR-10 classifier."""
    return chain_of(load_model(find_model("cifar10_vgg")), pytestconfig)


@pytest.fixture(scope="session")
def digits(pytestconfig):
    """Chain of the bundled digits classifier."""
    return chain_of(load_model(find_model("digits_vgg")), pytestconfig)


@pytest.fixture(scope="session")
def other_training(pytestconfig, tmp_path_factory):
    """Chain of the digits classifier trained again from another seed, under a name of its own."""
    text = find_model("digits_vgg").read_text(encoding="utf-8")
    # Training runs in a process of its own that reads the file, so it is the file that says what is different.
    for old, new in (
        ('name = "digits_vgg"', 'name = "digits_vgg_again"'),
        ("seed = 3", "seed = 4"),
        # It need not be as good: processors train to other weights.
        ("accuracy = 0.95", "accuracy = 0.9"),
        ("epochs = 30", "epochs = 15"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path_factory.mktemp("again") / "digits_vgg_again.toml"
    path.write_text(text, encoding="utf-8")
    return chain_of(load_model(path), pytestconfig)


OPSETS = (13, 15, 18)
"""Opsets that other tools convert to; the suite's own is 17."""


@pytest.fixture(scope="session")
def other_opsets(cifar, tmp_path_factory):
    """Convert the SavedModel to each of those with tf2onnx, as its command line does, in a process of its own."""
    folder = tmp_path_factory.mktemp("opsets")
    paths = {opset: folder / f"opset{opset}.onnx" for opset in OPSETS}
    code = "import sys; from tf2onnx import convert\nfor sys.argv in {!r}: convert.main()"
    lines = [
        ["convert", "--saved-model", str(cifar.file(REFERENCE)), "--output", str(path), "--opset", str(opset)]
        for opset, path in paths.items()
    ]
    subprocess.run([sys.executable, "-c", code.format(lines)], capture_output=True, timeout=300, check=True)
    return paths


@pytest.fixture(scope="session")
def sound(cifar):
    """Path of the sound ONNX that the faulty ones are made from."""
    return cifar.file(ONNX)


FAULTS = {
    "weights perturbed by one percent": (graph_edits.noise(0.01, 2), "it is not the model's own file: Conv"),
    "input channels swapped by a node": (graph_edits.mirrored(3), "red and blue are swapped in the input"),
    "input channels swapped in the weights": (graph_edits.reversed_channels, "red and blue are swapped in the input"),
    "the softmax left out": (graph_edits.no_softmax, "the softmax is missing"),
    "a softmax too many": (graph_edits.two_softmaxes, "a softmax too many: the outputs had one twice"),
    "the softmax over the batch": (
        graph_edits.softmax_axis,
        "changing a sample changes other answers of its batch too",
    ),
    "two classes permuted": (
        graph_edits.permuted_classes([0, 1, 5, 3, 4, 2, 6, 7, 8, 9]),
        "the classes are permuted: class 2 is at 5, class 5 is at 2",
    ),
    "three classes rotated": (
        graph_edits.permuted_classes([1, 7, 2, 3, 4, 5, 6, 0, 8, 9]),
        "the classes are permuted: class 0 is at 7, class 1 is at 0, class 7 is at 1",
    ),
    "inputs expected in [0, 255]": (
        graph_edits.scaled_inputs(1 / 255),
        "inputs are expected 255 times as large, in [0, 255]",
    ),
    "inputs expected in [-1, 1]": (
        graph_edits.scaled_inputs(0.5, 0.5),
        "inputs are expected in [-1, 1] instead of [0, 1]",
    ),
    "inputs that reach nothing": (graph_edits.no_inputs, "every sample gets the same answer"),
}

IN_THE_COMMAND = (
    "weights perturbed by one percent",
    "input channels swapped by a node",
    "the softmax left out",
    "two classes permuted",
    "inputs expected in [0, 255]",
)
"""The faults that are also given to the real command: one of each kind, because each run takes seconds."""


def faulty(sound, fault, folder):
    """Write the sound model with one of the faults; gives the file's path."""
    return graph.write(sound, FAULTS[fault][0], folder / "bad.onnx")


class Verdict:
    """What the suite finds out about a runner: the comparison with the reference, and what is likely wrong."""

    def __init__(self, chain, runner, variant, path):
        self.inputs, self.runner = chain.samples.inputs, runner
        # A name of its own: the run's own reference may be that of other samples.
        self.rule = rule_of(replace(chain, brought={variant.format: path}), variant, "samples")
        self.outputs = Outputs(self.inputs, runner(self.inputs), chain.reference("faults", self.inputs))
        self.comparison = compare_of(runner, self.outputs, self.rule)

    def likely(self):
        """Diagnosis, as for a failure: it runs the engine again and again."""
        return cause(self.runner, self.outputs, self.rule).text


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_onnx_fails_and_the_kind_of_trouble_is_named(cifar, sound, tmp_path, fault):
    """Its signature is sound, so that it gets as far as the comparison, which fails and is diagnosed."""
    path = faulty(sound, fault, tmp_path)
    assert brought_engine("onnx", path, cifar.spec).precisions["onnx"] == ("fp32",)
    with OnnxRunner(cifar.spec, ONNX, path) as runner:
        verdict = Verdict(cifar, runner, ONNX, path)
        assert not verdict.comparison.passed
        assert not verdict.comparison.problems
        assert FAULTS[fault][1] in verdict.likely()


@pytest.mark.slow
def test_a_sound_onnx_passes_the_same_comparison(cifar, sound):
    """What the faulty ones are made from agrees: it is the fault that fails them."""
    with OnnxRunner(cifar.spec, ONNX, sound) as runner:
        comparison = Verdict(cifar, runner, ONNX, sound).comparison
    assert comparison.passed, comparison.describe()


@pytest.mark.slow
@pytest.mark.parametrize("opset", OPSETS)
def test_a_sound_onnx_of_another_opset_passes(cifar, other_opsets, opset):
    """The same SavedModel converted elsewhere with another opset agrees, whatever its tensors are called."""
    import onnx

    path = other_opsets[opset]
    assert {o.domain: o.version for o in onnx.load(str(path)).opset_import}[""] == opset
    assert brought_engine("onnx", path, cifar.spec).precisions["onnx"] == ("fp32",)
    with OnnxRunner(cifar.spec, ONNX, path) as runner:
        comparison = Verdict(cifar, runner, ONNX, path).comparison
    assert comparison.passed, comparison.describe()


@pytest.mark.slow
@pytest.mark.parametrize("variant", [ONNX, TFLITE], ids=str)
def test_another_training_run_is_caught_as_other_weights(digits, other_training, variant):
    """The same architecture and data from another seed has the same classes mostly, and other values."""
    path = other_training.file(variant)
    spec = brought_engine(variant.format, path, digits.spec)
    assert spec.precisions[variant.format] == ("fp32",)
    open_runner = OnnxRunner if variant.format == "onnx" else TFLiteRunner
    with open_runner(digits.spec, variant, path) as runner:
        verdict = Verdict(digits, runner, variant, path)
        assert not verdict.comparison.passed
        assert "another training run" in verdict.likely()


def test_a_batch_fixed_to_one_is_refused_with_the_axis_named(cifar, sound, tmp_path):
    """The signature tells it before anything runs: which input, which axis, and what is expected."""
    path = graph.write(sound, graph_edits.fixed_batch, tmp_path / "bad.onnx")
    with pytest.raises(EngineError, match=r"batch \(axis 0\) fixed to 1; expected it dynamic") as caught:
        brought_engine("onnx", path, cifar.spec)
    assert str(caught.value).startswith(f"--onnx {path}: inputs '{INPUT}' has shape (1, 32, 32, 3)")


def test_another_models_tflite_is_refused_by_its_signature(cifar, digits):
    """A TFLite of another input shape is refused before anything runs, with both shapes."""
    path = digits.file(TFLITE)
    with pytest.raises(EngineError, match=r"\(N, 10, 8, 1\).*expected \(N, 32, 32, 3\)") as caught:
        brought_engine("tflite", path, cifar.spec)
    assert str(caught.value).startswith(f"--tflite {path}: ")


def test_a_sound_tflite_is_taken_and_agrees(digits):
    """The converted TFLite itself, brought as a file, has its precision read off it and passes."""
    path = digits.file(TFLITE)
    assert brought_engine("tflite", path, digits.spec).precisions["tflite"] == ("fp32",)
    with TFLiteRunner(digits.spec, TFLITE, path) as runner:
        comparison = Verdict(digits, runner, TFLITE, path).comparison
    assert comparison.passed, comparison.describe()


# The same through the real command, each in a process of its own: `pytest -m "not slow"` leaves these out.


ON_SAMPLES = "test_agrees_with_the_reference_on_samples"
"""The comparison that names what is wrong; that on drawn inputs names it for each example that Hypothesis tries."""

STORED = "not drawn_inputs"
"""All tests of consistency but those that ask the SavedModel itself, for which every run would load TensorFlow."""


class Command:
    """Runs the suite as a user does, on an artifact folder that holds the SavedModel and its answers only."""

    def __init__(self, chain, folder):
        self.artifacts, self.model = folder / "build", chain.spec.name
        self.environment = environment_apart()
        # Without a cache where CIFAR-10 could be, the photographs stand in for it on every machine.
        self.environment |= {"KERAS_HOME": str(folder / "keras"), "XDG_CACHE_HOME": str(folder / "cache")}
        source = chain.artifact(REFERENCE).folder
        shutil.copytree(source, self.artifacts / self.model / source.name)
        # Here TensorFlow is loaded already; each run that needs an answer of its own would have to load it.
        with ExitStack() as opened:
            shared = Shared(Chain(chain.spec, chain.dataset, Store(self.artifacts)), opened)
            _ = shared.reference, shared.contrast, shared.drawn

    def run(self, *words):
        """Run pytest with these words; gives the exit code and all that it printed."""
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def check(self, option, path, chosen):
        """Check a brought engine for consistency, by the tests that ``chosen`` selects."""
        words = ["-m", "consistency", "--model", self.model, f"--{option}={path}", "-k", f"{option} and {chosen}"]
        return self.run(*words, f"--artifacts={self.artifacts}")


@pytest.fixture(scope="session")
def cifar_command(cifar, tmp_path_factory):
    """Command on the CIFAR-10 classifier."""
    return Command(cifar, tmp_path_factory.mktemp("cifar"))


@pytest.fixture(scope="session")
def digits_command(digits, tmp_path_factory):
    """Command on the digits classifier."""
    return Command(digits, tmp_path_factory.mktemp("digits"))


def assert_failure_is_complete(output, kind):
    """Look for the likely cause, the sample, both top threes, needed and allowed, and the replay command."""
    assert re.search(rf"likely +.*{re.escape(kind)}", output)
    assert re.search(r"worst sample \d+", output)
    for who in ("expected", "got"):
        assert re.search(rf"{who} +top 3  (\S+ -?\d+\.\d+(, )?){{3}}\n", output)
    assert re.search(r"FAILED max +needed \d\.\d+e[+-]\d+ +allowed \d\.\d+e[+-]\d+", output)
    assert re.search(r"replay +pytest '?tests/test_consistency.py::test_agrees", output)
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize("fault", IN_THE_COMMAND)
def test_the_command_catches_a_faulty_onnx(cifar_command, sound, tmp_path, fault):
    """`pytest -m consistency --model cifar10_vgg --onnx bad.onnx` fails and says all that is needed to act on it."""
    code, output = cifar_command.check("onnx", faulty(sound, fault, tmp_path), ON_SAMPLES)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert_failure_is_complete(output, FAULTS[fault][1])


@pytest.mark.slow
@pytest.mark.parametrize("option", ["onnx", "tflite"])
def test_the_command_catches_another_training_and_its_replay_fails_again(digits_command, other_training, option):
    """Weights of another training run are caught, and the command under `replay` fails again with the same words."""
    code, output = digits_command.check(option, other_training.file(Variant(option, "fp32")), ON_SAMPLES)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "another training run" in output
    replay = re.search(rf"replay +pytest (.*{ON_SAMPLES}.*)", output)
    assert replay is not None
    code, again = digits_command.run(*shlex.split(replay[1]))
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "another training run" in again
    assert "1 failed" in again


@pytest.mark.slow
def test_the_command_refuses_a_fixed_batch(cifar_command, sound, tmp_path):
    """A batch fixed to one ends the run at once: one error line that names option, file and axis, and no traceback."""
    path = graph.write(sound, graph_edits.fixed_batch, tmp_path / "bad.onnx")
    code, output = cifar_command.check("onnx", path, ON_SAMPLES)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert [line for line in output.splitlines() if "ERROR" in line] == [
        f"ERROR: --onnx {path}: inputs '{INPUT}' has shape (1, 32, 32, 3), batch (axis 0) fixed to 1; "
        "expected it dynamic: (N, 32, 32, 3)"
    ]
    assert "Traceback" not in output


@pytest.mark.slow
def test_the_command_passes_a_sound_onnx_of_another_opset(cifar_command, other_opsets):
    """The oldest opset, given to the real command; the others are compared by the same functions above."""
    code, output = cifar_command.check("onnx", other_opsets[min(OPSETS)], STORED)
    assert code == pytest.ExitCode.OK, output


@pytest.mark.slow
def test_the_command_passes_what_another_tool_optimized(cifar_command, sound, tmp_path):
    """ONNX Runtime's own optimized model, saved at the level that stays portable, agrees."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(str(sound), options, providers=["CPUExecutionProvider"])
    # It differs from what it was made from, or this would prove nothing.
    before, after = (len(onnx.load(str(p)).graph.node) for p in (sound, options.optimized_model_filepath))
    assert after < before
    code, output = cifar_command.check("onnx", options.optimized_model_filepath, STORED)
    assert code == pytest.ExitCode.OK, output


@pytest.mark.slow
def test_the_command_passes_a_sound_tflite(digits, digits_command):
    """The converted TFLite itself, brought as a file, agrees, on inputs that Hypothesis draws too."""
    code, output = digits_command.check("tflite", digits.file(TFLITE), "fp32")
    assert code == pytest.ExitCode.OK, output
