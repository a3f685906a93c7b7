"""Tests of names and places."""

import datetime
from pathlib import Path

import pytest

from anonproxy.store.layout import Day, Hour, days, find_foreign, hour_at, is_ours, parse_date
from tests.store.examples import DATE, MIDNIGHT, hit, write

ROOT = Path("/store")
DAY = Day(ROOT, "www", datetime.date.fromisoformat(DATE))


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("hot/site=www/date=2026-11-21/07.parquet", True),
        ("hot/site=www/date=2026-11-21/07.parquet.tmp", True),
        ("hot/site=www/date=2026-11-21/07.open/0123456789abcdef.parquet", True),
        ("hot/site=www/date=2026-11-21/07.closing/0123456789abcdef.parquet.tmp", True),
        ("hot/site=www/date=2026-11-21/07.0123456789abcdef.broken", True),
        ("hits/site=www/date=2026-11-21/hits.parquet", True),
        ("daily/site=www/date=2026-11-21/daily.parquet.tmp", True),
        ("vocabulary/site=www/date=2026-11-21/vocabulary.parquet", True),
        ("hits/site=www/date=2026-11-21/daily.parquet", False),
        ("hot/site=www/date=2026-11-21/24.parquet", False),
        ("hot/site=www/date=2026-11-21/07.parquet.bak", False),
        ("hot/site=www/date=2026-11-21/07.open/segment.parquet", False),
        ("hot/site=www/date=2026-11-21/07.open/0123456789ABCDEF.parquet", False),
        ("hot/site=WWW/date=2026-11-21/07.parquet", False),
        ("hot/date=2026-11-21/07.parquet", False),
        ("notes.txt", False),
    ],
)
def test_only_names_of_the_layout_are_ours(name: str, ours: bool) -> None:
    """A file is ours if, and only if, its name is one that this software gives."""
    assert is_ours(ROOT, ROOT / name) is ours


def test_every_path_that_is_made_is_ours() -> None:
    """What the properties name is what the pattern knows."""
    hour = Hour(DAY, 7)
    segment = f"{'0' * 16}.parquet"
    paths = [hour.sealed, hour.merged, hour.open / segment, hour.closing / segment, hour.aside("0" * 16)]
    paths += [DAY.file(kind) for kind in ("hits", "daily", "vocabulary")]
    assert all(is_ours(ROOT, path) for path in paths)


def test_a_time_belongs_to_its_hour_in_utc() -> None:
    """The stored time alone says where a row stands."""
    assert hour_at(ROOT, "www", MIDNIGHT + 7 * 3600 + 900) == Hour(DAY, 7)
    assert Hour(DAY, 7).starts_at == MIDNIGHT + 7 * 3600


@pytest.mark.parametrize("name", ["date=2026-02-30", "date=26-2-3", "date=2026-11-21x", "site=www", "date=٢٠٢٦-11-21"])
def test_what_is_no_date_is_no_day(name: str) -> None:
    """A folder that doesn't name a real day is not read as one."""
    assert parse_date(name) is None


def test_foreign_files_are_found_and_links_are_foreign(tmp_path: Path) -> None:
    """Whatever this software didn't put there is told, wherever it stands; links are not followed."""
    write(tmp_path, [hit()])
    assert find_foreign(tmp_path) == []
    folder = tmp_path / f"hot/site=www/date={DATE}"
    (tmp_path / "notes.txt").touch()
    (folder / "07.parquet.bak").touch()
    (folder / "08.parquet").symlink_to(folder / "07.parquet.bak")
    (tmp_path / "hits").symlink_to(tmp_path / "hot")
    found = {path.relative_to(tmp_path).as_posix().rpartition("/")[2] for path in find_foreign(tmp_path)}
    assert found >= {"notes.txt", "07.parquet.bak", "08.parquet"}


def test_days_come_oldest_first(tmp_path: Path) -> None:
    """A visit that crosses midnight is counted on the earlier day, so that one settles first."""
    write(tmp_path, [hit(86_400), hit(0), hit(0, site="kids")], ("www", "kids"))
    assert [(str(day.date), day.site) for day in days(tmp_path, "hot")] == [
        ("2026-11-21", "kids"),
        ("2026-11-21", "www"),
        ("2026-11-22", "www"),
    ]
