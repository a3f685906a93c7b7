"""The way from the receiver to the writer: blocks of lines through a socket pair, so in memory only."""

import socket
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Final

from anonproxy.model.vocabularies import DropReason
from anonproxy.proxy.channel import Receiver
from anonproxy.proxy.counters import Row

# Before each block: which receiver, its number of the block's last line, and how many lines the block has.
HEAD: Final = Struct("<HQI")
# When a block is full. The last datagram in it may be as long as an AF_UNIX socket sends by default.
FULL_BYTES: Final = 64 * 1024
BUFFER_BYTES: Final = 512 * 1024
# Lines that wait for a slow writer: a few seconds of the busiest server, or minutes of a usual one.
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024


class BlockSender:
    """The receiver's end: keeps blocks for a writer that is busy, and counts the lines that there is no room for."""

    def __init__(self, channel: socket.socket, index: int, row: Row, is_writer_up: Callable[[], bool]) -> None:
        self._channel = channel
        self._index = index
        self._row = row
        self._is_writer_up = is_writer_up
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0

    @property
    def is_waiting(self) -> bool:
        """Tell whether there are blocks that the writer has not been sent."""
        return bool(self._waiting)

    def put(self, block: bytes) -> None:
        """Take whole lines."""
        count, row = block.count(b"\n"), self._row
        row["begun"] += count
        row["requests"] += count
        if self._waiting_bytes + len(block) > MAX_WAITING_BYTES:
            reason = DropReason.QUEUE_FULL if self._is_writer_up() else DropReason.WRITER_DOWN
            row[f"dropped_{reason}"] += count
            return
        row["sent"] += count
        self._waiting.append(HEAD.pack(self._index, row["sent"], count) + block)
        self._waiting_bytes += len(block)

    def pump(self) -> None:
        """Send what the channel takes."""
        while self._waiting:
            try:
                self._channel.send(self._waiting[0], socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                pass  # longer than the kernel lets pass; by the number of the next one the writer sees what is missing
            self._waiting_bytes -= len(self._waiting.popleft()) - HEAD.size


def take_block(receiver: Receiver) -> bytes:
    """Wait for the next block of lines.

    Raises: EOFError when nobody can send any more, or another writer takes over; all before has been received
    """
    while True:
        message = receiver.take(HEAD.size + BUFFER_BYTES)
        worker, number, count = HEAD.unpack_from(message)
        if receiver.see(worker, number, count):
            return message[HEAD.size :]
