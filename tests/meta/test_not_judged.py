"""A reference that is none, and a variant that cannot be made, fail one test; what hangs on them is not judged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from engines.errors import RunnerError
from engines.formats.savedmodel.packages import tensorflow
from engines.model import selection
from engines.model.spec import OutputSpec
from engines.store import Store
from tests.meta.apart import environment_apart
from trial.examine import ALONE, AXIS, BATCH, CALLS, DEEPER, FINITE, RUNS, examine, flaws

ROOT = Path(__file__).resolve().parent.parent.parent
WEIGHTS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
SAMPLES = np.random.default_rng(1).normal(2, 1, (340, 5)).astype(np.float32)


def sound(tf, module, x):
    """Classify each sample by itself."""
    return tf.nn.softmax(x @ WEIGHTS)


def state(tf, module, x):
    """Keep the mean of all that was given."""
    module.mean.assign(0.9 * module.mean + 0.1 * tf.reduce_mean(x, 0))
    return tf.nn.softmax((x - module.mean) @ WEIGHTS)


def dropout(tf, module, x):
    """Leave a dropout on."""
    return tf.nn.softmax(tf.where(tf.random.uniform(tf.shape(x)) < 0.3, 0.0, x) @ WEIGHTS)


def infinite(tf, module, x):
    """Take the logarithm of what may be negative."""
    return tf.math.log(x @ WEIGHTS)


def crowd(tf, module, x):
    """Take the mean of the batch away."""
    return tf.nn.softmax((x - tf.reduce_mean(x, 0)) @ WEIGHTS)


def unknown(tf, module, x):
    """Use an operator that tf2onnx does not know."""
    return tf.nn.softmax(tf.math.lgamma(tf.abs(x) + 1) @ WEIGHTS)


MODELS = {model.__name__: model for model in (sound, state, dropout, infinite, crowd, unknown)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Function that saves one of the models under a name of its own, beside ``samples.npz``; gives its folder."""
    tf, root = tensorflow(), tmp_path_factory.mktemp("not_judged")
    np.savez(root / "samples.npz", x=SAMPLES)

    def call(name):
        folder = root / name
        if not folder.exists():
            module = tf.Module()
            module.mean = tf.Variable(tf.zeros(5))
            module.f = tf.function(lambda x: {"scores": MODELS[name](tf, module, x)})
            signature = module.f.get_concrete_function(x=tf.TensorSpec((None, 5), tf.float32, "x"))
            tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
        return folder

    return call


@pytest.fixture(scope="module")
def run(saved):
    """Function that runs tests of a model with this suite; it gives the exit code and what was printed.

    All runs share a store. ``words`` are pytest's; of ``--report`` and ``--junit-xml`` the names are beside the models.
    """

    def call(name, *words, folder=ROOT, tests=("tests/test_batching.py", "tests/test_consistency.py")):
        model = saved(name)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests, f"--saved-model={model}"]
        command += [f"--samples={model.parent / 'samples.npz'}", f"--artifacts={model.parent / 'build'}", *words]
        environment = environment_apart(PYTHONPATH=str(ROOT), COLUMNS="250")
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return call


# The reference, examined.


@pytest.mark.parametrize(
    "name, what, said",
    [
        ("sound", None, ""),
        (
            "state",
            CALLS,
            r"answers differently from call to call: output 'scores' of sample \d+ moves by .*\n.*dropout",
        ),
        (
            "dropout",
            CALLS,
            r"answers differently from call to call: output 'scores'.*\n  what to do .*state that it keeps",
        ),
        (
            "infinite",
            FINITE,
            r"output 'scores' of the SavedModel is NaN on \d+ of 32 samples, the first is sample \d+\n",
        ),
        ("crowd", BATCH, r"depends on its batch: output 'scores' of sample \d .*\n  what to do .*BatchNormalization"),
    ],
)
def test_what_makes_a_savedmodel_no_reference_is_found_and_named(saved, tmp_path, name, what, said):
    """The kind of flaw is found, and output, sample, figures and what to do are said; a sound model has none."""
    model, store = saved(name), Store(tmp_path)
    data = {"samples": model.parent / "samples.npz", "cifar10_dir": None, "download": False}
    (chain,) = selection.chains(store, models=(), saved_model=model, engines={}, **data).values()
    found = examine(chain)
    assert [flaw.what for flaw in found] == ([what] if what else [])
    assert not found or re.search(said, found[0].text)
    # It is stored: whoever cannot ask the SavedModel reads it.
    assert store.recorded(name, "reference-examined") is not None
    assert examine(chain) == found


X = {"x": np.arange(32, dtype=np.float32).reshape(32, 1)}
ALLOWED = 1e-6


def found(answer, kind="values"):
    """Kinds of flaws of a reference that answers arrays (N, 1) by a function."""
    output = OutputSpec(name="y", signature_name="y", shape=(None, 1), dtype="float32", kind=kind)
    return [flaw.what for flaw in flaws(lambda inputs: {"y": answer(inputs["x"])}, [output], X, ALLOWED)]


def test_rounding_in_a_batch_is_no_flaw():
    """A deep model's answers move with the batch by a few units in the last place; by a hundredth they do not."""
    assert found(lambda x: x * (1 + 0.9 * DEEPER * ALLOWED * (len(x) == 1))) == []
    assert found(lambda x: x * (1 + 1e-2 * (len(x) == 1))) == [BATCH]


def test_two_calls_differ_by_no_more_than_rounding():
    """What the same call moves by is rounding alone, whose order hardly changes."""
    calls = iter(range(1000))
    assert found(lambda x: x + 1e-4 * next(calls)) == [CALLS]
    assert found(lambda x: x + 1e-9 * next(calls)) == []


def test_an_integer_that_rounding_decides_is_no_flaw():
    """One of the samples alone may have another class than in the batch, half of them may not."""
    assert found(lambda x: (x + 7 * (x == 3) * (len(x) == 1)).astype(np.int64)) == []
    assert found(lambda x: (x + 7 * (x % 2) * (len(x) == 1)).astype(np.int64)) == [BATCH]


def test_a_ranked_list_may_move_by_rounding_and_swap_rarely():
    """Scores in their order move as all numbers do; of nearly equal ones two change places in few samples."""
    assert found(lambda x: x * (1 + 0.9 * DEEPER * ALLOWED * (len(x) == 1)), "ranked") == []
    assert found(lambda x: x + 7 * (x == 3) * (len(x) == 1), "ranked") == []
    assert found(lambda x: x + 7 * (x % 2) * (len(x) == 1), "ranked") == [BATCH]


@pytest.mark.parametrize("fixed", [np.ones((64, 4)), np.ones((32, 4)), np.float32(1)])
def test_an_output_without_a_batch_axis_is_named(fixed):
    """Also where it has as many rows as the samples by chance, and where it is a number."""
    assert found(lambda x: fixed) == [AXIS]


def flaws_of(answer, kind="values", inputs=X):
    """What is said of a reference that answers arrays by a function: first lines."""
    output = OutputSpec(name="y", signature_name="y", shape=(None, 2), dtype="float32", kind=kind)
    found = flaws(lambda given: {"y": answer(given["x"])}, [output], inputs, ALLOWED)
    return [flaw.text.splitlines()[0] for flaw in found]


@pytest.mark.parametrize(
    "fixed, said",
    [
        (np.ones((64, 4)), "(64, 4) on 32 samples"),
        (np.ones((32, 4)), "(32, 4) on 1 sample"),
        (np.float32(1), "() on 32 samples"),
    ],
)
def test_the_shape_of_an_output_without_a_batch_axis_is_told(fixed, said):
    """With the number of samples that it was found on: all, or one alone."""
    (flaw,) = flaws_of(lambda x: fixed)
    assert flaw == f"output 'y' of the SavedModel has no batch axis: its shape is {said}"


def test_a_single_sample_is_enough_to_be_examined():
    """It is asked together and alone; several numbers of a sample, or none at all, are no flaw either."""
    one = {"x": X["x"][3:4]}
    assert flaws_of(lambda x: x * np.float32([[1, 2]]), inputs=one) == []
    assert flaws_of(lambda x: x * np.float32([[1, 2]])) == []
    assert flaws_of(lambda x: x[:, :0]) == []


@pytest.mark.parametrize("largest, moves", [(0.0, "1.0e-02"), (0.25, "4.0e-02"), (4.0, "2.5e-03")])
def test_what_moves_is_told_in_shares_of_the_largest_answer(largest, moves):
    """Of small answers and of large ones; where all are zero by itself."""
    calls = iter(range(1000))
    assert flaws_of(lambda x: (x == 5) * largest + (x == 7) * 1e-2 * (next(calls) == 9)) == [
        f"the SavedModel answers differently from call to call: output 'y' of sample 7 moves by {moves} of the "
        "largest; allowed 1.0e-06 (1 of 32 samples do)"
    ]


@pytest.mark.parametrize("bad, word", [(np.nan, "NaN"), (np.inf, "infinite")])
def test_answers_that_are_no_numbers_are_counted_by_their_samples(bad, word):
    """What is wrong, on how many samples, and which is the first, whatever place of an answer has it."""
    place = np.float32([[1, 0]])
    assert flaws_of(lambda x: np.where((x > 3) & (x < 9) & (place == 0), bad, x * np.float32([[1, 2]]))) == [
        f"output 'y' of the SavedModel is {word} on 5 of 32 samples, the first is sample 4"
    ]


def test_a_number_without_samples_may_be_an_output():
    """A constant of no axis is compared with itself: it is none where it is no number, or changes."""
    assert flaws_of(lambda x: np.float32(3), "constant") == []
    assert flaws_of(lambda x: np.float32(np.nan), "constant") == ["output 'y' of the SavedModel is NaN"]
    # What it holds is of no sample, though it may have rows.
    assert flaws_of(lambda x: np.float32([1, np.inf]), "constant") == ["output 'y' of the SavedModel is infinite"]
    for rows in (np.float32(1), np.float32([0, 1])):
        calls = iter(range(1000))
        assert flaws_of(lambda x: rows * (1 + next(calls) // 9), "constant") == [  # noqa: B023
            "the SavedModel answers differently from call to call: output 'y' moves by 1.0e+00 of the largest; "
            "allowed 1.0e-06"
        ]


def test_what_moves_is_told_by_its_worst_sample():
    """Between two calls a single sample is a flaw, and so is a single integer, by however little; so is one alone."""
    calls = iter(range(1000))
    assert flaws_of(lambda x: x + np.float32(3.1) * (x == 7) * (next(calls) == 9)) == [
        "the SavedModel answers differently from call to call: output 'y' of sample 7 moves by 1.0e-01 of the largest; "
        "allowed 1.0e-06 (1 of 32 samples do)"
    ]
    calls = iter(range(1000))
    assert flaws_of(lambda x: (10**8 + (x == 7) * (next(calls) == 9)).astype(np.int64)) == [
        "the SavedModel answers differently from call to call: output 'y' of sample 7 moves by 1.0e-08 of the largest; "
        "allowed 0.0e+00 (1 of 32 samples do)"
    ]
    assert flaws_of(lambda x: x + np.float32(0.7) * (x == 7) * (len(x) == 1)) == [
        "the SavedModel gives an answer for a sample that depends on its batch: output 'y' of sample 7 moves by "
        "9.1e-02 of the largest; allowed 1.0e-04 (1 of 8 samples do)"
    ]


def test_what_cannot_be_run_is_said():
    """A SavedModel that fails on the samples is no reference."""

    def fail(x):
        raise RunnerError("indices[0] = 7 is not in [0, 6)")

    assert found(fail) == [RUNS]
    assert flaws_of(fail) == ["the SavedModel fails on the samples: indices[0] = 7 is not in [0, 6)"]
    assert ALONE < 32


# One cause, one failure.


def failures_in(path):
    """Ids of the tests that failed or had errors, and what is said of those that were not judged, in JUnit XML."""
    cases = list(ElementTree.parse(path).iter("testcase"))
    failed = [c.get("name") for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skips = [(c, c.find("skipped").get("message")) for c in cases if c.find("skipped") is not None]
    unjudged = [(c, message) for c, message in skips if message.startswith("not judged: ")]
    for case, message in unjudged:
        properties = {p.get("name"): p.get("value") for p in case.iter("property")}
        assert f"not judged: {properties['not judged']}" == message
    return failed, [message for _, message in unjudged]


def verdicts(document):
    """Verdicts of the variants that could run, by variant."""
    return {v["variant"]: v["verdict"] for v in document["variants"] if v["verdict"] not in ("skipped", "not run")}


def test_a_reference_that_is_none_fails_once(run, tmp_path):
    """One test says what is wrong with the SavedModel; table, summary, JSON, JUnit XML and page say not judged."""
    code, output = run("state", f"--report={tmp_path}", f"--junit-xml={tmp_path / 'junit.xml'}")
    assert code == pytest.ExitCode.TESTS_FAILED
    document = json.loads((tmp_path / "conformance.json").read_text())
    counts = document["tests"]
    assert (counts["failed"], counts["passed"]) == (1, 0), output
    (failure,) = document["failures"]
    assert failure["test"] == "tests/test_consistency.py::test_the_reference_can_be_trusted[state-savedmodel-fp32]"
    assert (failure["unusable"], failure["phase"]) == ("trusted", "call")
    assert verdicts(document).pop("savedmodel-fp32") == "failed"
    assert set(verdicts(document).values()) == {"failed", "not judged"}
    assert counts["not_judged"] > 100
    assert sum(entry["tests"] for entry in document["not_judged"]) == counts["not_judged"]
    assert re.search(rf"1 failed, .*{counts['not_judged']} not judged in", output)
    assert re.search(r"^NOT JUDGED \d+ tests of \d+ variants: state: the SavedModel answers differently", output, re.M)
    assert re.search(r"^state-onnx-fp32 .* not judged$", output, re.M)
    failed, unjudged = failures_in(tmp_path / "junit.xml")
    assert (len(failed), len(unjudged)) == (1, counts["not_judged"])
    assert "nothing can be compared with savedmodel-fp32 of state" in document["verdict"]["sentences"][0]
    assert "| onnx-fp32 | not judged |" in (tmp_path / "summary.md").read_text()
    # Further formats may be built here, though they cannot run.
    assert re.search(r"\d variants not judged \(state-onnx-fp32 to ", (tmp_path / "summary.md").read_text())
    assert "– not judged" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_reference_that_is_none_fails_once_whatever_is_selected(run):
    """Where the test for it is not selected, the first of the model fails; of several processes one."""
    code, output = run("crowd", "-m", "batching", "-k", "savedmodel or onnx", "-n", "2")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert re.search(r"= 1 error, \d+ not judged in", output), output
    assert re.search(r"^ERROR tests/test_batching.py::\S+\[crowd-savedmodel-fp32", output, re.M), output
    assert "crowd: the SavedModel gives an answer for a sample that depends on its batch" in output


def test_a_variant_that_cannot_be_built_fails_once(run, tmp_path):
    """The test of the build fails; what is made from it is not judged, and the SavedModel passes; in two processes."""
    words = [f"--report={tmp_path}", f"--junit-xml={tmp_path / 'junit.xml'}", "-n", "2"]
    # What is drawn, and read from files, would take most of the time, and nothing here hangs on it.
    few = "(savedmodel or onnx) and (builds or trusted or on_samples or on_contrast)"
    code, output = run("unknown", "-m", "consistency", "-k", few, *words)
    assert code == pytest.ExitCode.TESTS_FAILED, output
    document = json.loads((tmp_path / "conformance.json").read_text())
    (failure,) = document["failures"]
    assert failure["test"] == "tests/test_consistency.py::test_builds[unknown-onnx-fp32]"
    assert failure["unusable"] == "built"
    assert "tf2onnx does not know Lgamma" in failure["message"]
    assert verdicts(document) == {
        "savedmodel-fp32": "passed",
        "onnx-fp32": "failed",
        "onnx-fp16": "not judged",
        "onnx-int8": "not judged",
    }
    failed, unjudged = failures_in(tmp_path / "junit.xml")
    assert failed == ["test_builds[unknown-onnx-fp32]"]
    assert len(unjudged) == document["tests"]["not_judged"]
    assert not [c for c in document["comparisons"] if c["variant"] != "savedmodel-fp32"]
    assert "1 variant cannot be built or run: onnx-fp32 of unknown" in document["verdict"]["sentences"][0]


KNOWN = """
[[known_failures]]
test = "tests/test_consistency.py::test_builds[unknown-onnx-fp32]"
model = "unknown"
reason = "tf2onnx has no Lgamma"
link = "https://example.org/1"
fails = "conversion"
"""


@pytest.mark.slow
def test_a_known_failure_of_a_build_is_one_and_a_required_variant_has_to_be_judged(run, tmp_path):
    """The tests that hang on a listed failure need no entries of their own; --require fails the run for them, once."""
    (tmp_path / "known.toml").write_text(KNOWN)
    selected = "savedmodel and trusted or (test_builds or reference_on) and (onnx-fp16 or onnx-fp32)"
    words = ["-k", selected, f"--known-failures={tmp_path / 'known.toml'}", "--require=onnx-fp16"]
    code, output = run("unknown", *words, tests=["tests/test_consistency.py"])
    assert code == pytest.ExitCode.TESTS_FAILED
    assert re.search(r"= 1 passed, .*1 xfailed, 1 error, \d+ not judged in", output), output
    assert re.search(r"^unknown-onnx-fp32 .* known failure$", output, re.M)
    assert re.search(r"^unknown-onnx-fp16 .* not judged$", output, re.M)
    told = re.findall(r"^--require onnx-fp16: these variants were not judged: (\S+) \(.*Lgamma", output, re.M)
    assert told == ["unknown-onnx-fp16"]


UNOPENED = """
import pytest
from engines.errors import RunnerError
from engines.formats import registry

def refuse(*_, **__):
    raise RunnerError("the file cannot be loaded\\nin many words")

registry.find("onnx").open = registry.find("tflite").open = refuse

def test_early(chain): pass
def test_needs(runner): pass
def test_needs_too(runner): pass
def test_opens(chain, variant):
    with chain.runner(variant, batch_size=3): pass

@pytest.mark.formats("tflite")
def test_builds(variant):
    pytest.skip("after all others")
"""


@pytest.mark.slow
def test_a_variant_that_cannot_be_opened_fails_once(run, tmp_path):
    """The first test that opens it fails, in words; where the one that should does not come so far, the run fails."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_unopened.py").write_text(UNOPENED)
    words = ["-p", "conftest", "-k", "onnx-fp32 or tflite-fp32"]
    code, output = run("sound", *words, folder=tmp_path, tests=["test_unopened.py"])
    assert code == pytest.ExitCode.TESTS_FAILED
    assert re.findall(r"^ERROR (\S+)", output, re.M) == ["test_unopened.py::test_needs[sound-onnx-fp32]"]
    assert "ERROR at gate of tflite-fp32 of sound cannot be opened" in output
    assert "3 tests were not judged for it, and no test that would fail of it ran" in output
    assert re.search(r"= 2 passed, 1 skipped, .*2 errors, 5 not judged in", output), output
    assert re.search(r"^NOT JUDGED 5 tests of 2 variants: the file cannot be loaded$", output, re.M)


@pytest.mark.slow
def test_a_sound_model_is_judged_as_ever(run):
    """The reference passes its examination, and nothing is left unjudged."""
    selected = "reference_on_samples or trusted or test_builds and savedmodel"
    code, output = run(
        "sound", "-k", f"({selected}) and (savedmodel or onnx-fp32)", tests=["tests/test_consistency.py"]
    )
    assert code == pytest.ExitCode.OK, output
    assert "not judged" not in output
    assert re.search(r"= 4 passed, .*deselected in", output), output
