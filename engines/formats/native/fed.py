"""What a program made of the samples on their way to the engine, told by the SHA-256 of what it fed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN = (
    "no usual mistake gives that hash: it was fed other data, such as random numbers or memory that was never written, "
    "or the samples were changed in a way that is not looked for"
)


def mistake(samples: NDArray[np.float32], fed_sha256: str, batch: int) -> str:
    """Which usual mistake turns samples (N, …) into bytes of this hash; ``batch`` is the size of full batches."""
    for sentence, content in _mistakes(samples, batch):
        if hashlib.sha256(content).hexdigest() == fed_sha256:
            return sentence
    return UNKNOWN


def _mistakes(samples: NDArray[np.float32], batch: int) -> Iterator[tuple[str, bytes]]:
    """What each mistake feeds; made one at a time, for samples may be large."""
    count = len(samples)
    flat = samples.reshape(count, -1)
    raw = samples.tobytes()
    if rest := count % batch:
        yield f"the last batch, of {rest}, was dropped: {count - rest} of {count} samples", flat[:-rest].tobytes()
        padded = np.concatenate([flat, np.zeros((batch - rest, flat.shape[1]), np.float32)])
        yield f"the last batch, of {rest}, was filled up to {batch} with zeros", padded.tobytes()
    ids = np.arange(count, dtype=np.float32)[:, None]
    for name, first in (("sample_id", ids), ("zero", ids * 0), ("the last value", flat[:, -1:])):
        shifted = np.concatenate([first, flat[:, :-1]], axis=1)
        yield f"rows are shifted by one column: each starts with {name}, and loses its last value", shifted.tobytes()
    for name, last in (("zero", ids * 0), ("the first value", flat[:, :1])):
        shifted = np.concatenate([flat[:, 1:], last], axis=1)
        yield f"rows are shifted by one column: each loses its first value, and ends with {name}", shifted.tobytes()
    header = _npy_header(samples)
    yield f"the .npy header ({len(header)} bytes) was read as pixels", (header + raw)[: len(raw)]
    for skipped in (80, 128):
        sentence = f"{skipped} bytes were skipped, as of an .npy header, in a file that has none"
        yield sentence, raw[skipped:] + bytes(skipped)
        yield sentence, raw[skipped:]
    if samples.ndim == 4:
        yield "channels are fed first (NCHW), the engine takes NHWC", samples.transpose(0, 3, 1, 2).tobytes()
        n, h, w, c = samples.shape
        moved = samples.reshape(n, c, h, w).transpose(0, 2, 3, 1)
        yield "samples were taken for NCHW, and brought to NHWC once more", moved.tobytes()
        yield "the channels are reversed (RGB and BGR)", samples[..., ::-1].tobytes()
    doubles = samples.astype("<f8").tobytes()
    for content in (doubles, doubles[: len(raw)]):
        yield "float64 bytes are fed, the engine takes float32", content
    if len(raw) % 8 == 0:
        with np.errstate(all="ignore"):
            halved = np.frombuffer(raw, "<f8").astype(np.float32)
        yield "float32 bytes were read as float64: half as many values", halved.tobytes()
    yield "the bytes of each value are reversed (big-endian)", samples.astype(">f4").tobytes()
    yield "values are 255 times as large", (samples * np.float32(255)).tobytes()
    yield "values are 255 times as small", (samples / np.float32(255)).tobytes()
    yield "every value is zero: the samples were never copied", bytes(len(raw))


def _npy_header(samples: NDArray[Any]) -> bytes:
    """Bytes that ``numpy.save`` writes before the samples."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(samples))
    return file.getvalue()
