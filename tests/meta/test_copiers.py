"""The threads that copy samples for TensorRT engines: no GPU is needed to see what they do, and when they end."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import numpy as np
import pytest

from engines import copiers
from engines.copiers import Copiers, Pieces

PATIENCE = 20.0


@pytest.fixture
def make(monkeypatch):
    """Make copiers whose pieces are 64 bytes at least; all are stopped at the end."""
    monkeypatch.setattr(copiers, "CHUNK_BYTES", 64)
    made = []

    def call(count):
        made.append(Copiers(count, f"test {len(made)}"))
        return made[-1]

    yield call
    for one in made:
        one.stop()


def threads():
    """Copier threads of this module that are alive."""
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("test ") and " copier " in t.name)


def waited(pieces):
    """Wait for all pieces on another thread, so that one that never arrives fails a test and does not hang it."""
    found = []
    waiting = threading.Thread(target=lambda: found.extend(pieces), daemon=True)
    waiting.start()
    waiting.join(PATIENCE)
    assert not waiting.is_alive(), f"{pieces.expected} pieces never arrived"
    return found


class Held:
    """Rows that cannot be read before they are let go."""

    def __init__(self):
        self.go = threading.Event()

    def __getitem__(self, rows):
        """All rows as they are."""
        return self

    def __array__(self, dtype=None, copy=None):
        """The number 7, once it may be read."""
        assert self.go.wait(PATIENCE)
        return np.array(7.0)


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("rows", [1, 2, 7, 100, 1001])
def test_every_row_is_copied_once(make, count, rows):
    """However many copiers: every row asked for arrives once, under its key, in pieces that are large enough."""
    workers, pieces = make(count), Pieces()
    generator = np.random.default_rng(0)
    # Rows of 8 and of 12 bytes, and a source whose rows do not lie side by side.
    sources = {"a": generator.random((2 * rows + 12, 1))[::2], "b": generator.integers(0, 9, (rows + 6, 3), np.int32)}
    targets = {name: np.full((rows + 2, *source.shape[1:]), -1, source.dtype) for name, source in sources.items()}
    for name, source in sources.items():
        workers.copy(targets[name], source, 5, rows, name, pieces)
    found = waited(pieces)
    for name, source in sources.items():
        np.testing.assert_array_equal(targets[name], [*source[5 : 5 + rows], *targets[name][rows:]])
        assert (targets[name][rows:] == -1).all()
        spans = sorted((low, high) for key, low, high in found if key == name)
        assert [low for low, _ in spans] == [0, *(high for _, high in spans[:-1])]
        assert spans[-1][1] == rows
        share = -(-rows // max(1, min(count, rows * source[0].nbytes // 64)))
        assert {high - low for low, high in spans[:-1]} <= {share}
        assert spans[-1][1] - spans[-1][0] <= share


def test_the_first_asked_for_is_copied_first(make):
    """What is asked for first arrives first, and what is asked for elsewhere meanwhile does not mix with it."""
    workers, first, second = make(1), Pieces(), Pieces()
    targets = np.zeros((6, 8))
    for i in range(6):
        workers.copy(targets[i : i + 1], np.full((1, 8), i), 0, 1, i, (first, second)[i % 2])
    assert waited(second) == [(1, 0, 1), (3, 0, 1), (5, 0, 1)]
    # One thread copies in order: what was asked for before the last piece of the second is there.
    assert first.arrived.qsize() == 3
    assert waited(first) == [(0, 0, 1), (2, 0, 1), (4, 0, 1)]
    np.testing.assert_array_equal(targets[:, 0], range(6))


def test_asking_waits_for_nothing(make):
    """With a copier, whoever asks goes on while the copy is under way; without any, it copies itself."""
    held, target, pieces = Held(), np.zeros((2, 2)), Pieces()
    make(1).copy(target, held, 0, 2, "x", pieces)
    assert (pieces.expected, pieces.arrived.empty()) == (1, True)
    assert not target.any()
    held.go.set()
    assert waited(pieces) == [("x", 0, 2)]
    assert (target == 7).all()
    make(0).copy(target, np.ones((2, 2)), 0, 2, "y", pieces)
    assert (target == 1).all()
    assert threads() == ["test 0 copier 0"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_copy_that_fails_is_raised_where_it_is_waited_for(make, count):
    """The error comes out of the wait, at its place among the pieces, and the copiers go on with what follows."""
    workers, pieces, later = make(count), Pieces(), Pieces()
    target = np.zeros((4, 2))
    workers.copy(target, np.ones((4, 3)), 0, 4, "bad", pieces)
    with pytest.raises(ValueError, match="could not broadcast"):
        list(pieces)
    workers.copy(target, np.ones((4, 2)), 0, 4, "good", later)
    assert {key for key, _, _ in waited(later)} == {"good"}
    assert (target == 1).all()


def test_stopping_waits_for_the_copies_and_ends_the_threads(make):
    """Nothing is copied after a stop, and no thread is left; the next copy starts new ones, as often as one likes."""
    workers = make(2)
    workers.stop()
    assert threads() == []
    for turn in range(1, 4):
        held, target, pieces = Held(), np.zeros((20, 8)), Pieces()
        workers.copy(target, held, 0, 20, turn, pieces)
        assert threads() == ["test 0 copier 0", "test 0 copier 1"]
        stopping = threading.Thread(target=workers.stop)
        stopping.start()
        stopping.join(0.05)
        assert stopping.is_alive()
        held.go.set()
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
        assert threads() == []
        assert (target == 7).all()
        # What was copied before is still to be had.
        assert {key for key, _, _ in waited(pieces)} == {turn}


def test_a_stop_that_is_interrupted_is_made_up_for(make, monkeypatch):
    """After Ctrl-C in the midst of a stop, the next copy waits for the thread that was left, and has its own."""
    workers, held, target, pieces = make(1), Held(), np.zeros((20, 8)), Pieces()
    workers.copy(target, held, 0, 20, "old", pieces)

    def interrupted(thread):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            workers.stop()
    assert len(threads()) == 1
    threading.Timer(0.05, held.go.set).start()
    later = Pieces()
    workers.copy(np.zeros((20, 8)), np.ones((20, 8)), 0, 20, "new", later)
    # The old thread wrote to its target before the new one started.
    assert (target == 7).all()
    assert {key for key, _, _ in waited(later)} == {"new"}


def test_threads_that_cannot_start_leave_nothing_behind(make, monkeypatch):
    """Where the system gives one thread and no second, the first ends again, and nothing waits to be copied."""
    workers, start, target, pieces = make(2), threading.Thread.start, np.zeros((20, 8)), Pieces()

    def refuse(thread):
        if thread.name.endswith("copier 1"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            workers.copy(target, np.ones((20, 8)), 0, 20, "x", pieces)
    assert (threads(), pieces.expected) == ([], 0)
    workers.copy(target, np.full((20, 8), 2), 0, 20, "y", pieces)
    assert {key for key, _, _ in waited(pieces)} == {"y"}
    assert (target == 2).all()


@pytest.mark.parametrize("shape", [(20, 8), (20, 9)], ids=["copied", "failed"])
def test_nothing_of_the_callers_is_kept_alive(make, shape):
    """Once the pieces have arrived, or one has failed, the arrays are the caller's alone, without a collection."""
    workers = make(2)

    def ask():
        source, target, pieces = np.ones(shape), np.zeros((20, 8)), Pieces()
        workers.copy(target, source, 0, 20, "x", pieces)
        if shape == target.shape:
            for _ in pieces:
                pass
        else:
            # Each piece fails: the errors know this function's variables.
            for _ in range(pieces.expected):
                with pytest.raises(ValueError, match="could not broadcast"):
                    next(iter(pieces))
        return [weakref.ref(source), weakref.ref(target)]

    gc.collect()
    gc.disable()
    try:
        kept, deadline = ask(), time.monotonic() + PATIENCE / 4
        # A thread says that it has copied just before it forgets an error.
        while any(one() is not None for one in kept) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [one() for one in kept] == [None, None]
    finally:
        gc.enable()
