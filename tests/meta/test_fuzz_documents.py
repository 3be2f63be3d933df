"""Whatever stands in a description, a list of known failures, a run's results or an option: a line, or it is sound."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given

from conformance.floors import FloorError
from conformance.known_failures import KnownFailureError, load
from conformance.tolerances import ToleranceError
from engines.errors import EngineError
from engines.model import selection
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.store import Store
from fixtures.chain import _check_judgement
from tests.meta.fuzzing import FUZZED, edited, mutated, refusal, toml_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]

OWN = """
name = "mine"
description = "of somebody"

[source]
saved_model = "saved"
signature = "serving_default"

[[inputs]]
name = "ids"
shape = ["batch", "length"]
dtype = "int32"
range = [0, 99]

[[inputs]]
name = "x"
shape = ["batch", 4]
range = [-1.0, 1.0]

[[outputs]]
name = "y"
shape = ["batch", "length", 3]
kind = "scores"
threshold = 0.4
why = "it was said"

[[outputs]]
name = "z"
shape = ["batch"]
dtype = "int64"
kind = "integers"

[dimensions]
length = [7, 11]

[precisions]
onnx = ["fp32", "int8"]
tflite = ["fp32"]

[batch]
profiles = [[1, 4, 8], [1, 16, 32]]

[calibration]
samples = 64
batch = 16

[tolerances.onnx-int8]
why = "it was measured"
batching = [2e-6, 1e-6]

[tolerances.onnx-int8.samples]
max = [0.02, 0.01]
mean = [0.002, 0.001]

[[floors]]
fast = "onnx-int8"
fast_batch = 32
slow = "onnx-fp32"
slow_batch = 32
ratio = 1.1
seen = 1.5
why = "it was timed"
cpu = ["avx512_vnni"]
"""

KNOWN = """
[[known_failures]]
test = "tests/test_consistency.py::test_samples[digits_vgg-onnx-int8]"
reason = "a kernel adds in another order"
link = "https://example.org/1"
model = "digits_vgg"
fails = "conversion"
versions = ["onnxruntime>=1.20,<2", "python<3.15"]
device = "NVIDIA *"

[[known_failures]]
test = "tests/test_batching.py::test_single"
reason = "it is known"
link = "https://example.org/2"
"""

BUNDLED = {name: find_model(name).read_text() for name in ("digits_vgg", "cifar10_vgg")}
MODELS = [*BUNDLED.values(), OWN]
DOCUMENTS = [tomllib.loads(text) for text in MODELS]
JUDGES = (EngineError, ToleranceError, FloorError)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def taken(path, store):
    """Do with a description what a run does before its first test, on samples that are made where there are none."""
    for chain in selection.chains(Store(store), models=[str(path)]).values():
        _check_judgement(chain)


def test_the_sound_descriptions_are_taken(folder):
    """What is mutated below is sound, as it stands and as it is written anew: refusals are the mutations'."""
    for number, (text, document) in enumerate(zip(MODELS, DOCUMENTS, strict=True)):
        for written in (text, toml_of(document)):
            path = folder / f"sound{number}.toml"
            path.write_text(written)
            spec = load_model(path)
            assert spec.inputs
    taken(path, folder / "store")
    (folder / "known.toml").write_text(KNOWN)
    assert len(load(folder / "known.toml", ROOT)) == 2


@FUZZED
@given(content=mutated([text.encode() for text in MODELS]))
def test_a_damaged_description_is_a_line(folder, content):
    """Whatever happened to its bytes, a description is taken or refused in one line with its name."""
    path = folder / "model.toml"
    path.write_bytes(content)
    refusal(JUDGES, taken, path, folder / "store", named=path, folders=[folder])


@FUZZED
@given(document=edited(DOCUMENTS))
def test_a_description_of_wrong_values_is_a_line(folder, document):
    """Values of any type, size and depth, keys that are missing, new or misspelt: taken, or one line with its name."""
    path = folder / "model.toml"
    path.write_text(toml_of(document))
    refusal(JUDGES, taken, path, folder / "store", named=path, folders=[folder])


@FUZZED
@given(content=mutated([KNOWN.encode()]) | edited([tomllib.loads(KNOWN)]))
def test_a_wrong_list_of_known_failures_is_a_line(folder, content):
    """Damaged bytes and wrong values alike are one line with the file's name; nothing is looked for elsewhere."""
    path = folder / "known_failures.toml"
    path.write_bytes(content if isinstance(content, bytes) else toml_of(content).encode())
    installed = {"python": "3.11.1", "onnxruntime": "1.20.1", "numpy": None}

    def asked():
        for entry in load(path, ROOT):
            entry.not_here(installed, lambda: "NVIDIA H200")

    refusal(KnownFailureError, asked, named=path, folders=[folder])


@pytest.mark.parametrize(
    "text, said",
    [
        ("floors = [1]", "floors is [1]; allowed: one [[floors]] table each"),
        ('"a\\nb" = 1', "a key is 'a\\nb'; allowed: at most 100 printable characters"),
        (f"dense = 0x{'f' * 5000}", "an integer has 20000 bits; allowed: at most 64, as TOML has them"),
        (f"dense = {'9' * 5000}", "not valid TOML: Exceeds the limit"),
        (
            f"dense = {'[' * 60}{']' * 60}",
            "its lists or tables are nested too deeply; allowed: what docs/models.md shows",
        ),
        (f"name = {[1] * 10_000}", "name is [1, 1, 1, 1, 1, 1, 1, 1, ...]; allowed: a short name"),
    ],
    ids=["floors", "key", "bits", "digits", "depth", "list"],
)
def test_what_was_found_here_stays_a_line(folder, text, said):
    """What once ended in a trace of Python, or in a line of thousands of characters."""
    path = folder / "model.toml"
    path.write_text(
        text
        + "\n"
        + OWN.replace('name = "mine"', "" if "name" in text else 'name = "mine"').replace("[[floors]]", "[x]")
    )
    assert said in refusal(JUDGES, taken, path, folder / "store", named=path, folders=[folder])


@pytest.mark.parametrize("key", ["saved_model", "onnx"])
def test_no_file_has_a_name_of_thousands_of_characters(folder, key):
    """A system raises for such a name, where one that nothing has is simply not there."""
    path = folder / "model.toml"
    path.write_text(OWN.replace('saved_model = "saved"\nsignature = "serving_default"', f'{key} = "{"a" * 5000}"'))
    text = refusal(JUDGES, taken, path, folder / "store", named=path, folders=[folder])
    assert "whose parts have at most 255 bytes" in text


def test_samples_that_no_memory_holds_are_not_made(folder):
    """A description may declare what it likes; how much of that can be held is looked at before any is made."""
    path = folder / "model.toml"
    path.write_text(OWN.replace('["batch", 4]', '["batch", 2147483647, 1000]'))
    text = refusal(JUDGES, taken, path, folder / "store", named=path, folders=[folder])
    assert "164 samples of it take 1,408,749.3 GB, its input 'x' of shape (164, 2147483647, 1000) most" in text
    path.write_text(OWN.replace("[7, 11]", "[7, 2147483647]"))
    text = refusal(JUDGES, taken, path, folder / "store", named=path, folders=[folder])
    assert "100 samples of it take 859.0 GB, its input 'ids' of shape (100, 2147483647) most" in text
