"""Rows as Arrow tables and as the bytes of a Parquet file: the same rows always give the same bytes.

Rows are sorted by all columns, so that their order tells nothing of their arrival. Strings are plain, since pyarrow
writes every value of a dictionary, used or not. There is one row group, since several would show how rows came
together; minima and maxima, which stand in a file in clear, only for columns that everyone knows the values of; and no
metadata but three fixed keys.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anonproxy import __version__
from anonproxy.model.columns import SCHEMA_VERSION, TIERS, VOCABULARY_COLUMNS, Column, arrow_schema
from anonproxy.model.errors import StoreError
from anonproxy.model.hit import Hit
from anonproxy.store.layout import Kind

COLUMNS: Final[dict[Kind, tuple[Column, ...]]] = {
    "hot": TIERS["hot"],
    "hits": TIERS["hits"],
    "daily": TIERS["daily"],
    "vocabulary": VOCABULARY_COLUMNS,
}
SCHEMAS: Final[dict[Kind, pa.Schema]] = {kind: arrow_schema(columns) for kind, columns in COLUMNS.items()}

# Where numbers of 64 bits end.
_MAX_RANK: Final = 2**63
_SCHEMA_KEY: Final = b"anonproxy.schema"


class BrokenFile(Exception):
    """A file that isn't whole or isn't ours. The message says no more."""


def build_table(hits: Sequence[Hit]) -> pa.Table:
    """Turn hits into a hot table.

    Raises: ValueError, TypeError or OverflowError for a value that its column can't hold
    """
    schema = SCHEMAS["hot"]
    columns = zip(zip(*hits, strict=True), schema.types, strict=True)
    return pa.Table.from_arrays([pa.array(values, type_) for values, type_ in columns], schema=schema)


def sort_rows(table: pa.Table) -> pa.Table:
    """Sort a table by all of its columns, into one piece of memory for each: page bounds depend on the pieces."""
    return table.take(pc.array_sort_indices(rank_rows(table))).combine_chunks()


def rank_rows(table: pa.Table) -> pa.Array:
    """Give each row a number that is in the order of its values; those of equal rows are equal."""
    rows, distinct = pa.repeat(pa.scalar(0, pa.int64()), table.num_rows), 1
    for column in table.columns:
        ranks, width = rank_values(column)
        if distinct * width >= _MAX_RANK:
            rows, distinct = rank_values(rows)
        rows, distinct = pc.add(pc.multiply(rows, width), ranks), distinct * width
    return rows


def rank_values(column: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, int]:
    """Give the values of a column numbers in their order, nulls the last one, and tell how many there are."""
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = column.dictionary
    ranks = pc.subtract(pc.rank(values, tiebreaker="dense").cast(pa.int64()), 1)
    return ranks.take(column.indices).fill_null(len(values)), len(values) + 1


def render_parquet(table: pa.Table, kind: Kind) -> bytes:
    """Render a table as the bytes of a file."""
    rows = sort_rows(table).cast(SCHEMAS[kind])
    target = io.BytesIO()
    with pq.ParquetWriter(
        target,
        SCHEMAS[kind],
        compression="zstd",
        write_statistics=[column.name for column in COLUMNS[kind] if column.world == "enumerated"],
        store_schema=False,
    ) as writer:
        writer.write_table(rows, row_group_size=max(1, rows.num_rows))
        writer.add_key_value_metadata(
            {"anonproxy.schema": str(SCHEMA_VERSION), "anonproxy.version": __version__, "anonproxy.tier": kind}
        )
    return target.getvalue()


def read_rows(path: Path, kind: Kind) -> pa.Table:
    """Read a file of the store.

    Raises: BrokenFile, StoreError when it was written by a newer version; OSError
    """
    data = path.read_bytes()
    try:
        rows = _open(pa.BufferReader(data)).read()
        return rows.select(SCHEMAS[kind].names).cast(SCHEMAS[kind])
    except (pa.ArrowException, OSError, ValueError, KeyError):
        raise BrokenFile("not a whole file of this store") from None


def verify_footer(path: Path) -> None:
    """Check that a file is ours and of a known version, by its footer alone.

    Raises: BrokenFile, StoreError when it was written by a newer version; OSError
    """
    with path.open("rb") as stream:
        try:
            _open(stream)
        except (pa.ArrowException, OSError, ValueError, KeyError):
            raise BrokenFile("not a whole file of this store") from None


def _open(source: Any) -> pq.ParquetFile:
    file = pq.ParquetFile(source)
    version = int((file.metadata.metadata or {})[_SCHEMA_KEY])
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the store was written by a newer anonproxy (schema {version}, known here up to {SCHEMA_VERSION}). "
            "Upgrade anonproxy"
        )
    return file
