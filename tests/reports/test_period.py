"""Periods are read as people write them, and errors teach how."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.model.errors import OperatorError
from anonproxy.reports.period import Period, move_months, parse_period, parse_span

TODAY = date(2026, 11, 21)  # a Saturday

SPANS = {
    "today": ("2026-11-21", "2026-11-21"),
    "Yesterday": ("2026-11-20", "2026-11-20"),
    "2026-02": ("2026-02-01", "2026-02-28"),
    "2024-02": ("2024-02-01", "2024-02-29"),
    "2026": ("2026-01-01", "2026-12-31"),
    "2026-Q3": ("2026-07-01", "2026-09-30"),
    "7d": ("2026-11-15", "2026-11-21"),
    "last 7 days": ("2026-11-15", "2026-11-21"),
    "last 2 weeks": ("2026-11-08", "2026-11-21"),
    "last 12 months": ("2025-11-22", "2026-11-21"),
    "30 days ago": ("2026-10-22", "2026-10-22"),
    "1 month ago": ("2026-10-21", "2026-10-21"),
    "this week": ("2026-11-16", "2026-11-22"),
    "last  week": ("2026-11-09", "2026-11-15"),
    "this month": ("2026-11-01", "2026-11-30"),
    "last month": ("2026-10-01", "2026-10-31"),
    "last quarter": ("2026-07-01", "2026-09-30"),
    "this quarter": ("2026-10-01", "2026-12-31"),
    "last year": ("2025-01-01", "2025-12-31"),
    "October": ("2026-10-01", "2026-10-31"),
    "dec": ("2025-12-01", "2025-12-31"),
    "march 2024": ("2024-03-01", "2024-03-31"),
    "monday": ("2026-11-16", "2026-11-16"),
    "last fri": ("2026-11-20", "2026-11-20"),
}


@pytest.mark.parametrize("text", SPANS)
def test_reads_spans_as_people_write_them(text: str) -> None:
    """A word or two name the days that a person would think of."""
    first, last = SPANS[text]
    assert parse_span(text, TODAY) == Period(date.fromisoformat(first), date.fromisoformat(last))


PERIODS = {
    (None, None): ("2026-10-23", "2026-11-21"),
    ("today", None): ("2026-11-21", "2026-11-21"),
    ("7d", None): ("2026-11-15", "2026-11-21"),
    (None, "2026-01-30"): ("2026-01-01", "2026-01-30"),
    ("last month", "last month"): ("2026-10-01", "2026-10-31"),
    ("2026-01-31", "2026-12"): ("2026-01-31", "2026-12-31"),
}


@pytest.mark.parametrize(("since", "until"), PERIODS)
def test_a_period_runs_from_the_first_day_to_the_last(since: str | None, until: str | None) -> None:
    """It begins with the first day of what was named first, and ends with the last of what was named last."""
    first, last = PERIODS[since, until]
    assert parse_period(since, until, TODAY) == Period(date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize(
    "text",
    [
        "?", " ", "2026-13", "2026-02-30", "last", "d", "-3d", "99999d", "0d", "9999 years ago", "٣d", "0000",
        "0001-01-01", "9999-12-31", "2000 years ago",
    ],
)  # fmt: skip
def test_refuses_what_is_no_day(text: str) -> None:
    """What can't be read is refused with examples of what can."""
    with pytest.raises(OperatorError, match="Write 2026-11-21"):
        parse_span(text, TODAY)


def test_every_period_has_one_before() -> None:
    """The longest that can be asked for has room in the calendar before it and after."""
    longest = parse_period("1900", "2999", TODAY)
    assert longest.previous().until == date(1899, 12, 31)


def test_a_slip_of_the_pen_is_recognised() -> None:
    """What is nearly a word is answered with that word."""
    with pytest.raises(OperatorError, match='Did you mean "last month"'):
        parse_span("lats month", TODAY)


def test_refuses_a_period_that_ends_before_it_begins() -> None:
    """A swapped period is refused with the remedy."""
    with pytest.raises(OperatorError, match="Swap"):
        parse_period("today", "yesterday", TODAY)


BEFORE = {
    ("2026-11-01", "2026-11-30"): ("2026-10-01", "2026-10-31"),
    ("2026-01-01", "2026-12-31"): ("2025-01-01", "2025-12-31"),
    ("2026-01-01", "2026-03-31"): ("2025-10-01", "2025-12-31"),
    ("2026-11-15", "2026-11-21"): ("2026-11-08", "2026-11-14"),
    ("2026-11-21", "2026-11-21"): ("2026-11-20", "2026-11-20"),
}


@pytest.mark.parametrize("period", BEFORE)
def test_the_period_before_is_as_long(period: tuple[str, str]) -> None:
    """Months are compared with months, anything else with as many days."""
    expected = Period(*map(date.fromisoformat, BEFORE[period]))
    assert Period(*map(date.fromisoformat, period)).previous() == expected


@given(st.text(max_size=30))
def test_no_text_breaks_it(text: str) -> None:
    """Whatever is written gives a period, or an error that teaches."""
    try:
        period = parse_span(text, TODAY)
    except OperatorError:
        return
    assert period.since <= period.until


@given(st.dates(date(1990, 1, 1), date(2100, 1, 1)), st.integers(-200, 200))
def test_moving_by_months_keeps_the_day_or_the_end_of_the_month(day: date, months: int) -> None:
    """A month has the same day, or it has ended before."""
    moved = move_months(day, months)
    assert (moved.year * 12 + moved.month) - (day.year * 12 + day.month) == months
    assert moved.day <= day.day
