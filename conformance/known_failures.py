"""Known failures: tests that are listed in a file, each with a reason and a link, and must fail as long as they are."""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from conformance.shown import named, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = "known_failures"
KINDS = ("assertion", "conversion")
"""How a listed test fails: the test itself finds wrong answers, or the artifact that it needs cannot be built."""

TEST_FILES = "test_*.py"
"""The names of the files that tests are in."""

_REQUIRED = ("test", "reason", "link")
_OPTIONAL = ("model", "fails", "versions", "device")
_LINK = re.compile(r"https?://\S+")


class KnownFailureError(Exception):
    """The file is wrong: the message names it, the entry, what was found and what is allowed."""


@dataclass(frozen=True)
class KnownFailure:
    """One entry: ``test`` is known to fail, where the versions and the device are these.

    ``test`` is a full test id, as pytest prints it; ``model`` the model under test that it belongs to (empty: none).
    ``fails`` is one of :data:`KINDS`. All of ``versions`` have to hold; ``device`` is a glob on the GPU's name, or
    ``CPU``. ``source`` names file and entry, for messages.
    """

    test: str
    reason: str
    link: str
    source: str
    model: str = ""
    fails: str = KINDS[0]
    versions: tuple[Requirement, ...] = ()
    device: str = ""

    @property
    def path(self) -> str:
        """The test file, relative to the root folder, with forward slashes."""
        return self.test.split("::", 1)[0]

    def not_here(self, installed: Mapping[str, str | None], device: Callable[[], str]) -> str | None:
        """Reason why this environment is not the one that the entry is about; None where it is.

        ``installed`` maps each package that ``versions`` may name to its version, None where it is not installed.
        ``device`` is asked only where the entry names one.
        Raises KnownFailureError for a package that ``installed`` does not know, and for a version it cannot compare.
        """
        for requirement in self.versions:
            if requirement.name not in installed:
                known = ", ".join(sorted(installed))
                raise KnownFailureError(f"{self.source}: versions names {requirement.name!r}; allowed: {known}")
            found = installed[requirement.name]
            if found is None:
                return f"it is about {requirement}, which is not installed here"
            try:
                # A nightly build is what such an entry is most often about, so pre-releases count.
                holds = requirement.specifier.contains(Version(found), prereleases=True)
            except InvalidVersion as error:
                raise KnownFailureError(
                    f"{self.source}: {requirement.name} here has the version {found!r}, which cannot be compared with "
                    f"{requirement}; leave {requirement.name} out of versions"
                ) from error
            if not holds:
                return f"it is about {requirement}, here is {found}"
        if self.device and not fnmatch.fnmatchcase(found := device(), self.device):
            return f"it is about device {self.device}, here is {found}"
        return None


def load(path: Path, root: Path) -> tuple[KnownFailure, ...]:
    """Read and check a file of known failures; ``root`` is what the paths in its test ids are relative to.

    Raises KnownFailureError for a file that cannot be read, a missing, empty, unknown or ill-typed key, a test listed
    twice, and a path that no test has.
    """
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise KnownFailureError(f"{path}: cannot be read: {error.strerror}; allowed: a TOML file") from error
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError is a ValueError, and so are what is no UTF-8 and a number with too many digits.
        raise KnownFailureError(f"{path}: not TOML: {shown(str(error))}") from error
    tables = content.pop(TABLE, [])
    if content:
        raise KnownFailureError(
            f"{path}: unknown key {shown(min(content))}; allowed: entries that start with [[{TABLE}]]"
        )
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise KnownFailureError(f"{path}: {TABLE} is no list of entries; allowed: entries that start with [[{TABLE}]]")
    entries: dict[str, KnownFailure] = {}
    for number, table in enumerate(tables, 1):
        entry = _entry(table, f"{path}, entry {number}", root)
        if entry.test in entries:
            raise KnownFailureError(f"{entry.source}: already listed by {entries[entry.test].source}")
        entries[entry.test] = entry
    return tuple(entries.values())


def _entry(table: Mapping[str, Any], source: str, root: Path) -> KnownFailure:
    if isinstance(test := table.get("test"), str):
        source += f" ({named(test)})"
    allowed = f"allowed: {', '.join(_REQUIRED)}, and optionally {', '.join(_OPTIONAL)}"
    if unknown := sorted(table.keys() - {*_REQUIRED, *_OPTIONAL}):
        raise KnownFailureError(f"{source}: unknown key {shown(unknown[0])}; {allowed}")
    if missing := [key for key in _REQUIRED if key not in table]:
        raise KnownFailureError(f"{source}: has no {missing[0]}; {allowed}")
    for key, value in table.items():
        if key != "versions" and (not isinstance(value, str) or not value.strip()):
            raise KnownFailureError(f"{source}: {key} is {shown(value)}; allowed: some text")
    if not _LINK.fullmatch(table["link"]):
        raise KnownFailureError(f"{source}: link is {shown(table['link'])}; allowed: an address, https://…")
    if table.get("fails", KINDS[0]) not in KINDS:
        raise KnownFailureError(f"{source}: fails is {shown(table['fails'])}; allowed: {', '.join(KINDS)}")
    if problem := _path_problem(*table["test"].split("::"), root=root):
        raise KnownFailureError(
            f"{source}: {problem}; allowed: a test id as pytest prints it, tests/test_x.py::test_y[z]"
        )
    rest = {key: value for key, value in table.items() if key != "versions"}
    return KnownFailure(**rest, versions=_versions(table.get("versions", []), source), source=source)


def _path_problem(path: str, *names: str, root: Path) -> str | None:
    """Reason why no test could have this path and these names: the entry would never be found stale; or None."""
    parts, name = PurePosixPath(path).parts, PurePosixPath(path).name
    if not names:
        return "it names a file and no test"
    if "/".join(parts) != path or ".." in parts:
        return f"{shown(path)} is not the shortest path from {root}"
    if not fnmatch.fnmatchcase(name, TEST_FILES):
        return f"{shown(path)} is no {TEST_FILES}, so no test is looked for in it"
    # Not by Path: until Python 3.14 it raises for a name that is too long for any file.
    return None if os.path.isfile(root / path) else f"there is no file {shown(path)} in {root}"  # noqa: PTH113


def _versions(values: Any, source: str) -> tuple[Requirement, ...]:
    """Parse version conditions such as ``tensorrt>=10,<11`` (PEP 508 without extras, markers and addresses)."""
    allowed = 'allowed: a list such as ["tensorrt>=10,<11", "python<3.12"]'
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise KnownFailureError(f"{source}: versions is {shown(values)}; {allowed}")
    result = []
    for value in values:
        try:
            requirement = Requirement(value)
        except InvalidRequirement as error:
            raise KnownFailureError(
                f"{source}: versions has {shown(value)}: {shown(str(error).splitlines()[0])}; {allowed}"
            ) from error
        if requirement.extras or requirement.marker or requirement.url or not requirement.specifier:
            raise KnownFailureError(f"{source}: versions has {shown(value)}; {allowed}")
        result.append(requirement)
    return tuple(result)


def unlisted_models(entries: Iterable[KnownFailure], under_test: Iterable[str]) -> tuple[str, ...]:
    """Models of entries that are not under test, so that nothing of theirs can be looked for."""
    known = set(under_test)
    return tuple(dict.fromkeys(e.model for e in entries if e.model and e.model not in known))
