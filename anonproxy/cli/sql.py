"""`anonproxy sql`: ask the store one question of one's own."""

import contextlib
import json
import os
import resource
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, Literal

import click
import pyarrow as pa
import pyarrow.csv
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from anonproxy.cli import EXIT_USAGE, options, tables
from anonproxy.config import read_settings
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import PrivacySettings
from anonproxy.reports.ask import COLUMNS, Answer, Limits, ask
from anonproxy.store.read import View, open_store

FORMATS: Final = ("table", "csv", "json", "parquet", "markdown")
ROWS_ON_TERMINAL: Final = 100
# Threads and libraries reserve more addresses than they use.
RESERVED_MB: Final = 1_500
# A single value can be so large that DuckDB notices neither that its memory nor that its time is over.
GRACE_S: Final = 5.0


@click.command("sql", context_settings={"max_content_width": 100})
@click.argument("query", required=False)
@options.config
@options.published_store
@click.option("--file", "-f", "source", type=click.File(), help="Read the query from a file.")
@click.option("--schema", is_flag=True, help="List the tables, and what each column holds.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--rows", type=click.IntRange(1), help="Most rows. Default: 100 as a table, else 1,000,000.")
@click.option("--timeout", "seconds", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds.")
@click.option("--memory", "memory_mb", type=click.IntRange(64), default=1000, show_default=True, help="MB of memory.")
def command(
    query: str | None,
    config_path: Path | None,
    store_path: str | None,
    source: IO[str] | None,
    schema: bool,
    form: str,
    rows: int | None,
    seconds: float,
    memory_mb: int,
) -> None:
    """Ask the store one question of your own.

    QUERY is one SELECT in DuckDB's SQL, over hits, daily and vocabulary; `-` reads it from standard input. It can read
    these and nothing else: no file, no network, no setting. Rows are shown as they stand in the store: anonymised, but
    not folded as in reports. What you publish of them is your choice, and your care.

    \b
    anonproxy sql "SELECT date, visits FROM daily WHERE dimension = 'total' ORDER BY date"
    anonproxy sql "SELECT route, count(*) FROM hits WHERE bot = 'ai' GROUP BY ALL ORDER BY ALL" --format csv
    anonproxy sql --file busiest-pages.sql --format parquet > busiest-pages.parquet
    anonproxy sql --schema
    """
    if schema:
        print_schema(Console(highlight=False))
        return
    text = read_query(query, source)
    limits = Limits(seconds, memory_mb, rows or (ROWS_ON_TERMINAL if form == "table" else 1_000_000))
    k = PrivacySettings().k if store_path else read_settings(options.find_config(config_path)).privacy.k
    store = open_store(store_path or options.find_store(None, config_path), k)
    with contain(limits):
        answer = ask(store, text, limits)
    write(answer, form, limits)


def read_query(query: str | None, source: IO[str] | None) -> str:
    """Take the query from where it is.

    Raises: OperatorError when there is none
    """
    if source is not None:
        return source.read()
    if query is not None and query != "-":
        return query
    if query == "-" or not sys.stdin.isatty():
        return sys.stdin.read()
    raise OperatorError('nothing was asked. Try "SELECT * FROM daily LIMIT 10", or `anonproxy sql --schema`')


@contextlib.contextmanager
def contain(limits: Limits) -> Iterator[None]:
    """Hold this process to its limits, in case DuckDB itself can't."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    now = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (limits.memory_mb + RESERVED_MB) * 1_000_000, hard))
    last = threading.Timer(limits.seconds + GRACE_S, give_up, [limits])
    last.daemon = True
    last.start()
    try:
        yield
    finally:
        last.cancel()
        last.join()  # a thread that is still there when Python ends keeps DuckDB from ending in peace
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def give_up(limits: Limits) -> None:
    """End the process, whatever it is doing."""
    os.write(2, f"anonproxy: no answer within {limits.seconds:g} s, and no way to stop it but this\n".encode())
    os._exit(EXIT_USAGE)


def write(answer: Answer, form: str, limits: Limits) -> None:
    """Write an answer in the form that was asked for; that there was more is said beside it."""
    columns = answer.rows.column_names
    match form:
        case "csv":
            sys.stdout.buffer.write(render_csv(answer.rows))
        case "json":
            click.echo(json.dumps(answer.rows.to_pylist(), indent=2, default=str))
        case "parquet":
            if sys.stdout.isatty():
                raise OperatorError("Parquet is nothing for a terminal. Send it to a file: > answer.parquet")
            sys.stdout.buffer.write(tables.render_parquet(answer.rows))
        case "markdown":
            rows = ([format_cell(value) for value in row.values()] for row in answer.rows.to_pylist())
            click.echo(tables.render_markdown_table(columns, rows, len(columns)), nl=False)
        case _:
            console = Console(highlight=False)
            console.print(draw(answer.rows, console))
    if answer.is_cut:
        click.echo(f"Only the first {limits.rows:,} rows: there are more. Allow them with --rows", err=True)


def render_csv(rows: pa.Table) -> bytes:
    """Render rows as CSV; lists and structures, which CSV doesn't know, as text."""

    def flatten(column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        if not pa.types.is_nested(column.type):
            return column
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())

    columns = [flatten(column) for column in rows.columns]
    target = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.table(columns, names=rows.column_names), target)
    return bytes(target.getvalue().to_pybytes())


_NUMBERS: Final = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)


def draw(rows: pa.Table, console: Console) -> Table:
    """Draw rows as a table, numbers to the right; where they are too wide for it, one value on each line."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    listed = Table(box=None, show_header=False, pad_edge=False)
    for field in rows.schema:
        justify: Literal["left", "right"] = "right" if any(is_(field.type) for is_ in _NUMBERS) else "left"
        table.add_column(Text(field.name), justify=justify, overflow="fold")
    for row in rows.to_pylist():
        cells = [Text(format_cell(value), "" if value is not None else "dim") for value in row.values()]
        table.add_row(*cells)
        for name, cell in zip(rows.column_names, cells, strict=True):
            listed.add_row(Text(name, "dim"), cell)
        listed.add_row()
    needed = Measurement.get(console, console.options.update(width=10_000), table).maximum
    return table if needed <= console.width else listed


def format_cell(value: object) -> str:
    """Write a value as a person reads it."""
    return "–" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)


def print_schema(console: Console) -> None:
    """Print each table with its columns, their types and what they hold."""
    for view, columns in COLUMNS.items():
        console.print(f"[bold]{view}[/]  [dim]{VIEWS[view]}[/]")
        grid = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        for column in columns:
            kind = f"{column.type}{', null' if column.nullable else ''}"
            grid.add_row(column.name, Text(kind, "dim"), column.meaning)
        console.print(grid)


VIEWS: Final[dict[View, str]] = {
    "hits": "one row for each request of the last weeks; visit, step and elapsed_s only for the last two days",
    "daily": "one row for each day, site, dimension and value; dimension 'total' is the whole site",
    "vocabulary": "what the open columns of a day may hold, and why",
}
