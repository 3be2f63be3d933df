"""Descriptions of models: what is sound is read as written, and every mistake is named with what is allowed."""

from __future__ import annotations

import pytest

from engines.errors import SpecError
from engines.formats.base import Job
from engines.formats.registry import variants
from engines.formats.savedmodel.recipe import build, recipe
from engines.model.bundled import bundled_names, find_model
from engines.model.selection import select
from engines.model.spec import BatchProfile
from engines.model.toml import load_model
from engines.variant import REFERENCE

GOOD = """
[source]
saved_model = "saved"
[[inputs]]
name = "left"
shape = ["batch", "height", 20, 3]
range = [-1.0, 1.0]
[[inputs]]
name = "age"
shape = ["batch"]
signature_name = "serving_age"
[[outputs]]
name = "scores"
shape = ["batch", 4]
kind = "logits"
[[outputs]]
name = "boxes"
shape = ["batch", 7, 4]
kind = "values"
[dimensions]
height = [24, 32]
[data]
dataset = "digits"
[precisions]
onnx = ["fp32"]
[batch]
profiles = [[1, 4, 8], [1, 64, 128]]
[calibration]
samples = 64
batch = 16
"""


def parsed(tmp_path, text):
    """Load a description from a file of this content."""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_model(path)


def test_several_inputs_and_outputs_of_any_rank_are_read(tmp_path):
    """Names, ranks, dynamic dimensions, ranges, profiles and precisions come out as the file says them."""
    spec = parsed(tmp_path, GOOD)
    assert spec.name == "mine"
    assert [i.name for i in spec.inputs] == ["left", "age"]
    assert spec.inputs[1].signature_name == "serving_age"
    assert spec.concrete_shape(spec.inputs[0], 5) == (5, 24, 20, 3)
    assert spec.concrete_shape(spec.inputs[1], 5) == (5,)
    assert spec.inputs[0].range == (-1.0, 1.0)
    assert [o.kind for o in spec.outputs] == ["logits", "values"]
    assert spec.profiles == (BatchProfile(1, 4, 8), BatchProfile(1, 64, 128))
    assert list(map(str, variants(spec))) == ["savedmodel-fp32", "onnx-fp32"]
    assert spec.saved_model == tmp_path / "saved"


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_models_load_and_start_with_the_reference(name):
    """Every bundled model is valid, named as its file is, and its first variant is the reference."""
    spec = load_model(find_model(name))
    assert spec.name == name
    assert variants(spec)[0] == REFERENCE


MISTAKES = {
    "an unknown key": ('[data]\ndataset = "digits"', '[data]\ndataset = "digits"\nflavour = 1', "data.flavour"),
    "a misspelt key": ("range = [-1.0", "ragne = [-1.0", "did you mean 'range'"),
    "an unknown table": ("[calibration]", "[callibration]", "did you mean 'calibration'"),
    "an unknown data set": ('dataset = "digits"', 'dataset = "imagenet"', "cifar10"),
    "an unknown precision": ('onnx = ["fp32"]', 'onnx = ["fp23"]', r"'fp23'; allowed: fp32 \| fp16 \| int8"),
    "an unknown format": ('onnx = ["fp32"]', 'openvino = ["fp32"]', "precisions.openvino"),
    "a precision twice": ('onnx = ["fp32"]', 'onnx = ["fp32", "fp32"]', "each precision once"),
    "a profile that is not ordered": ("[1, 4, 8]", "[1, 8, 4]", r"\[1, 8, 4\]; allowed: .*1 ≤ opt ≤ max"),
    "a profile from zero": ("[1, 4, 8]", "[0, 4, 8]", "the smallest batch is 1"),
    "a profile without single samples": ("[1, 4, 8]", "[2, 4, 8]", "every engine takes a single sample"),
    "a profile of two": ("[1, 4, 8]", "[1, 4]", "1, opt, max"),
    "a profile of text": ("[1, 4, 8]", '[1, "4", 8]', "1, opt, max"),
    "no profile": ("profiles = [[1, 4, 8], [1, 64, 128]]", "profiles = []", "1, opt, max"),
    "a shape without batch": ('shape = ["batch"]', "shape = [3]", '"batch" first'),
    "a negative size": ('"height", 20', '"height", -20', "sizes ≥ 1"),
    "a dynamic dimension without sizes": ("height = [24, 32]", "width = [24, 32]", "dimensions.height"),
    "an unknown dtype": ('name = "age"', 'name = "age"\ndtype = "float23"', "float32"),
    "an unknown kind": ('kind = "logits"', 'kind = "softmax"', r"probabilities \| logits \| values"),
    "class scores of one class": ('7, 4]\nkind = "values"', '7, 1]\nkind = "logits"', r'\["batch", …, classes ≥ 2\]'),
    "a name twice": ('name = "age"', 'name = "left"', "given twice"),
    "an inverted range": ("range = [-1.0, 1.0]", "range = [1.0, -1.0]", "low < high"),
    "a range that FP32 cannot span": ("range = [-1.0, 1.0]", "range = [-3e38, 3e38]", "as far apart as FP32 can tell"),
    "a name that no folder can have": (
        "[source]",
        f'name = "{"n" * 5000}"\n[source]',
        r"n… of 5000 characters'; allowed",
    ),
    "a boolean for a number": ("samples = 64", "samples = true", "samples ≥ 1"),
    "samples that fill no batch": ("samples = 64", "samples = 65", "multiple of calibration.batch"),
    "no source": ('saved_model = "saved"', "", "exactly one of saved_model and architecture"),
    "two sources": ('saved_model = "saved"', 'saved_model = "s"\narchitecture = "vgg"', "exactly one"),
    "an architecture for other inputs": (
        'saved_model = "saved"',
        'architecture = "vgg"\nwidth = 8\ndense = 8\n[training]\nepochs = 1\nbatch = 1\n'
        "learning_rate = 0.1\nseed = 1\naccuracy = 0.5",
        "one image input",
    ),
    "broken TOML": ("[source]", "[source", "not valid TOML"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_file_and_what_is_allowed(tmp_path, mistake):
    """One error each: it names the file, the key, the value found and what is allowed."""
    old, new, message = MISTAKES[mistake]
    assert old in GOOD
    with pytest.raises(SpecError, match=message) as caught:
        parsed(tmp_path, GOOD.replace(old, new, 1))
    assert "mine.toml" in str(caught.value)


def test_lists_nested_too_deeply_are_one_error(tmp_path):
    """What Python's parser gives up on is an error of the file, not of the suite."""
    path = tmp_path / "mine.toml"
    path.write_text(f"a = {'[' * 5000}{']' * 5000}", encoding="utf-8")
    with pytest.raises(SpecError, match=r"mine.toml: its lists or tables are nested too deeply"):
        load_model(path)


def test_a_folder_that_is_no_saved_model_is_not_copied(tmp_path):
    """What the path of a SavedModel leads to is looked at before it is hashed: it could be the whole disk."""
    spec = parsed(tmp_path, GOOD)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "other").write_text("something else", encoding="utf-8")
    job = Job(spec, REFERENCE, None, None, dict, dict)
    with pytest.raises(SpecError, match=r"source.saved_model is .*saved', without saved_model.pb or saved_model.pbtxt"):
        recipe(job)
    with pytest.raises(SpecError, match=r"without saved_model.pb"):
        build(job, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("table", ["inputs", "outputs", "source"])
def test_a_missing_table_is_named(tmp_path, table):
    """What every model needs is asked for by name."""
    lines, keep, kept = GOOD.splitlines(), True, []
    for line in lines:
        if line.startswith("["):
            keep = line.strip("[]") != table
        if keep:
            kept.append(line)
    with pytest.raises(SpecError, match=table):
        parsed(tmp_path, "\n".join(kept))


def test_an_unknown_model_is_answered_with_those_there_are():
    """A misspelt name gets the nearest one and the list; a missing file is named."""
    with pytest.raises(SpecError, match="did you mean 'digits_vgg'"):
        find_model("digit_vgg")
    with pytest.raises(SpecError, match="no such file"):
        find_model("nowhere/mine.toml")


def test_two_models_of_one_name_are_refused(tmp_path):
    """Artifacts are stored by the model's name, so two of the same name would take turns in one folder."""
    spec = parsed(tmp_path, GOOD)
    with pytest.raises(SpecError, match="taken by"):
        select([spec, spec])
