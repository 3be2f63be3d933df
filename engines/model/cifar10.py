"""The samples that models are trained, calibrated and judged on: CIFAR-10, or what a bare machine has instead.

:func:`locate` only finds a dataset and checks what a look at its files tells; they are read when samples are asked
for. Pixels are kept as they are stored (uint8) and made float32 in [0, 1] for the samples asked for only.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import DataError
from engines.model.samples import Dataset, _Block, _described, _Split

if TYPE_CHECKING:
    from numpy.typing import NDArray


CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"

CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_BATCH_ROWS = 10_000

_ROW_PIXELS = 3 * 32 * 32

_BINARY_BYTES = _BATCH_ROWS * (1 + _ROW_PIXELS)

_GET_ANOTHER = f"Get the files again from {CIFAR10_URL}, or name another folder by CIFAR10_DIR or --cifar10-dir."


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
