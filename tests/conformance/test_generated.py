"""Requests and answers that nobody thought of: made by chance, sent without the proxy and through it, and compared."""

import itertools
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from anonproxy.proxy.headers import ADDRESS_HEADERS, CONNECTION_HEADERS, HOP_HEADERS
from tests.conformance.conftest import RAW, Connection, Script, Stage
from tests.conformance.test_scripted import compare
from tests.conformance.test_smuggling import CLOSE, HIDDEN, HOST, judge

pytestmark = pytest.mark.slow

EXAMPLES: Final = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
TOKEN: Final = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Headers with a meaning for the connection or for the length, which the cases set themselves.
MEANT: Final = {
    "host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "expect", "date",
    *(name.decode() for name in ADDRESS_HEADERS | CONNECTION_HEADERS | HOP_HEADERS),
}  # fmt: skip

names = st.text(TOKEN, min_size=1, max_size=20).filter(lambda name: name.lower() not in MEANT)
visible = st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f", exclude_categories=["Cc"])
values = st.builds(
    lambda words, space: space.join(words),
    st.lists(st.text(visible, min_size=1, max_size=30), max_size=5),
    st.sampled_from([" ", "\t", "  ", " \t "]),
)
fields = st.lists(st.builds(lambda name, value: f"{name}: {value}", names, values), max_size=12)
trailing = st.lists(st.builds(lambda name, value: f"X-{name}: {value}", names, values), max_size=2)
targets = st.text(visible.filter(lambda character: character != "#"), max_size=200).map(lambda text: "/" + text)
bodies = st.one_of(st.binary(max_size=100), st.integers(0, 300_000).map(lambda size: bytes(range(256)) * (size // 256)))
cuts = st.lists(st.integers(0, 5000), max_size=8)
extensions = st.sampled_from(["", ";a", ";a=b", ';a="b c"'])


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes into pieces, none of them empty."""
    edges = [0, *sorted({place for place in places if 0 < place < len(raw)}), len(raw)]
    return [raw[begin:end] for begin, end in itertools.pairwise(edges) if begin < end]


def framed(body: bytes, coding: str, places: list[int], extension: str, trailers: list[str]) -> tuple[str, bytes]:
    """Return the header that says where a body ends, and the body with its framing."""
    if coding == "length":
        return f"Content-Length: {len(body)}\r\n", body
    if coding == "end":
        return "", body
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(one), extension.encode(), one) for one in cut(body, places))
    return "Transfer-Encoding: chunked\r\n", chunks + b"0\r\n" + lines(trailers) + b"\r\n"


def lines(headers: list[str]) -> bytes:
    """Render headers."""
    return "".join(f"{header}\r\n" for header in headers).encode("latin-1")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a request."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"]))
    coding = draw(st.sampled_from(["none", "length", "chunks"]))
    framing, body = "", b""
    if coding != "none":
        framing, body = framed(draw(bodies), coding, draw(cuts), draw(extensions), draw(trailing))
    start = f"{method} {draw(targets)} HTTP/1.1\r\nHost: {RAW}\r\n".encode("latin-1")
    return start + lines(draw(fields)) + framing.encode() + b"\r\n" + body


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[bytes], bool]:
    """Draw an answer in pieces, and whether the connection ends with it."""
    status = draw(st.sampled_from([200, 201, 203, 206, 301, 400, 401, 404, 418, 451, 500, 503]))
    reason = draw(st.text(visible, max_size=20))
    coding = draw(st.sampled_from(["length", "chunks", "end"]))
    framing, body = framed(draw(bodies), coding, draw(cuts), draw(extensions), draw(trailing))
    head = f"HTTP/1.1 {status} {reason}\r\n".encode("latin-1") + lines(draw(fields)) + framing.encode() + b"\r\n"
    return cut(head + body, draw(cuts)), coding == "end"


def script_for(pieces: list[bytes], *, ends: bool) -> Script:
    """Return a script that sends an answer piece by piece; only its head to HEAD."""

    def script(connection: Connection) -> None:
        while request := connection.read():
            if request.start.startswith(b"HEAD "):
                connection.send(b"".join(pieces).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
                continue
            for piece in pieces:
                connection.send(piece)
            if ends:
                return

    return script


@given(raw=requests(), answer=answers())
@EXAMPLES
def test_any_exchange_is_the_same(stage: Stage, raw: bytes, answer: tuple[list[bytes], bool]) -> None:
    """Whatever legal request meets whatever legal answer: both sides get the same as without the proxy."""
    pieces, ends = answer
    compare(stage, raw, script_for(pieces, ends=ends))


ODD: Final = [
    b"\r", b"\n", b"\0", b"\t", b" ", b":", b";", b",", b"0", b"\x0b", b"\x7f", b"\x80", b"\xff", b"\r\n", b"\r\n "
]  # fmt: skip
SOUND: Final = (
    b"POST /a?b=c HTTP/1.1\r\n" + HOST + CLOSE + b"X-A: b\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    b"POST /a?b=c HTTP/1.1\r\n"
    + HOST
    + CLOSE
    + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
)


@given(
    sound=st.sampled_from(SOUND),
    wounds=st.lists(st.tuples(st.integers(0, 250), st.sampled_from(ODD), st.booleans()), min_size=1, max_size=3),
)
@settings(EXAMPLES, max_examples=60)
@example(sound=SOUND[0], wounds=[(0, b"\n", False)])
def test_any_wound_is_met_as_by_nginx(stage: Stage, sound: bytes, wounds: list[tuple[int, bytes, bool]]) -> None:
    """A request with bytes put in or replaced at random: what nginx refuses is refused, what is inside stays inside."""
    raw = sound
    for place, odd, is_replaced in wounds:
        raw = raw[:place] + odd + raw[place + is_replaced :]
    ours, theirs = judge(stage, stage.proxy.port, raw), judge(stage, stage.reference, raw)
    assert not (theirs.is_refused and ours.is_served), f"nginx: {theirs}; proxy: {ours}"
    assert not ours.has_garbage
    assert len(ours.seen) <= 1
    assert all(not target.startswith(b"/hidden") for target, _ in ours.seen)
