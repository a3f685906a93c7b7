"""What the worker and the writer have in common: how they are started, told what to do, and kept quiet."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Final, Self

from anonproxy.model.settings import Settings
from anonproxy.proxy import quiet
from anonproxy.proxy.say import speak

EXIT_OPERATOR: Final = 2  # of a child that can't work with these settings, and has said so

# What ends a process that hasn't begun to say otherwise. Each may reach a whole group of processes at any moment.
HELD: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the supervisor tells a child, over its standard input: arguments and environment can be read by others."""

    settings: Settings
    parent: int  # process id of the supervisor
    counters_fd: int
    channel_fd: int
    index: int = 0  # which worker
    listen_fds: tuple[int, ...] = ()  # the sockets that visitors reach
    tls_fds: tuple[int, ...] = ()  # those that they reach over TLS
    asked_fds: tuple[int, ...] = ()  # where the supervisor asks who asks most
    lock_fds: tuple[int, ...] = ()  # the right to write to the store
    own_pages: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the assignment as it travels."""
        plain = {name: value for name, value in asdict(self).items() if name != "settings"}
        return json.dumps({**plain, "settings": self.settings.model_dump(mode="json")}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read an assignment."""
        plain = json.loads(text)
        plain["settings"] = Settings.model_validate(plain["settings"])
        for name in ("listen_fds", "tls_fds", "asked_fds", "lock_fds"):
            plain[name] = tuple(plain[name])
        return cls(**plain)

    @property
    def inherited_fds(self) -> tuple[int, ...]:
        """Return the open files that the child must inherit."""
        named = (*self.listen_fds, *self.tls_fds, *self.asked_fds, *self.lock_fds)
        return (self.counters_fd, self.channel_fd, *named)


@contextmanager
def hold_signals() -> Iterator[None]:
    """Hold signals back in this thread, and in a child that it starts now until the child heeds them.

    Source: signal(7), which says that the mask is inherited
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:  # not as before: several children may be on their way at once
        heed_signals()


def heed_signals() -> None:
    """Let signals come, those as well that were held back, once it is said what they do."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def begin_child(*ignored: signal.Signals) -> Assignment:
    """Fall silent, ignore signals that are the supervisor's to answer, and return what it wants done.

    The others are held back until `heed_signals`.
    """
    quiet.silence()
    quiet.harden()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, *ignored):
        signal.signal(number, signal.SIG_IGN)
    assignment = Assignment.from_json(sys.stdin.buffer.read())
    speak(assignment.settings.proxy.log_format)
    return assignment
