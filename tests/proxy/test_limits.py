"""What a visitor may not do: send too much, take too long, or hold too many connections."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.conftest import (
    HOST,
    Http2Visitor,
    Origin,
    Serving,
    free_port,
    make_settings,
    read_all,
    read_head,
    split_response,
    wait_until,
    write_certificate,
)

CHUNK = b"10000\r\n" + bytes(0x10000) + b"\r\n"
MIB = 1 << 20


def swallow(connection: socket.socket, _head: bytes) -> None:
    """Read until the other side has had enough, and answer nothing."""
    while connection.recv(1 << 16):
        pass


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_body_beyond_the_limit_is_refused(declared: bool) -> None:
    """A body that is too large gets 413: at once if its length was said, else when it is reached; one record."""
    with (
        Origin(swallow) as origin,
        Serving(make_settings(origin.port, max_body_mib=1)) as serving,
        serving.connect() as visitor,
    ):
        framing = f"Content-Length: {MIB + 1}" if declared else "Transfer-Encoding: chunked"
        visitor.sendall(f"POST /secret HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n".encode())
        if not declared:
            visitor.sendall(CHUNK * 16)
            wait_until(lambda: len(origin.heads) == 1)
            visitor.sendall(CHUNK)
        status, _, body = split_response(read_all(visitor))
        assert (status, b"secret" in body) == (413, False)
        assert len(origin.heads) == (0 if declared else 1)
        assert serving.recorded(1)[0].status == 413
        assert serving.counts["faults"] == 0


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "open"])
def test_body_beyond_the_limit_is_refused_in_http2(tmp_path: Path, declared: bool) -> None:
    """The same over HTTP/2, where the connection goes on."""
    settings: dict[str, Any] = {
        "tls_listen": "127.0.0.1:443",
        "certificates": [write_certificate(tmp_path, HOST)],
        "max_body_mib": 1,
    }
    with (
        Origin(swallow) as origin,
        Serving(make_settings(origin.port, **settings)) as serving,
        Http2Visitor(serving.connect_tls("h2")) as visitor,
    ):
        fields = (("content-length", str(2 * MIB)),) if declared else ()
        stream = visitor.h2.get_next_available_stream_id()
        pseudo = ((":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", "/secret"))
        visitor.h2.send_headers(stream, [*pseudo, *fields])
        while stream not in visitor.ended:
            while not declared and visitor.h2.local_flow_control_window(stream) and visitor.sent < 2 * MIB:
                size = min(visitor.h2.local_flow_control_window(stream), 16_384)
                visitor.h2.send_data(stream, bytes(size))
                visitor.sent += size
                visitor.flush()
            visitor.flush()
            assert visitor.read()
        assert visitor.heads[stream][b":status"] == b"413"
        assert visitor.get("/", host="unknown.example.org")[0] == 421
        assert [request.status for request in serving.recorded(2)] == [413, 421]
        assert serving.counts["faults"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "seconds", "records"),
    [
        (b"", "header_timeout_s", 0),
        (b"GET / HTTP/1.1\r\nX: ", "header_timeout_s", 0),
        (f"GET /empty HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET".encode(), "idle_timeout_s", 1),
        (f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9000\r\n\r\n".encode(), "request_timeout_s", 1),
    ],
    ids=["nothing", "head", "next", "body"],
)
def test_slow_visitors_are_sent_away(nginx: int, sent: bytes, seconds: str, records: int) -> None:
    """Who dribbles a request, byte by byte, loses the connection in time; what had begun is one record."""
    with Serving(make_settings(nginx, **dict[str, Any]({seconds: 1}))) as serving, serving.connect() as visitor:
        visitor.sendall(sent)
        began_s = time.monotonic()
        visitor.settimeout(0.1)
        while time.monotonic() - began_s < 10:
            try:
                visitor.sendall(b"a")
                if visitor.recv(1000) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert 0.9 < time.monotonic() - began_s < 5
        wait_until(lambda: serving.counts["disconnected"] == 1)
        serving.recorded(records)


@pytest.mark.slow
def test_slow_handshake_is_ended(tmp_path: Path) -> None:
    """A visitor who doesn't finish the TLS handshake loses the connection, too."""
    made = [write_certificate(tmp_path, HOST)]
    settings = make_settings(free_port(), tls_listen="127.0.0.1:443", certificates=made, header_timeout_s=1)
    with Serving(settings) as serving, socket.create_connection(("127.0.0.1", serving.tls_port)) as visitor:
        visitor.settimeout(5)
        assert read_all(visitor) == b""
        assert serving.counts["faults"] == 0


@pytest.mark.slow
def test_running_answers_and_websockets_may_take_their_time() -> None:
    """No limit on visitors ends an answer that is on its way, or a WebSocket."""

    def play(connection: socket.socket, head: bytes) -> None:
        if b"/chat" in head:
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            connection.sendall(connection.recv(100)[::-1])
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
            time.sleep(1.5)
            connection.sendall(b"llo")

    limits: dict[str, Any] = dict.fromkeys(("header_timeout_s", "idle_timeout_s", "request_timeout_s"), 1)
    with (
        Origin(play) as origin,
        Serving(make_settings(origin.port, **limits)) as serving,
        serving.connect() as visitor,
    ):
        visitor.sendall(
            f"GET /chat HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert read_head(visitor).startswith(b"HTTP/1.1 101")
        assert serving.get("/long")[2] == b"hello"
        visitor.sendall(b"abc")
        assert visitor.recv(100) == b"cba"


def test_one_address_may_have_so_many_connections(nginx: int) -> None:
    """A connection too many is closed unserved, until another ends; trusted proxies may have any number."""
    with Serving(make_settings(nginx, max_connections=3)) as serving:
        held = [serving.connect() for _ in range(3)]
        wait_until(lambda: serving.counts["connected"] == 3)
        with serving.connect() as fourth:
            assert read_all(fourth) == b""
        assert serving.counts["refused"] == 1
        held.pop().close()
        wait_until(lambda: serving.counts["disconnected"] == 1)
        assert serving.get("/empty")[0] == 204
        for connection in held:
            connection.close()
    with Serving(make_settings(nginx, max_connections=1, trusted_proxies=["127.0.0.0/8"])) as serving:
        held = [serving.connect() for _ in range(3)]
        assert serving.get("/empty")[0] == 204
        for connection in held:
            connection.close()
