"""A word to the running recorder: how its key stands, to end it now, to seal what it wrote, or what happens now.

The socket has a name in the kernel and no file, so that nothing stands in the store but rows, and a killed recorder
leaves nothing behind. Files have owners and names haven't: each end asks the kernel who the other is.
"""

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from anonproxy.model.errors import StoreError

Answer = Mapping[str, Any]
Commands = Mapping[str, Callable[[], Answer]]

# The longest answer names some pages of a site; the kernel holds three times as much.
MAX_BYTES: Final = 65_536
# Whoever asks has its question ready; a recorder answers at once, or waits for a flush, or seals a busy hour.
PATIENCE_S: Final = 10.0
ANSWER_S: Final = 60.0
ROOT: Final = 0


class Control:
    """Answers commands until it is closed; a name that somebody else has taken leaves the recorder without it."""

    def __init__(self, root: Path, commands: Commands) -> None:
        self._commands = commands
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(OSError):
            self._listener.bind(socket_name(root))
            self._listener.listen()
            threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a connection
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENCE_S)
                if peer_user(connection) in {ROOT, os.geteuid()}:
                    command = self._commands.get(connection.recv(MAX_BYTES).decode("ascii", "replace"))
                    if command:
                        connection.send(json.dumps(command()).encode())


def ask(root: Path, command: str) -> dict[str, Any]:
    """Give a command to the recorder of a store, and return its answer.

    Raises: StoreError when none runs, or it isn't the store's owner's
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(socket_name(root))
            if peer_user(connection) not in {ROOT, root.stat().st_uid}:
                raise StoreError(f"{root}: what answers for this store belongs to another user. Look who runs it")
            connection.send(command.encode())
            connection.settimeout(ANSWER_S)
            reply = connection.recv(MAX_BYTES)
        except OSError:
            raise StoreError(f"{root}: nothing records into this store. Start it with `anonproxy run`") from None
    if not reply:
        raise StoreError(f"{root}: no answer. Ask as root or as the user that runs anonproxy")
    answer: dict[str, Any] = json.loads(reply)
    return answer


def socket_name(root: Path) -> bytes:
    """Return the name of a store's socket; the zero before it means that it is no file."""
    return b"\0anonproxy-" + sha256(os.fsencode(root.resolve())).hexdigest()[:32].encode()


def peer_user(connection: socket.socket) -> int:
    """Return the user id of the process at the other end, as the kernel knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user: int = struct.unpack("3i", credentials)[1]
    return user
