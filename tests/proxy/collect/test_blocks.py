"""Blocks of lines reach the writer whole and in order; what there is no room for is counted."""

import os
import socket
from collections.abc import Iterator

import pytest

from anonproxy.proxy.channel import END, Receiver, open_channel
from anonproxy.proxy.collect import blocks
from anonproxy.proxy.collect.blocks import BlockSender, take_block
from anonproxy.proxy.counters import Counters


@pytest.fixture
def counters() -> Iterator[Counters]:
    """Give zeroed counters for one receiver."""
    made = Counters.create(workers=1)
    yield made
    os.close(made.fd)


def test_blocks_arrive_whole_and_in_order(counters: Counters) -> None:
    """What is put comes out, and the counts of lines agree at each step."""
    sending, receiving = open_channel()
    with sending, receiving:
        row = counters.workers[0]
        sender, receiver = BlockSender(sending, 0, row, lambda: True), Receiver(receiving, counters)
        for block in (b"a\nb\n", b"c\n"):
            sender.put(block)
        assert (row["requests"], row["sent"], counters.queued()) == (3, 3, 3)
        sender.pump()
        assert not sender.is_waiting
        assert take_block(receiver) == b"a\nb\n"
        assert counters.queued() == 1
        assert take_block(receiver) == b"c\n"
        sending.send(END)
        with pytest.raises(EOFError):
            take_block(receiver)


@pytest.mark.parametrize(("is_up", "reason"), [(True, "queue_full"), (False, "writer_down")])
def test_slow_writer_costs_lines_and_no_time(
    counters: Counters, monkeypatch: pytest.MonkeyPatch, is_up: bool, reason: str
) -> None:
    """Lines wait for a slow writer up to a limit; beyond it they are dropped and counted, and nobody waits."""
    monkeypatch.setattr(blocks, "MAX_WAITING_BYTES", 3_000_000)
    sending, receiving = open_channel()
    with sending, receiving:
        row = counters.workers[0]
        sender = BlockSender(sending, 0, row, lambda: is_up)
        block = (b"x" * 999 + b"\n") * 60
        for _ in range(400):
            sender.put(block)
            sender.pump()
        assert sender.is_waiting
        dropped = row[f"dropped_{reason}"]
        assert dropped > 0
        assert row["requests"] == 400 * 60 == row["sent"] + dropped
        receiver, taken = Receiver(receiving, counters), 0
        while receiver.is_waiting(0):
            taken += take_block(receiver).count(b"\n")
            sender.pump()
        assert taken == row["sent"]
        assert counters.writer["dropped_writer_down"] == 0, "the gap is nobody's loss but what was counted"


def test_block_that_is_too_long_is_counted(counters: Counters) -> None:
    """A block that the kernel doesn't let through is counted as lost, line by line, and holds up no other."""
    sending, receiving = open_channel()
    with sending, receiving:
        sender = BlockSender(sending, 0, counters.workers[0], lambda: True)
        receiver = Receiver(receiving, counters)
        limit = sending.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        for block in (b"before\n", b"x" * limit + b"\nlost\n", b"after\n"):
            sender.put(block)
        sender.pump()
        assert not sender.is_waiting
        assert [take_block(receiver), take_block(receiver)] == [b"before\n", b"after\n"]
        assert counters.writer["dropped_writer_down"] == 2
        assert counters.queued() == 0


def test_lines_of_a_killed_receiver_are_counted(counters: Counters) -> None:
    """Lines that waited in a receiver that was killed are counted as lost when the next one sends."""
    sending, receiving = open_channel()
    with sending, receiving:
        row = counters.workers[0]
        killed = BlockSender(sending, 0, row, lambda: True)
        killed.put(b"lost\nlost\n")
        heir = BlockSender(sending, 0, row, lambda: True)
        heir.put(b"kept\n")
        heir.pump()
        assert take_block(Receiver(receiving, counters)) == b"kept\n"
        assert counters.writer["dropped_writer_down"] == 2
        assert counters.queued() == 0
