"""In front of a site that says anything: each exchange takes place without the proxy and through it, and is the same.

Compared are the request as the site got it, the answer as the visitor got it, and whether either was complete.
"""

import socket
import struct
import time
from typing import Final

import pytest

from tests.conformance.conftest import RAW, Connection, Script, Stage, answer_always, answer_once
from tests.conformance.differences import ADDED, comparable_answer, comparable_request
from tests.conformance.wire import Message, Wire, connect

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(*headers: str, target: str = "/", method: str = "GET", version: str = "1.1", host: str = RAW) -> bytes:
    """Render a request without a body."""
    lines = (f"{method} {target} HTTP/{version}", f"Host: {host}", *headers, "", "")
    return "\r\n".join(lines).encode("latin-1")


def post(body: bytes, *headers: str) -> bytes:
    """Render a request with a body as it stands."""
    return get(*headers, method="POST") + body


def chunks(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """Render a chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


def answer(body: bytes = b"", *headers: bytes, status: bytes = b"200 OK", version: bytes = b"1.1") -> bytes:
    """Render an answer as it stands."""
    return b"\r\n".join((b"HTTP/%s %s" % (version, status), *headers, b"", body))


def slowly(*pieces: bytes) -> Script:
    """Return a script that lets time pass between the pieces of an answer, and closes."""

    def script(connection: Connection) -> None:
        if connection.read():
            for piece in pieces:
                connection.send(piece)
                time.sleep(0.02)

    return script


def reset_after(raw: bytes) -> Script:
    """Return a script that sends something, gives it time to arrive, and resets."""

    def script(connection: Connection) -> None:
        if connection.read():
            connection.send(raw)
            time.sleep(0.1)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return script


CHUNKED: Final = "Transfer-Encoding: chunked"
T_E: Final = b"Transfer-Encoding: chunked"

# What is asked.
REQUESTS: Final[dict[str, bytes]] = {
    "plain": get(),
    "headers in order": get("ACCEPT: */*", "accept-language: de", "X-Odd_Name.1~: a", "Accept: text/html", "x-empty:"),
    "odd values": get('X-Quoted: "a, \\"b\\""', "X-Tab: a\tb", "X-Latin: \xe9\xff", "X-Colon: a:b: c", "X-A:   a  "),
    "cookies": get("Cookie: a=1; b=\"2\"; c", "Cookie: d=4"),
    "authorization": get("Authorization: Basic YTpi"),
    "odd target": get(target="/a%2Fb/%00%ff;p=1?q=[]{}|^`\"<>\\'~&&==??//:@"),
    "bytes in target": get(target="/caf\xc3\xa9?\xff\xfe"),
    "empty query": get(target="/?"),
    "double slashes": get(target="//a//b/../c/./d"),
    "long target": get(target="/" + "x" * 20_000),
    "many headers": get(*(f"X-{number}: {number}" for number in range(300))),
    "asterisk": get(method="OPTIONS", target="*"),
    "own method": get(method="M-SEARCH_IT"),
    "host with port": get(host=f"{RAW}:8080"),
    "host in capitals": get(host=RAW.upper()),
    "length": post(b"a=1&b=2", "Content-Length: 7"),
    "no length": post(b"", "Content-Length: 0"),
    "get with body": get("Content-Length: 3") + b"abc",
    "binary": post(bytes(range(256)), "Content-Length: 256"),
    "chunks": post(chunks(b"hello", b" ", b"world" * 5000), CHUNKED),
    "no chunks": post(chunks(), CHUNKED),
    "chunk extensions": post(b'5;a=1;b="2"\r\nhello\r\n0;c\r\n\r\n', CHUNKED),
    "chunk sizes": post(b"0000A\r\n0123456789\r\n00a\r\n0123456789\r\n000\r\n\r\n", CHUNKED),
    "trailers": post(chunks(b"hello", trailers=b"X-Sum: 1\r\nx-sum: 2\r\n"), CHUNKED, "Trailer: X-Sum"),
    "trailers welcome": get("TE: trailers", "Connection: TE, keep-alive"),
    "close": get("Connection: Close"),
    "old and kept": get("Connection: Keep-Alive", version="1.0"),
    "old with body": get("Content-Length: 3", version="1.0") + b"abc",
    "two lines of connection": get("Connection: keep-alive", "Accept: */*", "connection: close"),
    "bytes one by one": get("X-Slow: 1"),
}  # fmt: skip

# What is answered.
ANSWERS: Final[dict[str, Script]] = {
    "length": answer_always(answer(b"hello", b"Content-Length: 5")),
    "in pieces": slowly(b"HTTP/1.1 2", b"00 OK\r", b"\nContent-Le", b"ngth: 5\r\n\r", b"\nhel", b"lo"),
    "nothing": answer_always(answer(b"", b"Content-Length: 0")),
    "no content": answer_always(answer(b"", status=b"204 No Content")),
    "not modified with length": answer_always(
        answer(b"", b"Content-Length: 5", b'ETag: "a"', status=b"304 Not Modified")
    ),
    "not modified with chunks": answer_always(answer(b"", T_E, status=b"304 Not Modified")),
    "chunks": answer_always(answer(chunks(b"hello", b"", b"\r\n0\r\n\r\n").replace(b"0\r\n\r\n", b"", 1), T_E)),
    "no chunks": answer_always(answer(chunks(), T_E)),
    "chunk extensions": answer_always(answer(b'5;a="1"\r\nhello\r\n0;b\r\n\r\n', T_E)),
    "trailers": answer_always(answer(chunks(b"hello", trailers=b"X-Sum: 1\r\nServer-Timing: db\r\n"), T_E)),
    "until it closes": answer_once(answer(b"hello" * 1000, b"X-A: 1")),
    "until it closes, announced": answer_once(answer(b"hello" * 1000, b"Connection: close")),
    "old": answer_once(answer(b"hello", b"Content-Length: 5", version=b"1.0")),
    "old until it closes": answer_once(answer(b"hello", version=b"1.0")),
    "closing": answer_once(answer(b"hello", b"Connection: close", b"Content-Length: 5")),
    "no reason": answer_always(answer(b"hello", b"Content-Length: 5", status=b"200 ")),
    "odd reason": answer_always(answer(b"hello", b"Content-Length: 5", status=b"200 \xc3\xa9 (all: fine)")),
    "odd status": answer_always(answer(b"hello", b"Content-Length: 5", status=b"299 So")),
    "unregistered status": answer_always(answer(b"hello", b"Content-Length: 5", status=b"999 Denied")),
    "cookies": answer_always(answer(
        b"", b"Set-Cookie: a=1; Path=/; Expires=Fri, 01 Jan 2100 00:00:00 GMT", b"set-cookie: b=2; SameSite=None",
        b"SET-COOKIE: c=; Max-Age=0", b"Content-Length: 0",
    )),
    "moved": answer_always(answer(
        b"", b"Location: http://raw.example.org:8000/a?b=\xc3\xa9#c", b"Content-Length: 0", status=b"303 See Other"
    )),
    "headers in order": answer_always(answer(
        b"", b"X-B: 1", b"x-a: 2", b"X-B: 3", b"Server: Site/1 (\xe9)", b"x-empty:", b"Vary: *", b"Content-Length: 0",
    )),
    "security headers": answer_always(answer(
        b"", b"Strict-Transport-Security: max-age=1", b"Content-Security-Policy: default-src 'none'; x",
        b"Referrer-Policy: no-referrer", b"Access-Control-Allow-Origin: *", b"Link: </a>; rel=preload",
        b"Alt-Svc: h3=\":443\"", b"WWW-Authenticate: Basic realm=\"a, b\"", b"Content-Length: 0",
    )),
    "compressed": answer_always(answer(
        b"\x1f\x8b\x08\x00not really", b"Content-Encoding: gzip", b"Content-Length: 14", b"ETag: W/\"1\"",
    )),
    "many headers": answer_always(answer(b"", *(b"X-%d: %d" % (n, n) for n in range(500)), b"Content-Length: 0")),
    "long header": answer_always(answer(b"", b"X-Long: " + b"x" * 60_000, b"Content-Length: 0")),
    "large": answer_always(answer(bytes(range(256)) * 8192, b"Content-Length: 2097152")),
    "early hints": answer_always(
        answer(b"", b"Link: </a.css>; rel=preload", status=b"103 Early Hints"), answer(b"hello", b"Content-Length: 5")
    ),
    "hints and all at once": answer_always(
        answer(status=b"102 Processing") + answer(b"", b"Link: <b>", status=b"103 Early Hints") + OK
    ),
    "promising too much": answer_once(answer(b"hello", b"Content-Length: 100")),
    "half a chunk": answer_once(answer(b"64\r\nhello", T_E)),
    "no last chunk": answer_once(answer(b"5\r\nhello\r\n", T_E)),
    "bad chunk": answer_once(answer(b"5\r\nhello\r\nzz\r\n", T_E)),
    "reset in a body": reset_after(answer(b"hello", b"Content-Length: 100")),
    "reset in a chunk": reset_after(answer(b"64\r\nhello", T_E)),
}  # fmt: skip


def send_bytewise(connection: socket.socket, raw: bytes) -> None:
    """Send a request byte by byte, each in a packet of its own."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number in range(len(raw)):
        connection.sendall(raw[number : number + 1])


def exchange(stage: Stage, port: int, raw: bytes, method: str, script: Script, *, bytewise: bool) -> list[Message]:
    """Play an exchange; return the request as the site got it, and the answer as the visitor got it."""
    stage.raw.play(script)
    with connect(port) as connection:
        send_bytewise(connection, raw) if bytewise else connection.sendall(raw)
        got = Wire(connection).read_answer(method)
    assert not stage.raw.has_garbage
    [request] = stage.raw.requests
    return [request, got]


def compare(stage: Stage, raw: bytes, script: Script, *, bytewise: bool = False) -> Message:
    """Play an exchange without the proxy and through it, and say what differs; return the answer."""
    method = raw.split(b" ", 1)[0].decode()
    direct, through = (
        exchange(stage, port, raw, method, script, bytewise=bytewise) for port in (stage.raw.port, stage.proxy.port)
    )
    assert comparable_request(through[0]) == comparable_request(direct[0])
    assert comparable_answer(through[1], direct[1]) == comparable_answer(direct[1], direct[1])
    assert {key for key, _ in through[0].fields if key.lower() in ADDED} == {b"X-Forwarded-Proto", b"X-Forwarded-Host"}
    return through[1]


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_arrive_as_they_were_sent(stage: Stage, name: str) -> None:
    """Method, target, headers in their order and case, body and trailers reach the site unchanged."""
    compare(stage, REQUESTS[name], answer_always(OK), bytewise=name == "bytes one by one")


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_arrive_as_they_were_sent(stage: Stage, name: str) -> None:
    """Status, reason, headers in their order and case, body, trailers and completeness reach the visitor unchanged."""
    compare(stage, get("Accept: */*"), ANSWERS[name])


@pytest.mark.parametrize(
    "headers",
    [(b"Content-Length: 5",), (T_E,), (), (b"Content-Length: 0",), (T_E, b"Trailer: X-Sum")],
    ids=["length", "chunks", "none", "nothing", "trailers"],
)
def test_head_has_no_body(stage: Stage, headers: tuple[bytes, ...]) -> None:
    """An answer to HEAD has the headers of the answer to GET and no body, whatever its headers promise."""
    assert compare(stage, get(method="HEAD"), answer_always(answer(b"", *headers))).body == b""
