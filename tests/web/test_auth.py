"""Only who knows the password gets in, and nobody gets to guess it."""

import base64

import pytest

from anonproxy.web import auth
from anonproxy.web.auth import Guesses, Sessions, hash_password, is_password


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hash take no time; what it costs is written in the hash itself."""
    monkeypatch.setattr(auth, "COST", 2**4)


class Clock:
    """A clock that the test sets."""

    time_s = 1_000.0

    def __call__(self) -> float:
        return self.time_s


def test_a_hash_knows_its_password_only() -> None:
    """A hash knows the password that it was made of, says nothing of it, and is different each time."""
    password = "correct horse – Bücherei"
    hashed = hash_password(password)
    assert is_password(password, hashed)
    assert not is_password(password + " ", hashed)
    assert password not in hashed
    assert hash_password(password) != hashed


def test_hashes_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash that is really made costs 64 MiB of memory, so that a stolen one can't be tried out quickly."""
    monkeypatch.undo()
    _, cost, block, _, salt, _ = hash_password("x").split("$")
    assert int(cost) * int(block) * 128 == 64 * 2**20
    assert len(base64.urlsafe_b64decode(salt + "==")) == 16


@pytest.mark.parametrize(
    "hashed", ["", "x", "scrypt$$$$$", "scrypt$16$8$1$AA$", "md5$16$8$1$AA$AA", "scrypt$3$8$1$AA$AA"]
)
def test_a_broken_hash_lets_nobody_in(hashed: str) -> None:
    """What isn't a hash is nobody's password, not even an empty one's."""
    assert not is_password("", hashed)
    assert not is_password(hashed, hashed)


def test_sessions_end() -> None:
    """A session is open until its time is over or its owner ends it, and no other token opens it."""
    clock = Clock()
    sessions = Sessions(clock, 60)
    token, other = sessions.begin(), sessions.begin()
    assert sessions.is_open(token)
    assert not sessions.is_open("")
    assert not sessions.is_open(token[:-1])
    sessions.end(token)
    assert not sessions.is_open(token)
    assert sessions.is_open(other)
    clock.time_s += 61
    assert not sessions.is_open(other)


def test_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often somebody logs in, memory holds a fixed number of sessions, the latest."""
    monkeypatch.setattr(auth, "MAX_SESSIONS", 2)
    sessions = Sessions(Clock(), 60)
    tokens = [sessions.begin() for _ in range(3)]
    assert [sessions.is_open(token) for token in tokens] == [False, True, True]


def test_guessing_takes_longer_each_time() -> None:
    """After five wrong passwords a client waits, each time twice as long, at most a quarter of an hour."""
    clock = Clock()
    guesses = Guesses(clock)
    waits = []
    for _ in range(18):
        guesses.fail("192.0.2.7")
        waits.append(guesses.wait_s("192.0.2.7"))
    assert waits[:8] == [0, 0, 0, 0, 1, 2, 4, 8]
    assert waits[-1] == 900
    assert guesses.wait_s("192.0.2.8") == 0
    clock.time_s += 901
    assert guesses.wait_s("192.0.2.7") == 0
    guesses.forget("192.0.2.7")
    guesses.fail("192.0.2.7")
    assert guesses.wait_s("192.0.2.7") == 0


def test_one_household_guesses_as_one() -> None:
    """An IPv6 client can't escape by another address of its /64, nor by text that is no address."""
    guesses = Guesses(Clock())
    for number in range(6):
        guesses.fail(f"2001:db8:1:2::{number}")
        guesses.fail(f"nonsense {number}")
    assert guesses.wait_s("2001:db8:1:2:ffff::1") > 0
    assert guesses.wait_s("2001:db8:1:3::1") == 0
    assert guesses.wait_s("other nonsense") > 0


def test_guessers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clients guess, memory holds a fixed number of them."""
    monkeypatch.setattr(auth, "MAX_GUESSERS", 2)
    guesses = Guesses(Clock())
    for number in range(1, 4):
        for _ in range(9):
            guesses.fail(f"192.0.2.{number}")
    assert [guesses.wait_s(f"192.0.2.{number}") > 0 for number in (1, 2, 3)] == [False, True, True]
