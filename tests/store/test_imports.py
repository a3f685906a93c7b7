"""Days that come whole: which there is room for, and how they are put there."""

import errno
import os
from datetime import date
from hashlib import sha256
from pathlib import Path

import pytest

from anonproxy.store.disk import write_temporary
from anonproxy.store.imports import TIERS, Imported, Made, Refusal, find_taken, finish_days, refuse_taken, write_day
from anonproxy.store.layout import Day, Kind
from tests.store.kill import deaths, killed_after

NOBODY = 65_534
DATE = date(2026, 11, 10)
MADE = Made("www", DATE, 7, {"vocabulary": b"words", "daily": b"totals", "hits": b"rows"})


def journal(event: str, details: object) -> None:
    """Keep no ledger."""


def fill(root: Path, *files: str) -> Day:
    """Put files of a day there."""
    for name in files:
        path = root / name.format(day=f"site=www/date={DATE}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Day(root, "www", DATE)


HITS, DAILY, HOT = (
    f"{kind}/{{day}}/{name}.parquet" for kind, name in (("hits", "hits"), ("daily", "daily"), ("hot", "07"))
)

ROOM: list[tuple[tuple[str, ...], Kind | None, Refusal | None]] = [
    ((), None, None),
    ((), "daily", None),
    ((HITS, DAILY), None, Refusal.RECORDED),
    ((DAILY,), None, Refusal.RECORDED),
    ((HOT,), None, Refusal.RECORDED),
    ((HITS, DAILY, HOT), "daily", Refusal.RECORDED),
    ((HITS, DAILY), "daily", Refusal.IMPORTED),
    ((DAILY,), "daily", Refusal.IMPORTED),
    ((HITS,), "daily", None),
    ((DAILY + ".tmp",), None, None),
]


@pytest.mark.parametrize(("files", "imported", "refusal"), ROOM)
def test_there_is_room_for_a_day_that_is_not_there(
    tmp_path: Path, files: tuple[str, ...], imported: Kind | None, refusal: Refusal | None
) -> None:
    """A day is taken that was recorded, or that was imported whole; one of which an import left half is free."""
    day = fill(tmp_path, *files)
    known: Imported = {("www", DATE): {"hits": "", imported: ""}} if imported else {}
    assert refuse_taken(day, known) == refusal
    assert find_taken(tmp_path, known) == ({("www", DATE): refusal} if refusal else {})


def test_what_cant_be_told_is_not_written(tmp_path: Path) -> None:
    """A ledger that refuses the entry leaves no part of the day, not under another name either."""

    def refuse(event: str, details: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        write_day(tmp_path, MADE, refuse)
    assert not [path for tier in TIERS for path in (tmp_path / tier).rglob("*") if path.is_file()]
    write_day(tmp_path, MADE, journal)
    assert {path.read_bytes() for path in tmp_path.rglob("*.parquet")} == {b"words", b"totals", b"rows"}


def test_what_the_ledger_tells_comes_to_pass(tmp_path: Path) -> None:
    """Killed at any change to the disk, a day is there as the ledger says as soon as the store is opened again."""
    for step in deaths():
        root, told = tmp_path / str(step), dict[str, str | int]()
        root.mkdir()
        with killed_after(step) as fate:
            write_day(root, MADE, lambda _event, details, told=told: told.update(details))  # type: ignore[misc]  # mypy doesn't know a lambda's default
        digests: dict[Kind, str] = {kind: str(told[f"{kind}_sha256"]) for kind in TIERS if told}
        finish_days(root, {("www", DATE): digests})
        there = [path for tier in TIERS for path in root.glob(f"{tier}/*/*/*.parquet")]
        assert [sha256(path.read_bytes()).hexdigest() for path in there] == [*digests.values()], step
        if not fate.came:
            break
    assert step > 5


def test_only_what_the_ledger_tells_comes_to_pass(tmp_path: Path) -> None:
    """What was left of a day that was about to be replaced stays what it is: an unfinished file, which is deleted."""
    digests = write_day(tmp_path, MADE, journal)
    day = Day(tmp_path, "www", DATE)
    write_temporary(tmp_path, day.file("hits"), b"other rows", day.starts_at)
    finish_days(tmp_path, {("www", DATE): digests})
    assert day.file("hits").read_bytes() == b"rows"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for somebody else")
def test_what_root_imports_is_the_owners(tmp_path: Path) -> None:
    """Files and folders belong to whom the store does, who must be able to read and to delete them."""
    os.chown(tmp_path, NOBODY, NOBODY)
    write_day(tmp_path, MADE, journal)
    made = list(tmp_path.rglob("*"))
    assert len(made) == 12
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(NOBODY, NOBODY)}
