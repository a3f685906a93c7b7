"""The writer's bookkeeping and its two clocks."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from anonproxy.anonymize.request import RawRequest
from anonproxy.clock import now
from anonproxy.model.settings import Settings, StoreSettings
from anonproxy.proxy import writer
from anonproxy.proxy.channel import Receiver, Sender, open_channel
from anonproxy.proxy.child import Assignment
from anonproxy.proxy.counters import Counters, repair_counts
from anonproxy.proxy.server import WRITER, start_child
from anonproxy.store.lock import StoreLock
from tests.proxy.conftest import HOST, PATIENCE_S, make_settings, wait_until


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
    counters.workers[0]["seen"] = 18
    row["written"], row["dropped_bad_address"], row["dropped_writer_down"] = 10, 2, 1
    assert counters.pending() == 5
    writer.repair_counts(counters)
    assert (row["dropped_writer_down"], counters.pending()) == (6, 0)


def test_requests_of_a_killed_worker_are_accounted_for(counters: Counters) -> None:
    """What it was serving is lost, what it had counted but not handed over is dropped; twice is as good as once."""
    row = counters.workers[0]
    row["begun"], row["requests"], row["sent"], row["dropped_queue_full"] = 14, 10, 8, 1
    row["connected"], row["disconnected"] = 5, 3
    for _ in range(2):
        repair_counts(row)
        assert (row["lost"], row["dropped_writer_down"], row["disconnected"]) == (4, 1, 5)
        assert counters.running() == 0


@pytest.mark.parametrize("is_named", [True, False], ids=["after", "before"])
def test_last_segment_of_a_killed_writer_counts_once(counters: Counters, tmp_path: Path, is_named: bool) -> None:
    """Killed before or after a segment got its name: its rows are written or dropped, and counted as what they are."""
    row, name = counters.writer, "fedcba9876543210"
    row["written"], counters.workers[0]["seen"] = 100, 112
    folder = tmp_path / "hot" / "site=www" / "date=2026-11-01" / "04.open"
    folder.mkdir(parents=True)
    note = writer.SegmentNote(row)
    with note("0123456789abcdef", 5):
        (folder / "0123456789abcdef.parquet").touch()
    with pytest.raises(OSError, match="full"), note("1111111111111111", 9):
        raise OSError("full")
    assert row["written"] == 105
    killed = note(name, 7)
    killed.__enter__()
    if is_named:
        (folder / f"{name}.parquet").touch()
    for _ in range(2):
        writer.repair_written(row, tmp_path)
        writer.repair_counts(counters)
        assert (row["written"], row["dropped_writer_down"]) == ((112, 0) if is_named else (105, 7))


def test_counts_continue_over_a_restart(counters: Counters) -> None:
    """A new writer's counts come on top of the former one's; names outside the list are not published."""
    counters.writer["written"] = counters.workers[0]["seen"] = 100
    publish = writer.Publisher(CountingRecorder(), counters)
    for _ in range(2):
        publish()
    row = counters.writer
    assert (row["written"], row["dropped_bad_address"], row["flush_failed"]) == (104, 2, 1)


def test_clocks_stop_before_the_recorder_closes() -> None:
    """Nothing ticks any more when the recorder is closed, and it is closed once."""
    recorder = CountingRecorder()
    recording = writer.Recording(recorder)
    recording.start()
    wait_until(lambda: {"tick", "keep_house", "learn_sitemaps"} <= set(recorder.asked))
    recording.close()
    assert recorder.asked[-1] == "close"
    assert recorder.asked.count("close") == 1


def assign(settings: Settings, counters: Counters, receiving: socket.socket, lock: StoreLock) -> Assignment:
    """Assign the work of a writer."""
    return Assignment(settings, os.getpid(), counters.fd, receiving.fileno(), lock_fds=(lock.fd,))


def test_writer_that_fails_ends_and_keeps_what_it_has(counters: Counters, tmp_path: Path) -> None:
    """A real writer that stumbles writes what it had taken and ends, so that another one is started; it says the place
    of the error and nothing of what it was about."""
    settings = make_settings(1).model_copy(update={"store": StoreSettings(path=str(tmp_path / "store"), flush_s=60)})
    sending, receiving = open_channel()
    with sending, receiving:
        assignment = assign(settings, counters, receiving, StoreLock(tmp_path / "store"))
        with subprocess.Popen(
            [sys.executable, "-m", "anonproxy.proxy.writer"],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=assignment.inherited_fds,
        ) as process:  # fmt: skip
            assert process.stdin
            process.stdin.write(assignment.to_json())
            process.stdin.close()
            try:
                wait_until(lambda: bool(counters.writer["ready"]))
                request = RawRequest(now(), raw_client="203.0.113.7", raw_host=HOST, raw_method="GET", raw_target="/")
                Sender(sending, 0, counters.workers[0], lambda: True)(request)
                sending.send(b'[0,2,["hunter2')
                assert process.wait(PATIENCE_S) == 1
            finally:
                process.kill()
            assert process.stderr
            said = process.stderr.read()
    assert said.startswith(b"anonproxy suppressed main JSONDecodeError@")
    assert b"hunter2" not in said
    assert (counters.writer["ready"], counters.writer["written"], counters.pending()) == (0, 1, 0)


def test_children_take_no_code_from_the_working_directory(
    counters: Counters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that lies where anonproxy is started, and is called as a module, is not run; the child works and ends."""
    (tmp_path / "json.py").write_text("open('taken', 'w').close()")
    monkeypatch.chdir(tmp_path)
    settings = make_settings(1).model_copy(update={"store": StoreSettings(path=str(tmp_path / "store"))})

    async def run() -> int:
        sending, receiving = open_channel()
        with receiving:
            child = await start_child(WRITER, assign(settings, counters, receiving, StoreLock(tmp_path / "store")))
            sending.close()
            async with asyncio.timeout(PATIENCE_S):
                return await child.wait()

    assert asyncio.run(run()) == 0
    assert not (tmp_path / "taken").exists()
    assert (tmp_path / "store" / "ledger").exists()


def test_stopping_writer_takes_what_is_still_there(counters: Counters) -> None:
    """Everything that was sent before the workers ended is recorded, and then the writer ends."""
    sending, receiving = open_channel()
    sender = Sender(sending, 0, counters.workers[0], lambda: True)
    for number in range(50):
        counters.workers[0].count("requests")
        sender(RawRequest(time_s=1.0, raw_client="203.0.113.7", raw_target=f"/{number}"))
    sending.close()
    recorder = CountingRecorder()
    writer.record_all(Receiver(receiving, counters), recorder.record)
    assert recorder.asked == [f"/{number}" for number in range(50)]
    assert counters.queued() == 0
    receiving.close()
