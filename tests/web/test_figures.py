"""Bars, tiles and charts say what the reports say, and never leave out what is hidden."""

from dataclasses import replace
from datetime import UTC, date
from zoneinfo import ZoneInfo

from anonproxy.reports.period import Period
from anonproxy.reports.run import Query, Report, Row
from anonproxy.reports.session import Session
from anonproxy.web.figures import fill_panel, lay_out_minutes, lay_out_table, lay_out_time, lay_out_week, list_tiles
from anonproxy.web.panels import PANELS, ROWS, SECTIONS
from anonproxy.web.question import Question
from anonproxy.web.words import read_words

QUERY = Query(Period(date(2026, 11, 1), date(2026, 11, 30)))
OVERVIEW = ("visits", "pageviews", "pages_per_visit", "bounce_percent", "seconds_per_visit")


def report(name: str, columns: tuple[str, ...], *rows: Row) -> Report:
    """Return a report."""
    return Report(name, name, "", columns, rows, QUERY)


def pages(*rows: Row) -> Report:
    """Return a report of pages."""
    return report("pages", ("page", "visits", "pageviews"), *rows)


WHOLE = report("overview", OVERVIEW, (200, 500, 2.5, 30, 80))


def test_shares_are_of_all_visits() -> None:
    """A page that every second visit saw has a share of a half, whatever else they saw."""
    filled = fill_panel(PANELS["pages"], pages(("/", 100, 150), ("/events", 50, 60)), WHOLE)
    assert [(bar.value, bar.share, bar.length) for bar in filled.bars] == [("/", 0.5, 100), ("/events", 0.25, 50)]


def test_what_is_folded_is_always_seen() -> None:
    """However many rows there are, (other) is among those that a panel shows, and the longest bar fits."""
    rows: list[Row] = [(f"/{number}", 40 - number, 1) for number in range(20)]
    filled = fill_panel(PANELS["pages"], pages(*rows, ("(other)", 60, 90)), WHOLE)
    assert len(filled.bars) == ROWS
    assert filled.count == 21
    assert filled.bars[-1].is_folded
    assert max(bar.length for bar in filled.bars) == filled.bars[-1].length == 100


def test_nothing_gives_no_bars() -> None:
    """Zeros and nothing are not drawn."""
    assert fill_panel(PANELS["pages"], pages(), WHOLE).bars == ()
    assert fill_panel(PANELS["pages"], pages(("/", 0, 0)), WHOLE).bars == ()


def test_panels_are_named_once() -> None:
    """No report is on the page twice."""
    assert len(PANELS) == sum(len(section.panels) for section in SECTIONS)


def test_tiles_compare() -> None:
    """A figure stands with its change; without one before, alone; what isn't known is left out."""
    words = read_words("en")
    before = report("overview", OVERVIEW, (100, 500, 2.0, 0, None))
    tiles = {tile.name: tile for tile in list_tiles(words, WHOLE, before)}
    assert (tiles["visits"].text, tiles["visits"].change, tiles["visits"].before) == ("200", 1.0, "100")
    assert tiles["bounce_percent"].change is None
    assert tiles["seconds_per_visit"].text == "1 min 20 s"
    part = report("overview", OVERVIEW, (None, 500, None, None, None))
    assert [tile.name for tile in list_tiles(words, part, before)] == ["pageviews"]


def test_what_is_not_told_is_no_zero(session: Session) -> None:
    """With a filter, a day of too few visits is a gap in the line, and so are hours of too few and those to come."""
    days = Question(Period(date(2026, 11, 18), date(2026, 11, 21)), "", None, (("device", "phone"),))
    figures = [spot.figure.value for spot in lay_out_time(session, days, read_words("en"), UTC).spots]
    assert figures.count(None) > 0
    assert 0 not in figures
    today = replace(days, period=Period(date(2026, 11, 21), date(2026, 11, 21)), where=())
    hours = [spot.figure.value for spot in lay_out_time(session, today, read_words("en"), UTC).spots]
    assert len(hours) == 24
    assert hours[23] is None
    assert max(hour or 0 for hour in hours) >= session.k


def test_a_week_is_shown_by_the_librarys_clock() -> None:
    """Monday 3:00 in UTC is Sunday evening in New York; folded hours are nowhere; none at all is no table."""
    columns = ("weekday", "hour", "visits", "pageviews")
    told = report("weekday_hours", columns, ("Monday", "03", 12, 30), ("Monday", "(other)", 9, 9))
    week = lay_out_week(told, ZoneInfo("America/New_York"))
    assert week[6][22] == (12.0, 6)
    assert sum(figure for day in week for figure, _ in day) == 12
    assert lay_out_week(told, UTC)[0][3][0] == 12
    assert lay_out_week(report("weekday_hours", columns), UTC) == []


def test_a_table_has_what_is_known() -> None:
    """A column without a single figure is left out; the period before stands last."""
    columns = ("page", "visits", "seconds_per_visit", "previous_visits", "previous_seconds_per_visit")
    table = lay_out_table(report("entry", columns, ("/", 20, None, 10, None), ("(other)", 10, None, None, None)))
    assert (table.labels, table.figures) == (("page",), ("visits",))
    assert table.rows == ((("/",), (20,), 10, 100.0), (("(other)",), (10,), None, 50.0))


def test_minutes_are_columns() -> None:
    """The busiest minute is a whole column; nothing told is no column."""
    assert lay_out_minutes({"minutes": [0, 5, 10]}) == [(0, 0.0), (5, 50.0), (10, 100.0)]
    assert lay_out_minutes({"minutes": None}) == lay_out_minutes({}) == []
    assert lay_out_minutes({"minutes": [0]}) == [(0, 0.0)]
