"""The way from the workers to the writer: a few requests a message, through a socket pair, so in memory only."""

import json
import select
import socket
import struct
from collections.abc import Callable, Iterable
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
# Characters stay as they are: escapes would make up to twelve bytes of one, and a message longer than what is read.
_to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# Requests wait for each other, so that neither end wakes up for each: until there are so many bytes, or so long.
BATCH_BYTES: Final = 65_536
BATCH_S: Final = 0.02
# A message holds at most that, or one request: the sum of the limits, six bytes a character since JSON escapes control
# characters so, and the numbers.
MAX_MESSAGE_BYTES: Final = 6 * sum(LIMITS.values()) + 1024
# What the kernel may hold of unread messages; it grants what net.core.wmem_max allows.
BUFFER_BYTES: Final = 8 * 1024 * 1024
# What the supervisor sends a writer that is to end while the workers go on; no request looks like it.
END: Final = b"end"
# How long nothing may come until what is missing is looked for.
IDLE_S: Final = 1


def encode_request(request: RawRequest) -> bytes:
    """Return a request as it stands in a message."""
    values = list(_read_fields(request))
    for index, limit in _CUTS:
        if len(values[index]) > limit:
            values[index] = values[index][:limit]
    return _to_json(values).encode("utf-8", "surrogatepass")  # as json.loads decodes


def encode_message(worker: int, number: int, requests: Iterable[bytes]) -> bytes:
    """Return the message that carries requests, the last of which is the worker's `number`-th."""
    return b"[%d,%d,[%s]]" % (worker, number, b",".join(requests))


def decode_message(message: bytes) -> tuple[int, int, list[RawRequest]]:
    """Return the worker, the number of the last request, and the requests that a message carries."""
    worker, number, requests = json.loads(message)
    return worker, number, [RawRequest(*values) for values in requests]


def open_channel() -> tuple[socket.socket, socket.socket]:
    """Return the workers' end and the writer's end. The supervisor keeps both open, so that either side may restart."""
    sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return sending, receiving


class Sender:
    """A worker's end: hands requests over without ever waiting for the writer, and counts those that can't be.

    `soon` calls what it is given within BATCH_S.
    """

    def __init__(
        self,
        channel: socket.socket,
        worker: int,
        row: Row,
        is_writer_up: Callable[[], bool],
        soon: Callable[[Callable[[], None]], object] = lambda send: send(),
    ) -> None:
        self._channel = channel
        self._worker = worker
        self._row = row
        self._is_writer_up = is_writer_up
        self._soon = soon
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def __call__(self, request: RawRequest) -> None:
        encoded = encode_request(request)
        if self._waiting_bytes + len(encoded) > BATCH_BYTES:
            self.send()
        self._waiting.append(encoded)
        self._waiting_bytes += len(encoded)
        if len(self._waiting) == 1:
            self._soon(self.send)

    def send(self) -> None:
        """Hand over what waits."""
        count, number = len(self._waiting), self._row["sent"] + len(self._waiting)
        if not count:
            return
        message = encode_message(self._worker, number, self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        # Said before it is done: of a worker that is killed in between, the writer sees what is missing.
        self._row["sent"] = number
        try:
            self._channel.send(message, socket.MSG_DONTWAIT)
        except OSError as error:
            self._row["sent"] = number - count
            is_full = isinstance(error, BlockingIOError) and self._is_writer_up()
            self._row[f"dropped_{DropReason.QUEUE_FULL if is_full else DropReason.WRITER_DOWN}"] += count


class Receiver:
    """The writer's end: takes requests in order, and counts those that a killed process took with it.

    Each worker numbers its messages. What is missing before a message is lost; and so is what is missing at the end,
    once nothing has come for a while. Should it come after all, it is left out, since it has been counted already.
    """

    def __init__(self, channel: socket.socket, counters: Counters) -> None:
        self._channel = channel
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", IDLE_S, 0))
        self._workers = counters.workers
        self._row = counters.writer
        self._missing: dict[int, int] = {}  # what each worker had sent when nothing came

    def receive(self) -> list[RawRequest]:
        """Wait for the next requests and return them.

        Raises: EOFError when nobody can send any more, or another writer takes over; all before has been received
        """
        while True:
            worker, number, requests = decode_message(self.take(MAX_MESSAGE_BYTES))
            if self.see(worker, number, len(requests)):
                return requests

    def take(self, max_bytes: int) -> bytes:
        """Wait for the next message and return it.

        Raises: EOFError as `receive` does
        """
        while True:
            try:
                message = self._channel.recv(max_bytes)
            except BlockingIOError:
                self._write_off()
                continue
            self._missing.clear()
            if message in {b"", END}:
                raise EOFError("the other end is closed")
            return message

    def is_waiting(self, timeout_s: float) -> bool:
        """Tell whether a message is there, or comes soon."""
        return bool(select.select([self._channel], [], [], max(0.0, timeout_s))[0])

    def see(self, worker: int, number: int, count: int = 1) -> bool:
        """Count what is missing before a message that ends with a worker's `number`-th; False if it was written off."""
        row = self._workers[worker]
        if number <= row["seen"]:
            return False
        self._lose(row, number - count)
        row["seen"] = number
        return True

    def _write_off(self) -> None:
        """Count what was said to be sent two looks ago, and hasn't come in between."""
        for worker, sent in self._missing.items():
            self._lose(self._workers[worker], sent)
        self._missing = {worker: row["sent"] for worker, row in enumerate(self._workers) if row["sent"] > row["seen"]}

    def _lose(self, row: Row, number: int) -> None:
        """Count messages up to a number as lost."""
        missing = max(0, number - row["seen"])
        row["seen"] += missing
        self._row["dropped_writer_down"] += missing
