"""`python -m fixtures.check_csv`: sound predictions pass, each fault of a program fails and is named."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from commands import check_csv
from commands.__main__ import main as commands
from engines import exports
from engines.chain import Chain
from engines.model import exchange
from engines.model.bundled import find_model
from engines.model.samples import Dataset, Samples
from engines.model.selection import find_data
from engines.model.toml import load_model
from engines.store import Store
from engines.variant import Variant
from fixtures.chain import artifact_folder
from tests.meta import stand_in

ROOT = Path(__file__).resolve().parents[2]
COUNT = 100
CLASSES = 10

main = partial(check_csv.COMMAND.main, prog="python -m fixtures.check_csv")
"""The command as its older line runs it, which people have in their scripts."""


@dataclass(frozen=True)
class Exchange:
    """A model whose samples are exported, and a program that answers them."""

    model: str
    artifacts: Path
    data: tuple[str, ...]
    """The option that names the data, where this run has it."""
    plans: dict[str, Path]
    folder: Path
    program: Path
    chain: Chain

    def answer(self, fault: str = "", plan: str = "fp32") -> tuple[Path, Path]:
        """Have the program answer the exported samples; gives its predictions and its report."""
        name = "-".join([*fault.split(), plan])
        output, report = self.folder / f"{name}.csv", self.folder / f"{name}.json"
        if not output.exists():
            words = ["--plan", self.plans[plan], "--csv", self.folder / exchange.SAMPLES]
            stand_in.plant(self.program, fault)
            subprocess.run([self.program, *words, "--output", output, "--json", report], check=True)
        return output, report

    def words(self, predictions: Path, *more: object, variant: str = "onnx-fp32") -> list[str]:
        """Words of the command that judges predictions."""
        words = [self.model, predictions, f"--variant={variant}", f"--artifacts={self.artifacts}"]
        return [str(word) for word in [*words, f"--samples={COUNT}", *self.data, *more]]


@pytest.fixture(scope="session")
def exchanged(pytestconfig, tmp_path_factory) -> Callable[[str], Exchange]:
    """Export a model's samples as a user does, and give them with a program and its engines."""
    known: dict[str, Exchange] = {}

    def call(model: str) -> Exchange:
        if model not in known:
            folder, artifacts = tmp_path_factory.mktemp(model), artifact_folder(pytestconfig)
            option = pytestconfig.getoption("--cifar10-dir")
            data = (f"--cifar10-dir={option}",) if option else ()
            words = ["export-csv", model, f"--samples={COUNT}", f"--output={folder}", f"--artifacts={artifacts}", *data]
            assert commands(words) == 0
            spec, store = load_model(find_model(model)), Store(artifacts)
            chain = Chain(spec, find_data(spec, store, option), store)
            plans = {precision: chain.file(Variant("onnx", precision)) for precision in ("fp32", "fp16")}
            known[model] = Exchange(model, artifacts, data, plans, folder, stand_in.program(folder), chain)
        return known[model]

    return call


@pytest.fixture(scope="session")
def digits(exchanged):
    """The digits, which have labels on every machine."""
    return exchanged("digits_vgg")


@pytest.fixture
def sound(digits):
    """The program's own answers, and nothing else."""
    return exchange.read_results(digits.answer()[0], CLASSES)


@pytest.fixture
def judge(capsys):
    """Run the command in this process; gives the exit code and what it printed."""

    def call(words):
        code = main(words)
        out, error = capsys.readouterr()
        return code, out + error

    return call


def of_scores(scores):
    """Results of a program that answers with these scores."""
    classes = scores.argmax(axis=1)
    confidences = np.take_along_axis(scores, classes[:, None], axis=1)[:, 0]
    return exchange.Results(np.arange(len(scores)), classes, confidences, np.ascontiguousarray(scores))


@pytest.mark.parametrize("name", ["onnx-fp32", "onnx-fp16", "onnx-int8", "tflite-fp32", "tflite-fp16", "tflite-int8"])
def test_what_an_engine_of_the_suite_answers_passes(digits, judge, tmp_path, name):
    """Every variant's own answers, written as CSV, are sound by the command as they are by the tests."""
    with digits.chain.runner(Variant(*name.split("-"))) as runner:
        (scores,) = runner(exports.exchanged(digits.chain, COUNT).inputs).values()
    predictions = tmp_path / "predictions.csv"
    exchange.write_results(predictions, of_scores(scores))
    code, text = judge(digits.words(predictions, variant=name))
    assert code == 0, text


def test_int8_probabilities_are_judged_by_their_steps_where_they_have_them(digits, judge, tmp_path):
    """Probabilities between the steps of 8 bits have to sum to one, whatever the variant is called."""
    with digits.chain.runner(Variant("tflite", "int8")) as runner:
        (scores,) = runner(exports.exchanged(digits.chain, COUNT).inputs).values()
    scores = scores.copy()
    scores[3, 0] += np.float32(1 / 1024)
    predictions = tmp_path / "predictions.csv"
    exchange.write_results(predictions, of_scores(scores))
    code, text = judge(digits.words(predictions, variant="tflite-int8"))
    assert code == 1
    assert "FAILED sum" in text


def test_sound_predictions_pass(digits, judge):
    """A program's answers and its hash are the reference's: exit code 0, with figures, accuracy and proof."""
    predictions, report = digits.answer()
    code, text = judge(digits.words(predictions, f"--fed={report}"))
    assert code == 0, text
    assert text.startswith(f"{predictions}: passed as onnx-fp32 of digits_vgg\n")
    assert re.search(r"100 samples: max \S+ of 6\.80e-06 allowed, mean .*flips 0/100; needed/allowed 0\.\d\d", text)
    assert re.search(r"accuracy   (\d+) of 100 right \(.*, by the SavedModel \1 \(.*; 2 may be lost", text)
    assert re.search(r"fed        the samples of csv-100, proved by their SHA-256 [0-9a-f]{64}", text)


def test_without_a_report_it_says_what_is_not_proved(digits, judge):
    """Without --fed the answers still decide, and the output says that nothing proves what was fed."""
    code, text = judge(digits.words(digits.answer()[0]))
    assert code == 0, text
    assert "fed        not proved to be csv-100" in text
    assert "--fed REPORT.json" in text


def test_fp16_answers_are_right_for_fp16_only(digits, judge):
    """Answers with the rounding of FP16 pass as FP16, by its row or a batch profile's name, and fail as FP32."""
    predictions, report = digits.answer(plan="fp16")
    for variant in ("onnx-fp16", "tensorrt-fp16", "tensorrt-fp16-b1.16.32"):
        code, text = judge(digits.words(predictions, f"--fed={report}", variant=variant))
        assert code == 0, text
    code, text = judge(digits.words(predictions, f"--fed={report}", variant="tensorrt-fp32"))
    assert code == 1, text
    assert re.search(r"judged as tensorrt-fp32, does not give the reference's answers for digits_vgg", text)
    assert re.search(r"FAILED max +needed", text)
    assert "a lower precision than stated" in text
    assert "csv-100, 100 samples in batches of at most 32\n" in text


FED = {
    "random data": "fed other data, such as random numbers",
    "npy header": r"the .npy header \(128 bytes\) was read as pixels",
    "shifted column": "rows are shifted by one column: each starts with sample_id",
    "dropped remainder": "the last batch, of 4, was dropped: 96 of 100",
}


@pytest.mark.parametrize("fault", FED)
def test_what_was_fed_instead_is_named(digits, judge, fault):
    """A hash that is not the exported one fails before any score is judged, with the mistake and both hashes."""
    predictions, report = digits.answer(fault)
    code, text = judge(digits.words(predictions, f"--fed={report}"))
    assert code == 1, text
    assert re.search(rf"(?s)fed +something other.*exported +SHA-256 \S+\n  likely +.*{FED[fault]}", text), text
    assert "its scores were not judged" in text


@pytest.mark.parametrize("fault", FED)
def test_a_hash_that_lies_passes_nothing(digits, judge, fault):
    """A program that claims the exported hash, and was fed something else, fails by its answers."""
    predictions, report = digits.answer(fault + stand_in.LIES)
    code, text = judge(digits.words(predictions, f"--fed={report}"))
    assert code == 1, text
    assert re.search(r"FAILED max +needed|96 of 100 samples have results", text)


RESULTS = {
    "missing sample": "99 of 100 samples have results; missing are 1, from 50 to 50",
    "repeated sample": "sample 0 has 2 rows of results; expected one",
    "reordered samples": "not in the order of the samples: row 1 is sample 2",
    "another class": r"sample 3 has class \d; expected \d, whose score is the largest",
    "another confidence": r"sample 3 has confidence 0\.5; expected 0\.\d+, the score of its class",
}


@pytest.mark.parametrize("fault", RESULTS)
def test_rows_that_are_not_one_a_sample_are_named(digits, judge, fault):
    """Rows left out, repeated or in another order, and a class or confidence that is not the scores', are failures."""
    predictions, report = digits.answer(fault)
    code, text = judge(digits.words(predictions, f"--fed={report}"))
    assert code == 1, text
    assert re.search(rf"problem +.*{RESULTS[fault]}", text), text


def test_a_dropped_last_batch_is_named_without_a_report(digits, judge):
    """96 answers for 100 samples are a failure that names the four, also where nothing tells the batch size."""
    code, text = judge(digits.words(digits.answer("dropped remainder")[0]))
    assert code == 1, text
    assert "96 of 100 samples have results; missing are 4, from 96 to 99: the last batch, of 4, was dropped" in text


@pytest.mark.slow
def test_every_sample_the_same_class_is_named(exchanged, judge):
    """A program fed random numbers calls every sample a frog: the message shows the class, and what that looks like."""
    cifar = exchanged("cifar10_vgg")
    code, text = judge(cifar.words(cifar.answer("random data")[0], variant="tensorrt-fp32"))
    assert code == 1, text
    assert re.search(r"got +top 3 +frog", text), text
    assert re.search(r"likely +as if fed data that has nothing to do with .*; \d+ of 100 get class 6", text), text


CHANGED = {
    "late": (lambda scores: np.roll(scores, 1, axis=0), "the answers are shifted: answer k is that of sample k - 1"),
    "early": (lambda s: np.roll(s, -32, axis=0), r"the answers are shifted: answer k is that of sample k \+ 32"),
    "order": (lambda s: s[::-1], "in another order than the samples: answer 0 is that of sample 99, answer 1 is"),
    "classes": (lambda s: s[:, [1, 0, *range(2, 10)]], "the classes are permuted: class 0 is at 1, class 1 is at 0"),
    "logits": (lambda s: np.log(np.maximum(s, 1e-12)), "the softmax is missing"),
    "one answer": (lambda s: np.repeat(s[:1], len(s), axis=0), "every sample gets the same answer"),
    "end": (lambda s: np.concatenate([s[:96], s[:4]]), "all answers but the last 4 are right: as if the last batch"),
    "one of them": (lambda s: np.concatenate([s[:80], s[:1], s[81:]]), "99 of 100 top-1 classes agree but the values"),
    "NaN": (lambda s: np.where(np.indices(s.shape).sum(0) == 3, np.nan, s), r"problem .*4 of 1000 .* NaN or infinite"),
    "infinity": (lambda s: np.where(s == s.max(), np.inf, s), r"problem .*1 of 1000 .* NaN or infinite"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_answers_of_other_samples_and_damaged_ones_are_named(digits, sound, judge, tmp_path, what):
    """Shifted and reordered answers under right ids, permuted classes and scores that are none fail, each named."""
    change, message = CHANGED[what]
    predictions = tmp_path / "predictions.csv"
    write(predictions, of_scores(change(sound.probabilities).astype(np.float32)))
    code, text = judge(digits.words(predictions))
    assert code == 1, text
    assert re.search(message, text), text
    assert re.search(r"accuracy +\S.*\n  fed +not proved to be csv-100", text), text
    assert re.search(r"replay +python -m fixtures.check_csv digits_vgg ", text)


def write(path, results):
    """Write results as a C++ program does: NaN and infinity too."""
    rows = zip(results.ids, results.classes, results.confidences, results.probabilities, strict=True)
    lines = [f"{i},{c},{s:.9g},{','.join(f'{p:.9g}' for p in row)}" for i, c, s, row in rows]
    path.write_text("\n".join([",".join(exchange.result_columns(CLASSES)), *lines]) + "\n", encoding="ascii")


def test_what_is_judged_is_what_was_written(digits, sound, judge, tmp_path):
    """The same answers, written again unchanged, pass: it is the change that fails the ones above."""
    write(tmp_path / "predictions.csv", of_scores(sound.probabilities))
    code, text = judge(digits.words(tmp_path / "predictions.csv"))
    assert code == 0, text


def test_accuracy_fails_what_the_scores_pass(digits, judge, monkeypatch):
    """Right scores of a model that does no better than guessing on the labels are a failure, and say so."""
    test = Dataset.test

    def other_labels(self, count=None):
        samples = test(self, count)
        return Samples(samples.inputs, np.roll(samples.labels, 1), samples.origin)

    monkeypatch.setattr(Dataset, "test", other_labels)
    code, text = judge(digits.words(digits.answer()[0]))
    assert code == 1, text
    assert re.search(r"accuracy +FAILED: the variant has \d+ of 100 right .*not better than chance", text), text
    assert re.search(r"csv: FAILED as onnx-fp32", text)


def test_without_labels_the_accuracy_is_not_judged(digits, judge, monkeypatch):
    """Where nobody knows the labels the scores decide, and the output says why accuracy does not."""
    test = Dataset.test
    monkeypatch.setattr(Dataset, "test", lambda self, count=None: replace(test(self, count), labels=None))
    code, text = judge(digits.words(digits.answer()[0]))
    assert code == 0, text
    assert "accuracy   not judged" in text


# What cannot be used: exit code 2, and no verdict.


@pytest.fixture
def unusable(digits, judge):
    """Run the command on what cannot be used; gives what it said."""

    def call(*more, predictions=None, variant="onnx-fp32"):
        code, text = judge(digits.words(predictions or digits.answer()[0], *more, variant=variant))
        assert code == 2, text
        assert text.startswith("error: ")
        assert len(text.splitlines()) == 1
        return text

    return call


def test_another_header_is_refused_by_place(digits, unusable, tmp_path):
    """Predictions of nine classes for a model of ten are refused, with file, line and what is expected."""
    lines = [line.rpartition(",")[0] for line in digits.answer()[0].read_text().splitlines()]
    (tmp_path / "nine.csv").write_text("\n".join(lines))
    text = unusable(predictions=tmp_path / "nine.csv")
    place = f"{tmp_path / 'nine.csv'}: line 1, column 13: the line has 12 columns; expected 13"
    assert f"{place}: sample_id,class,confidence,…,p_9" in text


def test_a_cell_that_is_no_number_is_refused_by_place(digits, unusable, tmp_path):
    """Text among the scores is refused with line and column; a missing file is named."""
    lines = digits.answer()[0].read_text().splitlines()
    lines[7] = ",".join([*lines[7].split(",")[:5], "x", *lines[7].split(",")[6:]])
    (tmp_path / "text.csv").write_text("\n".join(lines))
    assert "text.csv: line 8, column 6 (p_2) is 'x'; allowed" in unusable(predictions=tmp_path / "text.csv")
    assert f"{tmp_path / 'none.csv'}: no such file" in unusable(predictions=tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory; expected the program's --json"),
        ("{", "is not JSON"),
        ("[]", "fed_sha256 is None; expected 64 hexadecimal digits"),
        ('{"fed_sha256": "abc"}', "fed_sha256 is 'abc'; expected 64 hexadecimal digits"),
        (f'{{"fed_sha256": "{"0" * 64}", "batch": 0}}', "batch is 0; allowed: a whole number from 1 on"),
    ],
)
def test_a_report_that_is_none_is_refused(unusable, tmp_path, content, message):
    """A report that is missing, no JSON, or says nothing of what was fed is no proof: it is refused by name."""
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    assert f"--fed {path}: {message}" in unusable(f"--fed={path}")


def test_names_that_are_none_are_refused(digits, judge, unusable):
    """An unknown variant or model is refused with those that there are."""
    text = unusable(variant="tensorrt-fp8")
    assert "--variant tensorrt-fp8 is none of digits_vgg; allowed: savedmodel-fp32, onnx-fp32" in text
    words = digits.words(digits.answer()[0])
    code, text = judge(["digits_vg", *words[1:]])
    assert code == 2
    assert "no model 'digits_vg' (did you mean 'digits_vgg'?)" in text


class Copied:
    """A copy of the artifacts of the digits, to be damaged."""

    def __init__(self, digits, folder):
        self.digits, self.artifacts = digits, folder / "build"
        for name in ("savedmodel-fp32", "reference-samples", f"csv-{COUNT}"):
            shutil.copytree(digits.artifacts / digits.model / name, self.folder / name)

    @property
    def folder(self):
        """The folder of the model."""
        return self.artifacts / self.digits.model

    def words(self, *more):
        """Words of the command on this copy, without --samples."""
        words = [self.digits.model, str(self.digits.answer()[0]), "--variant=onnx-fp32"]
        return [*words, f"--artifacts={self.artifacts}", *more]


@pytest.fixture
def copied(digits, tmp_path):
    """Copy of the artifacts."""
    return Copied(digits, tmp_path)


@pytest.mark.slow
def test_the_only_export_is_what_is_judged_by(copied, judge):
    """With one export there is nothing to say; with several, and with another number, the command asks which."""
    code, text = judge(copied.words())
    assert code == 0, text
    code, text = judge(copied.words("--samples=96"))
    assert code == 2
    assert re.search(r"--samples 96: .* holds no such export of digits_vgg; allowed: 100, or any after `python", text)
    shutil.copytree(copied.folder / f"csv-{COUNT}", copied.folder / "csv-96")
    code, text = judge(copied.words())
    assert code == 2
    assert re.search(r"--samples is not given, and .* holds several exports.*: 96, 100", text)


def test_without_an_export_the_command_that_makes_it_is_named(copied, judge):
    """An artifact folder without an export, or with a damaged one, is refused with the command that makes it."""
    (copied.folder / f"csv-{COUNT}" / exchange.SAMPLES).write_text("sample_id\n")
    code, text = judge(copied.words())
    assert code == 2
    assert re.search(r"csv-100: is damaged.*`python -m engines export-csv digits_vgg .*--samples 100`", text)
    shutil.rmtree(copied.folder / f"csv-{COUNT}")
    code, text = judge(copied.words())
    assert code == 2
    assert re.search(r"--artifacts .*: holds no exported samples of digits_vgg; .*`python -m engines export-csv", text)


@pytest.mark.parametrize("what", ["other samples", "fewer samples"])
def test_an_export_of_other_data_is_refused(copied, judge, monkeypatch, what):
    """Where other samples are found than were exported nothing is judged or made, and both are named."""
    if what == "other samples":
        test = Dataset.test
        monkeypatch.setattr(Dataset, "test", lambda self, count=None: reversed_(test(self, count)))
    else:
        monkeypatch.setattr(Dataset, "test_count", COUNT - 1)
    before = (copied.folder / "reference-samples" / "artifact.json").read_bytes()
    code, text = judge(copied.words())
    assert code == 2, text
    message = "holds 100 samples of .*digits.*, which are not those found here: .*digits.*--cifar10-dir"
    assert re.search(message, text), text
    assert (copied.folder / "reference-samples" / "artifact.json").read_bytes() == before


def reversed_(samples):
    """Samples in reverse order."""
    return replace(samples, inputs={name: array[::-1] for name, array in samples.inputs.items()})


def test_without_tensorflow_the_stored_reference_is_enough(copied, judge, monkeypatch):
    """Where TensorFlow is not installed the stored reference serves; without it the command that makes it is named."""
    monkeypatch.setattr("engines.formats.savedmodel.packages.unavailable", lambda: "TensorFlow is not installed")
    code, text = judge(copied.words())
    assert code == 0, text
    shutil.rmtree(copied.folder / "reference-samples")
    code, text = judge(copied.words())
    assert code == 2
    assert re.search(r"no valid digits_vgg/reference-samples .*`python -m engines export-csv .* --samples 100`", text)


@pytest.mark.parametrize("fault", ["", "another class"], ids=["sound", "faulty"])
def test_the_command_judges_and_imports_no_tensorflow(digits, tmp_path, fault):
    """The real command gives the verdict as its exit code, without a traceback, and never imports TensorFlow."""
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('imported TensorFlow')")
    predictions, report = digits.answer(fault)
    done = subprocess.run(
        [sys.executable, "-m", "fixtures.check_csv", *digits.words(predictions, "--fed", report)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (int(bool(fault)), ""), done.stdout + done.stderr
    if fault:
        replay = re.search(r"replay +python (.*)", done.stdout)
        again = subprocess.run([sys.executable, *shlex.split(replay[1])], cwd=ROOT, capture_output=True, check=False)
        assert (again.returncode, again.stdout.decode()) == (1, done.stdout)


def test_the_help_has_an_example(capsys):
    """--help says what the three commands are, and what the exit codes mean."""
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for part in ("engines export-csv", "trt8_infer --plan", "fixtures.check_csv cifar10_vgg", "exit code: 0 sound"):
        assert part in text
