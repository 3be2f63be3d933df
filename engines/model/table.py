"""A TOML file that somebody gives, read table by table: what is wrong with it is told in one line."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar

from engines.errors import SpecError
from engines.tools import one_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

DEEPEST = 20
"""How many tables and lists may be inside of each other: a description has four."""

LONGEST_KEY = 100
"""Characters that a key may have."""

WHOLE = range(-(2**63), 2**63)
"""The integers that TOML promises to keep; Python's own have no end, and more digits than it writes."""

LARGEST_COUNT = 2**31 - 1
"""The largest size or number of anything: formats hold sizes in 32 bits."""

LONGEST_PATH, LONGEST_PART = 1000, 255
"""Characters of a path, and bytes of one of its parts: systems take as many, and some a few more."""

SHOWN = Repr()
"""How values stand in a message: as Python writes them, the middle of long ones left out."""
SHOWN.maxstring = SHOWN.maxother = SHOWN.maxlong = 100
SHOWN.maxlist, SHOWN.maxdict = 8, 4


def read_toml(path: Path) -> dict[str, Any]:
    """Content of a TOML file.

    Raises SpecError for what cannot be read or is no TOML, for keys that cannot stand in a line, for tables and lists
    deeper than DEEPEST, and for integers beyond 64 bits.
    """
    try:
        with path.open("rb") as file:
            content: dict[str, Any] = tomllib.load(file)
    except RecursionError as error:
        raise _too_deep(path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    except ValueError as error:  # TOMLDecodeError is one, and Python's own of a number with too many digits
        raise SpecError(f"{path}: not valid TOML: {one_line(str(error))}") from error
    waiting: list[tuple[Any, int]] = [(content, 0)]
    for value, depth in waiting:
        if depth > DEEPEST:
            raise _too_deep(path)
        if isinstance(value, dict):
            for key in value:
                if not key.isprintable() or len(key) > LONGEST_KEY:
                    allowed = f"at most {LONGEST_KEY} printable characters"
                    raise SpecError(f"{path}: a key is {SHOWN.repr(key)}; allowed: {allowed}")
        if isinstance(value, int) and value not in WHOLE:
            raise SpecError(f"{path}: an integer has {value.bit_length()} bits; allowed: at most 64, as TOML has them")
        if isinstance(value, (dict, list)):
            waiting += [(item, depth + 1) for item in (value.values() if isinstance(value, dict) else value)]
    return content


def _too_deep(path: Path) -> SpecError:
    return SpecError(f"{path}: its lists or tables are nested too deeply; allowed: what docs/models.md shows")


class Table:
    """A TOML table that is read key by key, so that whatever is left at the end is unknown."""

    def __init__(self, content: Any, path: Path, key: str = "") -> None:
        self.path, self.key = path, key
        if not isinstance(content, dict):
            raise SpecError(f"{path}: {key} is {SHOWN.repr(content)}; allowed: a table")
        self._content = dict(content)
        self._known: list[str] = []

    def error(self, key: str, found: Any, allowed: str) -> SpecError:
        """The error of a value that is not allowed."""
        return SpecError(f"{self.path}: {self._full(key)} is {SHOWN.repr(found)}; allowed: {allowed}")

    def _full(self, key: str) -> str:
        return f"{self.key}.{key}" if self.key else key

    def has(self, key: str) -> bool:
        """Whether a key is there and not yet taken."""
        self._known.append(key)
        return key in self._content

    def take(self, key: str, kind: type[T], allowed: str, default: T | None = None) -> T:
        """Remove and return a value of a type; the default is used where the key is absent, if there is one."""
        self._known.append(key)
        if key not in self._content:
            if default is not None:
                return default
            raise SpecError(f"{self.path}: {self._full(key)} is missing; allowed: {allowed}")
        value = self._content.pop(key)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise self.error(key, value, allowed)
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(key, value, allowed)
        return value

    def choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """Take one of several words."""
        value = self.take(key, str, " | ".join(allowed), default)
        if value not in allowed:
            near = difflib.get_close_matches(value, allowed, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise self.error(key, value, " | ".join(allowed) + hint)
        return value

    def number(self, key: str, allowed: str, low: float, high: float, default: float | None = None) -> float:
        """Take a number between two others."""
        value = self.take(key, float, allowed, default)
        if not low <= value <= high:
            raise self.error(key, value, allowed)
        return value

    def count(self, key: str, allowed: str, default: int | None = None, low: int = 1) -> int:
        """Take an integer that is not below another, nor above LARGEST_COUNT."""
        value = self.take(key, int, allowed, default)
        if not low <= value <= LARGEST_COUNT:
            raise self.error(key, value, allowed if value < low else f"{allowed}, at most {LARGEST_COUNT}")
        return value

    def file(self, key: str, allowed: str) -> Path:
        """Take the path of a file or folder, which is beside this file unless it says otherwise."""
        value = self.take(key, str, allowed)
        path = Path(value)
        if "\0" in value or len(value) > LONGEST_PATH or any(len(p.encode()) > LONGEST_PART for p in path.parts):
            raise self.error(key, value, f"{allowed}, whose parts have at most {LONGEST_PART} bytes")
        return self.path.parent / path

    def table(self, key: str) -> Table:
        """Take a table inside of this one."""
        return Table(self.take(key, dict, "a table"), self.path, self._full(key))

    def tables(self, key: str) -> list[Table]:
        """Take a list of tables, at least one."""
        items = self.take(key, list, f"one [[{key}]] table each")
        if not items:
            raise self.error(key, items, f"at least one [[{key}]] table")
        return [Table(item, self.path, f"{self._full(key)}[{i}]") for i, item in enumerate(items)]

    def names(self) -> list[str]:
        """Keys that are there and not yet taken."""
        return list(self._content)

    def finish(self) -> None:
        """Refuse what was not asked for."""
        for key in self._content:
            near = difflib.get_close_matches(key, self._known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            allowed = ", ".join(sorted(set(self._known)))
            raise SpecError(f"{self.path}: unknown key {self._full(key)!r}{hint}; allowed here: {allowed}")
