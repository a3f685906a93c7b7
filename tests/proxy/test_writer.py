"""The writer's bookkeeping and its two clocks."""

import os
from collections.abc import Iterator, Mapping

import pytest

from anonproxy.anonymize.request import RawRequest
from anonproxy.proxy import worker, writer
from anonproxy.proxy.channel import Receiver, Sender, open_channel
from anonproxy.proxy.counters import Counters
from tests.proxy.conftest import wait_until


@pytest.fixture
def counters() -> Iterator[Counters]:
    """Give zeroed counters for one worker."""
    made = Counters.create(workers=1)
    yield made
    os.close(made.fd)


class CountingRecorder:
    """A recorder that keeps the order of what it is asked to do."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def record(self, request: RawRequest) -> None:
        self.asked.append(request.raw_target)

    def tick(self) -> None:
        self.asked.append("tick")

    def keep_house(self) -> None:
        self.asked.append("keep_house")

    def learn_sitemaps(self) -> None:
        self.asked.append("learn_sitemaps")

    def close(self) -> None:
        self.asked.append("close")

    @property
    def counts(self) -> Mapping[str, int]:
        return {"received": 9, "written": 4, "pending": 3, "bad_address": 2, "flush_failed": 1, "unheard_of": 5}


def test_rows_of_a_killed_writer_are_counted_as_dropped(counters: Counters) -> None:
    """What a writer had taken but neither written nor dropped when it was killed is lost, and says so."""
    row = counters.writer
    row["written"], row["pending"], row["dropped_bad_address"], row["dropped_writer_down"] = 10, 4, 2, 1
    writer.repair_counts(row, seen=18)
    assert (row["pending"], row["dropped_writer_down"]) == (0, 6)
    assert row["written"] + row["dropped_bad_address"] + row["dropped_writer_down"] == 18


def test_request_of_a_killed_worker_is_counted_as_dropped(counters: Counters) -> None:
    """A request that was counted but not handed over is dropped; one that was handed over isn't."""
    row = counters.workers[0]
    row["requests"], row["sent"], row["seen"], row["dropped_queue_full"] = 10, 7, 8, 1
    row["connected"], row["disconnected"] = 5, 3
    worker.repair_counts(row)
    assert (row["sent"], row["dropped_internal_error"], row["disconnected"]) == (8, 1, 5)
    worker.repair_counts(row)
    assert row["dropped_internal_error"] == 1


def test_counts_continue_over_a_restart(counters: Counters) -> None:
    """A new writer's counts come on top of the former one's; names outside the list are not published."""
    counters.writer["written"] = counters.workers[0]["seen"] = 100
    publish = writer.Publisher(CountingRecorder(), counters)
    for _ in range(2):
        publish()
    row = counters.writer
    assert (row["written"], row["pending"], row["dropped_bad_address"], row["flush_failed"]) == (104, 3, 2, 1)


def test_clocks_stop_before_the_recorder_closes() -> None:
    """Nothing ticks any more when the recorder is closed, and it is closed once."""
    recorder = CountingRecorder()
    recording = writer.Recording(recorder)
    recording.start()
    wait_until(lambda: {"tick", "keep_house", "learn_sitemaps"} <= set(recorder.asked))
    recording.close()
    assert recorder.asked[-1] == "close"
    assert recorder.asked.count("close") == 1


def test_stopping_writer_takes_what_is_still_there(counters: Counters) -> None:
    """Everything that was sent before the workers ended is recorded, and then the writer ends."""
    sending, receiving = open_channel()
    sender = Sender(sending, 0, counters.workers[0], lambda: True)
    for number in range(50):
        sender(RawRequest(time_s=1.0, raw_client="203.0.113.7", raw_target=f"/{number}"))
    sending.close()
    recorder = CountingRecorder()
    writer.record_all(Receiver(receiving, counters), recorder.record)
    assert recorder.asked == [f"/{number}" for number in range(50)]
    assert counters.queued() == 0
    receiving.close()
