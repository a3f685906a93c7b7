"""How many stand alone: the share of rows and visits that nobody else resembles.

Most of it is figures, and no verdict follows from them. How many rows stand alone depends on how many people came: a
village library with thirty visits a day has thin hours under any settings, and must not fail for being small. So the
check says what it measured, what to aim at, and which settings would bring it there.

One thing is a verdict. Where a crowd was there, it must hide its members: in an hour that 20 k visits shared, or as
many rows, no more than half may stand alone. In a synthetic town 14 % of the visits are unique by hour, wide network
and browser, 41 % by hour and /24, and 85 % by hour, /24 and the whole User-Agent: what any settings may store stays
below one half, and what lies above it has more in it than the columns should hold.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa

from anonproxy.audit.check import Check, Figure, Finding, Outcome, render_share
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import SEALED, Row, change_rows
from anonproxy.audit.tables import Column, Table, Value
from anonproxy.audit.tree import Tier
from anonproxy.model.vocabularies import BROWSERS, DEVICES, OSES, PAGEVIEW_KINDS

# What somebody else may know about a visitor: when they came, from where, with what.
QUASI: Final = ("time", "site", "network", "country", "network_class", "browser", "os", "device", "language")

# An hour of so many times k visits is a crowd, and no more than this share of it may stand alone.
CROWD_PER_K: Final = 20
MAX_ALONE_IN_CROWD: Final = 0.5

# What to aim at for rows that are kept for months. One in twenty may stand alone: hour, browser and device come to
# 0.5 %, and each further column costs. One in four may have fewer than k like it: they still hide each other. One in
# ten may be in a group of one page only: whoever is known to be in the group is known to have read that.
AIM_ALONE: Final = 0.05
AIM_BELOW_K: Final = 0.25
AIM_OF_ONE_PAGE: Final = 0.10

# What would make rows more alike, by the columns that it takes away or makes coarser.
REMEDIES: Final[Mapping[str, frozenset[str]]] = {
    "privacy.store_network = false": frozenset({"network"}),
    'privacy.time_resolution = "1day"': frozenset({"time"}),
    "both of them": frozenset({"network", "time"}),
}

_CONFIG: Final[dict[str, Any]] = {
    "temp_directory": "",  # nothing is spilled to a disk
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}

# Of hot rows visits are counted, and each row that belongs to none; settled rows know no visits, so rows are.
_CROWD: Final = "count(DISTINCT visit) + count(*) FILTER (visit IS NULL) AS crowd"
_CLASSES: Final = f"""
    CREATE TEMP VIEW classes AS
    SELECT {", ".join(QUASI)}, count(*) AS size, {_CROWD}, count(DISTINCT route) AS routes
    FROM requests WHERE is_person GROUP BY ALL
"""  # noqa: S608 - names of columns, all of them written above
_SUMS: Final = """
    SELECT coalesce(sum(size), 0)::BIGINT, coalesce(sum(size) FILTER (crowd = 1), 0)::BIGINT,
        coalesce(sum(size) FILTER (crowd < $k), 0)::BIGINT, coalesce(sum(size) FILTER (routes = 1), 0)::BIGINT
"""
_SHARES: Final = f"{_SUMS} FROM classes"
_SHARES_WITH: Final = {
    remedy: f"""
        {_SUMS} FROM (
            SELECT count(*) AS size, {_CROWD}, count(DISTINCT route) AS routes
            FROM requests WHERE is_person GROUP BY {", ".join(name for name in QUASI if name not in without)}
        )
    """  # noqa: S608 - as above
    for remedy, without in REMEDIES.items()
}
_CROWDS: Final = """
    SELECT sum(crowd)::BIGINT AS members, coalesce(sum(crowd) FILTER (crowd = 1), 0)::BIGINT AS alone
    FROM classes GROUP BY time, site HAVING members >= $crowd AND alone > $share * members
    ORDER BY members
"""
_TRAILS: Final = """
    SELECT coalesce(sum(visits), 0)::BIGINT, coalesce(sum(visits) FILTER (visits = 1), 0)::BIGINT
    FROM (
        SELECT trail, count(*) AS visits
        FROM (
            SELECT list(route ORDER BY step, elapsed_s, route) AS trail
            FROM requests WHERE visit IS NOT NULL AND is_page GROUP BY visit
        )
        GROUP BY trail
    )
"""


class Shares(NamedTuple):
    """How many rows there are, and how many of them are in a bad way."""

    rows: int = 0
    alone: int = 0
    below_k: int = 0
    of_one_page: int = 0

    def part(self, name: str) -> float:
        """Give one of the numbers as a share of all rows."""
        return float(getattr(self, name)) / self.rows if self.rows else 0.0

    def plus(self, other: Iterable[int]) -> "Shares":
        """Add another day's."""
        return Shares(*map(sum, zip(self, other, strict=True)))


def look(evidence: Evidence) -> Outcome:
    """Count who resembles whom, day by day, and the trails of pages over the whole hot tier."""
    findings: list[Finding] = []
    figures: list[Figure] = []
    rows = 0
    for tier in ("hot", "hits"):
        shares, remedied = Shares(), dict.fromkeys(REMEDIES, Shares())
        for where, k, tables in _days(evidence, tier):
            with _connect(tables) as connection:
                connection.execute(_CLASSES)
                shares = shares.plus(_first(connection, _SHARES, {"k": k}))
                findings += _find_crowds(connection, where, k, tier)
                for remedy, query in _SHARES_WITH.items() if tier == "hits" else ():
                    remedied[remedy] = remedied[remedy].plus(_first(connection, query, {"k": k}))
        rows += shares.rows
        figures += _tell(tier, shares, remedied, evidence.limits.k) if shares.rows else ()
    visits, unique = _count_trails(evidence)
    figures += _tell_trails(visits, unique, evidence.limits.hot_hours)
    return Outcome(
        {"rows": rows, "visits": visits}, tuple(findings), tuple(evidence.unread("hot", "hits")), tuple(figures)
    )


def _find_crowds(connection: duckdb.DuckDBPyConnection, where: str, k: int, tier: Tier) -> Iterator[Finding]:
    what = "visits" if tier == "hot" else "rows"
    params = {"crowd": CROWD_PER_K * k, "share": MAX_ALONE_IN_CROWD}
    for members, alone in connection.execute(_CROWDS, params).fetchall():
        yield Finding(where, f"of {members:,} {what} of one time, {alone:,} are described as no other is")


def _tell(tier: Tier, shares: Shares, remedied: Mapping[str, Shares], k: int) -> Iterator[Figure]:
    """Say how many stand out; of rows that are kept for months, also what to aim at and what would help."""
    unit = "visits" if tier == "hot" else "rows"
    measured = (
        ("alone", f"{tier}: rows that stand alone by time, network, place, device and language", AIM_ALONE),
        ("below_k", f"{tier}: rows with fewer than {k} {unit} like them", AIM_BELOW_K),
        ("of_one_page", f"{tier}: rows in a group of one page only (l-diversity 1)", AIM_OF_ONE_PAGE),
    )
    for name, what, aim in measured:
        if tier == "hot":
            yield Figure(what, shares.part(name))
        else:
            share = shares.part(name)
            less = {remedy: of.part(name) for remedy, of in remedied.items() if of.part(name) < share}
            yield Figure(what, share, aim, _advise(less) if share > aim else "")


def _advise(less: Mapping[str, float]) -> str:
    """Say which other settings would have made less of the same rows stand out."""
    changes = "; ".join(f"{render_share(share)} with {remedy}" for remedy, share in less.items())
    would = f"It would be {changes}" if changes else "No coarser time or network would change it"
    return f"{would}. A shorter store.hits_days keeps fewer such rows"


def _tell_trails(visits: int, unique: int, hot_hours: int) -> Iterator[Figure]:
    if visits:
        yield Figure(
            f"hot: visits, of {visits:,}, that opened pages in an order that no other visit has",
            unique / visits,
            advice=f"Nothing but forgetting helps against that: so visit numbers live for {hot_hours} h at most",
        )


# --- Counting -------------------------------------------------------------------------------------------------------


def _days(evidence: Evidence, tier: Tier) -> Iterator[tuple[str, int, list[Table]]]:
    """Give the tables of each site and day, with the folder's name and the k of that day."""
    tables = sorted(evidence.tables(tier), key=_folder)
    for folder, of_day in groupby(tables, key=_folder):
        found = list(of_day)
        yield folder, evidence.limits_on(found[0].place).k, found


def _folder(table: Table) -> str:
    return "/".join(table.path.split("/")[:3])


def _count_trails(evidence: Evidence) -> tuple[int, int]:
    with _connect(list(evidence.tables("hot"))) as connection:
        visits, unique = _first(connection, _TRAILS, {})
        return visits, unique


def _first(connection: duckdb.DuckDBPyConnection, query: str, params: dict[str, int]) -> tuple[int, ...]:
    row = connection.execute(query, params or None).fetchone()
    return row or ()


def _connect(tables: Sequence[Table]) -> duckdb.DuckDBPyConnection:
    """Open a database in memory with the rows as numbers: no text leaves the audit's own reader."""
    connection = duckdb.connect(":memory:", config=_CONFIG)
    index: dict[str, dict[Value, int]] = {}
    connection.register("requests", pa.concat_tables([_SCHEMA.empty_table(), *(_encode(t, index) for t in tables)]))
    return connection


_SCHEMA: Final = pa.schema(
    [
        *((name, pa.int32()) for name in (*QUASI, "route", "visit")),
        *((name, pa.int64()) for name in ("step", "elapsed_s")),
        *((name, pa.bool_()) for name in ("is_person", "is_page")),
    ]
)


def _encode(table: Table, index: dict[str, dict[Value, int]]) -> pa.Table:
    """Give each value of a column a number, alike in all tables; what is missing in a table is null."""
    columns = {name: _number(table, name, index.setdefault(name, {})) for name in (*QUASI, "route", "visit")}
    columns |= {name: _take(table, name, _number_itself, pa.int64()) for name in ("step", "elapsed_s")}
    columns["is_person"] = _take(table, "bot", lambda value: value == "", pa.bool_())
    columns["is_page"] = _take(table, "kind", lambda value: value in PAGEVIEW_KINDS, pa.bool_())
    return pa.table(columns, schema=_SCHEMA)


def _number(table: Table, name: str, numbers: dict[Value, int]) -> pa.Array:
    return _take(
        table, name, lambda value: None if value is None else numbers.setdefault(value, len(numbers)), pa.int32()
    )


def _number_itself(value: Value) -> int | None:
    return value if isinstance(value, int) else None


def _take(table: Table, name: str, convert: Any, type_: pa.DataType) -> pa.Array:
    column = table.columns.get(name)
    if column is None:
        return pa.nulls(table.row_count, type_)
    return pa.array([convert(value) for value in column.distinct], type_).take(_codes(column))


def _codes(column: Column) -> pa.Array:
    types: dict[str, pa.DataType] = {"B": pa.uint8(), "H": pa.uint16(), "I": pa.uint32()}
    codes: array[int] = column.codes
    return pa.Array.from_buffers(types[codes.typecode], len(codes), [None, pa.py_buffer(codes)])


def sabotage(root: Path) -> None:
    """Describe each of 240 visits in one hour as no other is: a fingerprint spelled in allowed words."""

    def change(rows: list[Row]) -> None:
        model = next(row for row in rows if row["visit"])
        looks = [(browser, os, device) for browser in BROWSERS for os in OSES for device in DEVICES][: CROWD_PER_K * 12]
        rows[:] = [
            {**model, "visit": model["visit"] ^ number << 8, "step": 1, "elapsed_s": 0,
             "browser": browser, "os": os, "device": device}
            for number, (browser, os, device) in enumerate(looks)
        ]  # fmt: skip

    change_rows(root, SEALED, change)


CHECK: Final = Check(
    code="reidentification",
    claim="Where a crowd was there, it hides its members",
    how="Rows of people are grouped by all that somebody else may know (time, site, network, country, class of "
    f"network, browser, system, device, language). In a time that {CROWD_PER_K} k visits or rows share, at most half "
    "may stand alone. How many do so anywhere, how many pages a group shows, and how many visits are unique by "
    "their order of pages, are figures to weigh: they depend on how many people came.",
    look=look,
    sabotage=sabotage,
)
