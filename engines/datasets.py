"""The samples that models are trained, calibrated and judged on: CIFAR-10, or what a bare machine has instead.

:func:`locate` only finds a dataset and checks what a look at its files tells; they are read when samples are asked
for. Pixels are kept as they are stored (uint8) and made float32 in [0, 1] for the samples asked for only.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import math
import os
import pickle
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATASETS = ("cifar10", "photographs", "digits")
"""What :func:`locate` finds."""

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_BATCH_ROWS = 10_000
_ROW_PIXELS = 3 * 32 * 32
_BINARY_BYTES = _BATCH_ROWS * (1 + _ROW_PIXELS)
_GET_ANOTHER = f"Get the files again from {CIFAR10_URL}, or name another folder by CIFAR10_DIR or --cifar10-dir."

_PHOTOGRAPH_TESTS = 320
_PHOTOGRAPH_CALIBRATIONS = 350
_DIGIT_TESTS = 360
_DIGIT_TRAININGS = 1437
_SHUFFLE_SEED = 20


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples in memory: ``inputs`` by input name (float32, the first axis is the sample) and their labels.

    ``labels`` is int64 of shape (N,), or None where there are none; ``origin`` is what error messages call these
    samples (a plural). Raises DataError where the dtypes or the numbers of samples differ from that.
    """

    inputs: Mapping[str, NDArray[np.float32]]
    labels: NDArray[np.int64] | None
    origin: str = "the arrays"

    def __post_init__(self) -> None:
        arrays: dict[str, tuple[NDArray[Any], str]] = {name: (array, "float32") for name, array in self.inputs.items()}
        if not arrays:
            raise DataError("samples need at least one input, there is none")
        if self.labels is not None:
            arrays["labels"] = (self.labels, "int64")
        for name, (array, dtype) in arrays.items():
            if array.dtype != dtype or array.ndim == 0:
                raise DataError(f"{name} is {_described(array)}, expected {dtype} with the sample as its first axis")
        if len({len(array) for array, _ in arrays.values()}) > 1:
            found = ", ".join(f"{name}: {len(array)}" for name, (array, _) in arrays.items())
            raise DataError(f"the numbers of samples differ ({found})")

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, start: int, stop: int) -> Samples:
        """Return the samples [start, stop) as views; raises DataError for an empty range or where fewer are there."""
        if not 0 <= start < stop:
            raise DataError(f"asked for samples {start} up to {stop}, expected 0 ≤ start < stop")
        if stop > len(self):
            asked = f"{stop} samples" if start == 0 else f"samples {start} up to {stop}"
            raise DataError(f"asked for {asked}, {self.origin} have {len(self)}")
        return Samples(
            {name: array[start:stop] for name, array in self.inputs.items()},
            None if self.labels is None else self.labels[start:stop],
            self.origin,
        )


@dataclass(frozen=True)
class _Block:
    """What one file holds: uint8 pixels as (N, height, width, channels) and int64 labels (N,), if any."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None


@dataclass(frozen=True)
class _Split:
    """Samples in blocks of ``block_rows`` each, read when they are needed; ``white`` is the pixel value of 1.0."""

    block_rows: int
    blocks: tuple[Callable[[], _Block], ...]
    white: int = 255

    def __len__(self) -> int:
        return self.block_rows * len(self.blocks)

    def read(self, count: int, input_name: str, origin: str) -> Samples:
        """Read the first ``count`` samples, and no block beyond them."""
        blocks = [read() for read in self.blocks[: math.ceil(count / self.block_rows)]]
        images = np.empty((count, *blocks[0].pixels.shape[1:]), np.float32)
        for index, block in enumerate(blocks):
            part = images[index * self.block_rows :][: self.block_rows]
            np.divide(block.pixels[: len(part)], self.white, out=part, dtype=np.float32)
        labels = [block.labels for block in blocks if block.labels is not None]
        return Samples({input_name: images}, np.concatenate(labels)[:count] if labels else None, origin)


@dataclass(frozen=True)
class Dataset:
    """A dataset that was found; its samples are read when they are first asked for.

    ``name`` is one of :data:`DATASETS` and ``source`` says for a person where the samples come from.
    ``unlabelled_reason`` says why there are no labels and is None where there are. Images are float32 in
    ``value_range`` of shape (N, height, width, channels): 32x32x3 for CIFAR-10 and the photographs, 10x8x1 for the
    digits. Every method raises DataError for a count below 1 or above what is there, and for files that turn out to be
    damaged.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    labelled: bool
    unlabelled_reason: str | None
    _input_name: str = field(repr=False)
    _origin: str = field(repr=False)
    _held_out: _Split = field(repr=False, compare=False)
    _training: _Split = field(repr=False, compare=False)
    folder: Path | None = None
    """Where the files are; None for data that comes with a package."""
    value_range: tuple[float, float] = (0.0, 1.0)
    """What black and white are scaled to."""

    @property
    def test_count(self) -> int:
        """How many test samples there are, without reading them."""
        return len(self._held_out)

    def test(self, count: int | None = None) -> Samples:
        """Return the first ``count`` held-out samples, all of them for None."""
        return self._read(self._held_out, "test", count)

    def train(self) -> Samples:
        """Return all training samples; raises DataError where there are no labels."""
        if not self.labelled:
            raise DataError(
                f"{self._origin} have no labels to train on; name a CIFAR-10 folder by CIFAR10_DIR or --cifar10-dir, "
                "or get it by --download"
            )
        return self._read(self._training, "training", None)

    def calibration(self, count: int) -> Samples:
        """Return the first ``count`` training samples (of the photographs: those kept for calibration).

        None of them is among those that :meth:`test` returns.
        """
        return self._read(self._training, "calibration", count)

    def _read(self, split: _Split, purpose: str, count: int | None) -> Samples:
        count = len(split) if count is None else count
        if count < 1:
            raise DataError(f"asked for {count} {purpose} samples, expected at least 1")
        if count > len(split):
            raise DataError(f"asked for {count} {purpose} samples, {self._origin} have {len(split)}")
        samples = split.read(count, self._input_name, self._origin)
        low, high = self.value_range
        if (low, high) != (0.0, 1.0):
            scaled = {name: (low + (high - low) * array).astype(np.float32) for name, array in samples.inputs.items()}
            return Samples(scaled, samples.labels, samples.origin)
        return samples


def locate(
    dataset: str,
    *,
    cifar10_dir: Path | None = None,
    download: bool = False,
    input_name: str = "input_1",
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Dataset:
    """Find a dataset, without reading its images.

    ``input_name`` is what its samples' input is called, ``value_range`` what black and white are scaled to.

    ``cifar10`` is looked for in ``cifar10_dir``, in the folder that the environment's CIFAR10_DIR names, in Keras'
    cache and in this project's own cache; ``download`` fetches it into the latter where none has it. Where there is
    no CIFAR-10, the unlabelled ``photographs`` stand in for it.

    Raises DataError for an unknown name, for a folder that is named but is missing, incomplete or of wrong sizes, for
    a cached copy that is incomplete, and for a download that fails.
    """
    found = _located(dataset, cifar10_dir, download, input_name)
    return replace(found, value_range=value_range)


def _located(dataset: str, cifar10_dir: Path | None, download: bool, input_name: str) -> Dataset:
    if dataset == "digits":
        return _digits(input_name)
    if dataset == "photographs":
        return _photographs(input_name, "the photographs have no labels")
    if dataset != "cifar10":
        raise DataError(f"the dataset is {dataset!r}, expected one of {', '.join(DATASETS)}")
    found = _find_cifar10(cifar10_dir)
    if found is None and download:
        found = _examined(download_cifar10(_download_folder()))
    if found is None:
        return _photographs(
            input_name, "no CIFAR-10 here (set CIFAR10_DIR, --cifar10-dir or --download), so there are no labels"
        )
    return _cifar10(*found, input_name)


def pack(dataset: Dataset, calibration: int) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Give what :func:`unpack` makes a dataset of again elsewhere.

    That is arrays (uint8 pixels, int64 labels) and a JSON-able rest: all test samples, and the first ``calibration``
    training samples without their labels.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, split, count in (("test", dataset._held_out, None), ("calibration", dataset._training, calibration)):
        blocks = [read() for read in split.blocks[: math.ceil((count or len(split)) / split.block_rows)]]
        arrays[name] = np.ascontiguousarray(np.concatenate([block.pixels for block in blocks])[:count])
        labels = [block.labels for block in blocks if block.labels is not None]
        if labels and name == "test":
            arrays["labels"] = np.concatenate(labels)
    rest = {
        "name": dataset.name,
        "source": dataset.source,
        "class_names": list(dataset.class_names),
        "unlabelled_reason": dataset.unlabelled_reason,
        "white": dataset._held_out.white,
        "rows": {name: len(arrays[name]) for name in ("test", "calibration")},
    }
    return arrays, rest


def unpack(
    path: Path, rest: Mapping[str, Any], input_name: str, value_range: tuple[float, float] = (0.0, 1.0)
) -> Dataset:
    """Give the dataset that :func:`pack` packed; its arrays are in the .npz file ``path``, read when asked for."""

    @functools.cache
    def arrays() -> dict[str, NDArray[Any]]:
        with np.load(path) as archive:
            return dict(archive)

    return Dataset(
        name=rest["name"],
        source=f"{rest['source']} (as stored in {path})",
        class_names=tuple(rest["class_names"]),
        labelled=rest["unlabelled_reason"] is None,
        unlabelled_reason=rest["unlabelled_reason"],
        value_range=value_range,
        _input_name=input_name,
        _origin="the stored samples",
        _held_out=_Split(
            rest["rows"]["test"], (lambda: _Block(arrays()["test"], arrays().get("labels")),), rest["white"]
        ),
        _training=_Split(rest["rows"]["calibration"], (lambda: _Block(arrays()["calibration"], None),), rest["white"]),
    )


def content_hash(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 (hex) of the arrays' names, dtypes, shapes and bytes, whatever the order of the mapping.

    Raises DataError for an array of Python objects, whose bytes say nothing.
    """
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        if array.dtype.hasobject:
            raise DataError(f"{name} is {_described(array)}, expected numbers")
        # The header tells how many bytes follow it, so no two mappings run together into the same stream.
        digest.update(json.dumps([name, str(array.dtype), array.shape]).encode() + b"\n")
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def download_cifar10(target: Path, url: str = CIFAR10_URL, sha256: str = CIFAR10_SHA256) -> Path:
    """Download CIFAR-10 (170 MB, python layout) with a progress bar; returns the folder of its files in ``target``.

    The folder appears only once the archive's SHA-256 is right and every file is there. Raises DataError, and leaves
    nothing in ``target``, where the archive cannot be fetched, has another SHA-256 or is not CIFAR-10.
    """
    try:
        import pooch
    except ImportError as error:
        raise DataError("downloading CIFAR-10 needs pooch and tqdm; pip install pooch tqdm") from error

    folder = target / _PYTHON.folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix="download-") as staging:
            archive = pooch.retrieve(
                url, known_hash=f"sha256:{sha256}", path=staging, fname="cifar-10-python.tar.gz", progressbar=True
            )
            fresh = Path(staging) / _PYTHON.folder
            fresh.mkdir()
            _unpack(Path(archive), fresh)
            _examined(fresh)
            try:
                fresh.replace(folder)
            except OSError:
                # Another process may have finished the same download first; its copy is as good.
                if not folder.is_dir():
                    raise
    except DataError as error:
        raise DataError(f"{url} is not CIFAR-10 in its python layout: {error}") from error
    except (OSError, ValueError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"downloading CIFAR-10 from {url} to {target} failed: {error}") from error
    finally:
        # Removes an empty folder only.
        with contextlib.suppress(OSError):
            target.rmdir()
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Copy the layout's files out of a downloaded archive."""
    wanted = {f"{_PYTHON.folder}/{name}": name for name in _PYTHON.files}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            # Plain bytes to names chosen here: no path, link, owner or mode of the archive has any effect.
            if member.isfile() and member.name in wanted and (content := tar.extractfile(member)) is not None:
                with (folder / wanted[member.name]).open("wb") as file:
                    shutil.copyfileobj(content, file)


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, (list, tuple, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


# CIFAR-10: the two layouts in which its authors publish it.


def _dtype(kind: Any, align: Any = False, copy: Any = False) -> np.dtype[Any]:
    # Python 2 pickled these flags as 0 and 1, in the official files too, and NumPy 2.4.0 to 2.4.4 warn of numbers.
    dtype: np.dtype[Any] = np.dtype(kind, bool(align), bool(copy))
    return dtype


def _latin1(text: str, encoding: str) -> bytes:
    # How Python 3 pickles bytes for Python 2.
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks to encode as {encoding!r}")
    return text.encode("latin-1")


_RECONSTRUCT = np.empty(0, np.uint8).__reduce__()[0]
_FROM_BUFFER = np.empty(0, np.uint8).__reduce_ex__(5)[0]
_PICKLED_ARRAY: Mapping[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _latin1,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FROM_BUFFER for core in ("core", "_core")},
}
"""All that a pickle of arrays and plain containers refers to, under the names of NumPy 1 and 2."""


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays and plain containers only, since a pickle can otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up among those that arrays need; raises UnpicklingError for any other."""
        if (module, name) not in _PICKLED_ARRAY:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs; that was not run")
        return _PICKLED_ARRAY[module, name]


def _unpickled(path: Path) -> dict[Any, Any]:
    """Read a pickled dict of arrays and plain containers."""
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
    # A damaged pickle is a random program: besides its own error it fails as any wrong call or index does.
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        OSError,
        TypeError,
        ValueError,
    ) as error:
        raise DataError(
            f"{path} cannot be read as a CIFAR-10 pickle: {type(error).__name__}: {error}. {_GET_ANOTHER}"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is {_described(content)}, expected a pickled dict. {_GET_ANOTHER}")
    return content


def _entry(path: Path, content: Mapping[Any, Any], key: bytes) -> Any:
    if key not in content:
        raise DataError(f"{path} has the keys {sorted(content, key=str)}, expected {key!r} too. {_GET_ANOTHER}")
    return content[key]


def _images(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """View rows, each the red, green and blue plane of a 32x32 image in turn, in NHWC order."""
    images: NDArray[np.uint8] = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images


def _read_python_batch(path: Path) -> _Block:
    content = _unpickled(path)
    data, labels = _entry(path, content, b"data"), _entry(path, content, b"labels")
    shape = (_BATCH_ROWS, _ROW_PIXELS)
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape == shape):
        raise DataError(f"{path}: data is {_described(data)}, expected uint8 of shape {shape}. {_GET_ANOTHER}")
    if not (isinstance(labels, list) and len(labels) == _BATCH_ROWS):
        raise DataError(f"{path}: labels is {_described(labels)}, expected a list of {_BATCH_ROWS}. {_GET_ANOTHER}")
    for label in labels:
        if type(label) is not int or not 0 <= label <= 9:
            raise DataError(f"{path} has the label {label!r}, expected whole numbers from 0 to 9. {_GET_ANOTHER}")
    return _Block(_images(data), np.array(labels, np.int64))


def _read_binary_batch(path: Path) -> _Block:
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. {_GET_ANOTHER}") from error
    if content.size != _BINARY_BYTES:
        raise DataError(f"{path} has {content.size} bytes, expected exactly {_BINARY_BYTES}. {_GET_ANOTHER}")
    rows = content.reshape(_BATCH_ROWS, 1 + _ROW_PIXELS)
    labels = rows[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise DataError(f"{path} has the label {labels.max()}, expected whole numbers from 0 to 9. {_GET_ANOTHER}")
    return _Block(_images(rows[:, 1:]), labels)


def _python_names(path: Path) -> list[bytes]:
    names = _entry(path, _unpickled(path), b"label_names")
    if not (isinstance(names, list) and all(isinstance(name, bytes) for name in names)):
        raise DataError(f"{path}: label_names is {_described(names)}, expected a list of bytes. {_GET_ANOTHER}")
    return names


def _binary_names(path: Path) -> list[bytes]:
    try:
        if not path.exists():
            return [name.encode() for name in CIFAR10_CLASSES]
        return path.read_bytes().split()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. {_GET_ANOTHER}") from error


@dataclass(frozen=True)
class _Layout:
    """One published form of CIFAR-10: what its folder and files are called, how large they are, how they are read."""

    name: str
    folder: str
    batches: tuple[str, ...]
    """The files of images; the last one holds the test images."""
    batch_bytes: int
    exact: bool
    """Whether a batch has exactly that many bytes, or more."""
    names_file: str
    names_needed: bool
    read: Callable[[Path], _Block]
    read_names: Callable[[Path], list[bytes]]

    @property
    def files(self) -> tuple[str, ...]:
        """The files without which a folder is incomplete."""
        return (*self.batches, self.names_file) if self.names_needed else self.batches


_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_PYTHON = _Layout(
    name="python",
    folder="cifar-10-batches-py",
    batches=_BATCHES,
    batch_bytes=_BATCH_ROWS * _ROW_PIXELS,
    exact=False,
    names_file="batches.meta",
    names_needed=True,
    read=_read_python_batch,
    read_names=_python_names,
)
_BINARY = _Layout(
    name="binary",
    folder="cifar-10-batches-bin",
    batches=tuple(f"{name}.bin" for name in _BATCHES),
    batch_bytes=_BINARY_BYTES,
    exact=True,
    names_file="batches.meta.txt",
    names_needed=False,
    read=_read_binary_batch,
    read_names=_binary_names,
)
_LAYOUTS = (_PYTHON, _BINARY)


def _examined(asked: Path) -> tuple[Path, _Layout]:
    """Find CIFAR-10 in a folder or in a subfolder of the published name; checks what its files' names and sizes tell.

    Raises DataError that begins with the path at fault.
    """
    try:
        if not asked.is_dir():
            raise DataError(f"{asked} {'is not a folder' if asked.exists() else 'does not exist'}.")
        candidates = [(asked, layout) for layout in _LAYOUTS if any((asked / name).exists() for name in layout.batches)]
        candidates += [(asked / layout.folder, layout) for layout in _LAYOUTS if (asked / layout.folder).is_dir()]
        if not candidates:
            raise DataError(
                f"{asked} holds no CIFAR-10: expected {', '.join(_PYTHON.files)} (python layout) or "
                f"{', '.join(_BINARY.files)} (binary layout), here or in {_PYTHON.folder} or {_BINARY.folder}."
            )
        folder, layout = candidates[0]
        missing = [name for name in layout.files if not (folder / name).is_file()]
        if missing:
            raise DataError(f"{folder} is incomplete: {', '.join(missing)} of the {layout.name} layout missing.")
        for path in (folder / name for name in layout.batches):
            size = path.stat().st_size
            if size < layout.batch_bytes or (layout.exact and size != layout.batch_bytes):
                bound = "exactly" if layout.exact else "at least"
                raise DataError(f"{path} has {size} bytes, expected {bound} {layout.batch_bytes}.")
    except OSError as error:
        raise DataError(f"{asked} cannot be examined: {error}.") from error
    return folder, layout


def _cache(variable: str, otherwise: str) -> Path:
    return Path(os.environ.get(variable) or otherwise).expanduser()


def _download_folder() -> Path:
    return _cache("XDG_CACHE_HOME", "~/.cache") / "conformance" / "cifar-10"


def _find_cifar10(named: Path | None) -> tuple[Path, _Layout] | None:
    """Find the first CIFAR-10 in the order that :func:`locate` documents; None where there is none."""
    named_by = "--cifar10-dir"
    if named is None and (value := os.environ.get("CIFAR10_DIR")):
        named, named_by = Path(value), "CIFAR10_DIR"
    if named is not None:
        try:
            return _examined(named.expanduser())
        except DataError as error:
            raise DataError(f"{named_by} names a folder that cannot be used: {error} {_GET_ANOTHER}") from error
    keras = _cache("KERAS_HOME", "~/.keras") / "datasets"
    for folder in (
        keras / _PYTHON.folder,
        keras / f"{_PYTHON.folder}-target" / _PYTHON.folder,
        _download_folder() / _PYTHON.folder,
    ):
        if os.path.lexists(folder):
            try:
                return _examined(folder)
            except DataError as error:
                raise DataError(
                    f"the cached copy of CIFAR-10 cannot be used: {error} Delete {folder}, or name another folder by "
                    "CIFAR10_DIR or --cifar10-dir."
                ) from error
    return None


def _cifar10(folder: Path, layout: _Layout, input_name: str) -> Dataset:
    names_path = folder / layout.names_file
    names = layout.read_names(names_path)
    if len(names) != len(CIFAR10_CLASSES):
        raise DataError(f"{names_path} names {len(names)} classes, expected {len(CIFAR10_CLASSES)}. {_GET_ANOTHER}")
    blocks = [functools.cache(functools.partial(layout.read, folder / name)) for name in layout.batches]
    return Dataset(
        name="cifar10",
        source=f"CIFAR-10 in {folder} ({layout.name} layout)",
        class_names=tuple(name.decode(errors="replace") for name in names),
        labelled=True,
        unlabelled_reason=None,
        _input_name=input_name,
        _origin="the CIFAR-10 files",
        _held_out=_Split(_BATCH_ROWS, tuple(blocks[-1:])),
        _training=_Split(_BATCH_ROWS, tuple(blocks[:-1])),
        folder=folder,
    )


# What scikit-learn brings along: photographs in place of CIFAR-10's images, and digits.


def _shuffled(count: int) -> NDArray[np.int64]:
    # RandomState's stream is frozen for good, a Generator's is not; the bundled weights were trained on one split.
    return np.random.RandomState(_SHUFFLE_SEED).permutation(count)


def _crops(photograph: NDArray[np.uint8], shrink: int) -> NDArray[np.uint8]:
    """Average ``shrink`` x ``shrink`` pixels of a (height, width, 3) photograph; cut the result into 32x32 images."""
    height, width = (side // shrink for side in photograph.shape[:2])
    pixels = photograph[: height * shrink, : width * shrink].reshape(height, shrink, width, shrink, 3)
    small = np.rint(pixels.mean(axis=(1, 3))).astype(np.uint8)
    rows, columns = height // 32, width // 32
    grid = small[: rows * 32, : columns * 32].reshape(rows, 32, columns, 32, 3)
    crops: NDArray[np.uint8] = grid.transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)
    return crops


def _scikit_learn_file(name: str) -> Path:
    """Find a file that scikit-learn brings along, without importing it: that takes a second, and nothing else needs it.

    Raises DataError where it is not there.
    """
    found = util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise DataError(
            "scikit-learn, which brings these samples, is not installed, and the artifact folder holds none; run "
            "`python -m engines build MODEL` where it is installed, on the same artifact folder"
        )
    path = Path(found.origin).parent / "datasets" / name
    if not path.is_file():
        raise DataError(f"{path} is missing; install the scikit-learn of requirements.txt again")
    return path


def photographs() -> list[NDArray[np.uint8]]:
    """Read scikit-learn's two photographs: uint8 (height, width, 3); raises DataError where they are not there."""
    from PIL import Image

    return [np.asarray(Image.open(_scikit_learn_file(f"images/{name}.jpg"))) for name in ("china", "flower")]


@functools.cache
def _photograph_blocks() -> tuple[_Block, _Block]:
    # At full scale a crop is mostly texture; at a half and a quarter it holds whole objects, as CIFAR-10's images do.
    crops = np.concatenate([_crops(image, shrink) for image in photographs() for shrink in (1, 2, 4)])
    if len(crops) != _PHOTOGRAPH_TESTS + _PHOTOGRAPH_CALIBRATIONS:
        raise DataError(
            f"scikit-learn's photographs give {len(crops)} crops, expected "
            f"{_PHOTOGRAPH_TESTS + _PHOTOGRAPH_CALIBRATIONS}; install scikit-learn again"
        )
    crops = crops[_shuffled(len(crops))]
    return _Block(crops[:_PHOTOGRAPH_TESTS], None), _Block(crops[_PHOTOGRAPH_TESTS:], None)


def _photographs(input_name: str, reason: str) -> Dataset:
    return Dataset(
        name="photographs",
        source="32x32 crops of scikit-learn's china.jpg and flower.jpg",
        class_names=CIFAR10_CLASSES,
        labelled=False,
        unlabelled_reason=reason,
        _input_name=input_name,
        _origin="the photographs",
        _held_out=_Split(_PHOTOGRAPH_TESTS, (lambda: _photograph_blocks()[0],)),
        _training=_Split(_PHOTOGRAPH_CALIBRATIONS, (lambda: _photograph_blocks()[1],)),
    )


@functools.cache
def _digit_blocks() -> tuple[_Block, _Block]:
    with gzip.open(_scikit_learn_file("data/digits.csv.gz")) as file:
        # The 64 pixels of a digit in each row, and what it is.
        rows = np.loadtxt(file, np.uint8, delimiter=",")
    # Height, width and channels all differ, so that no transposed layout passes for the right one.
    images = np.pad(rows[:, :-1].reshape(-1, 8, 8), ((0, 0), (1, 1), (0, 0)))[..., np.newaxis]
    if len(images) != _DIGIT_TESTS + _DIGIT_TRAININGS:
        raise DataError(
            f"scikit-learn has {len(images)} digits, expected {_DIGIT_TESTS + _DIGIT_TRAININGS}; "
            "install scikit-learn again"
        )
    order = _shuffled(len(images))
    images, labels = images[order], rows[:, -1].astype(np.int64)[order]
    return _Block(images[:_DIGIT_TESTS], labels[:_DIGIT_TESTS]), _Block(images[_DIGIT_TESTS:], labels[_DIGIT_TESTS:])


def _digits(input_name: str) -> Dataset:
    return Dataset(
        name="digits",
        source="scikit-learn's 1,797 handwritten digits, padded to 10x8",
        class_names=tuple("0123456789"),
        labelled=True,
        unlabelled_reason=None,
        _input_name=input_name,
        _origin="the digits",
        _held_out=_Split(_DIGIT_TESTS, (lambda: _digit_blocks()[0],), white=16),
        _training=_Split(_DIGIT_TRAININGS, (lambda: _digit_blocks()[1],), white=16),
    )
