"""Descriptions that were derived from a SavedModel, kept in the store: to look at it again needs TensorFlow and it.

A description counts as long as every file of the SavedModel, the samples, TensorFlow and the code here are the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import StoreUnusableError
from engines.formats.code import code
from engines.hashing import file_hash, folder_hashes
from engines.model.paths import is_folder
from engines.model.samples import content_hash
from engines.model.shards import first_arrays
from engines.store import Artifact, Recipe, Store
from engines.tools import installed_version

if TYPE_CHECKING:
    Content = Mapping[str, Any]

NAME, FILE = "description", "description.json"

_HERE = Path(__file__).parent

CODE = sorted([*_HERE.glob("*.py"), *(_HERE.parent / "formats" / "savedmodel").glob("*.py")])
"""The code that finds out what a SavedModel takes and answers."""


def kept(
    store: Store, model: str, folder: Path, signature: str, samples: Path | None, derive: Callable[[], Content]
) -> Content:
    """Description of the SavedModel in ``folder``, as a TOML file has it; raises what ``derive`` does."""
    recipe = _recipe(folder, signature, samples)
    if recipe is None:
        # Whoever looks at it says what is wrong with it.
        return derive()
    with suppress(StoreUnusableError):
        if isinstance(found := store.state(model, NAME, recipe), Artifact):
            content: Content = json.loads(found.file(FILE).read_text(encoding="utf-8"))
            return content
    derived = derive()

    def write(where: Path) -> Mapping[str, Any]:
        (where / FILE).write_text(json.dumps(derived, indent=1), encoding="utf-8")
        return {}

    # A folder that cannot be used is told of by what needs it.
    with suppress(StoreUnusableError):
        store.put(model, NAME, recipe, write)
    return derived


def _recipe(folder: Path, signature: str, samples: Path | None) -> Recipe | None:
    """What the description hangs on; None where there is no such SavedModel, or there are no such samples."""
    if not is_folder(folder) or not any(folder.glob("saved_model.pb*")) or (samples and not samples.exists()):
        return None
    made_from = folder_hashes(folder)
    if samples is not None:
        made_from["--samples"] = content_hash(first_arrays(samples)) if is_folder(samples) else file_hash(samples)
    for path in CODE:
        made_from |= code(f"{path.parent.name} {path.stem}", path)
    tools = {name: installed_version(name) for name in ("tensorflow", "numpy")}
    return Recipe(made_from, {"signature": signature}, tools)
