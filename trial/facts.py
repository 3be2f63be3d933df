"""What a comparison of two runs has to know of each format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.history.engine import FormatFacts
from engines.formats import registry

if TYPE_CHECKING:
    from conformance.history.engine import Formats


def format_facts() -> Formats:
    """Facts of every format that is registered, by its name."""
    return {name: FormatFacts(device_bound=format_.device_bound) for name, format_ in registry.formats().items()}
