"""The key of the epoch: how long it lives, and that nothing is left of it."""

import pickle
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.keys import ring as ring_module
from anonproxy.keys.ring import CLOCK_JUMP_S, KEY_BYTES, KeyRing, fill_random, next_cut, overwrite
from anonproxy.model.settings import PrivacySettings

NEW_YORK = ZoneInfo("America/New_York")
PRIVACY = PrivacySettings(time_zone="America/New_York")


def at(text: str) -> float:
    """Return the unix time of a UTC date and time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOON = at("2026-03-02 17:00")  # in New York; the cut was at 09:00 UTC
CUT = at("2026-03-03 09:00")


def keys(ring: KeyRing) -> bytes:
    """Return a copy of both subkeys, for comparison."""
    return bytes(ring.tag_key + ring.visit_key)


CUTS = [
    ("2026-03-02 17:00", 24, "2026-03-03 09:00"),
    ("2026-03-02 08:59", 24, "2026-03-02 09:00"),
    ("2026-03-02 09:00", 24, "2026-03-03 09:00"),  # the cut belongs to the epoch that begins
    ("2026-03-07 17:00", 24, "2026-03-08 08:00"),  # clocks go forward: 23 hours
    ("2026-10-31 17:00", 24, "2026-11-01 08:00"),  # clocks go back: after 24 hours …
    ("2026-11-01 08:30", 24, "2026-11-01 09:00"),  # … and at the cut, one hour later
    ("2026-03-02 17:00", 6, "2026-03-02 21:00"),
    ("2026-03-02 09:00", 6, "2026-03-02 15:00"),
    ("2026-03-03 06:00", 5, "2026-03-03 09:00"),  # 5 does not divide 24: the last epoch of a day is short
    ("2026-03-02 17:00", 1, "2026-03-02 18:00"),
]


@pytest.mark.parametrize(("now", "epoch_hours", "expected"), CUTS)
def test_epochs_end_at_the_cut(now: str, epoch_hours: int, expected: str) -> None:
    """An epoch ends at the local cut or after its hours, whichever comes first, on days of 23 and 25 hours, too."""
    assert next_cut(at(now), "04:00", NEW_YORK, epoch_hours * 3600) == at(expected)


@given(
    st.floats(0, 4e9),
    st.integers(1, 24),
    st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
    st.sampled_from(["00:00", "02:30", "04:00", "23:59"]),
)
def test_no_key_outlives_its_hours(now: float, epoch_hours: int, zone: str, cut: str) -> None:
    """Whatever the time and the zone, the end lies ahead and at most `epoch_hours` away."""
    end = next_cut(now, cut, ZoneInfo(zone), epoch_hours * 3600)
    assert now < end <= now + epoch_hours * 3600


def test_this_machines_zone_works() -> None:
    """Without a named zone the machine's own is used."""
    assert NOON < KeyRing(PrivacySettings(), NOON).destroy_after <= NOON + 24 * 3600


STEPS = [
    ("nothing happens", [1, 1, 1], 0),
    ("the cut", [CUT - NOON], 1),
    ("a small step back", [10, -60], 0),
    ("a long step back", [10, -CLOCK_JUMP_S - 1], 1),
    ("small steps back that add up", [10, *[-100] * 4], 1),
    ("a jump ahead, or a machine that slept", [CLOCK_JUMP_S + 1], 1),
    ("back by a day and forth again", [-86_400, 86_400], 2),
]


@pytest.mark.parametrize(("moves", "rotations"), [case[1:] for case in STEPS], ids=[case[0] for case in STEPS])
def test_the_clock_rotates_the_key(moves: list[float], rotations: int) -> None:
    """The end of the epoch and every jump make a new key; small corrections don't."""
    ring, now, seen = KeyRing(PRIVACY, NOON), NOON, 0
    for move in moves:
        now += move
        before = keys(ring)
        rotated = ring.rotate_when_due(now)
        assert rotated is (keys(ring) != before)
        seen += rotated
    assert seen == rotations


def test_no_key_ever_comes_back() -> None:
    """Through cuts and jumps in both directions, over the same times again, all keys differ."""
    ring, seen = KeyRing(PRIVACY, NOON), set()
    for now in [NOON, CUT, NOON, CUT, NOON - 1e7, NOON, CUT]:
        ring.rotate_when_due(now)
        seen.add(keys(ring))
    assert len(seen) == 7
    assert bytes(2 * KEY_BYTES) not in seen


def test_a_step_back_after_the_cut_makes_no_second_epoch() -> None:
    """A clock that trembles at the cut rotates once."""
    ring = KeyRing(PRIVACY, CUT - 1)
    assert [ring.rotate_when_due(CUT + tremble) for tremble in (-0.5, 0.1, -0.4, 0.2, -2, 3)].count(True) == 1


def test_wiping_overwrites_in_place() -> None:
    """After `wipe` the very bytes that held the keys are zero, and the ring is no longer live."""
    ring = KeyRing(PRIVACY, NOON)
    tag_key, visit_key = ring.tag_key, ring.visit_key
    ring.wipe()
    assert tag_key == visit_key == bytes(KEY_BYTES)
    assert ring.tag_key is tag_key
    assert not ring.is_live


def test_a_wiped_ring_rotates_back_to_life() -> None:
    """The next rotation after a wipe makes a fresh key."""
    ring = KeyRing(PRIVACY, NOON)
    old = keys(ring)
    ring.wipe()
    assert ring.rotate_when_due(NOON)
    assert ring.is_live
    assert keys(ring) != old


def test_subkeys_differ() -> None:
    """The key for tags says nothing about the key for visits."""
    ring = KeyRing(PRIVACY, NOON)
    assert ring.tag_key != ring.visit_key


def test_a_ring_shows_and_copies_nothing() -> None:
    """Neither repr nor pickle gets at the keys."""
    ring = KeyRing(PRIVACY, NOON)
    assert repr(ring) == "KeyRing(…)"
    with pytest.raises(TypeError):
        pickle.dumps(ring)


def test_a_source_that_gives_too_little_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is never partly random: nothing is tagged instead, and the next rotation tries again."""
    short = tmp_path / "short"
    short.write_bytes(b"\x01" * (KEY_BYTES - 1))
    ring = KeyRing(PRIVACY, NOON)
    with monkeypatch.context() as patch:
        patch.setattr(ring_module, "RANDOM_SOURCE", str(short))
        with pytest.raises(OSError, match="too little"):
            ring.rotate_when_due(CUT)
        assert not ring.is_live
        assert keys(ring) == bytes(2 * KEY_BYTES)
    assert ring.rotate_when_due(CUT)
    assert ring.is_live


def test_what_the_subkeys_come_from_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root, of which both subkeys can be made again, is gone from where it stood as soon as they are made."""
    roots: list[bytearray] = []

    def fill_and_tell(key: bytearray) -> None:
        fill_random(key)
        assert any(key)
        roots.append(key)

    monkeypatch.setattr(ring_module, "fill_random", fill_and_tell)
    KeyRing(PrivacySettings(), 0.0).rotate(1.0)
    assert roots == [bytes(KEY_BYTES)] * 2


def test_random_keys_fill_the_buffer_they_are_given() -> None:
    """The source writes into the bytearray itself, and overwriting leaves it in place."""
    key = bytearray(KEY_BYTES)
    fill_random(key)
    assert key != bytes(KEY_BYTES)
    overwrite(key)
    assert key == bytes(KEY_BYTES)
