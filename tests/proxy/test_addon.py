"""What visitors and the site get through the proxy, and that each request becomes exactly one record."""

import gc
import gzip
import http.client
import os
import socket
import struct
import time

import pytest
from mitmproxy.connection import Client
from mitmproxy.tcp import TCPFlow

from anonproxy.anonymize.request import RawRequest
from anonproxy.proxy.addon import AnonproxyAddon
from anonproxy.proxy.sites import Sites, Upstream
from tests.proxy.conftest import (
    HOST,
    LARGE_BYTES,
    PAGE,
    Origin,
    Serving,
    make_settings,
    memory_bytes,
    read_all,
    read_head,
    split_response,
    wait_until,
)
from tests.support.ports import free_port

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def answer_hello(connection: socket.socket, _head: bytes) -> None:
    """Answer the first request and close."""
    connection.sendall(HELLO)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/page.html", (), 200),
        ("HEAD", "/page.html", (), 200),
        ("GET", "/page.html?q=a%20b&x=%E2%82%AC", (), 200),
        ("GET", "/empty", (), 204),
        ("GET", "/old", (), 302),
        ("GET", "/missing", (), 404),
        ("GET", "/private", (), 200),
        ("GET", "/page.html", ("Range: bytes=10-19",), 206),
        ("GET", "/page.html", ("Range: bytes=999999-",), 416),
        ("GET", "/page.html", ("If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",), 304),
        ("GET", "/compressed", ("Accept-Encoding: gzip",), 200),
        ("POST", "/accept", ("Content-Length: 0",), 200),
        ("DELETE", "/page.html", (), 405),
        ("GET", "//double//slash/../page.html", (), 404),
    ],
)
def test_answers_are_the_sites_own(
    proxied: Serving, nginx: int, method: str, path: str, headers: tuple[str, ...], status: int
) -> None:
    """A response through the proxy is the site's, header by header and byte by byte, and becomes one record."""
    head, body = proxied.get(path, *headers, method=method)[1:]
    lines = (f"{method} {path} HTTP/1.1", f"Host: {HOST}", "Connection: close", *headers, "", "")
    with socket.create_connection(("127.0.0.1", nginx)) as direct:
        direct.sendall("\r\n".join(lines).encode())
        _, expected_head, expected_body = split_response(read_all(direct))
    assert without_date(head) == without_date(expected_head)
    assert body == expected_body or gzip.decompress(body) == gzip.decompress(expected_body)
    [request] = proxied.recorded(1)
    assert request.status == status
    assert request.raw_method == method
    assert request.raw_target == path
    assert request.size_bytes == (0 if method == "HEAD" else body_size(head, body))


def without_date(head: bytes) -> list[bytes]:
    """Return a head's lines but for the one that changes every second."""
    return [line for line in head.split(b"\r\n") if not line.startswith(b"Date:")]


def body_size(head: bytes, body: bytes) -> int:
    """Return the size of a body without the framing of chunks."""
    if b"chunked" not in head:
        return len(body)
    size, rest = 0, body
    while rest:
        line, _, rest = rest.partition(b"\r\n")
        length = int(line, 16)
        size, rest = size + length, rest[length + 2 :]
    return size


def test_record_holds_what_the_anonymiser_needs(proxied: Serving) -> None:
    """A record carries client, host, cookie, agent, referrer, language, opt-out and privacy of the response."""
    before_s = time.time()
    proxied.get(
        "/private",
        "Cookie: a=1",
        "Cookie: b=2",
        "User-Agent: Browser/1.0",
        "Referer: https://search.example/?q=1",
        "Accept-Language: de-AT,de",
        "Sec-GPC: 1",
        "X-Forwarded-For: 198.51.100.1, 203.0.113.7",
    )
    [request] = proxied.recorded(1)
    assert before_s <= request.time_s <= time.time()
    assert 0 <= request.duration_s < 20
    assert {name: getattr(request, name) for name in RawRequest.__slots__ if name not in {"time_s", "duration_s"}} == {
        "raw_client": "203.0.113.7",
        "raw_host": HOST,
        "raw_method": "GET",
        "raw_target": "/private",
        "status": 200,
        "size_bytes": 4,
        "raw_cookie": "a=1; b=2",
        "raw_set_cookie": "a=1",
        "raw_user_agent": "Browser/1.0",
        "raw_referrer": "https://search.example/?q=1",
        "raw_accept_language": "de-AT,de",
        "is_opted_out": True,
        "is_private": True,
        "is_agent_logged": True,
    }


def test_site_learns_no_address(proxied: Serving) -> None:
    """No header with the visitor's address reaches the site, even from a trusted proxy."""
    body = proxied.get(
        "/echo?x=1",
        "X-Forwarded-For: 203.0.113.7",
        "Forwarded: for=203.0.113.7",
        "X-Real-IP: 203.0.113.7",
        "Via: 1.1 203.0.113.7",
        "X-Forwarded-Proto: https",
    )[2]
    assert body.split() == [b"GET", b"/echo?x=1", HOST.encode(), b"https", HOST.encode()]


def test_strangers_word_about_the_connection_is_replaced(nginx: int) -> None:
    """X-Forwarded-Proto and -Host of an untrusted peer are replaced; the truncated address is sent when configured."""
    with Serving(make_settings(nginx, forward_client="truncated")) as serving:
        body = serving.get("/echo", "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: x")[
            2
        ]
        assert body.split() == [b"GET", b"/echo", HOST.encode(), b"127.0.0.0", b"http", HOST.encode()]
        [request] = serving.recorded(1)
        assert request.raw_client == "127.0.0.1"


def test_truncated_address_is_a_network(nginx: int) -> None:
    """With forward_client = "truncated" the site gets the network address, of IPv6 as well."""
    settings = make_settings(nginx, forward_client="truncated", trusted_proxies=["127.0.0.0/8"])
    with Serving(settings) as serving:
        for raw_client, network in (("203.0.113.7", b"203.0.113.0"), ("2001:db8:1:2::3", b"2001:db8::")):
            assert network in serving.get("/echo", f"X-Forwarded-For: {raw_client}")[2].split()
        assert len(serving.get("/echo", "X-Forwarded-For: unknown")[2].split()) == 5


def test_keep_alive_serves_many_requests_on_one_connection(proxied: Serving) -> None:
    """Requests on one connection are served in order and recorded one by one."""
    connection = http.client.HTTPConnection("127.0.0.1", proxied.port, timeout=20)
    for number in range(5):
        connection.request("GET", f"/page.html?n={number}", headers={"Host": HOST})
        assert connection.getresponse().read() == PAGE
    connection.close()
    assert [request.raw_target for request in proxied.recorded(5)] == [f"/page.html?n={n}" for n in range(5)]


def test_pipelined_requests_are_answered_in_order(proxied: Serving) -> None:
    """Requests that were sent without waiting are answered one after the other."""
    ask = f"GET /empty HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    last = f"GET /echo HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
    answers = proxied.send(ask + ask + last)
    assert answers.count(b"HTTP/1.1 204") == 2
    assert answers.count(b"HTTP/1.1 200") == 1
    proxied.recorded(3)


def test_chunked_upload_and_expect_continue(proxied: Serving) -> None:
    """A chunked body reaches the site; a client that asks first is told to go on."""
    with proxied.connect() as visitor:
        visitor.sendall(
            f"POST /accept HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n"
            "Expect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        )
        assert read_head(visitor).startswith(b"HTTP/1.1 100")
        visitor.sendall(b"5\r\nhello\r\n0\r\n\r\n")
        assert read_head(visitor).startswith(b"HTTP/1.1 200")
    proxied.recorded(1)


def test_trailers_of_a_request_are_left_out(proxied: Serving) -> None:
    """A chunked request with trailers is served, without them, and the connection goes on."""
    body = "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    ask = f"POST /accept HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
    last = f"GET /empty HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    answers = proxied.send((ask + last).encode())
    assert answers.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 204" in answers
    proxied.recorded(2)


def test_change_to_http2_is_not_passed_on(nginx: int) -> None:
    """An upgrade to h2c is ignored, and an HTTP/2 preface refused: nothing gets past the record."""
    with Serving(make_settings(nginx)) as serving:
        assert serving.get("/empty", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")[0] == 204
        assert serving.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 400")
        assert serving.send(b"CONNECT x.example:443 HTTP/1.1\r\nHost: x.example:443\r\n\r\n").startswith(
            b"HTTP/1.1 400"
        )
        assert [request.status for request in serving.recorded(2)] == [204, 400]
        assert serving.counts["malformed"] == 1


def test_blank_lines_before_a_request_are_skipped(proxied: Serving) -> None:
    """Some clients send a line too many after a body."""
    answer = proxied.send(f"\r\n\r\nGET /empty HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 204")


def test_chunked_response_arrives_in_pieces_at_once() -> None:
    """A server-sent event reaches the visitor before the site sends the next."""

    def play(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"9\r\ndata: x\n\n\r\n")
        connection.recv(1)  # until the visitor has left

    with Origin(play) as origin, Serving(make_settings(origin.port)) as serving, serving.connect() as visitor:
        visitor.sendall(f"GET /events HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        read_head(visitor)
        assert visitor.recv(100) == b"9\r\ndata: x\n\n\r\n"


def test_what_a_site_says_for_the_next_hop_goes_no_further() -> None:
    """Keep-Alive and what Connection names is between the site and the proxy, whatever it says; the rest passes."""

    def play(connection: socket.socket, _head: bytes) -> None:
        fields = b"Keep-Alive: timeout=9\r\nProxy-Connection: x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Kept: 1\r\n"
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 5\r\n\r\nhello")

    with Origin(play) as origin, Serving(make_settings(origin.port)) as serving:
        _, head, body = serving.get("/")
    names = {line.partition(b":")[0].lower() for line in head.splitlines()[1:]}
    assert (names, body) == ({b"x-kept", b"content-length"}, b"hello")


@pytest.mark.slow
def test_large_bodies_pass_in_flat_memory(proxied: Serving) -> None:
    """64 MiB down and up cost less than 16 MiB of memory, and are counted to the byte."""
    proxied.get("/page.html")
    before = memory_bytes(os.getpid())
    with proxied.connect() as visitor:
        visitor.sendall(f"GET /large HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        read_head(visitor)
        received = 0
        while chunk := visitor.recv(1 << 20):
            received += len(chunk)
    assert received == LARGE_BYTES
    with proxied.connect() as visitor:
        lines = (
            "POST /accept HTTP/1.1",
            f"Host: {HOST}",
            f"Content-Length: {LARGE_BYTES}",
            "Connection: close",
            "",
            "",
        )
        visitor.sendall("\r\n".join(lines).encode())
        for _ in range(LARGE_BYTES >> 20):
            visitor.sendall(bytes(1 << 20))
        assert read_head(visitor).startswith(b"HTTP/1.1 200")
    assert memory_bytes(os.getpid()) - before < 16 << 20
    assert proxied.recorded(3)[1].size_bytes == LARGE_BYTES


@pytest.mark.slow  # nginx lingers before it closes
def test_upload_that_the_site_refuses_early(proxied: Serving) -> None:
    """A site may answer before the upload is complete; the visitor gets its answer."""
    status, _, body = split_response(
        proxied.send(
            f"POST /upload HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2000000\r\nConnection: close\r\n\r\n".encode()
            + bytes(1000)
        )
    )
    assert status == 413
    assert b"nginx" in body
    assert proxied.recorded(1)[0].status == 413


def test_websocket_passes_byte_for_byte_and_counts_once() -> None:
    """After 101 both sides exchange bytes as they are, of which nothing is kept, and the handshake is one record."""

    def play(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while data := connection.recv(100):
            connection.sendall(data[::-1])

    with Origin(play) as origin, Serving(make_settings(origin.port)) as serving, serving.connect() as visitor:
        visitor.sendall(
            f"GET /chat HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert read_head(visitor).startswith(b"HTTP/1.1 101")
        for message in (b"\x81\x05hello", b"\x00\xff\x00"):
            visitor.sendall(message)
            assert visitor.recv(100) == message[::-1]
        kept = [flow.messages for flow in gc.get_objects() if isinstance(flow, TCPFlow)]
        assert kept
        assert not any(kept)
        assert serving.recorded(1)[0].status == 101
        assert b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==" in origin.heads[0]


@pytest.mark.parametrize(
    ("hosts", "asked", "site"),
    [
        ((("a.example",), ("b.example",)), "a.example", 0),
        ((("a.example",), ("b.example",)), "B.EXAMPLE:8080", 1),
        ((("a.example",), ("*.b.example",)), "x.y.b.example", 1),
        ((("a.example",), ("*",)), "anything", 1),
        ((("a.example",), ()), "anything", 1),
        ((("a.example",), ("b.example",)), "c.example", None),
        ((("a.example",), ("b.example",)), "b.example.", 1),
    ],
)
def test_host_chooses_the_site(hosts: tuple[tuple[str, ...], ...], asked: str, site: int | None) -> None:
    """Each request goes to the site of its host, with the host as it was sent; unknown hosts get a clear 421."""
    with Origin(answer_hello) as first, Origin(answer_hello) as second:
        origins = (first, second)
        with Serving(make_settings(first.port, second.port, hosts=hosts)) as serving:
            status, _, body = serving.get("/", host=asked)
            assert (status, body == b"hello") == ((421, False) if site is None else (200, True))
            assert serving.recorded(1)[0].raw_host == asked
            assert serving.requests[0].status == status
            for number, origin in enumerate(origins):
                assert len(origin.heads) == (number == site)
                assert all(f"Host: {asked}\r\n".encode() in head for head in origin.heads)


def test_one_connection_may_visit_two_sites() -> None:
    """Requests on one connection go to the sites that they name."""
    with Origin(answer_hello) as first, Origin(answer_hello) as second:
        settings = make_settings(first.port, second.port, hosts=(("a.example",), ("b.example",)))
        with Serving(settings) as serving, serving.connect() as visitor:
            for host in ("a.example", "b.example"):
                visitor.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert read_head(visitor).startswith(b"HTTP/1.1 200")
                assert visitor.recv(5) == b"hello"
        assert [len(first.heads), len(second.heads)] == [1, 1]


def test_unknown_host_does_not_take_an_upload() -> None:
    """A body for a host that isn't here is not read: the answer comes before it, and the connection ends."""
    with Serving(make_settings(free_port())) as serving:
        answer = serving.send(b"POST / HTTP/1.1\r\nHost: nowhere\r\nContent-Length: 100000000\r\n\r\n" + bytes(100))
        assert answer.startswith(b"HTTP/1.1 421")
        assert serving.recorded(1)[0].status == 421


def test_absolute_form_means_its_own_host() -> None:
    """The host in an absolute target counts; the site gets the path, and that host."""
    with Origin(answer_hello) as origin, Serving(make_settings(origin.port)) as serving:
        answer = serving.send(f"GET http://{HOST}/x?y=1 HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n".encode())
        assert answer.endswith(b"hello")
        assert origin.heads[0].startswith(b"GET /x?y=1 HTTP/1.1\r\n")
        assert f"Host: {HOST}\r\n".encode() in origin.heads[0]
        assert serving.recorded(1)[0].raw_target == "/x?y=1"


def reset(connection: socket.socket, _head: bytes) -> None:
    """Send a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def lie(connection: socket.socket, _head: bytes) -> None:
    """Promise more than is sent."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")


def stay_silent(connection: socket.socket, _head: bytes) -> None:
    """Wait until the other side has had enough."""
    connection.recv(1)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"", 502),
        (b"not http at all\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nBad Header: x\r\n\r\n", 502),
    ],
)
def test_broken_answers_become_a_neutral_page(answer: bytes, status: int) -> None:
    """A site that answers nonsense gives a 502 page without its words, addresses or mitmproxy's name."""
    with (
        Origin(lambda connection, _: connection.sendall(answer)) as origin,
        Serving(make_settings(origin.port)) as serving,
    ):
        got, head, body = serving.get("/secret-path")
        assert got == status
        assert is_neutral(head + body)
        assert serving.recorded(1)[0].status == status


def is_neutral(page: bytes) -> bool:
    """Tell whether a page of ours says nothing about causes."""
    return not any(word in page.lower() for word in (b"mitm", b"127.0.0.1", b"secret", b"errno", b"server:"))


def test_site_that_is_down_gives_502() -> None:
    """Nobody listening behind us is a 502, for each request anew; once the site is back, pages come again."""
    port = free_port()
    with Serving(make_settings(port)) as serving:
        status, head, body = serving.get("/secret")
        assert status == 502
        assert is_neutral(head + body)
        assert serving.get("/secret", method="HEAD")[2] == b""
        assert [request.status for request in serving.recorded(2)] == [502, 502]


def test_site_that_resets_gives_502() -> None:
    """A reset from the site is a 502."""
    with Origin(reset) as origin, Serving(make_settings(origin.port)) as serving:
        assert serving.get("/")[0] == 502
        assert serving.recorded(1)[0].status == 502


def test_site_that_promises_too_much_ends_the_connection() -> None:
    """A body that ends early reaches the visitor as far as it came, and is recorded with the status that was sent."""
    with Origin(lie) as origin, Serving(make_settings(origin.port)) as serving:
        status, _, body = serving.get("/")
        assert (status, body) == (200, b"hello")
        [request] = serving.recorded(1)
        assert (request.status, request.size_bytes) == (200, 5)


@pytest.mark.slow
def test_site_that_takes_too_long_gives_504() -> None:
    """A site that stays silent beyond upstream_timeout_s is a 504; the time runs only once the request is complete."""
    with (
        Origin(stay_silent) as origin,
        Serving(make_settings(origin.port, upstream_timeout_s=1)) as serving,
    ):
        status, head, body = serving.get("/secret")
        assert status == 504
        assert is_neutral(head + body)
        assert serving.recorded(1)[0].status == 504


def test_visitor_who_leaves_early_is_recorded_once() -> None:
    """A visitor who leaves before an answer is one record with status 0; one who leaves midway keeps the status."""

    def play(connection: socket.socket, head: bytes) -> None:
        if b"/midway" in head:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        while connection.recv(100):
            pass

    with Origin(play) as origin, Serving(make_settings(origin.port)) as serving:
        with serving.connect() as visitor:
            visitor.sendall(f"GET /before HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            wait_until(lambda: len(origin.heads) == 1)
        assert serving.recorded(1)[0].status == 0
        with serving.connect() as visitor:
            visitor.sendall(f"GET /midway HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            read_head(visitor)
        request = serving.recorded(2)[1]
        assert (request.status, request.size_bytes) == (200, 5)
        with serving.connect() as visitor:
            visitor.sendall(f"POST /half HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\nhalf".encode())
            wait_until(lambda: len(origin.heads) == 3)
        assert serving.recorded(3)[2].status == 0
        wait_until(lambda: serving.counts["disconnected"] == 3)
        assert serving.addon.records.unfinished == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage line without meaning\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 198.51.100.77 203.0.113.1 1111 80\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n\x00\x0d\x0a\x51\x55\x49\x54\x0a\x20\x11\x00\x54",
        b"GET / HTTP/9.x\r\n\r\n",
        b"GET /secret\r\n\r\n",
        b"GET /secret HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n",
        b"GET /" + b"a" * 70_000,
    ],
    ids=["garbage", "tls", "proxy", "proxy2", "version", "http09", "header", "endless"],
)
def test_what_is_not_http_gets_a_page_and_no_record(raw: bytes) -> None:
    """Bytes that aren't a request are answered with a 4xx page that quotes nothing, and counted."""
    with Serving(make_settings(free_port())) as serving:
        answer = serving.send(raw)
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
        assert answer.count(b"HTTP/1.1 ") == 1
        assert is_neutral(answer)
        wait_until(lambda: serving.counts["malformed"] == 1)
        assert serving.requests == []


@pytest.mark.parametrize(
    "lines",
    [
        (f"Host: {HOST}", "Content-Length: 5", "Transfer-Encoding: chunked"),
        (f"Host: {HOST}", "Content-Length: 5", "Content-Length: 6"),
        (f"Host: {HOST}", "Content-Length: +5"),
        (f"Host: {HOST}", "Transfer-Encoding: chunked, chunked"),
        (f"Host: {HOST}", "Transfer-Encoding: gzip, chunked"),
        (f"Host: {HOST}", "Host: other"),
        ("Accept: */*",),
    ],
)
def test_ambiguous_requests_are_refused_with_one_record(lines: tuple[str, ...]) -> None:
    """A request that two servers could read differently goes nowhere: 400, one record, nothing at the site."""
    with Origin(answer_hello) as origin, Serving(make_settings(origin.port)) as serving:
        answer = serving.send("\r\n".join(("POST /secret HTTP/1.1", *lines, "", "0\r\n\r\n")).encode())
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert is_neutral(answer)
        assert serving.recorded(1)[0].status == 400
        assert origin.heads == []


def test_mitmproxy_never_has_the_address_to_print() -> None:
    """From the first event on, a connection as mitmproxy knows it holds no address; our record of it does."""
    addon = AnonproxyAddon(make_settings(1), lambda _request: None, lambda _name: None)
    client = Client(peername=("203.0.113.7", 4711), sockname=("127.0.0.1", 80), timestamp_start=0.0)
    addon.client_connected(client)
    assert "203.0.113.7" not in f"{client!r} {client} {client.get_state()}"
    assert addon.records.visitor(client.id).raw_peer == "203.0.113.7"


def test_our_own_errors_never_break_serving(nginx: int) -> None:
    """When the sink fails the page is served all the same, and the request is counted as dropped."""

    def fail(_request: RawRequest) -> None:
        raise ValueError("/page.html?secret=1")

    with Serving(make_settings(nginx)) as serving:
        serving.addon.records._sink = fail
        assert serving.get("/page.html")[2] == PAGE
        assert serving.counts["requests"] == serving.counts["dropped_internal_error"] == 1


def test_failing_hook_never_breaks_serving(nginx: int) -> None:
    """When a hook of ours fails, the request is served by the first site and counted once."""

    class Broken(Sites):
        def choose(self, _host: str) -> Upstream:
            raise ValueError("/page.html?secret=1")

    settings = make_settings(nginx)
    with Serving(settings) as serving:
        serving.addon._sites = Broken(settings)
        assert serving.get("/page.html")[2] == PAGE
        assert serving.counts["faults"] == 1
        assert len(serving.recorded(1)) == 1
