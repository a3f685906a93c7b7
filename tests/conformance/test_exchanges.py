"""Exchanges that take more than one message: what follows on a connection, what comes early, late, or never."""

import contextlib
import socket
import struct
import threading
import time
from typing import Final

import pytest

from tests.conformance.conftest import DOWN, RAW, SITE, SIX, Connection, Stage, answer_always, answer_once
from tests.conformance.differences import comparable_answer, comparable_request
from tests.conformance.test_scripted import ANSWERS, OK, T_E, answer, chunks, get, post
from tests.conformance.wire import PATIENCE_S, Wire, ask, connect
from tests.proxy.conftest import Http2Visitor

HINTS: Final = answer(b"", b"Link: </a.css>; rel=preload", status=b"103 Early Hints")


# --- Expect ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_upload_that_asks_first(stage: Stage, coding: str) -> None:
    """Whoever asks whether to go on is told so, sends the body, and the site gets the whole of it."""
    body = b"hello" if "Length" in coding else chunks(b"hello")
    stage.raw.play(answer_always(OK))
    with connect(stage.proxy.port) as visitor:
        visitor.sendall(get("Expect: 100-continue", coding, method="POST"))
        wire = Wire(visitor)
        assert wire.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        visitor.sendall(body)
        assert wire.read_answer().body == b"ok"
    assert [request.body for request in stage.raw.requests] == [b"hello"]


def test_upload_that_the_site_refuses(stage: Stage) -> None:
    """A site that refuses before it has the body is heard before it has the body."""

    def script(connection: Connection) -> None:
        connection.wire.read_until(b"\r\n\r\n")
        connection.send(answer(b"no", b"Content-Length: 2", b"Connection: close", status=b"417 Expectation Failed"))
        connection.wire.more()

    stage.raw.play(script)
    with connect(stage.proxy.port) as visitor:
        visitor.sendall(get("Expect: 100-continue", "Content-Length: 1000000", method="POST"))
        got = Wire(visitor).read_answer()
    assert (got.status, got.body) == (417, b"no")


def test_old_visitors_hear_no_interim_answers(stage: Stage) -> None:
    """HTTP/1.0 knows neither 100 nor 103 (RFC 9110 section 15.2)."""
    stage.raw.play(answer_always(HINTS + OK))
    raw = get("Expect: 100-continue", "Content-Length: 2", method="POST", version="1.0") + b"hi"
    [got] = ask(stage.proxy.port, raw)
    assert (got.status, got.interim) == (200, [])


def test_site_that_is_down_after_100(stage: Stage) -> None:
    """Who was told to go on still gets a page when the site can't be reached."""
    raw = get("Expect: 100-continue", "Content-Length: 2", method="POST", host=DOWN) + b"hi"
    [got] = ask(stage.proxy.port, raw)
    assert (got.status, [one.status for one in got.interim]) == (502, [100])


# --- What follows on a connection -----------------------------------------------------------------------------------


def test_connections_are_kept_on_both_sides(stage: Stage) -> None:
    """Twenty requests on one connection reach the site on one connection."""
    stage.raw.play(answer_always(OK))
    with connect(stage.proxy.port) as visitor:
        wire = Wire(visitor)
        for number in range(20):
            visitor.sendall(get(target=f"/{number}") if number % 3 else post(b"a", "Content-Length: 1"))
            assert wire.read_answer().body == b"ok"
    assert len(stage.raw.connections) == 1
    assert len(stage.raw.requests) == 20


def test_site_that_closes_between_requests(stage: Stage) -> None:
    """A connection that the site closes when it likes is not the visitor's concern: no request is lost over it."""
    stage.raw.play(answer_once(OK))
    with connect(stage.proxy.port) as visitor:
        wire = Wire(visitor)
        for _ in range(10):
            visitor.sendall(get())
            assert wire.read_answer().body == b"ok"
    assert len(stage.raw.connections) == 10


@pytest.mark.parametrize(("method", "status", "tries"), [("GET", 200, 2), ("POST", 502, 1)])
def test_site_that_closes_as_a_request_comes(stage: Stage, method: str, status: int, tries: int) -> None:
    """A kept connection that closes without a word is tried anew once, but not for what might then happen twice."""

    def script(connection: Connection) -> None:
        connection.read()
        connection.send(OK)
        if len(stage.raw.connections) == 1:
            connection.read()  # and close, as if the request had crossed the end
        else:
            connection.read()
            connection.send(OK)

    stage.raw.play(script)
    with connect(stage.proxy.port) as visitor:
        wire = Wire(visitor)
        visitor.sendall(get())
        assert wire.read_answer().status == 200
        visitor.sendall(get(method=method))
        assert wire.read_answer().status == status
    assert len(stage.raw.connections) == tries


def test_site_that_says_too_much(stage: Stage) -> None:
    """What a site sends beyond its answer belongs to no other request."""
    stage.raw.play(answer_always(OK + answer(b"poison", b"Content-Length: 6")))
    with connect(stage.proxy.port) as visitor:
        wire = Wire(visitor)
        for _ in range(3):
            visitor.sendall(get())
            assert wire.read_answer().body == b"ok"
            time.sleep(0.05)


def test_answer_without_an_end_keeps_the_connection(stage: Stage) -> None:
    """An answer that ends when the site closes gets chunks, so that the visitor's connection lives on."""
    stage.raw.play(answer_once(answer(b"hello" * 1000)))
    with connect(stage.proxy.port) as visitor:
        wire = Wire(visitor)
        for _ in range(3):
            visitor.sendall(get())
            got = wire.read_answer()
            assert (got.body, got.is_whole, got.start) == (b"hello" * 1000, True, b"HTTP/1.1 200 OK")


def test_old_visitor_gets_an_answer_without_an_end(stage: Stage) -> None:
    """HTTP/1.0 knows no chunks: there the connection's end is the answer's."""
    stage.raw.play(answer_once(answer(b"hello" * 1000)))
    [got] = ask(stage.proxy.port, get(version="1.0"))
    assert (got.body, got.get(b"transfer-encoding")) == (b"hello" * 1000, b"")


def test_reset_is_no_end(stage: Stage) -> None:
    """An answer that would end when the site closes, but breaks off, doesn't pass for whole."""

    def script(connection: Connection) -> None:
        connection.read()
        connection.send(answer(b"hello"))
        time.sleep(0.1)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    stage.raw.play(script)
    [got] = ask(stage.proxy.port, get())
    assert (got.body, got.is_whole) == (b"hello", False)


def test_visitor_who_sends_ahead_without_end(stage: Stage) -> None:
    """Whoever goes on sending while the site thinks is held back, and every request is served in the end."""
    has_thought = threading.Event()

    def script(connection: Connection) -> None:
        while connection.read():
            has_thought.wait(PATIENCE_S)
            connection.send(OK)

    stage.raw.play(script)
    request, sent = get("X-Long: " + "x" * 30_000), 0
    with connect(stage.proxy.port) as visitor:
        visitor.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while sent < 1 << 28:
                sent += visitor.send(request[sent % len(request) :])
        assert sent < 1 << 28, "it was not held back"
        has_thought.set()
        visitor.settimeout(PATIENCE_S)
        wire = Wire(visitor)
        for _ in range(sent // len(request)):
            assert wire.read_answer().status == 200


# --- Sites, and requests that are for none --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "target", "status"),
    [
        (SITE, "/host", 200),
        (SITE.upper(), "/host", 200),
        (f"{SITE}:8080", "/host", 200),
        (f"{SITE}.", "/host", 200),
        ("unknown.example.org", "/host", 421),
        ("127.0.0.1", "/host", 421),
        ("[::1]:80", "/host", 421),
        ("*", "/host", 421),
        (DOWN, "/", 502),
    ],
)
def test_sites_by_host(stage: Stage, host: str, target: str, status: int) -> None:
    """Each host gets its site, as Host was sent; others get 421, and sites that are down 502, in our own words."""
    [got] = ask(stage.proxy.port, get(host=host, target=target))
    assert got.status == status
    if status == 200:
        assert got.body.decode() == host.lower().partition(":")[0].rstrip(".")
    else:
        assert b"127.0.0.1" not in got.body
        assert b"mitm" not in got.body.lower()


def test_site_behind_ipv6(stage: Stage) -> None:
    """A site may be at an IPv6 address."""
    stage.six.play(answer_always(answer(b"six", b"Content-Length: 3")))
    [got] = ask(stage.proxy.port, get(host=SIX))
    assert got.body == b"six"


def test_visitor_by_ipv6_and_tls(stage: Stage) -> None:
    """The listener for TLS is at an IPv6 address here; it gives the same answers, and the site hears of https."""
    stage.raw.play(answer_always(OK))
    with stage.connect_tls(RAW, "http/1.1") as visitor:
        visitor.sendall(get())
        assert Wire(visitor).read_answer().body == b"ok"
    assert stage.raw.requests[0].get(b"x-forwarded-proto") == b"https"


def test_absolute_target(stage: Stage) -> None:
    """A target with a host of its own reaches that host's site, as a path."""
    stage.raw.play(answer_always(OK))
    for target in (f"http://{RAW}/a?b=1", f"HTTP://{RAW.upper()}:80/a?b=1"):
        [got] = ask(stage.proxy.port, get(target=target, host="other.example"))
        assert got.body == b"ok"
    for request in stage.raw.requests:
        assert request.start == b"GET /a?b=1 HTTP/1.1"
        assert request.get(b"host").lower().startswith(RAW.encode())


def test_site_gets_no_address(stage: Stage) -> None:
    """Nothing of who or where the visitor is reaches the site, not even in trailers."""
    stage.raw.play(answer_always(OK))
    headers = ("X-Forwarded-For: 8.8.8.8", "Forwarded: for=8.8.8.8", "X-Real-IP: 8.8.8.8", "Via: 1.1 8.8.8.8")
    body = chunks(b"a", trailers=b"X-Forwarded-For: 8.8.8.8\r\nX-Real-IP: 8.8.8.8\r\n")
    ask(stage.proxy.port, post(body, *headers, "Connection: X-Forwarded-For", "Transfer-Encoding: chunked"))
    [request] = stage.raw.requests
    assert b"8.8.8.8" not in repr(request).encode()
    assert b"127.0.0.1" not in repr(request).encode()


# --- WebSocket ------------------------------------------------------------------------------------------------------

HANDSHAKE: Final = get(
    "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: chat", target="/chat",
)  # fmt: skip
SWITCH: Final = answer(
    b"", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    status=b"101 Switching Protocols",
)  # fmt: skip


def frame(code: int, data: bytes, *, is_masked: bool) -> bytes:
    """Render a WebSocket frame (RFC 6455 section 5.2)."""
    short = len(data) if len(data) < 126 else 126 if len(data) < 65536 else 127
    size = {126: struct.pack(">H", len(data) & 0xFFFF), 127: struct.pack(">Q", len(data))}.get(short, b"")
    key = b"\x01\x02\x03\x04" if is_masked else b""
    masked = bytes(byte ^ key[n % 4] for n, byte in enumerate(data)) if is_masked else data
    return bytes((0x80 | code, short | (0x80 if is_masked else 0))) + size + key + masked


def talk_websocket(connection: Connection) -> None:
    """Greet at once, echo every byte, and close when the visitor does."""
    connection.read()
    connection.send(SWITCH + frame(1, b"welcome", is_masked=False))
    while data := connection.socket.recv(65536):
        connection.send(data)


@pytest.mark.parametrize("size", [0, 5, 125, 126, 65_535, 65_536, 1 << 20])
def test_websocket_frames_of_every_size(stage: Stage, size: int) -> None:
    """The handshake is the site's, the first frame comes with it, and frames of every size come back as they are."""
    sent = frame(2, bytes(number % 251 for number in range(size)), is_masked=True)
    closing = frame(8, struct.pack(">H", 4001) + b"bye", is_masked=True)
    greeting = frame(1, b"welcome", is_masked=False)
    heard = []
    for port in (stage.raw.port, stage.proxy.port):
        stage.raw.play(talk_websocket)
        with connect(port) as visitor:
            visitor.sendall(HANDSHAKE)
            wire = Wire(visitor)
            switched = wire.read_answer()
            assert wire.read_bytes(len(greeting)) == (greeting, True)
            visitor.sendall(sent)
            assert wire.read_bytes(len(sent)) == (sent, True)
            visitor.sendall(closing)
            assert wire.read_bytes(len(closing)) == (closing, True)
        stage.raw.wait()
        heard.append((stage.raw.requests[0], switched))
    direct, through = heard
    assert comparable_request(through[0]) == comparable_request(direct[0])
    assert comparable_answer(through[1], direct[1]) == comparable_answer(direct[1], direct[1])


def test_site_closes_a_websocket(stage: Stage) -> None:
    """A close frame of the site's reaches the visitor with its code, and then the end."""
    farewell = frame(8, struct.pack(">H", 1013) + b"try again later", is_masked=False)

    def script(connection: Connection) -> None:
        connection.read()
        connection.send(SWITCH)
        connection.socket.recv(100)
        connection.send(farewell)

    stage.raw.play(script)
    with connect(stage.proxy.port) as visitor:
        visitor.sendall(HANDSHAKE)
        wire = Wire(visitor)
        assert wire.read_answer().status == 101
        visitor.sendall(frame(1, b"hello", is_masked=True))
        assert wire.read_rest() == farewell


def test_websocket_that_is_refused(stage: Stage) -> None:
    """A site that doesn't want a WebSocket answers as ever, and the connection goes on."""
    stage.raw.play(answer_always(answer(b"no", b"Content-Length: 2", status=b"403 Forbidden")))
    got = ask(stage.proxy.port, HANDSHAKE, get(), methods=["GET", "GET"])
    assert [one.status for one in got] == [403, 403]


@pytest.mark.parametrize(
    "raw",
    [SWITCH, answer(b"ok", b"X-A: a\rb"), answer(b"ok", b"X-A: a\x00b"), answer(b"", b"Transfer-Encoding: gzip"),
     b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 300_000, answer(b"ok", b"Content-Length: 2", b"Content-Length: 3")],
    ids=["unasked upgrade", "CR", "NUL", "coding", "endless head", "two lengths"],
)  # fmt: skip
def test_answers_that_could_be_read_in_two_ways(stage: Stage, raw: bytes) -> None:
    """Such an answer is a 502, of which nothing reaches the visitor, over HTTP/1.1 and HTTP/2."""
    stage.raw.play(answer_once(raw))
    [got] = ask(stage.proxy.port, get())
    assert got.status == 502
    assert b"X-A" not in repr(got).encode()
    with Http2Visitor(stage.connect_tls(RAW, "h2")) as visitor:
        assert visitor.get("/", host=RAW)[0] == 502


def test_folded_header_is_unfolded(stage: Stage) -> None:
    """A site that still folds headers is understood (RFC 9112 section 5.2)."""
    stage.raw.play(answer_always(answer(b"ok", b"X-A: one\r\n  two", b"Content-Length: 2")))
    [got] = ask(stage.proxy.port, get())
    assert b" ".join(got.get(b"x-a").split()) == b"one two"


# --- HTTP/2 in front ------------------------------------------------------------------------------------------------


def test_interim_answers_and_trailers_over_http2(stage: Stage) -> None:
    """Early hints and trailers, of the answer and of the request, cross from one version to the other."""
    stage.raw.play(answer_always(HINTS + answer(chunks(b"hello", trailers=b"Server-Timing: db\r\n"), T_E)))
    with Http2Visitor(stage.connect_tls(RAW, "h2")) as visitor:
        stream = visitor.ask("/", method="POST", host=RAW, is_all=False)
        visitor.h2.send_data(stream, b"abc")
        visitor.h2.send_headers(stream, [("x-sum", "1"), ("x-forwarded-for", "8.8.8.8")], end_stream=True)
        visitor.flush()
        visitor.wait(stream)
        assert visitor.texts[stream] == b"hello"
        assert [dict(hint)[b"link"] for hint in visitor.hints[stream]] == [b"</a.css>; rel=preload"]
        assert visitor.trailers[stream] == [(b"server-timing", b"db")]
    [request] = stage.raw.requests
    assert (request.body, request.trailers) == (b"abc", [(b"x-sum", b"1")])


def test_empty_frames_end_nothing(stage: Stage) -> None:
    """An empty frame of data isn't the end of a body: what follows it is still the body, and no request of its own."""
    stage.raw.play(answer_always(OK))
    with Http2Visitor(stage.connect_tls(RAW, "h2")) as visitor:
        stream = visitor.ask("/", method="POST", host=RAW, is_all=False)
        for piece in (b"", b"one", b"", get(target="/hidden"), b""):
            visitor.h2.send_data(stream, piece)
        visitor.h2.end_stream(stream)
        visitor.flush()
        visitor.wait(stream)
        assert visitor.texts[stream] == b"ok"
    stage.raw.wait()
    assert [request.body for request in stage.raw.requests] == [b"one" + get(target="/hidden")]
    assert not stage.raw.has_garbage


@pytest.mark.parametrize(
    "script", ["length", "chunks", "until it closes", "old until it closes", "no content", "cookies"]
)
def test_answers_over_http2(stage: Stage, script: str) -> None:
    """However the site says where an answer ends, over HTTP/2 it is whole."""
    stage.raw.play(ANSWERS[script])
    [direct] = ask(stage.raw.port, get())
    with Http2Visitor(stage.connect_tls(RAW, "h2")) as visitor:
        assert visitor.get("/", host=RAW) == (direct.status, direct.body)
        assert visitor.ended[1] is None


@pytest.mark.parametrize(
    "script", ["promising too much", "half a chunk", "no last chunk", "reset in a body", "reset in a chunk"]
)
def test_broken_answers_over_http2(stage: Stage, script: str) -> None:
    """However an answer breaks off, over HTTP/2 it ends as a reset."""
    stage.raw.play(ANSWERS[script])
    with Http2Visitor(stage.connect_tls(RAW, "h2")) as visitor:
        assert visitor.get("/", host=RAW) == (200, b"hello")
        assert visitor.ended[1] is not None


@pytest.mark.parametrize("sent", [b"abc", b"abcdefghij", b""])
def test_length_that_is_a_lie_over_http2(stage: Stage, sent: bytes) -> None:
    """A body that isn't as long as it was said to be makes no request at the site."""
    stage.raw.play(answer_always(OK))
    with Http2Visitor(stage.connect_tls(RAW, "h2")) as visitor:
        stream = visitor.ask("/", ("content-length", "5"), method="POST", host=RAW, is_all=False)
        visitor.h2.send_data(stream, sent, end_stream=True)
        visitor.flush()
        while stream not in visitor.ended and visitor.read():
            pass
        assert visitor.heads.get(stream, {}).get(b":status", b"400") != b"200"
    stage.raw.wait()
    assert stage.raw.requests == []
