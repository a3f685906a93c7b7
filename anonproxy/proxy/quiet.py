"""Silence: nothing that other people's code says reaches a terminal, a log file or a core dump with a value in it."""

import ctypes
import faulthandler
import io
import logging
import os
import resource
import signal
import sys
import threading
import warnings
from types import TracebackType
from typing import Any, Final

from anonproxy.proxy.say import Say, say

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
PR_SET_DUMPABLE: Final = 4


class QuietRecord(logging.LogRecord):
    """A log record that keeps where it was written and what type of error it is about, and nothing it was told."""

    def __init__(self, name: str, level: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(name, level, *args, **kwargs)
        error_type, _, traceback = self.exc_info or (None, None, None)
        self.where = describe_failure(error_type, traceback, f"{name}:{self.lineno}")
        self.msg = f"suppressed {self.where}"
        self.args = self.exc_info = self.exc_text = self.stack_info = None
        self.threadName = self.taskName = None

    # mitmproxy hands the visitor's address over as `extra`, which logging sets on the record afterwards.
    @property
    def client(self) -> None:
        """Return nothing, whatever was set."""


class LastWord(logging.Handler):
    """Hands what is left of a record over to our own log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say where an error was."""
        if isinstance(record, QuietRecord):
            say(Say.SUPPRESSED, where=record.where)


def describe_failure(error_type: type[BaseException] | None, traceback: TracebackType | None, where: str) -> str:
    """Describe an error by its type and place in the code; its text may hold anything."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    function = f"@{traceback.tb_frame.f_code.co_name}" if traceback else ""
    return f"{where} {error_type.__name__ if error_type else 'message'}{function}"


def silence() -> None:
    """Take the voice of everything but `say`, in this process and for good."""
    logging.disable(logging.WARNING)
    logging.setLogRecordFactory(QuietRecord)
    logging.raiseExceptions = False
    logging.lastResort = LastWord(logging.WARNING)
    warnings.simplefilter("ignore")
    faulthandler.disable()
    mute_native_code()
    sys.excepthook = lambda kind, _, traceback: _complain(describe_failure(kind, traceback, "main"))
    sys.unraisablehook = lambda args: _complain(describe_failure(args.exc_type, args.exc_traceback, "finalizer"))
    threading.excepthook = lambda args: _complain(describe_failure(args.exc_type, args.exc_traceback, "thread"))
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # mitmproxy prints its tasks, addresses included
        signal.signal(number, signal.SIG_IGN)


def mute_native_code() -> None:
    """Leave standard error to Python alone: what compiled code prints when it fails may quote what it worked on.

    A panic of Rust, a failed check of C++ and a fatal error of Python itself go to file number 2, wherever Python's own
    words go. Children are given the real one.
    """
    real = os.dup(sys.stderr.fileno())
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    # As Python opens it: a line is written at once, and what can't be written is kept nowhere.
    unbuffered = os.fdopen(real, "wb", buffering=0)
    sys.stderr = io.TextIOWrapper(unbuffered, "utf-8", "backslashreplace", line_buffering=True)


def harden() -> None:
    """Forbid core dumps and a look into this process's memory by others of its user.

    Source: prctl(2), core(5)
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(PR_SET_DUMPABLE, 0)


def follow_parent(parent: int) -> None:
    """End with SIGTERM when the supervisor ends, however it ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before we asked
        raise SystemExit(0)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _complain(where: str) -> None:
    say(Say.SUPPRESSED, where=where)
