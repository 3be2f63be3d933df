"""The models that come with the project, by name."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import util
from pathlib import Path

from engines.errors import SpecError
from engines.model.paths import is_file

PACKAGE = "fixtures.models"
"""The package whose folder holds their descriptions and weights."""


@cache
def folder() -> Path:
    """Folder of the models that come with the project; a bare name on the command line is looked up here."""
    found = util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SpecError(f"the package {PACKAGE} with the bundled models is not there; install the project again")
    return Path(found.submodule_search_locations[0]).resolve()


def bundled_names() -> tuple[str, ...]:
    """Names of the models that come with the project."""
    return tuple(sorted(p.stem for p in folder().glob("*.toml")))


def find_model(name_or_file: str) -> Path:
    """Path of the TOML file that a user means by a bundled model's name, or by that path itself.

    Raises SpecError where there is no such model.
    """
    path = Path(name_or_file)
    if path.suffix == ".toml":
        if is_file(path):
            return path
        raise SpecError(
            f"{name_or_file}: no such file; give a model's TOML file, or one of {', '.join(bundled_names())}"
        )
    if name_or_file in bundled_names():
        return folder() / f"{name_or_file}.toml"
    near = difflib.get_close_matches(name_or_file, bundled_names(), 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise SpecError(
        f"no model {name_or_file!r}{hint}; allowed: {', '.join(bundled_names())}, or the path of a .toml file"
    )
