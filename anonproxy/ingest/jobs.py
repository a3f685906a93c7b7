"""Who reads the lines: this process, or several others with a range of days each.

A reader gets names of files and sends days back through a pipe. No raw line, key or visit number leaves it.
"""

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, NamedTuple

from anonproxy.ingest.pipeline import BlockRead, Lost, Task, find_zone, import_days
from anonproxy.ingest.sources import STDIN, Source, find_last_time
from anonproxy.model.errors import OperatorError
from anonproxy.store.imports import Made

Message = BlockRead | Lost | Made
Engine = Callable[[Task], Generator[Message]]

ONE_DAY: Final = timedelta(days=1)


class Failed(NamedTuple):
    """A reader met a mistake of this software. What it says of it can't hold a line."""

    what: str


def read_here(task: Task) -> Generator[Message]:
    """Read in this process, as one has to what comes from a pipe."""
    try:
        yield from import_days(task)
    except Exception as error:  # its text may hold a line, so nothing of it is kept
        raise OperatorError(describe(error)) from None


def read_in_processes(count: int, guard: Callable[[], None]) -> Engine:
    """Read in so many processes, each of which begins with `guard`."""

    def read(task: Task) -> Generator[Message]:
        cuts = plan_cuts(task, count)
        context = multiprocessing.get_context("spawn")
        readers: dict[Connection, BaseProcess] = {}
        try:
            for part in range(len(cuts) + 1):
                ours, theirs = context.Pipe(duplex=False)
                mine = task._replace(cuts=cuts, part=part)
                readers[ours] = context.Process(target=_read, args=(mine, theirs, guard), daemon=True)
                readers[ours].start()
                theirs.close()
            yield from _gather(readers)
        finally:
            for connection, process in readers.items():
                process.terminate()
                connection.close()
                process.join()

    return read


def _gather(readers: dict[Connection, BaseProcess]) -> Iterator[Message]:
    reading = dict(readers)
    while reading:
        ready = wait(list(reading))
        for connection in [each for each in reading if each in ready]:
            try:
                message = connection.recv()
            except EOFError:
                process = reading.pop(connection)
                process.join()
                raise OperatorError(
                    f"a process that read logs ended with status {process.exitcode}; -9 is usually the kernel, out of "
                    "memory. Start the same import again, with fewer --jobs: it goes on with the days that are missing"
                ) from None
            match message:
                case None:
                    reading.pop(connection).join()
                case Failed():
                    raise OperatorError(message.what)
                case _:
                    yield message


def _read(task: Task, connection: Connection, guard: Callable[[], None]) -> None:
    guard()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent says when to end
    try:
        for message in import_days(task):
            connection.send(message)
        connection.send(None)
    except BrokenPipeError:
        return
    except Exception as error:
        connection.send(Failed(describe(error)))


def describe(error: Exception) -> str:
    """Describe a mistake by its type and place in the code; its text may hold anything."""
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    place = f" in {traceback.tb_frame.f_code.co_name}, line {traceback.tb_lineno}" if traceback else ""
    return (
        f"the import met a mistake of this software ({type(error).__name__}{place}). Report it; it holds nothing of "
        "your logs. The days before it are imported"
    )


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
