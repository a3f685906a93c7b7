"""A word to the running proxy: take the new configuration, or tell who asks most.

The socket has a name in the kernel and no file; who runs with the same configuration file meets there.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from anonproxy.ingest.control import ROOT, peer_user
from anonproxy.model.errors import OperatorError

# What can be asked for, and what does it: its words are the answer, an OperatorError is a refusal.
Commands = Mapping[str, Callable[[], Awaitable[str]]]

RELOAD: Final = "reload"
TOP: Final = "top"
# Workers that still finish requests of the last reload are waited for: drain_s, and what comes on top.
PATIENCE_S: Final = 660.0

_DONE: Final = b"done\n"
_REFUSED: Final = b"refused\n"


class Refused(OperatorError):
    """The proxy runs, and won't; the message is its own."""


def control_name(config_path: Path) -> str:
    """Return the name of the socket; the zero before it means that it is no file."""
    return "\0anonproxy-run-" + sha256(os.fsencode(config_path.resolve())).hexdigest()[:32]


async def serve_control(name: str, commands: Commands) -> asyncio.Server | None:
    """Answer whoever may ask: root, or the user that runs the proxy. Without the name the proxy runs all the same."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError), contextlib.closing(writer):
            if peer_user(writer.get_extra_info("socket")) in {ROOT, os.geteuid()}:
                act = commands.get((await reader.readline()).decode("ascii", "replace").rstrip("\n"))
                if act:
                    writer.write(await _perform(act))
                    await writer.drain()

    try:
        return await asyncio.start_unix_server(answer, path=name)
    except OSError:
        return None


async def _perform(act: Callable[[], Awaitable[str]]) -> bytes:
    try:
        return _DONE + (await act()).encode()
    except OperatorError as error:
        return _REFUSED + str(error).encode()


def is_served(name: str) -> bool:
    """Tell whether anonproxy runs with the configuration of that name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(name) == 0


def ask(name: str, command: str) -> str:
    """Have the running proxy do something, and return its answer.

    Raises: Refused when it won't; OperatorError when none runs or it doesn't answer
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(name)
            connection.sendall(f"{command}\n".encode())
        except OSError:
            raise OperatorError("nothing runs with this configuration. Start it with `anonproxy run`") from None
        with connection.makefile("rb") as reply:
            try:
                verdict, text = reply.readline(), reply.read().decode()
            except OSError:
                verdict = b""
    if not verdict:
        raise OperatorError("no answer. Ask as root or as the user that runs anonproxy")
    if verdict != _DONE:
        raise Refused(text)
    return text
