"""Every stored value comes from a published vocabulary: set inclusion, no guessing."""

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome, describe, look_at_tables, values
from anonproxy.audit.evidence import Evidence, Word
from anonproxy.audit.specimen import SEALED, change_rows
from anonproxy.audit.tables import Table, Value
from anonproxy.audit.tree import Place, Tier
from anonproxy.model.columns import DIMENSIONS, HIT_COLUMNS, TIERS, Column
from anonproxy.model.vocabularies import BOTS, DIRECT, INTERNAL, OTHER, REDACTED, UNLISTED, UNMATCHED, Origin

TIERS_LOOKED_AT: Final[tuple[Tier, ...]] = ("hot", "hits", "daily", "vocabulary")

# What says why a value is absent, by column.
PLACEHOLDERS: Final[Mapping[str, frozenset[str]]] = {
    "route": frozenset({UNLISTED, UNMATCHED, REDACTED}),
    "referrer": frozenset({DIRECT, INTERNAL, OTHER}),
    "campaign": frozenset({OTHER}),
}

# What an open value looks like, whoever let it in; networks have a check of their own. Single spaces are from titles.
SHAPES: Final[Mapping[str, re.Pattern[str]]] = {
    "route": re.compile(r"/(?:[^?#\s\x00-\x1f\x7f]|(?<=\S) (?=\S)){0,2047}"),
    "network_class": re.compile(r"[a-z0-9][a-z0-9_-]{0,31}"),
    "referrer": re.compile(r"[a-z0-9.:\[\]-]{1,253}"),
    "campaign": re.compile(r"[^/?#@\s\x00-\x1f\x7f]{1,64}"),
    "language": re.compile(r"[a-z]{2,3}|other"),
}

# How a value may have come into each column's vocabulary.
ORIGINS: Final[Mapping[str, frozenset[Origin]]] = {
    "route": frozenset({Origin.ENUMERATED, Origin.CONFIGURED, Origin.PRESET, Origin.SITEMAP, Origin.ADMITTED}),
    "network": frozenset({Origin.ADMITTED}),
    "network_class": frozenset({Origin.CONFIGURED}),
    "referrer": frozenset({Origin.ENUMERATED, Origin.CONFIGURED, Origin.LIST, Origin.ADMITTED}),
    "campaign": frozenset({Origin.ENUMERATED, Origin.CONFIGURED, Origin.ADMITTED}),
    "language": frozenset({Origin.CONFIGURED}),
}

_HITS: Final[Mapping[str, Column]] = {column.name: column for column in HIT_COLUMNS}
# Which column a dimension counts, where it isn't the one of its name.
_COUNTED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("page", "entry", "exit", "search", "item", "download", "failing"), "route"),
    "broken": "referrer",
}
_FIXED_DIMENSIONS: Final[Mapping[str, Collection[Value]]] = {
    "total": {""},
    "hour": {f"{hour:02}" for hour in range(24)},
    "status": {str(status) for status in _HITS["status"].values},
    "bot": set(BOTS),
}


def look(evidence: Evidence) -> Outcome:
    """Compare every distinct value, in rows and in dictionary pages, with what its column may hold."""
    finders = {
        "hot": find_in_hits,
        "hits": find_in_hits,
        "daily": find_in_daily,
        "vocabulary": find_in_vocabulary,
    }

    def find(table: Table) -> Iterator[Finding]:
        yield from find_unused(table)
        yield from finders[str(table.place.tier)](evidence, table)

    return look_at_tables(evidence, TIERS_LOOKED_AT, find)


def find_unused(table: Table) -> Iterator[Finding]:
    """Find what stands in a dictionary page and in no row: rows that were filtered out leave it behind."""
    for column in table.columns.values():
        for value in column.unused:
            yield Finding(f"{table.path}, dictionary page of {column.name}", f"no row has it ({describe(value)})")


def find_in_hits(evidence: Evidence, table: Table) -> Iterator[Finding]:
    """Find values of requests' rows that no vocabulary holds."""
    words = _words(evidence, table.place)
    open_columns = [name for name in ORIGINS if name in table.columns]
    if words is None:
        yield Finding(table.path, "its day has no vocabulary that can be read")
    for name, value, where in values(table, open_columns if words is not None else ()):
        if value is not None and (name, value) not in (words or {}):
            yield Finding(where, f"not in the vocabulary ({describe(value)})")
    yield from _find_in_lists(table, TIERS["hot"])


def find_in_daily(evidence: Evidence, table: Table) -> Iterator[Finding]:
    """Find values of daily totals that their dimension doesn't know."""
    words = _words(evidence, table.place)
    for (dimension, value), row in table.distinct("dimension", "value").items():
        where = f"{table.path}, value of row {row + 1}"
        if dimension not in DIMENSIONS or value == OTHER:
            continue
        column = _COUNTED.get(str(dimension), str(dimension))
        if column not in ORIGINS:
            if value not in _FIXED_DIMENSIONS.get(column, _HITS[column].values if column in _HITS else ()):
                yield Finding(where, f"not a value of its dimension ({describe(value)})")
        elif (column, value) not in (words or {}):
            yield Finding(where, f"not in its vocabulary ({describe(value)})")
    yield from _find_in_lists(table, TIERS["daily"])


def find_in_vocabulary(evidence: Evidence, table: Table) -> Iterator[Finding]:
    """Find entries that came into the vocabulary in no allowed way."""
    for (site,), row in table.distinct("site").items():
        if site != table.place.site:
            yield Finding(f"{table.path}, site of row {row + 1}", f"another site ({describe(site)})")
    entries = table.distinct("column", "value", "origin", "visits")
    for (column, value, origin, visits), row in entries.items():
        if flaw := _flaw(evidence.limits_on(table.place).k, column, value, origin, visits):
            yield Finding(f"{table.path}, row {row + 1}", f"{flaw} ({describe(value)})")


def _flaw(k: int, column: Value, value: Value, origin: Value, visits: Value) -> str:
    if column not in ORIGINS:
        return "a value for a column that has no vocabulary"
    if origin not in ORIGINS[str(column)]:
        return "its column has no values of such an origin"
    if origin == Origin.ENUMERATED and value not in PLACEHOLDERS[str(column)]:
        return "called a placeholder of its column and is none"
    shape = SHAPES.get(str(column))
    if origin != Origin.ENUMERATED and shape and not shape.fullmatch(str(value)):
        return "not of the shape that values of its column have"
    if origin == Origin.ADMITTED and not (isinstance(visits, int) and visits >= k):
        return f"admitted without {k} visits"
    if origin != Origin.ADMITTED and visits is not None:
        return "counted, though it was not admitted"
    return ""


def _find_in_lists(table: Table, columns: tuple[Column, ...]) -> Iterator[Finding]:
    """Find values outside the closed lists, and of another site than the path's."""
    allowed: dict[str, Collection[Value]] = {
        column.name: column.values for column in columns if column.world == "enumerated"
    }
    for name, value, where in values(table, allowed):
        if value not in allowed[name]:
            yield Finding(where, f"not one of the {len(allowed[name])} values of its list ({describe(value)})")
    for name, value, where in values(table, ("site",)):
        if value != table.place.site:
            yield Finding(where, f"another {name} than the path's ({describe(value)})")


def _words(evidence: Evidence, place: Place) -> Mapping[tuple[Value, Value], Word] | None:
    """Give the vocabulary of a day; a visit that goes on after midnight exits on a page of the day after."""
    if place.site is None or place.day is None:
        return None
    words = evidence.vocabulary(place.site, place.day)
    if place.tier != "daily":
        return words
    following = evidence.vocabulary(place.site, place.day + timedelta(days=1))
    return {**(following or {}), **(words or {})}


def sabotage(root: Path) -> None:
    """Store a page that nobody admitted."""
    change_rows(root, SEALED, lambda rows: rows[0].update(route="/patron/jane-doe"))


CHECK: Final = Check(
    code="closed-world",
    claim="Every stored value comes from a published vocabulary",
    how="Each distinct value of rows and dictionary pages is looked up in the closed lists of anonproxy.model and in "
    "the store's own vocabulary of its site and day; no dictionary page may hold a value that no row has.",
    look=look,
    sabotage=sabotage,
)
