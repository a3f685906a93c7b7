"""One SELECT of somebody's own, in a DuckDB that can do nothing but answer it.

What keeps it harmless, each by itself:

    one SELECT        anything else is refused by what DuckDB's own parser calls it
    closed functions  of functions that give tables only some are let through: others read files, pointers or settings
    a locked database it lives in memory, has no access to files or network, and its configuration can't be changed
    limits            of time, memory and rows; nothing is spilled to a disk

It shows the rows of the store as they are: anonymised when they were written, but not folded as reports are.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import duckdb
import pyarrow as pa

from anonproxy.model.columns import DAILY_COLUMNS, HIT_COLUMNS, VOCABULARY_COLUMNS, Column
from anonproxy.model.errors import OperatorError
from anonproxy.store.read import Store, View

# Functions that give tables, and that make them of their arguments alone.
TABLE_FUNCTIONS: Final = frozenset({"range", "generate_series", "unnest"})

_BATCH_ROWS: Final = 2_048

_DATE: Final = Column("date", pa.date32(), "bucket", "Day (UTC) of the row; a filter on it reads few files", "Trends")
_IS_PAGEVIEW: Final = Column("is_pageview", pa.bool_(), "enumerated", "Whether somebody was shown a page", "Use")
COLUMNS: Final[dict[View, tuple[Column, ...]]] = {
    "hits": (*HIT_COLUMNS, _DATE, _IS_PAGEVIEW),
    "daily": DAILY_COLUMNS,
    "vocabulary": (*VOCABULARY_COLUMNS, _DATE),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a query may take."""

    seconds: float = 30.0
    memory_mb: int = 1_000
    rows: int = 10_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave."""

    rows: pa.Table
    is_cut: bool  # there were more rows than the limit


def ask(store: Store, query: str, limits: Limits) -> Answer:
    """Run one SELECT over `hits`, `daily` and `vocabulary`.

    Raises: OperatorError, in words for who wrote the query
    """
    with store.connect(limits.memory_mb) as connection, _in_words(limits):
        verify_select(connection, query)
        return _within(connection, limits.seconds, lambda: _fetch(connection.sql(query), limits.rows))


def verify_select(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Refuse what isn't one SELECT, and functions that reach for anything but the views.

    Raises: OperatorError, duckdb.Error when it can't be parsed
    """
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise OperatorError(f"write one SELECT; this is {len(statements) or 'no'} statements")
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = statements[0].type.name.replace("_", " ").lower()
        raise OperatorError(f"only SELECT is answered here, and this is {_ARTICLES.get(kind, kind)}. Nothing was done")
    (tree,) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()[0]
    refused = {name for name in _table_functions(json.loads(tree)) if name not in TABLE_FUNCTIONS}
    if refused:
        raise OperatorError(
            f"{', '.join(sorted(refused))}: not to be used here. Tables come from hits, daily, vocabulary, "
            f"and the functions {', '.join(sorted(TABLE_FUNCTIONS))}"
        )


_ARTICLES: Final = {"multi": "several in one (like PIVOT)", "load": "LOAD or INSTALL", "variable set": "SET"}


def _table_functions(node: Any) -> Iterator[str]:
    """Find the functions in a parsed query that give tables."""
    if isinstance(node, dict):
        if node.get("type") == "TABLE_FUNCTION":
            yield str(node["function"]["function_name"]).lower()
        for child in node.values():
            yield from _table_functions(child)
    elif isinstance(node, list):
        for child in node:
            yield from _table_functions(child)


def _fetch(relation: duckdb.DuckDBPyRelation, most: int) -> Answer:
    """Take rows until there are enough; the rest is never made."""
    reader = relation.to_arrow_reader(_BATCH_ROWS)
    batches, count = [], 0
    for batch in reader:
        batches.append(batch)
        count += batch.num_rows
        if count > most:
            break
    return Answer(pa.Table.from_batches(batches, reader.schema).slice(0, most), count > most)


def _within[T](connection: duckdb.DuckDBPyConnection, seconds: float, act: Callable[[], T]) -> T:
    """Do something with a connection, and interrupt it when its time is over, or on Ctrl-C.

    It is done in another thread: Python sees Ctrl-C only while this one waits.
    """
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(act)
        try:
            wait([answer], seconds)
        finally:
            if not answer.done():
                connection.interrupt()
    return answer.result()


@contextlib.contextmanager
def _in_words(limits: Limits) -> Iterator[None]:
    """Turn DuckDB's errors into ours."""
    try:
        yield
    except duckdb.InterruptException:
        raise OperatorError(
            f"no answer within {limits.seconds:g} s, so it was stopped. Ask for fewer days, or allow more: --timeout"
        ) from None
    except (duckdb.OutOfMemoryException, MemoryError, pa.ArrowMemoryError):
        raise OperatorError(
            f"it needs more than {limits.memory_mb:,} MB of memory, so it was stopped. Ask for fewer days, or allow "
            "more: --memory"
        ) from None
    except duckdb.Error as error:
        raise OperatorError(explain_error(str(error))) from None


def explain_error(message: str) -> str:
    """Say what is wrong with a query, and what could have been meant."""
    text = re.sub(r"^[A-Z]\w* (Error|exception): ", "", message).strip()
    if "does not exist" in text.splitlines()[0] and text.startswith("Table"):
        return f"{text.splitlines()[0]} There are: {', '.join(COLUMNS)}"
    if found := re.match(r'Referenced column "([^"]+)" not found', text):
        known = sorted({column.name for columns in COLUMNS.values() for column in columns})
        close = get_close_matches(found[1], known, n=1)
        meant = f' Did you mean "{close[0]}"?' if close else " `anonproxy sql --schema` lists the columns"
        return f'there is no column "{found[1]}" here.{meant}'
    return text
