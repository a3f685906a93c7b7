"""Run a report: a name, a period and perhaps a site in; columns and rows out. Rendering is elsewhere."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from typing import Final

import duckdb

from anonproxy.model.errors import OperatorError
from anonproxy.model.vocabularies import OTHER

Value = str | int | float | date | None


@dataclass(frozen=True, slots=True)
class Period:
    """Days from the first to the last, both included; UTC."""

    since: date
    until: date

    def __str__(self) -> str:
        return str(self.since) if self.since == self.until else f"{self.since} to {self.until}"


@dataclass(frozen=True, slots=True)
class Report:
    """A table that answers a question."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]


def report_names() -> tuple[str, ...]:
    """Return the names of all reports: those of the .sql files here."""
    return tuple(
        sorted(path.name.removesuffix(".sql") for path in files(__package__).iterdir() if path.name.endswith(".sql"))
    )


@cache
def read_report(name: str) -> tuple[str, str]:
    """Return a report's title, which is its first line, and its SQL.

    Raises: OperatorError naming the reports there are
    """
    if name not in report_names():
        raise OperatorError(f"there is no such report. There are: {', '.join(report_names())}")
    sql = files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    return sql.splitlines()[0].removeprefix("-- "), sql


def run_report(connection: duckdb.DuckDBPyConnection, name: str, period: Period, site: str | None, k: int) -> Report:
    """Run one report on a connection that has the view `daily`.

    Reveals: values that at least k visits of one day shared, the rest as `(other)`
    Raises:  OperatorError when there is no such report
    """
    title, sql = read_report(name)
    result = connection.execute(sql, {"since": period.since, "until": period.until, "site": site})
    columns = tuple(column[0] for column in result.description)
    rows = [tuple(row) for row in result.fetchall()]
    return Report(name, title, columns, tuple(fold_small_rows(columns, rows, k)))


def fold_small_rows(columns: tuple[str, ...], rows: list[tuple[Value, ...]], k: int) -> list[tuple[Value, ...]]:
    """Fold rows of fewer than k visits into `(other)`, which comes last.

    The daily table is folded already, day by day; this holds for whatever a report makes of it.
    """
    if "visits" not in columns or not rows or not isinstance(rows[0][0], str):
        return rows
    at = columns.index("visits")
    kept = [row for row in rows if row[0] != OTHER and _number(row[at]) >= k]
    folded = [row for row in rows if row[0] == OTHER or _number(row[at]) < k]
    if not folded:
        return kept
    sums = [sum(_number(row[index]) for row in folded) for index in range(1, len(columns))]
    return [*kept, (OTHER, *sums)]


def _number(value: Value) -> float | int:
    return value if isinstance(value, int | float) else 0


# How far back a report looks when it isn't told.
DEFAULT_DAYS: Final = 30


def parse_period(since: str | None, until: str | None, today: date) -> Period:
    """Read a period as people write it: 2026-11-21, 2026-11, today, yesterday, 7d.

    Raises: OperatorError when it can't be read, or ends before it begins
    """
    first = _parse_day(since, today)[0] if since else today - timedelta(days=DEFAULT_DAYS - 1)
    last = _parse_day(until, today)[1] if until else today
    if last < first:
        raise OperatorError(f"the period ends ({last}) before it begins ({first}). Swap --since and --until")
    return Period(first, last)


def _parse_day(text: str, today: date) -> tuple[date, date]:
    """Return the first and the last day of what is named."""
    words = {"today": 0, "yesterday": 1}
    if text in words or (text.endswith("d") and text[:-1].isdecimal() and len(text) < 6):
        day = today - timedelta(days=words[text] if text in words else int(text[:-1]) - 1)
        return day, day
    try:
        if len(text) == len("2026-11"):
            first = date.fromisoformat(f"{text}-01")
            return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
        day = date.fromisoformat(text)
    except ValueError:
        raise OperatorError(
            f'can\'t read "{text}" as a day. Write 2026-11-21, 2026-11, today, yesterday, or 7d for the last 7 days'
        ) from None
    return day, day
