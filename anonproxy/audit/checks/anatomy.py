"""A file holds the declared columns, their rows, three fixed keys, and not a byte more."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa

from anonproxy.audit.check import Check, Finding, Outcome, look_at_tables
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.parquet_pages import BrokenParquet, ColumnChunk, SchemaElement, Statistics
from anonproxy.audit.specimen import COLUMNS, SEALED, Style, change_rows
from anonproxy.audit.tables import Table
from anonproxy.audit.tree import Tier
from anonproxy.model.columns import SCHEMA_VERSION, Column

TIERS_LOOKED_AT: Final[tuple[Tier, ...]] = ("hot", "hits", "daily", "vocabulary")

# How Parquet says each type: physical type, converted type (a number in parquet.thrift), unsigned, unit of a time.
PHYSICAL: Final[Mapping[pa.DataType, tuple[str, int | None, bool, str | None]]] = {
    pa.string(): ("BYTE_ARRAY", 0, False, None),
    pa.timestamp("s", tz="UTC"): ("INT64", 9, False, "ms"),
    pa.date32(): ("INT32", 6, False, None),
    pa.uint8(): ("INT32", 11, True, None),
    pa.uint16(): ("INT32", 12, True, None),
    pa.int32(): ("INT32", None, False, None),
    pa.int64(): ("INT64", None, False, None),
    pa.uint64(): ("INT64", 14, True, None),
}

METADATA: Final[Mapping[bytes, re.Pattern[bytes]]] = {
    b"anonproxy.schema": re.compile(rb"[1-9]\d{0,2}"),
    b"anonproxy.version": re.compile(rb"\d{1,4}(\.\d{1,4}){1,3}((a|b|rc|\.dev|\.post)\d{1,4}){0,2}"),
    b"anonproxy.tier": re.compile(rb"hot|hits|daily|vocabulary"),
}
CREATED_BY: Final = re.compile(rb"parquet-cpp-arrow version \d{1,3}\.\d{1,3}\.\d{1,3}")


def look(evidence: Evidence) -> Outcome:
    """Compare every file's footer with the declared columns, and look for bytes that nothing points to."""
    return look_at_tables(evidence, TIERS_LOOKED_AT, find)


def find(table: Table) -> Iterator[Finding]:
    """Find what a file holds beside its declared rows."""
    columns = COLUMNS[str(table.place.tier)]
    yield from find_in_schema(table, columns)
    yield from find_in_metadata(table)
    yield from find_in_footer(table, {column.name for column in columns if column.world == "enumerated"})
    try:
        for region in table.file.slack():
            yield Finding(f"{table.path}, byte {region.offset}", f"{region.length} bytes that belong to nothing")
    except BrokenParquet as error:
        yield Finding(table.path, str(error))


def find_in_schema(table: Table, columns: tuple[Column, ...]) -> Iterator[Finding]:
    """Find columns that are not declared, missing, in another place or of another type."""
    expected = [(column.name, *PHYSICAL[column.type], column.nullable) for column in columns]
    got = [_describe_element(element) for element in table.file.schema]
    names = [column.name for column in columns]
    for number, element in enumerate(got):
        if element[0] not in names:
            yield Finding(f"{table.path}, column {number + 1}", "is not declared")
    for name in names:
        if name not in table.columns:
            yield Finding(table.path, f"the column {name} is missing")
    known = [element for element in got if element[0] in names]
    for wanted, element in zip((e for e in expected if e[0] in table.columns), known, strict=True):
        if wanted != element:
            yield Finding(f"{table.path}, column {wanted[0]}", "is of another type than declared, or in another place")


def find_in_metadata(table: Table) -> Iterator[Finding]:
    """Find keys and values of metadata other than the three fixed ones."""
    where = f"{table.path}, key-value metadata"
    found = dict(table.file.metadata)
    if len(found) < len(table.file.metadata):
        yield Finding(where, "a key stands there twice")
    for number, (key, value) in enumerate(table.file.metadata, 1):
        if key not in METADATA:
            yield Finding(where, f"key {number} is not declared ({len(key)} characters, value {len(value)} bytes)")
        elif not METADATA[key].fullmatch(value):
            yield Finding(where, f"{key.decode()} has a value that it can't have ({len(value)} bytes)")
    for key in METADATA.keys() - found.keys():
        yield Finding(where, f"{key.decode()} is missing")
    if found.get(b"anonproxy.tier", b"").decode(errors="replace") not in {"", str(table.place.tier)}:
        yield Finding(where, "anonproxy.tier is another than the path's")
    schema = found.get(b"anonproxy.schema", b"")
    if schema.isdigit() and int(schema) > SCHEMA_VERSION:
        yield Finding(where, "anonproxy.schema is newer than this auditor")
    if not CREATED_BY.fullmatch(table.file.created_by):
        yield Finding(f"{table.path}, created_by", f"not the known writer ({len(table.file.created_by)} characters)")


def find_in_footer(table: Table, with_statistics: set[str]) -> Iterator[Finding]:
    """Find minima, maxima and metadata that a column chunk may not have, and those that no row has."""
    for group in table.file.row_groups:
        for chunk in group.columns:
            where = f"{table.path}, footer, {_shown(table, chunk)}"
            if chunk.metadata:
                yield Finding(where, "metadata of its own")
            if chunk.bloom_filter:
                yield Finding(where, "a Bloom filter, which tells whether a value was there")
            if chunk.path not in with_statistics and _tells_values(table, chunk):
                yield Finding(where, "minimum and maximum in clear, of a column that isn't a closed list")
            elif not _bounds(chunk.statistics) <= _stored(table, chunk):
                yield Finding(where, "a minimum or maximum that no row has")


def _describe_element(element: SchemaElement) -> tuple[str, str, int | None, bool, str | None, bool]:
    return (
        element.name,
        element.type,
        element.converted_type,
        element.is_unsigned,
        element.time_unit,
        element.is_nullable,
    )


def _tells_values(table: Table, chunk: ColumnChunk) -> bool:
    index = table.file.column_index(chunk)
    pages = (page.statistics for page in table.file.pages(chunk))
    return any(_bounds(statistics) for statistics in (chunk.statistics, *pages)) or bool(index and index.minima)


def _bounds(statistics: Statistics | None) -> set[bytes]:
    bounds = (statistics.minimum, statistics.maximum) if statistics else ()
    return {bound for bound in bounds if bound is not None}


def _stored(table: Table, chunk: ColumnChunk) -> set[bytes]:
    """Give a column's values as statistics write them."""
    width = {"INT32": 4, "INT64": 8}.get(chunk.element.type, 0)
    return {
        value.to_bytes(width, "little", signed=value < 0)
        if isinstance(value, int)
        else str(value).encode(errors="surrogateescape")
        for value in table.columns[chunk.path].distinct
        if value is not None
    }


def _shown(table: Table, chunk: ColumnChunk) -> str:
    names = {column.name for column in COLUMNS[str(table.place.tier)]}
    return chunk.path if chunk.path in names else "a column that is not declared"


def sabotage(root: Path) -> None:
    """Keep a referrer in a file's metadata."""
    change_rows(root, SEALED, lambda _: None, Style(metadata={"pandas": "https://mail.example.org/inbox?user=jane"}))


CHECK: Final = Check(
    code="anatomy",
    claim="Files hold the declared columns and nothing beside",
    how="Each footer is compared with the declared columns and keys; minima and maxima stand there only for closed "
    "lists; every byte must belong to a page, an index or the footer.",
    look=look,
    sabotage=sabotage,
)
