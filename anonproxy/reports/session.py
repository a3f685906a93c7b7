"""A store that answers one report after the other: what `anonproxy.open_store` opens, and what the dashboard asks.

The daily totals are few (some thousand rows a month), so they are kept in memory. A store that is written to changes
every few seconds, but only in its hot days: what comes of settled days alone lasts until a day is settled or deleted,
and the rest passes with the next look at the store.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from anonproxy.clock import now, steady
from anonproxy.model.errors import OperatorError
from anonproxy.model.vocabularies import OTHER
from anonproxy.reports.cells import COUNTED, Cell, Month, gather_month, read_cells, tell
from anonproxy.reports.period import Period, end_of_month, move_months, parse_period
from anonproxy.reports.run import (
    FILTERS,
    Counted,
    Definition,
    Query,
    Report,
    add_up,
    compare_reports,
    count_requests,
    find_definition,
    run_report,
)
from anonproxy.reports.steps import step_counts, step_daily
from anonproxy.store.count import PARTS_OF_PAGE
from anonproxy.store.read import DEFAULT_K, Version, View, open_store

# How old an answer may be: a store that is written to changes every few seconds.
FRESH_S: Final = 30.0
# What is remembered: a dashboard page has some twenty answers, and people go back and forth.
MAX_ANSWERS: Final = 2_000
MAX_MONTHS: Final = 100
MAX_CELLS: Final = 8

# Reports whose rows are days: cells of several days have no place in them.
BY_DAY: Final = frozenset({"days", "weekdays"})

TOLD: Final = "SELECT site, dimension, value, date FROM main.daily WHERE date BETWEEN ? AND ? AND value <> '(other)'"

ALWAYS: Final = Period(date.min, date.max)

SETTLED: Final = """
    CREATE VIEW settled AS SELECT *, is_pageview(method, status, kind) AS is_pageview FROM settled_hits
"""


class Memory[Key: Hashable, Value]:
    """The latest things that were made, so that they needn't be made again."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._made: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Give what was made for a key, or make it."""
        if key not in self._made:
            self._made[key] = make()
            if len(self._made) > self._limit:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]


type Where = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Kept:
    """What was made of one state of a store."""

    answers: Memory[tuple[str, Query], Report] = field(default_factory=lambda: Memory(MAX_ANSWERS))
    months: Memory[tuple[Where, Period], dict[str, Month]] = field(default_factory=lambda: Memory(MAX_MONTHS))
    cells: Memory[tuple[Where, Period], dict[str, list[Cell]]] = field(default_factory=lambda: Memory(MAX_CELLS))
    counts: dict[str, Counted] = field(default_factory=dict)
    first_day: date | None = None


class Session:
    """A store, open to be asked. It may be written to meanwhile; several threads may ask.

    Raises: StoreError when there is none, or it was written by a newer version
    """

    def __init__(self, path: Path | str, k: int = DEFAULT_K) -> None:
        self._store = open_store(path, k)
        self._lock = threading.RLock()
        self._version: Version | None = None
        self._looked_at_s = float("-inf")
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._lasting, self._passing = Kept(), Kept()
        # What was told last of hot days; it outlives what is read of them anew.
        self._recent: pa.Table | None = None
        self._told: dict[str, Counted] = {}

    @property
    def k(self) -> int:
        """Give the number of visits below which nothing is told."""
        return self._store.k

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Open a DuckDB in memory with the views `hits`, `daily` and `vocabulary`, as the store is now."""
        return self._store.connect()

    def dataset(self, name: View) -> ds.Dataset:
        """Open one view as a pyarrow dataset, as the store is now."""
        return self._store.dataset(name)

    def report(
        self,
        name: str,
        since: str | date | None = None,
        until: str | date | None = None,
        site: str | None = None,
        where: Mapping[str, str] | None = None,
        compare: bool = False,
    ) -> Report:
        """Answer a report. Days are written as on the command line; without them it is the last 30.

        Reveals: values that at least k visits shared, the rest as `(other)`
        Raises:  OperatorError when there is no such report, day, site or filter
        """
        today = datetime.fromtimestamp(now(), UTC).date()
        period = parse_period(str(since) if since else None, str(until) if until else None, today)
        query = Query(period, site, tuple(sorted((where or {}).items())))
        return self.compare(name, query) if compare else self.run(name, query)

    def run(self, name: str, query: Query) -> Report:
        """Answer a report."""
        with self._lock:
            self._refresh()
            self._check(query)
            return self._keep(query.period).answers.get((name, query), lambda: self._answer(name, query))

    def compare(self, name: str, query: Query, before: Query | None = None) -> Report:
        """Answer a report with the figures of the period before beside it, or those of another query."""
        return compare_reports(self.run(name, query), self.run(name, before or query.previous()))

    def sites(self) -> tuple[str, ...]:
        """List the sites that have figures."""
        with self._lock:
            self._refresh()
            return self._sites

    def span(self) -> Period | None:
        """Return the first and the last day that have figures; None for an empty store."""
        with self._lock:
            self._refresh()
            return self._span

    # --- What is kept in memory ---

    def _keep(self, period: Period) -> Kept:
        """Return where to keep what comes of the days up to the end of a period."""
        return self._lasting if self._version and period.until < self._version.first_hot else self._passing

    def _refresh(self) -> None:
        """Read again what has changed in the store: its hot rows, or everything."""
        if self._connection and steady() - self._looked_at_s < FRESH_S:
            return
        version = self._store.version()
        if version != self._version:
            connection = self._renew(version) or self._reopen()
            self._recent = step_daily(self._recent, connection.table("main.hot_daily").to_arrow_table(), self._store.k)
            connection.register("stepped", self._recent)
            connection.execute("CREATE OR REPLACE TABLE main.recent AS FROM stepped")
            self._passing = Kept()
            self._connection, self._version = connection, version
            sites = connection.execute("SELECT DISTINCT site FROM main.daily ORDER BY site").fetchall()
            self._sites = tuple(site for (site,) in sites)
            first, last = connection.execute("SELECT min(date), max(date) FROM main.daily").fetchall()[0]
            self._span = Period(first, last) if first else None
        self._looked_at_s = steady()

    def _renew(self, version: Version) -> duckdb.DuckDBPyConnection | None:
        """Read the hot rows again if nothing else has changed, not even meanwhile."""
        if not self._connection or not self._version or self._version.settled != version.settled:
            return None
        self._connection.execute("USE main")
        self._store.renew(self._connection)
        return self._connection if self._store.version().settled == version.settled else None

    def _reopen(self) -> duckdb.DuckDBPyConnection:
        connection = self._store.connect()
        connection.execute("CREATE TABLE totals AS FROM settled_daily")
        connection.execute("CREATE TABLE recent AS FROM hot_daily LIMIT 0")
        connection.execute("CREATE OR REPLACE VIEW main.daily AS FROM totals UNION ALL BY NAME FROM recent")
        connection.execute(SETTLED)
        # Where filters ask, single rows are not shown at all: they would tell that part by subtraction.
        connection.execute("CREATE SCHEMA asked; CREATE VIEW asked.hits AS FROM main.hits WHERE false")
        connection.execute("CREATE SCHEMA lasting; CREATE VIEW lasting.hits AS FROM main.settled")
        connection.execute("CREATE SCHEMA passing; CREATE VIEW passing.hits AS FROM main.hot")
        self._lasting = Kept()
        return connection

    def _check(self, query: Query) -> None:
        if query.site and query.site not in self._sites:
            there_are = f"There are: {', '.join(self._sites)}" if self._sites else "There is none yet"
            raise OperatorError(f"no figures of such a site. {there_are}")
        for column, _ in query.where:
            if column not in FILTERS:
                close = get_close_matches(column, FILTERS, n=1)
                meant = f'did you mean "{close[0]}"? ' if close else ""
                raise OperatorError(f"can't filter by that; {meant}There are: {', '.join(FILTERS)}")

    # --- How it is answered ---

    def _answer(self, name: str, query: Query) -> Report:
        definition = find_definition(name)
        if query.where:
            return self._answer_from_rows(name, query)
        if definition.order:
            return self._answer_from_counts(definition, query)
        report = self._run("main", name, query)
        # Parts of the pages have no rest of their own: they are hidden as the pages are.
        rest = self._run("main", "pages", query) if definition.dimension in PARTS_OF_PAGE else report
        is_hidden = _told(rest) * 2 < _figure(rest)
        if is_hidden and definition.dimension in COUNTED and definition.dimension != "total":
            period_report = self._answer_from_rows(name, query)
            if _told(period_report) > _told(report):
                return period_report
        return report

    def _answer_from_rows(self, name: str, query: Query) -> Report:
        """Answer from single rows: for a part of the visits, or where no day has enough of them."""
        connection = self._open()
        connection.register("told", self._tell(query, find_definition(name).dimension, name in BY_DAY))
        connection.execute("USE asked; CREATE OR REPLACE TABLE daily AS FROM told")
        return self._run("asked", name, query)

    def _answer_from_counts(self, definition: Definition, query: Query) -> Report:
        """Answer what is asked of single rows: settled ones are counted once, hot ones in steps."""
        lasting, passing = self._lasting.counts, self._passing.counts
        name = definition.name
        if name not in lasting:
            lasting[name] = self._count("lasting", definition)
        if name not in passing:
            now = self._count("passing", definition)
            passing[name] = self._told[name] = step_counts(self._told.get(name), now, self._store.k)
        first = self._first_whole_day()
        rows = [row for row in (*lasting[name].rows, *passing[name].rows) if row.day >= first]
        return add_up(definition, Counted(lasting[name].columns, tuple(rows)), query, self._store.k)

    def _count(self, schema: str, definition: Definition) -> Counted:
        self._open().execute(f"USE {schema}")
        return count_requests(self._open(), definition, ALWAYS)

    def _tell(self, query: Query, dimension: str, by_day: bool) -> pa.Table:
        """Gather the cells of single rows."""
        beside = {"total"} if query.where else set()
        beside |= {"page"} if dimension in PARTS_OF_PAGE else set()
        wanted = [name for name in COUNTED if name in {dimension, *beside}]
        read = [self._read_month(query.where, month) for month in self._months(query.period)]
        months = [month[name] for month in read for name in wanted if name in month]
        cells = [c for month in months for c in month.within(query.period) if query.site in {None, c.site}]
        shared = [row for month in months for row in month.shared if query.site in {None, row.site}]
        if by_day:
            shared = [row for row in shared if row.period.days == 1]
        return tell(cells, shared, query.period, self._store.k, query.where)

    def _months(self, period: Period) -> Iterator[Period]:
        """List the calendar months of a period that have figures."""
        if self._span:
            first = max(period.since, self._span.since).replace(day=1)
            while first <= min(period.until, self._span.until):
                yield Period(first, end_of_month(first))
                first = move_months(first, 1)

    def _read_month(self, where: Where, month: Period) -> dict[str, Month]:
        """Read the cells of a month by dimension, and what of them can be told."""
        return self._keep(month).months.get((where, month), lambda: self._gather(where, month))

    def _gather(self, where: Where, month: Period) -> dict[str, Month]:
        """Gather days that can be: those of whole months, and without filters settled ones."""
        connection, k = self._open(), self._store.k
        connection.execute("USE main")
        first = self._first_whole_day()
        hot = set() if where else {day for (day,) in connection.execute("SELECT DISTINCT date FROM hot").fetchall()}
        told = set() if where else set(connection.execute(TOLD, [month.since, month.until]).fetchall())
        read = self._lasting.cells.get((where, month), lambda: read_cells(connection, "settled", where, month))
        if where and self._keep(month) is self._passing:
            recent = read_cells(connection, "hot", where, month)
            read = {name: sorted([*read.get(name, ()), *recent.get(name, ())]) for name in {*read, *recent}}
        return {
            name: gather_month(
                [cell for cell in cells if cell.date >= first and cell.date not in hot],
                month,
                len(where),
                k,
                lambda cell: cell[:4] in told,
            )
            for name, cells in read.items()
        }

    def _first_whole_day(self) -> date:
        """Return the day from which no row has been deleted yet, moved to the first of a month: a month that loses its
        first days would be gathered otherwise each day."""
        connection, kept = self._open(), self._lasting
        kept.first_day = kept.first_day or connection.execute("SELECT min(date) FROM main.settled").fetchall()[0][0]
        first_hot = connection.execute("SELECT min(date) FROM main.hot").fetchall()[0][0]
        first = min((day for day in (kept.first_day, first_hot) if day), default=date.min)
        if self._span is None or first <= self._span.since or first.day == 1:
            return first
        return move_months(first.replace(day=1), 1)

    def _run(self, schema: str, name: str, query: Query) -> Report:
        connection = self._open()
        connection.execute(f"USE {schema}")
        return run_report(connection, name, query, self._store.k)

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._refresh()
        assert self._connection is not None  # noqa: S101 - for the type checker
        return self._connection


def _figure(report: Report, told_only: bool = False) -> int:
    """Sum up what a report counts by pages, or by requests where nobody sees a page."""
    column = next((name for name in ("pageviews", "requests") if name in report.columns), None)
    at = report.columns.index(column) if column else 0
    values = [row[at] for row in report.rows if not (told_only and OTHER in row[:2])]
    return sum(value for value in values if isinstance(value, int)) if column else 0


def _told(report: Report) -> int:
    return _figure(report, told_only=True)
