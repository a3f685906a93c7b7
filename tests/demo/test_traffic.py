import asyncio

import pytest

from anonproxy.demo.plan import Request, Visit
from anonproxy.demo.traffic import Outcome, send_visits

HEADERS = (("X-Forwarded-For", "192.0.2.7"), ("User-Agent", "a program"), ("Cookie", "old=stale; theme=large"))


class Echo:
    """A server that keeps the heads of what it was sent, and answers each with the next of its answers."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.answers:
            try:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError:
                break
            writer.write(self.answers.pop(0))
            await writer.drain()
        writer.close()


def visit(*requests: Request) -> Visit:
    """Make a visit of these requests."""
    return Visit("test", "192.0.2.7", HEADERS, requests, ())


def exchange(server: Echo, *visits: Visit) -> Outcome:
    """Send visits to a server of this test's own."""

    async def run() -> Outcome:
        async with await asyncio.start_server(server.handle, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            return await send_visits(visits, "127.0.0.1", port)

    return asyncio.run(run())


def answer(*headers: bytes, body: bytes = b"") -> bytes:
    """Write an answer of HTTP/1.1."""
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_cookies_are_kept_and_sent_back() -> None:
    """A cookie of the site replaces the stale one in the next request of the visit, and is reported as a secret."""
    server = Echo(answer(b"Set-Cookie: old=0123456789abcdef; Path=/; HttpOnly", body=b"abc"), answer())
    outcome = exchange(server, visit(Request("GET", "/1"), Request("GET", "/2", "https://from.example/")))
    assert b"old=stale; theme=large" in server.heads[0]
    assert b"old=0123456789abcdef; theme=large" in server.heads[1]
    assert b"Referer: https://from.example/" in server.heads[1]
    assert outcome.raw_session_ids == {"0123456789abcdef"}
    assert (outcome.answered, outcome.unanswered, outcome.size_bytes) == (2, 0, 3)


def test_headers_name_visitor_and_host() -> None:
    """Each request carries the visitor's address and program and the site's host, and a form its length."""
    server = Echo(answer() + b"", answer())
    exchange(server, visit(Request("POST", "/login", raw_body=b"pin=123456")))
    head = server.heads[0].decode()
    for line in (
        "POST /login HTTP/1.1",
        "Host: library.millbrook.example",
        "X-Forwarded-For: 192.0.2.7",
        "Content-Length: 10",
    ):
        assert f"{line}\r\n" in head


@pytest.mark.parametrize("broken", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
def test_no_answer_is_counted(broken: bytes) -> None:
    """A connection that ends early, or speaks something else, is counted; the visit goes on over a new one."""
    server = Echo(broken)
    outcome = exchange(server, visit(Request("GET", "/1"), Request("GET", "/2")))
    assert (outcome.answered, outcome.unanswered) == (0, 2)


def test_closed_connection_is_opened_again() -> None:
    """When the other side asks to close, the next request comes over a new connection."""
    server = Echo(answer(b"Connection: close"), answer())
    outcome = exchange(server, visit(Request("GET", "/1"), Request("GET", "/2")))
    assert outcome.statuses == {200: 2}


def test_nobody_listens() -> None:
    """Without a server every request is unanswered, and nothing is raised."""

    async def run() -> Outcome:
        listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        listener.close()
        await listener.wait_closed()
        return await send_visits([visit(Request("GET", "/"))], "127.0.0.1", port)

    assert asyncio.run(run()).unanswered == 1
