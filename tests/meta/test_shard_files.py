"""Shards as other programs write them: WebDataset's tars, and Parquet; what is wrong in one is a line with its name."""

from __future__ import annotations

import importlib.util
import io
import sys
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from engines.errors import DataError
from engines.model.bundled import find_model
from engines.model.shards import first_arrays, read_shards
from engines.model.spec import InputSpec
from engines.model.toml import load_model

PARQUET = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="PyArrow is not installed; pip install pyarrow"
)


@pytest.fixture(scope="module")
def spec():
    return load_model(find_model("digits_vgg"))


@pytest.fixture(scope="module")
def pair(spec):
    """A model of two inputs, one of which has a dot in its name and no axis but the batch."""
    one = spec.inputs[0]
    return replace(spec, inputs=(one, InputSpec("pair.id", ("batch",), "int32", (0, 9), "pair.id")))


def some(count=11):
    """Inputs and labels of the digits model."""
    rng = np.random.default_rng(0)
    return {"input_1": rng.random((count, 10, 8, 1), dtype=np.float32), "labels": rng.integers(0, 10, count)}


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def tar(path, files):
    """A tar of files by name, in their order."""
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def laid_out(arrays, start=0, field="input_1.npy", label="cls"):
    """Files of each sample, as WebDataset lays them out; the key may stand in a folder."""
    for row, (array, number) in enumerate(zip(arrays["input_1"], arrays["labels"], strict=True), start):
        yield f"./train/{row:06d}.{field}", npy(array)
        yield f"./train/{row:06d}.{label}", npy(number) if label.endswith(".npy") else str(number).encode()


@pytest.mark.parametrize(("field", "label"), [("input_1.npy", "cls"), ("npy", "label"), ("npy", "labels.npy")])
def test_tars_of_webdataset_are_the_samples_that_were_written(tmp_path, spec, field, label):
    """Any part of several tars is that of the arrays, with their labels, and nothing is unpacked to the disk."""
    arrays = some()
    for number, rows in enumerate((slice(0, 4), slice(4, 5), slice(5, 11))):
        part = {name: array[rows] for name, array in arrays.items()}
        tar(tmp_path / f"digits-{number:03d}.tar", laid_out(part, rows.start, field, label))
    there = sorted(tmp_path.rglob("*"))
    found = read_shards(tmp_path, spec)
    assert (found.test_count, found.labelled) == (11, True)
    for start, stop in ((0, 11), (3, 6), (4, 5), (10, 11)):
        part = found.part(start, stop)
        assert part.inputs["input_1"].tobytes() == arrays["input_1"][start:stop].tobytes()
        assert part.labels.tolist() == arrays["labels"][start:stop].tolist()
    assert sorted(tmp_path.rglob("*")) == there


def test_a_tar_holds_samples_of_several_inputs(tmp_path, pair):
    """Each input has a file of its own, whatever its name, and numbers alone are inputs as well."""
    array = some(2)["input_1"]
    files = [
        (f"{row}.{name}", npy(value))
        for row in (0, 1)
        for name, value in (("pair.id.npy", np.int32(row + 5)), ("input_1.npy", array[row]))
    ]
    tar(tmp_path / "0.tar", files)
    found = read_shards(tmp_path, pair)
    part = found.part(0, 2)
    assert part.inputs["pair.id"].tolist() == [5, 6]
    assert np.array_equal(part.inputs["input_1"], array)
    assert not found.labelled
    assert {name: a.shape for name, a in first_arrays(tmp_path).items()} == {
        "pair.id": (2,),
        "input_1": (2, 10, 8, 1),
    }
    tar(tmp_path / "0.tar", [("0.npy", npy(array[0]))])
    with pytest.raises(DataError, match=r"0\.tar: holds KEY\.npy, and digits_vgg has the inputs input_1, pair\.id; ex"):
        read_shards(tmp_path, pair)
    with pytest.raises(DataError, match=r"is a \.tar of unnamed arrays, KEY\.npy; expected \.npz shards, KEY\.INPUT"):
        first_arrays(tmp_path)
    tar(tmp_path / "0.tar", [])
    with pytest.raises(DataError, match=r"0\.tar: has so many samples: {}; expected one or more"):
        first_arrays(tmp_path)


ONE, OTHER = npy(some(1)["input_1"][0]), npy(np.zeros((10, 8, 1)))
PICKLED = npy(np.array([{}], dtype=object))
LONG = (
    b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (10, 8, 9999), }".ljust(117) + b"\n"
)


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ([("0.jpg", b"x")], r"holds '0\.jpg'; expected KEY\.INPUT\.npy, or KEY\.npy for the only input, and KEY\.cls"),
        ([("0.pyd", b"x")], r"holds '0\.pyd'; expected KEY\.INPUT\.npy"),
        ([("0", ONE)], r"holds '0'; expected KEY\.INPUT\.npy"),
        ([("0.npy", PICKLED)], r"cannot be read: 0\.npy holds pickled objects, which can run code; expected a whole"),
        ([("0.npy", LONG)], r"cannot be read: 0\.npy has 128 bytes, and its array 3199680; expected a whole \.tar"),
        ([("0.npy", b"x")], r"cannot be read: .*; expected a whole \.tar"),
        ([("0.npy", ONE), ("1.cls", b"1")], r"sample '1' has KEY\.cls; expected KEY\.npy, as the first"),
        (
            [("0.npy", ONE), ("0.cls", b"1"), ("1.npy", ONE)],
            r"sample '1' has KEY\.npy; expected KEY\.cls, KEY\.npy, as the first",
        ),
        ([("0.npy", ONE), ("0.npy", ONE)], r"sample '0' has '0\.npy' and '0\.npy'; expected one of them"),
        ([("0.npy", ONE), ("0.cls", b"1"), ("0.label", b"1")], r"has '0\.cls' and '0\.label'; expected one of them"),
        ([("0.npy", ONE), ("0.x.npy", ONE)], r"sample '0' has KEY\.npy, KEY\.x\.npy; expected KEY\.INPUT\.npy"),
        ([("0.x.npy", ONE)], r"holds \['x'\]; expected \['input_1'\]"),
        ([("0.cls", b"1")], r"holds \['labels'\]; expected \['input_1'\]"),
        ([], r"has so many samples: {}; expected one or more"),
        ([("0.npy", ONE), ("1.npy", OTHER)], r"'1\.npy' is float64 of shape \(10, 8, 1\); expected float32 of"),
        ([("0.npy", ONE), ("0.cls", b"cat")], r"0\.cls holds b'cat'; expected a label in digits"),
        ([("0.npy", ONE), ("0.cls", b"1" * 400)], r"holds b'1+'; expected a label in digits"),
        ([("0.npy", ONE), ("0.cls", b"17")], r"'labels' go from 17 to 17; expected 0 to 9"),
    ],
)
def test_what_is_wrong_in_a_tar_is_a_line(tmp_path, spec, files, line):
    """A file that is none of a sample's, one that is missing, pickled, longer or other than the first: one line."""
    tar(tmp_path / "part-0.tar", files)
    with pytest.raises(DataError, match=rf"part-0\.tar: .*{line}") as told:
        read_shards(tmp_path, spec)
    assert "\n" not in str(told.value)


def linked(path):
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("9.npy")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)


def half_written(path):
    path.write_bytes(path.read_bytes()[: 2 * (512 + 512)])


def cut_in_a_header(path):
    path.write_bytes(path.read_bytes()[:1200])


def cut_in_a_file(path):
    path.write_bytes(path.read_bytes()[:1800])


def packed(path):
    tarfile.open(path, "w:gz").close()


def no_tar(path):
    path.write_bytes(b"nothing" * 300)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (linked, r"holds '9\.npy', which is no plain file; expected KEY"),
        (
            half_written,
            r"cannot be read: it ends in the middle, without the empty block behind the last file; expected",
        ),
        (cut_in_a_header, r"cannot be read: it ends in the middle"),
        (cut_in_a_file, r"cannot be read: unexpected end of data; expected a whole \.tar"),
        (packed, r"cannot be read: .*; expected a whole \.tar$"),
        (no_tar, r"cannot be read: .*; expected a whole \.tar$"),
    ],
)
def test_a_damaged_tar_is_a_line(tmp_path, spec, damage, line):
    """A tar that was cut anywhere, between two files as well, is refused, and so are links: nothing follows them."""
    path = tar(tmp_path / "0.tar", [(f"{row}.npy", ONE) for row in range(3)])
    damage(path)
    with pytest.raises(DataError, match=line):
        read_shards(tmp_path, spec)


def test_a_tar_that_changes_is_a_line(tmp_path, spec):
    """A tar that has other samples by the time it is read is told by its name, as other shards are."""
    arrays = some(3)
    path = tar(tmp_path / "0.tar", laid_out(arrays))
    found = read_shards(tmp_path, spec)
    for count, line in (
        (2, "has 2 samples; expected 3, as at the start"),
        (4, r"holds '\./train/000003\.input_1\.npy' now"),
    ):
        found._held.clear()
        tar(path, laid_out(some(count)))
        with pytest.raises(DataError, match=rf"0\.tar: {line}"):
            found.part(0, 1)


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path, spec, monkeypatch):
    """PyArrow is asked for where a Parquet file is, and by nothing else."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "0.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        DataError, match=r"0\.parquet: is read by PyArrow, which is not installed; pip install pyarrow$"
    ):
        read_shards(tmp_path, spec)


def written(path, columns, **more):
    """A Parquet file of columns by name."""
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, **more)


def column(array, how):
    """An array as a column: lists of lists, of sizes that the type has or not, or Arrow's tensors."""
    import pyarrow

    if how == "tensors":
        return pyarrow.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(array))
    kind = pyarrow.from_numpy_dtype(array.dtype)
    for size in reversed(array.shape[1:]):
        kind = pyarrow.list_(kind, size) if how == "sized" else getattr(pyarrow, how)(kind)
    return pyarrow.array(array.tolist(), kind)


@PARQUET
@pytest.mark.parametrize("how", ["list_", "large_list", "sized", "tensors"])
def test_parquet_files_are_the_samples_that_were_written(tmp_path, spec, how):
    """However a column holds arrays, and in however many row groups, they are those that were written."""
    arrays = some()
    for number, rows in enumerate((slice(0, 6), slice(6, 11))):
        columns = {"input_1": column(arrays["input_1"][rows], how), "label": arrays["labels"][rows]}
        written(tmp_path / f"part-{number}.parquet", columns, row_group_size=4)
    found = read_shards(tmp_path, spec)
    assert (found.test_count, found.labelled) == (11, True)
    for start, stop in ((0, 11), (4, 8), (10, 11)):
        part = found.part(start, stop)
        assert part.inputs["input_1"].tobytes() == arrays["input_1"][start:stop].tobytes()
        assert part.labels.tolist() == arrays["labels"][start:stop].tolist()
    assert first_arrays(tmp_path)["input_1"].shape == (6, 10, 8, 1)


def ragged():
    nested = some(3)["input_1"].tolist()
    nested[2] = nested[2][:9]
    return {"input_1": nested}


def ragged_inside():
    nested = some(2)["input_1"].tolist()
    nested[1][0], nested[1][1] = nested[1][0] + [[0.0]], nested[1][1][:7]
    return {"input_1": nested}


def with_null():
    nested = some(2)["input_1"].tolist()
    nested[1][2][3] = [None]
    return {"input_1": nested}


@PARQUET
@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (
            ragged,
            r"its column 'input_1' has 232 numbers in 3 rows, and \(10, 8, 1\) in the first; expected numbers, or",
        ),
        (ragged_inside, r"its column 'input_1' has lists of 7 to 9; expected numbers, or lists"),
        (with_null, r"its column 'input_1' has 1 rows or numbers that are missing \(null\)"),
        (lambda: {"input_1": ["a", "b"]}, r"its column 'input_1' is (large_)?string; expected numbers"),
        (lambda: {"input_1": [{"a": 1}]}, r"its column 'input_1' is struct.*; expected numbers"),
        (lambda: {"input_1": [1.0], "cls": [1], "label": [1]}, r"has two columns of labels: input_1, cls, label"),
        (lambda: {"input_1": [1.0], "x": [1]}, r"holds \['input_1', 'x'\]; expected \['input_1'\]"),
        (lambda: {"input_1": some(2)["input_1"].tolist()}, r"'input_1' is float64; expected float32"),
        (lambda: {"input_1": np.zeros(0, np.float32)}, r"has so many samples: {'input_1': 0}; expected one or more"),
    ],
    ids=["ragged", "ragged inside", "null", "strings", "structs", "two labels", "one more", "float64", "empty"],
)
def test_what_is_wrong_in_a_parquet_file_is_a_line(tmp_path, spec, columns, line):
    """Rows of several lengths, missing numbers, other columns and other dtypes are one line each."""
    written(tmp_path / "0.parquet", columns())
    with pytest.raises(DataError, match=rf"0\.parquet: {line}") as told:
        read_shards(tmp_path, spec)
    assert "\n" not in str(told.value)


@PARQUET
def test_a_parquet_file_that_is_damaged_or_read_by_an_old_pyarrow_is_a_line(tmp_path, spec, monkeypatch):
    """A file that was cut, and a PyArrow that runs what a file brings along, are refused."""
    import pyarrow

    path = tmp_path / "0.parquet"
    written(path, {"input_1": column(some()["input_1"], "list_")})
    with monkeypatch.context() as old:
        old.setattr(pyarrow, "__version__", "13.0.0")
        with pytest.raises(DataError, match=r"PyArrow 13\.0\.0 may run code of a file; expected 14\.0\.1 or newer"):
            read_shards(tmp_path, spec)
    whole = path.read_bytes()
    for content in (whole[:-9], whole[:4] + b"\xff" * 40 + whole[44:], b"nothing"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"0\.parquet: cannot be read: .*; expected a whole \.parquet") as told:
            read_shards(tmp_path, spec).part(0, 1)
        assert "\n" not in str(told.value)
