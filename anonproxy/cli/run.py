"""`anonproxy run`: serve the sites and write anonymised hits."""

from pathlib import Path

import click

import anonproxy.proxy
from anonproxy.cli import options
from anonproxy.config import read_settings
from anonproxy.proxy.control import control_name
from anonproxy.proxy.server import run_proxy


@click.command("run")
@options.config
@click.option("--script", is_flag=True, help="Print the path of the addon for a stock `mitmdump -s`, and end.")
@click.pass_context
def command(ctx: click.Context, config_path: Path | None, script: bool) -> None:
    """Serve the sites and write anonymised hits.

    Runs in the foreground until SIGTERM or Ctrl-C; running requests are finished and rows are written before it ends.
    SIGHUP, or `anonproxy reload`, takes the configuration anew.
    """
    if script:
        click.echo(Path(anonproxy.proxy.__file__).with_name("mitmdump.py"))
        return
    path = options.find_config(config_path).resolve()
    ctx.exit(run_proxy(read_settings(path), lambda: read_settings(path), control_name(path)))
