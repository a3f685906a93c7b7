"""Nobody is found by laying two answers side by side, or one answer beside itself a minute later."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from anonproxy.reports import session as sessions
from anonproxy.reports.period import Period
from anonproxy.reports.run import Query, Report, definitions
from anonproxy.reports.session import Session
from anonproxy.store.count import PARTS_OF_PAGE
from anonproxy.store.settle import settle
from tests.reports.test_cells import NOVEMBER_21
from tests.store.examples import DAY_S, HOUR_S, MIDNIGHT, K, Notes, hit, settings, visits, write

TODAY = Query(Period(NOVEMBER_21, NOVEMBER_21))
NAMES = tuple(definition.name for definition in definitions())
FILTERS = ((), *((("country", code),) for code in ("US", "CA", "DE")), (("route", "/events"),), (("device", "tablet"),))

type Look = Callable[..., dict[str, Report]]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Open a store with a day that goes on, and look at all its reports whenever it may have changed."""
    root, clock = tmp_path / "store", [1000.0]
    monkeypatch.setattr(sessions, "steady", lambda: clock[0])
    write(root, [*visits(200), *visits(12, first=300, route="/events", country="CA", device="phone", kind="item")])
    session = Session(root, K)

    def again(names: Iterable[str] = NAMES) -> dict[str, Report]:
        clock[0] += sessions.FRESH_S
        return {name: session.run(name, TODAY) for name in names}

    return again


GUEST: Mapping[str, Any] = {
    "route": "/events", "country": "CA", "device": "phone", "kind": "item", "browser": "Safari", "duration_ms": 5_000,
    "referrer": "search.example", "channel": "search", "language": "es", "size_bytes": 65_536,
}  # fmt: skip


def test_who_comes_now_is_not_seen(look: Look, tmp_path: Path) -> None:
    """Between two looks at a day that goes on came one visit: no figure of any report has changed."""
    before = look()
    write(tmp_path / "store", [hit(20 * HOUR_S, visit=1000, **GUEST)])
    assert look() == before


def test_so_few_are_not_seen_one_after_the_other(look: Look, tmp_path: Path) -> None:
    """However often somebody looks, a figure that moves, moves by k visits or more; in the end all are there."""
    names = ("days", "pages", "items", "countries", "transfer", "privacy")
    looks = [look(names)]
    for number in range(2 * K):
        write(tmp_path / "store", [hit(20 * HOUR_S, visit=1000 + number, **GUEST)])
        looks.append(look(names))
    for name in names:
        figures: list[dict[Any, Any]] = [{row[0]: row[1] for row in each[name].rows} for each in looks]
        told = {value for each in figures for value in each} - {"(other)"}
        for value in told:
            steps = {after.get(value, 0) - before.get(value, 0) for before, after in itertools.pairwise(figures)}
            assert all(step == 0 or step >= K for step in steps), (name, value)
    assert looks[-1]["days"].rows[0][1] == 212 + 2 * K


def test_a_new_day_begins_with_enough(look: Look, tmp_path: Path) -> None:
    """The first visit after midnight has no day to itself."""
    look()
    write(tmp_path / "store", [hit(DAY_S, visit=1000, **GUEST)])
    tomorrow = Query(Period(NOVEMBER_21, NOVEMBER_21.replace(day=22)))
    session = Session(tmp_path / "store", K)
    assert len(session.run("days", tomorrow).rows) == 2, "whoever looks for the first time sees the day as it is"
    assert len(look()["days"].rows) == 1


def test_what_settles_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps end with the day."""
    clock = [1000.0]
    monkeypatch.setattr(sessions, "steady", lambda: clock[0])
    root = tmp_path / "store"
    write(root, visits(12))
    session = Session(root, K)
    assert session.run("overview", TODAY).records()[0]["visits"] == 12
    write(root, visits(1, first=100))
    settle(root, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    clock[0] += sessions.FRESH_S
    assert session.run("overview", TODAY).records()[0]["visits"] == 13


def answers(root: Path, counts: Mapping[tuple[str, str], int]) -> dict[Any, Report]:
    """Settle a day with so many visits to each page from each country, and ask for all that is told of it."""
    number, rows = itertools.count(1), []
    for (route, country), count in counts.items():
        rows += [hit(visit=next(number), route=route, country=country) for _ in range(count)]
    write(root, rows)
    settle(root, MIDNIGHT + 40 * DAY_S, settings(hits_days=90), K, Notes())
    session = Session(root, K)
    return {
        (name, where): session.run(name, Query(TODAY.period, None, where))
        for name, where in itertools.product(("overview", "pages", "countries", "days", "browsers"), FILTERS)
    }


def test_what_the_only_guest_from_abroad_read_does_not_follow(tmp_path: Path) -> None:
    """A page's whole, less all countries but one, would be what the one from there read. Whichever page it was, every
    answer is the same, with filters and without."""
    others = {("/", "US"): 400, ("/", "CA"): 300, ("/events", "US"): 303, ("/café", "US"): 303}
    here = answers(tmp_path / "here", {**others, ("/events", "CA"): 296, ("/events", "DE"): 1, ("/café", "CA"): 297})
    there = answers(tmp_path / "there", {**others, ("/events", "CA"): 297, ("/café", "DE"): 1, ("/café", "CA"): 296})
    assert [question for question in here if here[question] != there[question]] == []
    assert here["pages", (("country", "CA"),)].records()[1] == {"page": "/café", "visits": None, "pageviews": 300}


@pytest.mark.parametrize("kind", sorted(PARTS_OF_PAGE))
def test_parts_of_pages_are_told_of_a_part_of_the_visits(tmp_path: Path, kind: str) -> None:
    """Where searches are asked for with a filter, those pages are named that the report of pages names."""
    report = {"search": "searches", "item": "items", "download": "downloads"}[kind]
    write(tmp_path, visits(250, route="/events", kind=kind))
    settle(tmp_path, MIDNIGHT + 40 * DAY_S, settings(hits_days=90), K, Notes())
    rows = Session(tmp_path, K).run(report, Query(TODAY.period, None, (("country", "US"),))).rows
    assert rows == (("/events", None, 250),)
