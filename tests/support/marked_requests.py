"""Marked requests: each carries fresh secrets in a place of its own, and none of them may ever be found again."""

import contextlib
import random
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from anonproxy.audit.marks import Mark

TIMEOUT_S = 10.0


@dataclass
class Marks:
    """Makes secrets and remembers them. They are random, so that no other run's file can hold them."""

    chance: random.Random = field(default_factory=random.SystemRandom)
    made: list[Mark] = field(default_factory=list)

    def word(self, label: str) -> str:
        """Make a word that stands nowhere else."""
        return self._remember(label, "zq" + "".join(self.chance.choices("bcdfghjklmnpqrstvwxz", k=12)))

    def barcode(self, label: str) -> str:
        """Make a patron barcode of 14 digits."""
        return self._remember(label, "2" + "".join(self.chance.choices("0123456789", k=13)))

    def address(self, label: str) -> str:
        """Make a client address whose last part identifies one household."""
        return self._remember(label, f"198.51.{self.chance.randrange(100, 256)}.{self.chance.randrange(101, 255)}")

    def address_v6(self, label: str) -> str:
        """Make an IPv6 address that carries a hardware address (EUI-64)."""
        parts = ":".join(f"{self.chance.randrange(0x1000, 0xFFFF):x}" for _ in range(3))
        return self._remember(label, f"2001:db8:{parts[:4]}:{parts[5:9]}:0211:22ff:fe{parts[-2:]}:{parts[10:14]}")

    def _remember(self, label: str, secret: str) -> str:
        self.made.append(Mark(label, secret))
        return secret


@dataclass(frozen=True)
class Case:
    """One kind of request: what is sent, and how many rows it must leave."""

    name: str
    send: Callable[[int, Marks], None]
    rows: int


def talk(port: int, *parts: bytes, read: bool = True, reset: bool = False) -> bytes:
    """Send bytes over a fresh connection, read what comes back, and close it (or tear it off)."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        for part in parts:
            connection.sendall(part)
        if read:
            try:
                while chunk := connection.recv(65536):
                    answer += chunk
            except (ConnectionResetError, TimeoutError):
                pass
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return answer


def head(method: str, target: str, *headers: str, host: str = "www.example.org") -> bytes:
    """Write the head of a request that closes its connection."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


def _normal(port: int, marks: Marks) -> None:
    target = f"/search?q={marks.word('search term')}&{marks.word('parameter name')}=1"
    headers = (
        f"X-Forwarded-For: {marks.address('client address')}",
        f"Cookie: CGISESSID={marks.word('session cookie')}; other={marks.word('other cookie')}",
        f"User-Agent: Mozilla/5.0 (X11; Linux x86_64; {marks.word('agent detail')}) Firefox/143.0",
        f"Referer: https://www.{marks.word('referrer host')}.example/{marks.word('referrer path')}"
        f"?q={marks.word('referrer query')}",
        f"Accept-Language: en-{marks.word('language')}",
        f"Authorization: Bearer {marks.word('bearer token')}",
        f"X-Custom-{marks.word('header name')}: {marks.word('header value')}",
    )
    assert b" 200 " in talk(port, head("GET", target, *headers))


def _ipv6(port: int, marks: Marks) -> None:
    assert b" 200 " in talk(port, head("GET", "/", f"X-Forwarded-For: {marks.address_v6('IPv6 client address')}"))


def _forwarded(port: int, marks: Marks) -> None:
    value = f'for="{marks.address("address in Forwarded")}:4711";proto=https'
    assert b" 200 " in talk(port, head("GET", "/", f"Forwarded: {value}"))


def _path(port: int, marks: Marks) -> None:
    for part in (marks.barcode("barcode in path"), f"{marks.word('e-mail in path')}@example.org", marks.word("path")):
        assert b" 404 " in talk(port, head("GET", f"/patron/{part}"))


def _post(port: int, marks: Marks) -> None:
    body = f"user={marks.word('user name')}&pin={marks.word('pin')}".encode()
    assert talk(port, head("POST", "/", f"Content-Length: {len(body)}"), body).startswith(b"HTTP/1.1 ")


def _redirect(port: int, marks: Marks) -> None:
    assert b" 302 " in talk(port, head("GET", f"/login?card={marks.barcode('barcode in Location')}"))


def _absolute(port: int, marks: Marks) -> None:
    assert b" 404 " in talk(port, head("GET", f"http://www.example.org/{marks.word('path, absolute target')}"))


def _password(port: int, marks: Marks) -> None:
    secret = marks.word("password in target")
    assert b" 200 " not in talk(port, head("GET", f"http://jane:{secret}@www.example.org/"))


def _unknown_host(port: int, marks: Marks) -> None:
    assert b" 421 " in talk(port, head("GET", "/", host=f"{marks.word('unknown host')}.example.com"))


def _unknown_method(port: int, marks: Marks) -> None:
    talk(port, head(marks.word("method").upper(), "/"))


def _origin_down(port: int, marks: Marks) -> None:
    target = f"/{marks.word('path, origin down')}?q={marks.word('term, origin down')}"
    client = f"X-Forwarded-For: {marks.address('address, origin down')}"
    answer = talk(port, head("GET", target, client, host="down.example.org"))
    assert b" 502 " in answer
    assert b"mitmproxy" not in answer
    assert b"127.0.0.1" not in answer


def _aborted_head(port: int, marks: Marks) -> None:
    start = f"GET /search?q={marks.word('term, aborted head')} HTTP/1.1\r\nHost: www.exa"
    talk(port, start.encode(), read=False, reset=True)


def _aborted_body(port: int, marks: Marks) -> None:
    start = head("POST", f"/{marks.word('path, aborted body')}", "Content-Length: 100000")
    talk(port, start, marks.word("aborted body").encode(), read=False, reset=True)


def _aborted_answer(port: int, marks: Marks) -> None:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(head("GET", f"/large.bin?{marks.word('query, aborted answer')}"))
        connection.recv(1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _garbage(port: int, marks: Marks) -> None:
    talk(port, f"\x00\x01{marks.word('garbage line')} \xff\r\n\r\n".encode("latin-1"))


def _bad_length(port: int, marks: Marks) -> None:
    talk(port, head("POST", f"/{marks.word('path, bad length')}", f"Content-Length: {marks.word('length')}"), b"x")


def _bad_header(port: int, marks: Marks) -> None:
    talk(port, f"GET / HTTP/1.1\r\nHost: www.example.org\r\n{marks.word('bad header')}\r\n\r\n".encode())


def _tls(port: int, marks: Marks) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection, contextlib.suppress(OSError):
        context.wrap_socket(connection, server_hostname=f"{marks.word('server name')}.example.org").close()


def _proxy_preamble(port: int, marks: Marks) -> None:
    address = marks.address("address in preamble")
    talk(port, f"PROXY TCP4 {address} 198.51.100.1 56324 443\r\n".encode(), head("GET", "/"))
    signature = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"  # version 2, TCP over IPv4
    addresses = socket.inet_aton(address) + socket.inet_aton("127.0.0.1") + b"\0P\0P"
    talk(port, signature + addresses, head("GET", "/"))


CASES = (
    Case("normal", _normal, rows=1),
    Case("IPv6", _ipv6, rows=1),
    Case("Forwarded", _forwarded, rows=1),
    Case("path", _path, rows=3),
    Case("POST", _post, rows=1),
    Case("redirect", _redirect, rows=1),
    Case("absolute target", _absolute, rows=1),
    Case("password in target", _password, rows=0),
    Case("unknown host", _unknown_host, rows=0),
    Case("unknown method", _unknown_method, rows=1),
    Case("origin down", _origin_down, rows=1),
    Case("aborted head", _aborted_head, rows=0),
    Case("aborted body", _aborted_body, rows=1),
    Case("aborted answer", _aborted_answer, rows=1),
    Case("garbage line", _garbage, rows=0),
    Case("bad Content-Length", _bad_length, rows=1),
    Case("bad header", _bad_header, rows=0),
    Case("TLS on a plain port", _tls, rows=0),
    Case("PROXY preamble", _proxy_preamble, rows=0),
)
