"""The chain of one model: which artifact is made from which, and the runner of every variant.

    weights or training ─▶ SavedModel ─▶ ONNX FP32 ─▶ ONNX FP16, ONNX INT8 ─▶ TensorRT, by precision and batch profile
                                     └─▶ TFLite FP32, FP16, INT8

Each link is an artifact in the store, so that it is made once and made again when anything it came from changes.
TensorFlow and TensorRT may live in environments of their own that share a store: one without TensorFlow takes what the
other made, whatever versions of the converters are installed beside it, and the samples with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from engines import (
    datasets,
    exchange,
    native,
    onnx,
    onnx_fp32_parts,
    onnx_to_fp16,
    savedmodel,
    tensorrt,
    tflite,
    training,
)
from engines.brought import BroughtData
from engines.datasets import Dataset, Samples, content_hash
from engines.errors import ConversionError, DataError, SpecError, UnavailableError
from engines.native.runner import NativeRunner
from engines.savedmodel import installed_version
from engines.store import Artifact, Recipe, Store, file_hash
from engines.tensorrt import version_compatible
from engines.tensorrt.versions import VERSION_COMPATIBLE
from engines.variant import PLANS, REFERENCE, Variant, plan_of, variants

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model import ModelSpec
    from engines.runner import Arrays, Runner

    Ranges = Mapping[str, tuple[NDArray[Any], NDArray[Any]]]


class Format(Protocol):
    """What is known of each format: why it cannot run here, the version of what runs it, and the name of its file."""

    @property
    def FILE(self) -> str:  # noqa: N802 - a constant of the modules
        """The file, or folder, in an artifact that is the engine."""

    def unavailable(self) -> str | None:
        """Say why engines of this format cannot run here; None where they can."""

    def version(self) -> str | None:
        """Give the version of what runs them; None where it is not installed."""


FORMATS: Mapping[str, Format] = {
    "savedmodel": savedmodel,
    "onnx": onnx,
    "tflite": tflite,
    "tensorrt": tensorrt,
    VERSION_COMPATIBLE: version_compatible,
    **native.PROGRAMS,
}
"""The module of each format, or the C++ program that stands for one."""

SAMPLE_COUNT = 100
"""How many test samples the checks use by default: the first ones of the data set."""


DATA = "data"
"""The artifact that carries the samples to environments that cannot load them."""


def unavailable(variant: Variant) -> str | None:
    """Say why a variant cannot be built, or run as another environment built it, on this machine; None where it can."""
    reason: str | None = FORMATS[variant.format].unavailable()
    if reason is None and variant.format == "tensorrt":
        reason = tensorrt.unsupported(variant.precision)
    return reason


def unbuildable(variant: Variant) -> str | None:
    """Say why a plan that can run here cannot be built here; None for whatever else can run."""
    return tensorrt.cannot_build(variant.format) if variant.format == VERSION_COMPATIBLE else None


def find_data(spec: ModelSpec, store: Store, cifar10_dir: Path | None = None, download: bool = False) -> Dataset:
    """Find the samples of a model: on this machine, or in the store where this environment only consumes.

    Without TensorFlow, samples that another environment stored come before those that are made with scikit-learn:
    the stored engines were calibrated with them. CIFAR-10 itself, where it is found, is the same everywhere.
    Raises DataError as :func:`engines.datasets.locate` does.
    """
    item = spec.inputs[0]
    found = datasets.locate(
        spec.dataset, cifar10_dir=cifar10_dir, download=download, input_name=item.name, value_range=item.range
    )
    if savedmodel.unavailable() and found.name != "cifar10" and (stored := store.recorded(spec.name, DATA)):
        return datasets.unpack(stored.file("data.npz"), stored.details, item.name, item.range)
    return found


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
        return self._fitting(self.dataset.test(min(SAMPLE_COUNT, self.dataset.test_count)))

    @cached_property
    def calibration(self) -> Samples:
        """The samples that INT8 is calibrated with; never among the test samples."""
        return self._fitting(self.dataset.calibration(self.spec.calibration.samples))

    def _fitting(self, samples: Samples) -> Samples:
        """Give samples back; raises DataError where they lack an input of the model, or have another shape."""
        spec, source = self.spec, self.dataset.source
        if missing := sorted({i.name for i in spec.inputs} - set(samples.inputs)):
            names = ", ".join(i.name for i in spec.inputs)
            raise DataError(
                f"{spec.path}: the data ({source}) have no input {missing[0]!r}; "
                f"allowed: --samples=FILE.npz with an array for each of {names}"
            )
        for item in spec.inputs:
            expected, found = spec.concrete_shape(item, len(samples)), samples.inputs[item.name].shape
            if found != expected:
                raise DataError(
                    f"{spec.path}: input {item.name!r} has shape {expected}, {source} have {found}; "
                    "allowed: a data.dataset of that shape, or --samples=FILE.npz"
                )
        return samples

    @cached_property
    def _training_hashes(self) -> dict[str, str]:
        """Hashes of all training samples, taken once: every artifact of a trained model asks for them."""
        _ = self.samples  # refuses data of another shape before any training
        return _hashes(self.dataset.train(), "training ")

    @property
    def assumption(self) -> str | None:
        """What is only assumed of the inputs, and how to say otherwise; None where their range is known."""
        return self.dataset.assumption if isinstance(self.dataset, BroughtData) else None

    @cached_property
    def ranges(self) -> Ranges:
        """The least and the largest value that made-up inputs may have, by input name; both broadcast to a sample.

        They are those of the description, but for a table of samples that a user brought: its columns are measured in
        units of their own, and one range for all of them would be far outside of what the model knows.
        """
        found = {i.name: (np.asarray(i.range[0]), np.asarray(i.range[1])) for i in self.spec.inputs}
        if isinstance(self.dataset, BroughtData) and self.dataset.test_count > 1:
            arrays = self.dataset.test().inputs
            for name in (i.name for i in self.spec.inputs if len(i.shape) == 2):
                low, high = arrays[name].min(axis=0), arrays[name].max(axis=0)
                found[name] = low.astype(np.float64), high.astype(np.float64)
        return found

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants of the model, the reference's own first."""
        return variants(self.spec)

    def artifact_name(self, variant: Variant) -> str:
        """Give the store's name of the variant's artifact, which for a C++ program is the plan that it runs.

        A user's own file, and what is made from one, has a name of its own: it does not replace what the chain
        converts.
        """
        own = plan_of(variant)
        source = "onnx" if own.format in PLANS.values() else own.format
        return f"{own}-brought" if source in self.brought else str(own)

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
        if variant.format == "tensorrt" and (reason := unavailable(variant)):
            raise UnavailableError(f"{variant}: {reason}")
        if plan_of(variant).format in PLANS.values():
            return self._tensorrt(plan_of(variant))
        return self._tflite(variant)

    def rebuilt(self, variant: Variant, number: int) -> Path:
        """Give a TensorRT engine of a variant that was built once more, from nothing: no timing or calibration cache.

        Each ``number`` is an engine of its own, kept in the store.
        """
        return self._tensorrt(variant, number).file(tensorrt.FILE)

    def file(self, variant: Variant) -> Path:
        """Give the path of the variant's engine: the file, or the folder of a SavedModel."""
        return self.artifact(variant).folder / str(FORMATS[variant.format].FILE)

    def runner(self, variant: Variant, batch_size: int | None = None) -> Runner:
        """Open a runner for a variant; raises UnavailableError where its format cannot run here."""
        reason = unavailable(variant)
        if reason:
            raise UnavailableError(f"{variant}: {reason}")
        path = self.file(variant)
        if variant.format == "savedmodel":
            return savedmodel.SavedModelRunner(self.spec, path, batch_size)
        if variant.format == "onnx":
            return onnx.OnnxRunner(self.spec, variant, path, batch_size)
        if variant.format in PLANS.values():
            return self._tuned(variant, path, batch_size)
        if variant.format in PLANS:
            program = native.PROGRAMS[variant.format]
            size, host_code = _within(variant, batch_size), program.allow_host_code
            return NativeRunner(self.spec, variant, path, program.path, size, allow_host_code=host_code)
        return tflite.TFLiteRunner(self.spec, variant, path, batch_size)

    def reference(self, name: str, inputs: Arrays, made_by: str = "") -> dict[str, NDArray[Any]]:
        """Give the SavedModel's outputs on ``inputs``, computed once and stored as ``reference-<name>``.

        An environment without TensorFlow reads what another one stored, by the command ``made_by`` (default: pytest).
        """
        made_from = {"savedmodel": self._savedmodel().sha256, "inputs": content_hash(inputs)}

        def build(folder: Path) -> None:
            # Not through the runner: what all engines share must not be what they are judged by.
            outputs: dict[str, Any] = savedmodel.reference_outputs(self.spec, self.file(REFERENCE), inputs)
            np.savez(folder / "outputs.npz", **outputs)

        recipe = Recipe(made_from, {}, {"tensorflow": savedmodel.version()})
        command = made_by or f"pytest --model {self.spec.path}"
        hint = f"run `{command}` where TensorFlow is installed, on the same artifact folder"
        artifact = self._get(f"reference-{name}", recipe, build, savedmodel.unavailable(), hint)
        with np.load(artifact.file("outputs.npz")) as archive:
            return dict(archive)

    def inputs(
        self, name: str, made_from: Mapping[str, str], tools: Mapping[str, str | None], make: Callable[[], Arrays]
    ) -> dict[str, NDArray[Any]]:
        """Give generated inputs by name, made once and stored as ``inputs-<name>``.

        An environment without TensorFlow reads what another one stored: other versions of ``tools`` might generate
        others, to which nobody knows the SavedModel's answers.
        """

        def build(folder: Path) -> None:
            arrays: dict[str, Any] = dict(make())
            np.savez_compressed(folder / "inputs.npz", **arrays)

        hint = f"run `pytest --model {self.spec.path}` where TensorFlow is installed, on the same artifact folder"
        artifact = self._get(f"inputs-{name}", Recipe(made_from, {}, tools), build, savedmodel.unavailable(), hint)
        with np.load(artifact.file("inputs.npz")) as archive:
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

        return self._get("samples", Recipe(_hashes(samples)), build, None)

    def exchanged(self, count: int) -> Samples:
        """Give the first ``count`` test samples, for programs that are given them as CSV.

        Raises SpecError for a model without class scores or with several inputs, and DataError where there are fewer
        samples.
        """
        spec = self.spec
        if len(spec.inputs) != 1:
            names = ", ".join(i.name for i in spec.inputs)
            raise SpecError(f"{spec.path}: has the inputs {names}; allowed for CSV: a model with one input")
        if spec.probabilities is None:
            raise SpecError(f"{spec.path}: has no output of class scores; allowed for CSV: a model with one")
        return self.dataset.test(count)

    def exchanged_reference(self, samples: Samples) -> dict[str, NDArray[Any]]:
        """Give the reference's class scores of what :meth:`exchanged` gave, by the output's name."""
        # What the tests compute anyway, under the names that they give it.
        name = "samples" if len(samples) == len(self.samples) else f"accuracy-{len(samples)}"
        made_by = f"python -m engines export-csv {self.spec.path} --samples {len(samples)}"
        outputs = self.reference(name, samples.inputs, made_by)
        return {o.name: outputs[o.name] for o in self.spec.outputs if o == self.spec.probabilities}

    def export_csv(self, count: int) -> Artifact:
        """Store ``count`` test samples, their labels and the reference's answers as CSV, as ``csv-<count>``.

        docs/exchange.md describes the files. Raises as :meth:`exchanged` does.
        """
        samples = self.exchanged(count)
        [array] = samples.inputs.values()
        [scores] = self.exchanged_reference(samples).values()

        def build(folder: Path) -> Mapping[str, Any]:
            exchange.write_samples(folder / exchange.SAMPLES, array)
            exchange.write_verification(folder / exchange.VERIFICATION, scores)
            if samples.labels is not None:
                exchange.write_labels(folder / exchange.LABELS, samples.labels)
            return {
                "data": self.dataset.source,
                "samples": count,
                "values": array[0].size,
                "labelled": samples.labels is not None,
                "fed_sha256": exchange.fed_hash(array),
            }

        made_from = _hashes(samples) | {"reference": content_hash({"scores": scores})} | _code(exchange)
        return self._get(f"csv-{count}", Recipe(made_from), build, None)

    def export_data(self) -> Artifact:
        """Store test samples, labels and calibration samples, for environments that can load none themselves."""
        if isinstance(self.dataset, BroughtData):
            raise SpecError(f"{self.spec.name}: its samples are a user's own file; allowed: the file itself, --samples")
        arrays, rest = datasets.pack(self.dataset, self.spec.calibration.samples)

        def build(folder: Path) -> Mapping[str, Any]:
            saved: dict[str, Any] = dict(arrays)
            np.savez_compressed(folder / "data.npz", **saved)
            return rest

        return self._get(DATA, Recipe({"arrays": content_hash(arrays)}), build, None)

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
        if savedmodel.unavailable() and "tensorrt" not in recipe.tools:
            # The chain up to here was made elsewhere: the versions there count, not what happens to be installed here.
            recipe = replace(recipe, tools=dict.fromkeys(recipe.tools))
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

        if savedmodel.unavailable() and (recorded := self.store.recorded(spec.name, str(REFERENCE))):
            # What it was trained on need not be here, where it can only be used.
            return recorded
        parameters = {"architecture": architecture, "training": dict(vars(spec.training)) if spec.training else {}}
        recipe = Recipe(self._training_hashes | _code(training), parameters, tools)
        return self._get(str(REFERENCE), recipe, train, savedmodel.unavailable())

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

        made_from = {"file": file_hash(path)} | (_code(onnx) if variant.format == "onnx" else {})
        return self._get(self.artifact_name(variant), Recipe(made_from), build, None)

    def _onnx(self, variant: Variant) -> Artifact:
        spec = self.spec
        if variant.precision == "fp32":
            source = self._savedmodel()
            tools = {"tf2onnx": installed_version("tf2onnx"), "onnx": installed_version("onnx")}
            tools["tensorflow"] = savedmodel.version()
            return self._get(
                self.artifact_name(variant),
                Recipe(
                    {"savedmodel": source.sha256, "converter code": file_hash(onnx.CONVERTER)} | _code(onnx),
                    {"opset": onnx.OPSET},
                    tools,
                ),
                lambda folder: onnx.build_fp32(source.folder / savedmodel.FILE, spec, folder),
                savedmodel.unavailable() or missing("tf2onnx"),
            )
        fp32 = self._onnx(Variant("onnx", "fp32"))
        path = fp32.file(onnx.FILE)
        if variant.precision == "fp16":
            return self._get(
                self.artifact_name(variant),
                Recipe(
                    {"onnx-fp32": fp32.sha256} | _code(onnx) | _code(onnx_to_fp16) | _code(onnx_fp32_parts),
                    {},
                    {"onnx": installed_version("onnx")},
                ),
                lambda folder: onnx.build_fp16(path, spec, folder),
                missing("onnx"),
            )
        inputs = self.calibration.inputs
        parameters = {**vars(spec.calibration), "operators": list(onnx.QUANTIZED_OPERATORS)}
        return self._get(
            self.artifact_name(variant),
            Recipe(
                {"onnx-fp32": fp32.sha256, "calibration": content_hash(inputs)} | _code(onnx),
                parameters,
                {"onnxruntime": onnx.version(), "onnx": installed_version("onnx")},
            ),
            lambda folder: onnx.build_int8(path, _as_named(spec, fp32), inputs, spec.calibration, folder),
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
            self.artifact_name(variant),
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

    def _tensorrt(self, variant: Variant, rebuild: int = 0) -> Artifact:
        """Give a plan: built here, or what another environment built where this one cannot."""
        spec = self.spec
        if variant.profile is None:
            raise ConversionError(f"{variant}: a TensorRT engine needs a batch profile")
        missing_here = tensorrt.cannot_build(variant.format)
        builder = None if missing_here else tensorrt.version()
        route = tensorrt.versions.route(variant.precision, builder or tensorrt.versions.OLDEST)
        source = self.artifact(Variant("onnx", route.source))
        made_from = {f"onnx-{route.source}": source.sha256}
        for module in (tensorrt.build, tensorrt.calibration, tensorrt.versions):
            made_from |= _code(module)
        parameters: dict[str, Any] = {
            "profile": [variant.profile.min, variant.profile.opt, variant.profile.max],
            "workspace": tensorrt.build.WORKSPACE,
        }
        inputs, inputs_sha256 = None, ""
        if route.calibrated:
            inputs = self.calibration.inputs
            made_from["calibration"] = inputs_sha256 = content_hash(inputs)
            parameters["calibration"] = dict(vars(spec.calibration))
        caches, before, name = [], None, self.artifact_name(variant)
        if not rebuild:
            others = [self.artifact_name(v) for v in self.variants if v.format == "tensorrt"]
            caches = [self.store.root / spec.name / other / tensorrt.calibration.CACHE for other in others]
            before = self.store.recorded(spec.name, name)
        # Where another environment built it, its versions are as good as any.
        tools = {"tensorrt": builder, "polygraphy": installed_version("polygraphy") if builder else None}
        return self._get(
            f"{name}.rebuild-{rebuild}" if rebuild else name,
            Recipe(made_from, parameters, tools, tensorrt.device()),
            lambda folder: tensorrt.build.build_engine(
                source.file(onnx.FILE),
                source.sha256,
                _as_named(spec, source),
                variant,
                folder,
                samples=inputs,
                samples_sha256=inputs_sha256,
                calibration_caches=caches,
                timing_cache=before.folder / tensorrt.build.TIMING_CACHE if before else None,
            ),
            missing_here,
            f"run `python -m engines build {spec.path} --format {variant.format}` where TensorRT "
            f"{tensorrt.versions.OLDEST} is installed, on the same artifact folder",
        )

    def _tuned(self, variant: Variant, plan: Path, batch_size: int | None) -> Runner:
        """Open a TensorRT runner with the streams and graphs that were measured best for this plan, once."""
        compatible = variant.format == VERSION_COMPATIBLE
        runner = tensorrt.runner.TensorRTRunner(
            self.spec, variant, plan, _within(variant, batch_size), allow_host_code=compatible
        )
        made_from = {"plan": file_hash(plan)}
        for module in (tensorrt.runner, tensorrt.slots, tensorrt.copiers, tensorrt.tuning):
            made_from |= _code(module)
        parameters = {"batch": runner.batch_size, "processors": os.cpu_count()}

        def measure(folder: Path) -> Mapping[str, Any]:
            tuning = tensorrt.tuning.tune(runner)
            (folder / "tuning.json").write_text(json.dumps(tuning, indent=1), encoding="utf-8")
            return tuning

        try:
            recipe = Recipe(made_from, parameters, {"tensorrt": tensorrt.version()}, tensorrt.device())
            # Several runtimes run the same version-compatible plan, from the same store.
            at = f".{tensorrt.versions.runtime_id()}" if compatible else ""
            name = f"{self.artifact_name(variant)}.tuning-{runner.batch_size}{at}"
            tuning = self.store.get(self.spec.name, name, recipe, measure).details
            chosen = {name: tuning[name] for name in ("streams", "graphs", "copiers")}
            if chosen != {"streams": runner.streams, "graphs": runner.graphs, "copiers": runner.copier_count}:
                runner.configure(**chosen)
        except BaseException:
            runner.close()
            raise
        return runner


def _as_named(spec: ModelSpec, source: Artifact) -> ModelSpec:
    """Give the spec with what an ONNX calls its inputs in place of the SavedModel's names, for what is made from it."""
    called = source.details["inputs"]
    return replace(spec, inputs=tuple(replace(i, signature_name=called[i.name]) for i in spec.inputs))


def _within(variant: Variant, batch_size: int | None) -> int | None:
    """Keep a batch size within the profile: callers ask for at most so many, and the plan takes no more."""
    return batch_size if batch_size is None or variant.profile is None else min(batch_size, variant.profile.max)


def missing(distribution: str) -> str | None:
    """Say that a distribution is not installed, or None where it is."""
    return (
        None
        if installed_version(distribution)
        else f"{distribution} is not installed (pip install -r requirements.txt)"
    )


def _hashes(samples: Samples, prefix: str = "") -> dict[str, str]:
    """Give the content hashes of samples, and of their labels where there are any."""
    hashes = {f"{prefix}samples": content_hash(samples.inputs)}
    if samples.labels is not None:
        hashes[f"{prefix}labels"] = content_hash({"labels": samples.labels})
    return hashes


def _code(module: ModuleType) -> dict[str, str]:
    """Give what makes an artifact stale when its builder changes: settings are spread over all of the module."""
    return {f"{module.__name__} code": file_hash(Path(str(module.__file__)))}
