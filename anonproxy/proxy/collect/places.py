"""The places that lines come in by: from what `collect.listen` names to a socket, or to why it can't be had."""

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from struct import Struct
from typing import Final

from anonproxy.model.errors import OperatorError
from anonproxy.proxy.listeners import explain_bind, open_listener, parse_listen, render_address
from anonproxy.proxy.notify import Given

# What the kernel keeps of datagrams that nobody has taken yet: seconds of the busiest server.
BUFFER_BYTES: Final = 32 * 1024 * 1024
SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h; beyond net.core.rmem_max, for who may administer the network
SO_MEMINFO: Final = 55
MEMINFO: Final = Struct("9I")  # linux/sock_diag.h
DROPS: Final = 8
# Whoever may enter the folder may send.
SOCKET_MODE: Final = 0o666

# A file system says no in other ways than the network.
FOLDER_REMEDIES: Final = {
    errno.ENOENT: "there is no such folder; make it, or let the service make it (RuntimeDirectory=anonproxy)",
    errno.EACCES: "this user can't write in its folder; run as the user of the service, or give the folder to it",
    errno.ENOTSOCK: "something else is there, and no socket; move it away or choose another path",
}


def bind_place(place: str) -> socket.socket:
    """Bind what a setting of `collect.listen` names.

    Raises: OperatorError that says why it can't be had
    """
    try:
        if place.startswith("tcp:"):
            return open_listener(place.removeprefix("tcp:"))
        return bind_datagrams(place)
    except (OSError, UnicodeError) as error:
        raise OperatorError(f"collect.listen: can't listen on {place}: {explain_place(place, error)}") from None


def bind_datagrams(place: str) -> socket.socket:
    """Bind a place for datagrams.

    Raises: OSError, UnicodeError
    """
    family, where = locate(place)
    listener = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if isinstance(where, str) and is_stale(where):
            Path(where).unlink()
        listener.bind(where)
        if isinstance(where, str):
            Path(where).chmod(SOCKET_MODE)
    except (OSError, UnicodeError):
        listener.close()
        raise
    widen(listener)
    return listener


def find_given(place: str, given: Given) -> socket.socket | None:
    """Return the socket that systemd has opened at a place, with as much room as its unit gives it."""
    return given.get((socket_type(place), locate(place)[1]))


def explain_stray(listener: socket.socket) -> str:
    """Say what to do about a socket of systemd's that no setting names."""
    if listener.family == socket.AF_UNIX:
        place = f"unix:{listener.getsockname()}"
    else:
        kind = "tcp" if listener.type == socket.SOCK_STREAM else "udp"
        place = f"{kind}:{render_address(listener).partition('//')[2]}"
    return (
        f"{place}, but collect.listen doesn't name it. "
        f'Write listen = ["{place}"], or take it out of anonproxy-collect.socket'
    )


def verify_place(place: str) -> None:
    """Find out whether a place could be had, and change nothing.

    Raises: OSError, UnicodeError
    """
    kind = socket_type(place)
    family, where = locate(place)
    if isinstance(where, str):
        is_stale(where)
        folder = Path(where).parent
        folder.stat()
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, "no right to write")
        return
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)


def explain_place(place: str, error: OSError | UnicodeError) -> str:
    """Say why a place can't be had, and what to do."""
    return explain_bind(error, FOLDER_REMEDIES if place.startswith("unix:") else {})


def socket_type(place: str) -> socket.SocketKind:
    """Say what a place takes: a stream, or datagrams."""
    return socket.SOCK_STREAM if place.startswith("tcp:") else socket.SOCK_DGRAM


def locate(place: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """Say of what family a place is, and where."""
    kind, _, address = place.partition(":")
    return (socket.AF_UNIX, address) if kind == "unix" else parse_listen(address)


def is_stale(path: str) -> bool:
    """Tell whether an earlier collector has left its socket there.

    Raises: OSError when somebody listens there, or when it isn't a socket
    """
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.ENOTSOCK, "not a socket")
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        raise OSError(errno.EADDRINUSE, "in use")
    return False


def widen(listener: socket.socket) -> None:
    """Give a socket as much room as we may."""
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    except PermissionError:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)


def count_drops(listener: socket.socket) -> int:
    """Return how many datagrams came since it was bound while its buffer was full."""
    drops: int = MEMINFO.unpack(listener.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size))[DROPS]
    return drops
