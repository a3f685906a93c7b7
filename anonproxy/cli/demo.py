"""`anonproxy demo`: show everything once, on a library site that comes with it."""

import signal
from pathlib import Path

import click
from rich.console import Console

from anonproxy.demo.plan import KINDS
from anonproxy.demo.show import run_demo
from anonproxy.demo.stage import LIKED_PORT


@click.command("demo")
@click.option("--exit", "leave", is_flag=True, help="End after the story instead of serving on.")
@click.option("--site", "site_url", metavar="URL", help="Stand in front of this site; only its public pages are read.")
@click.option("--port", type=click.IntRange(1, 65535), help=f"Port for visitors. Default: {LIKED_PORT}, or a free one.")
@click.option(
    "--store",
    "--keep",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder for configuration, store and logs. Default: a temporary one.",
)
@click.option(
    "--visits",
    type=click.IntRange(len(KINDS), 2_000),
    default=300,
    show_default=True,
    help="Visits to send.",
)
@click.pass_context
def command(
    ctx: click.Context, leave: bool, site_url: str | None, port: int | None, folder: Path | None, visits: int
) -> None:
    """Show everything once, on a library site that comes with it.

    Starts a small library website and anonproxy in front of it, sends some hundred visits through, and shows what came
    in beside what was written, the report, the audit, and a search of every byte for what the visitors brought. Then it
    serves on, so that you can look around and watch what is written about you.

    \b
    anonproxy demo
    anonproxy demo --exit
    anonproxy demo --site http://127.0.0.1:8000
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends us, the children end first
    ctx.exit(run_demo(Console(highlight=False), folder, port, site_url, visits, stay=not leave))
