"""Read Parquet page by page, with the auditor's own eyes.

A reader that hands out rows (pyarrow, DuckDB) hides what else a file keeps: dictionary values that no row
uses, minima and maxima in the footer, bytes that nothing points to. This one shows all of it, and shares no
code with the writer: only the decompressors are borrowed. It reads flat schemas; a nested or an encrypted
file is refused.

Whatever the bytes, reading ends in an answer or in `BrokenParquet`, whose message never repeats file content.

Source: parquet-format, `parquet.thrift`, Encodings.md; Thrift's compact protocol specification.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pyarrow as pa

MAGIC = b"PAR1"
ENCRYPTED_MAGIC = b"PARE"

# A whole file is held in memory. Sealed hours are megabytes; a gigabyte is no file of ours.
MAX_FILE_BYTES = 1 << 30
# Writers aim at pages of 1 MiB (pyarrow, parquet-mr); 64 MiB leaves room for a huge value and stops a bomb.
MAX_PAGE_BYTES = 1 << 26
# A run-length page of a few bytes can claim billions of values. Row groups have at most 2^20 rows by default.
MAX_PAGE_VALUES = 1 << 22
# The deepest Thrift structure of parquet.thrift has 6 levels.
MAX_THRIFT_DEPTH = 16

TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
REPETITIONS = ("REQUIRED", "OPTIONAL", "REPEATED")
CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")
ENCODINGS = (
    "PLAIN",
    "GROUP_VAR_INT",
    "PLAIN_DICTIONARY",
    "RLE",
    "BIT_PACKED",
    "DELTA_BINARY_PACKED",
    "DELTA_LENGTH_BYTE_ARRAY",
    "DELTA_BYTE_ARRAY",
    "RLE_DICTIONARY",
    "BYTE_STREAM_SPLIT",
)
PAGE_TYPES = ("data", "index", "dictionary", "data v2")
BYTE_WIDTHS = {"INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
STRUCT_CODES = {"INT32": "i", "INT64": "q", "FLOAT": "f", "DOUBLE": "d"}
# ConvertedType UINT_8, UINT_16, UINT_32, UINT_64.
UNSIGNED_CONVERTED_TYPES = frozenset({11, 12, 13, 14})
# Fields of the LogicalType union.
LOGICAL_TIMESTAMP, LOGICAL_INTEGER = 8, 10
TIME_UNITS = {1: "ms", 2: "us", 3: "ns"}

type Value = bool | int | float | bytes | None
type PageKind = Literal["dictionary", "data"]


class BrokenParquet(ValueError):
    """A file that can't be read whole; the message says where, and never what stood there."""


class NotParquet(BrokenParquet):
    """A file that doesn't begin and end as Parquet does."""


# --- What a file holds --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Region:
    """Some bytes of a file.

    Units: bytes from the beginning of the file
    """

    offset: int
    length: int

    @property
    def end(self) -> int:
        """Give the offset of the first byte after it."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class SchemaElement:
    """A column as the footer declares it; `converted_type` is the number in parquet.thrift."""

    name: str
    type: str
    type_length: int
    is_nullable: bool
    converted_type: int | None
    is_unsigned: bool
    time_unit: str | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a footer or a page header tells about values, in clear even where the pages are compressed."""

    minimum: bytes | None
    maximum: bytes | None
    null_count: int | None
    distinct_count: int | None


@dataclass(frozen=True, slots=True)
class ColumnIndex:
    """The smallest and the greatest value of each page, which stand outside the pages."""

    minima: tuple[bytes, ...]
    maxima: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """One column of one row group."""

    path: str
    element: SchemaElement
    codec: str
    encodings: tuple[str, ...]
    value_count: int
    statistics: Statistics | None
    metadata: tuple[tuple[bytes, bytes], ...]
    data_page_offset: int
    dictionary_page_offset: int | None
    region: Region
    column_index: Region | None
    offset_index: Region | None
    bloom_filter: Region | None


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that were written together."""

    row_count: int
    columns: tuple[ColumnChunk, ...]


@dataclass(frozen=True)
class Page:
    """A page, decompressed.

    `raw` holds the levels too, as they stand in the file. `is_dictionary_encoded` says that the page's own
    bytes hold no values, only positions in the dictionary page.
    """

    kind: PageKind
    region: Region
    encoding: str
    value_count: int
    raw: bytes
    statistics: Statistics | None
    decode: Callable[[], list[Value]]

    @property
    def is_dictionary_encoded(self) -> bool:
        """Tell whether the page points into a dictionary."""
        return self.encoding in ("PLAIN_DICTIONARY", "RLE_DICTIONARY") and self.kind == "data"

    @cached_property
    def values(self) -> list[Value]:
        """Decode the page.

        Shape:  one entry for each row, None for null; in a dictionary page one for each distinct value. Byte
                arrays, decimals and INT96 as bytes; integers with the sign that their column declares
        Raises: BrokenParquet
        """
        return self.decode()


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file, footer first; pages are read when asked for."""

    data: bytes
    version: int
    created_by: bytes
    row_count: int
    schema: tuple[SchemaElement, ...]
    metadata: tuple[tuple[bytes, bytes], ...]
    row_groups: tuple[RowGroup, ...]
    footer: Region

    def pages(self, column: ColumnChunk) -> Iterator[Page]:
        """Read a column chunk page by page, the dictionary first where there is one.

        Raises: BrokenParquet, also at the end when the pages don't add up to what the footer says
        """
        return _read_pages(self.data, column)

    def column_index(self, column: ColumnChunk) -> ColumnIndex | None:
        """Read the page index's smallest and greatest values, where the file has one.

        Raises: BrokenParquet
        """
        if column.column_index is None:
            return None
        region = column.column_index
        fields = _Thrift(self.data, region.offset, region.end).struct()
        return ColumnIndex(tuple(fields.list(2, bytes)), tuple(fields.list(3, bytes)))

    def rows(self, name: str) -> Iterator[Value]:
        """Decode one column's row values, over all row groups.

        Raises: BrokenParquet; KeyError for a column that the schema doesn't have
        """
        if all(element.name != name for element in self.schema):
            raise KeyError("no such column")
        for group in self.row_groups:
            for column in group.columns:
                if column.path == name:
                    for page in self.pages(column):
                        if page.kind == "data":
                            yield from page.values

    def slack(self) -> tuple[Region, ...]:
        """List the bytes that belong to no page, index, footer or magic: a place to hide something.

        Raises: BrokenParquet
        """
        known = [Region(0, len(MAGIC)), self.footer, Region(len(self.data) - 8, 8)]
        for group in self.row_groups:
            for column in group.columns:
                known += [page.region for page in self.pages(column)]
                known += [r for r in (column.column_index, column.offset_index, column.bloom_filter) if r is not None]
        return tuple(_gaps(known, len(self.data)))


def _gaps(known: list[Region], size: int) -> Iterator[Region]:
    end = 0
    for region in sorted(known, key=lambda region: region.offset):
        if region.offset > end:
            yield Region(end, region.offset - end)
        end = max(end, region.end)
    if end < size:
        yield Region(end, size - end)


# --- Opening ------------------------------------------------------------------------------------------------


def is_parquet(head: bytes) -> bool:
    """Tell whether a file that begins so claims to be Parquet."""
    return head[:4] in (MAGIC, ENCRYPTED_MAGIC)


def read_parquet(path: Path) -> ParquetFile:
    """Read a file's footer; the pages follow on demand.

    Raises: BrokenParquet, NotParquet; OSError
    """
    with path.open("rb") as stream:
        data = stream.read(MAX_FILE_BYTES + 1)
    return parse_parquet(data)


def parse_parquet(data: bytes) -> ParquetFile:
    """Read the footer of a whole file given as bytes.

    Raises: BrokenParquet, NotParquet
    """
    if len(data) > MAX_FILE_BYTES:
        raise BrokenParquet(f"larger than {MAX_FILE_BYTES} bytes")
    if ENCRYPTED_MAGIC in (data[:4], data[-4:]):
        raise BrokenParquet("the footer is encrypted")
    if len(data) < 12 or data[:4] != MAGIC or data[-4:] != MAGIC:
        raise NotParquet("no Parquet magic at both ends")
    end = len(data) - 8
    start = end - int(struct.unpack_from("<I", data, end)[0])
    if start < len(MAGIC):
        raise BrokenParquet("the footer claims to be longer than the file")
    thrift = _Thrift(data, start, end)
    fields = thrift.struct()
    schema = _parse_schema(fields.list(2, _Struct))
    if fields.has(8):
        raise BrokenParquet("columns are encrypted")
    row_groups = tuple(_parse_row_group(group, schema, start) for group in fields.list(4, _Struct))
    if sum(group.row_count for group in row_groups) != fields.get(3, int):
        raise BrokenParquet("the row groups don't add up to the file's number of rows")
    _verify_apart([column.region for group in row_groups for column in group.columns])
    return ParquetFile(
        data=data,
        version=fields.get(1, int),
        created_by=fields.get(6, bytes, b""),
        row_count=fields.get(3, int),
        schema=schema,
        metadata=_parse_metadata(fields, 5),
        row_groups=row_groups,
        footer=Region(start, thrift.position - start),
    )


def _verify_apart(regions: list[Region]) -> None:
    """Refuse column chunks that overlap: many that name the same pages would make a small file endless."""
    ordered = sorted(regions, key=lambda region: region.offset)
    if any(first.end > second.offset for first, second in pairwise(ordered)):
        raise BrokenParquet("column chunks overlap")


def _parse_schema(elements: list["_Struct"]) -> tuple[SchemaElement, ...]:
    if not elements or elements[0].get(5, int, 0) != len(elements) - 1:
        raise BrokenParquet("the schema isn't flat")
    return tuple(_parse_schema_element(element) for element in elements[1:])


def _parse_schema_element(fields: "_Struct") -> SchemaElement:
    repetition = _name(REPETITIONS, fields.get(3, int, 0), "repetition")
    if fields.get(5, int, 0) or repetition == "REPEATED":
        raise BrokenParquet("the schema isn't flat")
    converted = fields.first(int, 6)
    logical = fields.get(10, _Struct, EMPTY)
    signed = logical.get(LOGICAL_INTEGER, _Struct, EMPTY).first(bool, 2)
    units = logical.get(LOGICAL_TIMESTAMP, _Struct, EMPTY).get(2, _Struct, EMPTY)
    return SchemaElement(
        name=_text(fields.get(4, bytes)),
        type=_name(TYPES, fields.get(1, int), "type"),
        type_length=fields.get(2, int, 0),
        is_nullable=repetition == "OPTIONAL",
        converted_type=converted,
        is_unsigned=not signed if signed is not None else converted in UNSIGNED_CONVERTED_TYPES,
        time_unit=next((unit for field, unit in TIME_UNITS.items() if units.has(field)), None),
    )


def _parse_row_group(fields: "_Struct", schema: tuple[SchemaElement, ...], footer_offset: int) -> RowGroup:
    chunks = fields.list(1, _Struct)
    if len(chunks) != len(schema):
        raise BrokenParquet("a row group has other columns than the schema")
    columns = tuple(_parse_column(c, element, footer_offset) for c, element in zip(chunks, schema, strict=True))
    row_count = fields.get(3, int)
    if any(column.value_count != row_count for column in columns):
        raise BrokenParquet("a column chunk has another number of values than its row group has rows")
    return RowGroup(row_count, columns)


def _parse_column(chunk: "_Struct", element: SchemaElement, footer_offset: int) -> ColumnChunk:
    if chunk.has(1):
        raise BrokenParquet("a column chunk lies in another file")
    if chunk.has(8) or not chunk.has(3):
        raise BrokenParquet("a column chunk is encrypted or has no metadata")
    fields = chunk.get(3, _Struct)
    path = fields.list(3, bytes)
    if len(path) != 1 or _text(path[0]) != element.name or _name(TYPES, fields.get(1, int), "type") != element.type:
        raise BrokenParquet("a column chunk doesn't fit its place in the schema")
    data_offset = fields.get(9, int)
    # 0 means that there is no such page: a column without rows can have a dictionary page alone, or nothing.
    dictionary_offset = fields.get(11, int, 0)
    start = min((offset for offset in (data_offset, dictionary_offset) if offset), default=0)
    return ColumnChunk(
        path=element.name,
        element=element,
        codec=_name(CODECS, fields.get(4, int), "codec"),
        encodings=tuple(_name(ENCODINGS, encoding, "encoding") for encoding in fields.list(2, int)),
        value_count=fields.get(5, int),
        statistics=_parse_statistics(fields, 12),
        metadata=_parse_metadata(fields, 8),
        data_page_offset=data_offset,
        dictionary_page_offset=dictionary_offset or None,
        region=_checked_region(start, fields.get(7, int), footer_offset),
        column_index=_region(chunk, 6, 7, footer_offset),
        offset_index=_region(chunk, 4, 5, footer_offset),
        bloom_filter=_region(fields, 14, 15, footer_offset),
    )


def _parse_metadata(fields: "_Struct", field: int) -> tuple[tuple[bytes, bytes], ...]:
    pairs = fields.list(field, _Struct) if fields.has(field) else []
    return tuple((pair.get(1, bytes), pair.get(2, bytes, b"")) for pair in pairs)


def _parse_statistics(fields: "_Struct", field: int) -> Statistics | None:
    if not fields.has(field):
        return None
    found = fields.get(field, _Struct)
    # Fields 1 and 2 are the deprecated maximum and minimum.
    return Statistics(
        minimum=found.first(bytes, 6, 2),
        maximum=found.first(bytes, 5, 1),
        null_count=found.first(int, 3),
        distinct_count=found.first(int, 4),
    )


def _region(fields: "_Struct", offset_field: int, length_field: int, limit: int) -> Region | None:
    # A bloom filter without a length is allowed: it counts as absent, and its bytes show up as slack.
    if not (fields.has(offset_field) and fields.has(length_field)):
        return None
    return _checked_region(fields.get(offset_field, int), fields.get(length_field, int), limit)


def _checked_region(offset: int, length: int, limit: int) -> Region:
    # What is empty stands nowhere, and may say so with any offset.
    if length < 0 or (length and (offset < len(MAGIC) or offset + length > limit)):
        raise BrokenParquet("something lies outside the file")
    return Region(offset, length)


def _name(names: tuple[str, ...], number: int, what: str) -> str:
    if not 0 <= number < len(names):
        raise BrokenParquet(f"unknown {what}")
    return names[number]


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BrokenParquet("a column name isn't UTF-8") from None


# --- Pages --------------------------------------------------------------------------------------------------


def _read_pages(data: bytes, column: ColumnChunk) -> Iterator[Page]:
    position, seen = column.region.offset, 0
    dictionary: Page | None = None
    while position < column.region.end:
        page, position = _read_page(data, position, column, dictionary)
        if page is None:
            continue
        if page.kind == "dictionary":
            if dictionary is not None or seen:
                raise BrokenParquet("a dictionary page isn't the first page of its column")
            dictionary = page
        else:
            seen += page.value_count
        if seen > column.value_count:
            break
        yield page
    if seen != column.value_count:
        raise BrokenParquet("the pages hold another number of values than the footer says")


def _read_page(data: bytes, position: int, column: ColumnChunk, dictionary: Page | None) -> tuple[Page | None, int]:
    thrift = _Thrift(data, position, column.region.end)
    header = thrift.struct()
    body = thrift.take(header.get(3, int))
    # The checksum is stored as a signed number.
    if header.has(4) and header.get(4, int) & 0xFFFFFFFF != zlib.crc32(body):
        raise BrokenParquet("a page doesn't match its checksum")
    region = Region(position, thrift.position - position)
    read = PAGE_READERS[_name(PAGE_TYPES, header.get(1, int), "page type")]
    return read(header, body, region, column, dictionary), thrift.position


def _read_index_page(
    header: "_Struct", body: bytes, region: Region, column: ColumnChunk, dictionary: Page | None
) -> None:
    """Pass over an index page: the format names them, and no writer is known to make them."""


def _read_dictionary_page(
    header: "_Struct", body: bytes, region: Region, column: ColumnChunk, dictionary: Page | None
) -> Page:
    fields = header.get(7, _Struct)
    count = _checked_count(fields.get(1, int))
    raw = _decompress(column.codec, body, header.get(2, int))

    def decode() -> list[Value]:
        return _decode_plain(_Cursor(raw), count, column.element)

    encoding = _name(ENCODINGS, fields.get(2, int), "encoding")
    if encoding not in ("PLAIN", "PLAIN_DICTIONARY"):
        raise BrokenParquet("a dictionary page isn't plain")
    return Page("dictionary", region, encoding, count, raw, None, decode)


def _read_data_page(
    header: "_Struct", body: bytes, region: Region, column: ColumnChunk, dictionary: Page | None
) -> Page:
    fields = header.get(5, _Struct)
    count = _checked_count(fields.get(1, int))
    encoding = _name(ENCODINGS, fields.get(2, int), "encoding")
    raw = _decompress(column.codec, body, header.get(2, int))
    nullable = column.element.is_nullable
    if nullable and fields.get(3, int) != ENCODINGS.index("RLE"):
        raise BrokenParquet("definition levels aren't run-length encoded")

    def decode() -> list[Value]:
        cursor = _Cursor(raw)
        levels = _read_hybrid(_Cursor(cursor.take_prefixed()), 1, count) if nullable else None
        return _decode_rows(cursor, count, levels, encoding, column.element, dictionary)

    return Page("data", region, encoding, count, raw, _parse_statistics(fields, 5), decode)


def _read_data_page_v2(
    header: "_Struct", body: bytes, region: Region, column: ColumnChunk, dictionary: Page | None
) -> Page:
    fields = header.get(8, _Struct)
    count = _checked_count(fields.get(1, int))
    encoding = _name(ENCODINGS, fields.get(4, int), "encoding")
    # Version 2 keeps the levels outside the compression.
    cursor = _Cursor(body)
    repetition_levels = cursor.take(fields.get(6, int))
    definition_levels = cursor.take(fields.get(5, int))
    values = cursor.take(cursor.left)
    if fields.get(7, bool, True):
        size = header.get(2, int) - len(repetition_levels) - len(definition_levels)
        values = _decompress(column.codec, values, size)

    def decode() -> list[Value]:
        nullable = column.element.is_nullable
        levels = _read_hybrid(_Cursor(definition_levels), 1, count) if nullable else None
        return _decode_rows(_Cursor(values), count, levels, encoding, column.element, dictionary)

    raw = repetition_levels + definition_levels + values
    return Page("data", region, encoding, count, raw, _parse_statistics(fields, 8), decode)


PAGE_READERS = {
    "data": _read_data_page,
    "index": _read_index_page,
    "dictionary": _read_dictionary_page,
    "data v2": _read_data_page_v2,
}


def _checked_count(count: int) -> int:
    if not 0 <= count <= MAX_PAGE_VALUES:
        raise BrokenParquet(f"a page claims fewer than 0 or more than {MAX_PAGE_VALUES} values")
    return count


# --- Decompression ------------------------------------------------------------------------------------------


def _decompress(codec: str, packed: bytes, size: int) -> bytes:
    if not 0 <= size <= MAX_PAGE_BYTES:
        raise BrokenParquet(f"a page claims fewer than 0 or more than {MAX_PAGE_BYTES} bytes")
    if codec not in DECOMPRESSORS:
        raise BrokenParquet(f"codec {codec} isn't supported")
    if not packed and not size:
        return b""
    try:
        unpacked = DECOMPRESSORS[codec](packed, size)
    except (OSError, ValueError, zlib.error):
        raise BrokenParquet("a page can't be decompressed") from None
    if len(unpacked) != size:
        raise BrokenParquet("a page has another size than its header says")
    return unpacked


def _uncompressed(packed: bytes, size: int) -> bytes:
    return packed


def _gunzip(packed: bytes, size: int) -> bytes:
    # One byte more than promised is enough to notice a lie. 32 + 15: gzip or zlib header, whichever there is.
    return zlib.decompressobj(32 + zlib.MAX_WBITS).decompress(packed, size + 1)


def _unzstd(packed: bytes, size: int) -> bytes:
    return bytes(pa.Codec("zstd").decompress(packed, size, asbytes=True))


def _tight(name: str) -> Callable[[bytes, int], bytes]:
    # These codecs of pyarrow fill a buffer that is too large with whatever and say nothing; but one that is a
    # byte too small they refuse. So the size is true exactly if it suffices and one byte less doesn't.
    def unpack(packed: bytes, size: int) -> bytes:
        codec = pa.Codec(name)
        unpacked = bytes(codec.decompress(packed, max(size, 1), asbytes=True))[:size]
        if size > 1:
            try:
                codec.decompress(packed, size - 1, asbytes=True)
            except (OSError, ValueError):
                return unpacked
            raise ValueError("the decompressed size is smaller")
        return unpacked

    return unpack


DECOMPRESSORS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "UNCOMPRESSED": _uncompressed,
    "GZIP": _gunzip,
    "ZSTD": _unzstd,
    "SNAPPY": _tight("snappy"),
    "BROTLI": _tight("brotli"),
    "LZ4_RAW": _tight("lz4_raw"),
}


# --- Values -------------------------------------------------------------------------------------------------


class _Cursor:
    """A place in some bytes that can't leave them."""

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end

    @property
    def left(self) -> int:
        return self.end - self.position

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise BrokenParquet("something ends before it should")
        self.position += count
        return self.data[self.position - count : self.position]

    def take_prefixed(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "little"))

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        number = 0
        # 10 bytes of 7 bits carry a 64-bit number.
        for shift in range(0, 70, 7):
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise BrokenParquet("a number is too long")

    def zigzag(self) -> int:
        number = self.varint()
        return (number >> 1) ^ -(number & 1)


def _decode_rows(
    cursor: _Cursor,
    count: int,
    levels: list[int] | None,
    encoding: str,
    element: SchemaElement,
    dictionary: Page | None,
) -> list[Value]:
    present = count if levels is None else sum(levels)
    values = _decode_values(cursor, present, encoding, element, dictionary) if present else []
    if levels is None:
        return values
    following = iter(values)
    return [next(following) if level else None for level in levels]


def _decode_values(
    cursor: _Cursor, count: int, encoding: str, element: SchemaElement, dictionary: Page | None
) -> list[Value]:
    if encoding in ("PLAIN_DICTIONARY", "RLE_DICTIONARY"):
        if dictionary is None:
            raise BrokenParquet("a page needs a dictionary and has none")
        return _look_up(_read_hybrid(cursor, _checked_width(cursor.byte(), 32), count), dictionary.values)
    if encoding not in DECODERS:
        raise BrokenParquet(f"encoding {encoding} isn't supported")
    types, decode = DECODERS[encoding]
    if element.type not in types:
        raise BrokenParquet(f"encoding {encoding} doesn't fit its column's type")
    return decode(cursor, count, element)


def _look_up(positions: list[int], dictionary: list[Value]) -> list[Value]:
    if positions and max(positions) >= len(dictionary):
        raise BrokenParquet("a page points outside its dictionary")
    return [dictionary[position] for position in positions]


def _checked_width(width: int, limit: int) -> int:
    if width > limit:
        raise BrokenParquet(f"values of more than {limit} bits")
    return width


def _read_hybrid(cursor: _Cursor, width: int, count: int) -> list[int]:
    """Read runs and bit-packed groups.

    Source: Encodings.md, "Run Length Encoding / Bit-Packing Hybrid"
    """
    numbers: list[int] = []
    while len(numbers) < count:
        header = cursor.varint()
        length, missing = header >> 1, count - len(numbers)
        if not length:
            raise BrokenParquet("an empty run")
        if header & 1:
            groups = min(length, -(-missing // 8))
            numbers += _unpack_bits(cursor.take(groups * width), width, groups * 8)
        else:
            number = int.from_bytes(cursor.take((width + 7) // 8), "little")
            if number >> width:
                raise BrokenParquet("a run of a number that is too large")
            numbers += [number] * min(length, missing)
    del numbers[count:]
    return numbers


def _unpack_bits(packed: bytes, width: int, count: int) -> list[int]:
    """Unpack little-endian numbers of `width` bits, `count` a multiple of 8."""
    if not width:
        return [0] * count
    mask, shifts = (1 << width) - 1, range(0, 8 * width, width)
    groups = (int.from_bytes(packed[start : start + width], "little") for start in range(0, len(packed), width))
    return [group >> shift & mask for group in groups for shift in shifts]


def _decode_plain(cursor: _Cursor, count: int, element: SchemaElement) -> list[Value]:
    if element.type == "BOOLEAN":
        bits = _unpack_bits(cursor.take(-(-count // 8)), 1, -(-count // 8) * 8)
        return [bool(bit) for bit in bits[:count]]
    if element.type == "BYTE_ARRAY":
        return _decode_byte_arrays(cursor, count)
    width = _byte_width(element)
    raw = cursor.take(count * width)
    code = STRUCT_CODES.get(element.type)
    if code is None:
        return [raw[start : start + width] for start in range(0, len(raw), width)]
    return list(struct.unpack(f"<{count}{code.upper() if element.is_unsigned and code in 'iq' else code}", raw))


def _decode_byte_arrays(cursor: _Cursor, count: int) -> list[Value]:
    # The inner loop of every string column: slices instead of `take_prefixed`, the bound checked by hand.
    data, position, end = cursor.data, cursor.position, cursor.end
    values: list[Value] = []
    for _ in range(count):
        start = position + 4
        position = start + int.from_bytes(data[position:start], "little")
        if position > end:
            raise BrokenParquet("something ends before it should")
        values.append(data[start:position])
    cursor.position = position
    return values


def _byte_width(element: SchemaElement) -> int:
    width = BYTE_WIDTHS.get(element.type, element.type_length)
    if width < 1:
        raise BrokenParquet("a column of fixed length has none")
    return width


def _decode_booleans(cursor: _Cursor, count: int, element: SchemaElement) -> list[Value]:
    return [bool(bit) for bit in _read_hybrid(_Cursor(cursor.take_prefixed()), 1, count)]


def _decode_deltas(cursor: _Cursor, count: int, element: SchemaElement) -> list[Value]:
    bits = 8 * BYTE_WIDTHS[element.type]
    return list(_read_deltas(cursor, count, bits, signed=not element.is_unsigned))


def _read_deltas(cursor: _Cursor, count: int, bits: int, *, signed: bool) -> list[int]:
    """Read numbers stored as differences.

    Source: Encodings.md, "Delta Encoding"
    """
    block_size, miniblocks, total, value = cursor.varint(), cursor.varint(), cursor.varint(), cursor.zigzag()
    if total != count:
        raise BrokenParquet("a delta-encoded page holds another number of values")
    if not 0 < block_size <= MAX_PAGE_VALUES or not 0 < miniblocks <= block_size or block_size % (8 * miniblocks):
        raise BrokenParquet("a delta-encoded page has impossible blocks")
    per_miniblock = block_size // miniblocks
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    numbers = [value & mask]
    while len(numbers) < count:
        least, widths = cursor.zigzag(), cursor.take(miniblocks)
        for width in widths:
            missing = min(count - len(numbers), per_miniblock)
            if not missing:
                break
            packed = cursor.take(_checked_width(width, 64) * per_miniblock // 8)
            for difference in _unpack_bits(packed, width, per_miniblock)[:missing]:
                value += least + difference
                numbers.append(value & mask)
    del numbers[count:]
    # Sums wrap around at the column's width.
    return [number - (mask + 1) if signed and number >= half else number for number in numbers]


def _decode_delta_lengths(cursor: _Cursor, count: int, element: SchemaElement) -> list[Value]:
    return [cursor.take(length) for length in _read_deltas(cursor, count, 32, signed=True)]


def _decode_delta_strings(cursor: _Cursor, count: int, element: SchemaElement) -> list[Value]:
    prefixes = _read_deltas(cursor, count, 32, signed=True)
    lengths = _read_deltas(cursor, count, 32, signed=True)
    value, size = b"", 0
    values: list[Value] = []
    for prefix, length in zip(prefixes, lengths, strict=True):
        if not 0 <= prefix <= len(value):
            raise BrokenParquet("a value continues one that is shorter")
        value = value[:prefix] + cursor.take(length)
        size += len(value)
        # Values that repeat a long beginning can grow out of a small page.
        if size > MAX_PAGE_BYTES:
            raise BrokenParquet(f"a page's values are larger than {MAX_PAGE_BYTES} bytes")
        values.append(value)
    return values


def _decode_byte_streams(cursor: _Cursor, count: int, element: SchemaElement) -> list[Value]:
    width = _byte_width(element)
    streams, values = cursor.take(width * count), bytearray(width * count)
    for place in range(width):
        values[place::width] = streams[place * count : (place + 1) * count]
    return _decode_plain(_Cursor(bytes(values)), count, element)


# encoding: the types it is defined for, and its decoder
DECODERS: Mapping[str, tuple[tuple[str, ...], Callable[[_Cursor, int, SchemaElement], list[Value]]]] = {
    "PLAIN": (TYPES, _decode_plain),
    "RLE": (("BOOLEAN",), _decode_booleans),
    "DELTA_BINARY_PACKED": (("INT32", "INT64"), _decode_deltas),
    "DELTA_LENGTH_BYTE_ARRAY": (("BYTE_ARRAY",), _decode_delta_lengths),
    "DELTA_BYTE_ARRAY": (("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"), _decode_delta_strings),
    "BYTE_STREAM_SPLIT": (
        ("INT32", "INT64", "FLOAT", "DOUBLE", "FIXED_LEN_BYTE_ARRAY"),
        _decode_byte_streams,
    ),
}


# --- Thrift's compact protocol ------------------------------------------------------------------------------


class _Struct:
    """A Thrift structure: field number to value, asked for with the type it must have."""

    def __init__(self, fields: Mapping[int, object]) -> None:
        self.fields = fields

    def has(self, field: int) -> bool:
        return field in self.fields

    def get[T](self, field: int, kind: type[T], default: T | None = None) -> T:
        value = self.fields.get(field, default)
        if type(value) is not kind:
            raise BrokenParquet(f"field {field} of a header is missing or of another type")
        return value

    def first[T](self, kind: type[T], *fields: int) -> T | None:
        return next((self.get(field, kind) for field in fields if self.has(field)), None)

    def list[T](self, field: int, kind: type[T]) -> "list[T]":
        values = self.get(field, list)
        if any(type(value) is not kind for value in values):
            raise BrokenParquet(f"field {field} of a header is a list of another type")
        return values


EMPTY = _Struct({})


class _Thrift(_Cursor):
    """A cursor that reads Thrift's compact protocol, field numbers only: names are the caller's affair."""

    def struct(self, depth: int = 0) -> _Struct:
        if depth > MAX_THRIFT_DEPTH:
            raise BrokenParquet("headers are nested too deeply")
        fields: dict[int, object] = {}
        number = 0
        while header := self.byte():
            number = number + (header >> 4) if header >> 4 else self.zigzag()
            fields[number] = self.value(header & 0x0F, depth)
        return _Struct(fields)

    def value(self, kind: int, depth: int) -> object:
        match kind:
            case 1 | 2:
                # As a field, a boolean is its type.
                return kind == 1
            case 3:
                return int.from_bytes(self.take(1), signed=True)
            case 4 | 5 | 6:
                return self.zigzag()
            case 7:
                return float(struct.unpack("<d", self.take(8))[0])
            case 8:
                return self.take(self.varint())
            case 9 | 10:
                return self.sequence(depth)
            case 11:
                return self.pairs(depth)
            case 12:
                return self.struct(depth + 1)
            case _:
                raise BrokenParquet("a header has a field of unknown type")

    def sequence(self, depth: int) -> list[object]:
        header = self.byte()
        length = header >> 4 if header >> 4 < 15 else self.varint()
        return [self.element(header & 0x0F, depth + 1) for _ in range(self.checked_length(length))]

    def pairs(self, depth: int) -> list[object]:
        length = self.checked_length(self.varint())
        kinds = self.byte() if length else 0
        return [(self.element(kinds >> 4, depth + 1), self.element(kinds & 0x0F, depth + 1)) for _ in range(length)]

    def element(self, kind: int, depth: int) -> object:
        if depth > MAX_THRIFT_DEPTH:
            raise BrokenParquet("headers are nested too deeply")
        # Inside a container a boolean takes a byte.
        return self.byte() == 1 if kind in (1, 2) else self.value(kind, depth)

    def checked_length(self, length: int) -> int:
        # Every element takes at least a byte.
        if length > self.left:
            raise BrokenParquet("a header's list is longer than the file")
        return length
