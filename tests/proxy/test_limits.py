"""What a visitor may not do: send too much, take too long, or hold too many connections."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.proxy.limits import MAX_ADDRESSES, RateLimit, address_key
from tests.proxy.conftest import (
    HOST,
    Http2Visitor,
    Origin,
    Serving,
    make_settings,
    read_all,
    read_head,
    split_response,
    wait_until,
    write_certificate,
)
from tests.support.ports import free_port

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


@pytest.mark.parametrize(
    ("rate", "burst", "at_s", "admitted"),
    [
        (2, 3, (0, 0, 0, 0, 0), (1, 1, 1, 0, 0)),
        (2, 3, (0, 0, 0, 0.4, 0.5, 0.6, 1.0), (1, 1, 1, 0, 1, 0, 1)),
        (2, 3, (0, 0, 0, 0, 9, 9, 9, 9), (1, 1, 1, 0, 1, 1, 1, 0)),
        (0.1, 1, (0, 5, 9.9, 10.1, 15), (1, 0, 0, 1, 0)),
        (10, 1, (0, 0.1, 0.2, 0.25, 0.3), (1, 1, 1, 0, 1)),
    ],
    ids=["burst", "refill", "rest", "slow", "even"],
)
def test_bucket_gives_a_burst_and_then_the_rate(
    rate: float, burst: int, at_s: tuple[float, ...], admitted: tuple[int, ...]
) -> None:
    """A burst passes at once, then so many a second; what is refused costs nothing; nobody pays for another."""
    limit = RateLimit(rate, burst)
    assert tuple(int(limit.admit(b"a", 1e6 + moment)) for moment in at_s) == admitted
    assert limit.admit(b"b", 1e6)


@given(st.floats(0.1, 1000), st.integers(1, 200), st.lists(st.floats(0, 5), max_size=200))
def test_no_address_gets_more_than_its_rate(rate: float, burst: int, gaps_s: list[float]) -> None:
    """Whenever somebody asks: in any span no more than the burst, and the rate times the span, is admitted."""
    limit, now_s, admitted = RateLimit(rate, burst), 1e6, list[float]()
    for gap_s in gaps_s:
        now_s += gap_s
        if limit.admit(b"a", now_s):
            admitted.append(now_s)
    for index, end_s in enumerate(admitted):
        assert index + 1 <= burst + rate * (end_s - admitted[0]) + 1


def test_addresses_are_forgotten() -> None:
    """Who may ask as often as anybody isn't remembered, and never more than so many are."""
    limit = RateLimit(1, 5)
    for number in range(MAX_ADDRESSES + 100):
        limit.admit(number.to_bytes(4), 1e6)
    assert len(limit) == MAX_ADDRESSES
    limit.forget(1e6 + 0.5)
    assert len(limit) == MAX_ADDRESSES
    limit.forget(1e6 + 1.1)
    assert len(limit) == 0


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("203.0.113.7", "203.0.113.8", False),
        ("203.0.113.7", "::ffff:203.0.113.7", True),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_limits_hold_for_an_address_or_a_household(one: str, other: str, is_same: bool) -> None:
    """IPv4 counts by address, IPv6 by /64, however an address is written."""
    assert (address_key(one) == address_key(other)) == is_same


def test_too_many_requests_get_429_and_are_recorded(nginx: int) -> None:
    """Beyond the limit comes a neutral 429 with Retry-After, which is a record like any; others are served."""
    settings = make_settings(nginx, max_requests_per_s=0.1, max_requests_burst=2, trusted_proxies=["127.0.0.0/8"])
    with Serving(settings) as serving:
        by = [serving.get("/empty?q=secret", "X-Forwarded-For: 203.0.113.7") for _ in range(4)]
        assert [status for status, _, _ in by] == [204, 204, 429, 429]
        assert b"Retry-After: 10\r\n" in by[2][1]
        assert not any(word in by[2][2] for word in (b"secret", b"203.0.113.7"))
        assert serving.get("/empty", "X-Forwarded-For: 203.0.113.8")[0] == 204
        assert [serving.get("/empty")[0] for _ in range(3)] == [204] * 3, "the proxy in front asks for itself"
        assert serving.get("/empty", "X-Forwarded-For: unknown")[0] == 204, "whoever it is, nobody is guessed"
        assert [request.status for request in serving.recorded(9)] == [204, 204, 429, 429, *[204] * 5]
        assert serving.counts["limited"] == 2
        assert serving.counts["begun"] == 9
        assert serving.counts["faults"] == 0


def test_http2_gets_429_and_goes_on(nginx: int, tmp_path: Path) -> None:
    """Over HTTP/2 only the one request is refused, and its body isn't waited for."""
    settings = make_settings(
        nginx, max_requests_per_s=2, max_requests_burst=1,
        tls_listen="127.0.0.1:443", certificates=[write_certificate(tmp_path, HOST)],
    )  # fmt: skip
    with Serving(settings) as serving, Http2Visitor(serving.connect_tls("h2")) as visitor:
        assert visitor.get("/empty")[0] == 204
        assert visitor.get("/empty")[0] == 429
        assert visitor.heads[3][b"retry-after"] == b"1"
        wait_until(lambda: visitor.get("/empty")[0] == 204)
        assert serving.counts["faults"] == 0
