"""From the workers to the writer, and nothing lost without being counted."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.request import RawRequest
from anonproxy.proxy.channel import (
    LIMITS,
    MAX_MESSAGE_BYTES,
    Receiver,
    Sender,
    decode_request,
    encode_request,
    open_channel,
)
from anonproxy.proxy.counters import Counters

# Every text that decoding bytes with surrogateescape can give.
RAW_TEXTS = st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
REQUESTS = st.builds(
    RawRequest,
    time_s=st.floats(0, 4e9),
    raw_client=RAW_TEXTS,
    raw_host=RAW_TEXTS,
    raw_target=RAW_TEXTS,
    raw_cookie=RAW_TEXTS,
    raw_user_agent=RAW_TEXTS,
    raw_referrer=RAW_TEXTS,
    raw_accept_language=RAW_TEXTS,
    status=st.integers(0, 999),
    size_bytes=st.integers(0, 2**50),
    is_private=st.booleans(),
)


def fields(request: RawRequest) -> list[object]:
    """Return a request's values, which its repr doesn't show."""
    return [getattr(request, name) for name in RawRequest.__slots__]


@given(REQUESTS)
def test_request_arrives_as_it_was_sent(request: RawRequest) -> None:
    """Encoding and decoding give the same request, whatever bytes it holds."""
    worker, number, decoded = decode_request(encode_request(3, 7, request))
    assert (worker, number, fields(decoded)) == (3, 7, fields(request))


def test_overlong_fields_are_cut_and_messages_bounded() -> None:
    """However long the fields are, a message stays below what the writer reads at once."""
    raw = "\udcff" * 100_000
    request = RawRequest(time_s=1.0, raw_client=raw)
    for name in LIMITS:
        setattr(request, name, raw)
    message = encode_request(0, 1, request)
    assert len(message) <= MAX_MESSAGE_BYTES
    decoded = decode_request(message)[2]
    assert {name: len(getattr(decoded, name)) for name in LIMITS} == LIMITS


class Line:
    """A channel with both its ends and the counters."""

    def __init__(self) -> None:
        self.counters = Counters.create(workers=2)
        self.sending, self.receiving = open_channel()
        self.counters.writer["ready"] = 1
        self.sender = Sender(self.sending, 1, self.counters.workers[1], lambda: bool(self.counters.writer["ready"]))
        self.receiver = Receiver(self.receiving, self.counters)


@pytest.fixture
def line() -> Iterator[Line]:
    """Give a channel, and close it."""
    opened = Line()
    yield opened
    opened.sending.close()
    opened.receiving.close()


def request_for(target: str) -> RawRequest:
    """Return a request of usual size."""
    return RawRequest(time_s=1.0, raw_client="203.0.113.7", raw_target=target, raw_user_agent="x" * 200)


def test_requests_arrive_in_order(line: Line) -> None:
    """What is sent is received in order, and counted on the way."""
    for number in range(3):
        line.sender(request_for(f"/{number}"))
    assert line.counters.queued() == 3
    assert [line.receiver.receive().raw_target for _ in range(3)] == ["/0", "/1", "/2"]
    assert line.counters.queued() == 0
    assert line.counters.workers[1]["sent"] == 3


@pytest.mark.parametrize(("is_writer_up", "reason"), [(1, "queue_full"), (0, "writer_down")])
def test_full_queue_drops_and_counts(line: Line, is_writer_up: int, reason: str) -> None:
    """When nobody reads, requests are dropped and counted without waiting, and none that was queued is lost."""
    line.counters.writer["ready"] = is_writer_up
    row = line.counters.workers[1]
    asked = 0
    while not row[f"dropped_{reason}"]:
        line.sender(request_for("/"))
        asked += 1
    assert asked == row["sent"] + 1
    assert row["sent"] >= 50, "the kernel holds a burst"
    while row["seen"] < row["sent"]:
        line.receiver.receive()
    line.sender(request_for("/again"))
    assert line.receiver.receive().raw_target == "/again"


def test_what_a_killed_writer_took_with_it_is_counted(line: Line) -> None:
    """A message that was read but not accounted for shows as a gap, and is counted as dropped."""
    for number in range(3):
        line.sender(request_for(f"/{number}"))
    line.receiving.recv(MAX_MESSAGE_BYTES)  # a writer that is killed here has told nobody
    assert line.receiver.receive().raw_target == "/1"
    assert line.counters.writer["dropped_writer_down"] == 1
    assert line.counters.queued() == 1


def test_closed_other_end_is_noticed(line: Line) -> None:
    """A writer to whom nobody can send any more gets what was sent, and then knows it."""
    line.sender(request_for("/last"))
    line.sending.close()
    assert line.receiver.receive().raw_target == "/last"
    with pytest.raises(EOFError):
        line.receiver.receive()


def test_sender_without_receiver_counts(line: Line) -> None:
    """When the other end is gone, requests are counted as dropped because the writer is down."""
    line.receiving.close()
    line.sender(request_for("/"))
    assert line.counters.workers[1]["dropped_writer_down"] == 1
