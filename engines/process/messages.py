"""What a process with a runner and the one that feeds it tell each other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from engines.errors import EngineError
from engines.process.arriving import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.runner import Grid, Runner


class Open(NamedTuple):
    """The first message: make the runner, and log what is of this level."""

    opener: Callable[[], Runner]
    level: int


class Opened(NamedTuple):
    """What the runner says of itself."""

    batch_size: int
    stride: int
    settings: dict[str, str]
    grids: dict[str, Grid]
    steps: dict[str, float]


class Call(NamedTuple):
    """Run so many samples, which follow in a ring for ``rows`` of them."""

    number: int
    samples: int
    rows: int
    layout: Layout


class Rows(NamedTuple):
    """How many samples of a call have arrived in the ring; the other way, how many are needed there no more."""

    number: int
    samples: int


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
