"""A specimen: a small clean store, made without the store's own code, for checks to prove themselves on.

Two days of one site. The day before is settled; of the present day one hour is sealed and one is open.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from anonproxy.audit.ledger import Ledger
from anonproxy.audit.tree import DAY_S, HOUR_S, parse_place, walk
from anonproxy.model.columns import SCHEMA_VERSION, TIERS, VOCABULARY_COLUMNS, Column, arrow_schema
from anonproxy.model.vocabularies import DIRECT, OTHER, REDACTED, UNLISTED, UNMATCHED

Row = dict[str, Any]

NOW: Final = int(datetime(2026, 11, 21, 15, 20, tzinfo=UTC).timestamp())
TODAY: Final = NOW // DAY_S * DAY_S
YESTERDAY: Final = TODAY - DAY_S

SEALED: Final = "hot/site=www/date=2026-11-21/10.parquet"
SEGMENT: Final = "hot/site=www/date=2026-11-21/15.open/5d1f0c2ab3e49876.parquet"
HITS: Final = "hits/site=www/date=2026-11-20/hits.parquet"
DAILY: Final = "daily/site=www/date=2026-11-20/daily.parquet"
VOCABULARY: Final = "vocabulary/site=www/date=2026-11-21/vocabulary.parquet"
LEDGER: Final = "ledger/ledger.jsonl"

COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    **{str(tier): columns for tier, columns in TIERS.items()},
    "vocabulary": VOCABULARY_COLUMNS,
}

_PAGES: Final = (("/events", "page"), ("/search", "search"), ("/record/{id}", "item"), ("/hours", "page"))
_WORDS: Final = (
    *(("route", value, "enumerated", None) for value in (UNLISTED, UNMATCHED, REDACTED)),
    *(("route", route, "configured", None) for route, _ in _PAGES),
    ("route", "/reading-club", "admitted", 10),
    ("network", "203.0.113.0/24", "admitted", 10),
    ("network", "2001:db8::/32", "admitted", 10),
    ("network_class", "remote", "configured", None),
    ("network_class", "in-library", "configured", None),
    *(("referrer", value, "enumerated", None) for value in (DIRECT, "(internal)", OTHER)),
    ("referrer", "google.com", "list", None),
    ("campaign", OTHER, "enumerated", None),
    ("campaign", "summer-reading", "configured", None),
    ("language", "en", "configured", None),
    ("language", "other", "configured", None),
)


@dataclass(frozen=True, slots=True)
class Style:
    """How a file is written; what differs from the default is a sabotage."""

    is_sorted: bool = True
    row_group_size: int = 1 << 20
    statistics: tuple[str, ...] | None = None  # None: the columns that may have them
    metadata: Mapping[str, str] | None = None  # beside the fixed keys
    extra: Mapping[str, pa.DataType] | None = None  # columns beside the declared ones
    unused: Mapping[str, str] | None = None  # by column, a value that only its dictionary page holds


PLAIN: Final = Style()


def write_specimen(root: Path) -> None:
    """Write a clean store into a new folder."""
    root.mkdir(0o700)
    ledger = Ledger(root / "ledger", YESTERDAY)
    ledger.append("started", {"version": "0.1.0"}, YESTERDAY)
    ledger.append("configured", {"settings_sha256": sha256(b"settings").hexdigest()}, YESTERDAY)
    ledger.append("rotated", {}, TODAY + 4 * HOUR_S)
    write_day(root, YESTERDAY)
    write_hour(root, TODAY + 10 * HOUR_S)
    write_rows(root, SEGMENT, visit_rows(TODAY + 15 * HOUR_S, 5))
    tidy(root)


def write_hour(root: Path, time_s: int, visits: int = 12, *, is_journalled: bool = True) -> str:
    """Write an hour as the store seals it, with the vocabulary of its day, and return its path."""
    day, hour = divmod(time_s, DAY_S)
    path = f"hot/{_day_path(day * DAY_S)}/{hour // HOUR_S:02}.parquet"
    write_rows(root, path, visit_rows(time_s, visits))
    write_vocabulary(root, time_s)
    if is_journalled:
        own(root, path)
    tidy(root)
    return path


def write_day(root: Path, time_s: int, *, is_journalled: bool = True) -> None:
    """Write a day as the store settles it."""
    day = _day_path(time_s)
    write_rows(root, f"hits/{day}/hits.parquet", [_unlinked(row) for row in visit_rows(time_s + 9 * HOUR_S, 12)])
    write_rows(root, f"daily/{day}/daily.parquet", _daily_rows(time_s))
    write_vocabulary(root, time_s)
    if is_journalled:
        own(root, f"hits/{day}/hits.parquet")
    tidy(root)


def write_vocabulary(root: Path, time_s: int) -> None:
    """Write a day's vocabulary."""
    write_rows(root, f"vocabulary/{_day_path(time_s)}/vocabulary.parquet", [_word_row(*word) for word in _WORDS])


def write_rows(root: Path, path: str, rows: Sequence[Row], style: Style = PLAIN) -> None:
    """Write rows as the store would, or in another style."""
    tier = path.partition("/")[0]
    schema = arrow_schema(COLUMNS[tier])
    for name, type_ in (style.extra or {}).items():
        schema = schema.append(pa.field(name, type_))
    table = pa.Table.from_pylist(list(rows), schema=schema)
    if style.is_sorted:
        table = table.sort_by([(name, "ascending") for name in table.column_names])
    for name, value in (style.unused or {}).items():
        at = table.column_names.index(name)
        column = _with_unused(table[name].combine_chunks(), value)
        table = table.set_column(at, schema.field(name).with_type(column.type), column)
    metadata = {"anonproxy.schema": str(SCHEMA_VERSION), "anonproxy.version": "0.1.0", "anonproxy.tier": tier}
    target = root / path
    target.parent.mkdir(0o700, parents=True, exist_ok=True)
    enumerated = [column.name for column in COLUMNS[tier] if column.world == "enumerated"]
    with pq.ParquetWriter(
        target,
        table.schema,
        compression="zstd",
        write_statistics=enumerated if style.statistics is None else list(style.statistics),
        store_schema=False,
    ) as writer:
        writer.write_table(table, row_group_size=style.row_group_size)
        writer.add_key_value_metadata({**metadata, **(style.metadata or {})})


def read_rows(root: Path, path: str) -> list[Row]:
    """Read a file's rows."""
    rows: list[Row] = pq.read_table(root / path, partitioning=None).to_pylist()
    return rows


def change_rows(root: Path, path: str, change: Callable[[list[Row]], object], style: Style = PLAIN) -> None:
    """Write a file anew after a change to its rows in place, or only in another style, and own it in the ledger."""
    rows = read_rows(root, path)
    change(rows)
    write_rows(root, path, rows, style)
    own(root, path)


def add_words(root: Path, *words: tuple[str, str, str, int | None]) -> None:
    """Put values into the vocabulary of today: column, value, origin, visits."""
    change_rows(root, VOCABULARY, lambda rows: rows.extend(_word_row(*word) for word in words))


def plant(root: Path, path: str, content: bytes) -> None:
    """Put a file of any content and name into the store, with the modes and times of one that belongs."""
    target = root / path
    target.parent.mkdir(0o700, parents=True, exist_ok=True)
    target.write_bytes(content)
    tidy(root)


def tidy(root: Path) -> None:
    """Give everything the modes and times that a store has."""
    for node in sorted(walk(root), key=lambda node: -node.path.count("/")):
        path = root / node.path
        place = parse_place(node.path, node.kind)
        if node.kind in {"file", "folder"}:
            path.chmod(0o700 if node.kind == "folder" else 0o600)
            time_s = place.starts_at if place and place.day else TODAY
            os.utime(path, (time_s, time_s))


def own(root: Path, path: str) -> None:
    """Put a file into the ledger as it is now, as if the software itself had written it so."""
    place = parse_place(path, "file")
    if place and place.role == "sealed":
        sign(root, "sealed", {"file": path, "sha256": sha256((root / path).read_bytes()).hexdigest()})
    elif place and place.tier in {"hits", "daily"}:
        files = {tier: root / path.replace(str(place.tier), tier) for tier in ("hits", "daily")}
        digests = {f"{tier}_sha256": sha256(file.read_bytes()).hexdigest() for tier, file in files.items()}
        sign(root, "settled", {"site": str(place.site), "date": str(place.day), **digests})
    tidy(root)


def sign(root: Path, event: str, details: Mapping[str, str | int], time_s: int = NOW - HOUR_S) -> None:
    """Append an entry to the ledger with its own key, as the store does, and as who holds the machine could."""
    Ledger(root / "ledger", time_s).append(event, details, time_s)
    tidy(root)


def _with_unused(column: pa.Array, value: str) -> pa.DictionaryArray:
    """Encode a column with one value more than its rows have; pyarrow writes that as well."""
    encoded = column.dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.concat_arrays([encoded.dictionary, pa.array([value])]))


def visit_rows(time_s: int, visits: int) -> list[Row]:
    """Make visits of a few pages each, and a robot's requests."""
    rows = []
    for number in range(visits):
        visit = int.from_bytes(sha256(f"{time_s} {number}".encode()).digest()[:8])
        network = ("203.0.113.0/24", None)[number % 2]
        rows += [
            _row(time_s, route, kind, visit, step, 60 * (step > 1), network)
            for step, (route, kind) in enumerate(_PAGES, 1)
        ]
    robot = {**_row(time_s, "/events", "page", None, None, None, "2001:db8::/32"), "bot": "search"}
    return [*rows, *([robot] * visits)]


def _row(
    time_s: int, route: str, kind: str, visit: int | None, step: int | None, elapsed_s: int | None, network: str | None
) -> Row:
    return {
        "time": datetime.fromtimestamp(time_s, UTC),
        "site": "www",
        "method": "GET",
        "route": route,
        "kind": kind,
        "status": 200,
        "size_bytes": 4_096,
        "duration_ms": 50,
        "visit": visit,
        "step": step,
        "elapsed_s": elapsed_s,
        "network": network,
        "network_class": "remote",
        "country": "US",
        "referrer": "google.com",
        "channel": "search",
        "campaign": None,
        "browser": "Firefox",
        "os": "Linux",
        "device": "desktop",
        "bot": "",
        "language": "en",
    }


def _unlinked(row: Row) -> Row:
    return {column.name: row[column.name] for column in COLUMNS["hits"]}


def _daily_rows(time_s: int) -> list[Row]:
    date = datetime.fromtimestamp(time_s, UTC).date()
    cells = (
        ("total", ""), *(("page", route) for route, _ in _PAGES), ("entry", "/events"), ("exit", "/hours"),
        ("kind", "page"), ("referrer", "google.com"), ("channel", "search"), ("country", "US"),
        ("network_class", "remote"), ("browser", "Firefox"), ("os", "Linux"), ("device", "desktop"),
        ("language", "en"), ("hour", "09"), ("status", "200"), ("bot", "search"),
    )  # fmt: skip
    sizes = dict.fromkeys(("page", "entry", "exit", "bot"), 12)  # of the rest: 12 visits of 4 pages
    return [
        {"date": date, "site": "www", "dimension": dimension, "value": value,
         "hits": sizes.get(dimension, 48), "pageviews": sizes.get(dimension, 48), "visits": 12, "bounces": 0,
         "seconds": 720}
        for dimension, value in cells
    ]  # fmt: skip


def _word_row(column: str, value: str, origin: str, visits: int | None) -> Row:
    return {"site": "www", "column": column, "value": value, "origin": origin, "visits": visits}


def _day_path(time_s: int) -> str:
    return f"site=www/date={datetime.fromtimestamp(time_s, UTC):%Y-%m-%d}"
