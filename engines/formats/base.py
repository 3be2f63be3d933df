"""What a format is: one object, which everything that has to do with the format asks.

``docs/extending.md`` walks through a format of one's own.
"""

from __future__ import annotations

import abc
import inspect
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import RunnerError
from engines.formats.code import code
from engines.precision import Layer, precision_of
from engines.runner import probe
from engines.store import Recipe
from engines.tools import installed_version
from engines.variant import REFERENCE, Variant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.chain import Data
    from engines.formats.option import Option
    from engines.inside import Inside
    from engines.model.spec import ModelSpec
    from engines.parts import Part
    from engines.runner import Arrays, Runner
    from engines.store import Artifact
    from engines.swamped import Swamped
    from engines.windows import Window

    Keep = Callable[[str, Recipe, Callable[[Path], Mapping[str, Any]]], Artifact]
    """Stores what is measured of an artifact beside it, by a suffix of its name."""


@dataclass(frozen=True)
class Job:
    """What a format is given to make the artifact of one variant.

    ``source`` is the artifact of :meth:`Format.source`; it is asked for with :attr:`made`. ``siblings`` are the folders
    of the format's other artifacts of the model, ``before`` the folder of an earlier build of this one. Both are empty
    where it is built ``again``, from nothing.
    """

    spec: ModelSpec
    variant: Variant
    source: Artifact | None
    data: Data
    calibrate: Callable[[], Mapping[str, NDArray[Any]]]
    training_hashes: Callable[[], dict[str, str]]
    recorded: bool = False
    siblings: tuple[Path, ...] = ()
    before: Path | None = None

    @cached_property
    def calibration(self) -> Mapping[str, NDArray[Any]]:
        """The samples that INT8 is calibrated with, by input name; never among the test samples."""
        return self.calibrate()

    @property
    def made(self) -> Artifact:
        """The artifact that this one is made from."""
        if self.source is None:
            raise ValueError(f"{self.variant} is made from no other artifact")
        return self.source


class Format(abc.ABC):
    """One kind of engine: how it is made, run, timed, judged, named and reported.

    A subclass sets ``name``, ``label``, ``precisions`` and ``file``. It defines what it is made from (``source``), how
    (``build``) and how it runs (``open``); all else has a default. Nothing here imports a framework before it is used.
    """

    name: str
    """The name in ids, TOML files, the store and options: ``tflite``."""

    label: str
    """The name of what runs it, in the header and the report: ``LiteRT``."""

    precisions: tuple[str, ...]
    """The precisions that it can be built in, in their order."""

    file: str
    """The file, or folder, inside the artifact that is the engine."""

    suffix: str | None = None
    """The suffix of a file that a user may bring instead, by the option of the format's name; None where none may."""

    packages: Mapping[str, tuple[str, ...]] = {}
    """What makes or runs it: a name for people, and the distributions that it comes in, the runtime's own first."""

    profiled: bool = False
    """Whether an artifact is built for each batch profile of a model."""

    timed: bool = True
    """Whether its engines are timed inside of this process."""

    rows: str | None = None
    """The format whose tolerance rows count for this one; None where ``tolerances.toml`` stands beside its module."""

    arithmetics: Mapping[str, str] = {}
    """How its engines compute, by precision: what a model's own noise there is told by (docs/verdict.md). It has the
    names of ``trial/twin/precision.py``; a precision that is missing is judged by its tolerance rows."""

    stored_between: Collection[str] = ()
    """The precisions that values have between layers, so that a sum in another order may be a step off behind it."""

    on_gpu: bool = False
    """Whether its engines run on a GPU: parts of many samples go to machines of a cluster that have one."""

    device_bound: bool = False
    """Whether its artifacts are made for one kind of device, so that their sizes differ between devices."""

    elsewhere: bool = False
    """Whether its engines are there already, elsewhere: its options name them, and no model's description does."""

    apart: bool = False
    """Whether it is built in an environment of its own, whose versions count even without the reference's packages."""

    local: bool = False
    """Whether its artifacts are of use only where its engines can run; others are built wherever they can be."""

    options: tuple[Option, ...] = ()
    """Its own options on the command line; what was given reaches its methods with the description of the model."""

    fed_here: bool = True
    """Whether its engines are fed by this process, and not by another program, which may feed them wrongly."""

    # What can run here.

    def unavailable(self, precision: str | None = None) -> str | None:
        """Why its engines (of a precision, or any) cannot run here; None where they can."""
        return None

    def unbuildable(self, variant: Variant, spec: ModelSpec) -> str | None:
        """Why a variant of a model cannot be built here; None where it can."""
        return self.unavailable(variant.precision)

    def version(self) -> str | None:
        """Version of what runs its engines; None where it is not installed."""
        first = next(iter(self.packages.values()), ())
        return installed_version(*first)

    def made_by(self, spec: ModelSpec) -> str:
        """What to do, in words, where an artifact cannot be made here."""
        return f"run `python -m engines build {spec.argument}` where it can be made, on the same artifact folder"

    # What there is of a model.

    def variants(self, spec: ModelSpec, precisions: Sequence[str]) -> list[Variant]:
        """Variants of a model in these precisions: one for each, or one for each batch profile as well."""
        if not self.profiled:
            return [Variant(self.name, precision) for precision in precisions]
        return [
            Variant(self.name, precision, profile)
            for profile in spec.profiles
            for precision in precisions
            if profile == spec.profiles[0] or precision in self.every_profile
        ]

    every_profile: Collection[str] = ()
    """The precisions that are built for every batch profile of a model; others only for its first."""

    def yardstick(self, variant: Variant) -> Variant | None:
        """FP32 of the same format and profile, which a variant's speed may be related to; None where there is none."""
        plain = Variant(self.name, "fp32", variant.profile)
        return None if variant == plain or "fp32" not in self.precisions else plain

    def artifact(self, variant: Variant) -> Variant:
        """The variant whose artifact is run: itself, but for programs that run the engines of another format."""
        return variant

    def arithmetic(self, variant: Variant, spec: ModelSpec, brought: Path | None = None) -> str | None:
        """How a variant computes, one of :attr:`arithmetics`; None where that is not known.

        ``brought`` is the file, where it was made elsewhere.
        """
        return self.arithmetics.get(variant.precision)

    def comes_from(self, precision: str, brought: Variant) -> bool:
        """Whether a precision can be made where a brought file stands for all of its format's variants."""
        source = self.source(precision)
        return source is None or source.format != brought.format or source == brought

    # How it is made.

    @abc.abstractmethod
    def source(self, precision: str) -> Variant | None:
        """The variant that it is made from; None for what is made from no other artifact."""

    def recipe(self, job: Job) -> Recipe | None:
        """What an artifact is made from; None where that cannot be known here, and what is recorded counts.

        The default: the source artifact, the code of the format's own module, and the packages.
        """
        made_from = {str(self.source(job.variant.precision)): job.made.sha256} if job.source else {}
        made_from |= code(type(self).__module__, self.module)
        return Recipe(made_from, {}, {name: installed_version(*found) for name, found in self.packages.items()})

    @abc.abstractmethod
    def build(self, job: Job, folder: Path) -> Mapping[str, Any] | None:
        """Make the engine ``folder/file``; returns JSON-able details for the artifact's record.

        Raises ConversionError where what makes it fails.
        """

    # Files that a user brings.

    def layers(self, path: Path) -> Sequence[Layer]:
        """Layers of a brought file that have weights, and their precision."""
        return ()

    def windows(self, path: Path) -> Sequence[Window]:
        """Windows that the convolutions and poolings of a file move over an image; none where that is not known."""
        return ()

    def parts(self, path: Path) -> Sequence[Part]:
        """Operators of a file with their constants; none where that is not known."""
        return ()

    def swamped(self, path: Path) -> Sequence[Swamped]:
        """Operators of an INT8 file with an input that is less than a step; none where that is not known."""
        return ()

    def mismatched_scales(self, path: Path) -> Sequence[str]:
        """Sentences on tensors of a file that are quantized by one scale and dequantized by another: a fault by itself.

        Empty where the file cannot say such a thing, as most kinds cannot: there a tensor has one scale.
        """
        return ()

    def inspect(self, path: Path, spec: ModelSpec) -> str:
        """Precision that a brought file is judged as.

        Raises RunnerError or ConversionError where it cannot be run, or is not the model that is described.
        """
        with self.open(spec, Variant(self.name, self.precisions[0]), path) as runner:
            probe(runner)
        found = precision_of(self.layers(path))
        return found if found in self.precisions else self.precisions[0]

    def bring(self, path: Path, spec: ModelSpec, folder: Path, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, Any]:
        """Copy a brought file into an artifact's folder; returns details for its record.

        ``inputs`` are the first test samples, for a format whose library may end the process that runs a file on them.
        """
        shutil.copyfile(path, folder / self.file)
        return {}

    def brought_by(self) -> Mapping[str, str]:
        """Hashes of the code that copies a brought file and looks into it."""
        return {}

    # How it runs.

    @abc.abstractmethod
    def open(
        self, spec: ModelSpec, variant: Variant, path: Path, batch_size: int | None = None, keep: Keep | None = None
    ) -> Runner:
        """Runner of an engine, of batches up to ``batch_size``; ``keep`` stores what it measures to run faster.

        Raises RunnerError where the file cannot be run.
        """

    def late(self) -> type[Runner] | None:
        """Class of its runners where opening one takes seconds, so that it waits until it has to run; else None."""
        return None

    def stores_answers(self, spec: ModelSpec) -> bool:
        """Whether answers to a model may be stored: as it is run, they have the same bits in every process."""
        return False

    def inside(self, spec: ModelSpec, variant: Variant, path: Path) -> Inside | None:
        """Engine that gives the tensors between its layers, too; None for a kind of engine that shows none.

        It is what finds the layer that is wrong (docs/locate.md). Raises RunnerError where the file cannot be run so.
        """
        return None

    def layer_names(self, path: Path) -> Mapping[str, str]:
        """Names that a model's layers have for its user, by what the names of their operations begin with.

        For formats that models come in; empty where the file does not tell.
        """
        return {}

    def reference(self, spec: ModelSpec, path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs of the reference, by ways that share nothing with the runners.

        Raises RunnerError for a format that is no reference.
        """
        raise RunnerError(f"{self.name} is no reference; allowed: {REFERENCE.format}")

    def calls(self, spec: ModelSpec, path: Path) -> Callable[[Arrays], dict[str, NDArray[Any]]]:
        """The reference, loaded once: a function that calls it on all inputs (N, …) at once, by the spec's names.

        What it keeps from call to call shows here. The default, for formats that keep nothing, loads it each time.
        """
        return partial(self.reference, spec, path)

    # Where it is described.

    @property
    def module(self) -> Path:
        """The file that its class is written in."""
        return Path(str(inspect.getfile(type(self))))

    @property
    def tolerances(self) -> Path:
        """The table of its own tolerance rows, beside the class's module."""
        return self.module.with_name("tolerances.toml")

    @property
    def package(self) -> str:
        """The name of the package or module that it comes from, for errors."""
        return sys.modules[type(self).__module__].__name__
