"""Listening sockets: from what a setting says to a socket, or to why it can't be had."""

import errno
import socket
from typing import Final

from anonproxy.model.errors import OperatorError

BIND_REMEDIES: Final = {
    errno.EADDRINUSE: "something else listens there; stop it or choose another port",
    errno.EACCES: "this user may not; use a port from 1024 up, or give the service CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


def parse_listen(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Parse "host:port" or "[host]:port", whose form the settings have checked."""
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    return (socket.AF_INET6 if ":" in bare else socket.AF_INET), (bare, int(port))


def bind_listener(setting: str, address: str, section: str = "proxy") -> socket.socket:
    """Bind and listen.

    Raises: OperatorError that names the setting, when the address can't be had
    """
    family, where = parse_listen(address)
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(where)
        listener.listen()
    except (OSError, UnicodeError) as error:
        listener.close()
        remedy = BIND_REMEDIES.get(getattr(error, "errno", None) or 0, type(error).__name__)
        raise OperatorError(f"{section}.{setting}: can't listen on {address}: {remedy}") from None
    return listener


def render_address(listener: socket.socket, scheme: str = "http") -> str:
    """Return where a listener can be reached, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
