r"""Requests that two servers could understand differently.

Each goes to an nginx in front of a site, and to the proxy in front of the same site. Where nginx refuses, the proxy
does; and the site never sees a request, or a body, that wasn't meant.

    pytest tests/conformance/test_smuggling.py -s     also prints what both make of each
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.conformance.conftest import RAW, Stage, answer_always
from tests.conformance.wire import connect

HOST: Final = f"Host: {RAW}\r\n".encode()
CLOSE: Final = b"Connection: close\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
END: Final = b"0\r\n\r\n"
HELLO: Final = b"5\r\nhello\r\n"
# What an attacker would like the site to see as a request of its own.
HIDDEN: Final = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"

# After so long without an answer or an end, a server is waiting for more of the request.
QUIET_S: Final = 0.4

Seen = tuple[bytes, bytes]  # a request at the site: its target and its body
NOTHING: Final[tuple[Seen, ...]] = ()


def head(*lines: bytes, start: bytes = b"POST /a HTTP/1.1", body: bytes = b"", host: bytes = HOST) -> bytes:
    """Render a request for a server that closes after its answer."""
    return start + b"\r\n" + host + CLOSE + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def coded(coding: bytes) -> bytes:
    """Render a request whose coding is said in an odd way; by its length, all of the rest is its body."""
    body = END + HIDDEN
    return head(coding, b"Content-Length: %d" % len(body), body=body)


def coded_alone(coding: bytes) -> bytes:
    """Render a request whose coding is said in an odd way, and nothing else of its body."""
    return head(coding, body=HELLO + END + HIDDEN)


def long(length: bytes) -> bytes:
    """Render a request whose length is said in an odd way."""
    return head(b"Content-Length: " + length, body=b"hello" + HIDDEN)


def chunked(body: bytes) -> bytes:
    """Render a request with a chunked body as it stands."""
    return head(CHUNKED.strip(), body=body)


ONE: Final = ((b"/a", b""),)
FIVE: Final = ((b"/a", b"hello"),)
ALL_OF_IT: Final = ((b"/a", END + HIDDEN),)

# name: (bytes, the requests that may be meant by them, of which the site may see as many as it likes from the first)
CASES: Final[dict[str, tuple[bytes, tuple[Seen, ...]]]] = {
    # Two ways to say where the body ends
    "length, then chunks": (head(b"Content-Length: 4", CHUNKED.strip(), body=HELLO + END + HIDDEN), FIVE),
    "chunks, then length": (head(CHUNKED.strip(), b"Content-Length: 4", body=HELLO + END + HIDDEN), FIVE),
    "length of all, and chunks": (coded(b"Transfer-Encoding: chunked"), ONE),
    "length of nothing, and chunks": (head(b"Content-Length: 0", CHUNKED.strip(), body=HELLO + END), FIVE),
    "coding in capitals": (coded_alone(b"TRANSFER-ENCODING: CHUNKED"), FIVE),
    "coding unknown": (coded_alone(b"Transfer-Encoding: xchunked"), NOTHING),
    "coding identity": (coded_alone(b"Transfer-Encoding: identity"), NOTHING),
    "coding identity and length": (coded(b"Transfer-Encoding: identity"), NOTHING),
    "coding empty": (coded_alone(b"Transfer-Encoding:"), NOTHING),
    "coding empty and length": (coded(b"Transfer-Encoding:"), NOTHING),
    "coding twice in a line": (coded_alone(b"Transfer-Encoding: chunked, chunked"), NOTHING),
    "coding in two lines": (coded_alone(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), NOTHING),
    "coding and another": (coded_alone(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x"), NOTHING),
    "another and coding": (coded_alone(b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked"), NOTHING),
    "gzip before chunks": (coded_alone(b"Transfer-Encoding: gzip, chunked"), NOTHING),
    "chunks before gzip": (coded_alone(b"Transfer-Encoding: chunked, gzip"), NOTHING),
    "identity before chunks": (coded_alone(b"Transfer-Encoding: identity, chunked"), NOTHING),
    "comma before chunks": (coded_alone(b"Transfer-Encoding: ,chunked"), NOTHING),
    "quoted": (coded_alone(b'Transfer-Encoding: "chunked"'), NOTHING),
    "with parameter": (coded_alone(b"Transfer-Encoding: chunked;q=1"), NOTHING),
    "spaces around": (coded_alone(b"Transfer-Encoding:   chunked  "), FIVE),
    "tabs around": (coded_alone(b"Transfer-Encoding:\tchunked\t"), FIVE),
    "vertical tab": (coded_alone(b"Transfer-Encoding: \x0bchunked"), NOTHING),
    "form feed": (coded_alone(b"Transfer-Encoding: chunked\x0c"), NOTHING),
    "no-break space": (coded_alone(b"Transfer-Encoding: \xa0chunked"), NOTHING),
    "NUL before chunked": (coded_alone(b"Transfer-Encoding: \x00chunked"), NOTHING),
    "NUL in name": (coded(b"Transfer-Encoding\x00: chunked"), NOTHING),
    "space before colon": (coded(b"Transfer-Encoding : chunked"), NOTHING),
    "tab before colon": (coded(b"Transfer-Encoding\t: chunked"), NOTHING),
    "space before name": (coded(b" Transfer-Encoding: chunked"), NOTHING),
    "underscore": (coded(b"Transfer_Encoding: chunked"), ALL_OF_IT),
    "folded": (coded_alone(b"Transfer-Encoding:\r\n chunked"), NOTHING),
    "folded after something": (coded(b"X-A: b\r\n Transfer-Encoding: chunked"), NOTHING),
    "after a bare LF": (coded(b"X-A: b\nTransfer-Encoding: chunked"), NOTHING),
    "after a bare CR": (coded(b"X-A: b\rTransfer-Encoding: chunked"), NOTHING),
    "chunks in HTTP/1.0": (head(CHUNKED.strip(), start=b"POST /a HTTP/1.0", body=HELLO + END + HIDDEN), NOTHING),
    "chunks in a GET": (head(CHUNKED.strip(), start=b"GET /a HTTP/1.1", body=HELLO + END), FIVE),
    # One way, badly
    "length twice, the same": (long(b"5\r\nContent-Length: 5"), NOTHING),
    "length twice, different": (long(b"5\r\nContent-Length: 6"), NOTHING),
    "length listed": (long(b"5, 5"), NOTHING),
    "length with plus": (long(b"+5"), NOTHING),
    "length with minus": (long(b"-5"), NOTHING),
    "length in hex": (long(b"0x5"), NOTHING),
    "length with letter": (long(b"5a"), NOTHING),
    "length with point": (long(b"5.0"), NOTHING),
    "length with space": (long(b"5 5"), NOTHING),
    "length with underscore": (long(b"5_0"), NOTHING),
    "length empty": (long(b""), NOTHING),
    "length of 2^64 + 5": (long(b"18446744073709551621"), NOTHING),
    "length of 2^63": (long(b"9223372036854775808"), NOTHING),
    "length in full-width digits": (long("５".encode()), NOTHING),
    "length in Arabic digits": (long("٥".encode()), NOTHING),
    "length with NUL": (long(b"5\x00"), NOTHING),
    "length with leading zero": (long(b"05"), FIVE),
    "length folded": (long(b"\r\n 5"), NOTHING),
    "length and space before colon": (head(b"Content-Length : 5", body=b"hello" + HIDDEN), NOTHING),
    "length of a GET": (head(b"Content-Length: 5", start=b"GET /a HTTP/1.1", body=b"hello"), FIVE),
    "length called hop by hop": (head(b"Connection: Content-Length", b"Content-Length: 5", body=b"hello"), FIVE),
    "coding called hop by hop": (head(b"Connection: Transfer-Encoding", CHUNKED.strip(), body=HELLO + END), FIVE),
    # Chunks
    "chunk extension": (chunked(b"5;a=b\r\nhello\r\n" + END), FIVE),
    "chunk extension with LF": (chunked(b"5;a\nb\r\nhello\r\n" + END), NOTHING),
    "chunk extension with CR": (chunked(b"5;a\rb\r\nhello\r\n" + END), FIVE),
    "chunk extension without end": (chunked(b"5;" + b"a" * 100_000), NOTHING),
    "chunk size, then LF": (chunked(b"5\nhello\r\n" + END), NOTHING),
    "chunk size, then CR": (chunked(b"5\rhello\r\n" + END), NOTHING),
    "chunk data, then LF": (chunked(b"5\r\nhello\n" + END), NOTHING),
    "chunk data, then more": (chunked(b"5\r\nhelloxx" + END), NOTHING),
    "last chunk, then LF": (chunked(HELLO + b"0\n\n" + HIDDEN), NOTHING),
    "last chunk, LF in its end": (chunked(HELLO + b"0\r\n\n"), FIVE),
    "chunk size in 0x": (chunked(b"0x5\r\nhello\r\n" + END), NOTHING),
    "chunk size with plus": (chunked(b"+5\r\nhello\r\n" + END), NOTHING),
    "chunk size with minus": (chunked(b"-5\r\nhello\r\n" + END), NOTHING),
    "chunk size with underscore": (chunked(b"0_5\r\nhello\r\n" + END), NOTHING),
    "chunk size after space": (chunked(b" 5\r\nhello\r\n" + END), NOTHING),
    "chunk size before space": (chunked(b"5 \r\nhello\r\n" + END), FIVE),
    "chunk size empty": (chunked(b"\r\nhello\r\n" + END), NOTHING),
    "chunk size with letter": (chunked(b"5g\r\nhello\r\n" + END), NOTHING),
    "chunk size of 2^64 + 5": (chunked(b"10000000000000005\r\nhello\r\n" + END), NOTHING),
    "chunk size of 2^63": (chunked(b"8000000000000000\r\nhello\r\n" + END), NOTHING),
    "chunk size with many zeros": (chunked(b"0" * 40 + b"5\r\nhello\r\n" + END), FIVE),
    "last chunk of two zeros": (chunked(HELLO + b"00\r\n\r\n"), FIVE),
    "request instead of trailers": (chunked(HELLO + b"0\r\n" + HIDDEN), NOTHING),
    "trailer that frames": (chunked(HELLO + b"0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\n\r\n"), FIVE),
    "trailer for another host": (chunked(HELLO + b"0\r\nHost: other.example\r\nX-Real-IP: 8.8.8.8\r\n\r\n"), FIVE),
    "trailer with a space": (chunked(HELLO + b"0\r\nX A: 1\r\n\r\n"), NOTHING),
    "trailer with NUL": (chunked(HELLO + b"0\r\nX-A: \x00\r\n\r\n"), NOTHING),
    "trailers without end": (chunked(HELLO + b"0\r\n" + b"X-A: b\r\n" * 20_000), NOTHING),
    "no last line": (chunked(HELLO + b"0\r\n"), NOTHING),
    # The head
    "LF for CR LF": (head().replace(b"\r\n", b"\n"), ONE),
    "LF once": (head(b"X-A: 1\nX-B: 2"), ONE),
    "LF at the end": (head().removesuffix(b"\r\n") + b"\n", ONE),
    "CR in a value": (head(b"X-A: 1\r2"), NOTHING),
    "CR at the end of a value": (head(b"X-A: 1\r"), ONE),
    "NUL in a value": (head(b"X-A: 1\x002"), NOTHING),
    "control byte in a value": (head(b"X-A: 1\x012\x7f"), ONE),
    "bytes in a value": (head(b"X-A: \xff\xfe"), ONE),
    "NUL in a name": (head(b"X\x00A: 1"), NOTHING),
    "control byte in a name": (head(b"X\x01A: 1"), NOTHING),
    "bytes in a name": (head(b"X\xffA: 1"), ONE),
    "parenthesis in a name": (head(b"X(A): 1"), ONE),
    "space in a name": (head(b"X A: 1"), NOTHING),
    "space before a colon": (head(b"X-A : 1"), NOTHING),
    "no colon": (head(b"X-A"), NOTHING),
    "no name": (head(b": 1"), NOTHING),
    "fold": (head(b"X-A: 1\r\n 2"), NOTHING),
    "fold with tab": (head(b"X-A: 1\r\n\t2"), NOTHING),
    "fold first": (b"POST /a HTTP/1.1\r\n " + HOST + b"\r\n", NOTHING),
    "fold of nothing": (head(b"X-A: 1\r\n "), NOTHING),
    "head without end": (head(b"X-A: " + b"a" * 70_000), NOTHING),
    "head of many lines": (head(*(b"X-%d: %s" % (n, b"a" * 100) for n in range(600))), NOTHING),
    # The request line
    "two spaces": (head(start=b"GET  /a HTTP/1.1"), ONE),
    "two spaces at the end": (head(start=b"GET /a  HTTP/1.1"), ONE),
    "space after all": (head(start=b"GET /a HTTP/1.1 "), ONE),
    "space before all": (head(start=b" GET /a HTTP/1.1"), NOTHING),
    "tab for space": (head(start=b"GET\t/a\tHTTP/1.1"), NOTHING),
    "vertical tab for space": (head(start=b"GET\x0b/a\x0bHTTP/1.1"), NOTHING),
    "CR for space": (head(start=b"GET\r/a HTTP/1.1"), NOTHING),
    "lines before": (b"\r\n\r\n" + head(), ONE),
    "CR before": (b"\r" + head(), ONE),
    "HTTP/0.9": (b"GET /a\r\n", NOTHING),
    "HTTP/0.9 with headers": (b"GET /a\r\n" + HOST + b"\r\n", NOTHING),
    "HTTP/1.2": (head(start=b"GET /a HTTP/1.2"), ONE),
    "HTTP/1.10": (head(start=b"GET /a HTTP/1.10"), NOTHING),
    "HTTP/01.1": (head(start=b"GET /a HTTP/01.1"), NOTHING),
    "HTTP/2.0": (head(start=b"GET /a HTTP/2.0"), NOTHING),
    "HTTP/3.0": (head(start=b"GET /a HTTP/3.0"), NOTHING),
    "HTTP/1": (head(start=b"GET /a HTTP/1"), NOTHING),
    "http/1.1": (head(start=b"GET /a http/1.1"), NOTHING),
    "HTTP/1.1 and more": (head(start=b"GET /a HTTP/1.1 GET /b HTTP/1.1"), NOTHING),
    "HTPP": (head(start=b"GET /a HTPP/1.1"), NOTHING),
    "RTSP": (head(start=b"GET /a RTSP/1.0"), NOTHING),
    "no target": (head(start=b"GET HTTP/1.1"), NOTHING),
    "method in small letters": (head(start=b"get /a HTTP/1.1"), ONE),
    "method with colon": (head(start=b"GET: /a HTTP/1.1"), NOTHING),
    "method with NUL": (head(start=b"GE\x00T /a HTTP/1.1"), NOTHING),
    "CONNECT": (head(start=b"CONNECT other.example:443 HTTP/1.1"), NOTHING),
    "CONNECT with path": (head(start=b"CONNECT /a HTTP/1.1"), NOTHING),
    "NUL in target": (head(start=b"GET /a\x00b HTTP/1.1"), NOTHING),
    "control byte in target": (head(start=b"GET /a\x01b HTTP/1.1"), NOTHING),
    "DEL in target": (head(start=b"GET /a\x7fb HTTP/1.1"), NOTHING),
    "CR in target": (head(start=b"GET /a\rb HTTP/1.1"), NOTHING),
    "space in target": (head(start=b"GET /a b HTTP/1.1"), NOTHING),
    "fragment in target": (head(start=b"GET /a#b HTTP/1.1"), NOTHING),
    "target without slash": (head(start=b"GET a HTTP/1.1"), NOTHING),
    "asterisk": (head(start=b"GET * HTTP/1.1"), NOTHING),
    "asterisk and more": (head(start=b"OPTIONS *a HTTP/1.1"), NOTHING),
    "backslash": (head(start=b"GET \\a HTTP/1.1"), NOTHING),
    # Whom it is for
    "absolute": (head(start=b"GET http://raw.example.org/a HTTP/1.1"), ONE),
    "absolute without path": (head(start=b"GET http://raw.example.org HTTP/1.1"), ((b"/", b""),)),
    "absolute with query only": (head(start=b"GET http://raw.example.org?a HTTP/1.1"), NOTHING),
    "absolute for another host": (head(start=b"GET http://other.example/a HTTP/1.1"), NOTHING),
    "absolute with user": (head(start=b"GET http://raw.example.org@other.example/a HTTP/1.1"), NOTHING),
    "absolute with bad port": (head(start=b"GET http://raw.example.org:x/a HTTP/1.1"), NOTHING),
    "absolute, other scheme": (head(start=b"GET ftp://raw.example.org/a HTTP/1.1"), NOTHING),
    "absolute without host": (head(start=b"GET http:///a HTTP/1.1"), NOTHING),
    "absolute, and no Host": (head(start=b"GET http://raw.example.org/a HTTP/1.1", host=b""), NOTHING),
    "no Host": (head(host=b""), NOTHING),
    "two Hosts": (head(b"Host: other.example"), NOTHING),
    "two Hosts, the same": (head(HOST.strip()), NOTHING),
    "Host empty": (head(host=b"Host:\r\n"), NOTHING),
    "Host list": (head(host=b"Host: raw.example.org, other.example\r\n"), NOTHING),
    "Host with space": (head(host=b"Host: raw.example.org other.example\r\n"), NOTHING),
    "Host with path": (head(host=b"Host: raw.example.org/x\r\n"), NOTHING),
    "Host with user": (head(host=b"Host: a@raw.example.org\r\n"), NOTHING),
    "Host with NUL": (head(host=b"Host: raw.example.org\x00.other.example\r\n"), NOTHING),
    "Host with query": (head(host=b"Host: raw.example.org?x\r\n"), NOTHING),
    "Host with hash": (head(host=b"Host: raw.example.org#x\r\n"), NOTHING),
    "Host of bytes": (head(host=b"Host: raw.example.org\xff\r\n"), NOTHING),
    "Host folded": (head(host=b"Host:\r\n raw.example.org\r\n"), NOTHING),
    "Host with space before colon": (head(host=b"Host : raw.example.org\r\n"), NOTHING),
    "Host called hop by hop": (head(b"Connection: Host"), ONE),
    "Host by X-Forwarded-Host": (head(b"X-Forwarded-Host: other.example"), ONE),
    # Other protocols
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), NOTHING),
    "change to h2c": (
        b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ONE
    ),
    "WebSocket that is refused": (
        b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + head(start=b"GET /b HTTP/1.1"), (*ONE, (b"/b", b""))
    ),
    "PROXY protocol": (b"PROXY TCP4 198.51.100.7 203.0.113.1 1111 80\r\n" + head(), NOTHING),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", NOTHING),
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What became of a case."""

    statuses: tuple[int, ...]  # as answered, in order
    seen: tuple[Seen, ...]  # at the site
    has_garbage: bool

    @property
    def is_served(self) -> bool:
        """Tell whether the site answered, to whatever of it."""
        return any(status < 400 for status in self.statuses)

    @property
    def is_refused(self) -> bool:
        """Tell whether the answer was no; a server that waits for more hasn't said so."""
        return bool(self.statuses) and not self.is_served

    def __str__(self) -> str:
        answers = " ".join(map(str, self.statuses)) or "no answer"
        return f"{answers}, {len(self.seen)} at the site" if self.seen else answers


def judge(stage: Stage, port: int, raw: bytes) -> Verdict:
    """Send a case, and look at what was answered and at what reached the site."""
    stage.raw.play(answer_always(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    received = b""
    with connect(port) as connection, contextlib.suppress(OSError):
        connection.sendall(raw)
        connection.settimeout(QUIET_S)
        while data := connection.recv(65536):
            received += data
    stage.raw.wait()
    statuses = tuple(int(line[9:12]) for line in received.split(b"\r\n") if line.startswith(b"HTTP/1."))
    seen = tuple((request.start.split(b" ")[1], request.body) for request in stage.raw.requests)
    return Verdict(statuses, seen, stage.raw.has_garbage)


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[str, Verdict, Verdict]]]:
    """Collect what both made of each case, and print it in the end."""
    rows: list[tuple[str, Verdict, Verdict]] = []
    yield rows
    sys.stdout.write(f"\n{'':34} {'nginx':26} {'proxy':26}\n")
    for name, theirs, ours in rows:
        remark = "stricter" if theirs.is_served and ours.is_refused else ""
        sys.stdout.write(f"{name:34} {theirs!s:26} {ours!s:26} {remark}\n")


@pytest.mark.parametrize("name", CASES)
def test_answer_is_as_strict_as_nginx(stage: Stage, table: list[tuple[str, Verdict, Verdict]], name: str) -> None:
    """What nginx refuses is refused; and the site sees no request and no body but those that were meant."""
    raw, meant = CASES[name]
    theirs, ours = judge(stage, stage.reference, raw), judge(stage, stage.proxy.port, raw)
    table.append((name, theirs, ours))
    assert not (theirs.is_refused and ours.is_served), f"nginx: {theirs}; proxy: {ours}"
    assert ours.seen == meant[: len(ours.seen)]
    assert not ours.has_garbage
    assert len(ours.statuses) <= max(1, len(meant))
    assert all(status in {200, 400, 413, 421, 431} for status in ours.statuses)
