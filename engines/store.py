"""The artifact store: what is built once, kept in a folder, and trusted only as long as it still is what was built.

An artifact is the folder ``<root>/<model>/<name>`` with any files in it, and ``artifact.json`` beside them. That
records what the artifact was made from, and the size and SHA-256 of each file. It comes into being by one rename, so
that a build that fails or is killed leaves nothing that counts.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from engines.errors import StoreError, StoreUnusableError
from engines.hashing import file_hash
from engines.progress import live

SCHEMA = 1
RECORD = "artifact.json"
PATIENCE_S = 2.0
"""How long another process may hold an artifact's lock before a line says that we wait for it."""

FULL_BYTES = 1 << 20
"""A file system with less room than this counts as full when a build has failed."""

Build = Callable[[Path], "Mapping[str, Any] | None"]
"""Fills the folder that it is given; what it returns (JSON-able) becomes the artifact's details."""

_log = logging.getLogger(__name__)

ARTIFACT_NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*")
"""What models and artifacts may be called: each names a folder."""

ABSENT = "nothing is there"
"""What is said of an artifact that was never built."""
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "model": str,
    "name": str,
    "recipe": dict,
    "files": dict,
    "sha256": str,
    "size": int,
    "seconds": (int, float),
    "built": str,
    "details": dict,
}
_CHANGED = {
    "inputs": "its input {key} changed",
    "parameters": "parameter {key} is {now}, was {was}",
    "tools": "made by {key} {was}, here is {now}",
    "environment": "made on {key} {was}, here is {now}",
}
_STORE_ERRNOS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR}
    | {errno.ENAMETOOLONG, errno.ELOOP}
)


@dataclass(frozen=True)
class Recipe:
    """What an artifact is made from: it is valid as long as all of this still matches.

    ``inputs`` maps names to content hashes, ``parameters`` are JSON-able settings of the build. ``tools`` maps tools to
    versions; None means not installed here, so any recorded version is accepted. ``environment`` holds what else
    matters, such as GPU and driver.
    """

    inputs: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str | None] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """A valid artifact: its folder, and the record that ``artifact.json`` holds."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """One hash over the relative names and contents of all files; it knows neither time nor place."""
        return str(self.record["sha256"])

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return int(self.record["size"])

    @property
    def seconds(self) -> float:
        """How long the build took."""
        return float(self.record["seconds"])

    @property
    def details(self) -> Mapping[str, Any]:
        """What the builder returned."""
        details: Mapping[str, Any] = self.record["details"]
        return details

    def file(self, name: str) -> Path:
        """Path of a file by its relative name; raises StoreError when it is not part of the artifact."""
        files = self.record["files"]
        if name not in files:
            raise StoreError(f"{self.folder}: {name!r} is not part of this artifact; it holds {', '.join(files)}")
        return self.folder / name


@dataclass(frozen=True)
class Store:
    """A folder of artifacts, each named by a model and a name; safe to share between processes."""

    root: Path

    @property
    def _extra(self) -> dict[str, str]:
        """What log records carry, so that a handler can tell stores apart."""
        return {"store": str(self.root)}

    def find(self, model: str, name: str, recipe: Recipe) -> Artifact | None:
        """The valid artifact, or None; builds nothing and writes nothing.

        Raises ValueError for a name that is not allowed, StoreError when the store cannot be read.
        """
        found = self.state(model, name, recipe)
        return found if isinstance(found, Artifact) else None

    def state(self, model: str, name: str, recipe: Recipe) -> Artifact | str:
        """The valid artifact, or in words why there is none; raises as :meth:`find` does."""
        _check_names(model, name)
        with self._explained():
            return self._inspect(model, name, _recorded(recipe))

    def recorded(self, model: str, name: str) -> Artifact | None:
        """The artifact whose files are what was built, whatever it was made from; None where there is none.

        For what cannot be made here and whose ingredients are not here either: another environment answers for them.
        Raises as :meth:`find` does.
        """
        _check_names(model, name)
        with self._explained():
            found = self._inspect(model, name, None)
        return found if isinstance(found, Artifact) else None

    def names(self, model: str) -> tuple[str, ...]:
        """Names of the artifacts of a model, valid or not, in order; raises as :meth:`find` does."""
        _check_names(model, model)
        folder = self.root / model
        with self._explained():
            found = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return tuple(sorted(name for name in found if ARTIFACT_NAME.fullmatch(name)))

    def get(self, model: str, name: str, recipe: Recipe, build: Build | None, *, hint: str = "") -> Artifact:
        """The valid artifact; without one, build it (again), once even when several processes ask.

        ``build`` gets an empty folder to fill. What it raises comes through, and leaves the store as it was. None
        says that the artifact cannot be made here; ``hint`` is the command that makes it.

        Raises ValueError for a name that is not allowed, and TypeError when recipe or details are not JSON-able. Raises
        StoreError when there is nothing valid and no ``build``, when ``build`` made nothing, and when the store cannot
        be read or written.
        """
        _check_names(model, name)
        recorded = _recorded(recipe)
        with self._explained():
            # No lock at first: a store that cannot be written still gives what it has.
            found = self._inspect(model, name, recorded)
            if isinstance(found, Artifact):
                return found
            if build is None:
                advice = f"; {hint}" if hint else ""
                raise StoreError(f"{self.root}: there is no valid {model}/{name} ({found}){advice}")
            with self._locked(model, name):
                found = self._inspect(model, name, recorded)
                if isinstance(found, Artifact):
                    return found
                if found == ABSENT:
                    _log.info("building %s/%s", model, name, extra=self._extra)
                else:
                    _log.warning("rebuilding %s/%s: %s", model, name, found, extra=self._extra)
                built = self._build(model, name, recorded, build)
                told = built.seconds, _size_text(built.size)
                _log.info("built %s/%s in %.1f s (%s)", model, name, *told, extra=self._extra)
                return built

    def put(self, model: str, name: str, recipe: Recipe, build: Build) -> Artifact:
        """A new artifact in place of whatever is there, without a word; raises as :meth:`get` does."""
        _check_names(model, name)
        with self._explained(), self._locked(model, name):
            return self._build(model, name, _recorded(recipe), build)

    def remove(self, model: str, name: str) -> None:
        """Remove an artifact, valid or not, if it is there; raises as :meth:`find` does."""
        _check_names(model, name)
        with self._explained(), self._locked(model, name):
            _discard(self.root / model / name)

    def _inspect(self, model: str, name: str, recipe: Mapping[str, Any] | None) -> Artifact | str:
        """The artifact when it is valid, else the reason why it is not."""
        folder = self.root / model / name
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return f"{RECORD} is missing" if folder.exists() else ABSENT
        except (ValueError, IsADirectoryError):
            return f"{RECORD} is not readable JSON"
        flaws = itertools.chain(
            _record_flaws(record, model, name),
            () if recipe is None else _recipe_flaws(record, recipe),
            _files_flaws(record, folder),
        )
        return next(flaws, None) or Artifact(folder, record)

    @contextlib.contextmanager
    def _locked(self, model: str, name: str) -> Iterator[None]:
        path = self.root / ".locks" / f"{model}--{name}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:
            # A file system of the kernel's own, such as /proc, has folders and takes none.
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), error.filename) from error
        lock = FileLock(path)
        try:
            lock.acquire(timeout=PATIENCE_S)
        except Timeout:
            _log.info("waiting for another process that builds %s/%s", model, name, extra=self._extra)
            with live(f"waiting for {model}/{name}"):
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _build(self, model: str, name: str, recipe: Mapping[str, Any], build: Build) -> Artifact:
        """Build beside the target and rename into place; the caller holds the lock."""
        folder = self.root / model / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The lock is ours, so whatever such a folder belonged to was killed. The match is exact: a glob for the
        # leftovers of "a" would take those of "a.b" too, which may be in the making.
        leftover = re.compile(rf"\.{re.escape(name)}\.\d+\.[0-9a-f]{{8}}\.(partial|stale)")
        for path in folder.parent.iterdir():
            if leftover.fullmatch(path.name):
                _discard(path)
        unique = f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        partial, stale = folder.with_name(f"{unique}.partial"), folder.with_name(f"{unique}.stale")
        partial.mkdir()
        try:
            start = time.perf_counter()
            try:
                with live(f"building {model}/{name}"):
                    details = build(partial)
            except Exception as error:
                # Converters report a full disk in words of their own, or not at all.
                if not isinstance(error, OSError) and shutil.disk_usage(self.root).free < FULL_BYTES:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial)) from error
                raise
            seconds = round(time.perf_counter() - start, 3)
            record = {
                "schema": SCHEMA,
                "model": model,
                "name": name,
                "recipe": recipe,
                **_describe_files(partial, f"{model}/{name}"),
                "seconds": seconds,
                "built": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "details": _through_json(dict(details or {})),
            }
            with (partial / RECORD).open("w", encoding="utf-8") as file:
                json.dump(record, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            # A kill between the renames leaves no artifact, only a leftover: the next call builds again.
            if folder.exists():
                folder.rename(stale)
            partial.rename(folder)
        finally:
            _discard(partial)
        _discard(stale)
        return Artifact(folder, record)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise StoreError for what is wrong with the store; a builder's own OSError, of other files, comes through."""
        try:
            yield
        except OSError as error:
            if error.errno not in _STORE_ERRNOS or not self._concerns(error.filename):
                raise
            where = f" ({os.fsdecode(error.filename)})" if error.filename is not None else ""
            raise StoreUnusableError(
                f"{self.root}: the artifact store cannot be used: {os.strerror(error.errno)}{where}; "
                "choose another folder with --artifacts=DIR"
            ) from error

    def _concerns(self, filename: object) -> bool:
        """Whether an OSError's file is the store's; a failing write, as on a full disk, names no file."""
        if filename is None:
            return True
        if not isinstance(filename, str | bytes):
            return False
        # Not by Path, which raises for a link to itself.
        path, root = (Path(os.path.realpath(p)) for p in (os.fsdecode(filename), self.root))
        return path.is_relative_to(root)


@dataclass(frozen=True)
class Beside:
    """Stores what is measured of an artifact beside it, as ``<name>.<suffix>``; can be pickled for another process."""

    store: Store
    model: str
    name: str

    def __call__(self, suffix: str, recipe: Recipe, build: Build) -> Artifact:
        """The artifact with this suffix, built where there is no valid one; raises as :meth:`Store.get` does."""
        return self.store.get(self.model, f"{self.name}.{suffix}", recipe, build)


def _check_names(model: str, name: str) -> None:
    for what, value in (("model", model), ("name", name)):
        if not ARTIFACT_NAME.fullmatch(value):
            raise ValueError(
                f"{what} is {value!r}; allowed: letters, digits and any of . _ + -, not starting with a dot"
            )


def _recorded(recipe: Recipe) -> dict[str, Any]:
    """Recipe as it reads when it comes back from JSON (lists for tuples, strings for keys)."""
    sections = ((section, dict(getattr(recipe, section))) for section in _CHANGED)
    return _through_json(dict(sections))


def _through_json(value: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(json.dumps(value))
    return result


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _describe_files(folder: Path, what: str) -> dict[str, Any]:
    """Describe what a builder left in its folder, as the record holds it."""
    if (folder / RECORD).exists():
        raise StoreError(f"{what}: the builder wrote {RECORD}, which is the store's own; give it another name")
    sizes = _sizes(folder)
    if not sizes:
        raise StoreError(f"{what}: the builder built nothing")
    files = {name: {"sha256": file_hash(folder / name), "size": sizes[name]} for name in sorted(sizes)}
    return {"files": files, "sha256": _combined(files), "size": sum(sizes.values())}


# Each of the following yields why an artifact is not valid. Only the first reason of all counts: each check relies on
# those before it.


def _record_flaws(record: Any, model: str, name: str) -> Iterator[str]:
    if not isinstance(record, dict):
        yield f"{RECORD} is not a record"
    if record.get("schema") != SCHEMA:
        yield f"{RECORD} has schema {record.get('schema')}, here is {SCHEMA}"
    for key, kind in _FIELDS.items():
        if not isinstance(record.get(key), kind):
            yield f"{RECORD} lacks its {key}"
    for section in _CHANGED:
        if not isinstance(record["recipe"].get(section), dict):
            yield f"{RECORD} lacks the {section} of its recipe"
    if (record["model"], record["name"]) != (model, name):
        yield f"{RECORD} is that of {record['model']}/{record['name']}"
    if record["sha256"] != _combined(record["files"]):
        yield f"{RECORD} was edited (its files do not give its sha256)"
    if record["size"] != sum(file["size"] for file in record["files"].values()):
        yield f"{RECORD} was edited (its files do not give its size)"


def _recipe_flaws(record: Mapping[str, Any], recipe: Mapping[str, Any]) -> Iterator[str]:
    for section, changed in _CHANGED.items():
        was, now = record["recipe"][section], recipe[section]
        for key in sorted(was.keys() | now.keys()):
            if key not in was:
                yield f"its recipe now has {key} in its {section}"
            elif key not in now:
                yield f"its recipe no longer has {key} in its {section}"
            elif section == "tools" and now[key] is None:
                continue
            # Compared as JSON: Python holds 1, 1.0 and True to be equal, and NaN to differ from itself.
            elif _canonical(was[key]) != _canonical(now[key]):
                yield changed.format(key=key, was=was[key], now=now[key])


def _files_flaws(record: Mapping[str, Any], folder: Path) -> Iterator[str]:
    files, sizes = record["files"], _sizes(folder)
    yield from (f"{name} is missing" for name in files if name not in sizes)
    yield from (f"unexpected file {name}" for name in sizes if name not in files)
    # All sizes before any hash: hashing large engines takes a while.
    for name, file in files.items():
        if sizes[name] < file["size"]:
            yield f"{name} was truncated ({sizes[name]:,} of {file['size']:,} bytes)"
        if sizes[name] > file["size"]:
            yield f"{name} was edited ({sizes[name]:,} bytes, was {file['size']:,})"
    for name, file in files.items():
        try:
            if file_hash(folder / name) != file["sha256"]:
                yield f"{name} was edited (sha256 differs)"
        except FileNotFoundError:  # another process has just moved it aside
            yield f"{name} is missing"


def _sizes(folder: Path) -> dict[str, int]:
    """Size of each file below a folder by its relative name, without the store's own record."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    sizes = {}
    for parent, _, names in os.walk(folder, onerror=refuse):
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    sizes.pop(RECORD, None)
    return sizes


def _combined(files: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(files).encode()).hexdigest()


def _discard(folder: Path) -> None:
    # What cannot be removed now is in nobody's way, and the next build tries again.
    shutil.rmtree(folder, ignore_errors=True)


def _size_text(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
