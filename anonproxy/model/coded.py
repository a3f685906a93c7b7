"""Columns as numbers: so that a question is asked once for each distinct value and not once for each row.

Columns that depend on the same fields share the numbers of their rows, and differ in what a number stands for. So
nothing is done for each row until columns meet that depend on different fields.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

CODED_TEXT: Final = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Coded[T]:
    """A column as values, and for each row the number of its value; several numbers may stand for equal values.

    Shape: codes are 64 bits wide and never null
    """

    codes: pa.Array
    values: Sequence[T]

    def map[U](self, function: Callable[[T], U]) -> "Coded[U]":
        """Answer for each value once."""
        return Coded(self.codes, [function(value) for value in self.values])

    def narrow(self) -> "Coded[T]":
        """Give equal values one number."""
        numbers: dict[T, int] = {}
        renumbered = [numbers.setdefault(value, len(numbers)) for value in self.values]
        if len(numbers) == len(renumbered):
            return self
        if len(numbers) == 1:
            return repeat(self.values[0], len(self.codes))
        return Coded(pa.array(renumbered, pa.int64()).take(self.codes), tuple(numbers))

    def where(self, is_chosen: Callable[[T], bool]) -> pa.Array:
        """Tell of each row whether its value is chosen."""
        return pa.array([is_chosen(value) for value in self.values], pa.bool_()).take(self.codes)

    def rows(self) -> Iterator[T]:
        """Give the value of each row."""
        return map(self.values.__getitem__, self.codes.to_pylist())

    def gather(self, type_: pa.DataType) -> pa.Array:
        """Write the column out; one of a dictionary type has each value once."""
        if pa.types.is_dictionary(type_):
            distinct = dict.fromkeys(value for value in self.values if value is not None)
            numbers = {value: number for number, value in enumerate(distinct)}
            indices = pa.array([numbers.get(value) for value in self.values], type_.index_type)
            return pa.DictionaryArray.from_arrays(indices.take(self.codes), pa.array(numbers, type_.value_type))
        return pa.array(self.values, type_).take(self.codes)


def encode(column: pa.Array | pa.ChunkedArray) -> Coded[Any]:
    """Give the distinct values of a column numbers."""
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode(null_encoding="encode")
    values = column.dictionary.to_pylist()
    codes = column.indices.cast(pa.int64())
    if codes.null_count:
        return Coded(codes.fill_null(len(values)), [*values, None])
    return Coded(codes, values)


def code_texts(schema: pa.Schema) -> pa.Schema:
    """Give the schema of the same table with texts as numbers: a fraction of the memory, and faster to count."""
    return pa.schema([field.with_type(CODED_TEXT) if field.type == pa.string() else field for field in schema])


def repeat[T](value: T, count: int) -> Coded[T]:
    """Say the same of every row."""
    return Coded(pa.repeat(pa.scalar(0, pa.int64()), count), (value,))


def filter_all(columns: Mapping[str, Coded[Any]], mask: pa.Array) -> dict[str, Coded[Any]]:
    """Keep some rows of columns, and of the values only those that are left."""
    kept: dict[int, Coded[int]] = {}
    for column in columns.values():
        if id(column.codes) not in kept:
            kept[id(column.codes)] = encode(column.codes.filter(mask))
    return {
        name: Coded(left.codes, [column.values[number] for number in left.values])
        for name, column in columns.items()
        for left in (kept[id(column.codes)],)
    }


def join(columns: Sequence[Coded[Any]]) -> Coded[tuple[Any, ...]]:
    """Put columns side by side, with a value for each combination that a row has, and perhaps some more."""
    groups: dict[int, list[int]] = {}  # places of those that share their codes
    for place, column in enumerate(columns):
        groups.setdefault(id(column.codes), []).append(place)
    together = [
        Coded(columns[places[0]].codes, list(zip(*(columns[place].values for place in places), strict=True)))
        for places in groups.values()
    ]
    if len(together) == 1:
        return together[0]
    joined, *others = [group.narrow() for group in together]
    for other in others:
        joined = _widen(joined, other)
    order = [place for places in groups.values() for place in places]
    if order == sorted(order):
        return joined
    back = [order.index(place) for place in range(len(order))]
    return joined.map(lambda values: tuple(values[place] for place in back))


def _widen(joined: Coded[tuple[Any, ...]], other: Coded[tuple[Any, ...]]) -> Coded[tuple[Any, ...]]:
    left, right, width = joined.values, other.values, len(other.values)
    if width == 1:  # as most columns of most logs
        return joined.map(lambda values: values + right[0])
    if len(left) == 1:
        return other.map(lambda values: left[0] + values)
    pairs = encode(pc.add(pc.multiply(joined.codes, width), other.codes))
    return Coded(pairs.codes, [left[pair // width] + right[pair % width] for pair in pairs.values])
