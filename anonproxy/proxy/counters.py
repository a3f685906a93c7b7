"""Counters in memory that the processes share: a closed list of names, and one row of numbers for each process."""

import mmap
import os
from typing import Final

from anonproxy.model.vocabularies import DropReason

WRITER: Final = 0  # the writer's row; worker i has row i + 1

DROPPED: Final = tuple(f"dropped_{reason}" for reason in DropReason)
# Each cell is written by one process, so that none needs a lock; `seen` stands in a worker's row and is the writer's.
NAMES: Final = (
    "ready",  # 1 while the process does its work
    "begun",  # requests whose head has been read
    "requests",  # finished requests: pages, errors and aborted ones
    "lost",  # requests that a worker was serving when it was killed
    "limited",  # requests beyond the rate limit
    "malformed",  # what was not HTTP, so that no request came of it
    "redirected",  # requests that were sent on to HTTPS; they are counted when they come there
    "refused",  # connections beyond what one address may have
    "faults",  # errors of our own in a hook; the page was served all the same
    "connected",  # visitors' connections
    "disconnected",
    "sent",  # messages handed to the kernel for the writer
    "seen",  # number of the worker's message that the writer took last
    "written",  # rows on disk
    "segment",  # name of the segment that was begun last
    "written_then",  # rows on disk once that segment is
    "kernel_lost",  # log lines that came while the buffer of a listener was full; these three are the supervisor's
    "server_requests",  # requests that the server says it has served, while its status page is watched
    "missing",  # of those, how many no line has told of
    "flush_failed",
    "seal_failed",
    "settle_failed",
    "purge_failed",
    "publish_failed",
    *DROPPED,
)
_CELL_BYTES: Final = 8
_INDEX: Final = {name: index for index, name in enumerate(NAMES)}


class Row:
    """The numbers of one process."""

    def __init__(self, cells: "memoryview[int]") -> None:
        self._cells = cells

    def __getitem__(self, name: str) -> int:
        return self._cells[_INDEX[name]]

    def __setitem__(self, name: str, number: int) -> None:
        self._cells[_INDEX[name]] = number

    def count(self, name: str) -> None:
        """Add one."""
        self._cells[_INDEX[name]] += 1


class Counters:
    """The rows of all processes, in a file that exists in memory only."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        width = len(NAMES) * _CELL_BYTES
        rows = os.fstat(fd).st_size // width
        self._memory = mmap.mmap(fd, rows * width)
        view = memoryview(self._memory)
        self.rows = tuple(Row(view[row * width : (row + 1) * width].cast("q")) for row in range(rows))

    @classmethod
    def create(cls, workers: int) -> "Counters":
        """Make zeroed counters for the writer and its workers."""
        rows = workers + 1
        fd = os.memfd_create("anonproxy-counters")
        os.ftruncate(fd, rows * len(NAMES) * _CELL_BYTES)
        return cls(fd)

    @property
    def writer(self) -> Row:
        """Return the writer's row."""
        return self.rows[WRITER]

    @property
    def workers(self) -> tuple[Row, ...]:
        """Return the workers' rows."""
        return self.rows[WRITER + 1 :]

    def total(self, name: str) -> int:
        """Return the sum over all processes."""
        return sum(row[name] for row in self.rows)

    def dropped(self) -> dict[str, int]:
        """Return the requests that were counted but not written, by reason."""
        return {reason.value: self.total(f"dropped_{reason}") for reason in DropReason}

    def running(self) -> int:
        """Return the requests that are being served: begun = requests + running + lost."""
        return sum(row["begun"] - row["requests"] - row["lost"] for row in self.workers)

    def queued(self) -> int:
        """Return what is on its way to the writer: requests = written + pending + queued + dropped."""
        return sum(row["requests"] - row["seen"] - count_dropped(row) for row in self.workers)

    def pending(self) -> int:
        """Return what the writer has taken, and has neither written nor dropped yet."""
        return sum(row["seen"] for row in self.workers) - self.writer["written"] - count_dropped(self.writer)


def count_dropped(row: Row) -> int:
    """Return what a process has dropped, for whatever reason."""
    return sum(row[name] for name in DROPPED)


def repair_counts(row: Row) -> None:
    """Account for what a worker that ended took with it; after a regular end there is nothing.

    A request that it was serving is lost. One that it had counted but not handed over is dropped. Whether those that it
    was just handing over have arrived, the writer finds out.
    """
    row["dropped_writer_down"] += max(0, row["requests"] - row["sent"] - count_dropped(row))
    row["lost"] = row["begun"] - row["requests"]
    row["disconnected"] = row["connected"]


def settle_counts(counters: Counters) -> None:
    """Count what nobody will write any more as dropped, once all processes have ended."""
    known = counters.total("written") + sum(counters.dropped().values())
    counters.writer["dropped_writer_down"] += max(0, counters.total("requests") - known)
