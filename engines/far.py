"""Arrays of another process, which this one reads by itself (Linux): a single copy, made by the kernel.

The other process has nothing to do for it: its interpreter's lock is not asked for.
"""

from __future__ import annotations

import ctypes
import math
import os
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SET_PTRACER = 0x59616D61
"""Linux's prctl that names who may read a process, where its security module Yama is on."""


_Spans = ctypes.c_size_t * 4
"""Two of Linux's ``iovec``: start and length of a piece of memory here, and of one in the other process."""


class FarArray:
    """Rows of an array, contiguous, that lies in the process ``pid``; a slice of it is one, too.

    It can be sent from process to process. Who has the array keeps it in place as long as anybody reads it.
    """

    __slots__ = ("_row_bytes", "address", "dtype", "pid", "shape")

    def __init__(self, pid: int, address: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.pid, self.address, self.dtype, self.shape = pid, address, dtype, shape
        self._row_bytes = dtype.itemsize * math.prod(shape[1:])

    @classmethod
    def of(cls, array: NDArray[Any]) -> FarArray:
        """An array of this process, for others; ValueError where it is not contiguous."""
        if not array.flags.c_contiguous:
            raise ValueError(f"an array of {array.shape} with strides {array.strides}; expected a contiguous one")
        return cls(os.getpid(), array.ctypes.data, array.dtype, array.shape)

    def __len__(self) -> int:
        """How many rows it has."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> FarArray:
        """Some of the rows, one after the other."""
        start, stop, _ = rows.indices(self.shape[0])
        part = FarArray.__new__(FarArray)
        part.pid, part.dtype, part._row_bytes = self.pid, self.dtype, self._row_bytes
        part.address, part.shape = self.address + start * self._row_bytes, (max(0, stop - start), *self.shape[1:])
        return part

    def read(self, target: NDArray[Any]) -> None:
        """Copy all rows to ``target``: contiguous, and of the same shape and dtype, else ValueError.

        Raises OSError where the system does not allow it, or the array is there no more.
        """
        if target.shape != self.shape or target.dtype != self.dtype or not target.flags.c_contiguous:
            raise ValueError(f"{target.dtype} {target.shape} cannot take {self.dtype} {self.shape}")
        # This is called thousands of times a second, with the interpreter's lock held but for the copy itself.
        done, size = 0, target.nbytes
        start = ctypes.addressof(ctypes.c_char.from_buffer(target.data)) if size else 0
        while done < size:
            # One call copies 2 GiB at most.
            spans = _Spans(start + done, size - done, self.address + done, size - done)
            here = ctypes.addressof(spans)
            count = _libc().process_vm_readv(self.pid, here, 1, here + ctypes.sizeof(spans) // 2, 1, 0)
            if count <= 0:
                number = ctypes.get_errno()
                raise OSError(number, f"process {self.pid} cannot be read: {os.strerror(number)}")
            done += count

    def here(self) -> NDArray[Any]:
        """A copy of it in this process; raises OSError as :meth:`read` does."""
        found = np.empty(self.shape, self.dtype)
        self.read(found)
        return found


def copy(target: NDArray[Any], source: NDArray[Any] | FarArray) -> None:
    """Copy an array, of this process or of another one, to one of its shape; other threads run meanwhile."""
    if isinstance(source, FarArray):
        source.read(target)
    else:
        np.copyto(target, source)


def let_children_read() -> None:
    """Let the processes that this one starts read it, where Yama allows that to nobody else than a debugger."""
    # Without Yama it is an unknown option, which harms nothing.
    _libc().prctl(_SET_PTRACER, os.getpid(), 0, 0, 0)


@cache
def _libc() -> ctypes.CDLL:
    """The C library, with the types of what is called."""
    library = ctypes.CDLL(None, use_errno=True)
    address, number = ctypes.c_void_p, ctypes.c_ulong
    library.process_vm_readv.argtypes = (ctypes.c_int, address, number, address, number, number)
    library.process_vm_readv.restype = ctypes.c_ssize_t
    library.prctl.argtypes = (ctypes.c_int, number, number, number, number)
    return library
