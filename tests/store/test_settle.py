"""Tests of settling: what survives of a day, and that it survives being killed."""

import datetime
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from anonproxy.model.hit import Hit
from anonproxy.store import sql
from anonproxy.store.layout import Day, days
from anonproxy.store.read import open_store
from anonproxy.store.seal import GRACE_S, seal
from anonproxy.store.settle import LONGEST_VISIT_S, fold_day, settle, settle_day, settles_at
from anonproxy.store.tables import build_table, read_rows
from tests.store.examples import (
    DATE,
    DAY_S,
    HOUR_S,
    MIDNIGHT,
    K,
    Notes,
    hit,
    random_hits,
    settings,
    tree,
    visits,
    write,
)
from tests.store.kill import killed_after

DUE = MIDNIGHT + DAY_S + LONGEST_VISIT_S + GRACE_S
DAY = Day(Path(), "www", datetime.date.fromisoformat(DATE))
MEASURES = ("hits", "pageviews", "visits", "bounces", "seconds")

SEEDS = st.integers(0, 2**32)

Cells = dict[str, tuple[int, ...]]


def fold(hits: Iterable[Hit], next_hits: Iterable[Hit] = (), day: Day = DAY) -> dict[str, Any]:
    """Settle rows without a disk, and return both tables."""

    def dated(rows: Iterable[Hit], day: Day) -> Any:
        table = build_table(list(rows)) if (rows := list(rows)) else None
        return sql.add_date(table, day.date) if table is not None else None

    tables = fold_day(day, dated(hits, day), dated(next_hits, day.next), K)
    return {str(kind): table for kind, table in tables.items()}


def cells(tables: dict[str, Any], dimension: str) -> Cells:
    """Return one dimension of a day: the measures of each value."""
    rows = [row for row in tables["daily"].to_pylist() if row["dimension"] == dimension]
    return {row["value"]: tuple(row[measure] for measure in MEASURES) for row in rows}


def walk_through(visit: int, *pages: str, at_s: int = 0, **entry: Any) -> list[Hit]:
    """Return the rows of a visit: an entry, the pages after it, and an asset of each."""
    rows = []
    for step, route in enumerate(pages, 1):
        came = entry if step == 1 else {"referrer": "(internal)", "channel": "internal"}
        rows.append(hit(at_s, visit=visit, step=step, elapsed_s=30 * (step > 1), route=route, **came))
        rows.append(hit(at_s, visit=visit, step=step, elapsed_s=30 * (step > 1), kind="asset", channel="internal"))
    return rows


def many(count: int, *pages: str, first: int = 1, **entry: Any) -> list[Hit]:
    """Return several such visits."""
    return [row for visit in range(first, first + count) for row in walk_through(visit, *pages, **entry)]


# What is counted ------------------------------------------------------------------------------------------------------


def test_the_measures_of_a_day() -> None:
    """Visits, bounces, entries, exits and lengths come out as one would count them by hand."""
    tables = fold(many(12, "/", "/events", channel="search") + many(10, "/events", first=100, channel="email"))
    assert cells(tables, "total") == {"": (68, 34, 22, 10, 360)}
    assert cells(tables, "page") == {"/": (12, 12, 12, 0, 360), "/events": (22, 22, 22, 10, 360)}
    assert cells(tables, "entry") == {"/": (12, 12, 12, 0, 360), "/events": (10, 10, 10, 10, 0)}
    assert cells(tables, "exit") == {"/events": (22, 22, 22, 10, 360)}
    assert cells(tables, "channel") == {"search": (48, 24, 12, 0, 360), "email": (20, 10, 10, 10, 0)}
    assert cells(tables, "kind") == {"page": (34, 34, 22, 10, 360), "asset": (34, 0, 22, 10, 360)}
    assert cells(tables, "hour") == {"00": (68, 34, 22, 10, 360)}
    assert cells(tables, "status") == {"200": (68, 34, 22, 10, 360)}


def test_requests_without_a_visit_are_counted_but_make_no_visit() -> None:
    """Opt-outs, children's and sensitive pages count as requests of the site."""
    silent = [hit(visit=None, step=None, elapsed_s=None, channel="internal", referrer="(internal)")] * 5
    tables = fold(many(10, "/", channel="search") + silent)
    assert cells(tables, "total") == {"": (25, 15, 10, 10, 0)}
    assert cells(tables, "channel") == {"search": (20, 10, 10, 10, 0), "(other)": (5, 5, 0, 0, 0)}


def test_robots_stand_apart() -> None:
    """They count in their own dimension, by requests, and nowhere else."""
    robots = [
        hit(visit=None, step=None, elapsed_s=None, bot=bot) for bot in ["search"] * 10 + ["ai"] * 20 + ["seo"] * 3
    ]
    tables = fold(visits(10) + robots)
    assert cells(tables, "total") == {"": (10, 10, 10, 10, 0)}
    assert cells(tables, "bot") == {"ai": (20, 0, 0, 0, 0), "(other)": (13, 0, 0, 0, 0)}


def test_a_visit_that_starts_with_a_broken_link_is_counted() -> None:
    """It has no page yet, so its step is 0; it is a visit all the same, and no bounce."""
    tables = fold(visits(12, step=0, status=404, route="(unlisted)"))
    assert cells(tables, "total") == {"": (12, 0, 12, 0, 0)}
    assert cells(tables, "status") == {"404": (12, 0, 12, 0, 0)}
    assert cells(tables, "entry") == {}


def test_a_visit_across_midnight_counts_once_on_its_first_day() -> None:
    """Its later pages are known while the first day settles, and don't begin a visit on the next."""
    before = [hit(DAY_S - HOUR_S, visit=visit, step=1, route="/") for visit in range(12)]
    after = [hit(DAY_S, visit=visit, step=2, elapsed_s=60, route="/events", channel="internal") for visit in range(12)]
    first = fold(before, after)
    assert cells(first, "total") == {"": (12, 12, 12, 0, 720)}
    assert cells(first, "exit") == {"/events": (12, 12, 12, 0, 720)}
    second = fold(after, day=DAY.next)
    assert cells(second, "total") == {"": (12, 12, 0, 0, 0)}
    assert cells(second, "entry") == {}


# What is told ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        # a closed list with one thin cell: the smallest of the others goes with it
        ({"desktop": 30, "phone": 20, "tablet": 3}, {"desktop": 30, "(other)": 23}),
        ({"desktop": 30, "phone": 20, "tablet": 3, "other": 2}, {"desktop": 30, "phone": 20, "(other)": 5}),
        ({"desktop": 30, "phone": 9}, {"(other)": 39}),
        ({"desktop": 30, "phone": 10}, {"desktop": 30, "phone": 10}),
        ({"desktop": 9}, {"(other)": 9}),
        ({"desktop": 10}, {"desktop": 10}),
    ],
    ids=str,
)
def test_thin_cells_are_folded_and_never_alone(counts: dict[str, int], told: dict[str, int]) -> None:
    """No value of fewer than k visits is told, and none can be found by subtraction."""
    hits, first = [], 0
    for device, count in counts.items():
        hits += visits(count, first=first, device=device)
        first += count
    tables = fold(hits)
    assert {value: measures[2] for value, measures in cells(tables, "device").items()} == told
    assert cells(tables, "total")[""][2] == sum(counts.values())


def test_what_was_unknown_before_needs_no_company() -> None:
    """Referrers that were never named stand in `(other)` already; no named one has to join them."""
    hits = visits(20, referrer="search.example") + visits(3, first=100, referrer="(other)")
    told = {value: measures[2] for value, measures in cells(fold(hits), "referrer").items()}
    assert told == {"search.example": 20, "(other)": 3}


@examples(max_examples=25)
@given(SEEDS)
def test_nothing_thin_is_told_and_everything_is_counted(seed: int) -> None:
    """In every dimension of any day, cells are of k visits at least, and requests add up to the total."""
    hits = random_hits(Random(seed), 120)
    tables = fold(hits)
    people = sum(each.bot == "" for each in hits)
    for dimension in {row["dimension"] for row in tables["daily"].to_pylist()} - {"total"}:
        found = cells(tables, dimension)
        weight = 0 if dimension == "bot" else 2
        assert all(measures[weight] >= K for value, measures in found.items() if value != "(other)")
        if dimension in {"kind", "country", "device", "status", "hour", "channel", "referrer"}:
            assert sum(measures[0] for measures in found.values()) == people


# What is unlinked -----------------------------------------------------------------------------------------------------


def test_rows_lose_their_visit_and_thin_ones_their_hour() -> None:
    """The hour stays only where k visits saw the page in it; robots, who are no visits, count by requests."""
    crowd = visits(10, 7 * HOUR_S)
    few = visits(9, 8 * HOUR_S, first=50)
    one_reader = [hit(9 * HOUR_S, visit=7)] * 30
    robots = [hit(10 * HOUR_S, visit=None, step=None, elapsed_s=None, bot="ai")] * 10
    few_robots = [hit(11 * HOUR_S, visit=None, step=None, elapsed_s=None, bot="seo")] * 9
    table = fold(crowd + few + one_reader + robots + few_robots)["hits"]
    assert not {"visit", "step", "elapsed_s"} & set(table.column_names)
    hours = [(time.hour, bot) for time, bot in zip(table["time"].to_pylist(), table["bot"].to_pylist(), strict=True)]
    assert {key: hours.count(key) for key in set(hours)} == {
        (7, ""): 10,
        (0, ""): 39,
        (10, "ai"): 10,
        (0, "seo"): 9,
    }


@examples(max_examples=15)
@given(SEEDS)
def test_no_row_is_lost_or_changed_otherwise(seed: int) -> None:
    """Apart from the visit and the hour, `hits` holds the rows of the day and no others."""
    random = Random(seed)
    hits = random_hits(random, 80)
    dropped = ("time", "visit", "step", "elapsed_s")
    stored = fold(hits, random_hits(random, 5))["hits"].drop_columns(["time"]).to_pylist()
    expected = build_table(hits).drop_columns(list(dropped)).to_pylist()
    assert sorted(map(repr, stored)) == sorted(map(repr, expected))


# When, and whatever happens -------------------------------------------------------------------------------------------


def test_a_day_settles_when_its_last_visit_can_have_ended(tmp_path: Path) -> None:
    """Not while visits may go on after midnight, and long before its visit numbers are too old."""
    write(tmp_path, visits(12))
    notes = Notes()
    settle(tmp_path, DUE - 1, settings(), K, notes)
    settle(tmp_path, DUE, settings(), K, notes, dry_run=True)
    assert days(tmp_path, "hits") == []
    assert notes.events() == ["settled"]
    settle(tmp_path, DUE, settings(), K, notes)
    settle(tmp_path, DUE, settings(), K, notes)
    assert notes.events() == ["settled", "sealed", "settled"]
    left = {name.partition("/")[0]: data for name, data in tree(tmp_path).items()}
    assert sorted(left) == ["daily", "hits", "vocabulary"]
    digests = {f"{kind}_sha256": sha256(left[kind]).hexdigest() for kind in ("daily", "hits")}
    assert notes[2][1] == {"site": "www", "date": DATE, "rows": 12, **digests}
    for hot_hours in (30, 48):
        assert settles_at(DAY, settings(hot_hours=hot_hours)) <= MIDNIGHT + hot_hours * HOUR_S


def test_a_day_that_cannot_have_begun_is_unlinked_at_once(tmp_path: Path) -> None:
    """A clock that was ahead leaves no visit numbers that wait for their date; tomorrow, after it, waits as ever."""
    write(tmp_path, visits(12, at_s=1000 * DAY_S))
    write(tmp_path, visits(12, at_s=2 * DAY_S))
    settle(tmp_path, MIDNIGHT, settings(), K, Notes())
    assert [day.date.isoformat() for day in days(tmp_path, "hits")] == ["2029-08-17"]
    assert [day.date.isoformat() for day in days(tmp_path, "hot")] == ["2026-11-23"]


def test_what_is_told_of_a_live_day_is_what_is_kept_of_it(tmp_path: Path) -> None:
    """The view over hot rows and the settled file agree to the last cell, before sealing and after it."""
    rows = random_hits(Random(5), 400)
    write(tmp_path, [*rows[:200], hit(DAY_S, visit=1, step=2)])
    write(tmp_path, rows[200:])

    def told() -> list[Any]:
        with open_store(tmp_path, K).connect() as connection:
            return connection.execute("SELECT * FROM daily WHERE date = ? ORDER BY ALL", [DATE]).fetchall()

    live = told()
    seal(tmp_path, MIDNIGHT + DAY_S, Notes())
    assert told() == live
    settle(tmp_path, DUE, settings(), K, Notes())
    assert told() == live
    assert any(row[3] == "(other)" for row in live)


@pytest.mark.slow
def test_killed_at_any_step_a_day_is_settled_once(tmp_path: Path) -> None:
    """A reader finds each row once at every step, and the next run ends with the bytes of an undisturbed one."""
    rows = random_hits(Random(6), 60, hours=2)
    write(tmp_path / "once", rows)
    settle(tmp_path / "once", DUE, settings(), K, Notes())
    for step in range(100):
        root = tmp_path / str(step)
        write(root, rows)
        notes = Notes()
        with killed_after(step) as fate:
            settle(root, DUE, settings(), K, notes)
        with open_store(root, K).connect() as connection:
            assert connection.execute("SELECT count(*) FROM hits").fetchone() == (len(rows),)
        settle(root, DUE, settings(), K, notes)
        assert tree(root) == tree(tmp_path / "once")
        assert "settled" in notes.events()
        if not fate.came:
            break
    assert step > 30


def test_days_settle_in_order_and_one_bad_day_doesnt_keep_the_others(tmp_path: Path) -> None:
    """A disk that fails for one day is told after the others are done."""
    write(tmp_path, [*visits(3), *visits(3, DAY_S), *visits(3, site="kids")], ("www", "kids"))
    (tmp_path / f"hits/site=www/date={DATE}").mkdir(parents=True)
    (tmp_path / f"hits/site=www/date={DATE}/hits.parquet.tmp").mkdir()
    with pytest.raises(OSError, match="directory"):
        settle(tmp_path, DUE + DAY_S, settings(), K, Notes())
    assert [(str(day.date), day.site) for day in days(tmp_path, "hot")] == [(DATE, "www")]


def test_a_broken_hour_is_left_for_whoever_asks(tmp_path: Path) -> None:
    """The rest of the day settles; the broken file stays until visit numbers must be gone."""
    write(tmp_path, [*visits(3), *visits(4, HOUR_S)])
    seal(tmp_path, DUE, Notes())
    (tmp_path / f"hot/site=www/date={DATE}/00.parquet").write_bytes(b"PAR1 gone PAR1")
    settle_day(days(tmp_path, "hot")[0], K, Notes())
    assert read_rows(tmp_path / f"hits/site=www/date={DATE}/hits.parquet", "hits").num_rows == 4
    assert [path.suffix for path in (tmp_path / "hot").rglob("*") if path.is_file()] == [".broken"]
