"""The columns of the store: one table for the Arrow schema, the docs, the public page and the audit."""

from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa

from anonproxy.model import vocabularies as words

SCHEMA_VERSION: Final = 1

Tier = Literal["hot", "hits", "daily"]
# enumerated: the same closed list for everyone; configured: names from the configuration;
# open: the site's own routes, shipped lists, or values that at least k visits shared.
World = Literal["enumerated", "configured", "open", "bucket", "measure", "keyed"]


@dataclass(frozen=True, slots=True)
class Column:
    """One stored column: its type, where its values come from, and why it is there."""

    name: str
    type: pa.DataType
    world: World
    meaning: str
    purpose: str
    values: frozenset[str] | frozenset[int] = frozenset()
    nullable: bool = False
    hot_only: bool = False


def _strings(*groups: tuple[str, ...] | frozenset[str]) -> frozenset[str]:
    return frozenset().union(*groups)


HIT_COLUMNS: Final = (
    Column("time", pa.timestamp("s", tz="UTC"), "bucket",
           "Time of the request, floored to the resolution (default one hour)",
           "When the site is busy"),
    Column("site", pa.string(), "configured", "Name of the site in the configuration", "Several sites, one store"),
    Column("method", pa.string(), "enumerated", "HTTP method", "Reading apart from sending",
           _strings(words.METHODS)),
    Column("route", pa.string(), "open",
           "Page as a template of the site's own routes, identifiers replaced",
           "Which pages people need"),
    Column("kind", pa.string(), "enumerated", "What sort of page it is", "Searches, items and downloads as totals",
           _strings(words.KINDS)),
    Column("status", pa.uint16(), "enumerated", "HTTP status; 0 when the visitor left before an answer",
           "Broken links and outages", words.STATUSES),
    Column("size_bytes", pa.int64(), "bucket", "Bytes sent, as the lower bound of one of 24 buckets",
           "Transfer volume", frozenset(words.SIZE_BUCKETS_BYTES)),
    Column("duration_ms", pa.int32(), "bucket", "Time to answer, as the lower bound of one of 12 buckets",
           "Slow pages", frozenset(words.DURATION_BUCKETS_MS)),
    Column("visit", pa.uint64(), "keyed",
           "Number of the visit, a keyed hash whose key is destroyed within a day; absent for opt-outs, "
           "children's and sensitive pages and robots",
           "Visits, entry and exit pages", nullable=True, hot_only=True),
    Column("step", pa.uint8(), "bucket", "Place of the page in its visit",
           "Entry and exit pages", frozenset(range(words.MAX_STEP + 1)), nullable=True, hot_only=True),
    Column("elapsed_s", pa.int32(), "bucket", "Seconds since the visit began, as the lower bound of one of 12 buckets",
           "Length of visits", frozenset(words.ELAPSED_BUCKETS_S), nullable=True, hot_only=True),
    Column("network", pa.string(), "open",
           "Network of the visitor, at most /24 (IPv4) or /32 (IPv6), widened until k visits share it",
           "Reach of the library, faults of one provider", nullable=True),
    Column("network_class", pa.string(), "configured", "In the building, staff, town, or remote",
           "Use in the building and outside"),
    Column("country", pa.string(), "enumerated", "Country (ISO 3166 alpha-2), ?? if unknown",
           "Reach of the library", words.COUNTRIES | {words.UNKNOWN_COUNTRY}),
    Column("referrer", pa.string(), "open", "Site that linked here: a public or configured domain, never a path",
           "Which partners send visitors"),
    Column("channel", pa.string(), "enumerated", "How the visitor came", "Which outreach works",
           _strings(words.CHANNELS)),
    Column("campaign", pa.string(), "open", "Campaign name from the configuration or shared by k visits",
           "Which newsletter or poster works", nullable=True),
    Column("browser", pa.string(), "enumerated", "Browser family, without version", "What the site must work with",
           _strings(words.BROWSERS)),
    Column("os", pa.string(), "enumerated", "Operating system family, without version",
           "What the site must work with", _strings(words.OSES)),
    Column("device", pa.string(), "enumerated", "Class of device", "Phone or desktop first",
           _strings(words.DEVICES)),
    Column("bot", pa.string(), "enumerated", "Class of robot; empty for a person", "People apart from robots",
           _strings(words.BOTS)),
    Column("language", pa.string(), "configured", "Preferred language, primary subtag from a fixed list",
           "Which translations are needed"),
)  # fmt: skip

DIMENSIONS: Final = (
    "total", "page", "entry", "exit", "search", "item", "download", "broken", "failing", "kind", "referrer", "channel",
    "campaign", "country", "network_class", "browser", "os", "device", "language", "hour", "status", "bot",
)  # fmt: skip

DAILY_COLUMNS: Final = (
    Column("date", pa.date32(), "bucket", "Day (UTC)", "Trends"),
    Column("site", pa.string(), "configured", "Name of the site in the configuration", "Several sites, one store"),
    Column("dimension", pa.string(), "enumerated", "What the day is counted by", "One table for all breakdowns",
           frozenset(DIMENSIONS)),
    Column("value", pa.string(), "open", "Value of the dimension; (other) gathers values of fewer than k visits",
           "Breakdowns"),
    Column("hits", pa.int64(), "measure", "Requests", "Load"),
    Column("pageviews", pa.int64(), "measure", "Pages looked at by people", "Use"),
    Column("visits", pa.int64(), "measure", "Visits", "Use"),
    Column("bounces", pa.int64(), "measure", "Visits of a single page", "Pages that lose people"),
    Column("seconds", pa.int64(), "measure", "Sum of visit lengths, from buckets", "Length of visits"),
)  # fmt: skip

VOCABULARY_COLUMNS: Final = (
    Column("site", pa.string(), "configured", "Name of the site", "Audit"),
    Column("column", pa.string(), "enumerated", "Column that may hold the value", "Audit",
           frozenset(column.name for column in HIT_COLUMNS)),
    Column("value", pa.string(), "open", "A value that the column may hold", "Audit"),
    Column("origin", pa.string(), "enumerated", "How the value came into the vocabulary", "Audit",
           _strings(tuple(words.Origin))),
    Column("visits", pa.int32(), "measure", "Visits that had shown an admitted value when it was admitted (k)",
           "Audit", nullable=True),
)  # fmt: skip

TIERS: Final[dict[Tier, tuple[Column, ...]]] = {
    "hot": HIT_COLUMNS,
    "hits": tuple(column for column in HIT_COLUMNS if not column.hot_only),
    "daily": DAILY_COLUMNS,
}


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Return the Arrow schema of a table of columns, without metadata."""
    return pa.schema([pa.field(column.name, column.type, column.nullable) for column in columns])
