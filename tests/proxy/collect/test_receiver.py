"""The receiver takes what comes by any way, as the lines that were sent."""

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonproxy.proxy.channel import Receiver, open_channel
from anonproxy.proxy.collect.blocks import BlockSender, take_block
from anonproxy.proxy.collect.receiver import GATHER_S, Intake, receive_all
from anonproxy.proxy.counters import Counters


@pytest.fixture
def counters() -> Iterator[Counters]:
    """Give zeroed counters for one receiver."""
    made = Counters.create(workers=1)
    yield made
    os.close(made.fd)


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[list[socket.socket]]:
    """Give one of each kind."""
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)),
            stack.enter_context(socket.create_server(("127.0.0.1", 0))),
        ]
        made[0].bind(("127.0.0.1", 0))
        made[1].bind(str(tmp_path / "s"))
        yield made


def test_no_room_for_another_connection_ends_nothing(counters: Counters, listeners: list[socket.socket]) -> None:
    """While no file can be opened a connection waits, and what comes by other ways is taken; afterwards it is read."""
    before, limits = signal.getsignal(signal.SIGTERM), resource.getrlimit(resource.RLIMIT_NOFILE)
    sending, receiving = open_channel()
    try:
        with sending, receiving, contextlib.ExitStack() as stack:
            intake = Intake(listeners, BlockSender(sending, 0, counters.workers[0], lambda: True))
            stream = stack.enter_context(socket.create_connection(listeners[2].getsockname()))
            stream.sendall(b"two\n")
            out = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            out.sendto(b"one", listeners[0].getsockname())
            with open(os.devnull) as last:
                resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno(), limits[1]))
                intake.look(is_waiting=False)
            intake.hand_over()
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for _ in range(2):  # to accept, and to read
                intake.look()
            intake.hand_over()
            intake.look(is_waiting=False)
            receiver = Receiver(receiving, counters)
            assert [take_block(receiver), take_block(receiver)] == [b"one\n", b"two\n"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, before)


def test_lines_that_come_one_by_one_share_a_block(
    counters: Counters, listeners: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the receiver looks: a block for each would cost it and the writer most of their time."""
    before, time_s = signal.getsignal(signal.SIGTERM), [1000.0]
    monkeypatch.setattr("anonproxy.proxy.collect.receiver.steady", lambda: time_s[0])
    sending, receiving = open_channel()
    try:
        with sending, receiving, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            intake = Intake(listeners[:1], BlockSender(sending, 0, counters.workers[0], lambda: True))
            for number in range(10):
                out.sendto(b"%d" % number, listeners[0].getsockname())
                intake.look()
                assert counters.workers[0]["sent"] == 0
            time_s[0] += 2 * GATHER_S
            intake.look(is_waiting=False)
            assert take_block(Receiver(receiving, counters)) == b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n"
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, before)


def test_every_way_leads_to_the_writer(counters: Counters, listeners: list[socket.socket]) -> None:
    """Datagrams with and without newlines, a stream in pieces and one that ends without a newline: each line arrives
    once, empty ones never, also what came just before the end."""
    before = signal.getsignal(signal.SIGTERM)
    sending, receiving = open_channel()
    try:
        with sending, receiving, contextlib.ExitStack() as stack:
            sender = BlockSender(sending, 0, counters.workers[0], lambda: True)
            intake = Intake(listeners, sender)
            for listener in listeners[:2]:
                out = stack.enter_context(socket.socket(listener.family, socket.SOCK_DGRAM))
                for message in (b"one", b"two\n", b"", b"\n", b"three\nfour", b"x" * 60_000):
                    out.sendto(message, listener.getsockname())
                    intake.look(is_waiting=False)
            stream = stack.enter_context(socket.create_connection(listeners[2].getsockname()))
            for piece in (b"fi", b"ve\nsix", b"\n\nsev"):
                stream.sendall(piece)
                intake.look()
            stream.sendall(b"en")
            stream.close()
            os.kill(os.getpid(), signal.SIGTERM)
            receive_all(intake, sender, drain_s=5.0)
            sending.close()
            receiver, lines = Receiver(receiving, counters), []
            with contextlib.suppress(EOFError):
                while True:
                    lines += take_block(receiver).splitlines()
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, before)
    assert sorted(lines) == sorted([*(b"one", b"two", b"three", b"four", b"x" * 60_000) * 2, b"five", b"six", b"seven"])
    assert counters.workers[0]["requests"] == len(lines) == counters.workers[0]["seen"]
