"""Whether this process shares its cores with others of the same run, each of which would use all of them."""

from __future__ import annotations

_shared = False


def share_cores() -> None:
    """Have engines that this process opens from now on let go of a core while they wait for work."""
    global _shared  # noqa: PLW0603 - a process shares its cores or does not
    _shared = True


def cores_are_shared() -> bool:
    """Whether somebody said so."""
    return _shared
