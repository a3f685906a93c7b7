"""`anonproxy report`: answer what visitors do."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.markup import escape

from anonproxy.cli import options, tables
from anonproxy.clock import now
from anonproxy.config import read_settings
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import PrivacySettings
from anonproxy.model.vocabularies import OTHER, REDACTED, UNLISTED, UNMATCHED
from anonproxy.reports.period import parse_period, parse_span
from anonproxy.reports.run import FILTERS, GROUPS, Query, Report, compare_reports, definitions, find_definition
from anonproxy.reports.session import Session
from anonproxy.web.board import render_board

# What one sees without naming a report.
USUAL: Final = ("overview", "days", "pages", "referrers", "countries", "devices", "status")
PREVIOUS: Final = "previous"
FORMATS: Final = ("table", "csv", "json", "parquet", "markdown", "html")


@click.command("report", context_settings={"max_content_width": 100})
@click.argument("names", nargs=-1, metavar="[NAME]...")
@options.config
@options.published_store
@click.option("--since", metavar="DAY", help='First day: 2026-11-21, 2026-11, 7d, "last month". Default: 30d.')
@click.option("--until", metavar="DAY", help="Last day, written alike. Default: today.")
@click.option("--site", metavar="NAME", help="One site only.")
@click.option("--where", "-w", multiple=True, metavar="COLUMN=VALUE", help="Only pages with a value, like country=US.")
@click.option(
    "--compare", is_flag=False, flag_value=PREVIOUS, metavar="[DAY]", help="Beside the period before, or 2025-11."
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option(
    "--engine",
    type=click.Choice(["duckdb", "spark"]),
    default="duckdb",
    show_default=True,
    help="Spark reads settled days of stores that have outgrown one machine (extra `spark`).",
)
@click.option("--master", metavar="URL", default="local[*]", show_default=True, help="Spark's cluster.")
@click.option("--limit", type=click.IntRange(1), help="Rows of a table. Default: 12, days and hours all.")
def command(
    names: tuple[str, ...],
    config_path: Path | None,
    store_path: str | None,
    since: str | None,
    until: str | None,
    site: str | None,
    where: tuple[str, ...],
    compare: str | None,
    form: str,
    engine: str,
    master: str,
    limit: int | None,
) -> None:
    """Answer what visitors do.

    Without a NAME it shows the most asked-for reports; `anonproxy report list` names all of them, `all` shows them.

    \b
    anonproxy report
    anonproxy report pages entry --since "last month" --until "last month" --compare
    anonproxy report pages --where device=phone --where country=US
    anonproxy report referrers --since yesterday --format csv
    anonproxy report --since 2026-10 --until 2026-10 --format html > october.html
    """
    if names == ("list",):
        print_names(Console(highlight=False))
        return
    if compare in known_names():  # `--compare pages`: the next word was meant as a report
        names, compare = (*names, str(compare)), PREVIOUS
    place, k, zone = find_figures(store_path, config_path)
    today = datetime.fromtimestamp(now(), UTC).date()
    query = Query(parse_period(since, until, today), site, parse_filters(where))
    before = None
    if compare:
        before = query.previous() if compare == PREVIOUS else replace(query, period=parse_span(compare, today))
    if form == "html":
        if names or engine == "spark":
            raise OperatorError("HTML is one report of everything for the board: leave names and --engine away")
        click.echo(render_board(Session(place, k), query, find_zone(zone), today))
        return
    wanted = known_names() if names == ("all",) else names or USUAL
    for name in wanted:
        find_definition(name)
    run = open_engine(engine, master, place, k)
    reports = [run(name, query) for name in wanted]
    if before:
        reports = [compare_reports(report, run(report.name, before)) for report in reports]
    match form:
        case "csv":
            click.echo(tables.render_csv(reports), nl=False)
        case "json":
            click.echo(tables.render_json(reports, query))
        case "markdown":
            click.echo(tables.render_markdown(reports), nl=False)
        case "parquet":
            write_parquet(reports)
        case _:
            show(Console(highlight=False), reports, query, before, k, zone, limit)


def known_names() -> tuple[str, ...]:
    """List the names of all reports."""
    return tuple(definition.name for definition in definitions())


def find_figures(store_path: str | None, config_path: Path | None) -> tuple[str, int, str]:
    """Find the store that was named, or the configuration's; with its k and the library's time zone."""
    if store_path and not config_path:
        return store_path, PrivacySettings().k, "UTC"
    settings = read_settings(options.find_config(config_path))
    return store_path or settings.store.folder, settings.privacy.k, settings.privacy.time_zone


def open_engine(engine: str, master: str, place: str, k: int) -> Callable[[str, Query], Report]:
    """Open what answers."""
    if engine == "spark":
        from anonproxy.reports.spark import open_spark  # an extra: not everybody has it

        return open_spark(place, k, {"spark.master": master}).run
    return Session(place, k).run


def parse_filters(where: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read filters like country=US.

    Raises: OperatorError with an example
    """
    pairs = [text.partition("=") for text in where]
    if not all(separator and column for column, separator, _ in pairs):
        raise OperatorError(f"a filter is a column and a value, like country=US. Columns: {', '.join(FILTERS)}")
    return tuple(sorted({column: value for column, _, value in pairs}.items()))


def write_parquet(reports: Sequence[Report]) -> None:
    """Write one report as Parquet to what stands behind the pipe.

    Raises: OperatorError for several reports, or a terminal
    """
    if len(reports) != 1:
        raise OperatorError("a Parquet file holds one report. Name one, like `anonproxy report pages --format parquet`")
    if sys.stdout.isatty():
        raise OperatorError("Parquet is nothing for a terminal. Send it to a file: > pages.parquet")
    sys.stdout.buffer.write(tables.render_parquet(reports[0].to_arrow()))


def print_names(console: Console) -> None:
    """Print the names of all reports by group, with what they answer."""
    width = max(map(len, known_names()))
    for group, names in GROUPS.items():
        console.print(f"[bold]{group}[/]")
        for name in names:
            line = f"  {name:{width}}  [dim]{find_definition(name).description}[/]"
            console.print(line, overflow="ellipsis", no_wrap=True)


def show(
    console: Console,
    reports: Sequence[Report],
    query: Query,
    before: Query | None,
    k: int,
    zone: str,
    limit: int | None,
) -> None:
    """Print reports with what they are about, and what is hidden and why."""
    heading = f"[bold]{query.site or 'All sites'}[/], {query.period}"
    heading += "".join(f", {column} [bold]{escape(value)}[/]" for column, value in query.where)
    console.print(f"{heading}{f' [dim]beside {before.period}[/]' if before else ''}")
    tables.print_reports(console, reports, limit)
    console.print()
    for note in explain(reports, query, k):
        console.print(f"[dim]{note}[/]")
    console.print(f"[dim]Days and hours are UTC{describe_zone(zone, now())}.[/]")


def find_zone(name: str) -> tzinfo:
    """Find the time zone that the configuration names."""
    return ZoneInfo(name) if name != "local" else datetime.fromtimestamp(now()).astimezone().tzinfo or UTC


def describe_zone(zone: str, time_s: float) -> str:
    """Say when a day begins where the library is."""
    moment = datetime.fromtimestamp(time_s, UTC)
    local = moment.astimezone(find_zone(zone))
    offset = local.utcoffset()
    if not offset:
        return ""
    begins = moment.replace(hour=0, minute=0, second=0, microsecond=0) + offset
    return f": a day begins at {begins:%H:%M} by your clocks ({local.tzname() if zone == 'local' else zone})"


def explain(reports: Sequence[Report], query: Query, k: int) -> list[str]:
    """Say what the placeholders in some reports mean, and what couldn't be counted."""
    shown = {value for report in reports for row in report.rows for value in row[:2]}
    is_part = bool(query.where)
    by_pages = [r for r in reports if r.counted != "visits" and "visits" in r.columns and r.rows]
    notes = {
        f"{OTHER}: what fewer than {k} visits of a day had in common.": OTHER in shown,
        f"{UNLISTED}: pages that fewer than {k} visits had opened by then.": UNLISTED in shown,
        f"{REDACTED}: addresses of pages that could have named somebody.": REDACTED in shown,
        f"{UNMATCHED}: addresses that the site doesn't have.": UNMATCHED in shown,
        f"Where visits are not known, pages are counted, over as many days as make {k} visits.": bool(by_pages),
        "With a filter, single requests are counted; which visit they belong to is forgotten.": is_part,
        f"Figures of single requests are rounded to the nearest {k}.": is_part or bool(by_pages),
    }
    return [note for note, applies in notes.items() if applies]
