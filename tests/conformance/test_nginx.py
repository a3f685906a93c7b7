"""In front of a real nginx: every answer is nginx's own, over HTTP/1.1, HTTP/2, and with TLS or IPv6 behind."""

import contextlib
import gzip
from typing import Final

import pytest

from tests.conformance.conftest import PAGE, SECURE, SITE, Stage
from tests.conformance.differences import comparable_answer
from tests.conformance.wire import Broken, Message, Wire, ask, connect
from tests.proxy.conftest import Http2Visitor

# method, target, headers, body, status
Case = tuple[str, str, tuple[str, ...], bytes, int]
CASES: Final[dict[str, Case]] = {
    "page": ("GET", "/page.html", (), b"", 200),
    "head": ("HEAD", "/page.html", (), b"", 200),
    "query": ("GET", "/page.html?q=a%20b&x=%E2%82%AC&&;=?/", (), b"", 200),
    "missing": ("GET", "/missing", (), b"", 404),
    "nothing": ("GET", "/empty", (), b"", 204),
    "moved": ("GET", "/old", (), b"", 301),
    "elsewhere": ("GET", "/away", (), b"", 302),
    "cookies": ("GET", "/cookies", ("Cookie: a=1; b=2",), b"", 200),
    "range": ("GET", "/page.html", ("Range: bytes=10-19",), b"", 206),
    "last bytes": ("GET", "/page.html", ("Range: bytes=-5",), b"", 206),
    "no such range": ("GET", "/page.html", ("Range: bytes=999999-",), b"", 416),
    "odd range": ("GET", "/page.html", ("Range: bytes=abc",), b"", 416),
    "head range": ("HEAD", "/page.html", ("Range: bytes=0-9",), b"", 206),
    "not modified": ("GET", "/page.html", ("If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",), b"", 200),
    "precondition": ("GET", "/page.html", ('If-Match: "nothing"',), b"", 412),
    "any": ("GET", "/page.html", ("If-None-Match: *",), b"", 304),
    "compressed": ("GET", "/compressed", ("Accept-Encoding: gzip",), b"", 200),
    "not compressed": ("GET", "/compressed", ("Accept-Encoding: identity",), b"", 200),
    "gzip file": ("GET", "/fixed.gz", ("Accept-Encoding: gzip",), b"", 200),
    "brotli file": ("GET", "/fixed.br", ("Accept-Encoding: br",), b"", 200),
    "form": ("POST", "/accept", ("Content-Type: application/x-www-form-urlencoded",), b"a=1&b=%26", 200),
    "nothing posted": ("POST", "/accept", ("Content-Length: 0",), b"", 200),
    "too much": ("POST", "/limited", (), b"x" * 1000, 413),
    "put": ("PUT", "/page.html", (), b"new", 405),
    "delete": ("DELETE", "/page.html", (), b"", 405),
    "patch": ("PATCH", "/accept", (), b"[]", 200),
    "options": ("OPTIONS", "/accept", (), b"", 200),
    "trace": ("TRACE", "/", (), b"", 405),
    "method of one's own": ("SEARCH-IT", "/accept", (), b"", 200),
    "dots and slashes": ("GET", "//a//../page.html", (), b"", 200),
    "beyond the root": ("GET", "/../../etc/passwd", (), b"", 400),
    "odd bytes": ("GET", "/echo?a[]=1|2^3`{}<>\"\\&b=%ff%00", (), b"", 200),
    "long": ("GET", "/accept?" + "x" * 20_000, (), b"", 200),
    "agent": ("GET", "/echo", ("User-Agent: Bibliothèque/1 (\xa0é)",), b"", 200),
}  # fmt: skip


def render(case: Case, host: str, version: str = "1.1", *more: str) -> bytes:
    """Render a request."""
    method, target, headers, body, _ = case
    framing = (f"Content-Length: {len(body)}",) if body else ()
    lines = (f"{method} {target} HTTP/{version}", f"Host: {host}", *headers, *framing, *more, "", "")
    return "\r\n".join(lines).encode("latin-1") + body


@pytest.mark.parametrize("version", ["1.1", "1.0", "1.1 kept", "1.0 kept"])
@pytest.mark.parametrize("name", CASES)
def test_answers_are_the_sites_own(stage: Stage, name: str, version: str) -> None:
    """Status, headers in their order and case, and body are nginx's; connections that live on with nginx do here."""
    case, (version, _, kept) = CASES[name], version.partition(" ")
    keep = ("Connection: keep-alive",) if kept else () if version == "1.0" else ("Connection: close",)
    raw, then = render(case, SITE, version, *keep), render(CASES["nothing"], SITE, version)
    heard = []
    for port in (stage.site, stage.proxy.port):
        with connect(port) as connection:
            connection.sendall(raw)
            wire = Wire(connection)
            answer, is_alive = wire.read_answer(case[0]), False
            if kept and b"close" not in answer.get(b"connection"):
                with contextlib.suppress(Broken, ConnectionError):  # nginx closes after 412 without a word
                    connection.sendall(then)
                    is_alive = wire.read_answer().status == 204
            else:
                assert wire.read_rest() == b""
            heard.append((answer, is_alive))
    (direct, direct_is_alive), (through, is_alive) = heard
    assert comparable_answer(through, direct) == comparable_answer(direct, direct)
    assert through.status == case[4]
    assert is_alive >= direct_is_alive


@pytest.mark.parametrize("name", CASES)
def test_answers_over_http2_are_the_sites_own(stage: Stage, name: str) -> None:
    """Over HTTP/2 the answer is the one that nginx gives over HTTP/1.1, with names in lower case."""
    method, target, headers, body, status = case = CASES[name]
    [direct] = ask(stage.site, render(case, SITE, "1.1", "Connection: close"), methods=[method])
    length = (f"Content-Length: {len(body)}",) if body else ()
    names = [header.partition(": ")[0].lower() for header in (*headers, *length)]
    values = [header.partition(": ")[2].encode("latin-1") for header in (*headers, *length)]
    with Http2Visitor(stage.connect_tls(SITE, "h2")) as visitor:
        fields = zip(names, values, strict=True)
        stream = visitor.ask(target, *fields, method=method, host=SITE, body=body or None)
        visitor.wait(stream)
    head = visitor.heads[stream]
    assert int(head.pop(b":status")) == direct.status == status
    assert visitor.texts[stream] == direct.body
    left_out = {b"date", b"connection", b"transfer-encoding"}
    expected = {name.lower(): value for name, value in direct.fields if name.lower() not in left_out}
    assert {name: value for name, value in head.items() if name not in left_out} == expected


def same_part(answer: Message) -> list[bytes]:
    """Return the parts of a multipart answer without the boundary, which is new each time."""
    boundary = answer.get(b"content-type").partition(b"boundary=")[2]
    return answer.body.replace(boundary, b"-").split(b"\r\n")


def test_several_ranges(stage: Stage) -> None:
    """A multipart answer has nginx's parts."""
    case = ("GET", "/page.html", ("Range: bytes=0-1,5-9,-3",), b"", 206)
    [direct], [through] = (
        ask(port, render(case, SITE, "1.1", "Connection: close")) for port in (stage.site, stage.proxy.port)
    )
    assert (direct.status, same_part(through)) == (206, same_part(direct))
    assert len(same_part(through)) > 12


def test_validators_work_through_the_proxy(stage: Stage) -> None:
    """The ETag and date that came through the proxy give 304 through the proxy, and a range of the same thing."""
    [page] = ask(stage.proxy.port, render(CASES["page"], SITE))
    for header, value, status in (
        ("If-None-Match", page.get(b"etag"), 304),
        ("If-Modified-Since", page.get(b"last-modified"), 304),
        ("Range: bytes=0-4\r\nIf-Range", page.get(b"etag"), 206),
        ("Range: bytes=0-4\r\nIf-Range", b'"old"', 200),
    ):
        case = ("GET", "/page.html", (f"{header}: {value.decode()}",), b"", status)
        [direct], [through] = (ask(port, render(case, SITE)) for port in (stage.site, stage.proxy.port))
        assert comparable_answer(through, direct) == comparable_answer(direct, direct)
        assert through.status == status


def test_compressed_bodies_stay_as_they_are(stage: Stage) -> None:
    """What nginx compressed can be unpacked to the page; what it serves compressed is the file, byte by byte."""
    [live] = ask(stage.proxy.port, render(CASES["compressed"], SITE))
    [file] = ask(stage.proxy.port, render(CASES["gzip file"], SITE))
    assert live.get(b"content-encoding") == file.get(b"content-encoding") == b"gzip"
    assert gzip.decompress(live.body) == gzip.decompress(file.body) == PAGE


@pytest.mark.parametrize("name", ["page", "range", "form", "missing", "compressed"])
def test_site_behind_tls(stage: Stage, name: str) -> None:
    """A site that is reached over HTTPS gives the answers that it gives over HTTP."""
    case = CASES[name]
    [direct] = ask(stage.site, render(case, SECURE), methods=[case[0]])
    [through] = ask(stage.proxy.port, render(case, SECURE), methods=[case[0]])
    assert comparable_answer(through, direct) == comparable_answer(direct, direct)


def test_pipelined_requests(stage: Stage) -> None:
    """Requests sent at once, some with bodies, are answered one by one and in order."""
    names = ("page", "form", "nothing", "head", "missing", "page")
    raw = b"".join(render(CASES[name], SITE) for name in names)
    methods = [CASES[name][0] for name in names]
    direct, through = (ask(port, raw, methods=methods) for port in (stage.site, stage.proxy.port))
    assert [comparable_answer(*pair) for pair in zip(through, direct, strict=True)] == [
        comparable_answer(one, one) for one in direct
    ]
