"""Columns as numbers: so that a question is asked once for each distinct value and not once for each row."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Coded[T]:
    """A column as its distinct values, and for each row the number of its value."""

    codes: pa.Array
    values: Sequence[T]

    def map[U](self, function: Callable[[T], U]) -> "Coded[U]":
        """Answer for each value once, and give equal answers one number."""
        numbers: dict[U, int] = {}
        renumbered = [numbers.setdefault(function(value), len(numbers)) for value in self.values]
        return Coded(pa.array(renumbered, pa.int64()).take(self.codes), tuple(numbers))

    def filter(self, mask: pa.Array) -> "Coded[T]":
        """Keep some rows, and of the values only those that are left."""
        return encode(self.codes.filter(mask)).map(self.values.__getitem__)

    def rows(self) -> Iterator[T]:
        """Give the value of each row."""
        return map(self.values.__getitem__, self.codes.to_pylist())

    def gather(self, type_: pa.DataType) -> pa.Array:
        """Write the column out."""
        return pa.array(self.values, type_).take(self.codes)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Plain:
    """A column that says something else in nearly every row, as it is."""

    values: pa.Array

    def filter(self, mask: pa.Array) -> "Plain":
        """Keep some rows."""
        return Plain(self.values.filter(mask))

    def rows(self) -> Iterator[Any]:
        """Give the value of each row."""
        return iter(self.values.to_pylist())


def encode(column: pa.Array) -> Coded[Any]:
    """Give the distinct values of a column numbers."""
    encoded = column.dictionary_encode()
    return Coded(encoded.indices.cast(pa.int64()), encoded.dictionary.to_pylist())


def repeat(value: object, count: int) -> Coded[Any]:
    """Say the same of every row."""
    return Coded(pa.repeat(pa.scalar(0, pa.int64()), count), (value,))


def join(columns: Sequence[Coded[Any]]) -> Coded[tuple[Any, ...]]:
    """Put columns side by side, with a value for each combination that a row has."""
    first, *others = columns
    joined: Coded[tuple[Any, ...]] = Coded(first.codes, [(value,) for value in first.values])
    for other in others:
        joined = _widen(joined, other)
    return joined


def _widen(joined: Coded[tuple[Any, ...]], other: Coded[Any]) -> Coded[tuple[Any, ...]]:
    left, right, width = joined.values, other.values, len(other.values)
    if width == 1:  # as most columns of most logs
        return Coded(joined.codes, [(*values, right[0]) for values in left])
    pairs = encode(pc.add(pc.multiply(joined.codes, width), other.codes))
    return Coded(pairs.codes, [(*left[pair // width], right[pair % width]) for pair in pairs.values])
