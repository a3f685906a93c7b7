"""HTTP/2 in front: the same pages, several at once, and each request is exactly one record."""

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from h2.errors import ErrorCodes

from anonproxy.model.settings import Settings
from anonproxy.proxy.limits import MAX_RESETS
from tests.proxy.conftest import (
    HOST,
    PAGE,
    Http2Visitor,
    Origin,
    Serving,
    make_settings,
    memory_bytes,
    read_all,
    split_response,
    wait_until,
    write_certificate,
)
from tests.support.ports import free_port

NEUTRAL = (b"mitm", b"127.0.0.1", b"secret", b"errno")


def settings_with_tls(folder: Path, *ports: int, **proxy: Any) -> Settings:
    """Return settings that serve a site over TLS."""
    return make_settings(
        *ports, tls_listen="127.0.0.1:443", certificates=[write_certificate(folder, "*.example.org")], **proxy
    )


def visit(serving: Serving, window: int = 1 << 20) -> Http2Visitor:
    """Connect as a visitor who speaks HTTP/2."""
    connection = serving.connect_tls("h2", "http/1.1")
    assert connection.selected_alpn_protocol() == "h2"
    return Http2Visitor(connection, window)


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("GET", "/page.html", (), 200),
        ("HEAD", "/page.html", (), 200),
        ("GET", "/empty", (), 204),
        ("GET", "/old", (), 302),
        ("GET", "/missing", (), 404),
        ("GET", "/page.html", (("range", "bytes=10-19"),), 206),
        ("GET", "/page.html", (("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT"),), 304),
        ("DELETE", "/page.html", (), 405),
    ],
)
def test_answers_are_the_sites_own(
    tmp_path: Path, nginx: int, method: str, path: str, fields: tuple[tuple[str, str], ...], status: int
) -> None:
    """An answer over HTTP/2 has the site's status, headers and body, and becomes one record."""
    with Serving(settings_with_tls(tmp_path, nginx)) as serving, visit(serving) as visitor:
        got, body = visitor.get(path, *fields, method=method)
        lines = (f"{method} {path} HTTP/1.0", f"Host: {HOST}", *(f"{name}: {value}" for name, value in fields))
        with socket.create_connection(("127.0.0.1", nginx)) as direct:
            direct.sendall("\r\n".join((*lines, "", "")).encode())
            expected, head, expected_body = split_response(read_all(direct))
        assert got == expected == status
        assert body == expected_body
        sent = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        left_out = {b"connection", b"date", b"transfer-encoding", b"content-length"}
        assert {name: visitor.heads[1].get(name, b"").lower() for name in sent.keys() - left_out} == {
            name: value for name, value in sent.items() if name not in left_out
        }
        [request] = serving.recorded(1)
        assert (request.status, request.raw_target, request.raw_host) == (status, path, HOST)
        assert request.size_bytes == (0 if method == "HEAD" else len(body))


def test_many_requests_run_at_once(tmp_path: Path) -> None:
    """A slow answer holds up no other on the same connection; each is one record."""
    is_let_go = False

    def play(connection: socket.socket, head: bytes) -> None:
        wait_until(lambda: is_let_go or b"/slow" not in head)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with (
        Origin(play) as origin,
        Serving(settings_with_tls(tmp_path, origin.port)) as serving,
        visit(serving) as visitor,
    ):
        slow = [visitor.ask(f"/slow{number}") for number in range(8)]
        quick = [visitor.ask(f"/quick{number}") for number in range(8)]
        visitor.wait(*quick)
        assert not any(stream in visitor.ended for stream in slow)
        is_let_go = True
        visitor.wait(*slow)
        assert {visitor.texts[stream] for stream in (*slow, *quick)} == {b"hello"}
        assert {request.status for request in serving.recorded(16)} == {200}


def test_site_gets_proper_http1(tmp_path: Path) -> None:
    """The site sees HTTP/1.1 with Host and one Cookie line, and a body is framed when nobody said its length."""
    bodies: list[bytes] = []

    def play(connection: socket.socket, head: bytes) -> None:
        received = b""
        while b"chunked" in head and not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(1000)
        bodies.append(received)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with (
        Origin(play) as origin,
        Serving(settings_with_tls(tmp_path, origin.port)) as serving,
        visit(serving) as visitor,
    ):
        stream = visitor.ask(
            "/form?x=1", ("cookie", "a=1"), ("cookie", "b=2"), method="POST", body=b"GET / HTTP/1.1\r\n"
        )
        visitor.wait(stream)
        assert visitor.get("/bare", method="POST")[0] == 200
        [form, bare] = origin.heads
        assert form.startswith(b"POST /form?x=1 HTTP/1.1\r\n")
        assert bodies == [b"10\r\nGET / HTTP/1.1\r\n\r\n0\r\n\r\n", b""]
        lines = form.lower().split(b"\r\n")
        assert f"host: {HOST}".encode() in lines
        assert b"cookie: a=1; b=2" in lines
        assert b"x-forwarded-proto: https" in lines
        assert b"transfer-encoding" not in bare.lower()
        assert serving.recorded(2)[0].raw_cookie == "a=1; b=2"


@pytest.mark.slow
def test_visitor_who_does_not_read_costs_no_memory(tmp_path: Path, nginx: int) -> None:
    """64 MiB for a visitor who takes none of it wait at the site; others on the connection are served meanwhile."""
    with Serving(settings_with_tls(tmp_path, nginx)) as serving, visit(serving, window=16_384) as visitor:
        assert visitor.get("/page.html")[0] == 200
        before = memory_bytes(os.getpid())
        visitor.window_is_open = False
        large = visitor.ask("/large")
        wait_until(lambda: visitor.read() and visitor.bodies[large] == 16_384)
        for _ in range(20):
            assert visitor.get("/empty")[0] == 204
        assert memory_bytes(os.getpid()) - before < 8 << 20
        visitor.window_is_open = True
        visitor.h2.increment_flow_control_window(1 << 20, large)
        visitor.h2.acknowledge_received_data(16_384, large)
        visitor.flush()
        visitor.wait(large)
        assert visitor.bodies[large] == 64 << 20
        assert memory_bytes(os.getpid()) - before < 16 << 20
        serving.recorded(22)


def test_failures_are_our_pages(tmp_path: Path) -> None:
    """Unknown hosts, sites that are down and sites that talk nonsense give neutral pages; the connection goes on."""
    with Origin(lambda connection, _: connection.sendall(b"secret nonsense\r\n\r\n")) as origin:
        settings = make_settings(
            origin.port, free_port(), hosts=((HOST,), ("down.example.org",)),
            tls_listen="127.0.0.1:443", certificates=[write_certificate(tmp_path, HOST)],
        )  # fmt: skip
        with Serving(settings) as serving, visit(serving) as visitor:
            answers = [
                visitor.get("/secret", host="unknown.example.org"),
                visitor.get("/secret", host="down.example.org"),
                visitor.get("/secret"),
                visitor.get("/secret", method="HEAD"),
            ]
            upload = visitor.ask("/secret", method="POST", host="unknown.example.org", body=bytes(10_000))
            visitor.wait(upload)
            answers.append((int(visitor.heads[upload][b":status"]), visitor.texts[upload]))
            assert [status for status, _ in answers] == [421, 502, 502, 502, 421]
            assert all(b"</html>" in body for status, body in (*answers[:3], answers[4]))
            assert answers[3][1] == b""
            assert not any(word in body.lower() for word in NEUTRAL for _, body in answers)
            assert not any(b"server" in head for head in visitor.heads.values())
            assert [request.status for request in serving.recorded(5)] == [421, 502, 502, 502, 421]


def test_answer_that_breaks_off_is_reset(tmp_path: Path) -> None:
    """A body that ends early ends as a reset, so that nobody takes it for whole."""

    def play(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")

    with (
        Origin(play) as origin,
        Serving(settings_with_tls(tmp_path, origin.port)) as serving,
        visit(serving) as visitor,
    ):
        stream = visitor.ask("/")
        visitor.wait(stream)
        assert (visitor.texts[stream], visitor.ended[stream]) == (b"hello", ErrorCodes.INTERNAL_ERROR)
        assert (serving.recorded(1)[0].status, serving.requests[0].size_bytes) == (200, 5)


def test_visitor_who_takes_a_request_back(tmp_path: Path) -> None:
    """A reset ends the request at the site too, gives one record with status 0, and the connection goes on."""
    left: list[bytes] = []

    def play(connection: socket.socket, head: bytes) -> None:
        if b"/page" in head:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        else:
            left.append(connection.recv(1))

    with (
        Origin(play) as origin,
        Serving(settings_with_tls(tmp_path, origin.port)) as serving,
        visit(serving) as visitor,
    ):
        stream = visitor.ask("/waiting")
        wait_until(lambda: len(origin.heads) == 1)
        visitor.h2.reset_stream(stream, ErrorCodes.CANCEL)
        assert visitor.get("/page") == (200, b"hello")
        wait_until(lambda: left == [b""])
        assert [request.status for request in serving.recorded(2)] == [0, 200]
        assert serving.addon.records.unfinished == 0
        assert serving.counts["faults"] == 0


@pytest.mark.parametrize(
    ("path", "method", "host", "fields"),
    [
        ("http://other.example/x", "GET", HOST, ()),
        ("/a b", "GET", HOST, ()),
        ("/x HTTP/1.1\r\nHost: other", "GET", HOST, ()),
        ("/x", "GET / HTTP/1.1\r\n", HOST, ()),
        ("/x", "CONNECT", HOST, ()),
        ("/x", "GET", "a b", ()),
        ("/x", "GET", "", ()),
        ("/x", "GET", HOST, (("host", "other.example"),)),
        ("/x", "GET", HOST, (("x-bad", "1\r\nhost: other"),)),
        ("/x", "GET", HOST, (("x-bad", "1\rb"),)),
        ("/x", "GET", HOST, (("x-bad", "1\nb"),)),
        ("/x", "GET", HOST, (("x-bad", "1\0b"),)),
        ("/x", "GET", HOST, (("x-bad", " 1"),)),
        ("/x", "GET", HOST, (("x-bad\0", "1"),)),
        ("/x", "GET", HOST, (("x-bad:", "1"),)),
        ("/x", "GET", HOST, (("X-Bad", "1"),)),
        ("/x", "GET", HOST, (("upgrade", "h2c"),)),
        ("/x", "GET", HOST, (("te", "gzip"),)),
        ("/x#y", "GET", HOST, ()),
        ("/x\0", "GET", HOST, ()),
        ("*", "GET", HOST, ()),
        ("", "GET", HOST, ()),
        ("/x", "get", HOST, ()),
        ("/x", "GET", HOST, (("bad header", "1"),)),
        ("/x", "GET", HOST, (("transfer-encoding", "chunked"),)),
        ("/x", "GET", HOST, (("content-length", "5"),)),
        ("/x", "GET", HOST, (("content-length", "5"), ("content-length", "6"))),
        ("/x", "GET", HOST, (("connection", "close"),)),
        ("/x", "GET", HOST, (("x-long", "a" * 40_000),)),
    ],
)
def test_what_could_be_read_in_two_ways_goes_nowhere(
    tmp_path: Path, path: str, method: str, host: str, fields: tuple[tuple[str, str], ...]
) -> None:
    """Fields that would change their meaning in HTTP/1.1 are refused, and nothing of them reaches the site."""
    with (
        Origin(lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as origin,
        Serving(settings_with_tls(tmp_path, origin.port)) as serving,
        visit(serving) as visitor,
    ):
        stream = visitor.ask(path, *fields, method=method, host=host)
        while stream not in visitor.ended and visitor.read():
            pass
        if visitor.farewell is None:
            assert visitor.heads[stream][b":status"] in {b"400", b"421", b"431"}
        else:
            assert not visitor.farewell.additional_data
            wait_until(lambda: serving.counts["malformed"] == 1)
        assert origin.heads == []
        assert serving.counts["faults"] == 0
        assert len(serving.requests) + serving.counts["malformed"] == 1


def test_bytes_that_are_not_http2_end_the_connection(tmp_path: Path) -> None:
    """After agreeing on HTTP/2, other bytes are answered with a farewell that quotes nothing."""
    with Serving(settings_with_tls(tmp_path, free_port())) as serving, serving.connect_tls("h2") as visitor:
        visitor.sendall(b"GET /hunter2 HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(100))
        assert b"hunter2" not in read_all(visitor)
        wait_until(lambda: serving.counts["malformed"] == 1)
        assert serving.requests == []


def test_flood_of_resets_ends_the_connection(tmp_path: Path, nginx: int) -> None:
    """Whoever asks and takes back without end is sent away; every request is accounted for."""
    with Serving(settings_with_tls(tmp_path, nginx)) as serving, visit(serving) as visitor:
        for _ in range(MAX_RESETS + 1):
            stream = visitor.h2.get_next_available_stream_id()
            pseudo = ((":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/page.html"))
            visitor.h2.send_headers(stream, pseudo, end_stream=True)
            visitor.h2.reset_stream(stream)
        visitor.flush()
        while visitor.read():
            pass
        assert visitor.farewell is not None
        assert visitor.farewell.error_code == ErrorCodes.ENHANCE_YOUR_CALM
        wait_until(lambda: serving.counts["disconnected"] == 1)
        serving.recorded(MAX_RESETS + 1)


@pytest.mark.slow
def test_slow_site_times_out_for_its_request_only(tmp_path: Path) -> None:
    """A request that the site doesn't answer in time gets 504; others on the connection don't suffer."""

    def play(connection: socket.socket, head: bytes) -> None:
        if b"/slow" in head:
            connection.recv(1)
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
            time.sleep(1.5)  # the answer has begun, so that its time doesn't run any more
            connection.sendall(b"hello")

    with (
        Origin(play) as origin,
        Serving(settings_with_tls(tmp_path, origin.port, upstream_timeout_s=1)) as serving,
        visit(serving) as visitor,
    ):
        slow, quick = visitor.ask("/slow"), visitor.ask("/quick")
        visitor.wait(slow, quick)
        assert visitor.heads[slow][b":status"] == b"504"
        assert (visitor.ended[quick], visitor.texts[quick]) == (None, b"hello")
        assert sorted(request.status or 0 for request in serving.recorded(2)) == [200, 504]


def test_page_is_the_same_over_every_way(tmp_path: Path, nginx: int) -> None:
    """Plain, TLS with HTTP/1.1 and TLS with HTTP/2 give the same bytes."""
    with Serving(settings_with_tls(tmp_path, nginx)) as serving, visit(serving) as visitor:
        assert serving.get("/page.html")[2] == PAGE
        assert visitor.get("/page.html") == (200, PAGE)
        with serving.connect_tls("http/1.1") as old:
            old.sendall(f"GET /page.html HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            assert split_response(read_all(old))[2] == PAGE
        serving.recorded(3)
