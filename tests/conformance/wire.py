"""HTTP/1.1 as bytes on a socket, read by nobody's code but this, so that nothing is smoothed over."""

import contextlib
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

PATIENCE_S: Final = 20.0

Fields = list[tuple[bytes, bytes]]


@dataclass
class Message:
    """A request or an answer as it stood on the wire; a chunked body is put together."""

    start: bytes
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    is_whole: bool = True
    interim: list["Message"] = field(default_factory=list)

    def get(self, name: bytes) -> bytes:
        """Return a header's value; several lines are joined."""
        return b", ".join(value for key, value in self.fields if key.lower() == name)

    @property
    def status(self) -> int:
        """Return an answer's status."""
        return int(self.start.split(b" ")[1])


class Garbage(Exception):
    """What came is no message, by the strictest reading."""


class Broken(Garbage):
    """The other side closed or reset before a message was complete."""


class Wire:
    """One connection, read message by message."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.was_reset = False
        self._waiting = b""

    def more(self) -> bool:
        """Take what comes next; return False at the end."""
        try:
            received = self.connection.recv(65536)
        except ConnectionError:
            self.was_reset = True
            return False
        self._waiting += received
        return bool(received)

    def read_until(self, end: bytes) -> bytes:
        """Read up to and with an end."""
        while end not in self._waiting:
            if not self.more():
                raise Broken
        read, _, self._waiting = self._waiting.partition(end)
        return read + end

    def read_bytes(self, number: int) -> tuple[bytes, bool]:
        """Read so many bytes, or what there is of them; tell whether that is all."""
        while len(self._waiting) < number and self.more():
            pass
        read, self._waiting = self._waiting[:number], self._waiting[number:]
        return read, len(read) == number

    def take(self) -> bytes:
        """Return what has come already."""
        read, self._waiting = self._waiting, b""
        return read

    def read_rest(self) -> bytes:
        """Read until the other side closes."""
        while self.more():
            pass
        return self.take()

    def read_request(self) -> Message | None:
        """Read a request; None at the end.

        Raises: Garbage, Broken
        """
        if not self._waiting and not self.more():
            return None
        request = parse_head(self.read_until(b"\r\n\r\n"))
        self._read_body(request, request.get(b"content-length") or b"0")
        if not request.is_whole:
            raise Broken
        return request

    def read_answer(self, method: str = "GET") -> Message:
        """Read an answer, with the interim ones before it."""
        interim = []
        while (answer := parse_head(self.read_until(b"\r\n\r\n"))).status < 200 and answer.status != 101:
            interim.append(answer)
        answer.interim = interim
        if method != "HEAD" and answer.status not in (101, 204, 304):
            self._read_body(answer, answer.get(b"content-length"))
        return answer

    def _read_body(self, message: Message, length: bytes) -> None:
        if message.get(b"transfer-encoding").lower() == b"chunked":
            with contextlib.suppress(Garbage):
                message.is_whole = False
                while size := parse_size(self.read_until(b"\r\n")):
                    chunk, is_whole = self.read_bytes(size)
                    message.body += chunk
                    if not is_whole or self.read_bytes(2)[0] != b"\r\n":
                        raise Broken
                tail = self.read_until(b"\r\n")
                while not tail.endswith(b"\r\n\r\n") and tail != b"\r\n":
                    tail += self.read_until(b"\r\n")
                message.trailers, message.is_whole = parse_fields(tail), True
        elif length:
            message.body, message.is_whole = self.read_bytes(int(length))
        else:
            message.body, message.is_whole = self.read_rest(), not self.was_reset


def parse_head(raw: bytes) -> Message:
    """Parse a head; what isn't one by the strictest reading is an error."""
    start, _, rest = raw.partition(b"\r\n")
    if not re.fullmatch(rb"[!-~]+ [!-~\x80-\xff]+ [ -~\x80-\xff]*", start):
        raise Garbage
    return Message(start, parse_fields(rest))


def parse_fields(raw: bytes) -> Fields:
    """Parse header lines."""
    fields = []
    for line in raw.removesuffix(b"\r\n").split(b"\r\n")[: -1 if raw != b"\r\n" else 0]:
        match = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*", line)
        if not match:
            raise Garbage
        fields.append((match[1], match[2]))
    return fields


def parse_size(line: bytes) -> int:
    """Parse the line before a chunk."""
    match = re.fullmatch(rb"([0-9a-fA-F]+)(;[^\r\n]*)?\r\n", line)
    if not match:
        raise Garbage
    return int(match[1], 16)


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Connect to a port of loopback."""
    return socket.create_connection((host, port), PATIENCE_S)


def ask(port: int, *raw: bytes, methods: Iterable[str] = ("GET",), host: str = "127.0.0.1") -> list[Message]:
    """Send bytes, read an answer for each method, and close."""
    with connect(port, host) as connection:
        wire = Wire(connection)
        for piece in raw:
            connection.sendall(piece)
        return [wire.read_answer(method) for method in methods]
