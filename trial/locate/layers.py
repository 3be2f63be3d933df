"""What a layer is called by the model's user, by the name of an operation of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import EngineError, StoreUnusableError
from engines.formats import registry

if TYPE_CHECKING:
    from engines.chain import Chain

FILE = "layers.json"


def layer_names(chain: Chain) -> Mapping[str, str]:
    """Names of a model's layers by the scopes of their operations; empty where they are not told here.

    They are stored: an environment that cannot read the reference reads what another one stored.
    """
    if "layer names" not in chain.known:
        chain.known["layer names"] = _found(chain)
    names: Mapping[str, str] = chain.known["layer names"]
    return names


def _found(chain: Chain) -> Mapping[str, str]:
    reference = registry.reference(chain.spec)

    def build(folder: Path) -> None:
        names = reference.layer_names(chain.file(chain.spec.reference))
        (folder / FILE).write_text(json.dumps(names), encoding="utf-8")

    try:
        stored = chain.of_reference("layers", {}, {}, build)
    except StoreUnusableError:
        raise
    except EngineError:
        return {}
    found: dict[str, str] = json.loads(stored.file(FILE).read_text(encoding="utf-8"))
    return found


def named(operation: str, names: Mapping[str, str]) -> str:
    """Name of the layer of an operation, by the longest scope that has one; empty where none has."""
    parts = operation.split("/")
    scopes = ("/".join(parts[:stop]) for stop in range(len(parts), 0, -1))
    return next((names[scope] for scope in scopes if scope in names), "")


def layer_of(operation: str, names: Mapping[str, str]) -> str:
    """Layer of an operation: the name that its scope has, else the scope itself."""
    return named(operation, names) or operation.rpartition("/")[0] or operation
