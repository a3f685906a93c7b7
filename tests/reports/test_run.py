"""Reports name nobody: what too few visits shared is folded."""

from datetime import date

import pytest

from anonproxy.model.errors import OperatorError
from anonproxy.reports.run import Period, fold_small_rows, parse_period, read_report, report_names

TODAY = date(2026, 11, 21)

PERIODS = {
    (None, None): (date(2026, 10, 23), TODAY),
    ("today", None): (TODAY, TODAY),
    ("yesterday", "yesterday"): (date(2026, 11, 20), date(2026, 11, 20)),
    ("7d", None): (date(2026, 11, 15), TODAY),
    ("2026-02", "2026-02"): (date(2026, 2, 1), date(2026, 2, 28)),
    ("2026-01-31", "2026-12"): (date(2026, 1, 31), date(2026, 12, 31)),
}


@pytest.mark.parametrize(("since", "until"), PERIODS)
def test_reads_periods_as_people_write_them(since: str | None, until: str | None) -> None:
    """A period runs from the first day of what was named first to the last day of what was named last."""
    assert parse_period(since, until, TODAY) == Period(*PERIODS[since, until])


@pytest.mark.parametrize("text", ["", " ", "2026-13", "2026-02-30", "last", "d", "-3d", "999999d", "0d" * 9])
def test_refuses_what_is_no_day(text: str) -> None:
    """What can't be read is refused with examples of what can."""
    with pytest.raises(OperatorError, match="Write 2026-11-21"):
        parse_period(text or "?", None, TODAY)


def test_refuses_a_period_that_ends_before_it_begins() -> None:
    """A swapped period is refused with the remedy."""
    with pytest.raises(OperatorError, match="Swap"):
        parse_period("today", "yesterday", TODAY)


def test_folds_small_rows_into_other() -> None:
    """Rows under k visits become part of one `(other)`, which comes last; sums stay."""
    rows = [("a", 12, 30), ("(other)", 3, 4), ("b", 9, 9), ("c", 10, 11)]
    folded = fold_small_rows(("page", "visits", "pageviews"), list(rows), 10)
    assert folded == [("a", 12, 30), ("c", 10, 11), ("(other)", 12, 13)]


def test_every_report_has_a_title() -> None:
    """Each report says in its first line what it answers, and reads only the views."""
    assert len(report_names()) >= 12
    for name in report_names():
        title, sql = read_report(name)
        assert title[:1].isupper()
        assert "FROM daily" in sql or "FROM hits" in sql


def test_names_the_reports_there_are() -> None:
    """An unknown report is refused with the names of those there are."""
    with pytest.raises(OperatorError, match="pages, referrers"):
        read_report("nothing")
