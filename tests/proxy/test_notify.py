"""systemd is told what happens, in its own words; without systemd nothing is sent."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from anonproxy.proxy.notify import READY, keep_alive, notify


@pytest.mark.parametrize("is_abstract", [False, True])
def test_states_reach_the_manager(is_abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state arrives at the socket that the environment names, be it a file or a name in the kernel."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if is_abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if is_abstract else name)
        notify(READY)
        assert manager.recv(64) == b"READY=1"


def test_watchdog_is_fed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the event loop turns the watchdog hears of it; one that is meant for another process doesn't."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

        async def live() -> None:
            feeding = asyncio.create_task(keep_alive())
            await asyncio.sleep(0.1)
            feeding.cancel()

        asyncio.run(live())
        assert [manager.recv(64) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        monkeypatch.setenv("WATCHDOG_PID", "1")
        asyncio.run(asyncio.wait_for(keep_alive(), 1))


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by hand, there is nobody to tell, and nothing goes wrong."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notify(READY)
    asyncio.run(asyncio.wait_for(keep_alive(), 1))
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    notify(READY)
