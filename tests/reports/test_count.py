"""An independent count: every report says of known traffic what somebody with a notebook would."""

from datetime import date
from random import Random
from typing import Any

import pytest

from anonproxy.reports.period import Period
from anonproxy.reports.run import Query, definitions
from anonproxy.reports.session import Session
from tests.reports.count import EXPECTED, Count, add_up, count_transfer
from tests.reports.traffic import Seen, invent, record

K = 10
ALL = Period(date(2026, 10, 29), date(2026, 11, 2))
QUERIES = {
    "all": Query(ALL),
    "one site": Query(ALL, "www"),
    "some days": Query(Period(date(2026, 10, 30), date(2026, 10, 31))),
    "no day": Query(Period(date(2026, 1, 1), date(2026, 1, 31))),
}


@pytest.fixture(scope="module", params=["settled", "hot"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, list[Seen]]:
    """Record five days of a town library, or one that hasn't settled yet."""
    root = tmp_path_factory.mktemp("counted") / "store"
    settles = request.param == "settled"
    traffic = list(invent(Random(11), 5 if settles else 1, 150))
    seen = record(root, traffic, settles)
    return Session(root, K), seen


def test_every_report_is_counted() -> None:
    """No report is left out: what is hidden or about right has a test of its own."""
    assert EXPECTED.keys() | {"privacy", "transfer"} == {definition.name for definition in definitions()}


@pytest.mark.parametrize("question", QUERIES)
@pytest.mark.parametrize("name", EXPECTED)
def test_figures_are_those_of_the_notebook(recorded: tuple[Session, list[Seen]], name: str, question: str) -> None:
    """Each row has the figures that a count from scratch gives, what is folded included, and no row is missing.

    A report that would say (other) to most is counted anew by pages: then their sum is the same.
    """
    session, record = recorded
    query = QUERIES[question]
    expected = EXPECTED[name](Count(record, query.period.since, query.period.until, query.site, K))
    report = session.run(name, query)
    if report.counted == "pageviews":  # tests/reports/test_cells.py has the rule
        by_day = {row[0]: row[-1] for row in expected}
        assert by_day["(other)"] * 2 > sum(by_day.values()), "only what is mostly (other) is counted anew"
        assert sum(row[-1] for row in report.rows if isinstance(row[-1], int)) == sum(by_day.values())
    else:
        assert by_label(report.rows) == by_label(expected)


@pytest.mark.parametrize("question", QUERIES)
def test_transfer_is_about_right(recorded: tuple[Session, list[Seen]], question: str) -> None:
    """Requests are rounded to ten. Bytes come from powers of two: a row may be off by half, and the sum by a tenth."""
    session, record = recorded
    query = QUERIES[question]
    expected, sizes = count_transfer(Count(record, query.period.since, query.period.until, query.site, K))
    found = by_label(session.run("transfer", query).rows)
    assert {label: row[:1] for label, row in found.items()} == by_label(expected)
    for label, size in sizes.items():
        assert found[label,][1] == pytest.approx(size, rel=0.5)
    assert sum(row[1] or 0 for row in found.values()) == pytest.approx(sum(sizes.values()), rel=0.1)


def by_label(rows: Any) -> dict[Any, tuple[Any, ...]]:
    """Take rows apart: what each is about, and its figures. No two are about the same."""
    labels = [tuple(value for value in row if isinstance(value, str | date)) for row in rows]
    assert len(set(labels)) == len(labels)
    return {label: tuple(row[len(label) :]) for label, row in zip(labels, rows, strict=True)}


def test_what_is_hidden_is_counted(recorded: tuple[Session, list[Seen]]) -> None:
    """Paths that the site doesn't have and requests without a visit are those of the notebook, to the nearest ten."""
    session, record = recorded
    rows = {row["hidden"]: row["requests"] for row in session.run("privacy", QUERIES["all"]).records()}
    people = [seen for seen in record if not seen.bot]
    is_hot = len({seen.day for seen in record}) == 1
    hidden = {
        "page: the site has no such page": [seen for seen in people if seen.status == 404],
        "visit: opted out, or a page for children or of a sensitive kind": [
            s for s in people if s.opted_out and is_hot
        ],
        "visit: forgotten, its two days are over": [] if is_hot else people,
    }
    named = [(name, each) for name, requests in hidden.items() for each in requests]
    expected, _ = add_up(Count(record, ALL.since, ALL.until, None, K), named)
    assert expected[0][1] > 0
    assert {row for row in rows.items() if row[0] in hidden} == {row for row in expected if row[0] in hidden}


def test_no_row_is_smaller_than_k(recorded: tuple[Session, list[Seen]]) -> None:
    """Whatever is asked, nothing but days and (other) has fewer visits than k."""
    session, _ = recorded
    for definition in definitions():
        for query in QUERIES.values():
            report = session.run(definition.name, query)
            if definition.name in {"overview", "days", "months", "weekdays"} or report.counted not in report.columns:
                continue
            at = report.columns.index(report.counted)
            for row in report.rows:
                figure = row[at]
                assert "(other)" in row[:2] or (isinstance(figure, int) and figure >= K), (definition.name, row)


def test_order_is_by_figures_with_other_last(recorded: tuple[Session, list[Seen]]) -> None:
    """The largest come first; what has no name comes last, however large."""
    session, _ = recorded
    rows = session.run("pages", QUERIES["all"]).rows
    visits = [row[1] for row in rows if row[0] != "(other)"]
    assert visits == sorted(visits, reverse=True)  # type: ignore[type-var]
    assert [row[0] for row in rows].index("(other)") == len(rows) - 1
