"""The chain of one model: which artifact is made from which, and the runner of every variant.

    weights or training ─▶ SavedModel ─▶ ONNX FP32 ─▶ ONNX FP16, ONNX INT8 ─▶ TensorRT, by precision and batch profile
                                     └─▶ TFLite FP32, FP16, INT8

Each link is an artifact in the store, so that it is made once and made again when anything it came from changes. What
is made from what, and how, the formats know; nothing here names one. TensorFlow and TensorRT may live in environments
of their own that share a store. One without the reference's packages takes what the other made, samples included,
whatever versions of the converters are installed beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError, DataError, RunnerError, UnavailableError
from engines.formats import registry
from engines.formats.base import Job
from engines.hashing import file_hash
from engines.late import LateRunner
from engines.model.brought import BroughtData
from engines.model.fitting import fitting
from engines.model.paths import is_file
from engines.model.ranges import ranges
from engines.model.samples import Dataset, Samples
from engines.model.shards import ShardedData
from engines.references import References
from engines.store import Artifact, Beside, Build, Recipe, Store
from engines.unusable import BUILT, OPENED, Unusable, blamed

if TYPE_CHECKING:
    from engines.model.ranges import Ranges
    from engines.model.spec import ModelSpec
    from engines.runner import Runner
    from engines.variant import Variant

Data = Dataset | BroughtData | ShardedData
"""Samples of a model: of a bundled data set, or a user's own in one file or in a folder of shards."""

SAMPLE_COUNT = 100
"""How many test samples the checks use by default: the first ones of the data set."""

DATA = "data"
"""The artifact that carries the samples to environments that cannot load them."""


@dataclass(frozen=True)
class Chain(References):
    """Makes the artifacts, reference outputs and runners of one model, on one data set, in one store."""

    spec: ModelSpec
    dataset: Data
    store: Store
    brought: Mapping[str, Path] = field(default_factory=dict)
    """Engines made elsewhere, by format: they are checked instead of converting."""
    _failed: dict[str, ConversionError] = field(default_factory=dict, repr=False)
    known: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What those who judge have found out, so that a process finds it out once; the keys are theirs."""

    @cached_property
    def samples(self) -> Samples:
        """The first 100 test samples, or all where there are fewer, with labels where the data set has them."""
        return fitting(self.spec, self.dataset.test(min(SAMPLE_COUNT, self.dataset.test_count)), self.dataset.source)

    @cached_property
    def calibration(self) -> Samples:
        """The samples that INT8 is calibrated with; never among the test samples."""
        return fitting(self.spec, self.dataset.calibration(self.spec.calibration.samples), self.dataset.source)

    @cached_property
    def _training_hashes(self) -> dict[str, str]:
        """Hashes of all training samples, taken once: every artifact of a trained model asks for them."""
        _ = self.samples  # refuses data of another shape before any training
        return self.dataset.train().hashes("training ")

    @property
    def assumption(self) -> str | None:
        """What is only assumed of the inputs, and how to say otherwise; None where their range is known."""
        return None if isinstance(self.dataset, Dataset) else self.dataset.assumption

    @cached_property
    def ranges(self) -> Ranges:
        """The least and the largest value that made-up inputs may have, by input name; both broadcast to a sample."""
        return ranges(self.spec, self.dataset)

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The variants of the model, the reference's own first."""
        return registry.variants(self.spec)

    # Artifacts.

    def artifact_name(self, variant: Variant) -> str:
        """The store's name of the artifact that a variant runs; another one where it comes from a user's own file."""
        own = registry.find(variant.format).artifact(variant)
        return f"{own}-brought" if self.from_brought(own) else str(own)

    def from_brought(self, variant: Variant) -> bool:
        """Whether a variant's artifact is a user's own file, or is made from one."""
        own: Variant | None = registry.find(variant.format).artifact(variant)
        while own is not None and own.format not in self.brought:
            own = registry.find(own.format).source(own.precision)
        return own is not None

    def artifact(self, variant: Variant) -> Artifact:
        """The artifact that a variant runs, made now where it is missing or stale.

        Raises UnavailableError where it has to be made and what makes it is not installed, and ConversionError where
        the converter fails. Raises StoreError where the store cannot be read or written.
        """
        if registry.find(variant.format).local and (reason := registry.unavailable(variant)):
            raise UnavailableError(f"{variant}: {reason}")
        own = registry.find(variant.format).artifact(variant)
        with blamed(Unusable(self.spec.name, own, BUILT), ConversionError):
            return self._made(own)

    def brought_file(self, variant: Variant) -> Path | None:
        """The user's own file that a variant's artifact is; None where it was made here, or from such a file."""
        return self.brought.get(registry.find(variant.format).artifact(variant).format)

    def needs(self, variant: Variant) -> tuple[Variant, ...]:
        """The variants whose artifacts a variant is made from, each from the next; that which it runs comes first."""
        own: Variant | None = registry.find(variant.format).artifact(variant)
        found: list[Variant] = []
        while own is not None:
            found.append(own)
            own = None if own.format in self.brought else registry.find(own.format).source(own.precision)
        return tuple(found)

    def rebuilt(self, variant: Variant, number: int) -> Path:
        """The engine of a variant, built once more from nothing: no timing or calibration cache.

        Each ``number`` is an engine of its own, kept in the store.
        """
        return self._made(variant, number).file(registry.find(variant.format).file)

    def _made(self, variant: Variant, rebuild: int = 0) -> Artifact:
        """The artifact of a variant that has one of its own."""
        if variant.format in self.brought:
            return self._brought(variant, self.brought[variant.format])
        if variant == self.spec.reference and self.spec.file is not None:
            return self._brought(variant, self.spec.file)
        format_, name = registry.find(variant.format), self.artifact_name(variant)
        source = format_.source(variant.precision)
        known = self.store.recorded(self.spec.name, name)
        others = (self.artifact_name(v) for v in self.variants if v.format == format_.name)
        job = Job(
            self.spec,
            variant,
            None if source is None else self.artifact(source),
            self.dataset,
            lambda: self.calibration.inputs,
            lambda: self._training_hashes,
            known is not None,
            () if rebuild else tuple(self.store.root / self.spec.name / other for other in others),
            known.folder if known and not rebuild else None,
        )
        if (recipe := format_.recipe(job)) is None:
            if known is None:
                raise ConversionError(f"{variant} of {self.spec.name}: nothing says what it is made from")
            return known
        return self.keep(
            f"{name}.rebuild-{rebuild}" if rebuild else name,
            recipe,
            lambda folder: format_.build(job, folder),
            format_.unbuildable(variant, self.spec),
            format_.made_by(self.spec),
            apart=format_.apart,
        )

    def _brought(self, variant: Variant, path: Path) -> Artifact:
        format_ = registry.find(variant.format)
        if not is_file(path):
            raise DataError(f"{self.spec.source}: {path}: no such file; expected an {format_.suffix} file")
        recipe = Recipe({"file": file_hash(path), **format_.brought_by()})
        inputs = self.samples.inputs
        return self.keep(self.artifact_name(variant), recipe, lambda f: format_.bring(path, self.spec, f, inputs))

    def keep(
        self,
        name: str,
        recipe: Recipe,
        build: Build,
        unbuildable: str | None = None,
        made_by: str = "",
        apart: bool = False,
    ) -> Artifact:
        """An artifact of the model by its name, made now where it is missing or stale; a failure is made once."""
        if name in self._failed:
            raise self._failed[name]
        if not apart:
            recipe = self.here(recipe)
        hint = made_by or registry.reference(self.spec).made_by(self.spec)
        if unbuildable:
            hint = f"it cannot be made here: {unbuildable}; {hint}"
        try:
            return self.store.get(self.spec.name, name, recipe, None if unbuildable else build, hint=hint)
        except ConversionError as error:
            self._failed[name] = error
            raise

    def here(self, recipe: Recipe) -> Recipe:
        """The recipe as it counts here: without versions where the chain was made elsewhere, as those there count."""
        if registry.reference(self.spec).unavailable():
            return replace(recipe, tools=dict.fromkeys(recipe.tools))
        return recipe

    # What runs, and what it is compared with.

    def file(self, variant: Variant) -> Path:
        """Path of the variant's engine: the file, or the folder of a SavedModel."""
        return self.artifact(variant).folder / registry.find(variant.format).file

    def runner(self, variant: Variant, batch_size: int | None = None) -> Runner:
        """Runner of a variant; raises UnavailableError where its format cannot run here."""
        if reason := registry.unavailable(variant):
            raise UnavailableError(f"{variant}: {reason}")
        path, keep = self.file(variant), Beside(self.store, self.spec.name, self.artifact_name(variant))
        with blamed(Unusable(self.spec.name, variant, OPENED), RunnerError):
            return registry.find(variant.format).open(self.spec, variant, path, batch_size, keep)

    def asked_runner(self, variant: Variant) -> Runner:
        """Runner for what may have been asked before: of a format whose engines open slowly, one that opens late."""
        kind = registry.find(variant.format).late()
        if kind is None:
            return self.runner(variant)
        if reason := registry.unavailable(variant):
            raise UnavailableError(f"{variant}: {reason}")
        return LateRunner(self.spec, variant, None, kind, lambda: self.runner(variant))
