"""Whatever stands in an ONNX or TFLite file that somebody gives: it is taken, or refused in one line."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.chain import Chain
from engines.errors import ConversionError, EngineError
from engines.formats.onnx.constants import stored_type
from engines.formats.tflite import recipe as tflite_recipe
from engines.formats.tflite import tried
from engines.model.brought import brought_engine
from engines.model.derive import derive_onnx
from engines.store import Store
from engines.variant import Variant
from tests.meta.fuzzed_models import edited_onnx, edited_tflite
from tests.meta.fuzzing import FUZZED, mutated, refusal

FLOAT = 1  # of TensorProto.DataType
SEEDS = st.randoms(use_true_random=False, note_method_calls=False)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def onnx_file(request, digits):
    return digits.file(Variant("onnx", request.param)).read_bytes()


@pytest.fixture(scope="module", params=["fp32", "int8"])
def tflite_file(request, digits):
    return digits.file(Variant("tflite", request.param)).read_bytes()


def told(spec, format_, path, folder):
    """Try a file as --onnx and --tflite do; its refusal begins with the option and the path."""
    # The copy that is run lies where the system has such files.
    text = refusal(
        EngineError, brought_engine, format_, path, spec, named=path, folders=[folder, tempfile.gettempdir()]
    )
    assert text is None or text.startswith(f"--{format_} {path}: ")
    return text


@FUZZED
@given(random=SEEDS, data=st.data())
def test_a_wrong_onnx_is_a_line(digits, onnx_file, folder, random, data):
    """Edits of any part of the graph, and damaged bytes: no library ends, and each refusal is a line with the path."""
    path = folder / "mine.onnx"
    content = edited_onnx(onnx_file, random) if random.random() < 0.8 else data.draw(mutated([onnx_file]))
    path.write_bytes(content)
    told(digits.spec, "onnx", path, folder)


@FUZZED
@given(random=SEEDS)
def test_a_wrong_onnx_without_a_description_is_a_line(onnx_file, folder, random):
    """What a file declares of its inputs is looked at before anything of that size is made."""
    path = folder / "alone.onnx"
    path.write_bytes(edited_onnx(onnx_file, random))
    refusal(EngineError, derive_onnx, path, None, named=path, folders=[folder])


@settings(FUZZED, max_examples=max(5, settings.default.max_examples // 20))
@given(random=SEEDS, data=st.data())
def test_a_wrong_tflite_is_a_line(digits, tflite_file, folder, random, data):
    """Edits of any table, and damaged bytes: LiteRT may end the process that tries a file, and ours goes on."""
    path = folder / "mine.tflite"
    content = edited_tflite(tflite_file, random) if random.random() < 0.8 else data.draw(mutated([tflite_file]))
    if content is not None:
        path.write_bytes(content)
        told(digits.spec, "tflite", path, folder)


@pytest.fixture
def ends(tmp_path, monkeypatch):
    """Let the process that tries a file end itself, by a signal or with an exit code."""

    def by(command):
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{command}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(tried.sys, "executable", str(script))

    return by


def test_a_library_that_ends_its_process_is_a_line(digits, tmp_path, ends):
    """The process that tried the file is gone, and its signal is named; nothing else of the run is."""
    path = tmp_path / "mine.tflite"
    path.write_bytes(b"any")
    ends("kill -SEGV $$")
    text = refusal(EngineError, brought_engine, "tflite", path, digits.spec, named=path, folders=[tmp_path])
    assert text == (
        f"--tflite {path}: LiteRT ends the process that loads and runs it (SIGSEGV): the file is damaged, or LiteRT "
        "has a fault; expected one that LiteRT runs: convert it again"
    )


def test_an_int8_file_that_ends_the_process_is_not_built(digits, ends):
    """A file of the suite's own is run on samples in another process: ours goes on, and the signal is told."""
    path = digits.file(Variant("tflite", "int8"))
    samples = {name: rows[:2] for name, rows in digits.samples.inputs.items()}
    tflite_recipe.check_it_runs(path, digits.spec, samples)
    ends("kill -ABRT $$")
    with pytest.raises(ConversionError, match=r"LiteRT ends the process .* \(SIGABRT\): .* leave int8 out"):
        tflite_recipe.check_it_runs(path, digits.spec, samples)


def test_a_brought_file_that_ends_the_process_on_samples_is_a_line(digits, tmp_path, ends):
    """A file made elsewhere is run on the model's samples in another process, before any test runs it in this one."""
    path = digits.file(Variant("tflite", "fp32"))
    chain = Chain(digits.spec, digits.dataset, Store(tmp_path / "build"), {"tflite": path})
    ends("kill -ABRT $$")
    with pytest.raises(ConversionError, match=r"model\.tflite: LiteRT ends the process .* samples \(SIGABRT\): LiteRT"):
        chain.file(Variant("tflite", "fp32"))
    assert chain.brought_file(Variant("tflite", "fp32")) == path


def test_an_int8_file_that_cannot_be_run_on_samples_is_not_built(digits):
    """What LiteRT or the runner says of samples is told as the conversion's error."""
    path = digits.file(Variant("tflite", "int8"))
    with pytest.raises(ConversionError, match=r"LiteRT cannot run its INT8 file .*: tflite-int8 of digits_vgg: given"):
        tflite_recipe.check_it_runs(path, digits.spec, {"other": np.zeros((2, 1), np.float32)})


def test_a_process_that_fails_otherwise_is_no_verdict_on_the_file(digits, tmp_path, ends):
    """Where the process could not even start its work, that is no refusal: it is told as what it is."""
    path = tmp_path / "mine.tflite"
    path.write_bytes(b"any")
    ends("echo no module >&2; exit 1")
    with pytest.raises(RuntimeError, match="could not be tried: no module"):
        brought_engine("tflite", path, digits.spec)


# What was found, by what it was found in.


def saved(path, model):
    import onnx

    onnx.save(model, str(path))
    return path


@pytest.fixture
def sound(digits):
    import onnx

    return onnx.load(str(digits.file(Variant("onnx", "fp32"))))


def test_a_constant_of_another_size_than_it_says_is_a_line(digits, sound, tmp_path):
    """onnx.checker counts no values of a bias."""
    bias = next(t for t in sound.graph.initializer if len(t.dims) == 1 and t.data_type == FLOAT)
    bias.raw_data = bytes(bias.raw_data) * 2
    path = saved(tmp_path / "mine.onnx", sound)
    text = told(digits.spec, "onnx", path, tmp_path)
    assert f"its constant {bias.name!r} cannot be read: cannot reshape array" in text
    text = refusal(EngineError, derive_onnx, path, None, named=path, folders=[tmp_path])
    assert "not a sound ONNX file" in text or f"its constant {bias.name!r} cannot be read" in text


def test_a_tensor_of_no_type_has_words():
    """ONNX has sequences and maps, too, which are of no type that a tensor has."""
    assert [stored_type(number) for number in (FLOAT, 10, 0, 999)] == ["float32", "float16", "no tensor", "no tensor"]


@pytest.mark.parametrize("size", [2**62, -1])
def test_a_size_that_no_memory_holds_is_a_line(tmp_path, size):
    """An input's declared size is looked at before samples of it are made."""
    from onnx import TensorProto, helper

    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", shapes[:1], shapes[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = saved(tmp_path / "mine.onnx", model)
    text = refusal(EngineError, derive_onnx, path, None, named=path, folders=[tmp_path])
    assert f"its input 'x' is float32 (N, {size}); expected sizes ≥ 1, of which a few samples fit" in text


# Files that nobody vouches for.


@pytest.mark.parametrize("place", ["absolute", "above", "link"])
def test_weights_outside_of_the_models_folder_are_not_read(digits, sound, tmp_path, place):
    """External data is beside its model, or below: a file that names another one is refused, read from neither."""
    import onnx

    inside = tmp_path / "model"
    inside.mkdir()
    onnx.save(sound, str(inside / "mine.onnx"), save_as_external_data=True, location="data", size_threshold=0)
    (inside / "data").rename(tmp_path / "secret")
    location = {"absolute": str(tmp_path / "secret"), "above": "../secret", "link": "data"}[place]
    if place == "link":
        (inside / "data").symlink_to(tmp_path / "secret")
    model = onnx.load(str(inside / "mine.onnx"), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path = saved(inside / "mine.onnx", model)
    assert "not a sound ONNX file" in told(digits.spec, "onnx", path, tmp_path)
    text = refusal(EngineError, derive_onnx, path, None, named=path, folders=[tmp_path])
    assert "not a sound ONNX file" in text


def test_an_operator_of_ones_own_is_a_line(digits, sound, tmp_path):
    """No library is loaded that a file asks for: an operator that ONNX Runtime has not is refused by its name."""
    import onnx

    node = next(n for n in sound.graph.node if n.op_type == "Relu")
    node.op_type, node.domain = "Mine", "com.mine"
    sound.opset_import.append(onnx.helper.make_opsetid("com.mine", 1))
    path = saved(tmp_path / "mine.onnx", sound)
    assert "com.mine" in told(digits.spec, "onnx", path, tmp_path)


def test_a_custom_operator_of_tflite_is_a_line(digits, tmp_path):
    """LiteRT has the operators of its own build, and loads no others."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    content = bytearray(digits.file(Variant("tflite", "fp32")).read_bytes())
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    softmax = schema.BuiltinOperator.SOFTMAX
    (code,) = [c for c in model.operatorCodes if max(c.builtinCode, c.deprecatedBuiltinCode) == softmax]
    code.builtinCode, code.customCode = schema.BuiltinOperator.CUSTOM, b"Mine"
    code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "mine.tflite"
    path.write_bytes(bytes(builder.Output()))
    assert "Mine" in told(digits.spec, "tflite", path, tmp_path)
