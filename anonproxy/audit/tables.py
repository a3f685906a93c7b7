"""A Parquet file as columns of distinct values and row codes: small enough to keep a million rows at hand."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from anonproxy.audit.parquet_pages import BrokenParquet, ColumnChunk, Page, ParquetFile, parse_parquet
from anonproxy.audit.parquet_pages import Value as RawValue
from anonproxy.audit.tree import Node, Place

type Value = str | int | float | bytes | None

# How many of a time's units make a second, by the name that the footer gives; pyarrow writes seconds as milliseconds.
UNITS_PER_S = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True)
class Column:
    """One column over all row groups: row i holds `distinct[codes[i]]`."""

    name: str
    distinct: tuple[Value, ...]
    codes: array[int]
    unused: tuple[Value, ...]  # what stands in a dictionary page and in no row
    pages: int

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """Give each distinct value its place in the order of values, nulls last."""
        order = sorted(range(len(self.distinct)), key=lambda code: _order(self.distinct[code]))
        ranks = [0] * len(order)
        for rank, code in enumerate(order):
            ranks[code] = rank
        return tuple(ranks)

    def first_row(self, value: Value) -> int:
        """Find the first row with a value."""
        return self.codes.index(self.distinct.index(value))


@dataclass(frozen=True)
class Table:
    """A file's rows, and the file itself for what else is in it."""

    node: Node
    place: Place
    file: ParquetFile
    columns: dict[str, Column]

    @property
    def path(self) -> str:
        """Give the path in the store."""
        return self.node.path

    @property
    def row_count(self) -> int:
        """Count the rows."""
        return self.file.row_count

    @property
    def pages(self) -> int:
        """Count the pages, dictionaries included."""
        return sum(column.pages for column in self.columns.values())

    def distinct(self, *names: str) -> dict[tuple[Value, ...], int]:
        """Give the distinct combinations of some columns, each with the first row that has it.

        Shape: nothing where a column is missing
        """
        if not all(name in self.columns for name in names):
            return {}
        columns = [self.columns[name] for name in names]
        first: dict[tuple[int, ...], int] = {}
        for row, codes in enumerate(zip(*(column.codes for column in columns), strict=True)):
            first.setdefault(codes, row)
        return {
            tuple(column.distinct[code] for column, code in zip(columns, codes, strict=True)): row
            for codes, row in first.items()
        }

    def seconds(self, name: str) -> dict[float, int]:
        """Give the distinct times of a column, each with its first row.

        Units: unix seconds; nothing for a column that is missing or holds no times
        """
        units = {element.name: UNITS_PER_S.get(element.time_unit or "") for element in self.file.schema}
        per_s = units.get(name)
        if not per_s:
            return {}
        return {value / per_s: row for (value,), row in self.distinct(name).items() if isinstance(value, int)}

    @cached_property
    def first_unsorted_row(self) -> int | None:
        """Find the first row that is smaller than the row before it; None where the rows are sorted."""
        columns = [self.columns[element.name] for element in self.file.schema]
        rows = zip(*(map(column.ranks.__getitem__, column.codes) for column in columns), strict=True)
        return next((row for row, (above, below) in enumerate(pairwise(rows), 1) if below < above), None)


def parse_table(node: Node, place: Place, data: bytes) -> Table:
    """Read a file of the store, every page of it.

    Raises: BrokenParquet
    """
    file = parse_parquet(data)
    names = [element.name for element in file.schema]
    if len(set(names)) < len(names):
        raise BrokenParquet("two columns have the same name")
    chunks: dict[str, list[ColumnChunk]] = {name: [] for name in names}
    for group in file.row_groups:
        for chunk in group.columns:
            chunks[chunk.path].append(chunk)
    texts = {element.name for element in file.schema if element.type == "BYTE_ARRAY"}
    return Table(
        node,
        place,
        file,
        {name: _read_column(file, name, chunks[name], _decode if name in texts else _keep) for name in names},
    )


def _read_column(
    file: ParquetFile, name: str, chunks: list[ColumnChunk], convert: Callable[[RawValue], Value]
) -> Column:
    index: dict[RawValue, int] = {}
    listed: dict[RawValue, None] = {}
    codes, pages = array("I"), 0
    for page in _pages(file, chunks):
        pages += 1
        values = page.values
        if page.kind == "dictionary":
            listed.update(dict.fromkeys(values))
        else:
            for value in dict.fromkeys(values):
                index.setdefault(value, len(index))
            codes.extend(map(index.__getitem__, values))
    return Column(
        name,
        tuple(map(convert, index)),
        array(_code_type(len(index)), codes),
        tuple(convert(value) for value in listed if value not in index),
        pages,
    )


def _pages(file: ParquetFile, chunks: list[ColumnChunk]) -> Iterator[Page]:
    for chunk in chunks:
        yield from file.pages(chunk)


def _code_type(count: int) -> str:
    return "B" if count <= 1 << 8 else "H" if count <= 1 << 16 else "I"


def _decode(raw: RawValue) -> Value:
    return raw.decode(errors="surrogateescape") if isinstance(raw, bytes) else raw


def _keep(raw: RawValue) -> Value:
    return raw


def _order(value: Value) -> tuple[bool, Value]:
    return value is None, value if value is not None else 0
