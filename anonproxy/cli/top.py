"""`anonproxy top`: who asks most just now."""

import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from anonproxy.cli import options
from anonproxy.model.errors import OperatorError
from anonproxy.proxy import quiet
from anonproxy.proxy.control import TOP, ask, control_name

REFRESH_S: Final = 2.0
# What stands around the rows: a headline, the two tables' heads and what rich draws between them.
FRAME_LINES: Final = 12
FEWEST_ROWS: Final = 3
BAR_WIDTH: Final = 12

Answer = dict[str, Any]


@click.command("top")
@options.config
@click.option("--once", is_flag=True, help="Show it once and end.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, once, to a terminal or another program.")
def command(config_path: Path | None, once: bool, as_json: bool) -> None:
    """Show who asks most just now, so that a swarm of bots can be dealt with.

    These are real addresses of visitors, of IPv6 the /64. The workers remember them for five minutes at most, in
    memory; they are never written, never logged, and gone with the process. Only root and the user that runs anonproxy
    may look. On a terminal they leave with the screen; to a file they aren't written at all. `proxy.top = false` in
    the configuration switches this off, and then nothing is remembered.

    A rate is that of the last minute, the other figures are those of five. An error is an answer with 4xx or 5xx, or
    none because the visitor left. To hold somebody back, see proxy.max_requests_per_s, or your firewall.
    """
    quiet.harden()  # what it shows shall not end in a core dump
    refuse_files()
    name = control_name(options.find_config(config_path))
    if as_json:
        if not sys.stdout.isatty():
            click.echo("These are addresses of visitors: look at them, and don't keep them.", err=True)
        click.echo(ask(name, TOP))
    elif not sys.stdout.isatty():
        raise OperatorError("this is for a terminal. For another program, and not for a file, there is --json")
    else:
        show(name, once=once)


def refuse_files() -> None:
    """Refuse to write addresses down.

    Raises: OperatorError when the output is a file
    """
    if stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
        raise OperatorError("addresses of visitors are not written to files. Look at them on a terminal")


def show(name: str, *, once: bool) -> None:
    """Draw what the proxy says, again and again until Ctrl-C; afterwards the terminal is as it was."""
    console = Console(highlight=False)
    answer: Answer = json.loads(ask(name, TOP))
    if once:
        console.print(draw(answer, rows_that_fit(console)))
        return
    with Live(console=console, screen=True, auto_refresh=False) as screen:
        try:
            while True:
                screen.update(draw(answer, rows_that_fit(console)), refresh=True)
                time.sleep(REFRESH_S)
                answer = json.loads(ask(name, TOP))
        except KeyboardInterrupt:
            pass


def rows_that_fit(console: Console) -> int:
    """Return how many rows each of the two tables may have."""
    return max(FEWEST_ROWS, (console.height - FRAME_LINES) // 2)


def draw(answer: Answer, limit: int) -> Group:
    """Draw a headline and the two tables."""
    total = answer["total"]
    minutes = max(1, round(answer["seconds"] / 60))
    headline = Text.assemble(
        (f"{total['requests_per_s']:,.1f}", "bold"),
        " requests/s   ",
        (f"{total['connections']:,}", "bold"),
        " connections   ",
        (f"{total['requests']:,}", "bold"),
        f" requests in {minutes} min, {_share(total)} errors",
    )
    note = Text("Real addresses, from memory; forgotten after 5 min, never written. Ctrl-C ends.", style="dim")
    return Group(
        headline,
        draw_table("Addresses", "address", answer["addresses"], limit),
        draw_table("Networks", "network", answer["networks"], limit),
        note,
    )


def draw_table(title: str, key: str, rows: list[Answer], limit: int) -> Table:
    """Draw rows with a bar for the rate."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column(key, min_width=24, no_wrap=True)
    for heading in ("req/s", "requests", "errors", "connections"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("asks as", no_wrap=True)
    table.add_column("", no_wrap=True)
    most = max((row["requests_per_s"] for row in rows), default=0.0)
    for row in rows[:limit]:
        bar = "█" * round(BAR_WIDTH * row["requests_per_s"] / most) if most else ""
        figures = f"{row['requests_per_s']:,.1f}", f"{row['requests']:,}", _share(row), f"{row['connections']:,}"
        table.add_row(row[key], *figures, row["agent"], Text(bar, style="cyan"))
    if not rows:
        table.add_row(Text("nobody", style="dim"))
    return table


def _share(row: Answer) -> str:
    return f"{100 * row['errors'] / row['requests']:.0f} %" if row["requests"] else "–"
