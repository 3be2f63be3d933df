"""System shared memory with a server on this machine: tensors are written where it reads them, and sent nowhere."""

from __future__ import annotations

import itertools
import os
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import RunnerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.formats.served.client import Connection

EXTENSION = "system_shared_memory"
"""What a server that takes it lists among its extensions."""

_numbers = itertools.count()


class Region:
    """A region that one connection shares with its server; it grows with what is put into it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.name = f"conformance-{os.getpid()}-{secrets.token_hex(4)}-{next(_numbers)}"
        self.size = 0
        self._handle: Any = None

    def fit(self, size: int) -> None:
        """Have at least so many bytes; raises RunnerError where the server does not take them."""
        if size <= self.size:
            return
        from tritonclient.utils import shared_memory

        self.close()
        self._handle = shared_memory.create_shared_memory_region(self.name, f"/{self.name}", size)
        try:
            self._connection.call("register_system_shared_memory", self.name, f"/{self.name}", size)
        except BaseException:
            self._free()
            raise
        self.size = size

    def write(self, array: NDArray[Any], offset: int) -> None:
        """Put an array at an offset in bytes."""
        from tritonclient.utils import shared_memory

        shared_memory.set_shared_memory_region(self._handle, [array], offset)

    def read(self, dtype: str, shape: tuple[int, ...], offset: int) -> NDArray[Any]:
        """Copy of an array at an offset in bytes."""
        from tritonclient.utils import shared_memory

        return np.array(shared_memory.get_contents_as_numpy(self._handle, np.dtype(dtype).type, list(shape), offset))

    def close(self) -> None:
        """Have nothing; a server that is gone has forgotten it, too."""
        if self._handle is not None:
            try:
                self._connection.call("unregister_system_shared_memory", self.name)
            except RunnerError:
                pass
            finally:
                self._free()

    def _free(self) -> None:
        from tritonclient.utils import shared_memory

        shared_memory.destroy_shared_memory_region(self._handle)
        self._handle, self.size = None, 0
