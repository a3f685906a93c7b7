"""Listening sockets: from what a setting says to a socket, or to why it can't be had."""

import errno
import os
import socket
from collections.abc import Mapping
from typing import Final

from anonproxy.model.errors import OperatorError

BIND_REMEDIES: Final[Mapping[int, str]] = {
    errno.EADDRINUSE: "something else listens there; stop it or choose another port",
    errno.EACCES: "this user may not; use a port from 1024 up, or give the service CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


def parse_listen(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Parse "host:port" or "[host]:port", whose form the settings have checked."""
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    return (socket.AF_INET6 if ":" in bare else socket.AF_INET), (bare, int(port))


def bind_listener(setting: str, address: str) -> socket.socket:
    """Bind and listen.

    Raises: OperatorError that names the setting, when the address can't be had
    """
    try:
        return open_listener(address)
    except (OSError, UnicodeError) as error:
        raise OperatorError(f"proxy.{setting}: can't listen on {address}: {explain_bind(error)}") from None


def open_listener(address: str) -> socket.socket:
    """Bind and listen.

    Raises: OSError, UnicodeError
    """
    family, where = parse_listen(address)
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(where)
        listener.listen()
    except (OSError, UnicodeError):
        listener.close()
        raise
    return listener


def explain_bind(error: OSError | UnicodeError, remedies: Mapping[int, str] = BIND_REMEDIES) -> str:
    """Say why an address can't be had, and what to do."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "no address has this name; write an address, like 127.0.0.1"
    number = error.errno or 0
    return remedies.get(number) or BIND_REMEDIES.get(number) or os.strerror(number)


def render_address(listener: socket.socket, scheme: str = "http") -> str:
    """Return where a listener can be reached, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
