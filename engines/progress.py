"""One live line on a terminal for whatever takes long; a line now and then in a log, where there is no terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

DELAY_S = 0.5
"""What is done sooner than this shows no line at all."""

INTERVAL_S = 0.2
"""How often the line is drawn again."""

QUIET_S = 30.0
"""How often a log says how far something has come, where there is no terminal."""

_log = logging.getLogger(__name__)


@dataclass
class _Work:
    """Something that is under way, and since when."""

    title: str
    total: int | None
    unit: str
    done: int = 0
    start: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def text(self, columns: int) -> str:
        """Describe it within so many columns."""
        from tqdm import tqdm

        elapsed = time.monotonic() - self.start
        if self.total:
            text: str = tqdm.format_meter(self.done, self.total, elapsed, columns - 1, self.title, unit=f" {self.unit}")
        else:
            count = f" {self.done} {self.unit}" if self.done else ""
            text = f"{self.title}:{count} [{tqdm.format_interval(elapsed)}]"
        return text[: columns - 1]


@dataclass
class _Terminal:
    """Where the line is drawn: below what stands in the cursor's line, which the cursor returns to."""

    stream: TextIO
    column: Callable[[], int]
    work: list[_Work] = field(default_factory=list)
    """What is under way, the innermost last: that is the one that is shown."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    drawn: int | None = None
    """The column that the cursor was in when the line was drawn; None where there is no line."""
    stop: threading.Event = field(default_factory=threading.Event)
    chosen: bool = True
    """Whether somebody chose it; standard error is looked up anew each time, for it may be replaced and closed."""

    def draw(self) -> None:
        """Draw the line, or draw it again."""
        with self.lock:
            if not self.work or time.monotonic() - self.work[0].start < DELAY_S:
                return
            if self.drawn is None:
                self.drawn = self.column()
                self.stream.write("\n" if self.drawn else "")
            try:
                columns = os.get_terminal_size(self.stream.fileno()).columns
            except OSError:
                columns = 0
            # A pseudo-terminal that nobody has sized has no columns.
            self.stream.write(f"\r\x1b[K{self.work[-1].text(columns or 80)}")
            self.stream.flush()

    def erase(self) -> None:
        """Erase the line, and put the cursor back."""
        with self.lock:
            if self.drawn is not None:
                self.stream.write("\r\x1b[K" + (f"\x1b[A\x1b[{self.drawn}C" if self.drawn else ""))
                self.stream.flush()
                self.drawn = None

    def keep_drawing(self, stop: threading.Event) -> None:
        """Draw until told to stop; what is waited for may not come back here for a long time."""
        while not stop.wait(INTERVAL_S):
            self.draw()


_terminal: _Terminal | None = None


def _current() -> _Terminal:
    """Terminal that was chosen, or that of standard error."""
    global _terminal  # noqa: PLW0603 - a process has one terminal
    if _terminal is None or not (_terminal.chosen or _terminal.work or _terminal.stream is sys.stderr):
        _terminal = _Terminal(sys.stderr, lambda: 0, chosen=False)
    return _terminal


@contextlib.contextmanager
def shown_on(stream: TextIO, column: Callable[[], int]) -> Iterator[None]:
    """Show progress on ``stream`` instead of standard error, which a test run captures.

    ``column`` tells where in its line the cursor stands, so that it can be put back.
    """
    global _terminal  # noqa: PLW0603 - a process has one terminal
    before, _terminal = _terminal, _Terminal(stream, column)
    try:
        yield
    finally:
        _terminal = before


@contextlib.contextmanager
def live(title: str, total: int | None = None, unit: str = "steps") -> Iterator[Callable[[int], None]]:
    """Show that something is under way; call what this gives with how many more are done, from any thread.

    Without a ``total`` the line says for how long it has been going on. What is started inside takes its place.
    """
    terminal, work = _current(), _Work(title, total, unit)
    shown = terminal.stream.isatty()

    def advance(count: int) -> None:
        work.done += count
        if not shown and time.monotonic() - work.said >= QUIET_S:
            work.said = time.monotonic()
            of = f" of {total:,}" if total else ""
            _log.info("%s: %s%s %s", title, f"{work.done:,}", of, unit, extra={"progress": True})

    if not shown:
        yield advance
        return
    with terminal.lock:
        terminal.work.append(work)
        if len(terminal.work) == 1:
            terminal.stop = threading.Event()
            threading.Thread(target=terminal.keep_drawing, args=(terminal.stop,), daemon=True).start()
    try:
        yield advance
    finally:
        with terminal.lock:
            terminal.work.remove(work)
            if not terminal.work:
                terminal.stop.set()
            terminal.erase()


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Take the line away while something else is written; it comes back by itself."""
    terminal = _current()
    with terminal.lock:
        terminal.erase()
        yield


class Lines(logging.StreamHandler):  # type: ignore[type-arg] # not subscriptable before Python 3.11
    """Writes log records to standard error, never into the live line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record on a line of its own."""
        with hidden():
            super().emit(record)
