"""Tests of deletion."""

import datetime
from pathlib import Path

import pytest

from anonproxy.store.layout import Day, Kind, days
from anonproxy.store.purge import expires_at, purge
from anonproxy.store.read import open_store
from anonproxy.store.settle import settle
from tests.store.examples import DATE, DAY_S, HOUR_S, MIDNIGHT, K, Notes, hit, settings, tree, visits, write
from tests.store.kill import deaths, killed_after


def day(text: str) -> Day:
    """Return a day."""
    return Day(Path(), "www", datetime.date.fromisoformat(text))


@pytest.mark.parametrize(
    ("kind", "date", "months", "expires"),
    [
        ("hot", DATE, 25, "2026-11-23"),
        ("hits", DATE, 25, "2027-02-19"),
        ("daily", DATE, 25, "2028-12-21"),
        ("vocabulary", DATE, 1, "2026-12-21"),
        ("daily", "2027-01-31", 1, "2027-02-28"),
        ("daily", "2026-12-31", 14, "2028-02-29"),
    ],
)
def test_each_tier_has_its_age(kind: Kind, date: str, months: int, expires: str) -> None:
    """A day is as old as its first second, and never kept longer than was promised."""
    assert expires_at(day(date), kind, settings(daily_months=months)) == day(expires).starts_at


def test_each_tier_is_deleted_at_its_age_and_not_before(tmp_path: Path) -> None:
    """Whole files go, each with an entry in the journal, and the folders with them."""
    write(tmp_path, visits(12))
    settle(tmp_path, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    for age_days, gone, left in [
        (90, "hits", {"daily", "vocabulary"}),
        (761, "daily", set()),
    ]:
        notes = Notes()
        now = MIDNIGHT + age_days * DAY_S
        assert purge(tmp_path, now - 1, settings(), K, notes) == []
        assert notes == []
        purge(tmp_path, now, settings(), K, notes, dry_run=True)
        assert len(days(tmp_path, "daily")) == 1
        purge(tmp_path, now, settings(), K, notes)
        assert notes[0] == ("purged", {"tier": gone, "site": "www", "date": DATE})
        assert notes[: len(notes) // 2] == notes[len(notes) // 2 :]
        assert {name.partition("/")[0] for name in tree(tmp_path)} == left
    assert not list(tmp_path.glob("*/*/date=*"))


def test_with_the_rows_go_the_values_that_only_they_held(tmp_path: Path) -> None:
    """Networks, and pages that are (other) in the totals, stay no longer than the rows; killed at any step or not."""
    crowd = visits(12, network="203.0.113.0/24", campaign="autumn") + visits(3, first=20, route="/events")
    for changes in deaths():
        root = tmp_path / str(changes)
        write(root, crowd)
        settle(root, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
        with killed_after(changes) as fate:
            purge(root, MIDNIGHT + 90 * DAY_S, settings(), K, Notes())
        purge(root, MIDNIGHT + 90 * DAY_S, settings(), K, Notes())
        with open_store(root).connect() as connection:
            held = connection.execute('SELECT "column", value FROM vocabulary ORDER BY ALL').fetchall()
            assert connection.execute("SELECT count(*) FROM hits").fetchone() == (0,)
        assert held == [
            ("campaign", "autumn"),
            ("language", "en"),
            ("network_class", "remote"),
            ("referrer", "(direct)"),
        ]
        if not fate.came:
            break


def test_what_is_still_hot_past_its_time_is_settled_first(tmp_path: Path) -> None:
    """A machine that was off for a week loses no statistics."""
    write(tmp_path, visits(12))
    notes = Notes()
    purge(tmp_path, MIDNIGHT + 7 * DAY_S, settings(), K, notes)
    assert notes.events() == ["sealed", "settled"]
    assert [name.partition("/")[0] for name in tree(tmp_path)] == ["daily", "hits", "vocabulary"]


def test_visit_numbers_go_even_if_settling_fails(tmp_path: Path) -> None:
    """Keeping them is the greater harm; the journal says what happened."""
    write(tmp_path, visits(12))
    (tmp_path / "hits").write_text("in the way")
    notes = Notes()
    foreign = purge(tmp_path, MIDNIGHT + 48 * HOUR_S, settings(), K, notes)
    assert notes.events()[:3] == ["sealed", "settle_failed", "purged"]
    assert [name for name in tree(tmp_path) if name.startswith("hot")] == []
    assert foreign == [tmp_path / "hits"]


def test_files_that_were_set_aside_go_with_their_tier(tmp_path: Path) -> None:
    """A broken file may hold visit numbers, too."""
    write(tmp_path, visits(12))
    segment = next(tmp_path.glob("hot/*/*/*/*.parquet"))
    segment.write_bytes(segment.read_bytes()[:-5])
    settle(tmp_path, MIDNIGHT + 47 * HOUR_S, settings(), K, Notes())
    assert len(list(tmp_path.rglob("*.broken"))) == 1
    notes = Notes()
    purge(tmp_path, MIDNIGHT + 48 * HOUR_S, settings(), K, notes)
    assert list(tmp_path.rglob("*.broken")) == []
    assert notes == [("purged", {"tier": "hot", "site": "www", "date": DATE})]


def test_foreign_files_are_told_and_never_deleted(tmp_path: Path) -> None:
    """Whatever their age and place; and what a link leads to isn't touched."""
    write(tmp_path / "store", visits(12))
    root = tmp_path / "store"
    precious = tmp_path / "precious.parquet"
    precious.write_text("mine")
    folder = root / f"hot/site=www/date={DATE}"
    (folder / "notes.txt").write_text("mine")
    (folder / "05.parquet").symlink_to(precious)
    (folder / "00.open" / "notes.txt").write_text("mine")
    for _ in range(2):
        foreign = purge(root, MIDNIGHT + 1000 * DAY_S, settings(), K, Notes())
        assert sorted(path.name for path in foreign) == ["notes.txt", "notes.txt"]
    assert precious.read_text() == "mine"
    assert {path.read_text() for path in foreign} == {"mine"}


def test_unfinished_files_are_swept_up(tmp_path: Path) -> None:
    """What a crash left under a temporary name goes, with an entry each."""
    write(tmp_path, [hit()])
    left = [tmp_path / f"hot/site=www/date={DATE}/00.open/{'0' * 16}.parquet.tmp", tmp_path / "hot/notes.tmp"]
    left[0].write_bytes(b"PAR1")
    left[1].write_text("mine")
    notes = Notes()
    assert purge(tmp_path, MIDNIGHT, settings(), K, notes) == [left[1]]
    assert [path.exists() for path in left] == [False, True]
    assert notes.events() == ["purged"]


@pytest.mark.slow
def test_killed_at_any_step_the_next_run_finishes(tmp_path: Path) -> None:
    """And each deletion stands in the journal before it happens."""
    for step in range(100):
        root = tmp_path / str(step)
        write(root, visits(12))
        settle(root, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
        notes = Notes()
        with killed_after(step) as fate:
            purge(root, MIDNIGHT + 800 * DAY_S, settings(), K, notes)
        gone = {"hits", "daily", "vocabulary"} - {name.partition("/")[0] for name in tree(root)}
        assert gone <= {str(details["tier"]) for _, details in notes}
        purge(root, MIDNIGHT + 800 * DAY_S, settings(), K, notes)
        assert tree(root) == {}
        assert not list(root.glob("*/*/date=*"))
        if not fate.came:
            break
    assert step > 5
