"""`anonproxy reload`: have the running proxy take its configuration anew."""

from pathlib import Path

import click

from anonproxy.cli import EXIT_WRONG, options
from anonproxy.config import read_settings
from anonproxy.proxy.control import RELOAD, Refused, ask, control_name


@click.command("reload")
@options.config
@click.pass_context
def command(ctx: click.Context, config_path: Path | None) -> None:
    """Have the running proxy take its configuration anew.

    It is taken whole, or refused whole with the reason, and the proxy serves on as before. No connection is dropped;
    requests that are running finish under the old configuration. `kill -HUP` does the same without an answer.
    """
    path = options.find_config(config_path)
    read_settings(path)
    try:
        ask(control_name(path), RELOAD)
    except Refused as refusal:
        click.echo(f"anonproxy keeps the configuration it has: {refusal}", err=True)
        ctx.exit(EXIT_WRONG)
    click.echo("The new configuration is in force.")
