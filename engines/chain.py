"""The chain of one model: which artifact is made from which, and the runner of every variant.

    weights or training ─▶ SavedModel ─▶ ONNX FP32 ─▶ ONNX FP16, ONNX INT8 ─▶ TensorRT, by precision and batch profile
                                     └─▶ TFLite FP32, FP16, INT8

Each link is an artifact in the store, so that it is made once and made again when anything it came from changes. What
is made from what, and how, the formats know; nothing here names one. TensorFlow and TensorRT may live in environments
of their own that share a store. One without the reference's packages takes what the other made, samples included,
whatever versions of the converters are installed beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.answers import STOPPED, all_of, what_it_runs, written
from engines.errors import ConversionError, DataError, UnavailableError
from engines.formats import registry
from engines.formats.base import Job
from engines.model.brought import BroughtData
from engines.model.fitting import fitting
from engines.model.ranges import ranges
from engines.model.samples import Dataset, Samples, content_hash
from engines.model.spec import SIGNATURE
from engines.store import Artifact, Build, Recipe, Store, file_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.answers import Answers
    from engines.model.ranges import Ranges
    from engines.model.spec import ModelSpec
    from engines.runner import Arrays, Runner
    from engines.variant import Variant

SAMPLE_COUNT = 100
"""How many test samples the checks use by default: the first ones of the data set."""

DATA = "data"
"""The artifact that carries the samples to environments that cannot load them."""


@dataclass(frozen=True)
class Chain:
    """Makes the artifacts, reference outputs and runners of one model, on one data set, in one store."""

    spec: ModelSpec
    dataset: Dataset | BroughtData
    store: Store
    brought: Mapping[str, Path] = field(default_factory=dict)
    """Engines made elsewhere, by format: they are checked instead of converting."""
    _failed: dict[str, ConversionError] = field(default_factory=dict, repr=False)

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
        return self.dataset.assumption if isinstance(self.dataset, BroughtData) else None

    @cached_property
    def ranges(self) -> Ranges:
        """The least and the largest value that made-up inputs may have, by input name; both broadcast to a sample."""
        return ranges(self.spec, self.dataset)

    @property
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
        return self._made(registry.find(variant.format).artifact(variant))

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
        if not path.is_file():
            raise DataError(f"{self.spec.source}: {path}: no such file; expected an {format_.suffix} file")
        recipe = Recipe({"file": file_hash(path), **format_.brought_by()})
        return self.keep(self.artifact_name(variant), recipe, lambda folder: format_.bring(path, self.spec, folder))

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
        if registry.reference(self.spec).unavailable() and not apart:
            # The chain up to here was made elsewhere: the versions there count, not what happens to be installed here.
            recipe = replace(recipe, tools=dict.fromkeys(recipe.tools))
        hint = made_by or registry.reference(self.spec).made_by(self.spec)
        if unbuildable:
            hint = f"it cannot be made here: {unbuildable}; {hint}"
        try:
            return self.store.get(self.spec.name, name, recipe, None if unbuildable else build, hint=hint)
        except ConversionError as error:
            self._failed[name] = error
            raise

    # What runs, and what it is compared with.

    def file(self, variant: Variant) -> Path:
        """Path of the variant's engine: the file, or the folder of a SavedModel."""
        return self.artifact(variant).folder / registry.find(variant.format).file

    def runner(self, variant: Variant, batch_size: int | None = None) -> Runner:
        """Runner of a variant; raises UnavailableError where its format cannot run here."""
        if reason := registry.unavailable(variant):
            raise UnavailableError(f"{variant}: {reason}")
        name, path = self.artifact_name(variant), self.file(variant)

        def keep(suffix: str, recipe: Recipe, build: Build) -> Artifact:
            return self.store.get(self.spec.name, f"{name}.{suffix}", recipe, build)

        return registry.find(variant.format).open(self.spec, variant, path, batch_size, keep)

    def reference(self, name: str, inputs: Arrays, made_by: str = "") -> dict[str, NDArray[Any]]:
        """The reference's outputs on ``inputs``, computed once and stored as ``reference-<name>``.

        An environment that cannot run it reads what another one stored, by the command ``made_by`` (default: pytest).
        Raises DataError, which says what the inputs hold, where the reference stops at them.
        """
        return self._answers(name, inputs, lambda: all_of(self.spec.source, self._ask, inputs), made_by)[0]

    def tried(self, name: str, inputs: Arrays) -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
        """The same of made-up inputs, and what the reference said of those that it stops at, by their number.

        Zeros stand in place of its answer to those. Raises DataError where it stops at all of them.
        """
        outputs, details = self._answers(name, inputs, lambda: what_it_runs(self.spec.source, self._ask, inputs))
        return outputs, {int(number): str(said) for number, said in details.get(STOPPED, {}).items()}

    def _ask(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs of the reference; not through the runner: what all engines share must not be what judges them."""
        return registry.reference(self.spec).reference(self.spec, self.file(self.spec.reference), inputs)

    def _answers(
        self, name: str, inputs: Arrays, ask: Callable[[], Answers], made_by: str = ""
    ) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
        """Stored answers of the reference, and the details of their artifact; ``ask`` computes them."""
        format_, chosen = registry.reference(self.spec), self.spec.signature
        made_from = {format_.name: self.artifact(self.spec.reference).sha256, "inputs": content_hash(inputs)}

        # What was computed before signatures could be chosen says nothing of it.
        parameters = {} if chosen == SIGNATURE else {"signature": chosen}
        recipe = Recipe(made_from, parameters, {next(iter(format_.packages)): format_.version()})
        return self._arrays(f"reference-{name}", "outputs.npz", recipe, lambda to: written(to, *ask()), made_by)

    def inputs(
        self, name: str, made_from: Mapping[str, str], tools: Mapping[str, str | None], make: Callable[[], Arrays]
    ) -> dict[str, NDArray[Any]]:
        """Generated inputs by name, made once and stored as ``inputs-<name>``.

        An environment that cannot run the reference reads what another one stored. Other versions of ``tools`` might
        generate others, to which nobody knows the reference's answers.
        """

        def build(folder: Path) -> None:
            np.savez_compressed(folder / "inputs.npz", **dict[str, Any](make()))

        return self._arrays(f"inputs-{name}", "inputs.npz", Recipe(made_from, {}, tools), build)[0]

    def _arrays(
        self, name: str, file: str, recipe: Recipe, build: Build, made_by: str = ""
    ) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
        """Arrays that only an environment with the reference makes, and the details of their artifact."""
        format_ = registry.reference(self.spec)
        command = made_by or f"pytest {self.spec.option}"
        hint = f"run `{command}` where {format_.label} is installed, on the same artifact folder"
        artifact = self.keep(name, recipe, build, format_.unavailable(), hint)
        with np.load(artifact.file(file)) as archive:
            return dict(archive), artifact.details
