"""What a SavedModel is made from: a user's folder, stored weights, or a training."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConversionError, SpecError
from engines.formats.code import code
from engines.formats.savedmodel import apart, forked, packages, training
from engines.formats.savedmodel.build import FILE, build_savedmodel
from engines.hashing import folder_hashes
from engines.model.paths import is_folder
from engines.model.table import SHOWN
from engines.store import Recipe
from engines.tools import installed_version, last_lines

if TYPE_CHECKING:
    from engines.formats.base import Job
    from engines.model.spec import ModelSpec

TRAINING = "engines.formats.savedmodel.training_command"
"""The program that trains."""

PROTOCOLS = ("saved_model.pb", "saved_model.pbtxt")
"""The files of which a SavedModel has one."""


def recipe(job: Job) -> Recipe | None:
    """Recipe of the reference; None where it was trained elsewhere and can only be used here.

    Raises SpecError where the user's folder is none.
    """
    spec = job.spec
    if spec.saved_model is not None:
        return Recipe(folder_hashes(_own(spec)))
    tools = {"tensorflow": packages.version(), "keras": installed_version("keras")}
    parameters = {"architecture": dict(vars(spec.architecture)) if spec.architecture else {}}
    made_by = code("engines.training", Path(str(training.__file__)))
    if spec.weights is not None:
        return Recipe({"weights": spec.weights.sha256} | made_by, parameters, tools)
    if packages.unavailable() and job.recorded:
        # What it was trained on need not be here, where it can only be used.
        return None
    parameters["training"] = dict(vars(spec.training)) if spec.training else {}
    return Recipe(job.training_hashes() | made_by, parameters, tools)


def build(job: Job, folder: Path) -> Mapping[str, Any] | None:
    """Copy the user's folder, or export the architecture with its weights; returns details for the record.

    Raises ConversionError where training fails, SpecError where weights do not fit.
    """
    spec = job.spec
    if spec.saved_model is not None:
        shutil.copytree(_own(spec), folder / FILE)
        return None
    if spec.weights is not None:
        exported: Mapping[str, Any] = apart.ask(_exported, spec, folder)
        return exported
    packages.tensorflow()
    return build_savedmodel(_trained(job), folder)


def _exported(spec: ModelSpec, folder: Path) -> dict[str, Any]:
    """Details of the architecture, exported with its weights."""
    packages.tensorflow()
    return build_savedmodel(training.load_weights(spec), folder)


def _own(spec: ModelSpec) -> Path:
    path = spec.saved_model
    if path is None or not is_folder(path):
        raise SpecError(f"{spec.source}: source.saved_model is {SHOWN.repr(str(path))}; allowed: a SavedModel folder")
    # Looked at before it is hashed and copied: any folder could be meant, the whole disk among them.
    if not any((path / name).is_file() for name in PROTOCOLS):
        raise SpecError(
            f"{spec.source}: source.saved_model is {SHOWN.repr(str(path))}, without {' or '.join(PROTOCOLS)}"
        )
    return path


def _trained(job: Job) -> Any:
    """Train in a process of its own: op determinism and seeds are set for the whole process."""
    spec, data = job.spec, getattr(job.data, "folder", None)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        environment = {"CIFAR10_DIR": str(data.resolve())} if data else {}
        done = forked.program(TRAINING, [str(spec.path.resolve()), str(weights)], environment)
        if done.code != 0:
            raise ConversionError(f"training {spec.name} failed; last lines:\n{last_lines(done.printed)}")
        model = training.build_network(spec)
        training.read_weights(model, weights)
        return model
