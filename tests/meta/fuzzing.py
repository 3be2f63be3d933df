"""Mutations of sound files and values, and what a parser may do with them: take them, or refuse them in one line."""

from __future__ import annotations

import datetime
import math
import os
import resource
import signal
import sys
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CPU_S = 20
"""Seconds of this process's own time after which a parser hangs: none of these files takes one."""

GROWTH = 1 << 30
"""Bytes that a parser of these small files may add to the most that the process has ever held."""

LONGEST = 2000
"""Characters that a line for a person may have, beside the name of the file."""

FUZZED = settings(suppress_health_check=list(HealthCheck), deadline=None)
"""Settings of every test here: how many examples there are is the profile's, see --hypothesis-profile=fuzz."""

_WATCHED = {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"}
_MOVING = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_seen: list[str] | None = None


class HangsError(BaseException):
    """A parser took longer than any of these files takes; no ``except Exception`` stops it."""


def _hook(event, args):
    if _seen is None or (event not in _WATCHED | _MOVING and event != "open"):
        return
    path = str(args[0]) if args else ""
    if event in _WATCHED:
        _seen.append(f"{event} {args!r}")
        return
    # Python itself writes down what it compiles, opens pipes by their number, and empties folders from inside of them.
    usual = "__pycache__" in path or path in {"/dev/null", "/dev/tty"} or path.isdigit()
    usual = usual or (event in {"os.remove", "os.rmdir"} and args[1] != -1)
    if not usual and (event in _MOVING or args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        _seen.append(f"{event} {path}")


sys.addaudithook(_hook)


@contextmanager
def harmless(*folders):
    """Let a parser run: it hangs not, takes little memory, runs no code, and writes nowhere but in ``folders``."""
    global _seen  # noqa: PLW0603 - Python takes no audit hook away again
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def hangs(*_):
        raise HangsError(f"more than {CPU_S} s")

    handler = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
    _seen = []
    try:
        yield
    finally:
        seen, _seen = _seen, None
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
    elsewhere = [event for event in seen if not any(str(folder) in event for folder in folders)]
    assert not elsewhere, elsewhere
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < GROWTH, f"{grown:,} bytes more"


def refusal(errors, read, *args, named="", folders=()):
    """Error that a parser refuses its input with, or None; it is one printable line that holds ``named``."""
    with harmless(*folders):
        try:
            read(*args)
        except errors as error:
            text = str(error)
        else:
            return None
    assert str(named) in text, text[:LONGEST]
    rest = text.replace(str(named), "")
    assert rest.strip(" :"), "it says nothing"
    assert len(rest) <= LONGEST, f"{len(rest):,} characters: {rest[:300]}"
    assert rest.isprintable(), repr(rest)
    return text


# Bytes.

NUMBERS = [0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
"""Numbers at the ends of what formats can hold."""


@st.composite
def mutated(draw, contents):
    """One of some byte strings, changed in up to four places."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        kind = draw(st.sampled_from(["flip", "byte", "number", "cut", "end", "twice", "insert"]))
        if kind == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte" and content:
            content[at] = draw(st.sampled_from([0, 1, 9, 10, 13, 32, 34, 44, 45, 48, 57, 91, 123, 127, 128, 255]))
        elif kind == "number":
            width = draw(st.sampled_from([2, 4, 8]))
            number = draw(st.sampled_from(NUMBERS)) % 256**width
            content[at : at + width] = number.to_bytes(width, "little")
        elif kind == "cut":
            del content[at : at + draw(st.integers(1, 64))]
        elif kind == "end":
            del content[at:]
        elif kind == "twice":
            content[at:at] = content[at : at + draw(st.integers(1, 64))]
        else:
            content[at:at] = draw(st.binary(min_size=1, max_size=16))
    return bytes(content)


# Values of documents such as TOML and JSON.

TEXTS = [
    "",
    " ",
    "a" * 5000,
    "..",
    "../../etc",
    "/",
    "a\nb",
    "\x1b[31m",
    "\x00",
    "ä",
    "\u202e",
    "%s",
    "{0}",
    "nan",
    "1",
]
WORDS = st.sampled_from(TEXTS) | st.text(max_size=8)
FLOATS = [0.0, -0.0, 0.5, -1.0, 1e-320, 3e38, -3e38, 1e308, -1e308, math.inf, -math.inf, math.nan]
INTEGERS = [-1, 0, 1, 2, 3, 100, 10**5, 10**30, 10**400, -(10**400), *NUMBERS]
SCALARS = st.one_of(
    WORDS,
    st.sampled_from(FLOATS),
    st.sampled_from(INTEGERS),
    st.booleans(),
    st.integers(-3, 40),
    st.just(datetime.datetime(2026, 1, 1)),
)


@st.composite
def deep(draw):
    """Lists or tables in each other, further than any parser recurses, or near to where it stops."""
    value, table = draw(SCALARS), draw(st.booleans())
    for _ in range(draw(st.sampled_from([2, 50, 300, 900]))):
        value = {"a": value} if table else [value]
    return value


VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=4),
    st.dictionaries(WORDS, SCALARS, max_size=3),
    deep(),
    st.builds(lambda one, count: [one] * count, SCALARS, st.sampled_from([10, 10_000])),
)


@st.composite
def edited(draw, documents):
    """One of some documents with up to three of its values replaced, left out, added to, doubled or renamed."""
    document = _copy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        holders = list(_holders(document))
        holder = draw(st.sampled_from(holders))
        kind = draw(st.sampled_from(["replace", "replace", "replace", "leave out", "add", "double", "rename"]))
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = draw(st.sampled_from(keys)) if keys else None
        if kind == "add" or key is None:
            _add(holder, draw(WORDS), draw(VALUES))
        elif kind == "replace":
            holder[key] = draw(VALUES)
        elif kind == "leave out":
            del holder[key]
        elif kind == "double":
            _add(holder, f"{key}2", _copy(holder[key]))
        else:
            _add(holder, draw(WORDS | st.sampled_from([str(k) for k in keys])), holder.pop(key))
    return document


def _add(holder, name, value):
    if isinstance(holder, dict):
        holder[name] = value
    else:
        holder.append(value)


def _copy(value):
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _holders(value):
    """Tables and lists of a document; of what is nested deeper than any sound one, nothing."""
    waiting = [(value, 0)]
    for one, depth in waiting:
        if isinstance(one, (dict, list)) and depth < 12:
            yield one
            waiting += [(item, depth + 1) for item in (one.values() if isinstance(one, dict) else one[:20])]


def toml_of(value):
    """A document as TOML: tables in its values are written in their line."""
    return "".join(f"{_string(key)} = {_inline(item)}\n" for key, item in value.items())


def _inline(value):
    # Without recursion, which ends before the parser's.
    wrapped = []
    while isinstance(value, (dict, list)) and len(value) == 1:
        key = next(iter(value)) if isinstance(value, dict) else None
        wrapped.append(("[", "]") if key is None else (f"{{{_string(key)} = ", "}"))
        value = value[0] if key is None else value[key]
    return "".join(start for start, _ in wrapped) + _plain(value) + "".join(end for _, end in reversed(wrapped))


def _plain(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_string(key)} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    return value.isoformat() if isinstance(value, datetime.datetime) else _string(value)


def _string(value):
    """A basic string: controls and what is no character by its number."""
    escaped = (f"\\u{ord(c):04x}" if c in '"\\\x7f' or ord(c) < 32 or "\ud800" <= c <= "\udfff" else c for c in value)
    return '"' + "".join(escaped) + '"'
