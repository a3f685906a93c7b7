"""From the workers to the writer, and nothing lost without being counted."""

import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.request import RawRequest
from anonproxy.proxy.channel import (
    LIMITS,
    MAX_MESSAGE_BYTES,
    Receiver,
    Sender,
    decode_message,
    encode_message,
    encode_request,
    open_channel,
)
from anonproxy.proxy.counters import Counters
from tests.proxy.conftest import wait_until

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
    message = encode_message(3, 7, [encode_request(request), encode_request(request)])
    worker, number, decoded = decode_message(message)
    assert (worker, number, list(map(fields, decoded))) == (3, 7, [fields(request)] * 2)


@pytest.mark.parametrize("character", ["\udcff", "\x01", "\U0001f4da", "\u20ac", "\\", "x"])
def test_overlong_fields_are_cut_and_messages_bounded(character: str) -> None:
    """However long the fields are and whatever they hold, a message stays below what the writer reads at once."""
    raw = character * 100_000
    request = RawRequest(time_s=1.0, raw_client=raw)
    for name in LIMITS:
        setattr(request, name, raw)
    message = encode_message(0, 1, [encode_request(request)])
    assert len(message) <= MAX_MESSAGE_BYTES
    [decoded] = decode_message(message)[2]
    assert {name: len(getattr(decoded, name)) for name in LIMITS} == LIMITS


class Line:
    """A channel with both its ends and the counters."""

    def __init__(self) -> None:
        self.counters = Counters.create(workers=2)
        self.sending, self.receiving = open_channel()
        self.counters.writer["ready"] = 1
        self.soon: list[Callable[[], None]] = []
        row = self.counters.workers[1]
        self._sender = Sender(self.sending, 1, row, lambda: bool(self.counters.writer["ready"]), self.soon.append)
        self.receiver = Receiver(self.receiving, self.counters)

    def finish(self, target: str) -> None:
        """Count a request, and have it sent soon, as a worker does."""
        self.counters.workers[1].count("requests")
        self._sender(request_for(target))

    def sender(self, request: RawRequest) -> None:
        """Count a request and send it at once."""
        self.finish(request.raw_target)
        self.soon.pop()()


@pytest.fixture
def line() -> Iterator[Line]:
    """Give a channel, and close it."""
    opened = Line()
    yield opened
    opened.sending.close()
    opened.receiving.close()


def targets(receiver: Receiver) -> list[str]:
    """Return what the requests of the next message asked for."""
    return [request.raw_target for request in receiver.receive()]


def request_for(target: str) -> RawRequest:
    """Return a request of usual size."""
    return RawRequest(time_s=1.0, raw_client="203.0.113.7", raw_target=target, raw_user_agent="x" * 200)


def test_requests_arrive_in_order(line: Line) -> None:
    """What is sent is received in order, and counted on the way."""
    for number in range(3):
        line.sender(request_for(f"/{number}"))
    assert line.counters.queued() == 3
    assert [targets(line.receiver) for _ in range(3)] == [["/0"], ["/1"], ["/2"]]
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
    assert targets(line.receiver) == ["/again"]


def test_what_a_killed_writer_took_with_it_is_counted(line: Line) -> None:
    """A message that was read but not accounted for shows as a gap, and is counted as dropped."""
    for number in range(3):
        line.sender(request_for(f"/{number}"))
    line.receiving.recv(MAX_MESSAGE_BYTES)  # a writer that is killed here has told nobody
    assert targets(line.receiver) == ["/1"]
    assert line.counters.writer["dropped_writer_down"] == 1
    assert line.counters.queued() == 1


def test_closed_other_end_is_noticed(line: Line) -> None:
    """A writer to whom nobody can send any more gets what was sent, and then knows it."""
    line.sender(request_for("/last"))
    line.sending.close()
    assert targets(line.receiver) == ["/last"]
    with pytest.raises(EOFError):
        line.receiver.receive()


def test_sender_without_receiver_counts(line: Line) -> None:
    """When the other end is gone, requests are counted as dropped because the writer is down."""
    line.receiving.close()
    line.sender(request_for("/"))
    assert line.counters.workers[1]["dropped_writer_down"] == 1


def test_message_that_never_came_is_written_off(line: Line) -> None:
    """What a worker was about to send when it was killed is counted as dropped once nothing comes for a while."""
    line.sender(request_for("/0"))
    for name in ("requests", "sent"):
        line.counters.workers[1].count(name)  # killed here, before it could send
    assert targets(line.receiver) == ["/0"]

    def send_again() -> None:
        wait_until(lambda: line.counters.queued() == 0)
        line.sender(request_for("/2"))

    later = threading.Thread(target=send_again)
    later.start()
    assert targets(line.receiver) == ["/2"]
    later.join()
    assert line.counters.writer["dropped_writer_down"] == 1
    assert line.counters.workers[1]["seen"] == line.counters.workers[1]["sent"] == 3


def test_message_that_was_written_off_is_left_out(line: Line) -> None:
    """Should it come after all, it isn't recorded: it has been counted already."""
    row = line.counters.workers[1]
    row["seen"] = 1
    line.counters.writer["dropped_writer_down"] = 1
    for number in range(2):
        line.sender(request_for(f"/{number}"))
    assert targets(line.receiver) == ["/1"]
    assert (row["seen"], line.counters.writer["dropped_writer_down"]) == (2, 1)


def test_requests_wait_for_each_other(line: Line) -> None:
    """What is finished within a moment, or until it is a lot, is one message; none is sent twice or forgotten."""
    for number in range(3):
        line.finish(f"/{number}")
    assert (len(line.soon), line.counters.queued(), line.counters.workers[1]["sent"]) == (1, 3, 0)
    line.soon.pop()()
    assert (targets(line.receiver), line.counters.queued()) == (["/0", "/1", "/2"], 0)
    for number in range(40):
        line.finish(f"/{number}".ljust(4000, "x"))
    while line.soon:
        line.soon.pop()()
    assert line.counters.queued() == 40
    received = [targets(line.receiver) for _ in range(3)]
    assert [int(target.strip("/x")) for message in received for target in message] == list(range(40))
    assert line.counters.queued() == 0


def test_batch_that_cant_be_sent_is_counted_whole(line: Line) -> None:
    """When the other end is gone, every request of the batch is dropped and counted."""
    line.receiving.close()
    for number in range(3):
        line.finish(f"/{number}")
    line.soon.pop()()
    assert (line.counters.workers[1]["sent"], line.counters.dropped()["writer_down"]) == (0, 3)
    assert line.counters.queued() == 0
