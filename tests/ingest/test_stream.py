"""Lines come out of streams and out of syslog headers as they went in, however the bytes fall into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.ingest.stream import MAX_LINE_BYTES, TOO_LONG, BrokenStream, LineReader, strip_headers

MESSAGE = b'203.0.113.7 - - [02/Mar/2026:17:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "Mozilla/5.0: <1>"'
JSON = b'{"ts": 1.5, "request": {"host": "a"}}'


@pytest.mark.parametrize(
    "header",
    [
        b"<190>Mar  2 17:00:00 www nginx: ",  # nginx
        b"<190>Mar 12 17:00:00 anonproxy: ",  # nginx, nohostname
        b"<134>Mar  2 17:00:00 haproxy[814]: ",  # HAProxy
        b"<134>Mar  2 17:00:00 www.example.org haproxy[814]: ",
        b"<134>1 2026-03-02T17:00:00.123456+00:00 - haproxy 814 - - ",  # HAProxy, rfc5424
        b"<134>1 2026-03-02T17:00:00Z www.example.org haproxy 814 ID47 - \xef\xbb\xbf",
        b'<165>1 2003-10-11T22:14:15.003Z host app - ID47 [one@1 a="b\\]c" d="e"][two@2] ',
        b"<13>2026-03-02T17:00:00.1+01:00 www app/part[1]: ",  # rsyslog
        b"<13>Mar  2 17:00:00 www apache2:",
        b"",
    ],
)
@pytest.mark.parametrize("message", [MESSAGE, JSON, b"1772470800.123\t203.0.113.7\twww: x"])
def test_headers_are_taken_off(header: bytes, message: bytes) -> None:
    """Whatever a server puts before its line, the line is what is left, and there are as many lines as before."""
    assert strip_headers(header + message + b"\n") == message + b"\n"
    assert strip_headers((header + message + b"\n") * 3) == (message + b"\n") * 3


@pytest.mark.parametrize("line", [b"<190>", b"<190>Mar 2", b"<abc>Mar  2 17:00:00 nginx: x", b"<1>2 3 4 5 6 7 8", b"<"])
def test_what_is_no_header_stays(line: bytes) -> None:
    """A line that only begins like a header is left as it is, for the format to refuse."""
    assert strip_headers(line + b"\n") == line + b"\n"


@given(st.binary(max_size=200))
def test_number_of_lines_is_kept(block: bytes) -> None:
    """Whatever comes, taking headers off neither joins nor splits lines."""
    whole = block + b"\n"
    assert strip_headers(whole).count(b"\n") == whole.count(b"\n")


LINES = st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), max_size=8)
CUTS = st.lists(st.integers(1, 12), min_size=1, max_size=40)


def feed_in_pieces(reader: LineReader, stream: bytes, sizes: list[int]) -> bytes:
    """Feed a stream cut into pieces, and then its end."""
    fed, turn = b"", 0
    while stream:
        size = sizes[turn % len(sizes)]
        fed, stream, turn = fed + reader.feed(stream[:size]), stream[size:], turn + 1
    return fed + reader.end()


@given(LINES, CUTS)
def test_lines_are_put_together(lines: list[bytes], sizes: list[int]) -> None:
    """Lines that end with a newline come out whole, however they were cut, the last one also without its newline."""
    stream = b"\n".join([b"GET first", *lines])
    assert feed_in_pieces(LineReader(), stream, sizes) == stream.removesuffix(b"\n") + b"\n"


@given(LINES, CUTS)
def test_counted_frames_are_put_together(lines: list[bytes], sizes: list[int]) -> None:
    """Messages that begin with their length come out as one line each, however they were cut."""
    messages = [b"<134>" + line for line in lines]
    stream = b"".join(b"%d %s" % (len(message), message) for message in messages)
    assert feed_in_pieces(LineReader(), stream, sizes) == b"".join(message + b"\n" for message in messages)


def test_newlines_within_a_counted_frame_make_no_lines() -> None:
    """One frame is one line, whatever is in it; the newline at its end is the sender's habit."""
    assert LineReader().feed(b"11 <134>a\nb\nc\n") == b"<134>a b c\n"


@pytest.mark.parametrize("rest", [b"no length <134>b", b"9999999 <134>b", b"0 <134>b", b"5x<134>b"])
def test_broken_frames_end_the_stream(rest: bytes) -> None:
    """Where a length should stand and doesn't, or is beyond reason, no next line can be found: the stream is over."""
    reader = LineReader()
    assert reader.feed(b"6 <134>a") == b"<134>a\n"
    with pytest.raises(BrokenStream) as raised:
        reader.feed(rest)
    assert "134" not in str(raised.value)


def test_endless_line_is_left_out() -> None:
    """Of a line that doesn't end nothing is kept but that there was one, and the next one is read."""
    reader = LineReader()
    assert reader.feed(b"a\n" + b"x" * MAX_LINE_BYTES) == b"a\n"
    assert reader.feed(b"x" * MAX_LINE_BYTES) == TOO_LONG
    assert reader.feed(b"x" * MAX_LINE_BYTES * 2) == b""
    assert reader.feed(b"x\nb\n") == b"b\n"
