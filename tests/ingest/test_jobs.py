"""Processes that read: whatever becomes of one, nothing of a log is printed, and the operator is told what helps."""

import multiprocessing
import os
import pickle
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import pytest

from anonproxy.audit.search import search_bytes
from anonproxy.ingest import jobs, sources
from anonproxy.ingest.jobs import read_here, read_in_processes
from anonproxy.ingest.pipeline import Lost, Task
from anonproxy.model.errors import OperatorError
from anonproxy.store.imports import Made
from tests.ingest.test_run_import import do_nothing
from tests.support.invented_logs import invent, plan, settings, write_log
from tests.support.marked_requests import Marks

SPAWN = multiprocessing.get_context("spawn")


class Panic(BaseException):
    """What libraries in Rust raise: it is no Exception, and quotes what it was given."""


def fail(error: type[BaseException], secret: str) -> NoReturn:
    """Make a mistake whose text holds a line, while another one is handled."""
    try:
        raise ValueError(secret)
    except ValueError:
        raise error(f"can't read {secret}")  # noqa: B904 - the chain is what Python would print


class Unpackable:
    """What can be packed, but quotes a line when it is unpacked."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __reduce__(self) -> Any:
        return fail, (ValueError, self._secret)


class Unpicklable:
    """What quotes a line when it is packed."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __reduce__(self) -> Any:
        fail(ValueError, self._secret)


def read_instead(messages: Callable[[], Iterator[Any]]) -> None:
    """Begin a reader that reads nothing, but sends these messages."""
    vars(jobs)["import_days"] = lambda task: messages()


def send_one(secret: str) -> Iterator[Any]:
    """Send what can't be packed."""
    yield Unpicklable(secret)


def send_and_fail(error: type[BaseException], secret: str) -> Iterator[Any]:
    """Send a message, and then make a mistake."""
    yield Lost(Counter())
    fail(error, secret)


MISHAPS: dict[str, Callable[[str], Callable[[], None]]] = {
    "in the guard": lambda secret: partial(fail, OSError, secret),
    "while reading": lambda secret: partial(read_instead, partial(send_and_fail, ValueError, secret)),
    "a panic": lambda secret: partial(read_instead, partial(send_and_fail, Panic, secret)),
    "while packing": lambda secret: partial(read_instead, partial(send_one, secret)),
}


def start(packed_task: bytes, theirs: Connection, guard: Callable[[], None]) -> int | None:
    """Let a reader run to its end, and return its status."""
    process = SPAWN.Process(target=jobs._read, args=(packed_task, theirs, guard))
    process.start()
    theirs.close()
    process.join(60)
    return process.exitcode


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Return the task of importing a short log."""
    return plan(settings(tmp_path / "store"), write_log(tmp_path / "a.log", invent(days=1)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mishap", "is_heard"),
    [
        ("in the guard", True),
        ("while reading", True),
        ("while reading", False),
        ("a panic", True),
        ("while packing", False),
    ],
)
def test_a_mistake_prints_nothing(mishap: str, is_heard: bool, task: Task, capfd: pytest.CaptureFixture[str]) -> None:
    """Wherever it is made, and whether anybody listens or not: no byte of its text is printed or sent."""
    marks = Marks()
    secret = marks.word("line of a log")
    ours, theirs = SPAWN.Pipe(duplex=False)
    if not is_heard:
        ours.close()
    assert start(pickle.dumps(task), theirs, MISHAPS[mishap](secret)) == 0
    printed = "".join(capfd.readouterr())
    assert printed == ""
    sent: list[bytes] = []
    while is_heard and (not sent or sent[-1]):
        sent.append(ours.recv_bytes())
    assert search_bytes(b"".join(sent), marks.made).hits == []
    if is_heard:
        with pytest.raises(OperatorError, match="mistake of this software"):
            jobs.unpack(sent[-2])


def test_a_task_that_can_not_be_unpacked_prints_nothing() -> None:
    """A reader unpacks its task where its mistakes are caught."""
    (packed,) = jobs.read_packed(pickle.dumps(Unpackable("secret line")), lambda: None)
    assert b"secret" not in packed
    with pytest.raises(OperatorError, match=r"\(ValueError in fail, line \d+\)"):
        jobs.unpack(packed)


@pytest.mark.parametrize("error", [ValueError, Panic])
def test_a_mistake_in_this_process_shows_no_text(
    error: type[BaseException], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that comes through a pipe is read here, and nothing of it is printed either."""
    monkeypatch.setattr(jobs, "import_days", lambda task: send_and_fail(error, "secret line"))
    with pytest.raises(OperatorError, match="mistake of this software") as caught:
        list(read_here(task))
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_mistakes_before_anything_is_read_show_no_text(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To find the format of a log and to share it out, this process has to look into it."""
    monkeypatch.setattr(sources, "parse_lines", lambda *_, **__: fail(Panic, "secret line"))
    for look in (lambda: plan(task.settings, tmp_path / "a.log"), lambda: list(read_in_processes(2, do_nothing)(task))):
        with pytest.raises(OperatorError, match=r"mistake of this software \(Panic in fail") as caught:
            look()
        assert "secret" not in str(caught.value)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("engine", [read_here, pytest.param(read_in_processes(1, do_nothing), marks=pytest.mark.slow)])
def test_what_the_operator_can_mend_is_said(engine: jobs.Engine, task: Task, tmp_path: Path) -> None:
    """A database or a log that isn't there any more is no mistake of this software."""
    country = task.settings.country.model_copy(update={"database": str(tmp_path / "missing.mmdb")})
    without = task._replace(settings=task.settings.model_copy(update={"country": country}))
    with pytest.raises(OperatorError, match=r"country.database: .*missing.mmdb can't be read"):
        list(engine(without))
    (tmp_path / "a.log").unlink()
    with pytest.raises(OperatorError, match=r"a\.log: can't be read, No such file or directory"):
        list(engine(task))


def send_half(theirs: Connection) -> None:
    """End like a process that the kernel kills while it sends a day."""
    os.write(theirs.fileno(), b"\0\0\1\0half")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_is_killed_within_a_message_is_told_of() -> None:
    """The operator learns with which status it ended, what that usually means, and what helps."""
    ours, theirs = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=send_half, args=(theirs,))
    process.start()
    theirs.close()
    with pytest.raises(OperatorError, match=r"ended with status -9; .* fewer --jobs"):
        list(jobs._gather({ours: process}))


@pytest.mark.slow
def test_readers_do_not_hear_the_terminal(task: Task, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C reaches all processes of a terminal; those that read are ended by their parent, and print nothing."""
    reading = read_in_processes(1, ignore_nothing)(task)
    first = next(reading)
    (child,) = multiprocessing.active_children()
    assert child.pid
    os.kill(child.pid, signal.SIGINT)
    messages = [first, *reading]
    assert any(isinstance(message, Made) for message in messages)
    assert "".join(capfd.readouterr()) == ""


def ignore_nothing() -> None:
    """Begin a reader that would hear Ctrl-C if it wasn't made deaf."""
    os.kill(os.getpid(), signal.SIGINT)
