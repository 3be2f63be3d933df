"""The zoo: small models that are made by code, each one a thing that converters, engines or judges trip over.

Every entry is made in a moment, without a download, from a seed alone: ``ZOO["marks"].write(folder, seed=0)`` leaves
``folder/model``, a SavedModel, and ``folder/samples.npz``, which are just what a user brings::

    pytest --saved-model=FOLDER/model --samples=FOLDER/samples.npz

An entry says what is right: the kind of every output, and what becomes of every variant that a CPU runs. One that an
entry does not name passes. ``Cannot`` holds the words by which a converter's or an engine's limit is told. ``Fails`` is
a true defect of a variant, which has to be found by the figure that is named. ``Wide`` is none, and yet fails: the
answers are as sound as the precision gives, which the model's twin does not see. All hold for the tools in
requirements.txt, and were seen with them. ``refused`` is for SavedModels that cannot be a reference at all: the words
tell why, and no variant is judged.

To add a model, write a function ``name(folder, seed=0)`` in the module whose job it is, and an ``Entry`` of it in that
module's ``ENTRIES``. A model has to tell its samples apart, or it tests nothing: random layers are enough where the
last one is solved for (``fitting``). ``tests/meta/test_zoo.py`` checks every entry; ``pytest -m zoo``, every variant.
"""

from __future__ import annotations

from zoo import applications, attention, classic, detectors, images, pixels, sequences, stateful, tables
from zoo.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    *images.ENTRIES,
    *pixels.ENTRIES,
    *sequences.ENTRIES,
    *tables.ENTRIES,
    *detectors.ENTRIES,
    *attention.ENTRIES,
    *stateful.ENTRIES,
    *classic.ENTRIES,
    *applications.ENTRIES,
)

ZOO = {entry.name: entry for entry in ENTRIES}
"""Every entry by its name."""
