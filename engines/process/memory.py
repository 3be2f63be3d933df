"""Memory that two processes share, and where arrays lie in it."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIGNED = 64
"""Each array begins at a multiple of so many bytes: a line of the processor's cache."""


def anonymous(name: str) -> int:
    """Descriptor of new memory without a name in any file system, so that nothing of it can be left over.

    Nor is it bound by the size of /dev/shm, which is 64 MB in many containers. A Python that was built for an old C
    library has none: there it is a file in the temporary folder, deleted while it is open.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@dataclass(frozen=True)
class Layout:
    """Where arrays lie in shared memory, one after the other: dtype and shape by name."""

    arrays: Mapping[str, tuple[str, tuple[int, ...]]]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Layout:
        """Layout of arrays like the given ones."""
        return cls({n: (a.dtype.str, a.shape) for n, a in arrays.items()})

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(map(self._bytes, self.arrays))

    def _bytes(self, name: str) -> int:
        dtype, shape = self.arrays[name]
        return -(-np.dtype(dtype).itemsize * math.prod(shape) // ALIGNED) * ALIGNED

    def views(self, memory: Memory) -> dict[str, NDArray[Any]]:
        """The arrays in the memory, by name."""
        buffer, found, start = memory.of(self.size), {}, 0
        for name, (dtype, shape) in self.arrays.items():
            found[name] = np.ndarray(shape, dtype, buffer, start)
            start += self._bytes(name)
        return found


class Memory:
    """Anonymous memory that two processes share by its descriptor; its ``writer`` makes it as large as is asked for.

    It is gone with the last descriptor and mapping, however a process ends.
    """

    def __init__(self, descriptor: int, *, writer: bool) -> None:
        self.descriptor, self._writer = descriptor, writer
        self._memory: mmap.mmap | None = None

    def of(self, size: int) -> mmap.mmap:
        """The memory, at least so many bytes of it."""
        size = max(size, mmap.PAGESIZE)  # nothing at all cannot be mapped
        if self._memory is None or len(self._memory) < size:
            if self._writer:
                os.ftruncate(self.descriptor, size)
            # What views of the old mapping there are keep it; nothing closes it under them.
            self._memory = mmap.mmap(self.descriptor, size)
        return self._memory

    def close(self) -> None:
        """Forget the mapping, which ends with its last view, and close the descriptor."""
        self._memory = None
        os.close(self.descriptor)
