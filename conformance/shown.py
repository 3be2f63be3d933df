"""How values of a user's file stand in a message: as Python writes them, the middle of long ones left out."""

from __future__ import annotations

from reprlib import Repr

LONGEST_NAME = 300
"""Characters of a name, such as a test's id, that is told whole."""

LONGEST = 1500
"""Characters of a line that names what a file holds."""

SHOWN = Repr()
SHOWN.maxstring = SHOWN.maxother = SHOWN.maxlong = 100
SHOWN.maxlist, SHOWN.maxdict = 8, 4

shown = SHOWN.repr
"""One line that holds a value, or as much of it as a line holds."""


def named(name: str) -> str:
    """A name as it is, where it can stand in a line; else as :data:`shown` has it."""
    return name if name.isprintable() and len(name) <= LONGEST_NAME else shown(name)


def line(message: str) -> str:
    """A message in one line: what cannot be printed as Python writes it, and no more than LONGEST characters."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …"
