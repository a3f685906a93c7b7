"""Ports of loopback for tests: each is given out once, and no connection has one by chance."""

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FIRST: Final = 10_000
EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _list_ports() -> Iterator[int]:
    """List the ports of this process, which no other of this run has; another run begins elsewhere.

    The kernel gives connections of their own only ports from `ip_local_port_range`, so all of them lie below it.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = range(FIRST + worker, int(EPHEMERAL.read_text().split()[0]), workers)
    start = random.SystemRandom().randrange(len(ports))
    yield from (*ports[start:], *ports[:start])


_PORTS: Final = _list_ports()


def free_port() -> int:
    """Return a port that nobody listens on, and that nobody else is given."""
    return next(port for port in _PORTS if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
