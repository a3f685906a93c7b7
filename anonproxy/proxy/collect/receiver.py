"""The receiver: takes log lines from the kernel as fast as they come, and hands them to the writer in blocks.

It looks into no line, holds no key and writes nothing. What it is slow to take is lost: that is why it does no more.
"""

import contextlib
import gc
import selectors
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

from anonproxy.clock import steady
from anonproxy.ingest.stream import BrokenStream, LineReader
from anonproxy.proxy import quiet
from anonproxy.proxy.child import begin_child, heed_signals
from anonproxy.proxy.collect.blocks import BUFFER_BYTES, FULL_BYTES, BlockSender
from anonproxy.proxy.counters import Counters

NEWLINE: Final = 0x0A
READ_BYTES: Final = 64 * 1024
# How long lines wait for others to share a block with.
GATHER_S: Final = 0.05
# How often blocks that the writer had no room for are tried again.
RETRY_S: Final = 0.01
# A break after all datagrams have been taken, so that several come together and not each wakes a process. An AF_UNIX
# socket holds too few of them for that (net.unix.max_dgram_qlen).
NAP_S: Final = 0.002
# Datagrams that one listener may have taken before the others get their turn.
TURN: Final = 1024
# Servers keep one connection open, or one for each of their processes.
MAX_CONNECTIONS: Final = 256


class Block:
    """Lines that have come since the last block was taken, in a buffer that is used again and again."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(BUFFER_BYTES))
        self.end = 0

    def append(self, lines: bytes) -> None:
        """Take whole lines."""
        self.view[self.end : self.end + len(lines)] = lines
        self.end += len(lines)

    def take(self) -> bytes:
        """Return what has come, without empty lines."""
        block, self.end = bytes(self.view[: self.end]), 0
        while b"\n\n" in block:
            block = block.replace(b"\n\n", b"\n")
        return block.removeprefix(b"\n")


def take_datagrams(listener: socket.socket, block: Block) -> None:
    """Take what has come, until the block is full; each datagram is a line, or several."""
    receive, view, end, last = listener.recv_into, block.view, block.end, BUFFER_BYTES - 1
    with contextlib.suppress(BlockingIOError):
        for _ in range(TURN):
            if end > FULL_BYTES:
                break
            end += receive(view[end:last])
            view[end] = NEWLINE
            end += 1
    block.end = end


def wake_on_signals(*numbers: signal.Signals) -> socket.socket:
    """Return what can be read once one of the signals has come."""
    waking, woken = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.detach())
    for number in numbers:
        signal.signal(number, lambda _number, _frame: None)
    return woken


class Intake:
    """Everything that lines come in by."""

    def __init__(self, listeners: list[socket.socket], sender: BlockSender) -> None:
        self._sender = sender
        self._block = Block()
        self._gathering_since_s = 0.0
        self._selector = selectors.DefaultSelector()
        self._connections = 0
        self.is_stopping = False
        self._watch(wake_on_signals(signal.SIGTERM), self._stop)
        for listener in listeners:
            listener.setblocking(False)
            act = self._take_datagrams if listener.type == socket.SOCK_DGRAM else self._accept
            self._watch(listener, act)
        is_narrow = any(listener.family == socket.AF_UNIX for listener in listeners)
        self._nap_s = 0.0 if is_narrow else NAP_S

    def _watch(self, source: socket.socket, act: Callable[[socket.socket], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, act)

    def look(self, is_waiting: bool = True) -> bool:
        """Wait for lines, but no longer than others may wait; return whether any came."""
        ready = self._selector.select(self._patience_s() if is_waiting else 0.0)
        for key, _ in ready:
            if self._block.end > FULL_BYTES:
                self.hand_over()
            key.data(key.fileobj)
        if self._block.end:
            now_s = steady()
            self._gathering_since_s = self._gathering_since_s or now_s
            if self._block.end > FULL_BYTES or now_s - self._gathering_since_s >= GATHER_S:
                self.hand_over()
        self._sender.pump()
        if ready and self._nap_s:
            time.sleep(self._nap_s)
        return bool(ready)

    def hand_over(self) -> None:
        """Hand the block over, full or not."""
        if block := self._block.take():
            self._sender.put(block)
        self._gathering_since_s = 0.0

    def _patience_s(self) -> float | None:
        if self._sender.is_waiting:
            return RETRY_S
        if self._block.end:
            return max(0.0, GATHER_S - (steady() - self._gathering_since_s))
        return None

    def _stop(self, signals: socket.socket) -> None:
        self._selector.unregister(signals)
        self.is_stopping = True

    def _take_datagrams(self, listener: socket.socket) -> None:
        take_datagrams(listener, self._block)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # nobody is there any more, or there is no room: it is tried again
            connection, _ = listener.accept()
            if self._connections >= MAX_CONNECTIONS:
                connection.close()
                return
            self._connections += 1
            connection.setblocking(False)
            reader = LineReader()
            self._watch(connection, lambda source: self._read(source, reader))

    def _read(self, connection: socket.socket, reader: LineReader) -> None:
        """Read from a connection; what isn't framed as it began ends it."""
        try:
            piece = connection.recv(READ_BYTES)
            self._block.append(reader.feed(piece) if piece else reader.end())
        except BlockingIOError:
            return
        except (OSError, BrokenStream):
            piece = b""
        if not piece:
            self._selector.unregister(connection)
            connection.close()
            self._connections -= 1


def receive_all(intake: Intake, sender: BlockSender, drain_s: float) -> None:
    """Receive until SIGTERM, then take what the kernel still holds and see it off to the writer."""
    while not intake.is_stopping:
        intake.look()
    ends_s = steady() + drain_s
    while intake.look(is_waiting=False) and steady() < ends_s:
        pass
    intake.hand_over()
    while sender.is_waiting and steady() < ends_s:
        sender.pump()
        time.sleep(RETRY_S)


def main() -> None:
    """Run as a child of the supervisor."""
    assignment = begin_child()
    quiet.follow_parent(assignment.parent)
    counters = Counters(assignment.counters_fd)
    row = counters.workers[assignment.index]
    channel = socket.socket(fileno=assignment.channel_fd)
    sender = BlockSender(channel, assignment.index, row, lambda: bool(counters.writer["ready"]))
    intake = Intake([socket.socket(fileno=fd) for fd in assignment.listen_fds], sender)
    heed_signals()  # stopped before, it still takes what has come
    gc.freeze()  # what was imported stays; the collector need not look at it again
    row["ready"] = 1
    receive_all(intake, sender, assignment.settings.proxy.drain_s)
    row["ready"] = 0


if __name__ == "__main__":
    main()
