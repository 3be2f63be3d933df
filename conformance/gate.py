"""What must run: variants that are required may not be skipped."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

VARIABLE = "CONFORMANCE_REQUIRE"
"""The environment variable that requires variants, for jobs that cannot change a command line."""


def globs(options: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """All globs: those of the options, then those of the environment (separated by spaces or commas)."""
    return (*options, *environment.get(VARIABLE, "").replace(",", " ").split())


def required(patterns: Iterable[str], *names: str) -> str | None:
    """First glob that one of the names matches, or None."""
    return next((p for p in patterns if any(fnmatch.fnmatchcase(name, p) for name in names)), None)


def unmatched(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """Globs that match none of the names: a typing error would require nothing, and pass."""
    known = list(names)
    return [pattern for pattern in patterns if not any(fnmatch.fnmatchcase(name, pattern) for name in known)]
