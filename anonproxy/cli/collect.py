"""`anonproxy collect`: make anonymised rows of the log lines that another server sends."""

from pathlib import Path

import click

from anonproxy.cli import options
from anonproxy.config import read_settings
from anonproxy.proxy.collect.pipe import hand_on
from anonproxy.proxy.collect.server import run_collect
from anonproxy.proxy.control import control_name


@click.command("collect")
@options.config
@click.option("--pipe", is_flag=True, help="Hand standard input on to the collector that runs: for Apache's CustomLog.")
@click.pass_context
def command(ctx: click.Context, config_path: Path | None, pipe: bool) -> None:
    """Make anonymised rows of the log lines that another server sends, without a log file anywhere.

    nginx, Caddy, HAProxy or Apache serves the pages; `anonproxy front NAME --collect` prints how it is told to send its
    log here. Lines stay in memory. Runs in the foreground until SIGTERM or Ctrl-C; what has come is written before it
    ends. SIGHUP, or `anonproxy reload`, takes the configuration anew.
    """
    path = options.find_config(config_path).resolve()
    if pipe:
        hand_on(read_settings(path))
        return
    ctx.exit(run_collect(read_settings(path), lambda: read_settings(path), control_name(path)))
