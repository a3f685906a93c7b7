"""A word to the running proxy: take the new configuration. Its answer says whether it did.

The socket has a name in the kernel and no file; who runs with the same configuration file meets there.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from anonproxy.ingest.control import ROOT, peer_user
from anonproxy.model.errors import OperatorError

RELOAD: Final = b"reload\n"
# Workers that still finish requests of the last reload are waited for: drain_s, and what comes on top.
PATIENCE_S: Final = 660.0


def control_name(config_path: Path) -> str:
    """Return the name of the socket; the zero before it means that it is no file."""
    return "\0anonproxy-run-" + sha256(os.fsencode(config_path.resolve())).hexdigest()[:32]


async def serve_control(name: str, reload: Callable[[], Awaitable[str]]) -> asyncio.Server | None:
    """Answer whoever may ask: root, or the user that runs the proxy. Without the name the proxy runs all the same."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            if peer_user(writer.get_extra_info("socket")) in {ROOT, os.geteuid()} and await reader.readline() == RELOAD:
                refusal = await reload()
                writer.write(f"{'refused' if refusal else 'reloaded'}\n{refusal}".encode())
                await writer.drain()

    try:
        return await asyncio.start_unix_server(answer, path=name)
    except OSError:
        return None


def ask_reload(name: str) -> str:
    """Have the running proxy take its configuration anew; return why it didn't, "" when it did.

    Raises: OperatorError when none runs or it doesn't answer
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(name)
        except OSError:
            raise OperatorError("nothing runs with this configuration. Start it with `anonproxy run`") from None
        connection.sendall(RELOAD)
        with connection.makefile("rb") as answer:
            verdict, refusal = answer.readline(), answer.read().decode()
    if not verdict:
        raise OperatorError("no answer. Ask as root or as the user that runs anonproxy")
    return refusal
