"""What artifacts are made from: moving or rewording code builds nothing again, and changing it does."""

from __future__ import annotations

import gc
import hashlib
import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines.chain import Chain
from engines.exports import export_data, export_samples
from engines.formats.code import UNCHANGED, code_hash, substance
from engines.formats.native.program import Program
from engines.formats.tensorrt import packages, versions
from engines.model.bundled import bundled_names, find_model
from engines.model.selection import find_data
from engines.model.toml import load_model
from engines.store import Artifact, Store

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
KNOWN = Path(__file__).with_name("recipes.json")
"""The hash of every artifact's recipe, without what depends on the machine: versions and the data's own hashes."""

DATA = ("calibration", "samples", "labels", "training samples", "training labels", "arrays", "inputs")


class Recorded:
    """A store that builds nothing and takes down what it is asked for."""

    def __init__(self, root):
        self.root, self.recipes = root, {}

    def recorded(self, model, name):
        """Nothing is there."""
        return

    def get(self, model, name, recipe, build, *, hint=""):
        """Take down a recipe; the artifact's hash is its name."""
        inputs = {key: "…" if key in DATA else value for key, value in recipe.inputs.items()}
        told = [inputs, dict(recipe.parameters), sorted(recipe.tools), dict(recipe.environment)]
        self.recipes[f"{model}/{name}"] = json.dumps(told, sort_keys=True, default=str)
        files: dict[str, object] = {key: {} for key in ("model.onnx", "model.plan", "outputs.npz")}
        details = {"inputs": {"input_1": "input_1"}}
        record = {"sha256": f"<{name}>", "files": files, "details": details, "name": name, "recipe": {"tools": {}}}
        return Artifact(self.root / name, record)


@pytest.fixture
def recipes(monkeypatch, tmp_path) -> Mapping[str, str]:
    """Recipes of all artifacts of the bundled models, as where every engine can run."""
    for name, value in (("unavailable", None), ("cannot_run", None), ("version", versions.OLDEST)):
        monkeypatch.setattr(packages, name, lambda value=value: value)
    monkeypatch.setattr(packages, "cannot_build", lambda format_: None)
    monkeypatch.setattr(packages, "device", lambda: {"GPU": "stand-in"})
    monkeypatch.setattr(Program, "unavailable", lambda self: None)
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    found = {}
    for name in bundled_names():
        spec, store = load_model(find_model(name)), Recorded(tmp_path)
        chain = Chain(spec, find_data(spec, Store(tmp_path)), store)
        for variant in chain.variants:
            chain.artifact(variant)
        export_samples(chain)
        export_data(chain)
        found |= store.recipes
    return {name: hashlib.sha256(told.encode()).hexdigest() for name, told in found.items()}


def test_no_artifact_is_built_again(recipes):
    """The recipe of every artifact is the one that is on record: a store of an earlier version stays valid."""
    known = json.loads(KNOWN.read_text(encoding="utf-8"))
    changed = sorted(name for name in {*known, *recipes} if known.get(name) != recipes.get(name))
    assert not changed, f"{changed} would be built again; where that is meant, {KNOWN.name} takes {json.dumps(recipes)}"


def entries():
    """Every line of the table of unchanged code."""
    return tomllib.loads(UNCHANGED.read_text(encoding="utf-8"))["code"]


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry["file"])
def test_unchanged_code_is_that_of_today(entry):
    """Every entry is about a file as it is: code that changed since counts as changed."""
    assert code_hash(ROOT / entry["file"]) == entry["then"], f"{entry['file']} is no longer the code of this entry"


def test_words_build_nothing_again_and_code_does():
    """Comments, docstrings and empty lines are no part of what code does; everything else is."""
    code = 'def f(x):\n    """Double."""\n    # Fast.\n    return x * 2\n'
    reworded = 'def f(x):\n    """Twice\n    as much."""\n\n    return x * 2  # faster\n'
    assert substance(code) == substance(reworded)
    assert substance(code) != substance(code.replace("2", "3"))
    assert substance('x = "# no comment"\n') != substance('x = "# another"\n')


def test_code_is_read_in_several_threads():
    """Files of code are read by all threads at once, though the garbage collector calls back while one is parsed."""
    sources = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "engines/formats/onnx").glob("*.py"))]
    before, interval = gc.get_threshold(), sys.getswitchinterval()
    called = lambda phase, info: sum(range(50))  # noqa: E731
    gc.callbacks.append(called)
    gc.set_threshold(20)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(substance, sources * 4))
    finally:
        gc.set_threshold(*before)
        sys.setswitchinterval(interval)
        gc.callbacks.remove(called)
    assert found == [substance(source) for source in sources] * 4
