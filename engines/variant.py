"""Variants: the engines under test of one model, each named by an id that is its name everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.model.spec import BatchProfile


@dataclass(frozen=True)
class Variant:
    """One engine under test: format and precision (and, where a format has them, a batch profile or an instance).

    ``str(variant)`` is the id, such as ``onnx-int8`` or ``tensorrt-fp16-b1.16.32``, for people and file names; nothing
    takes it apart again.
    """

    format: str
    precision: str
    profile: BatchProfile | None = None
    instance: str = ""
    """What tells it from others of its format and precision, which are found elsewhere: the name of a served model."""

    def __str__(self) -> str:
        """Id of the variant."""
        return "-".join(str(part) for part in (self.row_name, self.profile, self.instance) if part)

    @property
    def row_name(self) -> str:
        """Key of the variant's row in the tolerance table, which knows no batch profiles: ``tensorrt-fp16``."""
        return f"{self.format}-{self.precision}"


REFERENCE = Variant("savedmodel", "fp32")
"""The variant that all others of a model are compared with, where its description names no other."""
