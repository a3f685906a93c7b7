"""DuckDB in memory: the only way SQL meets the store."""

from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any, Final

import duckdb
import pyarrow as pa

from anonproxy.model.vocabularies import PAGEVIEW_KINDS, PAGEVIEW_STATUSES

_CONFIG: Final[dict[str, Any]] = {
    "temp_directory": "",  # nothing is spilled to a disk, whatever a query needs
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # a query sees the views, not the variables of this program
}


def connect(hot_rows: pa.Table) -> duckdb.DuckDBPyConnection:
    """Open a database in memory with the view `hot` over hot rows that have a date."""
    connection = duckdb.connect(":memory:", config=_CONFIG)
    connection.execute("SET TimeZone = 'UTC'")
    kinds = ", ".join(f"'{kind}'" for kind in sorted(PAGEVIEW_KINDS))
    statuses = ", ".join(map(str, sorted(PAGEVIEW_STATUSES)))
    connection.execute(
        "CREATE MACRO is_pageview(method, status, kind) AS "  # a page that a person was shown
        f"method = 'GET' AND status IN ({statuses}) AND kind IN ({kinds})"
    )
    connection.register("hot_rows", hot_rows)
    connection.execute(read_sql("views"))
    return connection


def lock(connection: duckdb.DuckDBPyConnection, memory_mb: int | None = None) -> None:
    """Take away the disk, the network, perhaps some memory, and the right to get them back."""
    if memory_mb:
        connection.execute(f"SET memory_limit = '{memory_mb:d} MB'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


@cache
def read_sql(name: str) -> str:
    """Return the text of a .sql file of this room."""
    return files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def add_date(rows: pa.Table, day: date) -> pa.Table:
    """Add the column `date`, which names of folders say and files leave out."""
    return rows.append_column("date", pa.repeat(pa.scalar(day, pa.date32()), rows.num_rows))
