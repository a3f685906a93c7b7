"""A word to systemd: that we serve, that we live, that we stop. Without systemd nobody listens.

Source: sd_notify(3), sd_watchdog_enabled(3)
"""

import asyncio
import contextlib
import os
import socket
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
ALIVE: Final = "WATCHDOG=1"


def notify(state: str) -> None:
    """Send a state to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, contextlib.suppress(OSError):
            manager.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)


async def keep_alive() -> None:
    """Say twice in each period of the watchdog that the event loop turns; without a watchdog, return."""
    period_us = int(os.environ.get("WATCHDOG_USEC", "0"))
    while period_us and os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
        notify(ALIVE)
        await asyncio.sleep(period_us / 2_000_000)
