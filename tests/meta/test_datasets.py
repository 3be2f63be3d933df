"""The samples: what is found where, in which order and form, and what is refused."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib import machinery, util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.errors import DataError
from engines.model.cifar10 import CIFAR10_CLASSES, download_cifar10
from engines.model.datasets import locate
from engines.model.samples import Samples, content_hash
from engines.model.scikit_learn import photographs

pytestmark = pytest.mark.skipif(
    util.find_spec("sklearn") is None or util.find_spec("pooch") is None,
    reason="samples are found and made where the converters are: scikit-learn or pooch is not installed",
)

ROOT = Path(__file__).resolve().parents[2]
ROWS, PIXELS = 10_000, 3072
TRAINING_BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
PLANTED = {"sample": 3, "row": 5, "column": 9, "channel": 2}
LABELS = [index % 10 for index in range(ROWS)]


@functools.cache
def random_rows(seed: int) -> np.ndarray:
    """Make rows of random pixels, but for one sample that is black except for one planted byte."""
    rows = np.random.default_rng(seed).integers(256, size=(ROWS, PIXELS), dtype=np.uint8)
    rows[PLANTED["sample"]] = 0
    rows[PLANTED["sample"], PLANTED["channel"] * 1024 + PLANTED["row"] * 32 + PLANTED["column"]] = 255
    return rows


def python2_string(text: bytes) -> bytes:
    return b"U" + struct.pack("<B", len(text)) + text


def python2_pickle(rows: np.ndarray, labels: list[int]) -> bytes:
    """Write a batch, opcode by opcode, as Python 2 and an old NumPy pickled the official files."""
    flags_and_shape = b"K\x01" + b"M" + struct.pack("<H", len(rows)) + b"M" + struct.pack("<H", PIXELS) + b"\x86"
    dtype = b"cnumpy\ndtype\n" + python2_string(b"u1") + b"K\x00K\x01\x87R(K\x03" + python2_string(b"|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + python2_string(b"b") + b"\x87R"
    array += b"(" + flags_and_shape + dtype + b"\x89" + b"T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + python2_string(b"data") + array + python2_string(b"labels") + numbers + b"u."


def meta_pickle() -> bytes:
    return pickle.dumps({b"label_names": [name.encode() for name in CIFAR10_CLASSES]}, protocol=2)


def binary_batch(rows: np.ndarray, labels: list[int]) -> bytes:
    return np.hstack([np.array(labels, np.uint8)[:, np.newaxis], rows]).tobytes()


def write_folder(folder: Path, suffix: str, encode: Callable[[np.ndarray, list[int]], bytes]) -> Path:
    """Write the six batches: the first and the test batch are one file, the other four another one (by hard links)."""
    folder.mkdir()
    for seed, names in enumerate([["test_batch", TRAINING_BATCHES[0]], TRAINING_BATCHES[1:]]):
        first, *others = (folder / f"{name}{suffix}" for name in names)
        first.write_bytes(encode(random_rows(seed), LABELS))
        for other in others:
            other.hardlink_to(first)
    return folder


@pytest.fixture(scope="session")
def python_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """CIFAR-10 in its python layout."""
    folder = write_folder(tmp_path_factory.mktemp("python") / "cifar-10-batches-py", "", python2_pickle)
    (folder / "batches.meta").write_bytes(meta_pickle())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def binary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """CIFAR-10 in its binary layout."""
    folder = write_folder(tmp_path_factory.mktemp("binary") / "cifar-10-batches-bin", ".bin", binary_batch)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the CIFAR-10 of the machine that runs the tests, and any proxy before the loopback."""
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield
    # A batch has 30 MB, and pytest keeps the folders of three runs.
    shutil.rmtree(tmp_path)


def linked(folder: Path, target: Path, *, without: str | None = None) -> Path:
    """Make a folder of hard links to another one's files, but for one that a test leaves out or writes itself."""
    target.mkdir(parents=True)
    for path in folder.iterdir():
        if path.name != without:
            (target / path.name).hardlink_to(path)
    return target


@functools.cache
def images(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the held-out images of a bundled dataset, and all others."""
    dataset = locate(name)
    others = 350 if name == "photographs" else 1437
    return dataset.test().inputs["input_1"], dataset.calibration(others).inputs["input_1"]


# CIFAR-10, read


def test_both_layouts_give_the_same_samples(python_folder: Path, binary_folder: Path) -> None:
    """The python and the binary layout of the same images give equal samples, labels and class names."""
    python, binary = locate("cifar10", cifar10_dir=python_folder), locate("cifar10", cifar10_dir=binary_folder)
    assert "python layout" in python.source
    assert "binary layout" in binary.source
    assert python.class_names == binary.class_names == CIFAR10_CLASSES
    for one, other in ((python.test(50), binary.test(50)), (python.calibration(50), binary.calibration(50))):
        np.testing.assert_array_equal(one.inputs["input_1"], other.inputs["input_1"])
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize("layout", ["python", "binary"])
def test_images_are_nhwc_and_scaled(layout: str, request: pytest.FixtureRequest) -> None:
    """A byte planted in a channel-first row comes out as 1.0 at its row, column and channel, and nowhere else."""
    samples = locate("cifar10", cifar10_dir=request.getfixturevalue(f"{layout}_folder"), input_name="image").test(50)
    batch = samples.inputs["image"]
    assert batch.shape == (50, 32, 32, 3)
    assert batch.dtype == np.float32
    planted = batch[PLANTED["sample"]]
    assert np.argwhere(planted).tolist() == [[PLANTED["row"], PLANTED["column"], PLANTED["channel"]]]
    assert planted.max() == 1.0
    expected = random_rows(0)[0].reshape(3, 32, 32).transpose(1, 2, 0).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(batch[0], expected)
    assert samples.labels is not None
    assert samples.labels.dtype == np.int64
    assert samples.labels.tolist() == LABELS[:50]


def test_calibration_goes_through_the_training_batches_in_order(binary_folder: Path) -> None:
    """The 10,001st calibration sample is the first one of data_batch_2, and its label comes with it."""
    dataset = locate("cifar10", cifar10_dir=binary_folder)
    samples = dataset.calibration(ROWS + 2).take(ROWS, ROWS + 2)
    second = random_rows(1)[:2].reshape(2, 3, 32, 32).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(np.rint(samples.inputs["input_1"] * 255), second)
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1]


def test_only_the_batches_asked_for_are_read(python_folder: Path, tmp_path: Path) -> None:
    """Damage in data_batch_2 stops no test and no calibration that ends before it, and is named by one that does."""
    folder = linked(python_folder, tmp_path / "damaged", without="data_batch_2")
    (folder / "data_batch_2").touch()
    os.truncate(folder / "data_batch_2", ROWS * PIXELS)
    dataset = locate("cifar10", cifar10_dir=folder)
    assert len(dataset.test(10)) == len(dataset.calibration(10)) == 10
    with pytest.raises(DataError, match="data_batch_2 cannot be read as a CIFAR-10 pickle"):
        dataset.calibration(ROWS + 1)


def test_official_pickles_raise_no_deprecation_warning(python_folder: Path) -> None:
    """What Python 2 pickled is read without the warnings that NumPy gives for it, so `-W error` does not stop it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(locate("cifar10", cifar10_dir=python_folder).test(1)) == 1


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_batches_pickled_again_are_read(protocol: int, python_folder: Path, tmp_path: Path) -> None:
    """A batch that Python 3 and today's NumPy pickled, whatever the protocol, gives the same pixels."""
    folder = linked(python_folder, tmp_path / "again", without="test_batch")
    batch = {b"data": random_rows(0), b"labels": LABELS}
    (folder / "test_batch").write_bytes(pickle.dumps(batch, protocol=protocol))
    first = locate("cifar10", cifar10_dir=folder).test(1).inputs["input_1"]
    np.testing.assert_array_equal(first, locate("cifar10", cifar10_dir=python_folder).calibration(1).inputs["input_1"])


# CIFAR-10, refused


@pytest.mark.parametrize(
    "change, message",
    [
        ({b"data": np.zeros((2 * ROWS, PIXELS // 2), np.uint8)}, r"shape \(20000, 1536\), expected uint8 of shape"),
        ({b"data": np.zeros((ROWS, PIXELS), np.int8)}, "data is int8 of shape"),
        ({b"data": bytes(ROWS * PIXELS)}, "data is of type bytes"),
        ({b"labels": LABELS[1:]}, "labels is a list of 9999, expected a list of 10000"),
        ({b"labels": [*LABELS[1:], 10]}, "has the label 10, expected whole numbers from 0 to 9"),
        ({b"labels": [*LABELS[1:], -1]}, "has the label -1"),
        ({b"labels": [*LABELS[1:], 0.5]}, "has the label 0.5"),
        ({b"labels": None}, r"has the keys \[b'data'\], expected b'labels' too"),
    ],
)
def test_wrong_batches_are_refused(change: dict[bytes, Any], message: str, python_folder: Path, tmp_path: Path) -> None:
    """A batch of wrong keys, dtype, shape, label count or labels is named, with what is found and expected."""
    batch = {b"data": np.zeros((ROWS, PIXELS), np.uint8), b"labels": LABELS} | change
    folder = linked(python_folder, tmp_path / "wrong", without="test_batch")
    kept = {key: value for key, value in batch.items() if value is not None}
    (folder / "test_batch").write_bytes(pickle.dumps(kept, protocol=4))
    with pytest.raises(DataError, match=f"test_batch.*{message}.*CIFAR10_DIR"):
        locate("cifar10", cifar10_dir=folder).test(1)


def test_labels_out_of_range_are_refused_in_binary_files(binary_folder: Path, tmp_path: Path) -> None:
    """A binary batch whose label bytes go above 9 is not CIFAR-10 (a CIFAR-100 file, or one that is out of step)."""
    folder = linked(binary_folder, tmp_path / "wrong", without="test_batch.bin")
    (folder / "test_batch.bin").write_bytes(binary_batch(random_rows(0), [*LABELS[1:], 11]))
    with pytest.raises(DataError, match=r"test_batch\.bin has the label 11, expected whole numbers from 0 to 9"):
        locate("cifar10", cifar10_dir=folder).test(1)


def test_malicious_pickle_is_refused_and_not_run(python_folder: Path, tmp_path: Path) -> None:
    """A batch that would run code when unpickled is refused by name, and the code is not run."""
    marker = tmp_path / "marker"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(marker),)

    attack = pickle.dumps({b"data": Payload(), b"labels": LABELS})
    pickle.loads(attack)
    assert marker.is_dir(), "the attack has to work where nothing stops it"
    marker.rmdir()

    folder = linked(python_folder, tmp_path / "attacked", without="test_batch")
    (folder / "test_batch").write_bytes(attack)
    os.truncate(folder / "test_batch", ROWS * PIXELS)
    with pytest.raises(DataError, match=r"test_batch cannot be read .* asks for \w+\.mkdir, which no array needs"):
        locate("cifar10", cifar10_dir=folder).test(1)
    assert not marker.exists()


def test_truncated_batch_is_refused_when_located(python_folder: Path, tmp_path: Path) -> None:
    """A batch too short for its pixels is refused before anything is read, with both sizes."""
    folder = linked(python_folder, tmp_path / "short", without="data_batch_3")
    (folder / "data_batch_3").write_bytes((python_folder / "data_batch_3").read_bytes()[:1000])
    with pytest.raises(DataError, match="data_batch_3 has 1000 bytes, expected at least 30720000"):
        locate("cifar10", cifar10_dir=folder)


def test_truncated_labels_are_refused_when_read(python_folder: Path, tmp_path: Path) -> None:
    """A batch that ends within its labels, which its size does not tell, is refused when it is read."""
    folder = linked(python_folder, tmp_path / "short", without="test_batch")
    (folder / "test_batch").write_bytes((python_folder / "test_batch").read_bytes()[:-100])
    with pytest.raises(DataError, match="test_batch cannot be read as a CIFAR-10 pickle"):
        locate("cifar10", cifar10_dir=folder).test(1)


@pytest.mark.parametrize("size", [30_729_999, 30_730_001])
def test_binary_batch_of_another_size_is_refused(size: int, binary_folder: Path, tmp_path: Path) -> None:
    """A binary batch has exactly 30,730,000 bytes; one byte more or less is refused before anything is read."""
    folder = linked(binary_folder, tmp_path / "wrong", without="data_batch_5.bin")
    (folder / "data_batch_5.bin").touch()
    os.truncate(folder / "data_batch_5.bin", size)
    with pytest.raises(DataError, match=rf"data_batch_5\.bin has {size} bytes, expected exactly 30730000"):
        locate("cifar10", cifar10_dir=folder)


@pytest.mark.parametrize("name", ["test_batch", "data_batch_4", "batches.meta"])
def test_incomplete_folder_is_refused(name: str, python_folder: Path, tmp_path: Path) -> None:
    """A folder that lacks one file is refused, and the file is named."""
    folder = linked(python_folder, tmp_path / "incomplete", without=name)
    with pytest.raises(DataError, match=f"incomplete: {name} of the python layout missing"):
        locate("cifar10", cifar10_dir=folder)


def test_damaged_class_names_are_refused(python_folder: Path, tmp_path: Path) -> None:
    """A batches.meta of fewer than ten names is refused, since the class names are shown to people."""
    folder = linked(python_folder, tmp_path / "unnamed", without="batches.meta")
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"cat", b"dog"]}))
    with pytest.raises(DataError, match=r"batches\.meta names 2 classes, expected 10"):
        locate("cifar10", cifar10_dir=folder)


# CIFAR-10, found


@pytest.mark.parametrize("layout", ["python", "binary"])
def test_parent_folder_is_enough(layout: str, request: pytest.FixtureRequest) -> None:
    """The folder that holds the published one may be named in its place."""
    folder: Path = request.getfixturevalue(f"{layout}_folder")
    assert str(folder) in locate("cifar10", cifar10_dir=folder.parent).source


@pytest.mark.parametrize("named_by", ["--cifar10-dir", "CIFAR10_DIR"])
def test_named_folder_has_to_be_good(named_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named folder that is missing, is a file or holds something else is an error that says who named it."""
    (tmp_path / "file").touch()
    for folder, message in (
        (tmp_path / "missing", "missing does not exist"),
        (tmp_path / "file", "file is not a folder"),
        (tmp_path, "holds no CIFAR-10: expected data_batch_1, "),
    ):
        if named_by == "CIFAR10_DIR":
            monkeypatch.setenv("CIFAR10_DIR", str(folder))
        with pytest.raises(DataError, match=f"^{named_by} names .*{message}"):
            locate("cifar10", cifar10_dir=None if named_by == "CIFAR10_DIR" else folder)


def test_search_order(
    python_folder: Path, binary_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named folder goes before CIFAR10_DIR, that before Keras' cache, and that before this project's own cache."""
    own = linked(python_folder, tmp_path / "cache" / "conformance" / "cifar-10" / "cifar-10-batches-py")
    assert str(own) in locate("cifar10").source
    unpacked = tmp_path / "keras" / "datasets" / "cifar-10-batches-py-target" / "cifar-10-batches-py"
    linked(python_folder, unpacked)
    assert str(unpacked) in locate("cifar10").source
    keras = linked(python_folder, tmp_path / "keras" / "datasets" / "cifar-10-batches-py")
    assert str(keras) in locate("cifar10").source
    monkeypatch.setenv("CIFAR10_DIR", str(python_folder))
    assert str(python_folder) in locate("cifar10").source
    assert str(binary_folder) in locate("cifar10", cifar10_dir=binary_folder).source


def test_incomplete_cache_is_an_error(python_folder: Path, tmp_path: Path) -> None:
    """A half-unpacked cached copy is not passed over in silence: the error says to delete it or to name another."""
    folder = tmp_path / "keras" / "datasets" / "cifar-10-batches-py"
    linked(python_folder, folder, without="test_batch")
    with pytest.raises(DataError, match=f"test_batch .* missing. Delete {folder}, or .* CIFAR10_DIR"):
        locate("cifar10")


def test_photographs_stand_in_for_cifar10() -> None:
    """Where there is no CIFAR-10, the photographs come in its place, with the same input name, and say why."""
    dataset = locate("cifar10", input_name="image")
    assert (dataset.name, dataset.labelled) == ("photographs", False)
    assert dataset.unlabelled_reason is not None
    assert dataset.unlabelled_reason.startswith("no CIFAR-10 here (set CIFAR10_DIR, --cifar10-dir or --download)")
    assert list(dataset.test(1).inputs) == ["image"]


def test_unknown_dataset_is_refused() -> None:
    """An unknown name is answered with those that there are."""
    with pytest.raises(DataError, match="'cifar100', expected one of cifar10, photographs, digits"):
        locate("cifar100")


def test_locating_reads_and_imports_nothing_heavy(python_folder: Path) -> None:
    """Datasets are located without scikit-learn, Pillow or pooch, so that collecting tests stays quick."""
    code = (
        "import sys; from pathlib import Path; from engines.model.datasets import locate\n"
        "for name in ('cifar10', 'photographs', 'digits'): locate(name)\n"
        f"locate('cifar10', cifar10_dir=Path({str(python_folder)!r}))\n"
        "print([name for name in ('sklearn', 'PIL', 'pooch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


# CIFAR-10, downloaded


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder on the loopback: the folder and its URL."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Stay quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def write_archive(path: Path, files: dict[str, bytes]) -> str:
    """Write a .tar.gz of files; returns its SHA-256."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_download(served: tuple[Path, str], tmp_path: Path) -> None:
    """An archive of the right SHA-256 is unpacked to a folder that works; other files in it are written nowhere."""
    folder, url = served
    batch = python2_pickle(np.zeros((ROWS, PIXELS), np.uint8), LABELS)
    files = {f"cifar-10-batches-py/{name}": batch for name in (*TRAINING_BATCHES, "test_batch")}
    files |= {"cifar-10-batches-py/batches.meta": meta_pickle(), "../escaped": b"x"}
    sha256 = write_archive(folder / "cifar.tar.gz", files)
    target = tmp_path / "cache" / "conformance" / "cifar-10"
    found = download_cifar10(target, f"{url}/cifar.tar.gz", sha256)
    assert [path.name for path in target.iterdir()] == ["cifar-10-batches-py"]
    assert not list(tmp_path.rglob("escaped"))
    dataset = locate("cifar10")
    assert str(found) in dataset.source
    assert len(dataset.test(5)) == 5


def test_download_of_another_checksum_leaves_nothing(served: tuple[Path, str], tmp_path: Path) -> None:
    """An archive of another SHA-256 is an error with the expected and the found one, and nothing is kept."""
    folder, url = served
    found = write_archive(folder / "cifar.tar.gz", {"cifar-10-batches-py/test_batch": b"x"})
    with pytest.raises(DataError, match=rf"(?s)cifar\.tar\.gz.*{'0' * 64}.*{found}"):
        download_cifar10(tmp_path / "target", f"{url}/cifar.tar.gz", "0" * 64)
    assert not (tmp_path / "target").exists()


def test_download_of_something_else_leaves_nothing(served: tuple[Path, str], tmp_path: Path) -> None:
    """An archive that holds no CIFAR-10, or that is none at all, is an error and nothing is kept."""
    folder, url = served
    sha256 = write_archive(folder / "other.tar.gz", {"cifar-10-batches-py/test_batch": b"x"})
    with pytest.raises(DataError, match=r"not CIFAR-10 in its python layout: .*incomplete: data_batch_1, "):
        download_cifar10(tmp_path / "target", f"{url}/other.tar.gz", sha256)
    (folder / "page.html").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"downloading CIFAR-10 from .*page\.html .* failed"):
        download_cifar10(tmp_path / "target", f"{url}/page.html", hashlib.sha256(b"<html>").hexdigest())
    assert not (tmp_path / "target").exists()


def test_unreachable_download_is_an_error(served: tuple[Path, str], tmp_path: Path) -> None:
    """A server that does not answer, or does not have the file, is an error that names the URL."""
    _, url = served
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for address in (f"{nobody}/cifar.tar.gz", f"{url}/missing.tar.gz"):
            with pytest.raises(DataError, match=f"downloading CIFAR-10 from {address} to .* failed"):
                download_cifar10(tmp_path / "target", address)
    assert not (tmp_path / "target").exists()


# What scikit-learn brings along


@pytest.mark.parametrize("name", ["photographs", "digits"])
def test_calibration_and_test_never_overlap(name: str) -> None:
    """No test image, by its pixels, is among those for calibration, and both sets are large enough."""
    test, calibration = ({image.tobytes() for image in split} for split in images(name))
    assert not test & calibration
    assert len(test) >= 200
    assert len(calibration) >= 320


@pytest.mark.parametrize("name, shape", [("photographs", (32, 32, 3)), ("digits", (10, 8, 1))])
def test_bundled_images_are_float32_in_unit_range(name: str, shape: tuple[int, ...]) -> None:
    """The bundled images are float32 that fill [0, 1], in NHWC order."""
    for split in images(name):
        assert split.dtype == np.float32
        assert (split.shape[1:], split.min(), split.max()) == (shape, 0.0, 1.0)


def test_digits_stay_in_the_order_that_the_weights_were_trained_in() -> None:
    """The split of the digits is the same everywhere and for good: held-out digits must never have been trained on."""
    test, others = images("digits")
    assert (
        content_hash({"test": test, "train": others})
        == "85df05d2d4b48a0a8f11d10e941f097e5518095edc901d86ecb00b45ba6040bc"
    )


def test_photographs_hold_crops_at_three_scales() -> None:
    """The upper left corner of a photograph is among the crops as it is, and averaged over 2x2 and 4x4 pixels."""
    from sklearn.datasets import load_sample_image

    photograph = load_sample_image("flower.jpg").astype(np.float64)
    crops = np.rint(np.concatenate(images("photographs")) * 255)
    for shrink in (1, 2, 4):
        shifted = [
            photograph[y : 32 * shrink : shrink, x : 32 * shrink : shrink] for y in range(shrink) for x in range(shrink)
        ]
        assert (crops == np.rint(np.mean(shifted, axis=0))).all(axis=(1, 2, 3)).sum() == 1


def test_photographs_have_no_labels() -> None:
    """The photographs give samples without labels, refuse to be trained on and say what to do."""
    dataset = locate("photographs")
    assert (dataset.labelled, dataset.unlabelled_reason) == (False, "the photographs have no labels")
    assert dataset.test(3).labels is None
    with pytest.raises(DataError, match=r"the photographs have no labels to train on; name .* by CIFAR10_DIR"):
        dataset.train()


def test_digits_are_padded_by_a_row_above_and_below() -> None:
    """Each digit is scikit-learn's, a sixteenth of its values, between two blank rows, with its own label."""
    from sklearn.datasets import load_digits

    dataset = locate("digits")
    samples = [dataset.test(), dataset.train()]
    assert [len(part) for part in samples] == [360, 1437]
    found: dict[bytes, int] = {}
    for part in samples:
        assert part.labels is not None
        assert not part.inputs["input_1"][:, [0, -1]].any()
        pixels = (part.inputs["input_1"][:, 1:-1, :, 0] * 16).astype(np.uint8)
        found |= {image.tobytes(): int(label) for image, label in zip(pixels, part.labels, strict=True)}
    bundled = load_digits()
    assert found == {
        image.astype(np.uint8).tobytes(): int(label)
        for image, label in zip(bundled.images, bundled.target, strict=True)
    }


def test_samples_are_read_without_importing_scikit_learn() -> None:
    """Its photographs and digits are read as the files they are: importing it would cost every run a second."""
    code = (
        "import sys; from engines.model.datasets import locate\n"
        "for name in ('photographs', 'digits'): locate(name).test(1)\n"
        "print([name for name in ('sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_photographs_are_those_that_scikit_learn_gives() -> None:
    """They have its pixels and its order: by both the crops for calibration are told from those for tests."""
    from sklearn.datasets import load_sample_images

    for found, expected in zip(photographs(), load_sample_images().images, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_photographs_without_pillow_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Pillow is missing, and the store has no samples, one line says what reads them and what to do."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError) as caught:
        photographs()
    assert str(caught.value) == (
        "Pillow, which reads these samples, is not installed, and the artifact folder holds none; run "
        "`python -m engines build MODEL` where it is installed, on the same artifact folder"
    )


def test_files_that_scikit_learn_lacks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scikit-learn without its samples, and none at all, are errors that say what to install and where."""
    empty = machinery.ModuleSpec("sklearn", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("engines.model.scikit_learn.util.find_spec", {"sklearn": empty}.get)
    with pytest.raises(DataError, match=rf"{tmp_path}/datasets/images/china\.jpg is missing; install the scikit-learn"):
        photographs()
    monkeypatch.setattr("engines.model.scikit_learn.util.find_spec", {}.get)
    with pytest.raises(DataError, match="scikit-learn, which brings these samples, is not installed"):
        photographs()


# Counts and content


@pytest.mark.parametrize(
    "name, tests, calibrations, origin",
    [("photographs", 320, 350, "the photographs"), ("digits", 360, 1437, "the digits")],
)
def test_too_many_samples_are_refused(name: str, tests: int, calibrations: int, origin: str) -> None:
    """Asking for more samples than there are, or for none, is an error that says how many there are."""
    dataset = locate(name)
    with pytest.raises(DataError, match=f"asked for {tests + 1} test samples, {origin} have {tests}"):
        dataset.test(tests + 1)
    with pytest.raises(
        DataError, match=f"asked for {calibrations + 1} calibration samples, {origin} have {calibrations}"
    ):
        dataset.calibration(calibrations + 1)
    with pytest.raises(DataError, match="asked for 0 calibration samples, expected at least 1"):
        dataset.calibration(0)


def test_take_is_a_slice_of_inputs_and_labels() -> None:
    """A slice holds the same samples and labels in their order; one beyond the end or an empty one is refused."""
    samples = locate("digits").test(20)
    part = samples.take(5, 8)
    assert len(part) == 3
    np.testing.assert_array_equal(part.inputs["input_1"], samples.inputs["input_1"][5:8])
    assert samples.labels is not None
    np.testing.assert_array_equal(part.labels, samples.labels[5:8])
    with pytest.raises(DataError, match="asked for 21 samples, the digits have 20"):
        samples.take(0, 21)
    with pytest.raises(DataError, match="asked for samples 19 up to 21, the digits have 20"):
        samples.take(19, 21)
    for start, stop in ((3, 3), (-1, 2)):
        with pytest.raises(DataError, match="expected 0 ≤ start < stop"):
            samples.take(start, stop)


@pytest.mark.parametrize(
    "inputs, labels, message",
    [
        ({}, None, "at least one input"),
        ({"x": np.zeros((2, 3))}, None, r"x is float64 of shape \(2, 3\), expected float32"),
        ({"x": np.zeros((2, 3), np.float32)}, np.zeros(2, np.int32), "labels is int32"),
        ({"x": np.zeros((2, 3), np.float32)}, np.zeros(3, np.int64), r"differ \(x: 2, labels: 3\)"),
        ({"x": np.zeros(2, np.float32), "y": np.zeros(3, np.float32)}, None, r"differ \(x: 2, y: 3\)"),
    ],
)
def test_samples_that_do_not_fit_together_are_refused(
    inputs: dict[str, np.ndarray], labels: np.ndarray | None, message: str
) -> None:
    """Samples of no input, of wrong dtypes or of differing counts are refused when they are made."""
    with pytest.raises(DataError, match=message):
        Samples(inputs, labels)


def test_content_hash_tells_arrays_apart() -> None:
    """Any change of name, dtype, shape or value changes the hash; order of mapping and memory layout do not."""
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    base = content_hash({"a": a, "b": a})
    assert base == content_hash({"b": np.asfortranarray(a), "a": a})
    others: list[dict[str, np.ndarray]] = [
        {"a": a, "c": a},
        {"a": a, "b": a.view(np.int32)},
        {"a": a, "b": a.reshape(3, 2)},
        {"a": a, "b": a + 1},
        {"a": a},
        {"a": a, "b": a, "c": a[:0]},
        {"a": a, "b": a, "c": np.float32(0).reshape(())},
    ]
    assert len({base, *(content_hash(other) for other in others)}) == len(others) + 1
    with pytest.raises(DataError, match=r"a is object of shape \(1,\), expected numbers"):
        content_hash({"a": np.array([None])})
