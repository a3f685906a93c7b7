"""A store that answers one report after the other: what `anonproxy.open_store` opens, and what the dashboard asks.

The daily totals are few (some thousand rows a month), so they are kept in memory and read again once the store has
changed. Answers are kept as long.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
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
from anonproxy.reports.cells import COUNTED, Cell, read_cells, share_cells, tell
from anonproxy.reports.period import Period, end_of_month, move_months, parse_period
from anonproxy.reports.run import FILTERS, Query, Report, compare_reports, find_definition, run_report
from anonproxy.store.read import DEFAULT_K, View, open_store

# How old an answer may be: a store that is written to changes every few seconds.
FRESH_S: Final = 30.0
# What is remembered: a dashboard page has some twenty answers, and people go back and forth.
MAX_ANSWERS: Final = 2_000
MAX_CELLS: Final = 8

# Reports whose rows are days: cells of several days have no place in them.
BY_DAY: Final = frozenset({"days", "weekdays"})

TOLD: Final = "SELECT site, dimension, value, date FROM main.daily WHERE dimension = ? AND value <> '(other)'"


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


class Session:
    """A store, open to be asked. It may be written to meanwhile; several threads may ask.

    Raises: StoreError when there is none, or it was written by a newer version
    """

    def __init__(self, path: Path | str, k: int = DEFAULT_K) -> None:
        self._store = open_store(path, k)
        self._lock = threading.RLock()
        self._version: Hashable = None
        self._looked_at_s = float("-inf")
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._forget()

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
            return self._answers.get((name, query), lambda: self._answer(name, query))

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

    def _forget(self) -> None:
        self._answers: Memory[tuple[str, Query], Report] = Memory(MAX_ANSWERS)
        self._cells: Memory[tuple[tuple[tuple[str, str], ...], Period], dict[str, list[Cell]]] = Memory(MAX_CELLS)

    def _refresh(self) -> None:
        """Read the daily totals again if the store has changed."""
        if self._connection and steady() - self._looked_at_s < FRESH_S:
            return
        version = self._store.version()
        if self._connection is None or version != self._version:
            connection = self._store.connect()
            connection.execute("CREATE TABLE totals AS FROM daily")
            connection.execute("CREATE OR REPLACE VIEW main.daily AS FROM totals")
            # Where filters ask, single rows are not shown at all: they would tell that part by subtraction.
            connection.execute("CREATE SCHEMA asked; CREATE VIEW asked.hits AS FROM main.hits WHERE false")
            self._connection, self._version = connection, version
            self._forget()
            sites = connection.execute("SELECT DISTINCT site FROM daily ORDER BY site").fetchall()
            self._sites = tuple(site for (site,) in sites)
            first, last = connection.execute("SELECT min(date), max(date) FROM daily").fetchall()[0]
            self._span = Period(first, last) if first else None
        self._looked_at_s = steady()

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
        report = self._run("main", name, query)
        if definition.dimension in COUNTED and definition.dimension != "total" and _told(report) * 2 < _figure(report):
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

    def _tell(self, query: Query, dimension: str, by_day: bool) -> pa.Table:
        """Gather the cells of single rows."""
        wanted = [name for name in COUNTED if name == dimension or (query.where and name == "total")]
        days = Period(query.period.since.replace(day=1), end_of_month(query.period.until))
        read = self._cells.get((query.where, days), lambda: self._read_cells(query.where, days))
        cells = [cell for name in wanted for cell in read.get(name, ()) if query.site in {None, cell.site}]
        told = set() if query.where else set(self._open().execute(TOLD, [dimension]).fetchall())
        shared = share_cells(cells, len(query.where), self._store.k, lambda cell: cell[:4] in told)
        if by_day:
            shared = [row for row in shared if row.period.days == 1]
        return tell(cells, shared, query.period, query.where)

    def _read_cells(self, where: tuple[tuple[str, str], ...], days: Period) -> dict[str, list[Cell]]:
        """Read the cells of days that can be gathered: days of whole months, and without filters settled ones."""
        connection = self._open()
        connection.execute("USE main")
        hot = set() if where else set(connection.execute("SELECT DISTINCT date FROM hot").fetchall())
        first = self._first_whole_day()
        return {
            dimension: [cell for cell in cells if cell.date >= first and (cell.date,) not in hot]
            for dimension, cells in read_cells(connection, where, days).items()
        }

    def _first_whole_day(self) -> date:
        """Return the day from which no row has been deleted yet, moved to the first of a month: a month that loses its
        first days would be gathered otherwise each day."""
        (first,) = self._open().execute("SELECT min(date) FROM main.hits").fetchall()[0]
        if first is None or self._span is None or first <= self._span.since or first.day == 1:
            return first or date.min
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
