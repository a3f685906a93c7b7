"""Figures, bars and small columns on a terminal."""

import io
from datetime import date

import pytest
from rich.console import Console

from anonproxy.cli.tables import draw, format_bytes, format_value, render_bar, render_markdown_table, render_sparkline
from anonproxy.reports.period import Period
from anonproxy.reports.run import Query, Report, Row, Value, compare_reports

QUERY = Query(Period(date(2026, 11, 1), date(2026, 11, 30)))


def make(name: str, columns: tuple[str, ...], *rows: Row) -> Report:
    """Make a report."""
    return Report(name, name.capitalize(), "What it answers.", columns, rows, QUERY)


def lines(report: Report, width: int = 60, limit: int | None = None) -> list[str]:
    """Draw a report as plain lines, without its title."""
    printed = io.StringIO()
    Console(width=width, file=printed).print(draw(report, width, limit))
    return printed.getvalue().splitlines()[2:]


VALUES: dict[tuple[str, Value], str] = {
    ("visits", 1234567): "1,234,567",
    ("visits", None): "–",
    ("pages_per_visit", 2.25): "2.2",
    ("bounce_percent", 44.4): "44 %",
    ("seconds_per_visit", 125.0): "2 min 05 s",
    ("previous_bounce_percent", 9.0): "9 %",
    ("bytes", 1_440_000): "1.4 MB",
    ("page", "/events"): "/events",
}


@pytest.mark.parametrize(("column", "value"), VALUES)
def test_figures_are_written_as_their_columns_want(column: str, value: Value) -> None:
    """Counts have separators, shares a percent sign, lengths minutes and seconds."""
    assert format_value(column, value) == VALUES[column, value]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (250_000, "250 kB"), (3 * 10**9, "3.0 GB"), (5 * 10**12, "5.0 TB")],
)
def test_bytes_have_the_unit_that_suits_them(size: float, text: str) -> None:
    """No figure has more than three digits before its unit, but for the largest."""
    assert format_bytes(size) == text


def test_bars_are_as_long_as_their_figures() -> None:
    """The largest fills its room, half of it half, and nothing is nothing."""
    assert [len(render_bar(value, 10, 8)) for value in (10, 5, 0)] == [8, 4, 0]
    assert render_bar(1, 16, 2) == "▏"
    assert render_bar(0, 0) == ""


def test_small_columns_rise_with_their_figures() -> None:
    """The largest is full, nothing is flat."""
    assert render_sparkline([0, 1, 2]) == "▁▅█" or render_sparkline([0, 1, 2]) == "▁▄█"
    assert render_sparkline([0, 0]) == "▁▁"


def test_a_table_has_aligned_figures_and_bars() -> None:
    """Figures stand to the right, and bars take the room that is left."""
    report = make("pages", ("page", "visits"), ("/", 40), ("/a-rather-long-name", 9), ("(other)", 20))
    assert lines(report, 50) == [
        "page                 visits",
        "/                        40  █████████████████████",
        "/a-rather-long-name       9  ████▊",
        "(other)                  20  ██████████▌",
    ]
    assert lines(report, 20) == [
        "page          visits",
        "/                 40",
        "/a-rather-l…       9",
        "(other)           20",
    ]


def test_rows_past_the_limit_are_told() -> None:
    """What is left out is counted; of days the latest are shown."""
    report = make("pages", ("page", "visits"), *((f"/{number}", 100 - number) for number in range(20)))
    assert lines(report, limit=2)[-1] == "18 more: --limit 20, or --format csv"
    days = make("days", ("day", "visits"), *((date(2026, 11, day), day) for day in range(1, 31)))
    assert lines(days, limit=1)[1].startswith("2026-11-30 Mon      30")


def test_columns_that_nobody_knows_are_left_out() -> None:
    """Where visits are not known, there is no column full of dashes."""
    assert lines(make("pages", ("page", "visits", "pageviews"), ("/", None, 7)))[0].split() == ["page", "pageviews"]


def test_a_change_is_told_where_there_was_something_before() -> None:
    """What may have been part of (other) before is not called new."""
    now = make("pages", ("page", "visits"), ("/", 30), ("/new", 20))
    before = make("pages", ("page", "visits"), ("/", 20), ("(other)", 5))
    rows = lines(compare_reports(now, before))
    assert "+50 %" in rows[1]
    assert "%" not in rows[2]


def test_hours_of_the_week_are_a_line_a_day() -> None:
    """Twenty-four small columns; what is folded isn't one of them, and says so if it is all."""
    columns = ("weekday", "hour", "visits", "pageviews")
    week = make("weekday_hours", columns, ("Monday", "09", 10, 20), ("Monday", "(other)", 90, 99))
    assert lines(week)[1] == f"Mon  {'▁' * 9}█{'▁' * 14}"
    hidden = make("weekday_hours", columns, ("Monday", "(other)", 90, 99))
    assert lines(hidden) == ["No hour of any day had enough visits to be told."]


def test_markdown_survives_what_stands_in_a_cell() -> None:
    """A stroke in a value is no end of a cell."""
    assert "a\\|b" in render_markdown_table(("page",), [["a|b"]], 1)
