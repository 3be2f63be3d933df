"""What converters and packages are, and what they said last."""

from __future__ import annotations

from importlib import metadata


def installed_version(*names: str) -> str | None:
    """Version of the first of these distributions that is installed; None where none is."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def missing(distribution: str) -> str | None:
    """Why a distribution cannot be used: it is not installed; None where it is."""
    found = installed_version(distribution)
    return None if found else f"{distribution} is not installed (pip install -r requirements.txt)"


def last_lines(text: str, count: int = 12) -> str:
    """Last lines of a tool's output, indented."""
    return "\n".join("    " + line for line in text.strip().splitlines()[-count:])


def one_line(text: str, longest: int = 300) -> str:
    """A tool's message in one line, cut at so many characters."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words if len(words) <= longest else f"{words[: longest - 2]} …"
