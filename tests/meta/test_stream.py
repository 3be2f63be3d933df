"""Endless samples: answers in order, no more read than fits, and a clean end whoever fails."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from engines import stream
from engines.errors import RunnerError
from engines.formats.served import repository
from engines.formats.served.address import parse
from engines.formats.served.runner import ServedRunner
from engines.variant import Variant
from tests.meta import servers


@pytest.fixture(scope="module")
def triton(digits, tmp_path_factory):
    """Triton with the digits classifier."""
    folder = tmp_path_factory.mktemp("streamed")
    repository.export(digits, folder / "repository", backend=repository.BACKENDS["python"])
    with servers.triton(folder / "repository", folder).running() as server:
        yield server


@pytest.fixture(params=["onnx", "tflite", "served"])
def runner(request, digits):
    """Runners in this process, and one of a server."""
    if request.param != "served":
        with digits.runner(Variant(request.param, "fp32")) as opened:
            yield opened
        return
    address = parse(request.getfixturevalue("triton").url("digits_vgg"))
    with ServedRunner(digits.spec, Variant("served", "fp32", instance="x"), address) as opened:
        yield opened


@pytest.fixture
def images(digits):
    """The first 100 samples."""
    return digits.samples.inputs["input_1"]


def endless(images, taken=None, pause=0.0):
    """The images again and again, one at a time; ``taken`` counts those that somebody asked for."""
    for image in itertools.cycle(images):
        if taken is not None:
            taken.append(1)
        time.sleep(pause)
        yield {"input_1": image}


def alive():
    """Whether a thread that reads samples is running."""
    return any(thread.name == "samples" for thread in threading.enumerate())


def ended():
    """Whether such a thread ends soon."""
    deadline = time.monotonic() + 5
    while alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive()


def close_to(found, expected):
    """Check answers, one of each sample, against those of one call; batches may round otherwise."""
    np.testing.assert_allclose(np.stack([answer["dense_1"] for answer in found]), expected, atol=1e-6)


@pytest.mark.parametrize("pause", [0.0, 0.002], ids=["fast", "slow"])
def test_answers_come_in_the_order_of_the_samples(runner, images, pause):
    """Each sample has its own answer, in order, whether samples come faster or slower than the engine runs."""
    expected = runner({"input_1": images})["dense_1"]
    answers = stream.answers(runner, endless(images, pause=pause), batch=7)
    found = list(itertools.islice(answers, 250))
    answers.close()
    close_to(found, np.concatenate([expected] * 3)[:250])
    assert ended()


def test_no_more_is_read_than_has_room(runner, images):
    """A producer that is faster than its reader waits: the queue, the batches that run, and what is being answered."""
    taken = []
    answers = stream.answers(runner, endless(images, taken), batch=4, ahead=2)
    for _ in range(9):
        next(answers)
    time.sleep(0.3)
    room = 4 * 2 + 4 * (runner.in_flight + 1) + 1
    assert 9 <= len(taken) <= 9 + room
    answers.close()
    assert ended()


def test_a_slow_producer_is_not_waited_for(runner, images):
    """A sample is answered when it is there: no batch has to be full."""
    reached = threading.Event()

    def two():
        yield {"input_1": images[0]}
        reached.wait(30)
        yield {"input_1": images[1]}

    answers = stream.answers(runner, two(), batch=32)
    first = next(answers)
    reached.set()
    close_to([first, *answers], runner({"input_1": images[:2]})["dense_1"])
    assert ended()


def test_a_producer_that_fails_ends_it_behind_the_answers(runner, images):
    """What a producer raises comes behind the answers of all samples before it, and nothing stays behind."""

    def failing():
        yield from ({"input_1": image} for image in images[:10])
        raise OSError("the camera is gone")

    answers = stream.answers(runner, failing(), batch=4)
    found = list(itertools.islice(answers, 10))
    with pytest.raises(OSError, match="the camera is gone"):
        next(answers)
    close_to(found, runner({"input_1": images[:10]})["dense_1"])
    assert ended()


def test_an_engine_that_refuses_a_sample_ends_it(runner, images):
    """A sample that the engine does not take ends the stream with its error, and the producer is told to stop."""
    closed = []

    def wrong():
        try:
            yield from ({"input_1": image} for image in images[:5])
            while True:
                yield {"input_1": images[0].astype(np.float64)}
        finally:
            closed.append(True)

    with pytest.raises(RunnerError, match="input 'input_1' is float64"):
        list(stream.answers(runner, wrong(), batch=5))
    assert ended()
    assert closed == [True]


def test_samples_that_do_not_belong_together_are_refused(runner, images):
    """Another input, and shapes that differ, are told as such."""
    for other, message in (({"x": images[0]}, r"a sample has \['x'\]"), ({"input_1": images[0][1:]}, "differ|shape")):
        with pytest.raises(RunnerError, match=message):
            list(stream.answers(runner, iter([{"input_1": images[0]}, other]), batch=2))


def test_whoever_stops_reading_ends_the_producer(runner, images):
    """Closing the answers closes the producer, endless as it is."""
    answers = stream.answers(runner, endless(images))
    next(answers)
    assert alive()
    answers.close()
    assert ended()


def test_an_end_is_an_end(runner, images):
    """Samples that end have as many answers; none at all have none; a batch below one is refused."""
    assert len(list(stream.answers(runner, ({"input_1": image} for image in images[:33])))) == 33
    assert list(stream.answers(runner, iter(()))) == []
    with pytest.raises(ValueError, match="batch is 0"):
        stream.answers(runner, iter(()), batch=0)
