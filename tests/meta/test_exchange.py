"""CSV files carry samples and results bit by bit, and whatever is not exactly such a file is refused by place."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from commands.__main__ import main
from engines.errors import DataError, SpecError
from engines.exports import export_csv
from engines.model import exchange
from fixtures.chain import CHAINS, artifact_folder

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
EXTREMES = np.array(
    [
        [0.0, -0.0, 1e-45, -1e-45],
        [1.1754942e-38, 1.1754944e-38, 3.4028235e38, -3.4028235e38],
        [0.1, 1 / 3, 1e10, 16777217],
    ],
    np.float32,
)


def bits(array):
    """Bits of float32 values, which tell 0.0 from -0.0."""
    return np.ascontiguousarray(array).view(np.uint32)


@given(
    array=arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3)), elements=FLOATS)
)
@example(array=EXTREMES)
def test_samples_come_back_bit_by_bit(tmp_path, array):
    """Any finite float32 reads back as just itself: denormals, both zeros and the largest among them."""
    path = tmp_path / "samples.csv"
    exchange.write_samples(path, array)
    found = exchange.read_samples(path, array.shape[1:])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(bits(found), bits(array))


@given(numbers=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_any_bits_come_back(tmp_path, numbers):
    """The same over bit patterns, which reach every exponent alike."""
    array = np.array(numbers, np.uint32).view(np.float32)
    array = np.where(np.isfinite(array), array, np.float32(0)).reshape(-1, 1)
    exchange.write_samples(tmp_path / "samples.csv", array)
    np.testing.assert_array_equal(bits(exchange.read_samples(tmp_path / "samples.csv", (1,))), bits(array))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Half way between 1 and the next float32, and by less than float64 can tell to either side of it.
        ("1.000000059604644775390625", 1.0),
        ("1.00000005960464477539062500001", 1.0000001),
        ("1.00000005960464477539062499999", 1.0),
        # The same half way to the smallest denormal.
        ("7.0064923216240853546186479164495e-46", 0.0),
        ("7.0064923216240853546186479164497e-46", 1e-45),
        ("3.4028235e+38", 3.4028235e38),
        # Half way from the largest float32 to infinity, 2^128 - 2^103, is 340282356779733661637539395458142568448.
        ("340282356779733661637539395458142568447.9", 3.4028235e38),
        ("-3.4028235677973366e38", -3.4028235e38),
        (".5", 0.5),
        ("5.", 5.0),
        ("5E+0", 5.0),
    ],
)
def test_numbers_are_rounded_once(tmp_path, text, expected):
    """A decimal becomes the float32 nearest to it, not the one nearest to its float64."""
    (tmp_path / "s.csv").write_text(f"sample_id,pixel_0\n0,{text}\n")
    found = exchange.read_samples(tmp_path / "s.csv", (1,))
    assert bits(found)[0, 0] == bits(np.float32([expected]))[0]


def test_columns_are_in_c_order(tmp_path):
    """Pixels are numbered as the sample lies in memory, whatever the strides of the array that is given."""
    array = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2))
    exchange.write_samples(tmp_path / "s.csv", array)
    assert (tmp_path / "s.csv").read_text().splitlines() == [
        "sample_id," + ",".join(f"pixel_{i}" for i in range(12)),
        "0," + ",".join(map(str, range(12))),
        "1," + ",".join(map(str, range(12, 24))),
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_written(tmp_path, bad):
    """NaN and infinity are refused with the sample and value that hold them."""
    array = np.zeros((3, 2, 2), np.float32)
    array[1, 1, 0] = bad
    with pytest.raises(DataError, match=rf"s\.csv: sample 1 has {bad} at value 2; allowed: finite numbers"):
        exchange.write_samples(tmp_path / "s.csv", array)


@pytest.mark.parametrize("array", [np.zeros((2, 2)), np.zeros((0, 2), np.float32), np.zeros(2, np.float32)])
def test_only_float32_samples_are_written(tmp_path, array):
    """Another dtype, no samples and a lone row are refused with what was given."""
    with pytest.raises(DataError, match=r"given float\d\d of shape .*; expected float32 \(N, …\)"):
        exchange.write_samples(tmp_path / "s.csv", array)


HEADER = b"sample_id,pixel_0,pixel_1\n"


@pytest.mark.parametrize(
    "content",
    [HEADER + b"0,1,2\n1,3,4\n", HEADER + b"0,1,2\n1,3,4", (HEADER + b"0,1,2\n1,3,4\n").replace(b"\n", b"\r\n")],
    ids=["LF", "no newline at the end", "CRLF"],
)
def test_line_ends_are_taken(tmp_path, content):
    """Unix and Windows line ends read alike, and the last line may lack its own."""
    (tmp_path / "s.csv").write_bytes(content)
    np.testing.assert_array_equal(exchange.read_samples(tmp_path / "s.csv", (2,)), [[1, 2], [3, 4]])


BAD = {
    "empty file": (b"", r"is empty, without a line 1; expected a header sample_id,pixel_0,pixel_1"),
    "no rows": (HEADER, r"holds a header and no line 2"),
    "no header": (b"0,1,2\n", r"line 1, column 1 is '0'; expected the header sample_id,pixel_0,pixel_1"),
    "another header": (b"sample_id,pixel_1,pixel_0\n0,1,2\n", r"line 1, column 2 is 'pixel_1'; expected the header"),
    "a column too few": (b"sample_id,pixel_0\n0,1\n", r"line 1, column 3: the line has 2 columns; expected 3"),
    "a column too many": (
        b"sample_id,pixel_0,pixel_1,pixel_2\n0,1,2,3\n",
        r"line 1, column 4: the line has 4 columns; expected 3",
    ),
    "a byte-order mark": (b"\xef\xbb\xbf" + HEADER + b"0,1,2\n", r"line 1, column 1 starts with a byte-order mark"),
    "UTF-16": (HEADER.decode().encode("utf-16"), r"line 1, column 1 is .*xff.*; expected the header"),
    "a short row": (HEADER + b"0,1,2\n1,3\n", r"line 3, column 3: the line has 2 columns; expected 3"),
    "a long row": (HEADER + b"0,1,2\n1,3,4,5\n", r"line 3, column 4: the line has 4 columns; expected 3"),
    "a comma at the end": (HEADER + b"0,1,2,\n", r"line 2, column 4: the line has 4 columns; expected 3"),
    "a blank line": (HEADER + b"0,1,2\n\n1,3,4\n", r"line 3, column 1: the line has 0 columns; expected 3"),
    "text": (HEADER + b"0,1,2\n1,x,4\n", r"line 3, column 2 \(pixel_0\) is 'x'; allowed: a finite decimal number"),
    "nan": (HEADER + b"0,1,nan\n", r"line 2, column 3 \(pixel_1\) is 'nan'; allowed: a finite"),
    "inf": (HEADER + b"0,1,-inf\n", r"line 2, column 3 \(pixel_1\) is '-inf'; allowed: a finite"),
    "an empty cell": (HEADER + b"0,,2\n", r"line 2, column 2 \(pixel_0\) is empty; allowed"),
    "an empty last cell": (HEADER + b"0,1,\n", r"line 2, column 3 \(pixel_1\) is empty; allowed"),
    "a blank": (HEADER + b"0, 1,2\n", r"line 2, column 2 \(pixel_0\) is ' 1'; allowed"),
    "quotes": (HEADER + b'0,"1",2\n', r"line 2, column 2 \(pixel_0\) is '\"1\"'; allowed"),
    "half a number": (HEADER + b"0,1e,2\n", r"line 2, column 2 \(pixel_0\) is '1e'; allowed"),
    "two numbers": (HEADER + b"0,1-2,2\n", r"line 2, column 2 \(pixel_0\) is '1-2'; allowed"),
    "a plus": (HEADER + b"0,1e+0,+2\n", r"line 2, column 3 \(pixel_1\) is '\+2'; allowed: a finite"),
    "an id beyond 15 digits": (HEADER + b"1000000000000000,1,2\n", r"line 2, column 1 .*allowed: .* at most 15 digits"),
    "a sign alone": (HEADER + b"0,1,-\n", r"line 2, column 3 \(pixel_1\) is '-'; allowed"),
    "too large for float32": (
        HEADER + b"0,1,1e39\n",
        r"line 2, column 3 \(pixel_1\) is '1e39'; allowed: a number that float32",
    ),
    "half way from the largest float32 to infinity": (
        HEADER + b"0,1,340282356779733661637539395458142568448\n",
        r"line 2, column 3 \(pixel_1\) is '340282356779733661637539395458142568448'; allowed: a number that float32",
    ),
    "too large for float64": (
        HEADER + b"0,1,1e999\n",
        r"line 2, column 3 \(pixel_1\) is '1e999'; allowed: a number that float32",
    ),
    "an id that is no count": (
        HEADER + b"-1,1,2\n",
        r"line 2, column 1 \(sample_id\) is '-1'; allowed: a whole number",
    ),
    "an id with a point": (HEADER + b"0.0,1,2\n", r"line 2, column 1 \(sample_id\) is '0.0'; allowed: a whole number"),
    "an id twice": (
        HEADER + b"0,1,2\n0,1,2\n",
        r"line 3, column 1 \(sample_id\) is 0; allowed: 1: samples are numbered",
    ),
    "an id left out": (
        HEADER + b"0,1,2\n2,1,2\n",
        r"line 3, column 1 \(sample_id\) is 2; allowed: 1: samples are numbered",
    ),
    "binary": (HEADER + b"0,1,2\n\x00\xff\x93NUMPY\n", r"line 3, column 2: the line has 1 columns; expected 3"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_samples_are_refused_by_place(tmp_path, kind):
    """The error names file, line and column, what is there, and what is allowed."""
    content, message = BAD[kind]
    (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"s\.csv: {message}"):
        exchange.read_samples(tmp_path / "s.csv", (2,))


def test_a_missing_file_is_named(tmp_path):
    """A file that is not there is an error that says what it should hold."""
    with pytest.raises(DataError, match=r"none\.csv: no such file; expected a CSV with the columns sample_id,pixel_0"):
        exchange.read_samples(tmp_path / "none.csv", (2,))


def test_places_are_right_in_a_later_block(tmp_path, monkeypatch):
    """Line numbers count through the whole file, however much of it is parsed at a time."""
    monkeypatch.setattr(exchange, "BLOCK_BYTES", 16)
    lines = [f"{i},{i},0.5" for i in range(50)]
    path = tmp_path / "s.csv"
    path.write_bytes(HEADER + "\n".join(lines).encode())
    assert exchange.read_samples(path, (2,))[:, 0].tolist() == list(range(50))
    lines[30] = "30,1,y"
    path.write_bytes(HEADER + "\n".join(lines).encode())
    with pytest.raises(DataError, match=r"line 32, column 3 \(pixel_1\) is 'y'"):
        exchange.read_samples(path, (2,))


@given(
    array=arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 4)), elements=FLOATS), data=st.data()
)
def test_results_come_back(tmp_path, array, data):
    """Ids in any order, classes, confidences and scores read back as written."""
    ids = np.array(data.draw(st.permutations(range(len(array)))), np.int64)
    written = exchange.Results(ids, array.argmax(axis=1), array.max(axis=1), array)
    exchange.write_results(tmp_path / "r.csv", written)
    found = exchange.read_results(tmp_path / "r.csv", array.shape[1])
    for name in ("ids", "classes", "confidences", "probabilities"):
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name))


def test_nine_digits_are_enough(tmp_path):
    """What C++ prints with nine significant digits reads back bit by bit."""
    array = np.random.default_rng(0).random((200, 3), np.float32)
    rows = [f"{i},0,{a:.9g},{a:.9g},{b:.9g},{c:.9g}" for i, (a, b, c) in enumerate(array.tolist())]
    (tmp_path / "r.csv").write_text("\n".join(["sample_id,class,confidence,p_0,p_1,p_2", *rows]))
    np.testing.assert_array_equal(exchange.read_results(tmp_path / "r.csv", 3).probabilities, array)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,3,1,1,0,0", r"line 2, column 2 \(class\) is 3; allowed: 0 to 2"),
        ("0,0.5,1,1,0,0", r"line 2, column 2 \(class\) is '0.5'; allowed: a whole number"),
        ("0,0,x,1,0,0", r"line 2, column 3 \(confidence\) is 'x'; allowed: a decimal number, nan, inf or -inf"),
        ("0,0,1,nane,0,0", r"line 2, column 4 \(p_0\) is 'nane'; allowed: a decimal number, nan"),
        ("0,0,1,1e39,0,0", r"line 2, column 4 \(p_0\) is '1e39'; allowed: a number that float32 can hold"),
        ("0,0,1,1,0", r"line 2, column 6: the line has 5 columns; expected 6"),
    ],
)
def test_bad_results_are_refused_by_place(tmp_path, row, message):
    """A class that does not exist and a cell that is no number are named by line and column."""
    (tmp_path / "r.csv").write_text(f"sample_id,class,confidence,p_0,p_1,p_2\n{row}\n")
    with pytest.raises(DataError, match=rf"r\.csv: {message}"):
        exchange.read_results(tmp_path / "r.csv", 3)


@pytest.fixture(scope="session")
def store(pytestconfig):
    """Artifact folder of this run as an option of the command line."""
    return f"--artifacts={artifact_folder(pytestconfig)}"


def test_the_command_exports_what_the_suite_tests(tmp_path, store, capsys, pytestconfig):
    """`python -m engines export-csv` writes samples, labels and the SavedModel's answers, with hashes that hold."""
    assert main(["export-csv", "digits_vgg", f"--output={tmp_path / 'out'}", store]) == 0
    folder = artifact_folder(pytestconfig)
    printed = capsys.readouterr().out
    for name in (exchange.SAMPLES, exchange.LABELS, exchange.VERIFICATION):
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() in printed
    samples = exchange.read_samples(tmp_path / "out" / exchange.SAMPLES, (10, 8, 1))
    record = json.loads((folder / "digits_vgg" / "csv-100" / "artifact.json").read_text())
    assert exchange.fed_hash(samples) == record["details"]["fed_sha256"]
    assert samples.shape == (100, 10, 8, 1)
    lines = (tmp_path / "out" / exchange.VERIFICATION).read_text().splitlines()
    assert (lines[0], len(lines)) == ("sample_id,class,confidence", 101)
    labels = [int(line.split(",")[1]) for line in (tmp_path / "out" / exchange.LABELS).read_text().splitlines()[1:]]
    classes = [int(line.split(",")[1]) for line in lines[1:]]
    assert np.mean(np.array(labels) == classes) > 0.9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "361"], "asked for 361 test samples, the digits have 360"),
        (["--samples", "0"], "asked for 0 test samples, expected at least 1"),
    ],
)
def test_the_command_refuses_what_is_not_there(store, capsys, words, message):
    """More samples than there are, or none, end with one line that says so."""
    assert main(["export-csv", "digits_vgg", *words, store]) == 1
    assert message in capsys.readouterr().err


def test_the_command_refuses_a_file_for_a_folder(tmp_path, store, capsys):
    """An --output that is a file is refused before anything is made."""
    (tmp_path / "file").touch()
    assert main(["export-csv", "digits_vgg", f"--output={tmp_path / 'file'}", store]) == 1
    assert "is a file; allowed: a folder" in capsys.readouterr().err


def test_the_command_refuses_a_folder_that_cannot_be_made(store, capsys):
    """An --output that nobody may write to ends with one line that says so."""
    assert main(["export-csv", "digits_vgg", "--output=/proc/none", store]) == 1
    assert "--output /proc/none: cannot be written" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.benchmark
def test_ten_thousand_images_are_written_and_read(tmp_path, benchmark):
    """10,000 images of 32x32x3 pixels are written once, timed, and read back bit by bit."""
    pixels = np.random.default_rng(0).integers(0, 256, (10_000, 32, 32, 3))
    images = (pixels / np.float32(255)).astype(np.float32)
    benchmark.pedantic(exchange.write_samples, args=(tmp_path / "s.csv", images), rounds=1)
    np.testing.assert_array_equal(exchange.read_samples(tmp_path / "s.csv", (32, 32, 3)), images)


def test_several_inputs_are_refused(pytestconfig):
    """CSV holds one input; a model with two is refused, with their names."""
    chain = next(iter(pytestconfig.stash[CHAINS].values()))
    first = chain.spec.inputs[0]
    spec = replace(chain.spec, inputs=(first, replace(first, name="mask")))
    with pytest.raises(SpecError, match=r"has the inputs input_1, mask; allowed for CSV: a model with one input"):
        export_csv(replace(chain, spec=spec), 10)


def test_an_engines_nan_is_an_answer(tmp_path):
    """NaN and infinity among the scores are read: that they are wrong is for the comparison to say."""
    (tmp_path / "r.csv").write_text("sample_id,class,confidence,p_0,p_1,p_2\n0,0,nan,nan,-inf,inf\n1,1,1,-nan,1,0\n")
    found = exchange.read_results(tmp_path / "r.csv", 3)
    np.testing.assert_array_equal(found.probabilities, [[np.nan, -np.inf, np.inf], [np.nan, 1, 0]])
