"""What TensorRT says: one logger for builder, parser and runtime, whose errors become part of ours."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Any

from engines.formats.tensorrt.versions import bindings


def logger(library: Any = None) -> Any:
    """The process's one logger of a TensorRT, the standard one unless another is given; it warns of a second one.

    It keeps the last warnings and errors, each with a running number, and counts all messages.
    """
    return _logger(library or bindings())


@cache
def _logger(trt: Any) -> Any:
    parent: Any = trt.ILogger

    class Logger(parent):  # type: ignore[misc]
        """Keeps what TensorRT says; it may be called from TensorRT's own threads."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.kept: deque[tuple[int, bool, str]] = deque(maxlen=500)
            self.count = 0
            self.lock = threading.Lock()

        def log(self, severity: Any, message: str) -> None:
            """Keep warnings and errors (TensorRT calls this; it must not raise)."""
            with self.lock:
                self.count += 1
                if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING):
                    self.kept.append((self.count, severity != trt.ILogger.WARNING, message))

    return Logger()


class Said:
    """What a TensorRT said since this was made."""

    def __init__(self, library: Any = None) -> None:
        self._logger = logger(library)
        self._start = self._logger.count

    def _messages(self) -> list[tuple[bool, str]]:
        with self._logger.lock:
            return [(is_error, text) for number, is_error, text in self._logger.kept if number > self._start]

    def errors(self) -> str:
        """Errors, indented, the last twelve of them; warnings where there are no errors."""
        said = self._messages()
        chosen = [text for is_error, text in said if is_error] or [text for _, text in said]
        return "\n".join(f"    {text}" for text in chosen[-12:]) or "    (TensorRT gave no message)"

    def warnings(self) -> list[str]:
        """Warnings, each once."""
        return list(dict.fromkeys(text for is_error, text in self._messages() if not is_error))


@contextlib.contextmanager
def polygraphy_speaks_here() -> Iterator[None]:
    """Make Polygraphy use our logger, and keep it from printing: what it and TensorRT say goes into our errors."""
    from polygraphy.backend.trt import util
    from polygraphy.logger import G_LOGGER

    util.TRT_LOGGER = logger()
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):
        yield
