"""TensorFlow in a process of its own: it takes 500 MB, and who hands work out to a cluster is to stay small.

Where :func:`keep_apart` was called, that process is started with the first question, and answers one after the other
until this one ends, or does without. Else everything is asked here.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import progress
from engines.errors import RunnerError
from engines.runner import Runner
from engines.variant import REFERENCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import ModelSpec

_apart = False
_numbers = itertools.count()


def keep_apart(wanted: bool = True) -> None:
    """Have TensorFlow asked in a process of its own from now on, or in this one: then the other one ends."""
    global _apart  # noqa: PLW0603 - a process has TensorFlow in it or does not
    _apart = wanted
    if not wanted and _process.cache_info().currsize:
        _process().shutdown()
        _process.cache_clear()


def kept_apart() -> bool:
    """Whether TensorFlow is asked in a process of its own."""
    return _apart


@cache
def context() -> Any:
    """How processes are started: on Linux from one that has TensorFlow already, which takes a moment, else anew."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    # Before that one is started, for it takes over the environment: TensorFlow's start-up chatter is off there, too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tensorflow"])
    return found


def ask(function: Callable[..., Any], *args: Any) -> Any:
    """Result of a function of a module, called where TensorFlow is; arguments, result and errors are pickled.

    Raises what the function raises, and RunnerError where the process of its own ends before it answers.
    """
    if not _apart:
        return function(*args)
    try:
        return _process().submit(function, *args).result()
    except BrokenProcessPool as error:
        _process.cache_clear()
        raise RunnerError(
            f"the process that has TensorFlow ended before it answered ({function.__name__}); it may need more memory "
            "than this machine has"
        ) from error


def asks(make: Callable[..., Callable[..., Any]], *args: Any) -> Callable[..., Any]:
    """Function that asks what ``make`` of a module makes where TensorFlow is, and what is kept there."""
    if not _apart:
        return make(*args)
    return partial(ask, _answer, _held_there(make, *args))


def _held_there(make: Callable[..., Any], *args: Any) -> int:
    """Number of what is made where TensorFlow is, and kept; no other process of a run has the same."""
    number = next(_numbers)
    ask(_hold, number, make, args)
    return number


class ApartRunner(Runner):
    """Runs a SavedModel where TensorFlow is, by the runner that ``opened`` opens there; raises what that raises."""

    def __init__(
        self, opened: Callable[..., Runner], spec: ModelSpec, path: Path, batch_size: int | None = None
    ) -> None:
        super().__init__(spec, REFERENCE, batch_size)
        self._number = _held_there(opened, spec, path, batch_size)
        self.settings = ask(_settings, self._number)

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        outputs: dict[str, NDArray[Any]] = ask(_answer, self._number, inputs)
        return outputs

    def _release(self) -> None:
        ask(_close, self._number)


@cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, context(), initializer=_start)


# What follows runs in the process of its own.

_held: dict[int, Any] = {}


def _start() -> None:
    """Leave Control-C and the terminal to the process that asks, and end with it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    progress.shown_on(Path(os.devnull).open("w"), lambda: 0).__enter__()  # noqa: SIM115 - until this process ends
    threading.Thread(target=_end_with_the_asker, daemon=True).start()


def _end_with_the_asker() -> None:
    asker = multiprocessing.parent_process()
    assert asker is not None
    asker.join()
    os._exit(1)


def _hold(number: int, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
    _held[number] = make(*args)


def _answer(number: int, *args: Any) -> Any:
    return _there(number)(*args)


def _settings(number: int) -> dict[str, str]:
    settings: dict[str, str] = _there(number).settings
    return settings


def _close(number: int) -> None:
    if number in _held:
        _held.pop(number).close()


def _there(number: int) -> Any:
    """What is kept under a number; RunnerError where it was kept in a process that has ended since."""
    if number not in _held:
        raise RunnerError("the process that had TensorFlow ended, and what it had opened is gone")
    return _held[number]
