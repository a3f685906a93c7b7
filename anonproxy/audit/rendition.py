"""A rendition: the file that a table's rows give when they are written anew, to hold the real one against.

Whatever else a file could carry, a word in a header field that no reader looks at, bytes behind a value, shows as a
difference. How well zstd packs a page depends on the machine, so that packed sizes and what follows from them (offsets,
checksums) are not compared; everything else is, to the last byte.
"""

import io
import struct
from collections.abc import Iterator
from typing import Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from anonproxy.audit.parquet_pages import ParquetFile, parse_parquet
from anonproxy.audit.tables import UNITS_PER_S, Column, Table
from anonproxy.model.columns import Column as Declared
from anonproxy.model.columns import arrow_schema

WRITER: Final = f"parquet-cpp-arrow version {pa.__version__}".encode()

# A place in a Thrift structure: field numbers, and * for any element of a list.
Place = tuple[int | str, ...]
Leaves = dict[tuple[int, ...], object]

# Numbers that follow from how well pages were packed. Source: parquet.thrift.
_CHUNK: Final = (4, "*", 1, "*")
PACKED: Final[frozenset[Place]] = frozenset({
    (4, "*", 5), (4, "*", 6),  # RowGroup: file_offset, total_compressed_size
    (*_CHUNK, 3, 7), (*_CHUNK, 3, 9), (*_CHUNK, 3, 11),  # ColumnMetaData: total_compressed_size, page offsets
})  # fmt: skip
PACKED_PAGE: Final[frozenset[Place]] = frozenset({(3,), (4,)})  # PageHeader: compressed_page_size, crc


def is_comparable(table: Table) -> bool:
    """Tell whether the library at hand is the one that wrote a file, and would write its rows alike."""
    return table.file.created_by == WRITER and len(table.file.row_groups) == 1


def render(table: Table, columns: tuple[Declared, ...]) -> bytes:
    """Write a table's rows anew, as the store should have.

    Raises: pa.ArrowException or ValueError for rows that the declared columns can't hold
    """
    schema = arrow_schema(columns)
    units = {element.name: UNITS_PER_S.get(element.time_unit or "", 1) for element in table.file.schema}
    arrays = [_build_array(table.columns[field.name], field.type, units[field.name]) for field in schema]
    target = io.BytesIO()
    with pq.ParquetWriter(
        target,
        schema,
        compression="zstd",
        write_statistics=[column.name for column in columns if column.world == "enumerated"],
        store_schema=False,
    ) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=max(1, table.row_count))
        writer.add_key_value_metadata({key.decode(): value.decode() for key, value in table.file.metadata})
    return target.getvalue()


def find_differences(table: Table, rendition: bytes) -> Iterator[str]:
    """Name the places in which a file differs from what its rows give.

    Raises: BrokenParquet, ValueError or IndexError where the file is built in another way
    """
    other = parse_parquet(rendition)
    leaves = _leaves(table.file.data, table.file.footer.offset)
    if _without(leaves, PACKED) != _without(_leaves(rendition, other.footer.offset), PACKED):
        yield "the footer"
    if _sizes(leaves) != _measure(table.file):
        yield "the footer's offsets"
    for mine, theirs in zip(table.file.row_groups[0].columns, other.row_groups[0].columns, strict=True):
        if list(_pages(table.file, mine.path)) != list(_pages(other, theirs.path)):
            yield f"the pages of {mine.path}"


def _build_array(column: Column, type_: pa.DataType, units_per_s: int) -> pa.Array:
    values = column.distinct
    if pa.types.is_timestamp(type_):
        values = tuple(value // units_per_s if isinstance(value, int) else value for value in values)
    return pa.array(values, type_).take(pa.array(column.codes, pa.uint32()))


def _pages(file: ParquetFile, name: str) -> Iterator[tuple[Leaves, bytes]]:
    for group in file.row_groups:
        for chunk in group.columns:
            if chunk.path == name:
                for page in file.pages(chunk):
                    yield _without(_leaves(file.data, page.region.offset), PACKED_PAGE), page.raw


def _measure(file: ParquetFile) -> list[object]:
    """Give the offsets and sizes of a file's only row group, as they really are, in the order of `_sizes`."""
    columns = file.row_groups[0].columns
    chunks = [list(file.pages(column)) for column in columns]
    sizes = [sum(page.region.length for page in pages) for pages in chunks]
    measured: list[object] = [columns[0].region.offset, sum(sizes)]
    for size, pages in zip(sizes, chunks, strict=True):
        offsets = {page.kind: page.region.offset for page in reversed(pages)}
        measured += [size, offsets.get("data"), offsets.get("dictionary")]
    return measured


def _sizes(leaves: Leaves) -> list[object]:
    """Give the offsets and sizes of the only row group, as the footer tells them."""
    _, count = cast(tuple[int, int], leaves[4, 0, 1])
    chunks = ((4, 0, 1, index, 3, field) for index in range(count) for field in (7, 9, 11))
    return [leaves.get(place) for place in ((4, 0, 5), (4, 0, 6), *chunks)]


def _leaves(data: bytes, offset: int) -> Leaves:
    """Give every value of a Thrift structure by its place."""
    leaves: Leaves = {}
    _Reader(data, offset, leaves).struct(())
    return leaves


def _without(leaves: Leaves, left_out: frozenset[Place]) -> Leaves:
    return {place: leaf for place, leaf in leaves.items() if _generalise(place, left_out) not in left_out}


def _generalise(place: tuple[int, ...], left_out: frozenset[Place]) -> Place:
    """Write * for the places in lists, where a place is as long as one that is left out."""
    patterns = (pattern for pattern in left_out if len(pattern) == len(place))
    return next((p for p in patterns if all(a in ("*", b) for a, b in zip(p, place, strict=True))), place)


class _Reader:
    """Thrift's compact protocol, flattened. It was read once without harm when the file was opened."""

    def __init__(self, data: bytes, offset: int, leaves: Leaves) -> None:
        self.data, self.at, self.leaves = data, offset, leaves

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        number, shift = 0, 0
        while True:
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def zigzag(self) -> int:
        number = self.varint()
        return (number >> 1) ^ -(number & 1)

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def struct(self, place: tuple[int, ...]) -> None:
        number = 0
        while header := self.byte():
            number = number + (header >> 4) if header >> 4 else self.zigzag()
            self.value(header & 0x0F, (*place, number), is_field=True)

    def value(self, kind: int, place: tuple[int, ...], *, is_field: bool) -> None:
        match kind:
            case 1 | 2:
                self.leaves[place] = kind == 1 if is_field else self.byte() == 1
            case 3:
                self.leaves[place] = self.byte()
            case 4 | 5 | 6:
                self.leaves[place] = self.zigzag()
            case 7:
                self.leaves[place] = struct.unpack("<d", self.take(8))
            case 8:
                self.leaves[place] = self.take(self.varint())
            case 9 | 10:
                header = self.byte()
                count = header >> 4 if header >> 4 < 15 else self.varint()
                self.leaves[place] = (header & 0x0F, count)
                for index in range(count):
                    self.value(header & 0x0F, (*place, index), is_field=False)
            case 12:
                self.leaves[place] = ()
                self.struct(place)
            case _:
                raise ValueError("a kind of value that Parquet doesn't use")
