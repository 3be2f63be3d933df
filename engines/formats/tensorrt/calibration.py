"""INT8 calibration with TensorRT's entropy calibrator 2, and its cache, which says what it was made from."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ConversionError
from engines.formats.tensorrt.versions import bindings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.model.spec import Calibration

CACHE = "calibration.cache"
"""The cache's name in an artifact's folder: one line of JSON, then what TensorRT wrote."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheKey:
    """What a calibration depends on: hashes of ONNX, samples and the code here, the batch, and TensorRT's version."""

    model: str
    data: str
    batch: int
    tensorrt: str
    code: str


def write_cache(path: Path, key: CacheKey, content: bytes) -> None:
    """Write what TensorRT gave, below a line that says what it was made from and its own hash."""
    header = {**vars(key), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_bytes(json.dumps(header).encode() + b"\n" + content)


def read_cache(path: Path, key: CacheKey) -> bytes | None:
    """Cached calibration when it is whole and was made from just this; else None, and a line that says why."""
    try:
        line, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        reason = "it does not say what it was made from"
    elif header.pop("sha256", None) != hashlib.sha256(content).hexdigest():
        reason = "it was truncated or edited"
    elif header != vars(key):
        changed = [name for name, value in vars(key).items() if header.get(name) != value]
        reason = f"it was made from another {', '.join(changed) or 'set of ingredients'}"
    else:
        return content
    _log.warning("calibration cache %s refused: %s", path, reason)
    return None


def batches_of(
    samples: Mapping[str, NDArray[Any]], calibration: Calibration, what: str
) -> list[dict[str, NDArray[Any]]]:
    """Cut calibration samples (arrays (N, …) by the engine's input names) into contiguous batches, all of one size.

    Raises ConversionError where there are fewer samples than the calibration asks for: too few give scales that fit
    nothing else, and no error later on.
    """
    for name, array in samples.items():
        if len(array) < calibration.samples:
            raise ConversionError(
                f"{what}: {len(array)} calibration samples for input {name!r}; expected {calibration.samples}"
            )
    return [
        {name: np.ascontiguousarray(array[start : start + calibration.batch]) for name, array in samples.items()}
        for start in range(0, calibration.samples, calibration.batch)
    ]


class Feed:
    """Serves calibration batches from device memory, and counts what was asked for.

    Needs a current CUDA context. :meth:`free` gives the device memory back.
    """

    def __init__(self, batches: list[dict[str, NDArray[Any]]], batch: int) -> None:
        self.batches, self.batch = batches, batch
        self.served = 0
        self.read_from: str | None = None
        self._device: dict[str, Any] = {}

    def next(self, names: Iterable[str]) -> list[int] | None:
        """Copy the next batch to the device; gives the addresses by the names asked for, None after the last."""
        import pycuda.driver as cuda

        if self.served == len(self.batches):
            return None
        arrays = self.batches[self.served]
        for name, array in arrays.items():
            if name not in self._device:
                self._device[name] = cuda.mem_alloc(array.nbytes)
            cuda.memcpy_htod(self._device[name], array)
        self.served += 1
        return [int(self._device[name]) for name in names]

    def free(self) -> None:
        """Free the device memory."""
        while self._device:
            self._device.popitem()[1].free()

    def check(self, what: str) -> None:
        """Raise ConversionError unless every batch was taken, or none because a cache was read."""
        expected = 0 if self.read_from else len(self.batches)
        if self.served != expected:
            raise ConversionError(
                f"{what}: TensorRT took {self.served} calibration batches of {self.batch}; expected {expected}"
                + (f" (its cache {self.read_from} was read)" if self.read_from else "")
            )


def entropy_calibrator(feed: Feed, key: CacheKey, target: Path, caches: Iterable[Path]) -> Any:
    """Make TensorRT's entropy calibrator 2 on ``feed``.

    The first of ``caches`` that was made from ``key`` spares the calibration; what TensorRT calibrates or reads is
    written to ``target``. An exception inside a callback cannot pass through TensorRT, so it is kept in ``failure``.
    """
    trt = bindings()
    parent: Any = trt.IInt8EntropyCalibrator2

    class EntropyCalibrator(parent):  # type: ignore[misc]
        """Called by TensorRT while it builds."""

        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.failure: BaseException | None = None

        def get_batch_size(self) -> int:
            """Samples of a batch."""
            return feed.batch

        def get_batch(self, names: list[str]) -> list[int] | None:
            """Device addresses of the next batch, None after the last."""
            try:
                return feed.next(names)
            except BaseException as error:  # noqa: BLE001 - nothing passes through TensorRT; the build raises it
                self.failure = error
                return None

        def read_calibration_cache(self) -> bytes | None:
            """Cache that was made from just this, or None."""
            try:
                for path in caches:
                    if content := read_cache(path, key):
                        write_cache(target, key, content)
                        feed.read_from = str(path)
                        return content
            except BaseException as error:  # noqa: BLE001 - as above
                self.failure = error
            return None

        def write_calibration_cache(self, cache: Any) -> None:
            """Keep what was calibrated."""
            try:
                write_cache(target, key, bytes(cache))
            except BaseException as error:  # noqa: BLE001 - as above
                self.failure = error

    return EntropyCalibrator()
