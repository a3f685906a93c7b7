"""A word to the running recorder: how its key stands, to end it now, to seal what it wrote, or what happens now.

Whoever imports old logs has more than a word for it, and talks on over the same connection.

The socket has a name in the kernel and no file, so that nothing stands in the store but rows, and a killed recorder
leaves nothing behind. Files have owners and names haven't: each end asks the kernel who the other is.
"""

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from anonproxy.model.errors import StoreError

Answer = Mapping[str, Any]
Commands = Mapping[str, Callable[[], Answer]]
# What goes on over a connection once its first word was said, in a thread of its own.
Talks = Mapping[str, Callable[[socket.socket], None]]

# The longest answer names some pages of a site; the kernel holds three times as much.
MAX_BYTES: Final = 65_536
# Whoever asks has its question ready; a recorder answers at once, or waits for a flush, or seals a busy hour.
PATIENCE_S: Final = 10.0
ANSWER_S: Final = 60.0
ROOT: Final = 0


class Control:
    """Answers commands until it is closed; a name that somebody else has taken leaves the recorder without it."""

    def __init__(self, root: Path, commands: Commands, talks: Talks) -> None:
        self._commands = commands
        self._talks = talks
        self._talking: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(OSError):
            self._listener.bind(socket_name(root))
            self._listener.listen()
            threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Answer no more, and end what is talked about."""
        for connection in (self._listener, *self._talking):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(Exception):  # one question that can't be answered is not the end of all
                connection.settimeout(PATIENCE_S)
                if peer_user(connection) in {ROOT, os.geteuid()}:
                    word = connection.recv(MAX_BYTES).decode("ascii", "replace")
                    if talk := self._talks.get(word):
                        self._talking.add(connection)
                        threading.Thread(target=self._talk, args=(talk, connection), daemon=True).start()
                        continue
                    if command := self._commands.get(word):
                        send(connection, command())
            connection.close()

    def _talk(self, talk: Callable[[socket.socket], None], connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(Exception):  # its end, or what is none of our words: hang up
                talk(connection)
        finally:
            self._talking.discard(connection)


def ask(root: Path, command: str) -> dict[str, Any]:
    """Give a command to the recorder of a store, and return its answer.

    Raises: StoreError when none runs, or it isn't the store's owner's
    """
    try:
        with call(root, command) as connection:
            connection.settimeout(ANSWER_S)
            return receive(connection)
    except EOFError:
        raise StoreError(f"{root}: no answer. Ask as root or as the user that runs anonproxy") from None
    except OSError:
        raise StoreError(f"{root}: nothing records into this store. Start it with `anonproxy run`") from None


def call(root: Path, word: str) -> socket.socket:
    """Connect to the recorder of a store, and say the first word.

    Raises: OSError when there is none; StoreError when it isn't the store's owner's
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(PATIENCE_S)
        connection.connect(socket_name(root))
        if peer_user(connection) not in {ROOT, root.stat().st_uid}:
            raise StoreError(f"{root}: what answers for this store belongs to another user. Look who runs it")
        connection.send(word.encode())
    except BaseException:
        connection.close()
        raise
    return connection


def send(connection: socket.socket, message: Answer) -> None:
    """Send a message.

    Raises: OSError
    """
    connection.send(json.dumps(message).encode())


def receive(connection: socket.socket) -> dict[str, Any]:
    """Receive a message.

    Raises: EOFError at the end; OSError
    """
    message = connection.recv(MAX_BYTES)
    if not message:
        raise EOFError
    told: dict[str, Any] = json.loads(message)
    return told


def send_bytes(connection: socket.socket, data: bytes) -> None:
    """Send what is longer than a message.

    Raises: OSError
    """
    view = memoryview(data)
    for start in range(0, len(view), MAX_BYTES):
        connection.send(view[start : start + MAX_BYTES])


def receive_bytes(connection: socket.socket, length: int) -> bytes:
    """Receive what is longer than a message.

    Raises: EOFError when it ends before; OSError
    """
    return b"".join(_receive_pieces(connection, length))


def _receive_pieces(connection: socket.socket, length: int) -> Iterator[bytes]:
    while length > 0:
        piece = connection.recv(MAX_BYTES)
        if not piece:
            raise EOFError
        yield piece
        length -= len(piece)


def socket_name(root: Path) -> bytes:
    """Return the name of a store's socket; the zero before it means that it is no file."""
    return b"\0anonproxy-" + sha256(os.fsencode(root.resolve())).hexdigest()[:32].encode()


def peer_user(connection: socket.socket) -> int:
    """Return the user id of the process at the other end, as the kernel knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user: int = struct.unpack("3i", credentials)[1]
    return user
