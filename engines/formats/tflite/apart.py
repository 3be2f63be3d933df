"""Conversions in a process of their own, since a converter that crashes ends the process that it runs in."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError, EngineError
from engines.formats.savedmodel.apart import context

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def call(function: Callable[..., Any], *args: Any, crashed: str, **kwargs: Any) -> Any:
    """Result of a function that is called in a process of its own; arguments, result and EngineErrors are pickled.

    Raises what EngineError the function raises; ConversionError with the signal and ``crashed``, which says what to do,
    where that ends the process; and RuntimeError where it raises anything else, which the process prints.
    """
    ours, theirs = context().Pipe(duplex=False)
    process = context().Process(target=_answer, args=(theirs, function, args, kwargs))
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        answer = None
    finally:
        process.join()
        ours.close()
    if answer is None and process.exitcode < 0:
        raise ConversionError(f"{crashed} ({signal.Signals(-process.exitcode).name})")
    if answer is None:
        raise RuntimeError(f"{function.__name__} failed in a process of its own, which printed why")
    result, error = answer
    if error is not None:
        raise error
    return result


def _answer(connection: Connection, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    try:
        answer: tuple[Any, EngineError | None] = function(*args, **kwargs), None
    except EngineError as error:
        answer = None, error
    connection.send(answer)
