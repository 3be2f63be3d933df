"""What an engine answered before is given again while all that its bits hang on is the same, and never otherwise."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conformance.compare import Grid
from engines import asking, machine
from engines import book as books
from engines import identity as identities
from engines.asking import AskedRunner, Remembered, StaleAnswersError, Tally, different
from engines.book import FILE, Book
from engines.errors import RunnerError
from engines.formats import registry
from engines.formats.onnx.runner import OnnxRunner
from engines.formats.tflite.runner import TFLiteRunner
from engines.late import LateRunner
from engines.side_by_side import side_by_side
from engines.store import Recipe, Store
from engines.variant import Variant
from fixtures.chain import artifact_folder
from tests.meta.valid import validate
from trial.causes import cause
from trial.judged import compared_by
from trial.outputs import Outputs
from trial.rules import rule_of

ROOT = Path(__file__).resolve().parents[2]

ONNX, TFLITE = Variant("onnx", "fp32"), Variant("tflite", "fp32")


@pytest.fixture(scope="module")
def images():
    """Seventy samples, float32 (70, 10, 8, 1): two batches and a part of one."""
    return {"input_1": np.random.default_rng(5).random((70, 10, 8, 1), np.float32)}


class Runs:
    """Runs of an engine that share a store, each as a process of its own has them."""

    def __init__(self, folder, chain):
        self.store, self.chain, self.told = Store(folder), chain, []

    def asked(self, engine, recipe=None, *, fresh=False, chance=0.99, remembered=None):
        """The engine, asked in a new run, and its book."""
        recipe = recipe or identities.identity(self.chain, engine)
        book = Book(self.store, "digits_vgg", "answers-engine.place", recipe, fresh=fresh)
        return AskedRunner(
            engine, book, remembered or Remembered(), Tally(), self.told.append, self.forget, lambda: chance
        )

    def forget(self):
        """Remove what is stored."""
        for name in self.store.names("digits_vgg"):
            self.store.remove("digits_vgg", name)

    def run(self, engine, inputs, recipe=None, **settings):
        """Answers of a whole run, and how many samples' answers were stored and run for."""
        asked = self.asked(engine, recipe, **settings)
        outputs = asked(inputs)
        asked.book.close()
        return outputs, (asked.tally.stored, asked.tally.run)


@pytest.fixture
def runs(tmp_path, digits):
    """Runs that share an empty store."""
    return Runs(tmp_path / "store", digits)


@pytest.fixture(scope="module")
def onnx(digits):
    """Runner of the ONNX in FP32."""
    with digits.runner(ONNX) as runner:
        yield runner


@pytest.fixture(scope="module")
def tflite(digits):
    """Runner of the TFLite file in FP32."""
    with digits.runner(TFLITE) as runner:
        yield runner


@pytest.fixture(params=["onnx", "tflite"])
def engine(request):
    """A runner of each format that is stored and opened at once."""
    return request.getfixturevalue(request.param)


def test_an_unchanged_engine_is_not_run_again(runs, engine, images):
    """The second run has the answers of the first, bit for bit, and runs one batch of them to see that they hold."""
    first, counted = runs.run(engine, images)
    assert counted == (0, 70)
    again, counted = runs.run(engine, images)
    assert counted == (70, 0)
    assert different(again, first) is None
    assert different(again, engine(images)) is None
    assert runs.told == []


def test_batches_that_were_asked_before_are_not_run_again_in_one_run(runs, onnx, images):
    """Of seventy samples behind the first forty the first batch is known; the others hold other samples."""
    remembered = Remembered()
    runs.asked(onnx, remembered=remembered)({"input_1": images["input_1"][:40]})
    later = runs.asked(onnx, remembered=remembered)
    outputs = later(images)
    assert (later.tally.stored, later.tally.run) == (0, 70)
    assert len(remembered.batches) == 4, "32 and 8 samples, and then 32 and 6 that are new"
    assert different(outputs, onnx(images)) is None


def edited(folder, digits):
    """An ONNX in whose artifact one weight is another."""
    import onnx
    from onnx import numpy_helper

    shutil.copytree(digits.artifact(ONNX).folder, folder)
    model = onnx.load(str(folder / "model.onnx"))
    first = next(t for t in model.graph.initializer if t.data_type == 1 and len(t.dims) > 1)
    values = numpy_helper.to_array(first).copy()
    values.reshape(-1)[0] += 1.0
    first.CopyFrom(numpy_helper.from_array(values, first.name))
    onnx.save(model, str(folder / "model.onnx"))
    return folder / "model.onnx"


def test_an_edited_engine_is_run(tmp_path, digits, images):
    """A file in which one weight was changed is another engine, whatever it is called: its own answers are judged."""
    path = tmp_path / "brought.onnx"
    shutil.copyfile(digits.file(ONNX), path)
    chain = replace(digits, store=Store(tmp_path / "chain"), brought={"onnx": path}, _failed={}, known={})
    runs = Runs(tmp_path / "store", chain)
    with chain.runner(ONNX) as before:
        first, _ = runs.run(before, images)
    shutil.copyfile(edited(tmp_path / "edited", digits), path)
    with chain.runner(ONNX) as after:
        outputs, counted = runs.run(after, images)
        assert counted == (0, 70)
        assert different(outputs, after(images)) is None
    assert different(outputs, first)
    assert runs.told == [], "no batch was run to find that out"


def a_bit(inputs):
    array = inputs["input_1"].copy()
    array.view(np.uint32).reshape(-1)[0] ^= 1
    return {"input_1": array}


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (a_bit, 38),
        (lambda inputs: {"input_1": inputs["input_1"][::-1]}, 0),
        (lambda inputs: {"input_1": inputs["input_1"][1:]}, 0),
        (lambda inputs: {"input_1": inputs["input_1"][:-1]}, 64),
    ],
    ids=["a bit", "another order", "batched with others", "one sample less"],
)
def test_another_input_is_run(runs, onnx, images, change, left):
    """A batch counts as asked before only with the same samples in the same order; others of the call are left."""
    runs.run(onnx, images)
    changed = change(images)
    outputs, (stored, _) = runs.run(onnx, changed)
    assert stored == left
    assert different(outputs, onnx(changed)) is None
    assert runs.told == []


CPUINFO = "vendor_id\t: AuthenticAMD\nmodel name\t: EPYC\nflags\t\t: fpu avx2{more}\n\n"


def processor(monkeypatch, tmp_path, text, caches=("32K", "1024K")):
    """Let the machine be another one, as Linux has it."""
    folder = tmp_path / f"cpu-{len(list(tmp_path.iterdir()))}"
    for number, size in enumerate(caches):
        (folder / "cache" / f"index{number}").mkdir(parents=True)
        (folder / "cache" / f"index{number}" / "size").write_text(size, encoding="utf-8")
    (folder / "cpuinfo").write_text(text, encoding="utf-8")
    monkeypatch.setattr(machine, "CPUINFO", folder / "cpuinfo")
    monkeypatch.setattr(machine, "CACHES", folder / "cache")


def installed(monkeypatch, name, version=None, listed=""):
    """Let a distribution have another version, or other files."""
    real = machine.metadata.distribution
    found = real(name)
    other = SimpleNamespace(version=version or found.version, read_text=lambda _: found.read_text("RECORD") + listed)
    monkeypatch.setattr(machine.metadata, "distribution", lambda asked: other if asked == name else real(asked))
    machine.package.cache_clear()


def edited_code(monkeypatch, tmp_path, file, old, new):
    """Let the package of the format have an edited module."""
    format_ = registry.find("tflite")
    shutil.copytree(format_.module.parent, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "package" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(type(format_), "module", tmp_path / "package" / "format.py")


CHANGES = {
    "flags": lambda m, t: processor(m, t, CPUINFO.format(more=" avx512f")),
    "model of the processor": lambda m, t: processor(m, t, CPUINFO.format(more="").replace("EPYC", "Ryzen")),
    "one kind of core more": lambda m, t: processor(m, t, CPUINFO.format(more="") + CPUINFO.format(more=" sse4a")),
    "caches": lambda m, t: processor(m, t, CPUINFO.format(more=""), ("32K", "512K")),
    "cores": lambda m, _: m.setattr(machine.os, "sched_getaffinity", lambda _: set(range(64)), raising=False),
    "system": lambda m, _: m.setattr(machine.platform, "libc_ver", lambda: ("glibc", "2.99")),
    "Python": lambda m, _: m.setattr(machine.platform, "python_version", lambda: "3.99.0"),
    "denormals": lambda m, _: m.setattr(machine, "denormals", lambda: "flushed to zero"),
    "a variable": lambda m, _: m.setattr(machine, "STARTED", machine.variables({"OMP_NUM_THREADS": "1"})),
    "the runtime's version": lambda m, _: installed(m, "ai-edge-litert", version="9.9.9"),
    "the runtime's files": lambda m, _: installed(m, "ai-edge-litert", listed="other.so,sha256=x,1\n"),
    "NumPy": lambda m, _: installed(m, "numpy", version="9.9.9"),
    "the runner's code": lambda m, t: edited_code(
        m, t, "runner.py", "np.rint(values / self.scale)", "np.floor(values)"
    ),
    "code beside it": lambda m, t: edited_code(m, t, "layers.py", "PASSED_ON_BY", "PASSED_ON"),
    "a method in this process": lambda m, _: m.setattr(TFLiteRunner, "_run", lambda self, inputs: inputs),
    "a method of all runners": lambda m, _: m.setattr(TFLiteRunner.__mro__[1], "_batches", lambda self, inputs: []),
}


@pytest.fixture
def usual(monkeypatch, tmp_path):
    """A processor that tests know."""
    processor(monkeypatch, tmp_path, CPUINFO.format(more=""))
    yield
    machine.package.cache_clear()


@pytest.mark.usefixtures("usual")
@pytest.mark.parametrize("change", CHANGES)
def test_each_part_of_the_key_counts(runs, tflite, images, monkeypatch, tmp_path, change):
    """Another processor, system, runtime or runner: nothing that is stored counts, and the book says why."""
    runs.run(tflite, images)
    assert runs.run(tflite, images)[1] == (70, 0)
    with monkeypatch.context() as changed:
        CHANGES[change](changed, tmp_path)
        recipe = identities.identity(runs.chain, tflite)
    asked = runs.asked(tflite, recipe)
    asked(images)
    assert (asked.tally.stored, asked.tally.run) == (0, 70)
    assert re.search(r"its input .* changed|made on .*, here is |now has \$OMP_NUM_THREADS", asked.book.lacking)


@pytest.mark.parametrize(
    "settings", [{"threads": 2}, {"built_in": True}, {"batch_size": 16}], ids=["threads", "kernels", "batches"]
)
def test_another_setting_of_the_runner_counts(runs, tflite, digits, images, settings):
    """Threads, kernels and the size of batches are the runner's own: the same file is run again with others."""
    runs.run(tflite, images)
    with TFLiteRunner(digits.spec, TFLITE, digits.file(TFLITE), **settings) as other:
        outputs, counted = runs.run(other, images)
        assert counted == (0, 70)
        assert different(outputs, other(images)) is None
    assert runs.told == []


def test_options_signature_and_model_count(digits, onnx):
    """What the command line chooses of a format, and names, shapes and dtypes of the model, are of the key."""
    found = identities.identity(digits, onnx)
    output = replace(digits.spec.outputs[0], name="other")
    for other in (
        replace(digits.spec, settings={"onnx-provider": ("CUDAExecutionProvider",)}),
        replace(digits.spec, signature="other"),
        replace(digits.spec, outputs=(output,)),
    ):
        parameters = identities.identity(SimpleNamespace(spec=other, artifact=digits.artifact), onnx).parameters
        assert parameters != found.parameters


def test_a_processor_is_told_by_what_it_can_do():
    """The clock of a core and its number say nothing, nor how many cores are alike; the caches count."""
    text = CPUINFO.format(more="")
    clocked = text.replace("flags", "cpu MHz\t: 12\nprocessor\t: 3\nflags")
    assert machine.processor(text) == machine.processor(2 * clocked)
    assert machine.processor(text) != machine.processor(text, ["32K"])


def test_what_only_chooses_words_is_no_variable_that_counts():
    """Levels of logs change no bit; threads, kernels and preloaded libraries may."""
    told = machine.variables({"TF_CPP_MIN_LOG_LEVEL": "2", "HOME": "/root", "TF_ENABLE_ONEDNN_OPTS": "0", "OMP_X": "1"})
    assert told == {"$OMP_X": "1", "$TF_ENABLE_ONEDNN_OPTS": "0"}


def test_variables_of_terraform_are_neither_kept_nor_printed():
    """They begin as TensorFlow's do, and have secrets in them; records and messages would have those too."""
    secret = {"TF_VAR_password": "x", "TF_TOKEN_app_terraform_io": "x", "TF_CLI_ARGS": "x", "TF_HTTP_PASSWORD": "x"}
    assert machine.variables({**secret, "TF_NUM_INTRAOP_THREADS": "2"}) == {"$TF_NUM_INTRAOP_THREADS": "2"}


def test_of_variables_only_one_that_changed_is_named(tmp_path):
    """A line has what was set otherwise, and not all that is set."""
    store, was = Store(tmp_path), {"$OMP_X": "1", "$TF_X": "1"}

    def build(folder):
        (folder / "file").write_text("content")

    store.put("model", "answers", Recipe({}, environment=was), build)
    for now, told in (({"$TF_X": "2"}, "made on $TF_X 1, here is 2"), ({"$MKL_X": "3"}, "now has $MKL_X")):
        assert told in store.state("model", "answers", Recipe({}, environment={**was, **now}))


def test_fresh_takes_nothing_and_stores_anew(runs, onnx, images):
    """With --fresh every engine is run, and what it answers takes the place of what was stored."""
    recipe = identities.identity(runs.chain, onnx)
    runs.run(onnx, images)
    path = runs.store.find("digits_vgg", "answers-engine.place", recipe).file(FILE)
    before = path.stat().st_mtime_ns
    assert runs.run(onnx, images, fresh=True)[1] == (0, 70)
    assert path.stat().st_mtime_ns > before
    assert runs.run(onnx, images)[1] == (70, 0)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "was truncated"),
        (lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]), "sha256 differs"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: (path.parent / "artifact.json").write_text("{"), "not readable JSON"),
    ],
    ids=["truncated", "another byte", "no file", "no record"],
)
def test_damaged_answers_are_told_of_and_run(runs, onnx, images, damage, why):
    """What was truncated or edited on disk is noticed by its checksum; the engine is run, and it is stored again."""
    recipe = identities.identity(runs.chain, onnx)
    runs.run(onnx, images)
    damage(runs.store.find("digits_vgg", "answers-engine.place", recipe).file(FILE))
    asked = runs.asked(onnx)
    assert why in asked.book.lacking
    assert different(asked(images), onnx(images)) is None
    assert asked.tally.run == 70
    asked.book.close()
    assert runs.run(onnx, images)[1] == (70, 0)


def broken(engine, digits):
    """The runner of an engine whose installation answers otherwise now, and has the version that it had."""
    with digits.runner(Variant("onnx", "int8")) as other:
        engine._session = other._session
    return engine


@pytest.fixture
def breakable(digits):
    """A runner that a test may break."""
    with digits.runner(ONNX) as runner:
        yield runner


def test_a_broken_installation_is_noticed_before_anything_stored_counts(runs, breakable, digits, images):
    """Where the one batch that is run again differs, all of the engine is run, judged, and stored; a note says so."""
    runs.run(breakable, images)
    engine = broken(breakable, digits)
    outputs, counted = runs.run(engine, images)
    assert counted == (0, 70)
    assert different(outputs, engine(images)) is None
    (told,) = runs.told
    assert told.startswith("onnx-fp32 no longer gives its stored answers to the same batch: output 'dense_1' differs")
    assert runs.run(engine, images)[1] == (70, 0)


def test_an_installation_that_is_found_broken_late_fails(runs, breakable, digits, images):
    """Where stored answers were judged before, the test fails, and nothing of the engine stays stored."""
    runs.run(breakable, images)
    remembered = Remembered()
    runs.asked(breakable, remembered=remembered)(images)
    assert remembered.taken == 3
    late = runs.asked(broken(breakable, digits), remembered=remembered, chance=0.0)
    with pytest.raises(
        StaleAnswersError, match=r"tests before this one were judged by such answers.*run again"
    ) as told:
        late(images)
    assert not isinstance(told.value, RunnerError), "Hypothesis' examples that an engine cannot run are no examples"
    assert runs.store.names("digits_vgg") == ()
    # In the same run it is asked for nothing that is stored any more.
    late(images)
    assert late.tally.run == 70


def test_the_batch_that_is_run_again_is_another_each_time(runs, breakable, digits, images):
    """By chance each batch of a call is the one: what a kernel does wrong in the last one only is found, too."""
    runs.run(breakable, images)
    ran = []
    real = breakable._run
    breakable._run = lambda batch: ran.append(len(batch["input_1"])) or real(batch)
    for chance in (0.0, 0.4, 0.99):
        runs.asked(breakable, chance=chance)(images)
    assert ran == [32, 32, 6]


def test_what_is_stored_is_no_verdict(runs, onnx, images, digits):
    """A book holds what the engine answered, by the batch, and nothing that judges: another judge comes to its own."""
    outputs, _ = runs.run(onnx, images)
    stored = runs.store.recorded("digits_vgg", "answers-engine.place")
    assert set(stored.record["files"]) == {FILE}
    assert set(stored.details) == {"outputs", "batches"}
    again, counted = runs.run(onnx, images)
    assert counted == (70, 0)
    grids = {name: Grid(*found) for name, found in onnx.grids.items()}
    for reference, passes in ((outputs, True), ({n: 1 - a for n, a in outputs.items()}, False)):
        _, comparison = compared_by(digits, ONNX, "samples", Outputs(images, again, reference), grids)
        assert comparison.passed == passes


def test_a_book_holds_what_was_asked_last_and_no_more(runs, onnx, images):
    """It does not grow: samples that are not asked for any more are not in it."""
    runs.run(onnx, images)
    few = {"input_1": images["input_1"][:8]}
    runs.run(onnx, few)
    assert runs.run(onnx, few)[1] == (8, 0)
    assert runs.run(onnx, images)[1] == (0, 70)


def test_answers_that_are_too_many_are_not_kept(runs, onnx, images, monkeypatch):
    """Of an engine with huge outputs nothing is held twice, nor written: it is run again, and answers the same."""
    monkeypatch.setattr(asking, "MOST_BYTES", 70 * 10 * 4 - 1)
    outputs, counted = runs.run(onnx, images)
    assert counted == (0, 70)
    assert different(outputs, onnx(images)) is None
    assert runs.store.names("digits_vgg") == ()
    monkeypatch.setattr(asking, "MOST_BYTES", 1 << 26)
    monkeypatch.setattr(books, "MOST_BYTES", 70 * 10 * 4 - 1)
    assert runs.run(onnx, images)[1] == (0, 70)
    assert runs.store.names("digits_vgg") == ()
    monkeypatch.setattr(books, "MOST_BYTES", 70 * 10 * 4)
    runs.run(onnx, images)
    assert runs.run(onnx, images)[1] == (70, 0)


def _write(folder, number, ready):
    book = Book(Store(folder), "model", "answers-x.place", Recipe({}), fresh=True)
    book.keep("batch", {"out": np.full((2000, 100), number, np.float32)})
    ready.wait()
    book.close()


def test_two_processes_write_one_answer_after_the_other(tmp_path):
    """What lies there in the end is what one of them wrote, whole, and nothing is left beside it."""
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(4)
    workers = [context.Process(target=_write, args=(tmp_path, number, ready)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    found = Book(Store(tmp_path), "model", "answers-x.place", Recipe({})).get("batch")["out"]
    assert len(np.unique(found)) == 1
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["answers-x.place"]


@pytest.mark.parametrize("content", [b"another run's", None])
def test_a_book_that_another_run_replaces_while_it_is_read_is_not_taken(runs, onnx, images, monkeypatch, content):
    """Its record is of other answers than its file then: none of them counts, and the engine is run."""
    runs.run(onnx, images)
    real = Store.state

    def replaced(self, model, name, recipe):
        found = real(self, model, name, recipe)
        path = found.folder / FILE
        path.unlink()
        if content:
            path.write_bytes(content)
        return found

    monkeypatch.setattr(Store, "state", replaced)
    asked = runs.asked(onnx)
    assert "by another run meanwhile" in asked.book.lacking
    assert different(asked(images), onnx(images)) is None
    assert asked.tally.run == 70


class Drifts(OnnxRunner):
    """An engine whose answers are others in each call."""

    calls = 0

    def _run(self, inputs):
        self.calls += 1
        return {name: array + np.float32(1e-3 * self.calls) for name, array in super()._run(inputs).items()}


def test_the_cause_of_a_failure_is_looked_for_in_the_engine_itself(runs, digits, images):
    """Remembered answers repeat; an engine that answers otherwise each time is found out all the same."""
    with digits.runner(ONNX) as sound:
        reference = sound(images)
    with Drifts(digits.spec, ONNX, digits.file(ONNX)) as engine:
        asked = runs.asked(engine)
        given = Outputs(images, asked(images), reference)
        assert not different(asked(images), given.actual)
        found = cause(asked, given, rule_of(digits, ONNX, "samples", len(reference["dense_1"])))
    assert found is not None
    assert found.text.startswith("the same samples get other answers each time")


class Refuses(OnnxRunner):
    """An engine that fails on each batch but the first."""

    def _run(self, inputs):
        if len(inputs["input_1"]) < 32:
            raise RunnerError("the device is lost")
        return super()._run(inputs)


def test_an_engine_that_fails_fails_again(runs, digits, images):
    """Of what an engine could not run nothing is stored: it is asked, and fails, in every run."""
    with Refuses(digits.spec, ONNX, digits.file(ONNX)) as engine:
        for _ in range(2):
            with pytest.raises(RunnerError, match="the device is lost"):
                runs.run(engine, images)


def test_an_engine_that_opens_slowly_waits_until_it_has_to_run(digits, images):
    """Nothing is opened for what is stored, which counts on the same day only; what cannot be opened says so then."""
    opened = []

    def open_():
        opened.append(1)
        return digits.runner(ONNX)

    with LateRunner(digits.spec, ONNX, None, OnnxRunner, open_) as late:
        recipe = identities.identity(digits, late)
        assert recipe.environment["day"] == datetime.now(timezone.utc).date().isoformat()
        assert late.waits
        assert opened == []
        assert len(late(images)["dense_1"]) == 70
        assert identities.identity(digits, late) == recipe, "the key is the same before and after"
    assert opened == [1]


def test_a_late_engine_is_not_opened_to_be_checked_and_counts_for_a_day(runs, digits, images, monkeypatch):
    """Until midnight its stored answers count unseen; on the next day it is run."""
    for _ in range(2):
        late = LateRunner(digits.spec, ONNX, None, OnnxRunner, lambda: digits.runner(ONNX))
        with late:
            _, counted = runs.run(late, images)
    assert counted == (70, 0)
    assert late.waits
    monkeypatch.setattr(identities, "today", lambda: "2099-01-01")
    with LateRunner(digits.spec, ONNX, None, OnnxRunner, lambda: digits.runner(ONNX)) as late:
        assert runs.run(late, images)[1] == (0, 70)


def test_only_engines_on_the_cpu_are_stored(digits):
    """On a GPU a kernel is chosen by what takes the shortest time, and over a network anybody may answer."""
    stored = {name for name, f in registry.formats().items() if f.stores_answers(digits.spec)}
    assert stored == {"savedmodel", "onnx", "tflite"}
    on_gpu = replace(digits.spec, settings={"onnx-provider": ("CUDAExecutionProvider",)})
    assert not registry.find("onnx").stores_answers(on_gpu)


@pytest.mark.slow
def test_a_second_run_takes_its_answers_from_the_store(tmp_path, pytestconfig):
    """The first run asks every engine, the second none but to check it, with the same verdicts; --fresh asks all."""
    command = [sys.executable, "-m", "pytest", "tests/test_consistency.py", "-k", "onnx-fp32 or tflite-int8"]
    command += ["--model=digits_vgg", f"--report={tmp_path}", "-p", "no:cacheprovider"]
    # A copy, in which no other run has stored anything.
    copied = shutil.ignore_patterns("answers-*", "cifar10_vgg")
    shutil.copytree(artifact_folder(pytestconfig), tmp_path / "build", ignore=copied)
    found = []
    for words in ([], [], ["--fresh"]):
        done = subprocess.run(
            [*command, *words, f"--artifacts={tmp_path / 'build'}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        document = json.loads((tmp_path / "conformance.json").read_text(encoding="utf-8"))
        validate(document)
        found.append((document["answers"], document["comparisons"], document["variants"]))
        assert re.search(f"^answers: {document['answers']['stored']:,} of .* from the store", done.stdout, re.M)
    (first, *judged), (second, *again), (fresh, *anew) = found
    assert first["stored"] == fresh["stored"] == second["run"] == 0
    assert first["run"] == fresh["run"] == second["stored"] > 500
    assert judged == again == anew


def test_an_engine_on_one_thread_runs_side_by_side_with_copies_of_itself(runs, digits, images, monkeypatch):
    """Many samples are run by as many interpreters as there are threads, in the batches that one alone makes."""
    ran = []
    real = TFLiteRunner._run

    def noted(self, inputs):
        ran.append((id(self), threading.get_ident(), len(inputs["input_1"])))
        return real(self, inputs)

    monkeypatch.setattr(TFLiteRunner, "_run", noted)
    many = {"input_1": np.concatenate([images["input_1"]] * 5)}
    for built_in in (False, True):
        with TFLiteRunner(digits.spec, TFLITE, digits.file(TFLITE), built_in=built_in) as engine:
            expected = engine(many)
            ran.clear()
            with runs.asked(engine, fresh=True) as asked:
                asked.threads = 3
                outputs = asked(many)
            assert different(outputs, expected) is None
            assert len({runner for runner, _, _ in ran}) == 3
            assert sorted(count for _, _, count in ran) == [350 % 32] + [32] * (350 // 32)
            assert id(engine) in {runner for runner, _, _ in ran}
            assert not engine._closed, "it is somebody else's"


def test_few_samples_and_engines_on_all_cores_run_alone(digits, tflite, onnx, images):
    """ONNX Runtime has threads of its own, as LiteRT has where it was told so; a batch for each is no work to share."""
    assert onnx.copied() is None
    with TFLiteRunner(digits.spec, TFLITE, digits.file(TFLITE), threads=2) as threaded:
        assert threaded.copied() is None
    with tflite.copied() as copy:
        assert copy is not tflite
        assert (copy.settings, copy.way, copy.batch_size) == (tflite.settings, tflite.way, tflite.batch_size)
        assert different(copy(images), tflite(images)) is None


def test_what_fails_on_one_of_several_threads_fails(tflite, images, monkeypatch):
    """An engine that stops at one batch stops the call, as it does alone."""
    real = TFLiteRunner._run

    def stops(self, inputs):
        if len(inputs["input_1"]) < 32:
            raise RunnerError("a batch of 6 is too much")
        return real(self, inputs)

    monkeypatch.setattr(TFLiteRunner, "_run", stops)
    with tflite.copied() as copy, pytest.raises(RunnerError, match="a batch of 6 is too much"):
        side_by_side([tflite, copy], images)
