"""What one engine answered to batches in one place of a run, kept from run to run: no verdict is in it.

A book is an artifact of the store. It counts as long as its recipe holds, and every file is what was written.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.store import ABSENT, Artifact, Recipe, Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Outputs = Mapping[str, NDArray[Any]]

FILE, BATCHES, NAMES = "answers.npz", "batches", "outputs"

PREFIX = "answers-"
"""What names of these artifacts begin with."""

KEPT = "biufc"
"""The kinds of dtypes that a file gives back as they were."""

MOST_BYTES = 1 << 26
"""A book of more is not kept: to read it takes as long as to run a small engine, and each place that asks has one."""


class Book:
    """Answers by the hash of their batch, of one engine and one place that asks.

    ``lacking`` says why what was stored does not count; it is empty where it does, or where nothing was stored. What is
    written in the end is what was asked this time, and nothing else: a book grows no larger than what is asked.
    """

    def __init__(self, store: Store, model: str, name: str, recipe: Recipe, *, fresh: bool = False) -> None:
        self.store, self.model, self.name, self.recipe = store, model, name, recipe
        self._asked: dict[str, Outputs] = {}
        self._room = MOST_BYTES
        self.lacking, self._new = "", False
        self._found = {} if fresh else self._read()

    def _read(self) -> dict[str, Outputs]:
        """What is stored and counts."""
        found = self.store.state(self.model, self.name, self.recipe)
        if not isinstance(found, Artifact):
            self.lacking = "" if found == ABSENT else found
            return {}
        try:
            content = found.file(FILE).read_bytes()
        except FileNotFoundError:
            content = b""
        # Another run may have put its own in this place since: the record that is at hand says nothing of that.
        if hashlib.sha256(content).hexdigest() != found.record["files"][FILE]["sha256"]:
            self.lacking = f"{FILE} was written by another run meanwhile"
            return {}
        names, batches = found.details[NAMES], found.details[BATCHES]
        with np.load(io.BytesIO(content)) as arrays:
            return {
                key: {name: arrays[f"{at}-{number}"] for number, name in enumerate(names)}
                for at, key in enumerate(batches)
            }

    def get(self, key: str) -> Outputs | None:
        """Stored answers to a batch; None where there are none."""
        return self._found.get(key)

    def forget(self) -> None:
        """Have nothing that was stored count."""
        self._found = {}

    def keep(self, key: str, outputs: Outputs) -> None:
        """Take down the answers to a batch that was asked, wherever they come from; nothing once they are too many."""
        self._new |= key not in self._found
        if key not in self._asked:
            self._room -= size(outputs)
            self._asked[key] = outputs
        if self._room < 0:
            self._asked.clear()

    def close(self) -> None:
        """Write what was asked, where any of it was not stored; raises StoreError where the store cannot be written."""
        kept = all(array.dtype.kind in KEPT for outputs in self._asked.values() for array in outputs.values())
        if self._new and self._asked and kept:
            self.store.put(self.model, self.name, self.recipe, self._write)

    def _write(self, folder: Path) -> Mapping[str, Any]:
        names = list(next(iter(self._asked.values())))
        arrays = {
            f"{at}-{number}": outputs[name]
            for at, outputs in enumerate(self._asked.values())
            for number, name in enumerate(names)
        }
        np.savez(folder / FILE, **dict[str, Any](arrays))
        return {NAMES: names, BATCHES: list(self._asked)}


def size(outputs: Outputs) -> int:
    """Bytes of all outputs."""
    return sum(array.nbytes for array in outputs.values())
