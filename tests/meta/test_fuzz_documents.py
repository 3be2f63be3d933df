"""Whatever stands in a description, a list of known failures, a run's results or an option: a line, or it is sound."""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.floors import FloorError
from conformance.history.compare import compare_results
from conformance.history.files import HistoryError, read_results
from conformance.history.show import WRITERS as DIFFERENCE_WRITERS
from conformance.known_failures import KnownFailureError, load
from conformance.merge import WRITERS, merge
from conformance.tolerances import ToleranceError
from engines.errors import EngineError
from engines.formats import registry
from engines.formats.served import address
from engines.model import options, selection
from engines.model.bundled import find_model
from engines.model.toml import load_model
from engines.store import ARTIFACT_NAME, Store
from fixtures.chain import _check_judgement
from tests.meta.fuzzing import FUZZED, LONGEST, WORDS, edited, harmless, mutated, refusal, toml_of
from trial.facts import format_facts

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


def test_a_folder_that_is_no_saved_model_is_looked_at_and_not_copied(folder):
    """What a description points at may be a whole disk: without a SavedModel's own file nothing of it is read."""
    (folder / "etc" / "deep").mkdir(parents=True)
    (folder / "etc" / "deep" / "secret").write_text("secret")
    (folder / "a" / "b").mkdir(parents=True)
    path = folder / "a" / "b" / "model.toml"
    path.write_text(OWN.replace('saved_model = "saved"', 'saved_model = "../../etc"'))
    (chain,) = selection.chains(Store(folder / "own store"), models=[str(path)]).values()
    text = refusal(EngineError, chain.artifact, chain.spec.reference, named=path, folders=[])
    assert text.endswith("etc', without saved_model.pb or saved_model.pbtxt")
    assert not (folder / "own store").exists()


def test_samples_that_no_memory_holds_are_not_made(folder):
    """A description may declare what it likes; how much of that can be held is looked at before any is made."""
    path = folder / "model.toml"
    path.write_text(OWN.replace('["batch", 4]', '["batch", 2147483647, 1000]'))
    text = refusal(JUDGES, taken, path, folder / "store", named=path, folders=[folder])
    assert "164 samples of it take 1,408,749.3 GB, its input 'x' of shape (164, 2147483647, 1000) most" in text
    path.write_text(OWN.replace("[7, 11]", "[7, 2147483647]"))
    text = refusal(JUDGES, taken, path, folder / "store", named=path, folders=[folder])
    assert "100 samples of it take 859.0 GB, its input 'ids' of shape (100, 2147483647) most" in text


# Results of runs.

RUNS = sorted((ROOT / "docs" / "runs").glob("*_vgg-*.json.gz"))
RESULTS = [json.loads(gzip.decompress(path.read_bytes())) for path in RUNS]


def short(document):
    """Results with the first few of each list: what is the same a hundred times is one place to edit."""
    if isinstance(document, dict):
        return {key: short(value) for key, value in document.items()}
    return [short(item) for item in document[:3]] if isinstance(document, list) else document


SHORT = [short(document) for document in RESULTS]


def dumped(document):
    """A document as JSON, in which any number may stand; what JSON has no form for is a text."""
    # Python writes no integer of more digits than it reads.
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(document, default=str)
    finally:
        sys.set_int_max_str_digits(4300)


@FUZZED
@given(content=mutated([json.dumps(document).encode() for document in SHORT]) | edited(SHORT).map(dumped))
def test_wrong_results_are_a_line(folder, content):
    """Results that are read are compared, merged and written in every form; others are one line with the file's name.

    So are two that cannot be compared, where the line names one of the two.
    """
    path, other = folder / "conformance.json", folder / "other.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    document = None

    def read():
        nonlocal document
        document = read_results(path)

    if refusal(HistoryError, read, named=path, folders=[folder]):
        return
    for base in SHORT:
        other.write_text(json.dumps(base))

        def compared(base=base):
            for old, new in ((document, base), (base, document)):
                for partial in (False, True):
                    found = compare_results([old], [new], partial=partial, formats=format_facts())
                    assert all(isinstance(write(found), str) for write in DIFFERENCE_WRITERS.values())

        def merged(base=base):
            matrix = merge({str(path): document, str(other): read_results(other)})
            assert all(isinstance(write(matrix), str) for write in WRITERS.values())

        refusal(HistoryError, compared, folders=[folder])
        refusal(HistoryError, merged, folders=[folder])


# Options.

URLS = [
    b"grpc://127.0.0.1:8001/digits_vgg:2?precision=fp16",
    b"https://[::1]:8000/mine",
    b"http://host.example:80/a.b+c-d:10",
]


@FUZZED
@given(texts=st.lists(mutated(URLS).map(lambda b: b.decode("utf-8", "replace")) | WORDS, min_size=1, max_size=3))
def test_a_wrong_address_is_a_line(texts):
    """What --served takes is an address whose names can be those of files; all else is a line that begins with it."""

    def asked():
        chosen = registry.settings({"served": texts})["served"]
        for name, found in address.named(chosen).items():
            assert ARTIFACT_NAME.fullmatch(name)
            assert len(name.encode()) < 255
            assert 0 <= found.port < 2**16
            assert found.server.isprintable()

    refusal_of_option(asked, texts)


def refusal_of_option(asked, texts):
    """Error of an option, in which the texts that were given stand: what is not printable may be theirs alone."""
    try:
        with harmless():
            asked()
    except EngineError as error:
        rest = str(error)
        for text in sorted(texts, key=len, reverse=True):
            rest = rest.replace(text, "") if text else rest
        assert rest.isprintable(), repr(rest)
        assert len(rest) < LONGEST


NAMES = ["onnx=fp32,int8", "tflite=fp16", "savedmodel=fp32", "tensorrt=fp32", "dense_1=logits", "dense_1=values", "="]
OPTIONS = st.lists(
    st.sampled_from(NAMES) | mutated([n.encode() for n in NAMES]).map(lambda b: b.decode("utf-8", "replace")) | WORDS,
    max_size=3,
)


@FUZZED
@given(precisions=OPTIONS, kinds=OPTIONS, name=WORDS)
def test_wrong_options_of_a_model_are_a_line(precisions, kinds, name):
    """--precisions, --kind and --model are taken, or refused in one line."""
    spec = load_model(find_model("digits_vgg"))
    refusal_of_option(lambda: options.with_precisions(spec, precisions), [" ".join(" ".join(precisions).split())])
    refusal_of_option(lambda: options.with_kinds(spec, kinds), kinds)
    refusal_of_option(lambda: find_model(name), [name])
    refusal_of_option(lambda: find_model(f"{name}.toml"), [name])


@FUZZED
@given(name=st.sampled_from(sorted(registry.options())), values=st.lists(WORDS | st.integers(-2, 99).map(str)))
def test_wrong_options_of_a_format_are_a_line(name, values):
    """Whatever a format's own option is given, it is taken, or refused in one line."""
    refusal_of_option(lambda: registry.settings({name: values}), values)


@pytest.mark.parametrize(
    "edit, said",
    [
        (lambda d: d["variants"][0]["checks"].update({"a\nb": ""}), r'variants[0].checks.a\nb is ""; allowed: object'),
        (lambda d: d.update(schema_version="a" * 5000), "schema_version is 'aaa"),
        (lambda d: d.update(seconds=float("inf")), "is no JSON (Infinity is no number in JSON)"),
        (lambda d: d.update(seconds=10**400), ""),
    ],
    ids=["key", "version", "infinity", "digits"],
)
def test_what_was_found_in_results_stays_a_line(folder, edit, said):
    """What once was told in several lines, or in a line of thousands of characters."""
    document, path = json.loads(json.dumps(SHORT[0])), folder / "conformance.json"
    edit(document)
    path.write_text(json.dumps(document))
    text = refusal(HistoryError, read_results, path, named=path, folders=[folder])
    assert said in text if said else text is None


def test_a_number_that_is_read_as_infinite_is_none(folder):
    """JSON has no infinity, and a number of many digits is not to become one."""
    path = folder / "conformance.json"
    path.write_text(json.dumps({**SHORT[0], "seconds": 1.5}).replace('"seconds": 1.5', '"seconds": 1e999'))
    text = refusal(HistoryError, read_results, path, named=path, folders=[folder])
    assert "is no JSON (1e999 is beyond all numbers of 64 bits)" in text


@pytest.mark.parametrize(
    "text, said",
    [
        (f"grpc://h:1/{'m' * 5000}", "allowed: at most 100 letters, digits"),
        ("grpc://h:1/m:٣", "its version is '٣'; allowed: a whole number of at most 19 digits"),
        ("grpc://a b:1/m", "its host is 'a b'; allowed: a name or number"),
    ],
    ids=["model", "version", "host"],
)
def test_names_of_a_server_are_those_of_files(text, said):
    """A model's name and version name what tests are about, and files of those."""
    assert said in address.refusal(text)
    assert len(address.refusal(text)) < LONGEST
