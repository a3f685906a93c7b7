"""The writer: the one process that holds keys and writes. It takes raw requests from the workers and records them."""

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from anonproxy.anonymize.request import RawRequest
from anonproxy.ingest.recorder import PENDING, WRITTEN, Recorder
from anonproxy.model.errors import OperatorError
from anonproxy.proxy.channel import Receiver
from anonproxy.proxy.child import EXIT_OPERATOR, begin_child
from anonproxy.proxy.counters import NAMES, Counters, Row

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
        repair_counts(self._row, sum(row["seen"] for row in counters.workers))
        self._before = {name: self._row[name] for name in NAMES}

    def __call__(self) -> None:
        for name, number in self._recorder.counts.items():
            if name == PENDING:
                self._row[PENDING] = number
            elif (cell := name if name in NAMES else f"dropped_{name}") in NAMES:
                self._row[cell] = self._before[cell] + number


def repair_counts(row: Row, seen: int) -> None:
    """Count the rows that a killed writer had in memory as dropped."""
    row[PENDING] = 0
    known = row[WRITTEN] + sum(row[name] for name in NAMES if name.startswith("dropped_"))
    row["dropped_writer_down"] += max(0, seen - known)


def record_all(receiver: Receiver, record: Callable[[RawRequest], None]) -> None:
    """Record what comes until nobody can send any more, or the supervisor wants another writer."""
    with contextlib.suppress(EOFError):
        while True:
            record(receiver.receive())


def main() -> None:
    """Run as a child of the supervisor.

    It ends when its channel does, and not by SIGTERM, which reaches a whole service at once: the workers may still be
    finishing requests that want to be recorded.
    """
    assignment = begin_child()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    counters = Counters(assignment.counters_fd)
    channel = socket.socket(fileno=assignment.channel_fd)
    try:
        recorder = Recorder(assignment.settings)
    except OperatorError as error:
        print(f"anonproxy: {error}", file=sys.stderr)  # noqa: T201 - it speaks of the configuration, never of traffic
        raise SystemExit(EXIT_OPERATOR) from None
    recording = Recording(recorder, Publisher(recorder, counters))
    recording.start()
    counters.writer["ready"] = 1
    record_all(Receiver(channel, counters), recording.record)
    counters.writer["ready"] = 0
    recording.close()


if __name__ == "__main__":
    main()
