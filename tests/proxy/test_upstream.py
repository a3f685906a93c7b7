"""The site's side of HTTP: chunks and trailers as they are read, and answers that go no further."""

import itertools

import h11
import pytest
from h11._receivebuffer import ReceiveBuffer
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.http import Headers, Request, Response

from anonproxy.proxy.upstream import WithTrailers, is_ambiguous, is_interim, read_trailers, render_end, unfold


def read(pieces: list[bytes]) -> tuple[bytes, WithTrailers, bytes]:
    """Read a chunked body that comes in pieces; return it, its reader, and what was left over."""
    reader, buffer, body = WithTrailers(), ReceiveBuffer(), b""
    for piece in pieces:
        buffer += piece
        while event := reader(buffer):
            if isinstance(event, h11.EndOfMessage):
                return body, reader, bytes(buffer)
            body += bytes(event.data)
    raise EOFError


SOUND = b"5\r\nhello\r\n00a;x=1\r\n0123456789\r\n" + b"0\r\nX-Sum: 1\r\nHost: x\r\n\r\nGET"


@given(places=st.lists(st.integers(0, len(SOUND))))
def test_chunks_are_read_wherever_they_are_cut(places: list[int]) -> None:
    """A body and its trailers are the same however they arrive; what follows stays for the next request."""
    edges = [0, *sorted(places), len(SOUND)]
    body, reader, rest = read([SOUND[begin:end] for begin, end in itertools.pairwise(edges)])
    assert body == b"hello0123456789"
    assert b"GET".startswith(rest)
    assert reader.trailers == ((b"X-Sum", b"1"), (b"Host", b"x"))
    assert read_trailers(reader) == Headers([(b"X-Sum", b"1")])


@pytest.mark.parametrize(
    "size",
    [
        b"", b"x", b"5x", b"0x5", b"+5", b"-5", b" 5", b"5;a\x00", b"5;a\rb", b"5;a\nb", b"5;\x7f",
        b"5_0", b"5 5", b"5,5", b"8000000000000000", b"10000000000000005", "５".encode(),
    ],
)  # fmt: skip
def test_what_is_no_chunk_is_refused(size: bytes) -> None:
    """A size is hexadecimal and below 2^63, and no control byte hides in an extension."""
    with pytest.raises(h11.ProtocolError):
        read([size + b"\r\nhello\r\n0\r\n\r\n"])


@pytest.mark.parametrize("size", [b"5", b"05", b"000005", b"5 ", b"5\t", b"5;a", b'5;a="b c"', b"5;"])
def test_what_is_a_chunk_is_read(size: bytes) -> None:
    """Zeros before, spaces after and extensions change nothing."""
    assert read([size + b"\r\nhello\r\n0\r\n\r\n"])[0] == b"hello"


def test_end_of_chunks() -> None:
    """The end of a chunked body is rendered with its trailers."""
    assert render_end(Headers([(b"X-Sum", b"1")])) == b"0\r\nX-Sum: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "field", "expected"),
    [
        (200, (b"X-A", b"b\tc \xe9"), False),
        (200, (b"X-A", b"b\x00"), True),
        (200, (b"X-A", b"b\rc"), True),
        (200, (b"Transfer-Encoding", b"Chunked"), False),
        (200, (b"Transfer-Encoding", b"gzip, chunked"), True),
        (200, (b"Transfer-Encoding", b"identity"), True),
        (101, (b"Upgrade", b"websocket"), True),
    ],
)
def test_answers_that_go_no_further(status: int, field: tuple[bytes, bytes], expected: bool) -> None:
    """An unknown coding, a line break or NUL in a header, or a change of protocol that nobody asked for is refused."""
    response = Response.make(status, b"", Headers([field]))
    assert is_ambiguous(Request.make("GET", "http://x/"), response) is expected


@pytest.mark.parametrize(("status", "expected"), [(100, True), (103, True), (199, True), (101, False), (200, False)])
def test_interim_answers(status: int, expected: bool) -> None:
    """After 1xx the answer is still to come, but for 101."""
    assert is_interim(Response.make(status)) is expected


def test_folded_headers_come_on_one_line() -> None:
    """A header that goes on in the next line is put on one; others aren't touched."""
    assert unfold(((b"A", b"b\r\n c"), (b"D", b"e"))) == ((b"A", b"b c"), (b"D", b"e"))
