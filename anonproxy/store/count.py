"""Rows counted into cells by date, site, dimension and value: exactly, and in memory only. `fold` says what is told.

A visit counts once in a cell, however many of its rows are there. It belongs to the date of its first page, whose row
also tells how it came; one that never reached a page (a broken link from elsewhere) belongs to the date of its first
row. What a later day sees of a visit that began before it doesn't begin anew: its steps and seconds go on.

Robots have no visits. They are counted in a dimension of their own; everything else is about people.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.model.coded import Coded, encode, join
from anonproxy.model.vocabularies import INTERNAL, OTHER, PAGEVIEW_KINDS, PAGEVIEW_STATUSES


class Place(NamedTuple):
    """Where cells stand beside each other."""

    date: date
    site: str
    dimension: str


class Counts(NamedTuple):
    """The measures of a cell."""

    hits: int = 0
    pageviews: int = 0
    visits: int = 0
    bounces: int = 0
    seconds: int = 0


Cells = dict[Place, dict[str, Counts]]

# Dimensions that mostly vary together are counted together, since there are few combinations. A row that has no value
# of the first one has none of the others.
TOGETHER: Final = (
    ("total", "referrer", "channel", "campaign", "country", "network_class", "browser", "os", "device", "language"),
    ("page", "search", "item", "download"),
    ("kind", "status", "hour"),
    ("broken",),
    ("failing",),
)
# Dimensions that are columns.
PLAIN: Final = ("kind", "country", "network_class", "browser", "os", "device", "language")
# Pages of one kind. They name what `page` names, and leave no rest to lay beside the rest of `page`.
PARTS_OF_PAGE: Final = ("search", "item", "download")
# Pages that a visit begins and ends with.
ENDS: Final = ("entry", "exit")
WHERE: Final = ("date", "site")
BROKEN: Final = frozenset({404, 410})
FAILING: Final = 500


class Ranked(NamedTuple):
    """A column as numbers in the order of its values, null where it has none."""

    codes: pa.Array
    values: Sequence[Any]

    def only(self, mask: pa.Array) -> "Ranked":
        """Keep the values of some rows."""
        return Ranked(pc.if_else(mask, self.codes, None), self.values)

    def without(self, value: str) -> "Ranked":
        """Leave a value out."""
        return self.only(pc.not_equal(self.codes, self.values.index(value))) if value in self.values else self

    def behind(self, first: pa.Array) -> "Ranked":
        """Take numbers of the same values first, where there are any."""
        return Ranked(pc.coalesce(first, self.codes), self.values)

    def filled(self, value: str) -> "Ranked":
        """Give one of the values to rows that have none."""
        return Ranked(self.codes.fill_null(self.values.index(value)), self.values)


def rank(column: Coded[Any], *others: str) -> Ranked:
    """Give the values of a column, and some others, numbers in their order."""
    values = sorted({value for value in column.values if value is not None}.union(others))
    numbers = {value: number for number, value in enumerate(values)}
    return Ranked(pa.array([numbers.get(value) for value in column.values], pa.int64()).take(column.codes), values)


def count_cells(rows: pa.Table) -> Cells:
    """Count rows, and their visits.

    Shape: rows as in the hot tier, with their date
    """
    is_person = encode(rows["bot"]).where(lambda bot: not bot)
    people, robots = rows.filter(is_person), rows.filter(pc.invert(is_person))
    cells: Cells = {}
    for place, value, counts in (*_count_people(people), *_count_robots(robots)):
        cells.setdefault(place, {})[value] = counts
    return cells


type Counted = Iterator[tuple[Place, str, Counts]]


def _count_robots(rows: pa.Table) -> Counted:
    robots = join([encode(rows[name]) for name in ("date", "site", "bot")])
    for counted in robots.codes.value_counts().to_pylist():
        day, site, bot = robots.values[counted["values"]]
        yield Place(day, site, "bot"), bot, Counts(counted["counts"])


def _count_people(rows: pa.Table) -> Counted:
    coded = {name: encode(rows[name]) for name in (*PLAIN, "date", "site", "route", "method", "status", "time")}
    ranked = {name: rank(coded[name]) for name in (*PLAIN, "date", "site", "route")}
    ranked |= {name: rank(encode(rows[name]), OTHER) for name in ("referrer", "channel", "campaign")}
    is_page = pc.and_(
        pc.and_(coded["method"].where("GET".__eq__), coded["status"].where(PAGEVIEW_STATUSES.__contains__)),
        coded["kind"].where(PAGEVIEW_KINDS.__contains__),
    )
    visits, visit = gather_visits(rows, ranked, is_page)
    pages = ranked["route"].only(is_page)
    dimensions = {
        "total": Ranked(pa.repeat(pa.scalar(0, pa.int64()), rows.num_rows), [""]),
        "page": pages,
        **{kind: pages.only(coded["kind"].where(kind.__eq__)) for kind in PARTS_OF_PAGE},
        "broken": ranked["referrer"].only(coded["status"].where(BROKEN.__contains__)),
        "failing": ranked["route"].only(coded["status"].where(FAILING.__le__)),
        "referrer": ranked["referrer"].without(INTERNAL).behind(visits["referrer"].take(visit)).filled(OTHER),
        "channel": ranked["channel"].without("internal").behind(visits["channel"].take(visit)).filled(OTHER),
        "campaign": ranked["campaign"].behind(visits["campaign"].take(visit)),
        "hour": rank(coded["time"].map("{:%H}".format)),
        "status": rank(coded["status"].map(str)),
        **{name: ranked[name] for name in PLAIN},
    }
    requests = pa.table(
        {
            **{name: column.codes for name, column in dimensions.items()},
            "date": ranked["date"].codes,
            "site": ranked["site"].codes,
            "visit": visit,
            "hits": pa.repeat(pa.scalar(1, pa.int64()), rows.num_rows),
            "pageviews": is_page.cast(pa.int64()),
        }
    )
    for name, counts in (*count_requests(requests, visits), *count_ends(visits)):
        values = ranked["route"].values if name in ENDS else dimensions[name].values
        for day, site, number, *measures in zip(*(column.to_pylist() for column in counts.columns), strict=True):
            place = Place(ranked["date"].values[day], ranked["site"].values[site], name)
            yield place, values[number], Counts(*measures)


def gather_visits(rows: pa.Table, ranked: Mapping[str, Ranked], is_page: pa.Array) -> tuple[pa.Table, pa.Array]:
    """Gather what visits are counted by, and find for each row the visit that it counts for, if any.

    Shape: a visit is a row of the table, and the row's number for the rows of its date
    """
    site = ranked["site"]
    numbers = rows["visit"].combine_chunks().dictionary_encode()
    visit = pc.add(pc.multiply(numbers.indices.cast(pa.int64()), len(site.values)), site.codes)
    step, elapsed_s = (rows[name].combine_chunks().cast(pa.int64()) for name in ("step", "elapsed_s"))
    is_first = pc.and_(is_page, pc.equal(step, 1))
    is_start = pc.and_(pc.equal(step, 0), pc.equal(elapsed_s, 0))  # who came before midnight has seconds already
    route, longest_s = ranked["route"], (pc.max(elapsed_s).as_py() or 0) + 1
    latest = pc.add(pc.multiply(pc.add(pc.multiply(step, longest_s), elapsed_s), len(route.values)), route.codes)
    facts = {
        "site": (site.codes, "min"),
        "date": (ranked["date"].only(is_first).codes, "min"),
        "start": (ranked["date"].only(is_start).codes, "min"),
        "entry": (route.only(is_first).codes, "min"),
        "exit": (pc.if_else(is_page, latest, None), "max"),
        **{name: (ranked[name].only(is_first).codes, "min") for name in ("referrer", "channel", "campaign")},
        "pages": (is_page.cast(pa.int64()), "sum"),
        "seconds": (elapsed_s, "max"),
    }
    gathered = (
        pa.table({"visit": visit, **{name: column for name, (column, _) in facts.items()}})
        .filter(pc.is_valid(visit))
        .group_by("visit", use_threads=False)
        .aggregate([(name, function) for name, (_, function) in facts.items()])
        .rename_columns(["visit", *facts])
        .combine_chunks()
    )
    visits = gathered.append_column("bounces", pc.equal(gathered["pages"], 1).cast(pa.int64()))
    visits = set_column(visits, "date", pc.coalesce(visits["date"], visits["start"]))
    visits = set_column(visits, "exit", modulo(visits["exit"], max(1, len(route.values))))
    last = len(numbers.dictionary) * len(site.values)
    places = pc.inverse_permutation(visits["visit"].combine_chunks(), max_index=last)
    place = places.take(visit)
    return visits, pc.if_else(pc.equal(visits["date"].take(place), ranked["date"].codes), place, None)


def count_requests(requests: pa.Table, visits: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Count requests in each dimension, and each visit once a cell."""
    for together in TOGETHER:
        combinations = sum_up(having(requests, together[0]), (*WHERE, *together, "visit"), ("hits", "pageviews"))
        for name in together:
            once = sum_up(having(combinations, name), (*WHERE, name, "visit"), ("hits", "pageviews"))
            visit = once["visit"]
            once = set_column(once, "visits", pc.is_valid(visit).cast(pa.int64()))
            for measure in ("bounces", "seconds"):
                once = set_column(once, measure, visits[measure].take(visit).fill_null(0))
            yield name, sum_up(once, (*WHERE, name), Counts._fields)


def count_ends(visits: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Count the first and the last pages of visits."""
    visits = having(visits, "date")
    for measure in ("hits", "pageviews", "visits"):
        visits = set_column(visits, measure, pa.repeat(pa.scalar(1, pa.int64()), visits.num_rows))
    for name in ENDS:
        yield name, sum_up(having(visits, name), (*WHERE, name), Counts._fields)


def having(rows: pa.Table, name: str) -> pa.Table:
    """Keep the rows that have a value in a column."""
    return rows.filter(pc.is_valid(rows[name])) if rows[name].null_count else rows


def sum_up(rows: pa.Table, keys: Sequence[str], measures: Sequence[str]) -> pa.Table:
    """Sum up measures of rows that have the same keys.

    Shape: keys, then measures
    """
    groups = rows.select([*keys, *measures]).group_by(list(keys), use_threads=False)
    sums = groups.aggregate([(name, "sum") for name in measures])
    return sums.select([*keys, *(f"{name}_sum" for name in measures)]).rename_columns([*keys, *measures])


def set_column(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    """Put a column in the place of the one of its name, or behind the others."""
    if name not in table.column_names:
        return table.append_column(name, column)
    return table.set_column(table.column_names.index(name), name, column)


def modulo(numbers: pa.ChunkedArray, divisor: int) -> pa.ChunkedArray:
    """Give what a division leaves."""
    return pc.subtract(numbers, pc.multiply(pc.divide(numbers, divisor), divisor))
