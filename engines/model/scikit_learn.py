"""The two datasets that scikit-learn brings along: crops of its photographs, and its digits."""

from __future__ import annotations

import functools
import gzip
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.errors import DataError
from engines.model.cifar10 import CIFAR10_CLASSES
from engines.model.samples import Dataset, _Block, _Split

if TYPE_CHECKING:
    from numpy.typing import NDArray


_PHOTOGRAPH_TESTS = 320

_PHOTOGRAPH_CALIBRATIONS = 350

_DIGIT_TESTS = 360

_DIGIT_TRAININGS = 1437

_SHUFFLE_SEED = 20


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
        raise DataError(_not_installed("scikit-learn, which brings these samples,"))
    path = Path(found.origin).parent / "datasets" / name
    if not path.is_file():
        raise DataError(f"{path} is missing; install the scikit-learn of requirements.txt again")
    return path


def _not_installed(what: str) -> str:
    return (
        f"{what} is not installed, and the artifact folder holds none; run `python -m engines build MODEL` where it is "
        "installed, on the same artifact folder"
    )


def photographs() -> list[NDArray[np.uint8]]:
    """Read scikit-learn's two photographs: uint8 (height, width, 3); raises DataError where they are not there.

    So it does where Pillow is missing, which reads them.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise DataError(_not_installed("Pillow, which reads these samples,")) from error
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
