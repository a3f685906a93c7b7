"""What the recorder asks of a day that an import has made, before it puts it into the store.

Its own rows pass a gate one by one; these come whole, as the bytes of files, from a process of the same user. A file is
taken only if it is byte for byte what this version writes of such rows: so nothing stands in it beside them. Then each
word of the day's vocabulary must be one that this configuration has, or one that the rules would admit; each value of
the rows must be one of these words or of the closed lists; and each number must be of a crowd.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anonproxy.anonymize.address import mask_address, parse_client
from anonproxy.anonymize.admission import MAX_CHARACTERS
from anonproxy.anonymize.referrer import Referrer, parse_host, parse_name
from anonproxy.anonymize.route import Routes
from anonproxy.anonymize.rules import offer_name
from anonproxy.model.columns import DIMENSIONS
from anonproxy.model.settings import PrivacySettings, Settings
from anonproxy.model.vocabularies import OTHER, STATUSES, Origin
from anonproxy.model.vocabulary import GUARDED_COLUMNS, Entry, Vocabulary
from anonproxy.store.imports import Made
from anonproxy.store.layout import DAY_S, Day, Kind
from anonproxy.store.tables import SCHEMAS, render_parquet
from anonproxy.store.write import COUNTED_COLUMNS, FINEST_TIME_S, render_vocabulary, trim_entries

DAYS: Final = ({"vocabulary", "daily"}, {"vocabulary", "daily", "hits"})
MEASURES: Final = ("hits", "pageviews", "visits", "bounces", "seconds")
# What a dimension counts that is no column of hits.
FIXED: Final[Mapping[str, Collection[str]]] = {
    "total": {""},
    "hour": {f"{hour:02}" for hour in range(24)},
    "status": {str(status) for status in STATUSES},
}


class Flaw(StrEnum):
    """Why a day may not be stored."""

    FILES = "files that make no day of a site"
    BYTES = "bytes that this version wouldn't write"
    WORDS = "words that may not be stored"
    ROWS = "rows that may not be stored"
    TOTALS = "totals that may not be stored"


class Unfit(Exception):
    """A day that may not be stored. The message is a flaw's, and nothing of the day."""


class Gate:
    """Lets days through that the rules of a configuration could have made.

    Shape: known, the words that a site's rows may hold without admission
    """

    def __init__(self, settings: Settings, known: Mapping[str, Collection[Entry]]) -> None:
        self._privacy = settings.privacy
        self._known = known
        self._routes = {site.name: Routes(site) for site in settings.sites}

    def verify(self, made: Made) -> None:
        """Verify all of a day.

        Raises: Unfit
        """
        _demand(made.site in self._routes and set(made.files) in DAYS, Flaw.FILES)
        tables = {kind: parse_file(data, kind) for kind, data in made.files.items()}
        entries = [Entry(**entry) for entry in tables["vocabulary"].to_pylist()]
        _demand(self._may_hold(made.site, entries), Flaw.WORDS)
        vocabulary = Vocabulary(entries)
        _demand(are_totals(tables["daily"], made, vocabulary, self._privacy.k), Flaw.TOTALS)
        if "hits" in tables:
            _demand(are_rows(tables["hits"], made, vocabulary, self._privacy.k), Flaw.ROWS)

    def _may_hold(self, site: str, entries: Collection[Entry]) -> bool:
        """Tell whether a site's rows may hold these words."""
        routes = self._routes[site]
        routes.learn(entry.value for entry in entries if entry.origin == Origin.SITEMAP)
        allowed = {Entry(site, "route", *template) for template in routes.templates()}.union(self._known[site])
        return all(
            entry in allowed
            or (
                entry == Entry(site, entry.column, entry.value, Origin.ADMITTED, self._privacy.k)
                and len(entry.value) <= MAX_CHARACTERS
                and entry.column in IS_OFFERED
                and IS_OFFERED[entry.column](entry.value, routes, self._privacy)
            )
            for entry in entries
        )


def parse_file(data: bytes, kind: Kind) -> pa.Table:
    """Read the rows of a file that holds nothing else.

    Raises: Unfit
    """
    try:
        rows = pq.ParquetFile(pa.BufferReader(data)).read().cast(SCHEMAS[kind])
        _demand(render_parquet(rows, kind) == data, Flaw.BYTES)
    except (pa.ArrowException, OSError, ValueError):
        raise Unfit(Flaw.BYTES) from None
    return rows


def are_rows(rows: pa.Table, made: Made, vocabulary: Vocabulary, k: int) -> bool:
    """Tell whether unlinked rows are of the day, in the closed world, and their hours those of a crowd."""
    from_s = Day(Path(), made.site, made.date).starts_at
    times_s = rows["time"].cast(pa.int64())
    hours = rows.append_column("person", pc.equal(rows["bot"], "")).filter(pc.not_equal(times_s, from_s))
    crowds = hours.group_by(["time", "route", "person"]).aggregate([([], "count_all")])
    return (
        rows.num_rows == made.rows
        and rows["site"].unique().to_pylist() == [made.site]
        and all(0 <= at_s - from_s < DAY_S and at_s % FINEST_TIME_S == 0 for at_s in times_s.unique().to_pylist())
        and all(
            vocabulary.holds(made.site, name, value)
            for name in GUARDED_COLUMNS
            if name in rows.column_names
            for value in rows[name].unique().to_pylist()
        )
        and all(count >= k for count in crowds["count_all"].to_pylist())
    )


def are_totals(totals: pa.Table, made: Made, vocabulary: Vocabulary, k: int) -> bool:
    """Tell whether totals are of the day and of all its rows, in the closed world, and each cell that of a crowd."""
    cells = totals.to_pylist()
    hits = Counter[str]()
    for cell in cells:
        hits[cell["dimension"]] += cell["hits"]
    return (
        len({(cell["dimension"], cell["value"]) for cell in cells}) == len(cells)
        and hits["total"] + hits["bot"] == made.rows
        and all(
            (cell["date"], cell["site"]) == (made.date, made.site)
            and min(cell[name] for name in MEASURES) >= 0
            and _may_be_told(cell["dimension"], cell["value"], vocabulary, made.site)
            and _is_crowd(cell, k)
            for cell in cells
        )
    )


def keep_tiers(made: Made, tiers: Collection[Kind]) -> Made:
    """Leave out what became too old while the day was on its way, and the words that only that could hold."""
    if "hits" in tiers or "hits" not in made.files:
        return made
    entries = [Entry(**entry) for entry in parse_file(made.files["vocabulary"], "vocabulary").to_pylist()]
    totals = made.files["daily"]
    kept = trim_entries({(each.column, each.value): each for each in entries}, parse_file(totals, "daily"))
    return made._replace(files={"vocabulary": render_vocabulary(kept), "daily": totals})


def _may_be_told(dimension: str, value: str, vocabulary: Vocabulary, site: str) -> bool:
    if value == OTHER or dimension not in DIMENSIONS:
        return dimension in DIMENSIONS
    if dimension in FIXED:
        return value in FIXED[dimension]
    return vocabulary.holds(site, COUNTED_COLUMNS.get(dimension, dimension), value)


def _is_crowd(cell: Mapping[str, int | str], k: int) -> bool:
    """Tell whether k visits stand behind a cell; robots have no visits, so their requests count."""
    if cell["dimension"] == "total" or cell["value"] == OTHER:
        return True
    return int(cell["hits" if cell["dimension"] == "bot" else "visits"]) >= k


def _is_offered_route(value: str, routes: Routes, _privacy: PrivacySettings) -> bool:
    page = value.removesuffix("/**") + "/a.css" if value.endswith("/**") else value  # a folder of files of the page's
    return routes.match(page, 200, False).candidate == value


def _is_offered_network(value: str, _routes: Routes, privacy: PrivacySettings) -> bool:
    address = parse_client(value.partition("/")[0]) if privacy.store_network else None
    return address is not None and value in mask_address(address, privacy.ipv4_prefix, privacy.ipv6_prefix)


def _is_offered_referrer(value: str, _routes: Routes, _privacy: PrivacySettings) -> bool:
    return parse_host(value) == Referrer(value, "other", False) and _is_harmless(value)


def _is_offered_campaign(value: str, _routes: Routes, _privacy: PrivacySettings) -> bool:
    return parse_name(value) == value and _is_harmless(value)


def _is_harmless(value: str) -> bool:
    return offer_name(value).candidates == (value,)


# Whether the rules would offer a value for admission, by the column.
IS_OFFERED: Final[Mapping[str, Callable[[str, Routes, PrivacySettings], bool]]] = {
    "route": _is_offered_route,
    "network": _is_offered_network,
    "referrer": _is_offered_referrer,
    "campaign": _is_offered_campaign,
}


def _demand(is_fit: bool, flaw: Flaw) -> None:
    if not is_fit:
        raise Unfit(flaw)
