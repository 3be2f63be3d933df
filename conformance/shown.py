"""How values of a user's file stand in a message: as Python writes them, the middle of long ones left out."""

from __future__ import annotations

from reprlib import Repr

SHOWN = Repr()
SHOWN.maxstring = SHOWN.maxother = SHOWN.maxlong = 100
SHOWN.maxlist, SHOWN.maxdict = 8, 4

shown = SHOWN.repr
"""One line that holds a value, or as much of it as a line holds."""
