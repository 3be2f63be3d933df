"""Read the results of earlier runs, ``conformance.json``, and refuse what is none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from conformance.report.document import SCHEMA_VERSION, schema
from conformance.shown import line

READ = (1, SCHEMA_VERSION)
"""The versions of results that can be read."""

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


class HistoryError(Exception):
    """A file or an option of a comparison cannot be used; one line, whatever names the file holds."""

    def __init__(self, message: str) -> None:
        super().__init__(line(message))


def read_results(path: Path) -> dict[str, Any]:
    """Read a file of results; raises HistoryError naming file, place, what was found and what is allowed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse, parse_float=_finite)
    except OSError as error:
        raise HistoryError(
            f"{path}: cannot be read ({error.strerror}); allowed: the conformance.json that pytest --report=DIR wrote"
        ) from error
    except (ValueError, RecursionError) as error:
        # Lists in lists, a thousand deep, are more than Python reads.
        raise HistoryError(
            f"{path}: is no JSON ({error}); allowed: the conformance.json of pytest --report=DIR"
        ) from error
    found = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(found, bool) or found not in READ:
        shown = f"schema_version is {found!r}" if isinstance(content, dict) else f"holds a {type(content).__name__}"
        raise HistoryError(
            f"{path}: {shown}; allowed: results of schema_version {' or '.join(map(str, READ))}; "
            "run the suite again to get them"
        )
    if found == 1:
        _from_first(content)
    if problem := problem_of(content, schema(), ""):
        raise HistoryError(f"{path}: {problem}")
    return dict(content)


def _from_first(content: dict[str, Any]) -> None:
    """Make results of schema_version 1 into today's: there, problems of batching were not written down."""
    content["schema_version"] = SCHEMA_VERSION
    rows = content.get("batching")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict):
            row.setdefault("problems", [])


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text} is beyond all numbers of 64 bits")
    return number


def problem_of(value: object, rule: dict[str, Any], place: str) -> str | None:  # noqa: PLR0911, PLR0912 - keywords
    """Place where ``value`` breaks the schema ``rule`` (of the keywords that the schema of results uses), or None.

    ``place`` is the value's own place, such as ``benchmarks[3].batch``.
    """
    where = place or "the file"
    if "oneOf" in rule:
        problems = [problem_of(value, option, place) for option in rule["oneOf"]]
        return None if None in problems else problems[-1]
    if "type" in rule:
        allowed = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
        if not any(isinstance(value, _TYPES[t]) and (t == "boolean" or not isinstance(value, bool)) for t in allowed):
            return f"{where} is {_shown(value)}; allowed: {' or '.join(allowed)}"
    if "enum" in rule and value not in rule["enum"]:
        return f"{where} is {_shown(value)}; allowed: {', '.join(map(str, rule['enum']))}"
    if isinstance(value, (int, float)):
        if value < rule.get("minimum", value):
            return f"{where} is {value}; allowed: {rule['minimum']} or more"
        if "exclusiveMinimum" in rule and value <= rule["exclusiveMinimum"]:
            return f"{where} is {value}; allowed: above {rule['exclusiveMinimum']}"
    if isinstance(value, dict):
        if missing := [key for key in rule.get("required", ()) if key not in value]:
            return f"{where} lacks {missing[0]!r}; allowed: what pytest --report=DIR writes, unedited"
        others, inner = rule.get("additionalProperties"), rule.get("properties", {})
        for key, item in value.items():
            one = inner.get(key, others)
            if isinstance(one, dict) and (problem := problem_of(item, one, f"{place}.{key}".lstrip("."))):
                return problem
    if isinstance(value, list):
        for index, item in enumerate(value):
            first = rule.get("prefixItems", [])
            one = first[index] if index < len(first) else rule.get("items")
            if isinstance(one, dict) and (problem := problem_of(item, one, f"{place}[{index}]")):
                return problem
        if len(value) < rule.get("minItems", 0):
            return f"{where} has {len(value)} items; allowed: {rule['minItems']} or more"
    return None


def _shown(value: object) -> str:
    # What holds others is named only: it may hold more levels than can be written.
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
