"""The errors of this package. Each message names what was asked, what was found and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.unusable import Unusable


class EngineError(Exception):
    """Anything that this package refuses or fails to do; the message is written for the person who has to act."""

    unusable: Unusable | None = None
    """What cannot be used at all for this error; None where that is not known, or something else may work."""


class SpecError(EngineError):
    """A model under test is described wrongly (file, key, value and what is allowed are named)."""


class DataError(EngineError):
    """Samples are missing, incomplete, damaged or of the wrong shape, dtype or range."""


class StoreError(EngineError):
    """The artifact store cannot be read or written, or lacks what cannot be made here."""


class StoreUnusableError(StoreError):
    """The artifact folder cannot be used at all: not writable, full, or no folder."""


class ConversionError(EngineError):
    """A converter failed or produced something unsound; carries the converter's own last lines."""


class RunnerError(EngineError):
    """A runner was given what it cannot run, or cannot run at all (closed, wrong provider, wrong file)."""


class DeviceError(RunnerError):
    """The device under an engine fails, or has no room: the same samples may well run on another one."""


class WronglyFedError(RunnerError):
    """A program fed its engine something other than the samples it was given; ``likely`` names the mistake."""

    def __init__(self, message: str, likely: str) -> None:
        super().__init__(message)
        self.likely = likely


class UnavailableError(EngineError):
    """What is asked for needs something that is missing on this machine."""
