"""Nothing that was withheld follows from what was released."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome, look_at_tables
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import DAILY, change_rows
from anonproxy.audit.tables import Table, Value
from anonproxy.audit.tree import Place, Tier
from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.model.vocabularies import OTHER, PAGEVIEW_KINDS, PAGEVIEW_STATUSES

TIERS_LOOKED_AT: Final[tuple[Tier, ...]] = ("daily",)

# Dimensions into which each request of a person falls exactly once: their cells add up to the total.
PARTITIONS: Final = (
    "kind", "referrer", "channel", "country", "network_class", "browser", "os", "device", "language", "hour", "status",
)  # fmt: skip
PAGES: Final = "page"
TOTAL: Final = "total"
MEASURES: Final = ("hits", "pageviews", "visits", "bounces", "seconds")

# Dimensions that tell of pages of one kind what the dimension of all pages may tell, too.
PARTS_OF_PAGES: Final = ("search", "item", "download")

# Dimensions that repeat a column of the rows, so that a reader of settled hits can count along.
COUNTED_ALONG: Final = ("kind", "country", "network_class", "browser", "os", "device", "language", "status")

# Dimensions of which everybody knows all values that there can be; (other) is none of them.
_HITS: Final = {column.name: column for column in HIT_COLUMNS}
LISTS: Final[Mapping[str, Collection[str]]] = {
    "hour": {f"{hour:02}" for hour in range(24)},
    **{name: {str(value) for value in _HITS[name].values} - {""} for name in (*COUNTED_ALONG, "bot")},
}


@dataclass(slots=True)
class Dimension:
    """The cells of one dimension on one day: which values are told by name, and what they sum up to."""

    told: set[Value] = field(default_factory=set)
    has_other: bool = False
    sums: Counter[str] = field(default_factory=Counter)


def look(evidence: Evidence) -> Outcome:
    """Do what a curious reader of the released totals would do: subtract, strike off the list, and compare."""
    hits = {(table.place.site, table.place.day): table for table in evidence.tables("hits")}
    compared: list[str] = []

    def find(table: Table) -> Iterator[Finding]:
        dimensions = read_dimensions(table)
        yield from find_by_subtraction(table, dimensions)
        yield from find_by_elimination(table, dimensions, _lists(evidence, table.place))
        if rows := hits.get((table.place.site, table.place.day)):
            yield from find_by_counting(table, dimensions, rows)
            compared.extend([table.path] * is_left_by_comparing(dimensions, rows))

    outcome = look_at_tables(evidence, TIERS_LOOKED_AT, find, ("dimension", "value", *MEASURES))
    if not compared:
        return outcome
    told = (
        f"{compared[0]}, and {len(compared)} days in all: how many visits one rare page had follows from what the "
        "dimensions of all pages, searches, items and downloads fold differently. Its rows are there by name as well, "
        "as long as settled rows are kept; a larger privacy.k or a shorter store.hits_days tells less"
    )
    return replace(outcome, figures=(*outcome.figures, told))


def read_dimensions(table: Table) -> dict[str, Dimension]:
    """Sum up the cells of each dimension."""
    dimensions: dict[str, Dimension] = defaultdict(Dimension)
    for _, _, name, value, *measures in table.distinct("date", "site", "dimension", "value", *MEASURES):
        dimension = dimensions[str(name)]
        dimension.told |= {value} - {OTHER}
        dimension.has_other |= value == OTHER
        for measure, number in zip(MEASURES, measures, strict=True):
            dimension.sums[measure] += number if isinstance(number, int) else 0
    return dimensions


def find_by_subtraction(table: Table, dimensions: Mapping[str, Dimension]) -> Iterator[Finding]:
    """Find cells that were left out instead of folded: the total minus the rest tells them.

    A visit is in as many cells as it has values, so that visits and what is told of them may add up to more.
    """
    total = dimensions.get(TOTAL, Dimension()).sums
    expected = [(name, measure, total[measure]) for name in PARTITIONS for measure in MEASURES]
    for name, measure, whole in (*expected, (PAGES, "hits", total["pageviews"])):
        if name in dimensions and dimensions[name].sums[measure] < whole:
            yield Finding(
                table.path, f"{measure} of {name}: the total minus the published cells tells what was left out"
            )


def find_by_elimination(
    table: Table, dimensions: Mapping[str, Dimension], lists: Mapping[str, Collection[Value]]
) -> Iterator[Finding]:
    """Find an (other) that can stand for one value only, because all others of the list stand beside it."""
    for name, known in lists.items():
        dimension = dimensions.get(name, Dimension())
        if dimension.has_other and dimension.told and len(set(known) - dimension.told) == 1:
            yield Finding(table.path, f"(other) of {name} can stand for one value only: all others have cells")


def find_by_counting(table: Table, dimensions: Mapping[str, Dimension], rows: Table) -> Iterator[Finding]:
    """Find an (other) that covers one value only, by the rows that are still there."""
    for name in COUNTED_ALONG:
        dimension = dimensions.get(name, Dimension())
        if not dimension.has_other:
            continue
        stored = {str(value) for value, bot in rows.distinct(name, "bot") if bot == ""}
        if len(stored) > 1 and len(stored - dimension.told) == 1:
            yield Finding(table.path, f"(other) of {name} covers one value only, which follows from the total")


def is_left_by_comparing(dimensions: Mapping[str, Dimension], rows: Table) -> bool:
    """Tell whether one value of an (other) is left, once those are taken off that another dimension tells by name."""
    pages = dimensions.get(PAGES, Dimension())
    for name in PARTS_OF_PAGES:
        part = dimensions.get(name, Dimension())
        for whole, told, among in (
            (part, pages.told, _stored_pages(rows, {name})),
            (pages, part.told, _stored_pages(rows, PAGEVIEW_KINDS)),
        ):
            hidden = among - whole.told
            if whole.has_other and len(hidden) > 1 and len(hidden - told) == 1:
                return True
    return False


def _stored_pages(rows: Table, kinds: Collection[str]) -> set[Value]:
    """Give the routes of some kinds that people looked at, according to the rows."""
    return {
        route
        for route, kind, status, bot in rows.distinct("route", "kind", "status", "bot")
        if kind in kinds and bot == "" and status in PAGEVIEW_STATUSES
    }


def _lists(evidence: Evidence, place: Place) -> Mapping[str, Collection[Value]]:
    """Give the closed lists, and what a day's vocabulary says of those that the library configured."""
    words = evidence.vocabulary(place.site, place.day) if place.site and place.day else None
    listed: dict[str, set[Value]] = {"network_class": set(), "language": set()}
    for column, value in words or {}:
        if column in listed:
            listed[str(column)].add(value)
    return {**LISTS, **listed}


def sabotage(root: Path) -> None:
    """Leave out the cell of three requests, and keep them in the total."""
    change_rows(
        root, DAILY, lambda rows: [row.update(hits=row["hits"] - 3) for row in rows if row["dimension"] == "device"]
    )


CHECK: Final = Check(
    code="differencing",
    claim="What was too rare to be told doesn't follow from the totals",
    how="For each released day: the cells of each dimension add up to the total, so that no difference tells one that "
    "was left out; and (other) can't be narrowed down to one value, neither by the list of values that there can be "
    "nor by the settled rows while they are there. What dimensions of the same pages tell of each other is "
    "a figure.",
    look=look,
    sabotage=sabotage,
)
