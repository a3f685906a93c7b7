"""What a small library sees, and what filters show: useful figures from which nobody can be found."""

from collections import Counter, defaultdict
from datetime import date, timedelta
from itertools import combinations, groupby
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.model.errors import OperatorError
from anonproxy.reports.cells import Cell, share_cells, tell
from anonproxy.reports.period import Period
from anonproxy.reports.run import Query, definitions
from anonproxy.reports.session import Session
from anonproxy.store.settle import settle
from tests.store.examples import DAY_S, HOUR_S, MIDNIGHT, K, Notes, hit, settings, write

DAYS = 31
NOVEMBER_21 = date(2026, 11, 21)
DECEMBER = Period(date(2026, 12, 1), date(2026, 12, 21))
ALL = Period(NOVEMBER_21, date(2026, 12, 21))
PAGES = ("/", "/events", "/record/{id}", "/café")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Make a month of a small library: seven visits a day. One of them, in all, prefers Spanish, and stays long."""
    root = tmp_path_factory.mktemp("small") / "store"
    random, number = Random(5), 0
    for day in range(DAYS):
        rows = []
        for _ in range(7):
            number += 1
            country, device = (
                random.choice(["US"] * 8 + ["CA", "MX"]),
                random.choice(["desktop", "phone", "phone", "tablet"]),
            )
            is_guest = number == 100
            for step in range(60 if is_guest else random.choice([1, 1, 2, 3, 5])):
                rows.append(
                    hit(
                        day * DAY_S + 9 * HOUR_S,
                        visit=number,
                        step=step + 1,
                        elapsed_s=min(60 * step, 120) // 60 * 60,
                        route=random.choice(PAGES) if step else "/",
                        country=country,
                        device=device,
                        language="es" if is_guest else "en",
                        referrer="(internal)" if step else "(direct)",
                        channel="internal" if step else "direct",
                    )
                )
        write(root, rows)
    settle(root, MIDNIGHT + 40 * DAY_S, settings(hits_days=90), K, Notes())
    return Session(root, K)


def figures(session: Session, name: str, query: Query) -> dict[Any, Any]:
    """Return page views by what they are about."""
    report = session.run(name, query)
    at = report.columns.index("pageviews")
    return {row[0]: row[at] for row in report.rows}


def test_two_hundred_visits_a_month_still_say_something(small: Session) -> None:
    """No day has ten visits of anything, and still the month tells pages, devices and countries by name."""
    overview = small.run("overview", Query(ALL)).records()[0]
    assert overview["visits"] == 7 * DAYS
    total = overview["pageviews"]
    assert isinstance(total, int)
    for name, expected in {
        "pages": {"/", "/events"},
        "devices": {"desktop", "phone", "tablet"},
        "countries": {"US"},
        "languages": {"en"},
        "referrers": {"(direct)"},
    }.items():
        report = small.run(name, Query(ALL))
        assert report.counted == "pageviews"
        told = figures(small, name, Query(ALL))
        assert expected <= told.keys(), name
        if name != "referrers":
            assert sum(told.values()) == total, name
            assert told["(other)"] < total / 2, name


def test_one_visit_is_nobody_however_long(small: Session) -> None:
    """The guest looked at sixty pages in one visit: neither the language nor any filter by it shows them."""
    assert "es" not in figures(small, "languages", Query(ALL))
    for definition in definitions():
        report = small.run(definition.name, Query(ALL, None, (("language", "es"),)))
        assert not report.rows or set(report.rows[0]) <= {0, None}, definition.name


def test_what_is_told_has_enough_visits(small: Session) -> None:
    """Each value that stands by itself was seen on ten days at least: by ten visits."""
    with small.connect() as connection:
        days = dict(connection.execute("SELECT country, count(DISTINCT date) FROM hits GROUP BY country").fetchall())
    told = figures(small, "countries", Query(ALL)).keys() - {"(other)"}
    assert told
    assert all(days[country] >= K for country in told)


def test_periods_differ_by_enough_or_nothing(small: Session) -> None:
    """Whoever asks for a month day by day learns of no value on a single day."""
    told = [
        figures(small, "devices", Query(Period(DECEMBER.since, DECEMBER.since + timedelta(days))))
        for days in range(DECEMBER.days)
    ]
    for before, after in combinations(told, 2):
        for value in (before.keys() | after.keys()) - {"(other)"}:
            assert after.get(value, 0) - before.get(value, 0) in {0} or after.get(value, 0) - before.get(value, 0) >= K


@pytest.mark.parametrize(
    "where", [(("country", "US"),), (("country", "CA"),), (("device", "phone"), ("country", "US"))]
)
def test_a_filter_leaves_enough_on_both_sides(small: Session, where: tuple[tuple[str, str], ...]) -> None:
    """With a filter and without it, the figures differ by nothing or by those of many visits."""
    everything, part = figures(small, "pages", Query(ALL)), figures(small, "pages", Query(ALL, None, where))
    for page in part.keys() & everything.keys() - {"(other)"}:
        assert everything[page] - part[page] == 0 or everything[page] - part[page] >= K
    total = small.run("overview", Query(ALL, None, where)).records()[0]["pageviews"]
    assert abs(sum(part.values()) - total) <= len(part) * K


def test_a_filter_says_what_it_cannot_show(small: Session) -> None:
    """Visits are not known of single rows; what would tell the rest by subtraction is empty."""
    where = (("country", "US"),)
    overview = small.run("overview", Query(ALL, None, where))
    assert overview.counted == "pageviews"
    assert overview.records()[0]["visits"] is None
    for name in ("entry", "exit", "hours", "response_times", "transfer", "privacy", "bots"):
        assert small.run(name, Query(ALL, None, where)).rows == ()


def test_filters_are_a_closed_list(small: Session) -> None:
    """A column that isn't one is refused with the nearest; a value is never part of a query's text."""
    with pytest.raises(OperatorError, match='did you mean "country"'):
        small.run("pages", Query(ALL, None, (("countri", "US"),)))
    for value in ("US' OR '1'='1", "'; DROP TABLE totals; --", "\\", "US\x00", "((", "$since"):
        assert small.run("pages", Query(ALL, None, (("country", value),))).rows == ()
    assert small.run("overview", Query(ALL)).records()[0]["visits"] == 7 * DAYS
    with pytest.raises(OperatorError, match=r"no figures of such a site\. There are: www"):
        small.run("pages", Query(ALL, "nowhere"))


# --- The rule itself, for any cells ---

values = st.sampled_from(["a", "b", "c"])
rows = st.tuples(values, st.integers(0, 59), st.integers(0, 3), st.integers(1, 90))


@st.composite
def cells(draw: st.DrawFn) -> tuple[list[Cell], int]:
    """Draw the cells of two months, with up to two filters."""
    filters = draw(st.integers(0, 2))
    counts: dict[tuple[str, date, int], int] = defaultdict(int)
    for value, day, mask, pageviews in draw(st.lists(rows, max_size=60)):
        counts[value, date(2026, 11, 1) + timedelta(day), mask % (1 << filters)] += pageviews
    return [Cell("www", "page", *key, n, n) for key, n in sorted(counts.items())], filters


@given(cells())
def test_shared_cells_have_enough_visits(drawn: tuple[list[Cell], int]) -> None:
    """Each covers rows of k visits that match, and of k or hardly any for each way of not matching, within a month."""
    listed, filters = drawn
    for shared in share_cells(listed, filters, K):
        assert shared.period.since.month == shared.period.until.month
        covered = [c for c in listed if c.value == shared.value and c.date in shared.period]
        by_mask = {mask: list(part) for mask, part in groupby(sorted(covered, key=lambda c: c.mask), lambda c: c.mask)}
        matching = by_mask[(1 << filters) - 1]
        assert sum(c.visits for c in matching) >= K
        assert sum(c.pageviews for c in matching) >= shared.pageviews
        assert abs(shared.rounded(K).pageviews - shared.pageviews) <= K // 2


@given(cells())
def test_shared_cells_do_not_overlap(drawn: tuple[list[Cell], int]) -> None:
    """No row is told twice."""
    listed, filters = drawn
    shared = share_cells(listed, filters, K)
    for value in "abc":
        told = sum(s.pageviews for s in shared if s.value == value)
        assert told <= sum(c.pageviews for c in listed if c.value == value and c.mask == (1 << filters) - 1)


@given(cells(), st.integers(0, 59), st.integers(0, 59))
def test_nothing_is_told_that_a_period_does_not_hold(drawn: tuple[list[Cell], int], first: int, days: int) -> None:
    """What is told and (other) is the sum of the rows, in any period, as far as rounding goes."""
    listed, filters = drawn
    if filters:
        return
    since = date(2026, 11, 1) + timedelta(first)
    period = Period(since, since + timedelta(days))
    shared = share_cells(listed, 0, K)
    table = tell(listed, shared, period, K).to_pylist()
    difference = sum(row["pageviews"] for row in table) - sum(c.pageviews for c in listed if c.date in period)
    assert abs(difference) <= len(table) * K // 2
    named = {row["value"] for row in table} - {"(other)"}
    left: Counter[str] = Counter()
    for cell in listed:
        left[cell.value] += cell.pageviews * (cell.date in period)
    for each in shared:
        is_within = each.period.since in period and each.period.until in period
        left[each.value] -= each.pageviews * (is_within and each.value in named)
    alone = {value for value in left if left[value]}
    assert len(alone) != 1 or alone <= named or not named, "(other) stands for one value that is told nowhere"
