"""Messages between two processes: pickled, one packet each, those with large arrays through anonymous memory."""

from __future__ import annotations

import os
import pickle
import select
import socket
import threading
from typing import Any

from engines.process.memory import anonymous

PACKET_BYTES = 1 << 15
"""Longer messages travel in a memory file, of which the packet hands over the descriptor."""

_SHORT, _LONG = b"s", b"l"


class Channel:
    """One end of a connected pair of sockets that keep packets apart; any thread may send, one at a time receive."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self._sending = threading.Lock()

    def send(self, message: Any) -> None:
        """Send what can be pickled; arrays in it are copied once. Raises OSError where the other end is gone."""
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        if len(pickled) + sum(map(len, raw)) + 8 * len(raw) < PACKET_BYTES // 2:
            # Nothing is gained by a file; the arrays become part of the pickle.
            with self._sending:
                self._end.send(_SHORT + pickle.dumps(message, protocol=5))
            return
        file = anonymous("message")
        try:
            for part in (memoryview(pickled), *raw):
                while len(part):
                    part = part[os.write(file, part) :]  # noqa: PLW2901 - at most 2 GiB go at once
            os.lseek(file, 0, os.SEEK_SET)
            lengths = pickle.dumps((len(pickled), [len(part) for part in raw]))
            with self._sending:
                socket.send_fds(self._end, [_LONG + lengths], [file])
        finally:
            os.close(file)

    def receive(self) -> Any:
        """The next message; waits for it. Raises EOFError where the other end is closed, OSError where it broke."""
        packet, files, _, _ = socket.recv_fds(self._end, PACKET_BYTES, 1)
        if not packet:
            raise EOFError
        kind, content = packet[:1], packet[1:]
        if kind == _SHORT:
            return pickle.loads(content)
        (file,) = files
        try:
            first, others = pickle.loads(content)
            pickled, *buffers = (_read(file, length) for length in (first, *others))
        finally:
            os.close(file)
        return pickle.loads(pickled, buffers=buffers)

    def waiting(self) -> bool:
        """Whether a message is there, or the other end is gone; waits for nothing."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Close this end: the other one's next receive raises EOFError."""
        self._end.close()


def _read(file: int, length: int) -> bytearray:
    """The next bytes of a memory file; both processes share its position."""
    content = bytearray(length)
    view = memoryview(content)
    while view:
        view = view[os.readv(file, [view]) :]
    return content
