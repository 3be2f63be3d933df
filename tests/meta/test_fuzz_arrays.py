"""Whatever stands in arrays, tables of numbers and plans that somebody gives: one line, or it is what was written."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import DataError, RunnerError
from engines.formats.tensorrt import header
from engines.model import exchange
from engines.model.brought import read_samples
from engines.model.bundled import find_model
from engines.model.shards import read_shards
from engines.model.toml import load_model
from tests.meta.fuzzing import FUZZED, NUMBERS, TEXTS, mutated, refusal

DIGITS = load_model(find_model("digits_vgg"))

LENGTHS = """
[source]
saved_model = "saved"
[[inputs]]
name = "ids"
shape = ["batch", "length"]
dtype = "int32"
range = [0, 99]
[[outputs]]
name = "y"
shape = ["batch", 3]
kind = "probabilities"
[dimensions]
length = [7]
"""


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def lengths(folder):
    """A model whose input has a size that is not fixed."""
    path = folder / "lengths.toml"
    path.write_text(LENGTHS)
    return load_model(path)


def arrays(count=3):
    generator = np.random.default_rng(0)
    return {
        "input_1": generator.random((count, 10, 8, 1), dtype=np.float32),
        "labels": np.arange(count),
    }


def saved(save=np.savez, **more):
    content = io.BytesIO()
    save(content, **arrays(), **more)
    return content.getvalue()


SOUND = [saved(), saved(np.savez_compressed)]

DESCRS = ["<f4", ">f4", "<f8", "<i4", "|b1", "|O", "<U5", "|S0", "|V0", "<M8[s]", "<c8", "|u1", [("a", "<f4")]]
SIZES = st.sampled_from([*NUMBERS, -1, 3, 7, 8, 10, 10**30])
SHAPES = st.just((3, 10, 8, 1)) | st.just((3, 7)) | st.just((3,)) | st.lists(SIZES, max_size=5).map(tuple)
MEMBERS = ["input_1", "labels", "ids", "/etc/x", "../../x", "a/../x", "x\n", "", "ä", "a" * 200]
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@st.composite
def members(draw):
    """An archive whose members say of themselves what they like, in a zip that is sound or was damaged."""
    content = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", draw(st.sampled_from(METHODS))) as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for _ in range(draw(st.integers(1, 3))):
            name = draw(st.sampled_from(MEMBERS)) + draw(st.sampled_from([".npy", ".npy", ".npy", ""]))
            archive.writestr(name or "x", draw(member()))
    whole = content.getvalue()
    return draw(st.just(whole) | mutated([whole]))


@st.composite
def member(draw):
    """An array's header with any dtype and shape, and bytes behind it; or a header that is no such thing."""
    version = draw(st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x00\x00", b"\xff\xff"]))
    shape = draw(SHAPES)
    said = {"descr": draw(st.sampled_from(DESCRS)), "fortran_order": draw(st.booleans()), "shape": shape}
    text = draw(
        st.just(repr(said))
        | st.sampled_from(["{", "(" * 3000, "[" * 90 + "]" * 90, "__import__('os')", "{'descr': '<f4'}", "1L", *TEXTS])
        | mutated([repr(said).encode()]).map(lambda b: b.decode("latin1"))
    ).encode("utf-8" if version == b"\x03\x00" else "latin1", "replace")
    text = text.ljust(118) + b"\n"
    width = 2 if version == b"\x01\x00" else 4
    size = draw(st.just(len(text)) | st.sampled_from(NUMBERS)) % 256**width
    values = draw(st.sampled_from([b"", bytes(4), bytes(960), np.ones(240, "<f4").tobytes()]))
    return b"\x93NUMPY" + version + size.to_bytes(width, "little") + text + values


@FUZZED
@given(content=mutated(SOUND) | members())
def test_a_wrong_archive_is_a_line(folder, lengths, content):
    """A file of samples is taken with the values that it was written with, or refused in one line with its name."""
    path = folder / "mine.npz"
    path.write_bytes(content)
    for spec in (DIGITS, lengths):
        read = []

        def samples(spec=spec, read=read):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy's, of headers that Python 2 wrote: they are no errors of a run
                read.append(read_samples(path, spec).samples)

        refusal(DataError, samples, named=path, folders=[folder])
        for found in read:
            item = spec.inputs[0]
            assert found.inputs[item.name].dtype == item.dtype
            assert found.inputs[item.name].shape == spec.concrete_shape(item, len(found), 0) or spec is lengths
            assert np.isfinite(found.inputs[item.name]).all()


@FUZZED
@given(content=mutated(SOUND) | members(), suffix=st.sampled_from([".npz", ".npy"]), number=st.integers(0, 3))
def test_a_wrong_shard_is_a_line(folder, content, suffix, number):
    """A folder of shards is read by their headers, and each is read when it is its turn: one line with its name."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        shards = Path(name)
        (shards / f"part-{number}{suffix}").write_bytes(content)
        if suffix == ".npz":
            (shards / "part-1.npz").write_bytes(SOUND[0])

        def read():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = read_shards(shards, DIGITS)
                for start in range(found.test_count if found.test_count < 100 else 0):
                    found.part(start, start + 1)

        refusal(DataError, read, named=shards, folders=[folder])


def tarred(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, one in files:
            info = tarfile.TarInfo(name)
            info.size = len(one)
            archive.addfile(info, io.BytesIO(one))
    return content.getvalue()


def one_by_one():
    """Files of each sample, as WebDataset lays them out."""
    found = arrays()
    for row, (array, label) in enumerate(zip(found["input_1"], found["labels"], strict=True)):
        content = io.BytesIO()
        np.save(content, array)
        yield from ((f"{row}.input_1.npy", content.getvalue()), (f"{row}.cls", str(label).encode()))


SUFFIXES = st.sampled_from([".input_1.npy", ".npy", ".cls", ".labels.npy", ".x", "", "/", ".a/b.npy"])


@FUZZED
@given(
    content=mutated([tarred(one_by_one())])
    | st.lists(
        st.tuples(st.sampled_from(MEMBERS), SUFFIXES, member() | st.sampled_from([b"", b"3", b"-1"])), max_size=4
    ).map(lambda files: tarred((name + suffix, content) for name, suffix, content in files))
)
def test_a_wrong_tar_is_a_line(folder, content):
    """A tar is looked through by its headers, which may say anything, as the arrays in it may."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        (Path(name) / "0.tar").write_bytes(content)

        def read():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = read_shards(Path(name), DIGITS)
                found.part(0, found.test_count)

        refusal(DataError, read, named=Path(name), folders=[folder])


@FUZZED
@given(content=member(), named=st.sampled_from(["input_1", "labels"]))
def test_a_wrong_npy_is_a_line(folder, content, named):
    """A bare array among shards is looked at by its header, which may say anything."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / f"{named}.npy"
        path.write_bytes(content)

        def read():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = read_shards(Path(name), DIGITS)
                found.part(0, found.test_count)

        refusal(DataError, read, named=path.parent, folders=[folder])


# Tables.


def written(write, *args):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.csv"
        write(path, *args)
        return path.read_bytes()


SAMPLES = written(exchange.write_samples, np.linspace(-2, 2, 15, dtype=np.float32).reshape(5, 3) ** 9)
SCORES = np.random.default_rng(0).random((5, 3), dtype=np.float32)
ANSWERS = exchange.Results(np.arange(5), SCORES.argmax(1), SCORES.max(1), SCORES)
RESULTS = written(exchange.write_results, ANSWERS)

CELLS = [
    *(text.encode() for text in TEXTS),
    *(b"1e39", b"1e-39", b"1e400", b"1e-400", b"9" * 5000, b"0." + b"0" * 40 + b"1" * 5000, b"1e99999999999"),
    *(b"nan", b"-inf", b"+1", b"1_0", b"0x1", b"1e", b"--1", b".", b"9007199254740993", b"-0", "١".encode()),
]


@st.composite
def table(draw, content):
    """A table with some of its cells replaced, doubled or left out, or its bytes damaged."""
    lines = content.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(lines) - 1))
        cells = lines[number].split(b",")
        column = draw(st.integers(0, len(cells) - 1))
        cells[column : column + draw(st.integers(0, 2))] = [draw(st.sampled_from(CELLS))]
        lines[number] = b",".join(cells)
    whole = draw(st.sampled_from([b"\n", b"\r\n", b"\r"])).join(lines) + draw(st.sampled_from([b"", b"\n", b"\n\n"]))
    return draw(st.just(whole) | mutated([whole]))


@FUZZED
@given(content=mutated([SAMPLES]) | table(SAMPLES))
def test_a_wrong_table_of_samples_is_a_line(folder, content):
    """A table is read bit by bit as Python reads its numbers, or refused in one line with the file's name."""
    path = folder / "samples.csv"
    path.write_bytes(content)
    read = []
    refusal(DataError, lambda: read.append(exchange.read_samples(path, (3,))), named=path, folders=[folder])
    for values in read:
        cells = [line.split(b",")[1:] for line in content.splitlines()[1:]]
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(values, np.array([[np.float32(c) for c in row] for row in cells]))


@FUZZED
@given(content=mutated([RESULTS]) | table(RESULTS))
def test_a_wrong_table_of_results_is_a_line(folder, content):
    """Results are read, and said what is wrong with; or they are refused in one line with the file's name."""
    path = folder / "results.csv"
    path.write_bytes(content)

    def read():
        flaw = exchange.results_flaw(exchange.read_results(path, 3), 5, 2)
        assert flaw is None or flaw.isprintable()

    refusal(DataError, read, named=path, folders=[folder])


# Plans.


def plan(version=(1, 7, 1, 116), size=100, targets=0b10111, weights=8):
    """A plan of TensorRT for RTX, as far as its header tells."""
    start = b"vtrt" + bytes(12) + size.to_bytes(8, "little") + bytes(version) + b"vtrt" + targets.to_bytes(4, "little")
    return (start + bytes(20) + weights.to_bytes(8, "little")).ljust(100, b"\0")


@FUZZED
@given(content=mutated([plan(), plan((10, 3, 0, 26)), b"ftrt" + bytes(60), b"ptrt", b""]) | st.binary(max_size=80))
def test_a_wrong_plan_is_a_line(folder, content):
    """The first bytes of a plan tell what it is, or why it is none, whatever they are."""
    path = folder / "plan"
    path.write_bytes(content)
    taken = header.plan_bytes(path)
    told = [header.no_plan_of_rtx(taken), header.plan_of_rtx(taken), header.of_another_version(taken, "1.7.1.116")]
    for text in filter(None, told):
        assert text.isprintable()
        assert len(text) < 300
    found = header.read(taken)
    assert told[0] or (found and found.size == len(content) and set(found.targets) <= set(header.GPUS))


@pytest.mark.parametrize("name", ["no such plan", "a" * 5000, "folder"])
def test_a_plan_that_cannot_be_read_is_a_line(folder, name):
    """A path that leads nowhere, or to no file, is one line."""
    (folder / "folder").mkdir(exist_ok=True)
    assert refusal(RunnerError, header.plan_bytes, folder / name, named=folder / name)


def test_the_sound_ones_are_taken(folder, lengths):
    """What is mutated above is sound: refusals are the mutations'."""
    path = folder / "sound.npz"
    for content in SOUND:
        path.write_bytes(content)
        np.testing.assert_array_equal(read_samples(path, DIGITS).samples.inputs["input_1"], arrays()["input_1"])
    np.savez(path, ids=np.zeros((3, 7), np.int32))
    assert len(read_samples(path, lengths).samples) == 3
    path.write_bytes(SAMPLES)
    assert exchange.read_samples(path, (3,)).shape == (5, 3)
    path.write_bytes(RESULTS)
    assert exchange.results_flaw(exchange.read_results(path, 3), 5, 2) is None
    assert header.no_plan_of_rtx(plan()) is None


@pytest.mark.parametrize("name", ["/tmp/planted", "../../planted", "..\\planted", "C:\\planted"])
def test_names_inside_of_an_archive_lead_nowhere(folder, name):
    """A member is an array of that name, and no file: nothing is unpacked."""
    path, before = folder / "mine.npz", os.listdir(folder)  # noqa: PTH208
    with zipfile.ZipFile(path, "w") as archive:
        content = io.BytesIO()
        np.save(content, arrays()["input_1"])
        archive.writestr(f"{name}.npy", content.getvalue())
    text = refusal(DataError, read_samples, path, DIGITS, named=path, folders=[])
    assert f"holds [{name!r}]; expected ['input_1']" in text
    assert set(os.listdir(folder)) == {*before, "mine.npz"}  # noqa: PTH208
    assert not (folder.parent / "planted.npy").exists()


def test_samples_of_no_size_are_a_line(folder, lengths):
    """A size that is not fixed may be any but zero: nothing can be told of values that there are not."""
    path = folder / "mine.npz"
    np.savez(path, ids=np.zeros((3, 0), np.int32))
    text = refusal(DataError, read_samples, path, lengths, named=path, folders=[folder])
    assert "'ids' is empty, shape (3, 0); expected one sample or more" in text


def test_a_member_that_another_method_packed_and_was_damaged_is_a_line(folder):
    """Each method of packing has errors of its own."""
    path = folder / "mine.npz"
    for method in METHODS:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", method) as archive:
            array = io.BytesIO()
            np.save(array, arrays()["input_1"])
            archive.writestr("input_1.npy", array.getvalue())
        whole = bytearray(content.getvalue())
        for place in range(60, 400, 17):
            damaged = whole.copy()
            damaged[place : place + 4] = b"\xff\xff\xff\xff"
            path.write_bytes(damaged)
            refusal(DataError, read_samples, path, DIGITS, named=path, folders=[folder])


def test_what_numpy_says_of_a_long_header_is_cut(folder):
    """NumPy tells the whole header that it cannot read."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "input_1.npy"
        path.write_bytes(b"\x93NUMPY\x03\x00\xb9\x0b\x00\x00" + b"(" * 3000 + b"\n")
        text = refusal(DataError, read_shards, path.parent, DIGITS, named=path, folders=[folder])
    assert "cannot be read: Cannot parse header" in text


def test_an_archive_that_is_called_an_array_is_a_line(folder):
    """NumPy reads what a file holds, whatever it is called."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "input_1.npy"
        path.write_bytes(SOUND[0])
        text = refusal(DataError, read_shards, path.parent, DIGITS, named=path, folders=[folder])
    assert "cannot be read: it starts with b'PK" in text


def test_a_number_of_thousands_of_digits_is_read_as_any_other(folder):
    """A number between two that float32 has is decided by all of its digits, however many there are."""
    path = folder / "samples.csv"
    text = "0." + "0" * 40 + "1" * 5000
    path.write_text(f"sample_id,pixel_0\n0,{text}\n")
    assert exchange.read_samples(path, (1,))[0, 0] == np.float32(text[:60])
