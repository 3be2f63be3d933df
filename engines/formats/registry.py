"""Every format there is, by its name: those of the entry-point group ``conformance.formats``, ours as anybody's.

Ours are registered by the project's own metadata where it is installed. Where the suite runs from its clone, the same
lines of ``pyproject.toml`` do it. One that cannot be used ends the run: a format that is silently left out is one that
nobody tests.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import EngineError, SpecError
from engines.formats.base import Format
from engines.variant import REFERENCE, Variant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from engines.formats.option import Option
    from engines.model.spec import ModelSpec

GROUP = "conformance.formats"
"""The entry-point group; each entry names a :class:`Format` object: ``mine = "my_package.format:FORMAT"``."""

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
"""Where our own entries stand, in the order of the chain."""

NEEDED = ("name", "label", "precisions", "file")
"""The members that have no default and are no methods."""


class FormatError(EngineError):
    """A format's package cannot be used; one line that names the package and what it lacks."""


@cache
def formats() -> Mapping[str, Format]:
    """Formats by name: ours in the order of the chain, the reference's first, then others by name.

    Raises FormatError where one fails to import, lacks a member or takes a name in use.
    """
    found: dict[str, Format] = {}
    for entry, package in _entries():
        format_ = _loaded(entry, package)
        if format_.name in found:
            raise FormatError(
                f"{package}: its format is named {format_.name!r}, which {found[format_.name].package} has; "
                "allowed: a name of its own"
            )
        found[format_.name] = format_
    for format_ in found.values():
        _check_rows(format_, found)
    return found


def find(name: str) -> Format:
    """Format of a name; raises SpecError, which lists those there are, for an unknown one."""
    if name not in formats():
        raise SpecError(f"there is no format {name!r}; allowed: {', '.join(formats())}")
    return formats()[name]


def reference(spec: ModelSpec | None = None) -> Format:
    """Format of a model's reference, which all others are compared with; the SavedModel's for None."""
    return find(spec.reference.format if spec else REFERENCE.format)


def precisions(reference: Variant = REFERENCE) -> dict[str, tuple[str, ...]]:
    """Precisions that each format can be made in from a reference, the reference's own first."""
    made = {name: format_ for name, format_ in formats().items() if not format_.elsewhere}
    if reference == REFERENCE:
        return {name: format_.precisions for name, format_ in made.items()}
    found = {
        name: tuple(p for p in format_.precisions if _made_from(Variant(name, p), reference))
        for name, format_ in made.items()
    }
    return {name: precisions for name, precisions in found.items() if precisions}


def _made_from(variant: Variant, reference: Variant) -> bool:
    """Whether a variant is the reference, or is made from it by however many steps."""
    own: Variant | None = find(variant.format).artifact(variant)
    while own is not None and own != reference:
        # A batch profile says nothing of what it is made from.
        own = find(own.format).source(own.precision)
    return own is not None


def variants(spec: ModelSpec) -> tuple[Variant, ...]:
    """Variants of a model, in the order of the chain; the reference's own comes first."""
    elsewhere = {name: format_.precisions for name, format_ in formats().items() if format_.elsewhere}
    chosen = {**spec.precisions, **elsewhere}
    return tuple(v for name, precisions_ in chosen.items() for v in find(name).variants(spec, precisions_))


def bringable() -> tuple[str, ...]:
    """Names of the formats of which a user may bring a file, by an option of that name."""
    return tuple(name for name, format_ in formats().items() if format_.suffix)


def shared() -> frozenset[str]:
    """Names of the formats whose artifacts are run by another format's programs, too."""
    runs = {f.name: f.artifact(Variant(f.name, f.precisions[0])).format for f in formats().values()}
    return frozenset(of for name, of in runs.items() if of != name)


def unavailable(variant: Variant) -> str | None:
    """Why a variant cannot be built, or run as another environment built it, on this machine; None where it can."""
    return find(variant.format).unavailable(variant.precision)


def buildable(variant: Variant, spec: ModelSpec) -> bool:
    """Whether a variant can be built here, though it may not run here, and is of use elsewhere."""
    format_ = find(variant.format)
    return not format_.local and format_.unbuildable(variant, spec) is None


def options() -> dict[str, Option]:
    """Options of the formats' own, by name; raises FormatError where two formats have one of the same name."""
    found: dict[str, Option] = {}
    for format_ in formats().values():
        for option in format_.options:
            if found.setdefault(option.name, option) is not option:
                raise FormatError(
                    f"{format_.package}: its format {format_.name!r} has the option --{option.name}, which another one "
                    "has; allowed: a name of its own"
                )
    return found


def settings(given: Mapping[str, Sequence[str] | None]) -> dict[str, tuple[str, ...]]:
    """Values given of the formats' own options, by option; raises SpecError for one that is not allowed."""
    return {name: options()[name].checked(values) for name, values in given.items() if values}


def packages() -> dict[str, tuple[str, ...]]:
    """Packages that make or run engines: the distributions that each comes in, by its name for people."""
    return {name: found for format_ in formats().values() for name, found in format_.packages.items()}


def _entries() -> Iterator[tuple[metadata.EntryPoint, str]]:
    """Entry points, each with the name of the package that it comes from; ours once, wherever they are listed."""
    with PROJECT.open("rb") as file:
        ours = tomllib.load(file)["project"]["entry-points"][GROUP]
    for name, value in ours.items():
        yield metadata.EntryPoint(name, value, GROUP), value.partition(":")[0]
    others = {(e.name, e.value): e for e in metadata.entry_points(group=GROUP) if (e.name, e.value) not in ours.items()}
    for (_, value), entry in sorted(others.items()):
        yield entry, entry.dist.name if entry.dist else value.partition(":")[0]


def _loaded(entry: metadata.EntryPoint, package: str) -> Format:
    module, _, attribute = entry.value.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute or "FORMAT", None)
    except Exception as error:  # a package of anybody's may raise anything while it is imported; it ends the run
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise FormatError(f"{package}: its format {entry.name!r} ({entry.value}) cannot be imported: {what}") from error
    if inspect.isclass(found) and issubclass(found, Format):
        if lacking := sorted(found.__abstractmethods__):
            raise FormatError(f"{package}: its format {entry.name!r} lacks {', '.join(lacking)} ({entry.value})")
        found = found()
    if not isinstance(found, Format):
        raise FormatError(
            f"{package}: its format {entry.name!r} ({entry.value}) is a {type(found).__name__}; "
            "allowed: an object of engines.formats.base.Format"
        )
    if lacking := [member for member in NEEDED if not getattr(found, member, None)]:
        raise FormatError(f"{package}: its format {entry.name!r} lacks {', '.join(lacking)} ({entry.value})")
    return found


def _check_rows(format_: Format, found: Mapping[str, Format]) -> None:
    """Refuse a format that nothing says the tolerances of."""
    if format_.rows is None and not format_.tolerances.is_file():
        raise FormatError(
            f"{format_.package}: its format {format_.name!r} lacks rows, the name of the format whose tolerances it "
            f"takes, and {format_.tolerances} is not there; allowed: one of the two"
        )
    if format_.rows is not None and format_.rows not in found:
        raise FormatError(
            f"{format_.package}: its format {format_.name!r} has rows {format_.rows!r}; allowed: {', '.join(found)}"
        )
