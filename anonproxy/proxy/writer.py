"""The writer: the one process that holds keys and writes. It takes raw requests from the workers and records them."""

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from anonproxy.anonymize.request import RawRequest
from anonproxy.ingest.recorder import WRITTEN, Recorder
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import Settings
from anonproxy.proxy.channel import Receiver
from anonproxy.proxy.child import EXIT_OPERATOR, begin_child, heed_signals
from anonproxy.proxy.counters import NAMES, Counters, Row
from anonproxy.proxy.say import Say, say
from anonproxy.store.layout import SUFFIX
from anonproxy.store.lock import StoreLock

TICK_S: Final = 0.25
# Sealing is due once an hour, settling and purging once a day: a few looks an hour are enough.
HOUSEKEEPING_S: Final = 300.0


class RequestRecorder(Protocol):
    """What records requests: `anonproxy.ingest.recorder.Recorder`."""

    @property
    def counts(self) -> Mapping[str, int]: ...
    def record(self, request: RawRequest, /) -> None: ...
    def tick(self) -> None: ...
    def keep_house(self) -> None: ...
    def learn_sitemaps(self) -> None: ...
    def close(self) -> None: ...


class Recording:
    """A recorder and its two clocks: one ticks, one keeps house, so that no slow disk holds up requests."""

    def __init__(self, recorder: RequestRecorder, publish: Callable[[], None] = lambda: None) -> None:
        self.record = recorder.record
        self._recorder = recorder
        self._publish = publish
        self._ended = threading.Event()
        self._threads = (threading.Thread(target=self._tick), threading.Thread(target=self._keep_house))
        # A site may be slow to give its sitemap; nobody waits for it.
        self._learner = threading.Thread(target=recorder.learn_sitemaps, daemon=True)

    def start(self) -> None:
        """Start both clocks, and learn the sites' own pages."""
        for thread in (*self._threads, self._learner):
            thread.start()

    def close(self) -> None:
        """Stop both clocks, write what is pending, destroy the key."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._recorder.close()
        self._publish()

    def _tick(self) -> None:
        while not self._ended.wait(TICK_S):
            self._recorder.tick()
            self._publish()

    def _keep_house(self) -> None:
        while not self._ended.is_set():
            self._recorder.keep_house()
            self._ended.wait(HOUSEKEEPING_S)


class Publisher:
    """Puts the recorder's counts where the supervisor's metrics read them, on top of those of writers that ended."""

    def __init__(self, recorder: RequestRecorder, counters: Counters) -> None:
        self._recorder = recorder
        self._row = counters.writer
        repair_counts(counters)
        self._before = {name: self._row[name] for name in NAMES}

    def __call__(self) -> None:
        for name, number in self._recorder.counts.items():
            if (cell := name if name in NAMES else f"dropped_{name}") in NAMES:
                self._row[cell] = self._before[cell] + number


class SegmentNote:
    """Says, in memory that outlives the writer, which segment is being written and how many rows are on disk then.

    So the rows of the last segment of a writer that is killed count once, whether or not it got its name.
    """

    def __init__(self, row: Row) -> None:
        self._row = row

    @contextlib.contextmanager
    def __call__(self, name: str, rows: int) -> Iterator[None]:
        self._row["segment"] = 0
        self._row["written_then"] = self._row[WRITTEN] + rows
        self._row["segment"] = int.from_bytes(bytes.fromhex(name), signed=True)
        yield
        self._row[WRITTEN] = self._row["written_then"]


def repair_written(row: Row, root: Path) -> None:
    """Count the rows of a segment that a killed writer had just named."""
    name = row["segment"].to_bytes(8, signed=True).hex()
    if row["segment"] and any(root.glob(f"hot/*/*/*/{name}{SUFFIX}")):
        row[WRITTEN] = row["written_then"]


def repair_counts(counters: Counters) -> None:
    """Count the rows that a killed writer had in memory as dropped."""
    counters.writer["dropped_writer_down"] += max(0, counters.pending())


def record_all(receiver: Receiver, record: Callable[[RawRequest], None]) -> None:
    """Record what comes until nobody can send any more, or the supervisor wants another writer."""
    with contextlib.suppress(EOFError):
        while True:
            for request in receiver.receive():
                record(request)


def run_writer(take_all: Callable[[Receiver, Recorder, Settings], None]) -> None:
    """Run as a child of the supervisor that takes what comes, each kind of writer in its own way.

    It ends when its channel does, and not by SIGTERM, which reaches a whole service at once: the workers may still be
    finishing requests that want to be recorded.
    """
    assignment = begin_child(signal.SIGTERM)
    heed_signals()
    counters = Counters(assignment.counters_fd)
    channel = socket.socket(fileno=assignment.channel_fd)
    try:
        [lock_fd] = assignment.lock_fds
        recorder = Recorder(assignment.settings, announce=SegmentNote(counters.writer), lock=StoreLock.inherit(lock_fd))
    except OperatorError as error:
        say(Say.UNUSABLE, problem=str(error))  # of the configuration, never of traffic
        raise SystemExit(EXIT_OPERATOR) from None
    repair_written(counters.writer, Path(assignment.settings.store.folder))
    recording = Recording(recorder, Publisher(recorder, counters))
    try:
        recording.start()
        counters.writer["ready"] = 1
        take_all(Receiver(channel, counters), recorder, assignment.settings)
    finally:  # else the clocks would keep alive a writer that takes nothing any more, and nobody would start another
        counters.writer["ready"] = 0
        recording.close()


def main() -> None:
    """Take requests."""
    run_writer(lambda receiver, recorder, _settings: record_all(receiver, recorder.record))


if __name__ == "__main__":
    main()
