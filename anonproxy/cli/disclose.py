"""`anonproxy disclose`: say what could be handed over, with evidence."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import click
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from anonproxy.audit.disclose import COLUMNS, Answer, Custody, Disclosure, Holding, Point, disclose, render_time
from anonproxy.audit.evidence import Evidence
from anonproxy.cli import EXIT_WRONG, options
from anonproxy.clock import now
from anonproxy.config import read_settings
from anonproxy.model.errors import OperatorError

# What an option without a value means: ask for it, or read it from standard input.
ASK: Final = "-"

# What a column of requests means wins over a column of the same name elsewhere.
_MEANINGS: Final = {column.name: column.meaning for column in reversed(COLUMNS)}


@click.command("disclose", context_settings={"max_content_width": 100})
@options.config
@options.store
@click.option("--date", "day", metavar="DAY", help="What is held of a day, like 2026-11-20.")
@click.option(
    "--address", is_flag=False, flag_value=ASK, metavar="[-]", help="What can be answered about an IP address."
)
@click.option("--card", is_flag=False, flag_value=ASK, metavar="[-]", help="What can be answered about a card number.")
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON, for machines.")
@click.pass_context
def command(
    ctx: click.Context,
    config_path: Path | None,
    store_path: Path | None,
    day: str | None,
    address: str | None,
    card: str | None,
    as_json: bool,
) -> None:
    """Say what could be handed over, with evidence.

    For the director and for counsel: which tables exist, from when to when, what a row looks like, and what could be
    answered about a day, an address or a card number, and why no more. Addresses and card numbers are asked for, or
    read from standard input (a line each, the address first): what stands on a command line is seen by others. They
    are not repeated in the answer. Nothing is locked or changed, and no entry is made in the ledger.

    Exit status: 0 nothing was found that shouldn't be there; 1 something was, or not everything could be read; 2 usage.

    \b
    anonproxy disclose
    anonproxy disclose --date 2026-11-20
    anonproxy disclose --address < address.txt
    """
    settings = None
    if config_path or not store_path:
        settings = read_settings(options.find_config(config_path))
    disclosure = disclose(
        Evidence(options.find_store(store_path, config_path), now(), settings),
        settings=settings,
        day=_parse_day(day) if day else None,
        address=_ask(address, "Address"),
        card=_ask(card, "Card number"),
    )
    if as_json:
        click.echo(json.dumps(render_json(disclosure), indent=2, ensure_ascii=False))
    else:
        print_disclosure(Console(highlight=False), disclosure)
    if disclosure.unread or disclosure.custody.broken or not all(answer.is_clean for answer in disclosure.answers):
        ctx.exit(EXIT_WRONG)


def _parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise OperatorError("--date: not a day. Write it like 2026-11-20") from None


def _ask(value: str | None, label: str) -> str | None:
    """Ask for a value on the terminal, or read it from standard input; what was given all the same is taken."""
    if value != ASK:
        return value
    text: str = click.prompt(label, err=True) if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not text:
        raise OperatorError(f"{label.lower()}: none was given. Write it on standard input")
    return text


def render_json(disclosure: Disclosure) -> dict[str, Any]:
    """Render a disclosure for machines."""
    custody = disclosure.custody
    return {
        "store": disclosure.root,
        "read": render_time(disclosure.read_s),
        "tables": [
            {**asdict(holding), "first": str(holding.first), "last": str(holding.last)}
            for holding in disclosure.holdings
        ],
        "unread": list(disclosure.unread),
        "ledger": {
            "entries": len(custody.entries),
            "broken": custody.broken,
            "since": render_time(custody.entries[0].time_s) if custody.entries else None,
            "rotations": custody.count("rotated"),
            "deletions": custody.count("purged"),
        },
        "answers": [{**asdict(answer), "is_clean": answer.is_clean} for answer in disclosure.answers],
    }


def print_disclosure(console: Console, disclosure: Disclosure) -> None:
    """Print what there is, what a row looks like, and the answers."""
    console.print(f"[bold]What could be handed over[/] from {disclosure.root}")
    console.print(
        f"Read at {render_time(disclosure.read_s)}. Nothing was locked or changed; the ledger got no entry of this.\n",
        style="dim",
    )
    if not disclosure.holdings:
        console.print("No table: this store holds no file of rows.")
    else:
        console.print(_render_holdings(disclosure.holdings))
        console.print(Text(_say_terms(disclosure.holdings), style="dim"))
    for what in disclosure.unread:
        console.print(Text(f"! {what}", style="yellow"))
    for holding in disclosure.holdings:
        if holding.tier in {"hot", "hits"} and holding.sample:
            _print_sample(console, holding)
            break
    _print_custody(console, disclosure.custody)
    for answer in disclosure.answers:
        _print_answer(console, answer)


def _render_holdings(holdings: tuple[Holding, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("table", "what it holds", "from", "to"):
        table.add_column(heading, no_wrap=heading != "what it holds")
    for heading in ("files", "kB", "rows"):
        table.add_column(heading, justify="right", no_wrap=True)
    for holding in holdings:
        table.add_row(
            holding.tier,
            holding.title,
            str(holding.first),
            str(holding.last),
            f"{holding.files:,}",
            f"{holding.size_bytes / 1000:,.0f}",
            f"{holding.rows:,}",
        )
    return table


def _say_terms(holdings: tuple[Holding, ...]) -> str:
    sites = sorted({site for holding in holdings for site in holding.sites})
    terms = ", ".join(f"{holding.tier} {holding.term}" for holding in holdings)
    return f"Sites: {', '.join(sites)}. Kept for: {terms}."


def _print_sample(console: Console, holding: Holding) -> None:
    console.print(f"\n[bold]What a row looks like[/]: the first of the oldest file, {holding.sample_path}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for name, value in holding.sample.items():
        table.add_row(name, Text(value or "(empty)", style="" if value else "dim"), _MEANINGS.get(name, "undeclared"))
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _print_custody(console: Console, custody: Custody) -> None:
    console.print("\n[bold]What was done to it[/]")
    if custody.broken:
        console.print(Text(f"  ✗ The ledger proves nothing: {custody.broken}", style="bold red"))
        return
    if not custody.entries:
        console.print("  The ledger is empty.")
        return
    since = f"{datetime.fromtimestamp(custody.entries[0].time_s, UTC):%Y-%m-%d}"
    console.print(
        f"  {len(custody.entries):,} signed entries since {since}, all of them verified. Keys destroyed at "
        f"the end of an epoch: {custody.count('rotated'):,}; days unlinked: {custody.count('settled'):,}; deletions: "
        f"{custody.count('purged'):,}."
    )


def _print_answer(console: Console, answer: Answer) -> None:
    console.print(f"\n[bold]About {answer.about}[/]")
    for point in answer.points:
        _print_point(console, point, is_clean=answer.is_clean)
    for what in answer.found:
        console.print(Padding(Text.assemble(("found: ", "bold red"), what), (0, 0, 0, 4), expand=False))
    for what in answer.unsearched:
        console.print(Padding(Text.assemble(("not searched: ", "yellow"), what), (0, 0, 0, 4), expand=False))


def _print_point(console: Console, point: Point, *, is_clean: bool) -> None:
    sign = Text("•", style="green" if is_clean else "bold red")
    console.print(Padding(Text.assemble(sign, " ", point.answer), (0, 0, 0, 2), expand=False))
    console.print(Padding(Text(f"evidence: {point.evidence}", style="dim"), (0, 0, 0, 4), expand=False))
