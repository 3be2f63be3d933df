"""What a process with a runner and the one that feeds it tell each other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from engines.errors import EngineError
from engines.far import FarArray
from engines.process.memory import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.runner import Grid, Runner


class Open(NamedTuple):
    """The first message: make the runner, and log what is of this level; ``probe`` tells whether that can be read."""

    opener: Callable[[], Runner]
    level: int
    probe: Probe


class Probe(NamedTuple):
    """An array of the process that asks, and what is in it."""

    there: FarArray
    holds: bytes


class Opened(NamedTuple):
    """What the runner says of itself, and whether its process may read the one that asks."""

    batch_size: int
    settings: dict[str, str]
    grids: dict[str, Grid]
    steps: dict[str, float]
    reads: bool


class Call(NamedTuple):
    """Run samples: those that lie in the process that asks, or in the memory for samples."""

    number: int
    samples: Mapping[str, FarArray] | Layout


class Answer(NamedTuple):
    """Outputs of a call: where they lie in the memory for outputs, or, where they are large, the arrays."""

    number: int
    outputs: Layout | Mapping[str, NDArray[Any]]


class Failed(NamedTuple):
    """What a call, or with number 0 the opening, was refused with."""

    number: int
    error: EngineError


class Crashed(NamedTuple):
    """Traceback of what nobody foresaw."""

    number: int
    trace: str


class Logged(NamedTuple):
    """What was logged there."""

    record: logging.LogRecord


class Close(NamedTuple):
    """The last message: free all, and end."""
