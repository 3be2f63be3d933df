"""The chain of one model: which artifact is made from which, and the runner of every variant.

    weights or training ─▶ SavedModel ─▶ ONNX FP32 ─▶ ONNX FP16, ONNX INT8
                                     └─▶ TFLite FP32, FP16, INT8

Each link is an artifact in the store, so that it is made once and made again when anything it came from changes.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from engines import onnx, savedmodel, tflite, training
from engines.brought import BroughtData
from engines.datasets import Dataset, Samples, content_hash
from engines.errors import ConversionError, DataError, SpecError, UnavailableError
from engines.savedmodel import installed_version
from engines.store import Artifact, Recipe, Store, file_hash
from engines.variant import REFERENCE, Variant, variants

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model import ModelSpec
    from engines.runner import Arrays, Runner

log = logging.getLogger(__name__)

FORMATS: Mapping[str, ModuleType] = {"savedmodel": savedmodel, "onnx": onnx, "tflite": tflite}
"""The module of each format; each has ``unavailable()``, ``version()`` and ``FILE``."""

SAMPLE_COUNT = 100
"""How many test samples the checks use by default: the first ones of the data set."""


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
        samples = self.dataset.test(min(SAMPLE_COUNT, self.dataset.test_count))
        for item in self.spec.inputs:
            expected = self.spec.concrete_shape(item, len(samples))
            found = samples.inputs[item.name].shape if item.name in samples.inputs else None
            if found != expected:
                raise DataError(
                    f"{self.spec.path}: input {item.name!r} has shape {expected}, {self.dataset.source} have {found}; "
                    "allowed: a data.dataset of that shape, or --samples"
                )
        return samples

    @cached_property
    def calibration(self) -> Samples:
        """The samples that INT8 is calibrated with; never among the test samples."""
        return self.dataset.calibration(self.spec.calibration.samples)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants of the model, the reference's own first."""
        return variants(self.spec)

    def artifact(self, variant: Variant) -> Artifact:
        """Give the variant's artifact, made now where it is missing or stale.

        Raises UnavailableError where it has to be made and what makes it is not installed, ConversionError where
        the converter fails, StoreError where the store cannot be read or written.
        """
        if variant.format in self.brought:
            return self._brought(variant)
        if variant.format == "savedmodel":
            return self._savedmodel()
        if variant.format == "onnx":
            return self._onnx(variant)
        return self._tflite(variant)

    def file(self, variant: Variant) -> Path:
        """Give the path of the variant's engine: the file, or the folder of a SavedModel."""
        return self.artifact(variant).folder / str(FORMATS[variant.format].FILE)

    def runner(self, variant: Variant, batch_size: int | None = None) -> Runner:
        """Open a runner for a variant; raises UnavailableError where its format cannot run here."""
        reason = FORMATS[variant.format].unavailable()
        if reason:
            raise UnavailableError(f"{variant}: {reason}")
        path = self.file(variant)
        if variant.format == "savedmodel":
            return savedmodel.SavedModelRunner(self.spec, path, batch_size)
        if variant.format == "onnx":
            return onnx.OnnxRunner(self.spec, variant, path, batch_size)
        return tflite.TFLiteRunner(self.spec, variant, path, batch_size)

    def reference(self, name: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Give the SavedModel's outputs on ``inputs``, computed once and stored as ``reference-<name>``.

        An environment without TensorFlow reads what another one stored.
        """
        made_from = {"savedmodel": self._savedmodel().sha256, "inputs": content_hash(inputs)}

        def build(folder: Path) -> None:
            # Not through the runner: what all engines share must not be what they are judged by.
            outputs: dict[str, Any] = savedmodel.reference_outputs(self.spec, self.file(REFERENCE), inputs)
            np.savez(folder / "outputs.npz", **outputs)

        recipe = Recipe(made_from, {}, {"tensorflow": savedmodel.version()})
        hint = f"run `pytest --model {self.spec.path}` where TensorFlow is installed, on the same artifact folder"
        artifact = self._get(f"reference-{name}", recipe, build, savedmodel.unavailable(), hint)
        with np.load(artifact.file("outputs.npz")) as archive:
            return dict(archive)

    def export_samples(self) -> Artifact:
        """Store the test samples as NumPy files for other programs: ``samples.npz``, by input name.

        Where the model has one input also ``test_samples.npy``, and ``test_labels.npy`` where there are labels.
        """
        samples = self.samples

        def build(folder: Path) -> Mapping[str, Any]:
            arrays: dict[str, Any] = dict(samples.inputs)
            if samples.labels is not None:
                arrays["labels"] = samples.labels
                np.save(folder / "test_labels.npy", samples.labels)
            np.savez(folder / "samples.npz", **arrays)
            if len(samples.inputs) == 1:
                np.save(folder / "test_samples.npy", next(iter(samples.inputs.values())))
            return {"data": self.dataset.source, "samples": len(samples), "labelled": samples.labels is not None}

        hashes = {"samples": content_hash(samples.inputs)}
        if samples.labels is not None:
            hashes["labels"] = content_hash({"labels": samples.labels})
        return self._get("samples", Recipe(hashes), build, None)

    def _get(
        self,
        name: str,
        recipe: Recipe,
        build: Callable[[Path], Mapping[str, Any] | None],
        unavailable: str | None,
        hint: str | None = None,
    ) -> Artifact:
        if name in self._failed:
            raise self._failed[name]
        hint = (
            hint or f"run `python -m engines build {self.spec.path}` where it can be made, on the same artifact folder"
        )
        if unavailable:
            hint = f"it cannot be made here: {unavailable}; {hint}"
        try:
            return self.store.get(self.spec.name, name, recipe, None if unavailable else build, hint=hint)
        except ConversionError as error:
            # It would fail again, as slowly, for every test that needs it.
            self._failed[name] = error
            raise

    def _savedmodel(self) -> Artifact:
        spec = self.spec
        tools = {"tensorflow": savedmodel.version()}
        if spec.saved_model is not None:
            path = spec.saved_model
            if not path.is_dir():
                raise SpecError(f"{spec.path}: source.saved_model is {str(path)!r}; allowed: a SavedModel folder")
            files = {f.relative_to(path).as_posix(): file_hash(f) for f in sorted(path.rglob("*")) if f.is_file()}

            def copy(folder: Path) -> None:
                shutil.copytree(path, folder / savedmodel.FILE)

            return self._get(str(REFERENCE), Recipe(files), copy, None)
        tools["keras"] = installed_version("keras")
        architecture = dict(vars(spec.architecture)) if spec.architecture else {}
        if spec.weights is not None:

            def load(folder: Path) -> Mapping[str, Any]:
                savedmodel.tensorflow()
                return savedmodel.build_savedmodel(training.load_weights(spec), folder)

            made_from = {"weights": spec.weights.sha256} | _code(training)
            recipe = Recipe(made_from, {"architecture": architecture}, tools)
            return self._get(str(REFERENCE), recipe, load, savedmodel.unavailable())

        def train(folder: Path) -> Mapping[str, Any]:
            savedmodel.tensorflow()
            return savedmodel.build_savedmodel(self._trained(), folder)

        parameters = {"architecture": architecture, "training": dict(vars(spec.training)) if spec.training else {}}
        _ = self.samples  # refuses data of another shape before any training
        data = self.dataset.train()
        made_from = {"training samples": content_hash(data.inputs)}
        if data.labels is not None:
            made_from["training labels"] = content_hash({"labels": data.labels})
        return self._get(
            str(REFERENCE), Recipe(made_from | _code(training), parameters, tools), train, savedmodel.unavailable()
        )

    def _trained(self) -> Any:
        """Train in a process of its own: op determinism and seeds are set for the whole process."""
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / "weights.npz"
            command = [sys.executable, "-m", "engines", "train", str(self.spec.path.resolve())]
            command += ["--output", str(weights), "--quiet"]
            data = self.dataset.folder if isinstance(self.dataset, Dataset) else None
            environment = {**os.environ, **({"CIFAR10_DIR": str(data.resolve())} if data else {})}
            root = Path(__file__).parent.parent
            done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=False)
            if done.returncode != 0:
                raise ConversionError(f"training {self.spec.name} failed; last lines:\n{onnx.last_lines(done.stderr)}")
            model = training.build_network(self.spec)
            training.read_weights(model, weights)
            return model

    def _brought(self, variant: Variant) -> Artifact:
        path = self.brought[variant.format]

        def build(folder: Path) -> Mapping[str, Any]:
            if variant.format == "onnx":
                return onnx.import_model(path, self.spec, folder)
            shutil.copyfile(path, folder / tflite.FILE)
            return {}

        # Under a name of its own, so that the converted artifact stays what it is.
        return self._get(f"{variant}-brought", Recipe({"file": file_hash(path)}), build, None)

    def _onnx(self, variant: Variant) -> Artifact:
        spec = self.spec
        if variant.precision == "fp32":
            source = self._savedmodel()
            tools = {"tf2onnx": installed_version("tf2onnx"), "onnx": installed_version("onnx")}
            tools["tensorflow"] = savedmodel.version()
            return self._get(
                str(variant),
                Recipe({"savedmodel": source.sha256} | _code(onnx), {"opset": onnx.OPSET}, tools),
                lambda folder: onnx.build_fp32(source.folder / savedmodel.FILE, spec, folder),
                savedmodel.unavailable() or missing("tf2onnx"),
            )
        fp32 = self._onnx(Variant("onnx", "fp32"))
        path = fp32.file(onnx.FILE)
        if variant.precision == "fp16":
            tools = {
                "onnxconverter-common": installed_version("onnxconverter-common"),
                "onnx": installed_version("onnx"),
            }
            return self._get(
                str(variant),
                Recipe({"onnx-fp32": fp32.sha256} | _code(onnx), {}, tools),
                lambda folder: onnx.build_fp16(path, spec, folder),
                missing("onnxconverter-common"),
            )
        inputs = self.calibration.inputs
        parameters = {**vars(spec.calibration), "operators": list(onnx.QUANTIZED_OPERATORS)}
        return self._get(
            str(variant),
            Recipe(
                {"onnx-fp32": fp32.sha256, "calibration": content_hash(inputs)} | _code(onnx),
                parameters,
                {"onnxruntime": onnx.version(), "onnx": installed_version("onnx")},
            ),
            lambda folder: onnx.build_int8(path, spec, inputs, spec.calibration, folder),
            onnx.unavailable(),
        )

    def _tflite(self, variant: Variant) -> Artifact:
        spec, source = self.spec, self._savedmodel()
        made_from, parameters = {"savedmodel": source.sha256} | _code(tflite), {}
        inputs = None
        if variant.precision == "int8":
            inputs = self.calibration.inputs
            made_from["calibration"] = content_hash(inputs)
            parameters = dict(vars(spec.calibration))
        return self._get(
            str(variant),
            Recipe(made_from, parameters, {"tensorflow": savedmodel.version()}),
            lambda folder: tflite.build_tflite(
                source.folder / savedmodel.FILE,
                spec,
                variant.precision,
                folder,
                samples=inputs,
                calibration=spec.calibration,
            ),
            savedmodel.unavailable(),
        )


def missing(distribution: str) -> str | None:
    """Say that a distribution is not installed, or None where it is."""
    return (
        None
        if installed_version(distribution)
        else f"{distribution} is not installed (pip install -r requirements.txt)"
    )


def _code(module: ModuleType) -> dict[str, str]:
    """Give what makes an artifact stale when its builder changes: settings are spread over all of the module."""
    return {f"{module.__name__} code": file_hash(Path(str(module.__file__)))}
