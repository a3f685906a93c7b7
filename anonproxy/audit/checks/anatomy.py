"""A file holds the declared columns, their rows, three fixed keys, and not a byte more."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from anonproxy.audit.check import Check, Finding, Outcome, look_at_tables
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.parquet_pages import BYTE_WIDTHS, BrokenParquet, ColumnChunk, Page, SchemaElement, Statistics
from anonproxy.audit.rendition import find_differences, is_comparable, render
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
    """Compare every file with its declared columns, and with what its rows give when they are written anew."""
    renditions = 0

    def find(table: Table) -> Iterator[Finding]:
        nonlocal renditions
        found = list(find_in_file(table))
        yield from found
        # Where something is wrong already, or a dictionary holds too much, a rendition would only say so once more.
        if not found and is_comparable(table) and not any(column.unused for column in table.columns.values()):
            renditions += 1
            yield from find_in_rendition(table)

    outcome = look_at_tables(evidence, TIERS_LOOKED_AT, find)
    return replace(outcome, looked_at={**outcome.looked_at, "rewritten to compare": renditions})


def find_in_rendition(table: Table) -> Iterator[Finding]:
    """Find what a file holds that its own rows don't give."""
    try:
        for place in find_differences(table, render(table, COLUMNS[str(table.place.tier)])):
            yield Finding(f"{table.path}, {place}", "holds something that its rows don't explain")
    except (pa.ArrowException, BrokenParquet, ValueError, IndexError):
        yield Finding(table.path, "is not built as the known writer does it")


def find_in_file(table: Table) -> Iterator[Finding]:
    """Find what a file holds beside its declared rows."""
    columns = COLUMNS[str(table.place.tier)]
    yield from find_in_schema(table, columns)
    yield from find_in_metadata(table)
    try:
        yield from find_in_footer(table, {column.name for column in columns if column.world == "enumerated"})
        for region in table.file.slack():
            yield Finding(f"{table.path}, byte {region.offset}", f"{region.length} bytes that belong to nothing")
        yield from find_in_pages(table)
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


def find_in_pages(table: Table) -> Iterator[Finding]:
    """Find bytes behind a page's last value, and pages that the writer doesn't make.

    Raises: BrokenParquet
    """
    for group in table.file.row_groups:
        for chunk in group.columns:
            for number, page in enumerate(table.file.pages(chunk)):
                where = f"{table.path}, page {number + 1} of {_shown(table, chunk)}"
                try:
                    extra = len(page.raw) - measure_page(page, chunk.element)
                except (ValueError, IndexError):
                    yield Finding(where, "not built as the known writer does it")
                else:
                    if extra:
                        yield Finding(where, f"{extra} bytes behind its last value")


def measure_page(page: Page, element: SchemaElement) -> int:
    """Tell how many bytes a page needs for its values.

    Raises: ValueError for a page that the known writer doesn't make, IndexError for one that ends too early
    Source: parquet-format, Encodings.md
    """
    raw, start, count = page.raw, 0, page.value_count
    if page.kind == "data" and element.is_nullable:
        start = 4 + int.from_bytes(raw[:4], "little")
        if _measure_hybrid(raw, 4, 1, count) != start:
            raise ValueError
        count -= page.values.count(None)
    if page.is_dictionary_encoded:
        return _measure_hybrid(raw, start + 1, raw[start], count) if count else min(len(raw), start + 1)
    if page.encoding not in {"PLAIN", "PLAIN_DICTIONARY"}:
        raise ValueError
    if element.type in BYTE_WIDTHS:
        return start + count * BYTE_WIDTHS[element.type]
    for _ in range(count):
        start += 4 + int.from_bytes(raw[start : start + 4], "little")
    return start


def _measure_hybrid(raw: bytes, at: int, width: int, count: int) -> int:
    """Walk runs and bit-packed groups without unpacking them, and give the offset behind the last."""
    while count > 0:
        header, shift = 0, 0
        while True:
            header |= (raw[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if raw[at - 1] < 0x80:
                break
        length = header >> 1
        count -= length * 8 if header & 1 else length
        at += length * width if header & 1 else (width + 7) // 8
        if not length:
            raise ValueError
    return at


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
    "lists; every byte must belong to a page, an index or the footer. Where the library that wrote a file is "
    "at hand, its rows are written anew, and every byte but zstd's own must be the same.",
    look=look,
    sabotage=sabotage,
)
