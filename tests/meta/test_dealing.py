"""One engine on several devices: what is dealt, what is lost, and the whole suite over stand-ins for GPUs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines import dealing
from engines.dealing import RATED, Deal, DealingRunner
from engines.errors import DeviceError, RunnerError, SpecError, UnavailableError
from engines.formats import registry
from engines.formats.tensorrt import devices, driver
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.runner import Runner
from engines.variant import Variant
from fixtures.chain import artifact_folder
from fixtures.parallel import SHARED
from fixtures.records import SameBits

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0
BATCH = 4


@pytest.fixture(scope="module")
def spec():
    """Description of the small bundled model."""
    return load_model(find_model("digits_vgg"))


class Device(Runner):
    """Answers each sample with its first pixels, once ``before(rows)`` has returned or raised."""

    def __init__(self, spec, before=lambda rows: None):
        super().__init__(spec, Variant("tensorrt", "fp32", spec.profiles[0]), BATCH)
        self.before, self.ran, self.freed = before, [], False

    def __call__(self, inputs):
        """Answer, and note what was given."""
        (samples,) = inputs.values()
        self.before(samples)
        self.ran.append(samples[:, 0, 0, 0].astype(int).tolist())
        (output,) = self.spec.outputs
        return {output.name: np.repeat(samples.reshape(len(samples), -1)[:, :1], output.shape[-1], axis=1)}

    def _run(self, inputs):
        return self(inputs)

    def _release(self):
        self.freed = True


def samples(spec, count):
    """Samples whose first pixel is their number."""
    (item,) = spec.inputs
    array = np.zeros(spec.concrete_shape(item, count), item.dtype)
    array[:, 0, 0, 0] = np.arange(count)
    return {item.name: array}


def answered(spec, outputs):
    """Numbers of the samples that were answered, in the order of the answers."""
    (output,) = spec.outputs
    return outputs[output.name][:, 0].astype(int).tolist()


@pytest.fixture
def deal_to(spec, monkeypatch):
    """Make a runner over stand-ins, each with what it does before it answers; all are closed at the end."""
    made = []
    # What is lost here on purpose is nobody's news.
    monkeypatch.setattr(dealing._log, "disabled", True)

    def call(*before):
        made.append(DealingRunner({f"GPU {i}": Device(spec, b) for i, b in enumerate(before)}))
        return made[-1]

    yield call
    for runner in made:
        runner.close()


def nothing(rows):
    """Let a device answer at once."""


def failing(rows):
    """Let a device fail at once."""
    raise DeviceError("CUDA failed: it is gone")


# What is dealt.


@pytest.mark.parametrize("batches", [0, 1, 2, 7, 100, 3125])
@pytest.mark.parametrize("takers", [1, 2, 3, 8])
def test_every_batch_is_dealt_once_in_ever_smaller_parts(batches, takers):
    """Parts are without a gap or overlap, the first no more than an even share, the last a small one."""
    deal, parts = Deal(batches, takers), []
    while part := deal.take():
        parts.append(part)
        deal.done()
    assert [number for part in parts for number in part] == list(range(batches))
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    if batches:
        assert sizes[0] <= -(-batches // takers)
        assert sizes[-1] <= max(2 if takers > 1 else 4, 1.25 * batches * dealing.LEAST + 1)
        # Of many, the last ones of all devices are about alike: none waits for another one long.
        assert batches * dealing.LEAST < 1 or sizes[-takers:][0] - sizes[-1] <= 3
        # Each part costs a device its overlap: they are few.
        assert len(parts) <= takers * (2 + np.log(min(batches, 1 / dealing.LEAST)) / np.log(5))
    assert deal.finished


@pytest.mark.parametrize("batches", [0, 1, 2, 7, 3125])
@pytest.mark.parametrize("rates", [{"a": 1.0}, {"a": 3.0, "b": 1.0}, {"a": 1e-9, "b": 5.0, "c": 5.0}])
def test_by_known_rates_each_has_its_share_in_one_part(batches, rates):
    """Shares are in proportion to the rates, to within a batch, without a gap or overlap; nobody gets a second part."""
    deal, parts = Deal(batches, len(rates), rates), {}
    for name, rate in rates.items():
        # Who has no share would wait for what others give back.
        if name in deal._kept:
            parts[name] = deal.take(name)
            assert abs(len(parts[name]) - batches * rate / sum(rates.values())) <= 1
    for _ in parts:
        deal.done()
    assert [number for part in parts.values() for number in part] == list(range(batches))
    assert all(deal.take(name) is None for name in rates)
    assert deal.finished


def test_devices_of_nearly_one_rate_have_even_shares():
    """What differs by chance from call to call moves no share; what differs by more does."""
    near, far = Deal(100, 2, {"a": 1.0, "b": 1.09}), Deal(100, 2, {"a": 1.0, "b": 3.0})
    assert [len(near.take("a")), len(near.take("b"))] == [50, 50]
    assert [len(far.take("a")), len(far.take("b"))] == [25, 75]


def test_one_who_is_done_waits_for_another_that_has_not_begun():
    """Who ends before another one has taken its share is there for what that one gives back."""
    deal, taken = Deal(100, 2, {"a": 1.0, "b": 1.0}), []
    own = deal.take("a")
    deal.done()
    waiting = threading.Thread(target=lambda: taken.append(deal.take("a")), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    other = deal.take("b")
    deal.give_back(other)
    waiting.join(PATIENCE)
    assert taken[0].start == other.start != own.start
    assert not deal.finished


def test_what_is_given_back_is_dealt_again_to_one_who_waits():
    """Who has nothing left waits while another one works, and takes what that one gives back."""
    deal, taken = Deal(2, 2), []
    first, second = deal.take(), deal.take()
    deal.done()
    waiting = threading.Thread(target=lambda: taken.append(deal.take()), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    deal.give_back(first)
    waiting.join(PATIENCE)
    assert taken == [first] != [second]
    assert not deal.finished
    deal.done()
    assert deal.finished


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 39, 401])
def test_answers_are_in_the_order_of_the_samples(deal_to, spec, count):
    """However many samples: each is answered once, in its place, and what each device ran adds up."""
    runner = deal_to(nothing, nothing, nothing)
    assert answered(spec, runner(samples(spec, count))) == list(range(count))
    assert sum(runner.dealt.values()) == count
    ran = sorted(n for device in runner.devices.values() for part in device.ran for n in part)
    assert ran == list(range(count))


def test_all_devices_work_at_once(deal_to, spec):
    """Each of three devices has a part before any has answered one: they wait for each other here."""
    together = threading.Barrier(3, timeout=PATIENCE)
    met = set()

    def meet(rows):
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            together.wait()

    runner = deal_to(meet, meet, meet)
    assert answered(spec, runner(samples(spec, 100))) == list(range(100))
    assert min(runner.dealt.values()) > 0


def test_whichever_is_free_is_dealt_the_next(deal_to, spec):
    """While one device is held in its first part, the other runs all the rest."""
    go, last = threading.Event(), []

    def held(rows):
        assert go.wait(PATIENCE)

    def quick(rows):
        last.extend(rows[:, 0, 0, 0].astype(int).tolist())
        if len(last) >= 400 - 4 * 40:
            go.set()

    runner = deal_to(held, quick)
    assert answered(spec, runner(samples(spec, 400))) == list(range(400))
    assert runner.dealt["GPU 1"] == 400 - runner.dealt["GPU 0"]
    assert len(runner.devices["GPU 0"].ran) == 1


def test_once_rates_are_known_each_device_has_one_part_of_a_call(deal_to, spec):
    """The call after one that told the rates begins and ends once on each device; a small one is dealt in rounds."""
    both, waiting = threading.Barrier(2), [1, 1]

    def together(rows):
        # Each has a first part of its own, which tells its rate.
        if waiting:
            waiting.pop()
            both.wait(PATIENCE)

    runner, count = deal_to(together, together), 4 * RATED * BATCH
    before = [0, 0]
    for call in range(3):
        assert answered(spec, runner(samples(spec, count))) == list(range(count))
        ran = [len(device.ran) for device in runner.devices.values()]
        assert [now - then for now, then in zip(ran, before, strict=True)] == [1, 1] if call else min(ran) > 0
        before = ran
    assert answered(spec, runner(samples(spec, 9))) == list(range(9))


def test_calls_with_one_batch_go_to_the_devices_in_turn(deal_to, spec):
    """Single samples, of which a call has too few to deal out, are run by all devices one after the other."""
    runner = deal_to(nothing, nothing, nothing)
    for _ in range(6):
        runner(samples(spec, 1))
    assert [len(device.ran) for device in runner.devices.values()] == [2, 2, 2]


def test_wrong_inputs_fail_no_device(deal_to, spec):
    """What a runner refuses is refused once, in its words, and every device is still there."""
    runner = deal_to(nothing, nothing)
    (name,) = samples(spec, 1)
    with pytest.raises(RunnerError, match=r"input .* is float64; takes "):
        runner({name: samples(spec, 9)[name].astype(np.float64)})
    assert runner.lost == {}
    assert answered(spec, runner(samples(spec, 9))) == list(range(9))


def test_what_is_no_failure_of_a_device_is_raised_once_all_have_ended(deal_to, spec, monkeypatch):
    """Any other error comes out as it is: no device is blamed or dealt any more, and the next call runs."""
    wrong, stopped, stop = [True], threading.Event(), Deal.stop

    def stops(deal):
        stop(deal)
        stopped.set()

    monkeypatch.setattr(Deal, "stop", stops)

    def held(rows):
        assert stopped.wait(PATIENCE / 4)

    def refuse(rows):
        if wrong:
            raise RunnerError("refuses the shape")

    runner = deal_to(held, refuse)
    with pytest.raises(RunnerError, match=r"^refuses the shape$"):
        runner(samples(spec, 400))
    assert runner.lost == {}
    assert len(runner.devices["GPU 0"].ran) == 1
    wrong.clear()
    assert answered(spec, runner(samples(spec, 400))) == list(range(400))


# What is lost.


@pytest.mark.parametrize("count", [1, 3, 40, 401])
def test_a_device_that_fails_is_named_and_the_others_run_its_samples(deal_to, spec, count):
    """Every sample is answered, in order; the device is told of with its reason, and not asked again."""
    runner = deal_to(nothing, failing, nothing)
    for _ in range(4):
        assert answered(spec, runner(samples(spec, count))) == list(range(count))
    if count > 1 or runner.lost:
        assert set(runner.lost) <= {"GPU 1"}
    assert runner.devices["GPU 1"].ran == []
    # Of three devices one has a call of one batch every third time.
    if count == 1:
        assert runner.lost == {"GPU 1": "CUDA failed: it is gone"}


def test_a_device_that_falls_out_in_the_middle_loses_no_sample(deal_to, spec):
    """What it answered before counts, what it had then goes to another one, which may be done by then."""
    ends, calls = threading.Event(), []

    def falls_out(rows):
        calls.append(len(rows))
        if len(calls) == 2:
            assert ends.wait(PATIENCE)
            raise DeviceError("CUDA failed: it is gone")

    def lasts(rows):
        # All but what the other one holds has been run, or is about to be.
        if len(rows) <= 2 * BATCH:
            ends.set()

    runner = deal_to(falls_out, lasts)
    assert answered(spec, runner(samples(spec, 400))) == list(range(400))
    assert runner.lost == {"GPU 0": "CUDA failed: it is gone"}
    assert runner.dealt["GPU 0"] == calls[0] > 0
    assert runner.dealt["GPU 1"] == 400 - calls[0]
    assert len(calls) == 2


@pytest.mark.parametrize("count", [1, 40])
def test_where_every_device_fails_the_call_does(deal_to, spec, count):
    """No device left is an error that names each with its reason, in this call and the next."""
    runner = deal_to(failing, failing)
    for _ in range(2):
        with pytest.raises(RunnerError, match=r"every device has failed: GPU \d: CUDA failed: .*; GPU \d: CUDA"):
            runner(samples(spec, count))


def test_fewer_answers_than_samples_are_refused(spec):
    """A device that leaves out an answer is named, whatever the others answer: nothing is moved up in its place."""

    class Short(Device):
        def __call__(self, inputs):
            return {name: array[:-1] for name, array in super().__call__(inputs).items()}

    (output,) = spec.outputs
    with DealingRunner({"GPU 0": Short(spec), "GPU 1": Short(spec)}) as runner:
        for count in (3, 400):
            with pytest.raises(RunnerError, match=rf"GPU \d gives \d+ rows of '{output.name}' for \d+ samples"):
                runner(samples(spec, count))
        assert runner.lost == {}


def test_answers_of_another_form_end_the_call(spec):
    """Where a device answers with another dtype the call raises, and the other device does not wait for its part."""
    both, raised = threading.Barrier(2), []

    class Wide(Device):
        def __call__(self, inputs):
            return {name: array.astype(np.float64) for name, array in super().__call__(inputs).items()}

    def together():
        waiting = [1]

        def first(rows):
            if waiting:
                waiting.pop()
                both.wait(PATIENCE)

        return first

    def call():
        try:
            runner(samples(spec, 400))
        except TypeError as error:
            raised.append(str(error))

    runner = DealingRunner({"GPU 0": Device(spec, together()), "GPU 1": Wide(spec, together())})
    asking = threading.Thread(target=call, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    assert not asking.is_alive()
    assert len(raised) == 1
    assert "float64" in raised[0]
    runner.close()


def test_closing_frees_every_device(deal_to, spec):
    """All runners are closed, that of a lost device too, whatever it says then; a call afterwards is refused."""
    runner = deal_to(nothing, failing)
    runner(samples(spec, 400))
    gone = runner.devices["GPU 1"]
    if not runner.lost:
        runner.lost["GPU 1"] = "it is gone"

    def release():
        gone.freed = True
        raise DeviceError("CUDA failed: it is gone")

    gone._release = release
    runner.close()
    assert all(device.freed for device in runner.devices.values())
    with pytest.raises(RunnerError, match="closed"):
        runner(samples(spec, 4))


# Which GPUs.


@pytest.fixture
def asked(spec, monkeypatch):
    """Ask for GPUs where CUDA shows those of the given models."""

    def call(value, *models):
        found = tuple(driver.Device(f"GPU-{i}", model) for i, model in enumerate(models))
        monkeypatch.setattr(driver, "devices", lambda *_: found)
        settings = registry.settings({"devices": [value]})
        return devices.chosen(replace(spec, settings=settings))

    return call


@pytest.mark.parametrize("value, numbers", [("all", [0, 1, 2]), ("0,1", [0, 1]), ("2,0", [2, 0]), ("1", [1])])
def test_gpus_are_chosen_by_number(asked, value, numbers):
    """All, or those of the list in its order, each with its number and model."""
    assert asked(value, *["NVIDIA H200"] * 3) == {n: f"GPU {n} (NVIDIA H200)" for n in numbers}


@pytest.mark.parametrize("value", ["", "a", "0,", "-1", "0;1", "0,0", "ALL", "1,01"])
def test_what_names_no_gpus_is_refused(value):
    """A list that is none, or has a GPU twice, is refused before anything runs."""
    with pytest.raises(SpecError, match=r"--devices .*: (there are no such|it names a GPU twice).*; allowed: all"):
        registry.settings({"devices": [value]})


def test_a_gpu_that_is_not_there_is_named(asked):
    """A number that CUDA does not show is named with those it does."""
    with pytest.raises(RunnerError, match=r"=0,5: there is no GPU 5; allowed: .*: GPU 0 \(NVIDIA H200\), GPU 1"):
        asked("0,5", "NVIDIA H200", "NVIDIA H200")


@pytest.mark.parametrize("value", ["all", "0,1", "1"])
def test_a_gpu_of_another_model_is_refused(asked, value):
    """Plans are built for GPU 0: another model is named, and left out of what is proposed; never silently."""
    with pytest.raises(RunnerError, match=r"GPU 1 \(Tesla T4\) is of another model than .*: --devices=0,2,"):
        asked(value, "NVIDIA H200", "Tesla T4", "NVIDIA H200")


def test_without_a_driver_it_says_so(spec, monkeypatch):
    """Where there is no GPU at all, that is the reason."""

    def none(*_):
        raise UnavailableError("there is no NVIDIA driver on this machine")

    monkeypatch.setattr(driver, "devices", none)
    with pytest.raises(RunnerError, match="--devices=all: there is no NVIDIA driver"):
        devices.chosen(replace(spec, settings={"devices": ("all",)}))
    assert devices.too_few() == "needs two GPUs: there is no NVIDIA driver on this machine"


def test_one_gpu_has_nothing_around_its_runner(spec, monkeypatch):
    """Without the option, or with one GPU, the runner is the plan's own, opened on that GPU; CUDA is asked no more."""
    opened, asked = {}, []
    monkeypatch.setattr(driver, "devices", lambda: asked.append(0) or (driver.Device("GPU-0", "NVIDIA H200"),) * 2)
    for value in (None, "0", "1"):
        settings = registry.settings({"devices": [value]} if value else {})
        opened[value] = devices.opened(replace(spec, settings=settings), Variant("tensorrt", "fp32"), lambda n: n)
    assert opened == {None: 0, "0": 0, "1": 1}
    assert asked == [0]


@pytest.mark.parametrize(
    "models, reason",
    [
        (["NVIDIA H200"], "needs two GPUs of one model: CUDA shows one NVIDIA H200"),
        (["NVIDIA H200", "Tesla T4"], "needs two GPUs of one model: CUDA shows one NVIDIA H200 and 1 of other models"),
        (["NVIDIA H200", "NVIDIA H200"], None),
    ],
)
def test_the_need_of_two_gpus_is_a_capability(monkeypatch, models, reason):
    """What takes two GPUs says what is missing, and nothing where two of one model are there."""
    monkeypatch.setattr(driver, "devices", lambda *_: tuple(driver.Device(m, m) for m in models))
    assert devices.too_few() == reason


def test_same_bits_are_counted_over_all_gpus():
    """The record counts the values of all further GPUs that are not the first's, and the largest difference."""
    first = {"p": np.array([0.5, 0.25, np.nan], np.float32)}
    other = {"p": np.array([0.5, 0.75, np.nan], np.float32)}
    same = SameBits.of(3, {"a": first, "b": first, "c": first})
    assert (same.values, same.differing, str(same)) == (6, 0, "3 GPUs give the same bits")
    found = SameBits.of(3, {"a": first, "b": first, "c": other})
    assert (found.differing, found.largest) == (1, 0.5)
    assert str(found) == "1 of 6 values differ between GPUs, by up to 0.5"


# The whole suite over stand-ins.


@pytest.fixture(scope="module")
def suite(pytestconfig):
    """Run of the suite over TensorRT's variants with stand-ins for GPUs, as a user does; exit code and what it says."""

    def call(*words, **environment):
        told = ("PYTEST_", "CONFORMANCE", "CUDA_", "CIFAR10_DIR", "GITHUB_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(told)}
        command = [sys.executable, "-m", "pytest", "-p", "tests.meta.stand_in_devices", "-p", "no:cacheprovider"]
        command += ["--model=digits_vgg", f"--artifacts={artifact_folder(pytestconfig)}", *words]
        environment = {**kept, **environment}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return call


FILES = ["tests/test_consistency.py", "tests/test_batching.py", "tests/test_accuracy.py", "tests/test_devices.py"]
FP32 = ["-k", "tensorrt-fp32-b1.16.32"]
MAIN = [*FILES, "-m", "consistency or batching or accuracy"]
SAME = ["tests/test_devices.py", "-m", "consistency", *FP32]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-qdq"])
def test_everything_holds_over_all_gpus(suite, tmp_path, precision):
    """All consistency, batching and accuracy tests pass over two devices, whose bits are a figure of the report."""
    words = [*MAIN, "-k", f"tensorrt-{precision}-b1.16.32", "--devices=all", f"--report={tmp_path}"]
    code, output = suite(*words)
    assert code == pytest.ExitCode.OK, output
    assert "2 GPUs give the same bits (GPU 0 (NVIDIA H200), GPU 1 (NVIDIA H200))" in output
    document = json.loads((tmp_path / "conformance.json").read_text(encoding="utf-8"))
    (found,) = document["devices"]
    assert (found["variant"], found["differing"]) == (f"tensorrt-{precision}-b1.16.32", 0)
    assert found["values"] == 10 * found["samples"]
    assert "same bits on every GPU" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_other_bits_of_one_gpu_fail(suite, tmp_path):
    """A GPU whose answers are off by a bit is found, and told of by number and size."""
    code, output = suite(*SAME, "--devices=0,1", f"--report={tmp_path}", STAND_IN_GPU_FAULT="other bits")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "values differ between GPUs, by up to" in output
    (found,) = json.loads((tmp_path / "conformance.json").read_text(encoding="utf-8"))["devices"]
    assert found["differing"] == found["values"]


FAULTY = {
    "full": r"GPU 1 \(NVIDIA H200\): the device is out of memory \(0 MB of 150,000 MB free\)",
    "falls out": r"lost devices, whose samples others ran: GPU 1 \(NVIDIA H200\): CUDA failed: .*LAUNCH_FAILED",
    "drops a row": r"GPU 1 \(NVIDIA H200\) gives \d+ rows of 'dense_1' for \d+ samples",
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_gpu_fails_the_run_by_name(suite, fault):
    """A GPU that is full, falls out in the middle or leaves out an answer fails the run, and is named."""
    code, output = suite(*MAIN, *FP32, "--devices=all", STAND_IN_GPU_FAULT=fault)
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert re.search(FAULTY[fault], output), output
    if fault == "falls out":
        # All answers were there, and right: of the tests only that of each GPU alone fails.
        assert re.findall(r"^FAILED .*::(\w+)", output, re.MULTILINE) == ["test_every_gpu_gives_the_same_bits"]
        assert "1 error" in output.splitlines()[-1]


@pytest.mark.slow
def test_a_gpu_that_is_not_there_fails_the_run_once(suite):
    """The plan that cannot be opened on GPU 2 is one failure, which names it and those there are."""
    code, output = suite(*MAIN, *FP32, "--devices=0,2")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "--devices=0,2: there is no GPU 2; allowed: those that CUDA shows: GPU 0 (NVIDIA H200), GPU 1" in output
    assert "1 failed" in output.splitlines()[-1]


@pytest.mark.slow
def test_without_a_second_gpu_the_check_is_skipped_with_the_reason(suite):
    """On one GPU, or where one is under test, what needs two says so, and the rest of the suite runs."""
    code, output = suite(*SAME, "-rs", STAND_IN_GPUS="NVIDIA H200")
    assert code == pytest.ExitCode.OK, output
    assert "needs two GPUs of one model: CUDA shows one NVIDIA H200" in output
    code, output = suite(*SAME, "-rs")
    assert code == pytest.ExitCode.OK, output
    assert "needs two GPUs, and one is under test: --devices=all takes every one" in output


def test_several_processes_and_several_gpus_exclude_each_other(suite):
    """With -n each process has a GPU of its own: the option beside it is refused, not taken for a GPU each."""
    code, output = suite(*SAME, "-n", "2", "--devices=all")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert SHARED in output
