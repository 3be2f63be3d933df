"""A stranger's format: one module and an entry point, as docs/extending.md has them, and no file of the project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.formats.savedmodel.packages import tensorflow
from tests.meta.apart import environment_apart

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "extending.md"


def block(language):
    """Content of the page's first block of code in a language."""
    return re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Folder with the page's module, installed as far as entry points tell."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "numpy_engine.py").write_text(block("python"), encoding="utf-8")
    group, entry = block("toml").strip().splitlines()
    group = re.search(r'"(.*)"', group)[1]
    metadata = folder / "numpy_engine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy-engine\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder with a small SavedModel of dense layers, and samples of it."""
    tf, folder, generator = tensorflow(), tmp_path_factory.mktemp("model"), np.random.default_rng(5)
    first, second = (generator.normal(size=size).astype(np.float32) for size in ((6, 16), (16, 4)))
    module = tf.Module()
    module.f = tf.function(lambda x: {"scores": tf.nn.softmax(tf.nn.relu(x @ first) @ second)})
    signature = module.f.get_concrete_function(x=tf.TensorSpec((None, 6), tf.float32, "x"))
    tf.saved_model.save(module, str(folder / "dense"), signatures={"serving_default": signature})
    labels = generator.integers(0, 4, 150)
    np.savez(folder / "mine.npz", x=generator.random((150, 6), np.float32), labels=labels)
    return folder


@pytest.fixture(scope="module")
def suite(packages, model):
    """Run of the suite on the small model, with the stranger's package installed."""

    def call(*words):
        environment = environment_apart()
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--ignore=tests/meta"]
        command += [f"--saved-model={model / 'dense'}", f"--samples={model / 'mine.npz'}"]
        command += [f"--artifacts={model / 'build'}", *words]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return call


@pytest.fixture(scope="module")
def first(suite, model):
    """The first run, which is required to test the format, times it and writes a report."""
    words = ["-m", "consistency or batching or benchmark", "-k", "numpy", "--require=numpy-*"]
    return suite(*words, f"--report={model / 'report'}")


def test_its_variants_are_listed_built_judged_batched_and_timed(first, model):
    """The header names its engine, and its row of the summary has every figure, a speed and a verdict."""
    assert first.returncode == pytest.ExitCode.OK, first.stdout + first.stderr
    assert "engine: numpy, ONNX's reference evaluator" in first.stdout
    assert "dense: judged by rows of the tables alone: numpy-fp32 on samples: " in first.stdout
    lines = (re.split(r" {2,}", line) for line in first.stdout.splitlines())
    headings, row = (line for line in lines if line[0] in {"variant", "dense-numpy-fp32"})
    found = dict(zip(headings, row, strict=True))
    assert found.pop("verdict") == "passed"
    assert {name for name, cell in found.items() if cell == "-"} == {"accuracy"}
    assert (model / "build" / "dense" / "numpy-fp32" / "model.onnx").is_file()


def test_it_is_in_the_report(first, model):
    """The results have its variant, artifact, comparisons and benchmarks, and what runs it."""
    document = json.loads((model / "report" / "conformance.json").read_text(encoding="utf-8"))
    for section in ("variants", "artifacts", "comparisons", "batching", "benchmarks"):
        assert "numpy-fp32" in {entry["variant"] for entry in document[section]}, section
    assert "numpy" in {engine["format"] for engine in document["environment"]["engines"]}


def test_a_file_of_it_is_brought_and_compared_with_the_baseline(first, suite, model):
    """Its own option takes a file, which is judged in place of what is built; an earlier run is compared with."""
    file = model / "build" / "dense" / "onnx-fp32" / "model.onnx"
    earlier = model / "report" / "conformance.json"
    done = suite("-m", "consistency", "-k", "numpy", f"--numpy={file}", f"--baseline={earlier}")
    assert f"brought: {file}, judged as numpy-fp32" in done.stdout, done.stdout + done.stderr
    assert re.search(r"^dense-numpy-fp32 .* passed$", done.stdout, re.MULTILINE)
    assert f"compared with {earlier}" in done.stdout
    assert "dense-numpy-fp32" in done.stdout.split("compared with")[1]


def test_adding_it_touched_no_file(first):
    """Nothing of the project knows the format's name: no table has to be told."""
    listed = subprocess.run(
        ["git", "grep", "-l", "numpy_engine"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    assert set(listed) <= {"docs/extending.md", "tests/meta/test_extending.py"}
