"""Cells that enough visits shared, made of rows that no longer say which visit they belong to.

`daily` has what k visits of one day shared. Two questions it can't answer: what a small library wants to know, where
no day has k visits of anything; and what is asked of a part of the visits, like those from one country. Both are
answered from single rows, under a stricter rule:

- Rows can't be told apart by visit, so a day on which a value was seen counts as one visit for each 20 pages begun.
  Fewer than one visit in a hundred looks at more. (A visit over midnight may count twice.)
- Days on which that comes to less than k are gathered, in order, until it does; what is left at the end of a calendar
  month is not told. So a cell covers one day or several, and is told in periods that hold all of it. Whatever periods
  one compares, what differs is whole cells.
- With filters, the rows that don't match must be enough as well, or none, for each way of not matching: otherwise the
  answers with and without a filter would differ by a few. (`mask` has a bit for each filter that matches.)
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

import duckdb
import pyarrow as pa

from anonproxy.model.vocabularies import OTHER
from anonproxy.reports.period import Period
from anonproxy.store.tables import SCHEMAS

# Pages that count as one visit where visits are not known: 99 of 100 visits look at fewer.
PAGES_PER_VISIT: Final = 20

# Dimensions into which each request of a person falls exactly once: what isn't told is the total less what is.
PARTITIONS: Final = frozenset(
    {"page", "kind", "country", "network_class", "browser", "os", "device", "language", "status"}
)

# Pages of one kind. They name what `page` names, and leave no rest to lay beside the rest of `page`.
PARTS_OF_PAGE: Final = frozenset({"search", "item", "download"})


class Cell(NamedTuple):
    """Rows of one day with one value, that match the filters of `mask`."""

    site: str
    dimension: str
    value: str
    date: date
    mask: int
    hits: int
    pageviews: int

    @property
    def visits(self) -> int:
        """Give the number of visits that it counts as; where nobody sees a page, its requests count."""
        return -(-(self.pageviews or self.hits) // PAGES_PER_VISIT)


@dataclass(frozen=True, slots=True)
class Shared:
    """A value over one day or several, with enough visits."""

    site: str
    dimension: str
    value: str
    period: Period
    hits: int
    pageviews: int


class Month(NamedTuple):
    """The matching cells of a calendar month and a dimension, and what of them can be told."""

    period: Period
    cells: list[Cell]
    sums: list[Cell]  # the same, as if all of them were of its first day
    shared: list[Shared]

    def within(self, period: Period) -> list[Cell]:
        """List cells that have the sums of a period; those of other days may be among them."""
        return self.sums if self.period.since in period and self.period.until in period else self.cells


# How a row of `hits` counts in each dimension that can be told without knowing visits: as in the store's own
# `marginals.sql`, but that a referrer or channel counts only the pages that were reached straight from there.
COUNTED: Final = {
    "total": "''",
    "page": "CASE WHEN is_pageview THEN route END",
    "search": "CASE WHEN is_pageview AND kind = 'search' THEN route END",
    "item": "CASE WHEN is_pageview AND kind = 'item' THEN route END",
    "download": "CASE WHEN is_pageview AND kind = 'download' THEN route END",
    "broken": "CASE WHEN status IN (404, 410) THEN referrer END",
    "failing": "CASE WHEN status >= 500 THEN route END",
    "referrer": "nullif(referrer, '(internal)')",
    "channel": "nullif(channel, 'internal')",
    "status": "status::VARCHAR",
    **{name: name for name in ("kind", "campaign", "country", "network_class", "browser", "os", "device", "language")},
}


_CASES: Final = " ".join(f"WHEN GROUPING({name}) = 0 THEN '{name}'" for name in COUNTED)
_READ: Final = f"""
    SELECT site, CASE {_CASES} END AS dimension, coalesce({", ".join(COUNTED)}) AS value, date, mask,
        count(*), count(*) FILTER (is_pageview)
    FROM (
        SELECT site, date, mask, is_pageview, {", ".join(f"{sql} AS {name}" for name, sql in COUNTED.items())}
        FROM people
    )
    GROUP BY GROUPING SETS ({", ".join(f"(site, date, mask, {name})" for name in COUNTED)})
    HAVING value IS NOT NULL
    ORDER BY ALL
"""  # noqa: S608 - made of the table above


def read_cells(
    connection: duckdb.DuckDBPyConnection, view: str, where: Collection[tuple[str, str]], days: Period
) -> dict[str, list[Cell]]:
    """Count the rows of a view by dimension, value and day, those that match the filters apart from the others."""
    mask: duckdb.Expression = duckdb.ConstantExpression(0)
    for bit, condition in enumerate(map(_matches, where)):
        mask = mask + condition.cast("INTEGER") * duckdb.ConstantExpression(1 << bit)
    people = connection.view(view).filter(
        (duckdb.ColumnExpression("bot") == duckdb.ConstantExpression(""))
        & duckdb.ColumnExpression("date").between(
            duckdb.ConstantExpression(days.since), duckdb.ConstantExpression(days.until)
        )
    )
    people.select(duckdb.StarExpression(), mask.alias("mask")).create_view("people", replace=True)
    cells: dict[str, list[Cell]] = defaultdict(list)
    for row in connection.execute(_READ).fetchall():
        cell = Cell(*row)
        cells[cell.dimension].append(cell)
    return cells


def _matches(condition: tuple[str, str]) -> duckdb.Expression:
    """Make the condition that a column has a value. Neither ever becomes part of a text of SQL."""
    column, value = condition
    return duckdb.CoalesceOperator(
        duckdb.ColumnExpression(column).cast("VARCHAR") == duckdb.ConstantExpression(value),
        duckdb.ConstantExpression(False),
    )


def gather_month(
    cells: list[Cell], month: Period, filters: int, k: int, is_told: Callable[[Cell], bool] = lambda cell: False
) -> Month:
    """Share the cells of one calendar month and one dimension, and sum them up.

    Shape: cells in order
    """
    matching = [cell for cell in cells if cell.mask == (1 << filters) - 1]
    sums = [_sum_up(list(group), month) for _, group in groupby(matching, attrgetter("site", "value"))]
    return Month(month, matching, sums, share_cells(cells, filters, k, is_told))


def _sum_up(cells: list[Cell], month: Period) -> Cell:
    hits, pageviews = sum(cell.hits for cell in cells), sum(cell.pageviews for cell in cells)
    return cells[0]._replace(date=month.since, hits=hits, pageviews=pageviews)


def share_cells(
    cells: Iterable[Cell], filters: int, k: int, is_told: Callable[[Cell], bool] = lambda cell: False
) -> list[Shared]:
    """Gather cells, day by day, until each has enough visits. A day that is told already stands by itself.

    Shape: cells in order, of whole calendar months
    """
    wanted = (1 << filters) - 1
    return [
        shared
        for _, month in groupby(cells, lambda c: (c.site, c.dimension, c.value, c.date.year, c.date.month))
        for shared in _share_month(month, wanted, k, is_told)
    ]


def _share_month(cells: Iterable[Cell], wanted: int, k: int, is_told: Callable[[Cell], bool]) -> Iterator[Shared]:
    gathered: list[Cell] = []
    for _, group in groupby(cells, attrgetter("date")):
        day = list(group)
        if any(map(is_told, day)) or _is_enough(day, wanted, k):
            yield from _join(day, wanted)
        else:
            gathered += day
            if _is_enough(gathered, wanted, k):
                yield from _join(gathered, wanted)
                gathered = []


def _is_enough(cells: list[Cell], wanted: int, k: int) -> bool:
    visits: Counter[int] = Counter()
    for cell in cells:
        visits[cell.mask] += cell.visits
    return wanted in visits and min(visits.values()) >= k


def _join(cells: list[Cell], wanted: int) -> Iterator[Shared]:
    matching = [cell for cell in cells if cell.mask == wanted]
    if matching:
        first = matching[0]
        period = Period(cells[0].date, cells[-1].date)
        hits, pageviews = sum(cell.hits for cell in matching), sum(cell.pageviews for cell in matching)
        yield Shared(first.site, first.dimension, first.value, period, hits, pageviews)


def tell(
    cells: Iterable[Cell], shared: Iterable[Shared], period: Period, where: Collection[tuple[str, str]] = ()
) -> pa.Table:
    """Make the table `daily` of a period: what is shared in it, and for each dimension what that leaves as `(other)`.

    Without filters a dimension leaves what its cells have more; with filters what the total that is told has more, for
    even that is told only where enough visits share it. `(other)` never stands for a single value that isn't told.

    Shape: the columns of `daily`; each row has the date of its last day, and visits are not known
    """
    told: dict[tuple[str, str], Sums] = defaultdict(dict)
    asked = {_DIMENSIONS.get(column, column): value for column, value in where}
    rows = [row for row in shared if row.period.since in period and row.period.until in period]
    totals = [row for row in rows if row.dimension == "total"]
    rows = [row for row in rows if row.dimension not in asked]
    rows += [replace(row, dimension=name, value=value) for name, value in asked.items() for row in totals]
    for row in rows:
        _add(told[row.site, row.dimension], row)
    there_are: dict[tuple[str, str], Sums] = defaultdict(dict)
    for cell in cells:
        if cell.date in period and cell.mask == (1 << len(where)) - 1:
            _add(there_are[cell.site, cell.dimension], cell)
    for (site, dimension), sums in there_are.items():
        kept = _keep_company(told[site, dimension], sums)
        if dimension in PARTS_OF_PAGE:
            pages = _keep_company(told[site, "page"], there_are.get((site, "page"), {}))
            kept = {value: figures for value, figures in told[site, dimension].items() if value in pages}
        rows = [r for r in rows if (r.site, r.dimension) != (site, dimension) or r.value in kept]
        if dimension in PARTS_OF_PAGE:
            continue
        if not where:
            whole = _total(sums)
        elif dimension in PARTITIONS:
            whole = _total(told[site, "total"])
        else:
            continue
        rest = [max(0, a - b) for a, b in zip(whole, _total(kept), strict=True)]
        if any(rest):
            rows.append(Shared(site, dimension, OTHER, period, rest[0], rest[1]))
    return pa.Table.from_pylist([_as_daily(row) for row in rows], schema=_SCHEMA)


type Sums = dict[str, tuple[int, int]]  # hits and pageviews by value

# Columns of `hits` whose dimension has another name.
_DIMENSIONS: Final = {"route": "page"}
_SCHEMA: Final = pa.schema([field.with_nullable(True) for field in SCHEMAS["daily"]])


def _add(sums: Sums, row: Cell | Shared) -> None:
    hits, pageviews = sums.get(row.value, (0, 0))
    sums[row.value] = hits + row.hits, pageviews + row.pageviews


def _total(sums: Sums) -> tuple[int, int]:
    return sum(hits for hits, _ in sums.values()), sum(pageviews for _, pageviews in sums.values())


def _keep_company(told: Sums, there_are: Sums) -> Sums:
    """Take back the smallest value if what isn't told is one other value alone: striking off a list would tell it."""
    untold = [value for value in there_are if there_are[value] != told.get(value)]
    if len(untold) != 1 or untold[0] in told or not told:
        return told
    smallest = min(told, key=lambda value: (told[value][::-1], value))
    return {value: sums for value, sums in told.items() if value != smallest}


def _as_daily(row: Shared) -> dict[str, object]:
    return {
        "date": row.period.until,
        "site": row.site,
        "dimension": row.dimension,
        "value": row.value,
        "hits": row.hits,
        "pageviews": row.pageviews,
    }
