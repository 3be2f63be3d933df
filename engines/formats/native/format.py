"""The formats ``cpp8`` and ``cpp10``: C++ programs that run the plans of a TensorRT format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError
from engines.formats.base import Format
from engines.formats.native.program import PROGRAMS, Program
from engines.formats.tensorrt import build, versions
from engines.formats.tensorrt.format import TensorRTFormat
from engines.variant import Variant

if TYPE_CHECKING:
    from engines.formats.base import Job, Keep
    from engines.model.spec import ModelSpec
    from engines.runner import Runner


class NativeFormat(Format):
    """A C++ program: it has no artifacts, and runs those of ``plans``, for models whose samples fit into one table."""

    label = "C++ program on TensorRT"
    file = build.PLAN
    profiled = True
    timed = False
    rows = "tensorrt"
    arithmetics = TensorRTFormat.arithmetics
    stored_between = TensorRTFormat.stored_between
    device_bound = True
    on_gpu = True
    fed_here = False

    def __init__(self, program: Program, plans: str, precisions: tuple[str, ...]) -> None:
        self.program, self.plans, self.precisions = program, plans, precisions
        self.name = program.format

    def unavailable(self, precision: str | None = None) -> str | None:
        """Why the program cannot run here; None where it can."""
        return self.program.unavailable()

    def version(self) -> str | None:
        """Version of its TensorRT, which library that is, and where the program is."""
        return self.program.version()

    def variants(self, spec: ModelSpec, precisions: Sequence[str]) -> list[Variant]:
        """None for models whose samples do not fit into one table; else the first profile's."""
        return super().variants(spec, precisions) if spec.exchangeable else []

    def artifact(self, variant: Variant) -> Variant:
        """The variant whose plan it runs."""
        return Variant(self.plans, variant.precision, variant.profile)

    def source(self, precision: str) -> Variant | None:
        """None: it makes nothing."""
        return None

    def build(self, job: Job, folder: Path) -> Mapping[str, Any] | None:
        """Nothing is ever built for it: :meth:`artifact` names the plan of another format."""
        raise ConversionError(f"{self.name} is built from nothing; build {self.plans}, whose plans it runs")

    def open(
        self, spec: ModelSpec, variant: Variant, path: Path, batch_size: int | None = None, keep: Keep | None = None
    ) -> Runner:
        """Runner that has the program serve the plan, from the first call on until it is closed."""
        from engines.formats.native.runner import NativeRunner

        if batch_size is not None and variant.profile is not None:
            batch_size = min(batch_size, variant.profile.max)
        program = self.program
        return NativeRunner(spec, variant, path, program.path, batch_size, allow_host_code=program.allow_host_code)


TRT8 = NativeFormat(PROGRAMS["cpp8"], "tensorrt", ("fp32", "fp16", "int8"))
TRT10 = NativeFormat(PROGRAMS["cpp10"], versions.VERSION_COMPATIBLE, ("fp32", "fp16", "int8-qdq"))
