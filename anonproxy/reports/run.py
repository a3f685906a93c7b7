"""Run a report: a name and a query in; columns and rows out. Rendering is elsewhere."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from itertools import groupby, takewhile
from typing import Any, Final, Literal, NamedTuple, Protocol

import pyarrow as pa

from anonproxy.model.errors import OperatorError
from anonproxy.model.vocabularies import OTHER
from anonproxy.reports.period import Period as Period
from anonproxy.reports.period import end_of_month
from anonproxy.reports.period import parse_period as parse_period

Value = str | int | float | date | None
Row = tuple[Value, ...]
# What a report counts: visits where the store knows them; pages (requests where nobody sees a page) where it doesn't.
Measure = Literal["visits", "pageviews", "requests"]

# All reports, in the order in which they are shown. Each is a .sql file here.
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "use": ("overview", "days", "months", "weekdays", "hours", "weekday_hours"),
    "content": ("pages", "entry", "exit", "kinds", "searches", "items", "downloads"),
    "sources": ("channels", "referrers", "campaigns"),
    "visitors": ("countries", "networks", "languages", "devices", "browsers", "systems"),
    "service": ("status", "errors", "broken_links", "failing_pages", "response_times", "transfer", "bots"),
    "privacy": ("privacy",),
}

# Columns of `hits` by which a report can be narrowed down.
FILTERS: Final = (
    "route", "kind", "status", "referrer", "channel", "campaign", "country", "network_class",
    "browser", "os", "device", "language",
)  # fmt: skip


class Connection(Protocol):
    """What answers SQL over the views `hits` and `daily`: DuckDB, or Spark."""

    def execute(self, query: str, parameters: Any = None) -> Any: ...


@dataclass(frozen=True, slots=True)
class Definition:
    """A report as its .sql file begins: title, description, and what it counts by."""

    name: str
    title: str
    description: str
    group: str
    sql: str
    dimension: str = ""  # of `daily`; "" for a report over `hits`
    order: str = ""  # of a report over `hits`: the column by which its rows are sorted

    @property
    def is_series(self) -> bool:
        """Tell whether its rows are days or months, of which earlier ones have earlier counterparts."""
        return self.name in {"days", "months"}


@dataclass(frozen=True, slots=True)
class Query:
    """What a report is asked: for which days, for which site (None: all), with which values in columns of FILTERS."""

    period: Period
    site: str | None = None
    where: tuple[tuple[str, str], ...] = ()

    def previous(self) -> "Query":
        """Ask the same of the period before."""
        return replace(self, period=self.period.previous())


@dataclass(frozen=True, slots=True)
class Report:
    """A table that answers a question: the columns that say what, then the figures."""

    name: str
    title: str
    description: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    query: Query
    counted: Measure = "visits"

    def records(self) -> list[dict[str, Value]]:
        """Return the rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_arrow(self) -> pa.Table:
        """Return the rows as an Arrow table."""
        columns = zip(*self.rows, strict=True) if self.rows else ([] for _ in self.columns)
        return pa.table([pa.array(list(values)) for values in columns], names=list(self.columns))

    def to_pandas(self) -> Any:
        """Return the rows as a pandas DataFrame, if pandas is installed."""
        return self.to_arrow().to_pandas()


@cache
def definitions() -> tuple[Definition, ...]:
    """Return all reports in the order in which they are shown."""
    return tuple(_read_definition(name, group) for group, names in GROUPS.items() for name in names)


def find_definition(name: str) -> Definition:
    """Find a report by its name.

    Raises: OperatorError naming the reports there are
    """
    known = {definition.name: definition for definition in definitions()}
    if name not in known:
        close = get_close_matches(name, known, n=1)
        meant = f'did you mean "{close[0]}"? ' if close else ""
        raise OperatorError(f"there is no such report; {meant}There are: {', '.join(known)}")
    return known[name]


def _read_definition(name: str, group: str) -> Definition:
    """Read the comment that a .sql file begins with: the title, the description, and `key: value` lines."""
    sql = files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    comment = takewhile(lambda line: line.startswith("-- "), sql.splitlines())
    lines = [line.removeprefix("-- ") for line in comment]
    pairs = (line.partition(": ") for line in lines[1:])
    keys = {key: value for key, _, value in pairs if key in {"dimension", "order"}}
    text = [line for line in lines[1:] if line.partition(": ")[0] not in keys]
    return Definition(name, lines[0], " ".join(text), group, sql, **keys)


def run_report(connection: Connection, name: str, query: Query, k: int) -> Report:
    """Run one report on a connection that has the views `hits` and `daily`; filters are up to the views.

    Reveals: values that at least k visits of one day shared, the rest as `(other)`
    Raises:  OperatorError when there is no such report
    """
    definition = find_definition(name)
    if definition.order:
        months = Period(query.period.since.replace(day=1), end_of_month(query.period.until))
        return add_up(definition, count_requests(connection, definition, months), query, k)
    columns, rows = _execute(connection, definition, query.period, query.site)
    told = [row for row in rows if OTHER not in row[:2]]
    rest = [row for row in rows if OTHER in row[:2]]
    counted = _measure(columns, rows)
    return Report(name, definition.title, definition.description, columns, (*told, *rest), query, counted)


def _execute(
    connection: Connection, definition: Definition, period: Period, site: str | None
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    result = connection.execute(definition.sql, {"since": period.since, "until": period.until, "site": site})
    return tuple(column[0] for column in result.description), [tuple(row) for row in result.fetchall()]


def _measure(columns: Sequence[str], rows: Iterable[Row]) -> Measure:
    known = [name for index, name in enumerate(columns) if any(row[index] is not None for row in rows)]
    measures: tuple[Measure, ...] = ("visits", "pageviews", "requests")
    return next((measure for measure in measures if measure in (known or columns)), "requests")


class Requests(NamedTuple):
    """Requests of one day and site that have one thing in common, and what they sum up to otherwise."""

    day: date
    site: str
    label: str
    figures: tuple[int, ...]  # their number first


@dataclass(frozen=True, slots=True)
class Counted:
    """What a report over `hits` counts, by day."""

    columns: tuple[str, ...]
    rows: tuple[Requests, ...]


def count_requests(connection: Connection, definition: Definition, period: Period) -> Counted:
    """Count the single rows of a period on all sites."""
    columns, rows = _execute(connection, definition, period, None)
    return Counted(
        columns[2:], tuple(Requests(day, site, label, tuple(figures)) for day, site, label, *figures in rows)
    )


def add_up(definition: Definition, counted: Counted, query: Query, k: int) -> Report:
    """Add up the single rows of a period. What isn't told is `(other)`, of which only the requests are known.

    Shape: counted covers whole calendar months
    """
    rows = [row for row in counted.rows if query.site in {None, row.site}]
    asked = [row for row in rows if row.day in query.period]
    told = [days for days in gather_days(rows, k) if days[0].day in query.period and days[-1].day in query.period]
    sums: dict[str, tuple[int, ...]] = {}
    for days in told:
        requests, *others = map(sum, zip(*(row.figures for row in days), strict=True))
        label, figures = days[0].label, (round_to(requests, k), *others)
        sums[label] = tuple(map(sum, zip(sums.get(label, (0,) * len(figures)), figures, strict=True)))
    at = counted.columns.index(definition.order)
    lines: list[Row] = sorted(((label, *figures) for label, figures in sums.items()), key=lambda row: _place(row, at))
    rest = sum(row.figures[0] for row in asked) - sum(figures[0] for figures in sums.values())
    if rest > 0 and len(asked) > sum(map(len, told)):
        lines.append((OTHER, rest, *(None for _ in counted.columns[2:])))
    return Report(
        definition.name, definition.title, definition.description, counted.columns, tuple(lines), query, "requests"
    )


def _place(row: tuple[Any, ...], at: int) -> tuple[float, str]:
    """Give a row its place: labels that are numbers rise, figures fall."""
    return (float(row[0]), "") if at == 0 else (-float(row[at]), row[0])


def gather_days(rows: Iterable[Requests], k: int) -> Iterator[list[Requests]]:
    """Gather the days of each calendar month until they make k requests of one thing; what is left is left out.

    So two periods differ by k requests or by none.
    """
    ordered = sorted(rows, key=lambda row: (row.site, row.label, row.day))
    for _, month in groupby(ordered, lambda row: (row.site, row.label, row.day.year, row.day.month)):
        gathered: list[Requests] = []
        for row in month:
            gathered.append(row)
            if sum(each.figures[0] for each in gathered) >= k:
                yield gathered
                gathered = []


def round_to(figure: int, k: int) -> int:
    """Round to a multiple of k, and only nothing to nothing."""
    return max(1, (2 * figure + k) // (2 * k)) * k if figure else 0


def compare_reports(report: Report, before: Report) -> Report:
    """Put the figures of another period beside those of a report, as columns `previous_…`.

    Rows meet by what they say; days and months by their place, first with first.
    """
    labels = count_labels(report.columns)
    figures = report.columns[labels:]
    is_series = find_definition(report.name).is_series
    keys: Callable[[int, Row], Any] = (lambda place, row: place) if is_series else (lambda place, row: row[:labels])
    earlier = {keys(place, row): row[labels:] for place, row in enumerate(before.rows)}
    nothing: Row = (None,) * len(figures)
    rows = tuple((*row, *earlier.get(keys(place, row), nothing)) for place, row in enumerate(report.rows))
    return replace(report, columns=(*report.columns, *(f"previous_{name}" for name in figures)), rows=rows)


# Columns that say what a row is about; all others hold figures.
LABELS: Final = frozenset(
    {
        "day", "month", "weekday", "hour", "page", "kind", "referrer", "channel", "campaign", "country",
        "network_class", "language", "device", "browser", "system", "status", "from_ms", "robot", "hidden",
    }
)  # fmt: skip


def count_labels(columns: Sequence[str]) -> int:
    """Count the columns, from the first, that say what a row is about."""
    return next((index for index, name in enumerate(columns) if name not in LABELS), len(columns))
