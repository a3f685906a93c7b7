"""The line to the recorder: words and answers, and talks that go on beside them."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anonproxy.ingest import control as module
from anonproxy.ingest.control import MAX_BYTES, PATIENCE_S, Control, ask, call, receive, receive_bytes, send, send_bytes
from anonproxy.model.errors import StoreError
from tests.ingest.test_recorder import PROJECT

WITHIN_S = 20.0


@contextmanager
def answering(root: Path, talk: object = None) -> Iterator[Control]:
    """Answer for a store."""
    control = Control(root, {"status": lambda: {"is_well": True}}, {"talk": talk} if talk else {})  # type: ignore[dict-item]
    try:
        yield control
    finally:
        control.close()


def echo(connection: socket.socket) -> None:
    """Give back what comes, however long it is."""
    while True:
        data = receive_bytes(connection, receive(connection)["length"])
        send(connection, {"length": len(data)})
        send_bytes(connection, data)


@pytest.mark.parametrize("length", [0, 1, MAX_BYTES, MAX_BYTES + 1, 3_000_000])
def test_bytes_of_any_length_go_through(tmp_path: Path, length: int) -> None:
    """They come out as they went in, and the next message is the next message."""
    data = bytes(number % 251 for number in range(length))
    with answering(tmp_path, echo), call(tmp_path, "talk") as connection:
        for _ in range(2):
            sending = threading.Thread(target=_say, args=(connection, data))
            sending.start()
            assert receive_bytes(connection, receive(connection)["length"]) == data
            sending.join(WITHIN_S)


def _say(connection: socket.socket, data: bytes) -> None:
    send(connection, {"length": len(data)})
    send_bytes(connection, data)


def test_words_are_answered_during_a_talk(tmp_path: Path) -> None:
    """Who talks for hours is in nobody's way, and a talk that ends badly isn't either."""
    with answering(tmp_path, echo):
        with call(tmp_path, "talk") as connection, call(tmp_path, "talk") as other:
            assert ask(tmp_path, "status") == {"is_well": True}
            connection.send(b"no message")
            with pytest.raises(EOFError):
                receive(connection)
            _say(other, b"x")
            assert receive(other) == {"length": 1}
        assert ask(tmp_path, "status") == {"is_well": True}


def test_who_says_nothing_is_in_nobodys_way_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question waits for the one before it no longer than for its first word."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    with answering(tmp_path), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(module.socket_name(tmp_path))
        monkeypatch.setattr(module, "ANSWER_S", WITHIN_S)
        assert ask(tmp_path, "status") == {"is_well": True}


def fail() -> dict[str, object]:
    """Meet a mistake."""
    raise KeyError


def test_a_word_that_cant_be_answered_is_not_the_end(tmp_path: Path) -> None:
    """Whatever goes wrong with one question, the next is answered."""
    control = Control(tmp_path, {"fail": fail, "status": lambda: {"is_well": True}}, {})
    with pytest.raises(StoreError):
        ask(tmp_path, "fail")
    assert ask(tmp_path, "status") == {"is_well": True}
    control.close()


def test_talks_end_with_the_recorder(tmp_path: Path) -> None:
    """The other end hears it at once, and nobody answers any more."""
    with answering(tmp_path, echo) as control, call(tmp_path, "talk") as connection:
        _say(connection, b"x")
        receive(connection)
        receive_bytes(connection, 1)
        connection.settimeout(PATIENCE_S / 4)  # sooner than the other end would hang up by itself
        control.close()
        with pytest.raises(EOFError):
            receive(connection)
        with pytest.raises(StoreError, match="nothing records"):
            ask(tmp_path, "status")
        with pytest.raises(ConnectionRefusedError):
            call(tmp_path, "talk")


TALK = """
import os, socket, sys
from pathlib import Path
from anonproxy.ingest.control import socket_name
name = socket_name(Path(sys.argv[1]))
os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
    connection.connect(name)
    try:
        connection.send(b"talk")
        connection.send(b'{"length": 1}')
        connection.send(b"x")
        print(connection.recv(4096))
    except OSError:
        print("hung up")
"""


def test_another_user_cant_talk(tmp_path: Path) -> None:
    """The kernel says who it is: only root and the recorder's own user may hand anything over."""
    with answering(tmp_path, echo):
        heard = [
            subprocess.run([sys.executable, "-c", TALK, tmp_path, user], cwd=PROJECT, stdout=subprocess.PIPE).stdout
            for user in ("0", "65534")
        ]
    assert b"length" in heard[0]
    assert heard[1].strip() in {b"hung up", b"b''"}
