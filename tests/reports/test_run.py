"""Reports name nobody: what too few visits shared is folded."""

from datetime import date
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.model.errors import OperatorError
from anonproxy.reports.period import Period
from anonproxy.reports.run import GROUPS, LABELS, Counted, Query, Requests, add_up, definitions, find_definition

NOVEMBER = Period(date(2026, 11, 1), date(2026, 11, 30))
TRANSFER = find_definition("transfer")


def counted(**days: list[int]) -> Counted:
    """Count requests of some kinds from the first of November on; each has a hundred bytes."""
    rows = [
        Requests(date(2026, 11, day), "www", kind, (requests, 100 * requests))
        for kind, numbers in days.items()
        for day, requests in enumerate(numbers, 1)
        if requests
    ]
    return Counted(("kind", "requests", "bytes"), tuple(rows))


def test_single_rows_are_added_up_in_multiples_of_k() -> None:
    """Days that make k are told; the rest is (other), of which only the requests are."""
    report = add_up(TRANSFER, counted(page=[31, 40], asset=[9, 9], feed=[3]), Query(NOVEMBER), 10)
    assert report.rows == (("page", 70, 7100), ("asset", 20, 1800), ("(other)", 2, None))
    nothing_left = add_up(TRANSFER, counted(page=[30, 40]), Query(NOVEMBER), 10)
    assert nothing_left.rows == (("page", 70, 7000),)


requests = st.lists(st.integers(0, 30), min_size=1, max_size=20)
days = st.integers(1, 20)


@given(page=requests, asset=requests, ends=st.tuples(days, days, days))
def test_no_two_periods_tell_of_a_few_requests(page: list[int], asset: list[int], ends: tuple[int, int, int]) -> None:
    """Of two periods, one within the other, the longer tells of as many requests of each kind, or of k more."""
    since, until, later = sorted(ends)

    def ask(until: int) -> dict[Any, Any]:
        query = Query(Period(date(2026, 11, since), date(2026, 11, until)))
        return {row[0]: row[1:] for row in add_up(TRANSFER, counted(page=page, asset=asset), query, 10).rows}

    short, long = ask(until), ask(later)
    for kind in {*short, *long} - {"(other)"}:
        more, size = (a - b for a, b in zip(long[kind], short.get(kind, (0, 0)), strict=True))
        assert (more == size == 0) or (more >= 10 and size >= 1000)


def test_every_report_says_what_it_answers() -> None:
    """Each .sql file stands in the table of groups, has a title and a description, and reads only the views."""
    names = [path.name for path in files("anonproxy.reports").iterdir()]
    written = {name.removesuffix(".sql") for name in names if name.endswith(".sql")}
    assert written - {"cells"} == {name for names in GROUPS.values() for name in names}
    for definition in definitions():
        assert definition.title[:1].isupper()
        assert definition.description.endswith(".")
        assert bool(definition.dimension) != bool(definition.order)
        assert "read_parquet" not in definition.sql
        assert ("FROM hits" in definition.sql) != ("FROM daily" in definition.sql)


def test_names_the_reports_there_are() -> None:
    """An unknown report is refused with the nearest, and the names of those there are."""
    with pytest.raises(OperatorError, match=r'did you mean "pages"\? There are: overview, days'):
        find_definition("page")


def test_labels_are_what_rows_are_about() -> None:
    """No label is a figure."""
    assert not LABELS & {"visits", "pageviews", "requests", "bytes", "bounce_percent", "seconds_per_visit"}
