"""Who reads the lines: this process, or several others with a range of days each.

A reader gets names of files and sends days back through a pipe. No raw line, key or visit number leaves it, and no text
of an exception, which may hold one: `multiprocessing` would print it.
"""

import gc
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta, tzinfo
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, NamedTuple

from anonproxy.ingest.mistakes import describe, without_text
from anonproxy.ingest.pipeline import BlockRead, Lost, Task, find_zone, import_days
from anonproxy.ingest.sources import STDIN, Source, find_last_time
from anonproxy.model.errors import OperatorError
from anonproxy.store.imports import Made

Message = BlockRead | Lost | Made
Engine = Callable[[Task], Generator[Message]]

ONE_DAY: Final = timedelta(days=1)


# Objects that a reader makes before it looks for garbage among them, of which there is next to none: every 2,000, as by
# default, it took a tenth of the time.
MANY_OBJECTS: Final = 1_000_000

# Large columns come and go all the time. In huge pages, which the C library has to be asked for, they take a tenth less
# time and memory than with Arrow's own allocator; what the operator has set goes first.
MEMORY: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

# What a reader sends behind its last message.
END: Final = b""


class Failed(NamedTuple):
    """A reader can't go on. What it says of that can't hold a line."""

    what: str


def read_here(task: Task) -> Generator[Message]:
    """Read in this process, as one has to what comes from a pipe."""
    with without_text():
        yield from import_days(task)


def read_packed(packed_task: bytes, guard: Callable[[], None]) -> Iterator[bytes]:
    """Read in a process of its own, which begins with `guard`: from a packed task to packed messages.

    Raises: nothing, not even on packed bytes that can't be unpacked: whoever started the process would print it
    """
    try:
        guard()
        gc.set_threshold(MANY_OBJECTS)
        for message in import_days(pickle.loads(packed_task)):  # noqa: S301 - packed by whoever started this process
            yield pickle.dumps(message)
    except GeneratorExit:
        raise
    except BaseException as error:  # also what isn't an Exception: a panic of a library in Rust quotes its input
        yield pickle.dumps(Failed(describe(error)))


def unpack(packed: bytes) -> Message:
    """Unpack what a reader sent.

    Raises: OperatorError when it says that it can't go on
    """
    message: Message | Failed = pickle.loads(packed)  # noqa: S301 - packed by a process that we have started
    if isinstance(message, Failed):
        raise OperatorError(message.what)
    return message


def read_in_processes(count: int, guard: Callable[[], None]) -> Engine:
    """Read in so many processes, each of which begins with `guard`."""

    def read(task: Task) -> Generator[Message]:
        with without_text():
            cuts = plan_cuts(task, count)
        context = multiprocessing.get_context("spawn")
        readers: dict[Connection, BaseProcess] = {}
        try:
            with _surroundings():
                for part in range(len(cuts) + 1):
                    ours, theirs = context.Pipe(duplex=False)
                    mine = pickle.dumps(task._replace(cuts=cuts, part=part))
                    process: BaseProcess = context.Process(target=_read, args=(mine, theirs, guard), daemon=True)
                    process.start()
                    readers[ours] = process
                    theirs.close()
            yield from _gather(readers)
        finally:
            for connection, process in readers.items():
                process.terminate()
                connection.close()
                process.join()

    return read


@contextmanager
def _surroundings() -> Iterator[None]:
    """Give processes that start now their allocator, and no Ctrl-C: a terminal tells all, but this one ends them."""
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    missing = {name: value for name, value in MEMORY.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
        signal.signal(signal.SIGINT, heard)


def _gather(readers: dict[Connection, BaseProcess]) -> Iterator[Message]:
    reading = dict(readers)
    while reading:
        ready = wait(list(reading))
        for connection in [each for each in reading if each in ready]:
            try:
                packed = connection.recv_bytes()
            except (EOFError, OSError):  # it ended between two messages, or within one
                process = reading.pop(connection)
                process.join()
                raise OperatorError(
                    f"a process that read logs ended with status {process.exitcode}; -9 is usually the kernel, out of "
                    "memory. Start the same import again, with fewer --jobs: it goes on with the days that are missing"
                ) from None
            if packed == END:
                reading.pop(connection).join()
            else:
                yield unpack(packed)


def _read(packed_task: bytes, connection: Connection, guard: Callable[[], None]) -> None:
    with suppress(OSError):  # nobody listens any more
        for packed in read_packed(packed_task, guard):
            connection.send_bytes(packed)
        connection.send_bytes(END)


def plan_cuts(task: Task, count: int) -> tuple[date, ...]:
    """Find dates that cut the logs into so many ranges, of about as many bytes each."""
    if count == 1 or any(source.path == STDIN for source in task.sources):
        return ()
    weights: dict[date, float] = {}
    for source, last_s in zip(task.sources, find_ends(task.sources, find_zone(task.settings.privacy)), strict=True):
        first, last = (datetime.fromtimestamp(time_s, UTC).date() for time_s in (source.starts_at, last_s))
        dates = [first + ONE_DAY * number for number in range(max(1, (last - first).days + 1))]
        for each in dates:
            weights[each] = weights.get(each, 0.0) + source.size_bytes / len(dates)
    cuts: list[date] = []
    done, total = 0.0, sum(weights.values())
    for each in sorted(weights):
        if done >= total * (len(cuts) + 1) / count:
            cuts.append(each)
        done += weights[each]
    return tuple(cuts)


def find_ends(sources: Sequence[Source], zone: tzinfo) -> Iterator[float]:
    """Find where each log ends, or about where: a compressed one is taken to end where the next one begins."""
    for source, following in zip(sources, [*sources[1:], None], strict=True):
        if source.is_compressed and following:
            yield max(source.starts_at, following.starts_at)
        else:
            yield find_last_time(source, zone)
