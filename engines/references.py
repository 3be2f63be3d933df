"""What the reference of a model answers, stored for every environment that cannot ask it."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.answers import STOPPED, all_of, what_it_runs, written
from engines.formats import registry
from engines.model.samples import content_hash
from engines.model.spec import SIGNATURE
from engines.store import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.answers import Answers
    from engines.model.spec import ModelSpec
    from engines.runner import Arrays
    from engines.store import Artifact, Build
    from engines.variant import Variant


class References(abc.ABC):
    """Asks the reference of a model, and keeps what it answers; the chain provides model, artifacts and store."""

    spec: ModelSpec

    @abc.abstractmethod
    def artifact(self, variant: Variant) -> Artifact:
        """The artifact that a variant runs."""

    @abc.abstractmethod
    def file(self, variant: Variant) -> Path:
        """Path of the variant's engine."""

    @abc.abstractmethod
    def keep(
        self, name: str, recipe: Recipe, build: Build, unbuildable: str | None = None, made_by: str = ""
    ) -> Artifact:
        """An artifact of the model by its name."""

    def reference(self, name: str, inputs: Arrays, made_by: str = "") -> dict[str, NDArray[Any]]:
        """The reference's outputs on ``inputs``, computed once and stored as ``reference-<name>``.

        An environment that cannot run it reads what another one stored, by the command ``made_by`` (default: pytest).
        Raises DataError, which tells what the inputs hold, where the reference stops at them.
        """
        return self._answers(name, inputs, lambda: all_of(self.spec.source, self._ask, inputs), made_by)[0]

    def tried(self, name: str, inputs: Arrays) -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
        """The same of made-up inputs, and what the reference said of those that it stops at, by their number.

        Zeros stand in place of its answer to those. Raises DataError where it stops at all of them.
        """
        outputs, details = self._answers(name, inputs, lambda: what_it_runs(self.spec, self._ask, inputs))
        return outputs, {int(number): str(said) for number, said in details.get(STOPPED, {}).items()}

    def inputs(
        self, name: str, made_from: Mapping[str, str], tools: Mapping[str, str | None], make: Callable[[], Arrays]
    ) -> dict[str, NDArray[Any]]:
        """Generated inputs by name, made once and stored as ``inputs-<name>``.

        An environment that cannot run the reference reads what another one stored: other versions of ``tools`` might
        generate others, to which nobody knows the reference's answers.
        """

        def build(folder: Path) -> None:
            np.savez_compressed(folder / "inputs.npz", **dict[str, Any](make()))

        with np.load(self._kept(f"inputs-{name}", Recipe(made_from, {}, tools), build).file("inputs.npz")) as archive:
            return dict(archive)

    def of_reference(
        self, name: str, inputs: Mapping[str, str], parameters: Mapping[str, Any], build: Build, made_by: str = ""
    ) -> Artifact:
        """An artifact ``reference-<name>`` that only an environment with the reference makes; others read it.

        ``inputs`` are hashes of what it is made from beside the reference.
        """
        format_, chosen = registry.reference(self.spec), self.spec.signature
        made_from = {format_.name: self.artifact(self.spec.reference).sha256, **inputs}
        # What was computed before signatures could be chosen says nothing of it.
        parameters = dict(parameters) if chosen == SIGNATURE else {**parameters, "signature": chosen}
        recipe = Recipe(made_from, parameters, {next(iter(format_.packages)): format_.version()})
        return self._kept(f"reference-{name}", recipe, build, made_by)

    def calls(self) -> Callable[[Arrays], dict[str, NDArray[Any]]]:
        """The reference, freshly loaded: a function that calls it on all inputs (N, …) at once, by the spec's names.

        It shares nothing with the runners. Raises RunnerError where the reference fails on what it is given.
        """
        return registry.reference(self.spec).calls(self.spec, self.file(self.spec.reference))

    def _ask(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs of the reference; not through the runner: what all engines share must not be what judges them."""
        return registry.reference(self.spec).reference(self.spec, self.file(self.spec.reference), inputs)

    def _answers(
        self, name: str, inputs: Arrays, ask: Callable[[], Answers], made_by: str = ""
    ) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
        """Stored answers of the reference, and the details of their artifact; ``ask`` computes them."""
        hashes = {"inputs": content_hash(inputs)}
        artifact = self.of_reference(name, hashes, {}, lambda to: written(to, *ask()), made_by)
        with np.load(artifact.file("outputs.npz")) as archive:
            return dict(archive), artifact.details

    def _kept(self, name: str, recipe: Recipe, build: Build, made_by: str = "") -> Artifact:
        """An artifact that only an environment with the reference makes."""
        format_ = registry.reference(self.spec)
        command = made_by or f"pytest {self.spec.option}"
        hint = f"run `{command}` where {format_.label} is installed, on the same artifact folder"
        return self.keep(name, recipe, build, format_.unavailable(), hint)
