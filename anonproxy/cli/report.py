"""`anonproxy report`: answer what visitors do."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from anonproxy.cli import options, tables
from anonproxy.clock import now
from anonproxy.config import read_settings
from anonproxy.model.settings import PrivacySettings
from anonproxy.reports.run import parse_period, report_names, run_report
from anonproxy.store.read import open_store

# What one sees without naming a report.
OVERVIEW: Final = ("overview", "pages", "referrers", "countries", "devices", "status")


@click.command("report", context_settings={"max_content_width": 100})
@click.argument("names", nargs=-1, metavar="[NAME]...")
@options.config
@options.published_store
@click.option("--since", metavar="DAY", help="First day: 2026-11-21, 2026-11, today, yesterday, 7d. Default: 30d.")
@click.option("--until", metavar="DAY", help="Last day, written alike. Default: today.")
@click.option("--site", metavar="NAME", help="One site only.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.option("--limit", type=click.IntRange(1), default=12, show_default=True, help="Rows of a table on the terminal.")
def command(
    names: tuple[str, ...],
    config_path: Path | None,
    store_path: str | None,
    since: str | None,
    until: str | None,
    site: str | None,
    form: str,
    limit: int,
) -> None:
    """Answer what visitors do.

    Without a NAME it shows the most asked-for reports. `anonproxy report list` names all of them.

    \b
    anonproxy report
    anonproxy report pages --since 2026-11
    anonproxy report referrers --since yesterday --until yesterday --format csv
    """
    if names == ("list",):
        for name in report_names():
            click.echo(name)
        return
    k = PrivacySettings().k if store_path else read_settings(options.find_config(config_path)).privacy.k
    period = parse_period(since, until, datetime.fromtimestamp(now(), UTC).date())
    with open_store(store_path or options.find_store(None, config_path), k).connect() as connection:
        reports = [run_report(connection, name, period, site, k) for name in names or OVERVIEW]
    if form == "csv":
        click.echo(tables.render_csv(reports), nl=False)
    elif form == "json":
        click.echo(tables.render_json(reports, str(period), site))
    else:
        console = Console(highlight=False)
        console.print(f"[bold]{site or 'All sites'}[/], {period} [dim](UTC)[/]")
        tables.print_reports(console, reports, limit)
        console.print(
            f"[dim](other): what fewer than {k} visits of a day had in common. "
            f"(unlisted): pages that fewer than {k} visits had opened by then.[/]"
        )
