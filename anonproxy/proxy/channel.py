"""The way from the workers to the writer: one message a request, through a socket pair, so in memory only."""

import json
import socket
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from anonproxy.anonymize.request import RawRequest
from anonproxy.model.vocabularies import DropReason
from anonproxy.proxy.counters import Counters, Row

# Longest text of each field, in characters. What is cut is never stored: a longer target's route can't be one that k
# visits share, and a session cookie beyond the limit gives a tag from address and agent instead.
LIMITS: Final = {
    "raw_client": 128,
    "raw_host": 256,
    "raw_method": 32,
    "raw_target": 8192,
    "raw_cookie": 4096,
    "raw_set_cookie": 4096,
    "raw_user_agent": 1024,
    "raw_referrer": 4096,
    "raw_accept_language": 256,
}
_FIELDS: Final = tuple(RawRequest.__slots__)
_read_fields: Final = attrgetter(*_FIELDS)
_CUTS: Final = tuple((_FIELDS.index(name), limit) for name, limit in LIMITS.items())
# A message holds at most the limits' sum, six bytes a character as JSON escapes them, and the numbers.
MAX_MESSAGE_BYTES: Final = 6 * sum(LIMITS.values()) + 1024
# What the kernel may hold of unread messages; it grants what net.core.wmem_max allows.
BUFFER_BYTES: Final = 8 * 1024 * 1024
# What the supervisor sends a writer that is to end while the workers go on; no request looks like it.
END: Final = b"end"


def encode_request(worker: int, number: int, request: RawRequest) -> bytes:
    """Return the message that carries a request: the worker's `number`-th."""
    values = list(_read_fields(request))
    for index, limit in _CUTS:
        if len(values[index]) > limit:
            values[index] = values[index][:limit]
    return json.dumps((worker, number, values), separators=(",", ":")).encode()


def decode_request(message: bytes) -> tuple[int, int, RawRequest]:
    """Return the worker, the number and the request that a message carries."""
    worker, number, values = json.loads(message)
    return worker, number, RawRequest(*values)


def open_channel() -> tuple[socket.socket, socket.socket]:
    """Return the workers' end and the writer's end. The supervisor keeps both open, so that either side may restart."""
    sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return sending, receiving


class Sender:
    """A worker's end: hands requests over without ever waiting, and counts those that can't be."""

    def __init__(self, channel: socket.socket, worker: int, row: Row, is_writer_up: Callable[[], bool]) -> None:
        self._channel = channel
        self._worker = worker
        self._row = row
        self._is_writer_up = is_writer_up

    def __call__(self, request: RawRequest) -> None:
        number = self._row["sent"] + 1
        try:
            self._channel.send(encode_request(self._worker, number, request), socket.MSG_DONTWAIT)
        except BlockingIOError:
            reason = DropReason.QUEUE_FULL if self._is_writer_up() else DropReason.WRITER_DOWN
            self._row.count(f"dropped_{reason}")
        except OSError:
            self._row.count(f"dropped_{DropReason.WRITER_DOWN}")
        else:
            self._row["sent"] = number


class Receiver:
    """The writer's end: takes requests in order, and counts those that a killed writer took with it."""

    def __init__(self, channel: socket.socket, counters: Counters) -> None:
        self._channel = channel
        self._workers = counters.workers
        self._row = counters.writer

    def receive(self) -> RawRequest:
        """Wait for the next request and return it.

        Raises: EOFError when nobody can send any more, or another writer takes over; all before has been received
        """
        message = self._channel.recv(MAX_MESSAGE_BYTES)
        if message in {b"", END}:
            raise EOFError("the other end is closed")
        worker, number, request = decode_request(message)
        row = self._workers[worker]
        self._row["dropped_writer_down"] += max(0, number - row["seen"] - 1)
        row["seen"] = number
        return request
