"""From reports to what a template draws: tiles, bars, tables, and the geometry of charts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import zip_longest
from typing import Any, Final

from anonproxy.model.vocabularies import OTHER
from anonproxy.reports.period import WEEKDAYS, Period
from anonproxy.reports.run import Query, Report, Value, count_labels
from anonproxy.reports.session import Session
from anonproxy.web import charts
from anonproxy.web.panels import ROWS, Panel
from anonproxy.web.question import METRICS, Question
from anonproxy.web.words import Words

TILES: Final = ("visits", "pageviews", "pages_per_visit", "bounce_percent", "seconds_per_visit")
# A longer period is drawn in weeks, so that the line isn't all weekends.
MOST_DAYS: Final = 100
WEEK_H: Final = 7 * 24


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the summary: how it is written, how it changed as a share of what it was, and what that was."""

    name: str
    text: str
    change: float | None
    before: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a panel."""

    value: str
    figure: float
    share: float  # of the whole: a visit that sees two pages counts for both
    length: float  # of its bar, in percent of the longest

    @property
    def is_folded(self) -> bool:
        """Tell whether it gathers what too few visits had in common."""
        return self.value == OTHER


@dataclass(frozen=True, slots=True)
class Filled:
    """A panel with its first rows, the column that they show, and the number of all."""

    panel: Panel
    counted: str
    count: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """All rows of a report: columns that say what, columns of figures, and the figure of the period before."""

    labels: tuple[str, ...]
    figures: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Value, ...], Value, float], ...]  # labels, figures, before, length of bar
    counted: str


def is_told(overview: Report) -> bool:
    """Tell whether enough came for anything to be shown."""
    return any(read_number(value) > 0 for value in first_row(overview).values())


def choose_metric(question: Question, overview: Report) -> str:
    """Choose what the chart shows: what was asked for, or pages where visits aren't known."""
    return question.metric if overview.counted == "visits" else "pageviews"


def list_tiles(words: Words, report: Report, earlier: Report) -> list[Tile]:
    """Write the figures of the summary, as far as they are known."""
    now, before = first_row(report), first_row(earlier)
    return [make_tile(words, name, now[name], before[name]) for name in TILES if now[name] is not None]


def make_tile(words: Words, name: str, now: Value, before: Value) -> Tile:
    """Write one figure of the summary."""
    text, was = words.figure(name, read_number(now)), read_number(before)
    if not was:
        return Tile(name, text, None, "")
    return Tile(name, text, (read_number(now) - was) / was, words.figure(name, was))


def fill_panel(panel: Panel, report: Report, overview: Report) -> Filled:
    """Turn a report's first rows into bars, with what is folded always among them.

    Shares are of all visits or pages of the period, else of the panel's own sum.
    """
    counted = panel.figure or report.counted
    at = report.columns.index(counted)
    figures = [(str(row[0]), read_number(row[at])) for row in report.rows if read_number(row[at]) > 0]
    folded = [row for row in figures[ROWS:] if row[0] == OTHER]
    shown = [*figures[: ROWS - len(folded)], *folded]
    longest = max((figure for _, figure in shown), default=0)
    known = read_number(first_row(overview).get(counted)) if counted in METRICS else 0
    whole = max(known or sum(figure for _, figure in figures), longest)
    bars = (Bar(value, figure, figure / whole, round(100 * figure / longest, 2)) for value, figure in shown)
    return Filled(panel, counted, len(figures), tuple(bars))


def lay_out_table(report: Report) -> Table:
    """Lay out a report that stands beside the period before."""
    labels = count_labels(report.columns)
    figures = tuple(name for name in report.columns[labels:] if not name.startswith("previous_"))
    known = [name for name in figures if any(row[report.columns.index(name)] is not None for row in report.rows)]
    at = report.columns.index(report.counted)
    before = report.columns.index(f"previous_{report.counted}")
    largest = max((read_number(row[at]) for row in report.rows), default=0)
    rows = tuple(
        (
            tuple(str(value) for value in row[:labels]),
            tuple(row[report.columns.index(name)] for name in known),
            row[before],
            round(100 * read_number(row[at]) / largest, 2) if largest else 0.0,
        )
        for row in report.rows
    )
    return Table(report.columns[:labels], tuple(known), rows, report.counted)


def lay_out_time(session: Session, question: Question, words: Words, zone: tzinfo) -> charts.LineChart:
    """Lay out the hours of a day, the days of a period, or the weeks of a long one."""
    name = "hours" if question.period.days == 1 else "days"
    metric = choose_metric(question, session.run("overview", question.query))
    now = read_series(session.run(name, question.query), metric)
    before = read_series(session.run(name, question.query.previous()), metric)
    if name == "hours":
        return charts.lay_out_line(_hours(question.query, now, before, words, zone))
    first = (session.span() or question.period).since
    known = [day for day in _list_days(question.period.previous()) if day >= first]
    before_first = min(max(0, (first - question.period.since).days), question.period.days - 1)
    if question.period.days > MOST_DAYS:
        return charts.lay_out_line(_weeks(question, now, before, known, words)[before_first // 7 :])
    return charts.lay_out_line(_days(question, now, before, known, words)[before_first:])


def read_series(report: Report, metric: str) -> dict[Value, float]:
    """Return a figure by day or hour."""
    at = report.columns.index(metric)
    return {row[0]: read_number(row[at]) for row in report.rows}


type Series = Mapping[Value, float]


def _hours(query: Query, now: Series, before: Series, words: Words, zone: tzinfo) -> list[charts.Figure]:
    day = words.short_day(query.previous().period.since)
    moments = [datetime.combine(query.period.since, time(hour), UTC) for hour in range(24)]
    return [
        charts.Figure(
            label := words.hour(moment.astimezone(zone)),
            label,
            now.get(f"{moment:%H}"),
            before.get(f"{moment:%H}"),
            f"{day}, {label}",
        )
        for moment in moments
    ]


def _get(series: Series, day: date, query: Query) -> float | None:
    """Return the figure of a day. One that has none had no visits, or with filters too few."""
    return series.get(day, None if query.where else 0)


def _days(question: Question, now: Series, before: Series, known: Sequence[date], words: Words) -> list[charts.Figure]:
    days, earlier = _list_days(question.period), _list_days(question.period.previous())
    return [
        charts.Figure(
            words.day(day),
            words.short_day(day),
            _get(now, day, question.query),
            _get(before, past, question.query) if past in known else None,
            words.day(past) if past else "",
            question.within(day, day).link(),
        )
        for day, past in zip_longest(days, earlier[: len(days)])
    ]


def _weeks(question: Question, now: Series, before: Series, known: Sequence[date], words: Words) -> list[charts.Figure]:
    days, earlier = _list_days(question.period), _list_days(question.period.previous())
    return [
        charts.Figure(
            words.span(week[0], week[-1]),
            words.short_day(week[0]),
            _sum_week(now, week, question.query),
            _sum_week(before, past, question.query) if past and past[0] in known else None,
            words.span(past[0], past[-1]) if past else "",
            question.within(week[0], week[-1]).link(),
        )
        for start in range(0, len(days), 7)
        for week, past in [(days[start : start + 7], earlier[start : start + 7])]
    ]


def _sum_week(series: Series, week: Sequence[date], query: Query) -> float | None:
    figures = [figure for day in week if (figure := _get(series, day, query)) is not None]
    return sum(figures) if figures else None


def _list_days(period: Period) -> list[date]:
    return [period.since + timedelta(days=offset) for offset in range(period.days)]


def lay_out_world(report: Report) -> dict[str, Any]:
    """Colour the countries."""
    at = report.columns.index(report.counted)
    outlines = charts.read_world()
    figures = {str(row[0]): read_number(row[at]) for row in report.rows if str(row[0]) in outlines}
    largest = max(figures.values(), default=0)
    shades = {code: charts.choose_shade(figure, largest, charts.root) for code, figure in figures.items()}
    return {"outlines": outlines, "figures": figures, "shades": shades}


def lay_out_week(report: Report, zone: tzinfo) -> list[list[tuple[float, int]]]:
    """Lay out the hours of a week as the library's clocks show them: for each weekday 24 figures with their colours.

    Without a single hour that enough visits shared, there is nothing to lay out.
    """
    noon = datetime.combine(report.query.period.until, time(12), UTC)
    offset_h = round((noon.astimezone(zone).utcoffset() or timedelta()) / timedelta(hours=1))
    at = report.columns.index(report.counted)
    sums = [0.0] * WEEK_H
    for row in report.rows:
        weekday, hour = str(row[0]).lower(), str(row[1])
        if hour.isdecimal():
            sums[(WEEKDAYS.index(weekday) * 24 + int(hour) + offset_h) % WEEK_H] += read_number(row[at])
    cells = [(figure, charts.choose_shade(figure, max(sums))) for figure in sums]
    return [cells[start : start + 24] for start in range(0, WEEK_H, 24)] if any(sums) else []


def lay_out_minutes(told: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Lay out the pages of each of the last minutes as columns: how many, and the height in percent."""
    minutes: Sequence[int] = told.get("minutes") or ()
    largest = max(minutes, default=0) or 1
    return [(number, round(100 * number / largest, 1)) for number in minutes]


def first_row(report: Report) -> dict[str, Value]:
    """Return the only row of a report by its columns."""
    rows = report.rows or ((None,) * len(report.columns),)
    return dict(zip(report.columns, rows[0], strict=True))


def read_number(value: Value) -> float:
    """Return a figure as a number; none is 0."""
    return float(value) if isinstance(value, int | float) else 0.0
