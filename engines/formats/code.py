"""What makes an artifact stale when the code that builds it changes."""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import threading
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UNCHANGED = Path(__file__).with_name("unchanged.toml")
"""Code that builds bit for bit what older code built, each by its hash: nothing is built again for it."""

_PARSING = threading.Lock()
"""Python 3.11 counts the depth of all threads' parsing in one place. Where a callback of the garbage collector, such as
Hypothesis has, lets another thread go on in between, it raises SystemError."""


def code(name: str, path: Path) -> dict[str, str]:
    """Entry of a recipe for the code of a file, by a name."""
    return {f"{name} code": code_hash(path)}


def code_hash(path: Path) -> str:
    """Hash of what a file's code does, whatever it says of it; that of older code where both do the same."""
    found = _hash(path)
    return _unchanged().get(found, found)


@cache
def _unchanged() -> dict[str, str]:
    with UNCHANGED.open("rb") as file:
        return {str(entry["now"]): str(entry["then"]) for entry in tomllib.load(file)["code"]}


@cache
def _hash(path: Path) -> str:
    return hashlib.sha256(substance(path.read_text(encoding="utf-8")).encode()).hexdigest()


def substance(source: str) -> str:
    """Source code without comments, docstrings and empty lines: rewording either builds nothing again."""
    lines = source.splitlines()
    for row, column in _comments(source):
        lines[row] = lines[row][:column]
    with _PARSING:
        tree = ast.parse(source)
    for first, last in _docstrings(tree):
        lines[first:last] = [""] * (last - first)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _comments(source: str) -> Iterator[tuple[int, int]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0] - 1, token.start[1]


def _docstrings(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """Lines, from the first to behind the last, of every string that stands for itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno - 1, node.end_lineno or node.lineno
