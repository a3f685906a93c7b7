"""`anonproxy explain`: show what becomes of one request, field by field."""

from pathlib import Path
from urllib.parse import urlsplit

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anonproxy.anonymize.client_address import choose_client
from anonproxy.anonymize.explain import DROPPED, explain
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.steps import build_context
from anonproxy.cli import options
from anonproxy.clock import now
from anonproxy.config import read_settings
from anonproxy.ingest.countries import open_countries
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.settings import Settings


@click.command("explain")
@click.argument("url")
@options.config
@click.option("--header", "-H", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header; may be repeated.")
@click.option("--from", "raw_peer", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Who connects.")
@click.option("--method", default="GET", show_default=True, help="Method of the request.")
@click.option("--status", default=200, show_default=True, help="What the site answers.")
@click.option("--size", "size_bytes", default=9000, show_default=True, help="Bytes that the site sends.")
@click.option("--milliseconds", default=40, show_default=True, help="How long the site takes.")
def command(
    url: str,
    config_path: Path | None,
    headers: tuple[str, ...],
    raw_peer: str,
    method: str,
    status: int,
    size_bytes: int,
    milliseconds: int,
) -> None:
    """Show what becomes of one request, field by field, and which rule decided.

    Nothing is sent and nothing is written. What came in is shown masked, so that the answer can be shown around. Values
    that only a crowd may show (networks, new pages, unknown referrers) stay hidden: here nobody else has visited.

    \b
    anonproxy explain 'https://library.example.org/search?q=divorce' \\
        -H 'X-Forwarded-For: 203.0.113.9' -H 'User-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/143.0'
    """
    settings = read_settings(options.find_config(config_path))
    named = _parse_headers(headers)
    choice = choose_client(
        raw_peer,
        named.get("x-forwarded-for", ""),
        named.get("forwarded", ""),
        settings.proxy,
    )
    parts = urlsplit(url)
    request = RawRequest(
        time_s=now(),
        raw_client=choice.raw_client,
        raw_host=named.get("host", parts.netloc or _first_host(settings)),
        raw_method=method,
        raw_target=url.removeprefix(f"{parts.scheme}://{parts.netloc}") or "/",
        status=status,
        size_bytes=size_bytes,
        duration_s=milliseconds / 1000,
        raw_cookie=named.get("cookie", ""),
        raw_user_agent=named.get("user-agent", ""),
        raw_referrer=named.get("referer", ""),
        raw_accept_language=named.get("accept-language", ""),
        is_opted_out="1" in (named.get("sec-gpc"), named.get("dnt")),
    )
    ring = KeyRing(settings.privacy, now())
    visits = Visits(ring, settings.privacy.visit_idle_min * 60, settings.privacy.visit_max_h * 3600)
    explained = explain(request, build_context(settings, visits, open_countries(settings.country)))

    console = Console(highlight=False)
    console.print(Text.assemble(("Client address", "bold"), f": {choice.why}."))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("column")
    table.add_column("what came in", overflow="fold")
    table.add_column("what is stored", overflow="fold")
    table.add_column("because", overflow="fold", style="dim")
    for row in explained:
        stored = Text(row.stored, "red" if row.column == DROPPED else "bold")
        table.add_row(row.column, Text(row.raw_masked), stored, Text(row.rule))
    console.print(table)


def _parse_headers(headers: tuple[str, ...]) -> dict[str, str]:
    """Return headers by lower-case name.

    Raises: BadParameter when one has no colon
    """
    pairs = [header.partition(":") for header in headers]
    if any(not colon for _, colon, _ in pairs):
        raise click.BadParameter("write each header as 'Name: value'", param_hint="--header")
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _first_host(settings: Settings) -> str:
    return next((host for site in settings.sites for host in site.hosts if "*" not in host), "localhost")
