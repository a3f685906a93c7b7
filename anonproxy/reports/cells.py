"""Cells that enough visits shared, made of rows that no longer say which visit they belong to.

`daily` has what k visits of one day shared. Two questions it can't answer: what a small library wants to know, where
no day has k visits of anything; and what is asked of a part of the visits, like those from one country. Both are
answered from single rows, under a stricter rule:

- Rows can't be told apart by visit, so a day on which a value was seen counts as one visit for each 20 pages begun.
  Fewer than one visit in a hundred looks at more. (A visit over midnight may count twice.)
- Days on which that comes to less than k are gathered, in order, until it does; what is left at the end of a calendar
  month is not told. So a cell covers one day or several, and is told in periods that hold all of it. Whatever periods
  one compares, what differs is whole cells.
- Figures are rounded to multiples of k, each cell for itself. Whoever takes from the whole of a page one country after
  the other, until what is left is what a single visit saw, is left with what was rounded.
- With filters, the rows that don't match must be enough as well, for each way of not matching, or so few that rounding
  hides them: otherwise the answers with and without a filter would differ by a few visits, and where nothing is told,
  that would tell that somebody is there. (`mask` has a bit for each filter that matches.)
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

import duckdb
import pyarrow as pa

from anonproxy.model.vocabularies import OTHER
from anonproxy.reports.period import Period
from anonproxy.reports.run import round_to
from anonproxy.store.count import PARTS_OF_PAGE
from anonproxy.store.tables import SCHEMAS

# Pages that count as one visit where visits are not known: 99 of 100 visits look at fewer.
PAGES_PER_VISIT: Final = 20

# Dimensions into which each request of a person falls exactly once: what isn't told is the total less what is.
PARTITIONS: Final = frozenset(
    {"page", "kind", "country", "network_class", "browser", "os", "device", "language", "status"}
)


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
    def seen(self) -> int:
        """Give the number of pages; where nobody sees a page, its requests count."""
        return self.pageviews or self.hits

    @property
    def visits(self) -> int:
        """Give the number of visits that it counts as."""
        return -(-self.seen // PAGES_PER_VISIT)


@dataclass(frozen=True, slots=True)
class Shared:
    """A value over one day or several, with enough visits."""

    site: str
    dimension: str
    value: str
    period: Period
    hits: int
    pageviews: int
    is_told: bool = False  # by `daily`, as it is

    def rounded(self, k: int) -> "Shared":
        """Give it with the figures that are told."""
        return (
            self if self.is_told else replace(self, hits=round_to(self.hits, k), pageviews=round_to(self.pageviews, k))
        )


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
# `count.py`, but that a referrer or channel counts only the pages that were reached straight from there.
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
        if any(map(is_told, day)):
            yield from _join(day, wanted, is_told=True)
        elif _is_enough(day, wanted, k):
            yield from _join(day, wanted)
        else:
            gathered += day
            if _is_enough(gathered, wanted, k):
                yield from _join(gathered, wanted)
                gathered = []


def _is_enough(cells: list[Cell], wanted: int, k: int) -> bool:
    visits, seen = Counter[int](), Counter[int]()
    for cell in cells:
        visits[cell.mask] += cell.visits
        seen[cell.mask] += cell.seen
    return visits[wanted] >= k and all(visits[mask] >= k or 2 * seen[mask] < k for mask in visits)


def _join(cells: list[Cell], wanted: int, *, is_told: bool = False) -> Iterator[Shared]:
    matching = [cell for cell in cells if cell.mask == wanted]
    if matching:
        first = matching[0]
        period = Period(cells[0].date, cells[-1].date)
        hits, pageviews = sum(cell.hits for cell in matching), sum(cell.pageviews for cell in matching)
        yield Shared(first.site, first.dimension, first.value, period, hits, pageviews, is_told)


def tell(
    cells: Iterable[Cell], shared: Iterable[Shared], period: Period, k: int, where: Collection[tuple[str, str]] = ()
) -> pa.Table:
    """Make the table `daily` of a period: what is shared in it, and for each dimension what that leaves as `(other)`.

    Without filters a dimension leaves what its cells have more, and `(other)` never stands for a single value that is
    told nowhere. With filters it leaves what the total that is told has more, for even that is told only where enough
    visits share it; and nothing is hidden for company, since the report that filters the other way round would tell it.

    Shape: the columns of `daily`; each row has the date of its last day, and visits are not known
    """
    asked = {_DIMENSIONS.get(column, column): value for column, value in where}
    rows = [row for row in shared if row.period.since in period and row.period.until in period]
    totals = [row for row in rows if row.dimension == "total"]
    rows = [row for row in rows if row.dimension not in asked]
    rows += [replace(row, dimension=name, value=value) for name, value in asked.items() for row in totals]
    told = _sum_up_places(rows)
    there_are = _sum_up_places(c for c in cells if c.date in period and c.mask == (1 << len(where)) - 1)
    named = {place: _name(told, there_are, place, keeps_company=not where) for place in there_are}
    rows = [row for row in rows if row.value in named.get((row.site, row.dimension), {row.value})]
    figures = _sum_up_places(row.rounded(k) for row in rows)
    for site, dimension in there_are:
        if dimension in PARTS_OF_PAGE or (where and dimension not in PARTITIONS):
            continue
        whole = _total(figures[site, "total"]) if where else _total(there_are[site, dimension])
        rest = [max(0, a - b) for a, b in zip(whole, _total(figures[site, dimension]), strict=True)]
        if any(rest) and there_are[site, dimension] != told[site, dimension]:
            rows.append(Shared(site, dimension, OTHER, period, rest[0], rest[1], is_told=True))
    return pa.Table.from_pylist([_as_daily(row.rounded(k)) for row in rows], schema=_SCHEMA)


type Sums = dict[str, tuple[int, int]]  # hits and pageviews by value
type Place = tuple[str, str]  # site and dimension

# Columns of `hits` whose dimension has another name.
_DIMENSIONS: Final = {"route": "page"}
_SCHEMA: Final = pa.schema([field.with_nullable(True) for field in SCHEMAS["daily"]])


def _sum_up_places(rows: Iterable[Cell | Shared]) -> defaultdict[Place, Sums]:
    places: defaultdict[Place, Sums] = defaultdict(dict)
    for row in rows:
        sums = places[row.site, row.dimension]
        hits, pageviews = sums.get(row.value, (0, 0))
        sums[row.value] = hits + row.hits, pageviews + row.pageviews
    return places


def _total(sums: Sums) -> tuple[int, int]:
    return sum(hits for hits, _ in sums.values()), sum(pageviews for _, pageviews in sums.values())


def _name(
    told: Mapping[Place, Sums], there_are: Mapping[Place, Sums], place: Place, *, keeps_company: bool
) -> set[str]:
    """Choose the values that are named. A part of the pages is named as they are.

    If one value alone isn't told, so that it could be struck off a list, the smallest keeps it company.
    """
    site, dimension = place
    like = (site, "page") if dimension in PARTS_OF_PAGE else place
    named, all_of_them = told.get(like, {}), there_are.get(like, {})
    untold = [value for value in all_of_them if all_of_them[value] != named.get(value)]
    if not keeps_company or len(untold) != 1 or untold[0] in named or not named:
        return set(named)
    return set(named) - {min(named, key=lambda value: (named[value][::-1], value))}


def _as_daily(row: Shared) -> dict[str, object]:
    return {
        "date": row.period.until,
        "site": row.site,
        "dimension": row.dimension,
        "value": row.value,
        "hits": row.hits,
        "pageviews": row.pageviews,
    }
