"""The windows that convolutions and poolings move over an image: of a file that was brought, and of the model's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple


class Window(NamedTuple):
    """One window: its operator, its size, steps and gaps in words, and its padding.

    ``implied`` is padding that hangs on the image's size, as SAME does; it is not compared with numbers.
    """

    operator: str
    words: str
    padding: str = ""
    implied: bool = False


def differing(brought: Iterable[Window], own: Iterable[Window]) -> str:
    """What differs between the windows of two files of one format, in words; empty where nothing can be said.

    Files that have not the same number of windows write layers in other ways, and cannot be compared so.
    """
    found, expected = list(brought), list(own)
    if len(found) != len(expected):
        return ""
    if any(w.implied for w in found) != any(w.implied for w in expected):
        found, expected = ([w._replace(padding="", implied=False) for w in windows] for windows in (found, expected))
    others, missing = Counter(found) - Counter(expected), Counter(expected) - Counter(found)
    return f"{_told(others)} for {_told(missing)}" if others else ""


def _told(windows: Counter[Window]) -> str:
    listed = [
        (f"{count} times " if count > 1 else "")
        + f"{w.operator} of {w.words}"
        + (f" padded {w.padding}" * bool(w.padding))
        for w, count in sorted(windows.items())
    ]
    return ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")
