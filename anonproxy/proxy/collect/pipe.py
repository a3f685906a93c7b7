"""A pipe to the collector: for servers that write their log to a program, like Apache.

It reads on whatever happens, since a server whose pipe is full would wait. What the collector doesn't take is lost, and
it is told how much, once it takes something.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
from collections.abc import Iterator
from typing import Final

from anonproxy.ingest.stream import LOST, MAX_LINE_BYTES, LineReader
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import Settings
from anonproxy.proxy import quiet
from anonproxy.proxy.collect.places import locate

READ_BYTES: Final = 64 * 1024
# As much as the kernel allows everybody (fs.pipe-max-size).
PIPE_BYTES: Final = 1024 * 1024
# Lines that go together: less than a datagram of UDP holds.
MESSAGE_BYTES: Final = 48 * 1024
# How long the collector may be busy; the pipe holds more than comes meanwhile.
PATIENCE_S: Final = 0.1


def hand_on(settings: Settings) -> None:
    """Hand standard input on to the collector, to its end; a signal doesn't end it, since lines may still come.

    Raises: OperatorError when the collector listens for no datagrams
    """
    place = choose_place(settings)
    quiet.silence()
    quiet.harden()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    sender = Sender(place)
    for message in read_messages(0):
        sender.send(message)


def choose_place(settings: Settings) -> str:
    """Return the first place that a pipe can hand lines on to.

    Raises: OperatorError when there is none
    """
    place = next((place for place in settings.collect.listen if not place.startswith("tcp:")), None)
    if place is None:
        raise OperatorError(
            'collect.listen: a pipe needs a place for datagrams. Add "unix:/run/anonproxy/collect.sock"'
        )
    return place


def read_messages(source: int) -> Iterator[bytes]:
    """Give what comes in whole lines, as much together as a datagram holds."""
    reader = LineReader()
    while piece := os.read(source, READ_BYTES):
        yield from split_lines(reader.feed(piece))
    yield from split_lines(reader.end())


def split_lines(lines: bytes) -> Iterator[bytes]:
    """Cut lines into messages; a line alone may be longer."""
    start = 0
    while start < len(lines):
        end = len(lines)
        if end - start > MESSAGE_BYTES:
            end = lines.rfind(b"\n", start, start + MESSAGE_BYTES) + 1 or lines.index(b"\n", start) + 1
        yield lines[start:end]
        start = end


class Sender:
    """Sends to a place that may come and go."""

    def __init__(self, place: str) -> None:
        self._family, self._where = locate(place)
        self._socket: socket.socket | None = None
        self._lost = 0  # lines that the collector has not been told of

    def send(self, message: bytes) -> None:
        """Send once, or forget all but how many lines it was."""
        if not self._try(message):
            self._lost += message.count(b"\n")
        while self._lost and self._socket:
            told = min(self._lost, MESSAGE_BYTES // len(LOST))
            if not self._try(LOST * told):
                return
            self._lost -= told

    def _try(self, message: bytes) -> bool:
        try:
            if self._socket is None:
                self._socket = self._connect()
            with contextlib.suppress(BlockingIOError):
                self._socket.send(message)
                return True
            if select.select([], [self._socket], [], PATIENCE_S)[1]:
                self._socket.send(message)
                return True
        except OSError:
            if self._socket:
                self._socket.close()
            self._socket = None
        return False

    def _connect(self) -> socket.socket:
        connecting = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_LINE_BYTES)
            connecting.setblocking(False)
            connecting.connect(self._where)
        except OSError:
            connecting.close()
            raise
        return connecting
