"""Chain of a model of the zoo, as a user's options would make it of the SavedModel and its samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engines.chain import Chain
from engines.model import selection
from engines.model.spec import SIGNATURE
from engines.store import Store
from zoo.entry import Entry


def chain_of(entry: Entry, folder: Path, precisions: Sequence[str] = ()) -> Chain:
    """Chain of an entry, its model in ``folder`` and its artifacts in ``folder/build``; made where it is not there.

    ``precisions`` are those of the option ``--precisions``; none leaves all.
    """
    model = folder / entry.name
    if not (model / "samples.npz").is_file():
        # Made anew for another test, it would be built anew: a SavedModel is never the same twice, bit for bit.
        entry.write(model)
    (chain,) = selection.chains(
        Store(folder / "build"),
        saved_model=model / "model",
        samples=model / "samples.npz",
        signature=None if entry.signature == SIGNATURE else entry.signature,
        precisions=precisions,
    ).values()
    return chain
