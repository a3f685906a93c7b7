"""Marked requests: the canary's own, and those that only a test can send, because it knows the site behind."""

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from anonproxy.audit.canary import Target, send
from anonproxy.audit.probes import PROBES, Marker, Probe

TIMEOUT_S = 10.0
HOST = "www.example.org"


class Marks(Marker):
    """Makes secrets, one by one where a test wants one."""

    def word(self, label: str) -> str:
        """Make a word that stands nowhere else."""
        return self.fill(f"{{word:{label}}}", HOST)

    def address(self, label: str) -> str:
        """Make a client address that nobody has."""
        return self.fill(f"{{address:{label}}}", HOST)


@dataclass(frozen=True)
class Case:
    """One kind of request: what is sent, and how many rows it must leave."""

    name: str
    send: Callable[[int, Marks], object]
    rows: int


def talk(port: int, *parts: bytes) -> bytes:
    """Send bytes over a fresh connection, and read what comes back until it is closed."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        for part in parts:
            connection.sendall(part)
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except (ConnectionResetError, TimeoutError):
            pass
    return answer


def head(method: str, target: str, *headers: str, host: str = HOST) -> bytes:
    """Write the head of a request that closes its connection."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


def _normal(port: int, marks: Marks) -> None:
    target = f"/search?q={marks.word('search term')}&{marks.word('parameter name')}=1"
    assert b" 200 " in talk(port, head("GET", target, f"X-Forwarded-For: {marks.address('client address')}"))


def _redirect(port: int, marks: Marks) -> None:
    assert b" 302 " in talk(port, head("GET", f"/login?card={marks.word('Location')}"))


def _given_cookie(port: int, marks: Marks) -> None:
    session = marks.word("session cookie that the site gives")
    assert b" 200 " in talk(port, head("GET", f"/session?session={session}"))
    assert b" 200 " in talk(port, head("GET", "/", f"Cookie: CGISESSID={session}"))


def _origin_down(port: int, marks: Marks) -> None:
    target = f"/{marks.word('path, origin down')}?q={marks.word('term, origin down')}"
    header = f"X-Forwarded-For: {marks.address('address, origin down')}"
    answer = talk(port, head("GET", target, header, host="down.example.org"))
    assert b" 502 " in answer
    assert b"mitmproxy" not in answer
    assert b"127.0.0.1" not in answer


def _aborted_answer(port: int, marks: Marks) -> None:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(head("GET", f"/large.bin?{marks.word('query, aborted answer')}"))
        connection.recv(1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _probe(probe: Probe, port: int, marks: Marks) -> bytes:
    return send(Target("http", "127.0.0.1", port, HOST), probe, marks)


CASES = (
    Case("normal", _normal, rows=1),
    Case("redirect, 302", _redirect, rows=1),
    Case("cookie that the site gives", _given_cookie, rows=2),
    Case("origin down", _origin_down, rows=1),
    Case("aborted answer", _aborted_answer, rows=1),
    *(
        Case(probe.name, partial(_probe, probe), probe.bounds(is_direct=True, takes_any_host=False)[0])
        for probe in PROBES
        if "http" in probe.schemes
    ),
)
