"""`anonproxy run`: serve the sites and write anonymised hits."""

from pathlib import Path

import click

from anonproxy.cli import options
from anonproxy.config import read_settings
from anonproxy.proxy.server import run_proxy


@click.command("run")
@options.config
@click.pass_context
def command(ctx: click.Context, config_path: Path | None) -> None:
    """Serve the sites and write anonymised hits.

    Runs in the foreground until SIGTERM or Ctrl-C; running requests are finished and rows are written before it ends.
    """
    ctx.exit(run_proxy(read_settings(options.find_config(config_path))))
