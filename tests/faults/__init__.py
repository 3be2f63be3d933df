"""Planted faults: small named changes to real files, inputs and programs, each to be caught; and sound ones, to pass.

``CATALOGUE`` holds all of them. ``faults.command`` gives each to the real command, in a process of its own, and
``faults.page`` writes down what became of it: ``docs/detection.md``. ``pytest -m meta`` asserts the same.

To add one, write a function that changes a sound file, and a ``Change`` of it in the module whose job it is. A fault
says which words of a likely cause are right; what is beside them is wrong.
"""

from __future__ import annotations

from dataclasses import replace

from faults import files, flatbuffer_edits, graph_edits, plans, programs, quantization, served, shards, sound_changes
from faults.change import Change
from faults.unnoticed import UNNOTICED

ALL: tuple[Change, ...] = (
    *graph_edits.CHANGES,
    *quantization.CHANGES,
    *flatbuffer_edits.CHANGES,
    *programs.CHANGES,
    *files.CHANGES,
    *plans.CHANGES,
    *served.CHANGES,
    *shards.CHANGES,
    *sound_changes.CHANGES,
)

CATALOGUE: tuple[Change, ...] = tuple(
    replace(change, expected=UNNOTICED[change.id][0], why=UNNOTICED[change.id][1]) if change.id in UNNOTICED else change
    for change in ALL
)
"""All changes, those that no test tells of with what is expected of them."""
