"""A word to systemd: that we serve, that we live, that we stop; and the sockets that it has opened for us.

Without systemd nobody listens, and there are none.

Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
ALIVE: Final = "WATCHDOG=1"
FIRST_FD: Final = 3

# Sockets that the service manager has opened, by their type and where they are: a path, or host and port.
Given = Mapping[tuple[int, str | tuple[str, int]], socket.socket]
NONE_GIVEN: Final[Given] = {}


def notify(state: str) -> None:
    """Send a state to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, contextlib.suppress(OSError):
            manager.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)


def take_listeners() -> Given:
    """Return the sockets that the service manager has opened for this process."""
    is_ours = os.environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = int(os.environ.pop("LISTEN_FDS", "0")) if is_ours else 0
    listeners = [socket.socket(fileno=fd) for fd in range(FIRST_FD, FIRST_FD + count)]
    for listener in listeners:
        listener.set_inheritable(False)
    return {(listener.type, _address_of(listener)): listener for listener in listeners}


def _address_of(listener: socket.socket) -> str | tuple[str, int]:
    address = listener.getsockname()
    return address if isinstance(address, str) else address[:2]  # IPv6 has more


async def keep_alive() -> None:
    """Say twice in each period of the watchdog that the event loop turns; without a watchdog, return."""
    period_us = int(os.environ.get("WATCHDOG_USEC", "0"))
    while period_us and os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
        notify(ALIVE)
        await asyncio.sleep(period_us / 2_000_000)
